"""Cases: what reviewers work on. One open case a subject, whatever the number of reports.

A case shows the subject as it was first reported, the reports, the evidence and everything that happened to it (its
events are the audit chain's). Messages that a reporter disclosed are opened on the reviewer's device; what the
reviewer attaches is verified here again, under the hub's own keys. Only its hash and what it proves are kept.
"""

import asyncio
from typing import Final

from heliograph.content.report import ItemCheck, ReportItem, Verdict, check_item
from heliograph.mls.errors import MLSError
from heliograph.server.auth import Caller
from heliograph.server.context import Context
from heliograph.server.db.database import Reader, Row, Transaction
from heliograph.server.moderation import audit
from heliograph.server.rooms import hub_public_key
from heliograph.wire.accounts import Empty
from heliograph.wire.frank import FrankError, decode_frank, stamp_verifier, stamped_context, verify_mac
from heliograph.wire.ids import CaseId, DecisionId, RoomId, room_uri
from heliograph.wire.moderation import (
    AttachEvidence,
    CaseEvent,
    CaseReport,
    CaseRequest,
    Cases,
    CaseState,
    CaseSummary,
    CaseView,
    CheckFrank,
    EvidenceView,
    FrankChecked,
    ListCases,
    PublishDeskKey,
    Subject,
)
from heliograph.wire.problems import Problem

REPORTS_IN_ONE_ANSWER: Final = 200
REPORT_BYTES_IN_ONE_ANSWER: Final = 4 * 1024 * 1024
EVENTS_IN_ONE_ANSWER: Final = 500  # the newest

_STATES: Final[dict[str, tuple[CaseState, CaseState]]] = {"open": ("new", "leased"), "decided": ("decided", "closed")}


async def list_cases(context: Context, caller: Caller, request: ListCases) -> Cases:
    """Return a page of the queue, oldest first; `after` is the last case of the page before.

    Raises:
        Problem: `not-found`, there is no case `after`.
    """

    del caller

    def query(reader: Reader) -> Cases:
        after = _number(reader, CaseId(request.after)) if request.after else 0
        one, other = _STATES.get(request.state, ("", ""))
        rows = reader.all(
            "SELECT case_id, subject_kind, subject_ref, state, category, opened_at_ms,"
            " (SELECT count(*) FROM reports r WHERE r.case_id = cases.case_id) FROM cases"
            " WHERE number > ? AND (? = '' OR state IN (?, ?)) ORDER BY number LIMIT ?",
            *(after, one, one, other, request.limit),
        )
        return Cases([_summary(row) for row in rows])

    return await context.database.read(query)


async def get_case(context: Context, caller: Caller, request: CaseRequest) -> CaseView:
    """Open a case.

    Raises:
        Problem: `not-found`.
    """
    del caller
    return await context.database.read(lambda reader: _view(reader, request))


async def attach_evidence(context: Context, caller: Caller, request: AttachEvidence) -> EvidenceView:
    """Attach a disclosed message to a case after verifying it under the hub's own keys.

    A forged item is refused, and the case keeps that it was offered.

    Raises:
        Problem: `not-found`; `invalid-evidence`, it is no disclosed message, of another room, or forged.
    """
    room = await context.database.read(lambda reader: _room_of(reader, request.case))
    try:
        item = ReportItem.decode(request.item)
    except MLSError as error:
        raise Problem("invalid-evidence", f"the item cannot be read: {error}") from None
    check = await asyncio.to_thread(_check, context, item, room)
    now_ms = context.now_ms()
    if check.verdict is Verdict.FORGED:
        detail = f"forged {check.item_sha256.hex()}"
        await context.database.write(
            lambda tx: audit.record(tx, now_ms, caller.account, "evidence-refused", request.case, detail)
        )
        raise Problem("invalid-evidence", f"the item is forged: {check.reason}")
    view = _evidence(check)
    await context.database.write(lambda tx: _attach(tx, request.case, caller, view, now_ms))
    return view


async def check_frank(context: Context, caller: Caller, request: CheckFrank) -> FrankChecked:
    """Tell whether a MAC is the hub's own, while it keeps the key."""
    del caller
    key = context.secrets.hub_mac_keys.get(request.kid.decode("ascii", "replace"))
    if key is None:
        return FrankChecked("key-deleted")
    try:
        verify_mac(key, request.tag, request.context, request.mac)
    except FrankError:
        return FrankChecked("invalid")
    return FrankChecked("valid")


async def publish_desk_key(context: Context, caller: Caller, request: PublishDeskKey) -> Empty:
    """Publish the key that reports of private messages are sealed to from now on."""
    now_ms = context.now_ms()

    def act(tx: Transaction) -> Empty:
        if desk_key(tx) != request.key:
            tx.run(
                "INSERT INTO desk_keys (key, published_by, published_at_ms) VALUES (?, ?, ?)",
                *(request.key, caller.account, now_ms),
            )
            audit.record(tx, now_ms, caller.account, "desk-key-published", "desk", request.key.hex())
        return Empty()

    return await context.database.write(act)


