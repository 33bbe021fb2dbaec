"""Reports: what somebody says is wrong, received without delay and never acted on by number.

```
report_public  (anyone)          channel or post --> snapshot --+
                                                                +--> one open case a subject
report_private (a participant)   room, sealed to the desk ------+
```

A report needs no account. Who sends the same again, or reports the same subject again while its case is open, adds to
the report that stands. The subject is kept as it was at the first report, so that an edit cannot undo what was seen.
The receipt is a secret that only its holder can show; the server keeps its hash. Name and e-mail are kept under a
key that is not in the database, and not at all where they were not given.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from heliograph.server import channels, posts, rooms
from heliograph.server.auth import Caller
from heliograph.server.context import Context
from heliograph.server.db.database import Reader, Row, Transaction
from heliograph.server.moderation import audit, values
from heliograph.server.secrets import Random, Secrets
from heliograph.wire.channels import post_subject
from heliograph.wire.encoding import base64url_text, encode_msgpack
from heliograph.wire.ids import AccountId, CaseId, ReportId, case_id, report_id
from heliograph.wire.moderation import (
    GetReportStatus,
    ReportPrivate,
    ReportPublic,
    ReportReceipt,
    ReportStatus,
    Subject,
)
from heliograph.wire.problems import Problem

Source = Literal["app", "form"]

MAX_EXPLANATION_IN_ALL: Final = 20_000
"""How long one account's words about one subject may grow, in characters."""
MAX_SEALED_REPORTS: Final = 8
"""How many sealed reports of one room one account may have open."""

_CONTACT_NONCE_SIZE_BYTES: Final = 12
_OF_CASE: Final = "SELECT report, received_at_ms, explanation, content_digest FROM reports WHERE case_id = ?"
_SAME_TEXT: Final = _OF_CASE + " AND content_digest = ?"
_SAME_SENDER: Final = _OF_CASE + " AND reporter = ?"


@dataclass(frozen=True, slots=True)
class _Incoming:
    """A report on its way in, with everything that the act needs but the subject."""

    report: ReportId
    case: CaseId
    source: Source
    reporter: AccountId | None
    category: str
    keyword: str | None
    explanation: str
    language: str
    contact: bytes | None
    sealed: bytes | None
    content_digest: bytes
    receipt: str
    now_ms: int
    lookup_key: bytes = field(repr=False)


async def report_public(context: Context, caller: Caller | None, request: ReportPublic) -> ReportReceipt:
    """Report a channel or a post; no account is needed.

    Raises:
        Problem: `not-found`, `channel-restricted`, `post-removed` (it is gone already), `malformed`.
    """
    return await receive_public(context, caller, request, "app")


async def receive_public(
    context: Context, caller: Caller | None, request: ReportPublic, source: Source
) -> ReportReceipt:
    """Receive a public report by the door that it came through; raises as `report_public`."""
    values.check_notice(request.category, request.keyword)
    if not request.good_faith:
        raise Problem("malformed", "a report says that its sender believes it in good faith to be right")
    if "\x00" in request.explanation + request.name + request.email:
        raise Problem("malformed", "a report contains no NUL")
    report = report_id(context.random(16))
    contact = seal_contact(context.secrets, report, request.name, request.email, context.random)
    incoming = _incoming(context, caller, report, source, request, contact)

    def act(tx: Transaction) -> ReportReceipt:
        channels.require_open(tx, request.channel)
        if request.post is None:
            subject = Subject("channel", request.channel)
            snapshot = encode_msgpack(channels.info(tx, request.channel, None))
        else:
            subject = Subject("post", post_subject(request.channel, request.post))
            view = posts.view(tx, request.channel, request.post)
            if view.tombstone is not None:
                raise Problem("post-removed", "this post is gone already: its tombstone says why")
            snapshot = encode_msgpack(view)
        return _receive(tx, subject, snapshot, incoming)

    return await context.database.write(act)


async def report_private(context: Context, caller: Caller, request: ReportPrivate) -> ReportReceipt:
    """Receive a report of private messages, sealed to the desk, from someone whose device is or was in the room.

    Raises:
        Problem: `not-found`, `too-many-requests`.
    """
    report = report_id(context.random(16))
    incoming = _incoming(context, caller, report, "app", request, None)

    def act(tx: Transaction) -> ReportReceipt:
        rooms.readable_span(tx, caller.device, request.room)
        return _receive(tx, Subject("room", request.room), b"", incoming)

    return await context.database.write(act)


async def get_report_status(context: Context, caller: Caller | None, request: GetReportStatus) -> ReportStatus:
    """Tell the holder of a receipt what became of the report.

    Raises:
        Problem: `not-found`, also where the receipt is another report's.
    """

    del caller

    def query(reader: Reader) -> Row | None:
        return reader.one(
            "SELECT receipt_hash, answered_at_ms, outcome, decision FROM reports WHERE report = ?", request.report
        )

    row = await context.database.read(query)
    if row is None or not hmac.compare_digest(row[0], hash_receipt(request.receipt)):
        raise Problem("not-found", "there is no such report under this receipt")
    _, answered_at_ms, outcome, decision = row
    return ReportStatus(request.report, "received" if answered_at_ms is None else "answered", outcome, decision)


