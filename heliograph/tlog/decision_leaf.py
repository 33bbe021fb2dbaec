"""The leaf of the decisions log: what anyone may know about one decision, and a commitment to the rest.

A leaf holds no personal data: times are cut to the hour, counts to ranges, and the decision and its subject
appear only inside `commitment` = SHA-256(nonce || decision id || 0x00 || subject id). Who is given the
nonce can open it and so find their own decision in the log; once the nonce is deleted the leaf can be tied
to nobody.

The entry in the log is canonical JSON: UTF-8, members sorted by name, no spaces. Parsing accepts exactly
what building produces, so one decision has one leaf hash. Values such as categories are tokens that the
moderation rules own; this module only bounds their form.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final

from heliograph.tlog.errors import ProofError

VERSION: Final = 1
NONCE_SIZE_BYTES: Final = 32
MAX_LEAF_SIZE_BYTES: Final = 8 * 1024
MAX_LIST_LENGTH: Final = 64

_TOKEN: Final = re.compile(r"[A-Za-z0-9_.+<>=-]{1,80}", re.ASCII)
_HOUR: Final = re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]", re.ASCII)
_WEEK: Final = re.compile(r"[0-9]{4}-W[0-5][0-9]", re.ASCII)

_MINUTES: Final = (0, 15, 60, 240, 1440, 4320, 10080)
_SUBSCRIBERS: Final = (0, 10, 100, 1_000, 10_000, 100_000, 1_000_000)


@dataclass(frozen=True, slots=True)
class DecisionLeaf:
    """One row of the public log, in the order in which a reader meets it.

    `hour` and `week` are UTC (`2026-11-24T13`, `2026-W48`); `minutes_to_action` and `subscribers` are ranges such as
    `15-59`; `territory` lists country codes and is empty for everywhere; `refers_to` is the index of the leaf that
    this decision reverses or supersedes; `commitment` is base64url without padding.
    """

    hour: str
    week: str
    subject_kind: str
    category: str
    keywords: tuple[str, ...]
    ground: str
    measures: tuple[str, ...]
    territory: tuple[str, ...]
    language: str
    source: str
    automated_detection: bool
    automated_decision: bool
    minutes_to_action: str
    subscribers: str
    refers_to: int | None
    commitment: str
    v: int = VERSION

    def __post_init__(self) -> None:
        _check_shape(self)

    def encode(self) -> bytes:
        """Return the entry as it stands in the log."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def parse(cls, entry: bytes) -> "DecisionLeaf":
        """Return the leaf that an entry encodes.

        Raises:
            ProofError: a member is unknown, missing or of the wrong type, or the JSON is not in canonical form.
        """
        members = parse_object(entry, MAX_LEAF_SIZE_BYTES, "The leaf")
        expect_members(members, {field.name for field in fields(cls)}, "The leaf")
        for name in ("keywords", "measures", "territory"):
            if not isinstance(members[name], list):
                raise ProofError(f"The leaf's `{name}` is not a list.")
            members[name] = tuple(members[name])
        leaf = cls(**members)
        if leaf.encode() != entry:
            raise ProofError("The leaf is not written in canonical form.")
        return leaf

    def check_opening(self, nonce: bytes, decision: str, subject: str) -> None:
        """Check that the commitment opens to this decision and subject; raises ProofError if it does not."""
        if not hmac.compare_digest(decode_base64url(self.commitment), commit(nonce, decision, subject)):
            raise ProofError("The leaf commits to another decision or subject than the one shown.")


def commit(nonce: bytes, decision: str, subject: str) -> bytes:
    """Return the 32-byte commitment to a decision id and a subject id under a nonce of 32 random bytes.

    Raises:
        ProofError: the nonce has another size, or the decision id contains a NUL.
    """
    if len(nonce) != NONCE_SIZE_BYTES:
        raise ProofError("The nonce has another size than 32 bytes.")
    if "\x00" in decision:
        raise ProofError("A decision id cannot contain a NUL.")
    return hashlib.sha256(nonce + decision.encode() + b"\x00" + subject.encode()).digest()


