"""Reports of private messages and what a reviewer makes of them. Pure.

```
reporter   stored messages -> Report -> sealed to the desk's key          the server sees a room and sealed bytes
reviewer   sealed bytes -> Report -> one verdict an item         PROVEN, UNPROVEN or FORGED
```
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from heliograph.client.changes import StoredMessage
from heliograph.client.errors import NotPossible
from heliograph.client.identity import SUITE_ID, CredentialError, Identity
from heliograph.content.report import (
    MAX_ITEMS,
    ItemCheck,
    Report,
    ReportCheck,
    ReportItem,
    Verdict,
    check_report,
    open_report,
    seal_report,
)
from heliograph.mls.errors import DecodeError
from heliograph.mls.suite import Random, Secret, cipher_suite
from heliograph.wire.encoding import base64url_bytes, base64url_text
from heliograph.wire.frank import decode_frank, stamp_verifier, stamped_context
from heliograph.wire.ids import AccountId, RoomId, parse_user_uri, room_uri, user_uri
from heliograph.wire.moderation import CheckFrank

PRECEDING: Final = 5
_DESK_KEY_PREFIX: Final = "heliograph-desk-key:"


@dataclass(frozen=True, slots=True)
class DeskKey:
    """The key pair (X25519) that private reports are sealed to; every reviewer's client holds it."""

    private: Secret = field(repr=False)
    public: bytes

    def text(self) -> str:
        """Return the private key as one line of text, for a file that only reviewers read."""
        return _DESK_KEY_PREFIX + base64url_text(self.private)


@dataclass(frozen=True, slots=True)
class JudgedItem:
    """One disclosed message: the verdict, and the item's bytes as they are attached to a case."""

    check: ItemCheck
    item: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class JudgedReport:
    """A private report, opened and checked; `not_shown[i]` entries of the room lie before item i."""

    room: RoomId
    accused: AccountId
    reporter: AccountId
    category: str
    keyword: str
    note: str
    language: str
    items: tuple[JudgedItem, ...]
    not_shown: tuple[int, ...]
    against_accused: int


def create_desk_key(random: Random) -> DeskKey:
    """Make a new desk key."""
    private, public = cipher_suite(SUITE_ID).derive_key_pair(random(32))
    return DeskKey(private, public)


def read_desk_key(text: str) -> DeskKey:
    """Return the desk key of a line of text; raises CredentialError for anything else."""
    plain = text.strip()
    try:
        if not plain.startswith(_DESK_KEY_PREFIX):
            raise ValueError("another prefix")
        private = Secret(base64url_bytes(plain.removeprefix(_DESK_KEY_PREFIX)))
        public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    except ValueError:
        raise CredentialError("the text is no desk key") from None
    return DeskKey(private, public)


def with_preceding(history: Sequence[StoredMessage], chosen: Sequence[bytes], preceding: int) -> list[StoredMessage]:
    """Return the chosen messages and up to `preceding` before each, in the order of the room.

    history: the room's messages, oldest first.

    Raises:
        NotPossible: a chosen message is not there, or was never accepted by the server.
    """
    known = [message for message in history if message.envelope is not None]
    places = {message.message_id: place for place, message in enumerate(known)}
    if not chosen or not set(chosen) <= places.keys():
        raise NotPossible("a message to report is not in this device's history")
    wanted = {place for one in chosen for place in range(max(0, places[one] - preceding), places[one] + 1)}
    return [known[place] for place in sorted(wanted)][-MAX_ITEMS:]


def build_report(
    identity: Identity,
    room: RoomId,
    messages: Sequence[StoredMessage],
    accused: AccountId,
    *,
    category: str,
    note: str,
    keyword: str = "",
    language: str = "en",
    alone: bool = False,
) -> Report:
    """Return the report that discloses these messages, each with the server's stamp."""
    items = [
        ReportItem(message.application_data, message.envelope) for message in messages if message.envelope is not None
    ]
    return Report(
        v=1,
        room=room_uri(identity.domain, room),
        accused=user_uri(identity.domain, accused),
        reporter=identity.user_uri,
        category=category,
        keyword=keyword,
        note=note,
        language=language,
        context_mode="chosen" if alone else "preceding",
        items=tuple(items),
    )


def seal_to_desk(report: Report, desk_key: bytes) -> bytes:
    """Return the report sealed so that only the desk opens it; raises MLSError."""
    return seal_report(report, desk_key)


def judge_report(sealed: bytes, desk_key: DeskKey, domain: str, room: RoomId, hub_signature_key: bytes) -> JudgedReport:
    """Open a sealed report and return the verdict on each item, from public keys alone.

    Raises:
        MLSError: it is not sealed to this key for this room, or is no report.
    """
    report = open_report(sealed, desk_key.private, room_uri(domain, room))
    checked: ReportCheck = check_report(report, stamp_verifier(hub_signature_key))
    items = tuple(JudgedItem(check, item.encode()) for check, item in zip(checked.items, report.items, strict=True))
    return JudgedReport(
        room=room,
        accused=_account_in(report.accused),
        reporter=_account_in(report.reporter),
        category=report.category,
        keyword=report.keyword,
        note=report.note,
        language=report.language,
        items=items,
        not_shown=checked.not_shown,
        against_accused=checked.against_accused,
    )


def mac_question(check: ItemCheck, domain: str, room: RoomId) -> CheckFrank | None:
    """Return what to ask the hub about an item's MAC; None where there is nothing to ask."""
    if check.content is None or not check.envelope.frank:
        return None
    frank = decode_frank(check.envelope.frank)
    context = stamped_context(frank, check.content.sender_uri, room_uri(domain, room), check.envelope)
    return CheckFrank(check.tag, context, frank.kid, frank.mac)


def _account_in(uri: str) -> AccountId:
    try:
        return parse_user_uri(uri)[1]
    except ValueError:
        raise DecodeError("the report names someone by something else than a user URI") from None


def with_items(judged: JudgedReport, items: Sequence[JudgedItem]) -> JudgedReport:
    """Return the report with its items judged anew, after the hub was asked."""
    proven = [
        item
        for item in items
        if item.check.verdict is Verdict.PROVEN
        and item.check.content is not None
        and _account_in(item.check.content.sender_uri) == judged.accused
    ]
    return replace(judged, items=tuple(items), against_accused=len(proven))