def seal_contact(secrets: Secrets, report: ReportId, name: str, email: str, random: Random) -> bytes | None:
    """Return name and e-mail as they are kept, or None where neither was given."""
    if not (name or email):
        return None
    nonce = random(_CONTACT_NONCE_SIZE_BYTES)
    return nonce + _contact_cipher(secrets).encrypt(nonce, encode_msgpack((name, email)), report.encode())


def open_contact(secrets: Secrets, report: ReportId, sealed: bytes) -> tuple[str, str]:
    """Return the name and e-mail that a report was sent with.

    Raises:
        cryptography.exceptions.InvalidTag: they were kept for another report or under another key.
    """
    nonce, ciphertext = sealed[:_CONTACT_NONCE_SIZE_BYTES], sealed[_CONTACT_NONCE_SIZE_BYTES:]
    opened = _contact_cipher(secrets).decrypt(nonce, ciphertext, report.encode())
    return msgspec.msgpack.decode(opened, type=tuple[str, str])


def hash_receipt(receipt: str) -> bytes:
    """Return what is kept of a receipt's secret."""
    return hashlib.sha256(receipt.encode()).digest()


def _incoming(
    context: Context,
    caller: Caller | None,
    report: ReportId,
    source: Source,
    request: ReportPublic | ReportPrivate,
    contact: bytes | None,
) -> _Incoming:
    key = context.secrets.lookup_key
    public = request if isinstance(request, ReportPublic) else None
    reporter = None if caller is None else caller.account
    return _Incoming(
        report=report,
        case=case_id(context.random(16)),
        source=source,
        reporter=reporter,
        category=public.category if public else "",
        keyword=public.keyword if public else None,
        explanation=public.explanation if public else "",
        language=public.language if public else "",
        contact=contact,
        sealed=None if isinstance(request, ReportPublic) else request.sealed,
        content_digest=hmac.digest(key, b"HG1 report content\x00" + encode_msgpack((reporter, request)), "sha256"),
        receipt=_receipt(key, report),
        now_ms=context.now_ms(),
        lookup_key=key,
    )


def _receive(tx: Transaction, subject: Subject, snapshot: bytes, incoming: _Incoming) -> ReportReceipt:
    case = _open_case(tx, subject)
    if case is None:
        case = incoming.case
        tx.run(
            "INSERT INTO cases (case_id, subject_kind, subject_ref, state, category, snapshot, opened_at_ms)"
            " VALUES (?, ?, ?, 'new', ?, ?, ?)",
            *(case, subject.kind, subject.ref, incoming.category, snapshot, incoming.now_ms),
        )
        audit.record(tx, incoming.now_ms, "", "case-opened", case, subject.kind)
    earlier = _earlier_report(tx, case, incoming)
    if earlier is not None:
        return earlier
    tx.run(
        "INSERT INTO reports (report, case_id, source, category, keyword, explanation, language, good_faith, reporter,"
        " contact, sealed, content_digest, repeats, receipt_hash, received_at_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, 0, ?, ?)",
        *(incoming.report, case, incoming.source, incoming.category, incoming.keyword, incoming.explanation),
        *(incoming.language, incoming.reporter, incoming.contact, incoming.sealed, incoming.content_digest),
        *(hash_receipt(incoming.receipt), incoming.now_ms),
    )
    audit.record(tx, incoming.now_ms, "", "report-received", case, incoming.report)
    return ReportReceipt(incoming.report, incoming.receipt, incoming.now_ms)


def _open_case(reader: Reader, subject: Subject) -> CaseId | None:
    row = reader.one(
        "SELECT case_id FROM cases WHERE subject_kind = ? AND subject_ref = ? AND state IN ('new', 'leased')",
        *(subject.kind, subject.ref),
    )
    return None if row is None else CaseId(row[0])


def _earlier_report(tx: Transaction, case: CaseId, incoming: _Incoming) -> ReportReceipt | None:
    """Add to the report that stands already, where the sender (or the very same text) has one in this case."""
    same = tx.one(_SAME_TEXT, case, incoming.content_digest)
    if same is None and incoming.sealed is not None:
        mine = tx.all(_SAME_SENDER, case, incoming.reporter)
        if len(mine) >= MAX_SEALED_REPORTS:
            raise Problem("too-many-requests", "you have reported this room several times: it is being looked at")
        return None
    if same is None and incoming.reporter is not None:
        same = tx.one(_SAME_SENDER, case, incoming.reporter)
    if same is None:
        return None
    report, received_at_ms, explanation, content_digest = same
    if content_digest != incoming.content_digest and incoming.explanation not in explanation:
        explanation = f"{explanation}\n\n{incoming.explanation}"
        if len(explanation) > MAX_EXPLANATION_IN_ALL:
            raise Problem("too-many-requests", "you have reported this already, at length: it is being looked at")
    tx.run(
        "UPDATE reports SET repeats = repeats + 1, explanation = ? WHERE report = ?",
        *(explanation, report),
    )
    return ReportReceipt(ReportId(report), _receipt(incoming.lookup_key, report), received_at_ms)


def _receipt(lookup_key: bytes, report: str) -> str:
    """Derived, so that the same report again is answered with the same receipt though only its hash is kept."""
    return base64url_text(hmac.digest(lookup_key, b"HG1 report receipt\x00" + report.encode(), "sha256"))


def _contact_cipher(secrets: Secrets) -> AESGCM:
    return AESGCM(hmac.digest(secrets.lookup_key, b"HG1 report contact", "sha256"))