def desk_key(reader: Reader) -> bytes | None:
    """Return the X25519 key that reports are sealed to, if a reviewer's client has published one."""
    row = reader.one("SELECT key FROM desk_keys ORDER BY number DESC LIMIT 1")
    return None if row is None else row[0]


def _check(context: Context, item: ReportItem, room: RoomId) -> ItemCheck:
    """Check an item as a reviewer's client does, and then what only the hub can: its MAC."""
    uri = room_uri(context.domain, room)
    check = check_item(item, uri, stamp_verifier(hub_public_key(context)))
    if check.verdict is not Verdict.PROVEN or check.content is None:
        return check
    envelope, frank = check.envelope, decode_frank(check.envelope.frank)
    key = context.secrets.hub_mac_keys.get(frank.kid.decode("ascii", "replace"))
    if key is None:
        return check.with_mac("key-deleted")
    try:
        verify_mac(key, check.tag, stamped_context(frank, check.content.sender_uri, uri, envelope), frank.mac)
    except FrankError:
        return check.with_mac("invalid")
    return check.with_mac("valid")


def _evidence(check: ItemCheck) -> EvidenceView:
    frank = decode_frank(check.envelope.frank) if check.envelope.frank else None
    return EvidenceView(
        sha256=check.item_sha256,
        verdict="proven" if check.verdict is Verdict.PROVEN else "unproven",
        kid=b"" if frank is None else frank.kid,
        room_seq=check.envelope.room_seq,
        sender="" if check.content is None else check.content.sender_uri,
        verifier=check.verifier,
    )


def _attach(tx: Transaction, case: CaseId, caller: Caller, view: EvidenceView, now_ms: int) -> None:
    tx.run(
        "INSERT INTO evidence (case_id, sha256, verdict, kid, room_seq, sender, verifier, attached_by, attached_at_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (case_id, sha256) DO UPDATE SET verdict = excluded.verdict",
        *(case, view.sha256, view.verdict, view.kid, view.room_seq, view.sender, view.verifier),
        *(caller.account, now_ms),
    )
    audit.record(tx, now_ms, caller.account, "evidence-attached", case, f"{view.verdict} {view.sha256.hex()}")


def _room_of(reader: Reader, case: CaseId) -> RoomId:
    row = reader.one("SELECT subject_kind, subject_ref FROM cases WHERE case_id = ?", case)
    if row is None:
        raise Problem("not-found", "there is no such case")
    if row[0] != "room":
        raise Problem("invalid-evidence", "the case is about something public, which needs no such proof")
    return RoomId(row[1])


def _number(reader: Reader, case: CaseId) -> int:
    row = reader.one("SELECT number FROM cases WHERE case_id = ?", case)
    if row is None:
        raise Problem("not-found", "there is no such case")
    return row[0]


def _summary(row: Row) -> CaseSummary:
    case, kind, ref, state, category, opened_at_ms, reports = row
    return CaseSummary(case, Subject(kind, ref), state, reports, category, opened_at_ms)


def _view(reader: Reader, request: CaseRequest) -> CaseView:
    case = request.case
    row = reader.one(
        "SELECT subject_kind, subject_ref, state, opened_at_ms, snapshot FROM cases WHERE case_id = ?", case
    )
    if row is None:
        raise Problem("not-found", "there is no such case")
    kind, ref, state, opened_at_ms, snapshot = row
    (in_all,) = reader.one("SELECT count(*) FROM reports WHERE case_id = ?", case) or (0,)
    return CaseView(
        case=case,
        subject=Subject(kind, ref),
        state=state,
        opened_at_ms=opened_at_ms,
        snapshot=snapshot,
        reports=_reports(reader, case, request.after),
        evidence=[EvidenceView(*one) for one in reader.all(_EVIDENCE, case)],
        decisions=[DecisionId(one) for (one,) in reader.all(_DECISIONS, case)],
        events=[CaseEvent(*one) for one in reader.all(_EVENTS, case, EVENTS_IN_ONE_ANSWER)[::-1]],
        reports_in_all=in_all,
    )


_EVIDENCE: Final = (
    "SELECT sha256, verdict, kid, room_seq, sender, verifier FROM evidence WHERE case_id = ? ORDER BY room_seq, sha256"
)
_DECISIONS: Final = "SELECT decision FROM decisions WHERE case_id = ? ORDER BY effective_at_ms, decision"
_EVENTS: Final = "SELECT at_ms, actor, act, detail FROM audit_events WHERE object = ? ORDER BY seq DESC LIMIT ?"


def _reports(reader: Reader, case: CaseId, skip: int) -> list[CaseReport]:
    rows = reader.all(
        "SELECT report, received_at_ms, category, explanation, language, keyword, reporter, sealed FROM reports"
        " WHERE case_id = ? ORDER BY number LIMIT ? OFFSET ?",
        *(case, REPORTS_IN_ONE_ANSWER, skip),
    )
    size_bytes = 0
    reports: list[CaseReport] = []
    for row in rows:
        size_bytes += len(row[3]) + len(row[7] or b"")
        if reports and size_bytes > REPORT_BYTES_IN_ONE_ANSWER:
            break
        reports.append(CaseReport(*row))
    return reports