def commitment_text(nonce: bytes, decision: str, subject: str) -> str:
    """Return the commitment as it stands in a leaf."""
    return encode_base64url(commit(nonce, decision, subject))


def hour_and_week(time_ms: int) -> tuple[str, str]:
    """Return a time (milliseconds since 1970 UTC) as a leaf's `hour` and ISO `week`."""
    moment = datetime.fromtimestamp(time_ms // 1000, UTC)
    year, week, _ = moment.isocalendar()
    return f"{moment:%Y-%m-%dT%H}", f"{year:04}-W{week:02}"


def minutes_range(minutes: int) -> str:
    """Return the range that stands for this many minutes from report to action."""
    return _range(minutes, _MINUTES)


def subscribers_range(subscribers: int) -> str:
    """Return the range that stands for this many subscribers."""
    return _range(subscribers, _SUBSCRIBERS)


def encode_base64url(data: bytes) -> str:
    """Return `data` as base64url without padding."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def decode_base64url(text: str) -> bytes:
    """Return the bytes of canonical base64url text without padding; raises ProofError."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ProofError("A value is not valid base64url.") from None
    if encode_base64url(data) != text:
        raise ProofError("A value is not canonical base64url without padding.")
    return data


def parse_object(data: bytes, max_size_bytes: int, what: str) -> dict[str, Any]:
    """Return the members of one JSON object; `what` opens the sentence of a refusal.

    Raises:
        ProofError: too large, not UTF-8 JSON, not an object, or a member appears twice.
    """
    if len(data) > max_size_bytes:
        raise ProofError(f"{what} is too large.")
    try:
        value: Any = json.loads(data.decode(), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        raise ProofError(f"{what} is not well-formed JSON.") from None
    if not isinstance(value, dict):
        raise ProofError(f"{what} is not a JSON object.")
    return value  # pyright: ignore[reportUnknownVariableType]


def expect_members(members: dict[str, Any], names: set[str], what: str) -> None:
    """Refuse an object that has not exactly these members; raises ProofError naming one that is wrong."""
    if missing := sorted(names - members.keys()):
        raise ProofError(f"{what} has no member `{missing[0]}`.")
    if unknown := sorted(members.keys() - names):
        raise ProofError(f"{what} has a member that is not known here: {unknown[0][:40]!r}.")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member appears twice")
    return members


def _check_shape(leaf: DecisionLeaf) -> None:
    if type(leaf.v) is not int or leaf.v != VERSION:
        raise ProofError("The leaf is of a version that is not known here.")
    _check_text("hour", leaf.hour, _HOUR)
    _check_text("week", leaf.week, _WEEK)
    for name in ("subject_kind", "category", "ground", "language", "source"):
        _check_text(name, getattr(leaf, name), _TOKEN)
    _check_text("minutes_to_action", leaf.minutes_to_action, _TOKEN)
    _check_text("subscribers", leaf.subscribers, _TOKEN)
    for name in ("keywords", "measures", "territory"):
        _check_list(name, getattr(leaf, name))
    for name in ("automated_detection", "automated_decision"):
        if type(getattr(leaf, name)) is not bool:
            raise ProofError(f"The leaf's `{name}` is neither true nor false.")
    if leaf.refers_to is not None and (type(leaf.refers_to) is not int or leaf.refers_to >> 63):
        raise ProofError("The leaf's `refers_to` is not the index of a leaf.")
    if not isinstance(leaf.commitment, str) or len(decode_base64url(leaf.commitment)) != 32:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ProofError("The leaf's commitment is not 32 bytes in base64url.")


def _check_text(name: str, value: object, pattern: re.Pattern[str]) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ProofError(f"The leaf's `{name}` is not written as it must be.")


def _check_list(name: str, value: Sequence[object]) -> None:
    if len(value) > MAX_LIST_LENGTH:
        raise ProofError(f"The leaf's `{name}` is too long.")
    for item in value:
        _check_text(name, item, _TOKEN)


def _range(value: int, bounds: tuple[int, ...]) -> str:
    lower = max(bound for bound in bounds if bound <= max(value, 0))
    above = [bound for bound in bounds if bound > lower]
    return f"{lower}-{above[0] - 1}" if above else f"{lower}+"
