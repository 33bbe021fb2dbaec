"""Statements of reasons (DSA Art. 17): what the affected are told, how to object, and the proof that it was counted.

A statement is written in the transaction of its decision and goes into the mailbox of every device of the affected.
Its nonce opens the commitment in the decision's leaf, so the affected can find their own case in the public log, and
nobody else can tell it from another.
"""

import json
from dataclasses import dataclass
from typing import Final

import msgspec

from heliograph.server import channels, log, posts
from heliograph.server.auth import Caller
from heliograph.server.context import Context
from heliograph.server.db.database import Reader, Transaction
from heliograph.server.devices import devices_of
from heliograph.server.moderation import transparency
from heliograph.server.restrictions import APPEAL
from heliograph.tlog.proof import TlogProof
from heliograph.tlog.verify import DecisionProof as ProofBundle
from heliograph.wire.events import OutcomeEvent, StatementEvent
from heliograph.wire.ids import AccountId, ChannelId, DecisionId, ReportId, mailbox_topic
from heliograph.wire.moderation import (
    DecisionProof,
    DecisionRequest,
    Measure,
    MeasureKind,
    StatementOfReasons,
    Subject,
)
from heliograph.wire.problems import Problem

REDRESS: Final = APPEAL


async def get_statement(context: Context, caller: Caller, request: DecisionRequest) -> StatementOfReasons:
    """Give the affected (or a reviewer) the statement of reasons.

    Raises:
        Problem: `not-found`, also to everyone whom it does not concern.
    """

    def query(reader: Reader) -> StatementOfReasons:
        _require_concerned(reader, caller, request.decision)
        return statement(reader, request.decision)

    return await context.database.read(query)


async def get_decision_proof(context: Context, caller: Caller, request: DecisionRequest) -> DecisionProof:
    """Give the affected (or a reviewer) the proof that the decision stands in the log, under a checkpoint.

    Where the newest checkpoint is older than the decision, a new one is signed now.

    Raises:
        Problem: `not-found`, also to everyone whom it does not concern.
    """

    def leaf_index(reader: Reader) -> tuple[int, int]:
        _require_concerned(reader, caller, request.decision)
        return statement(reader, request.decision).leaf_index, transparency.signed_size(reader)

    index, signed_size = await context.database.read(leaf_index)
    if index >= signed_size:
        await transparency.sign_newest_checkpoint(context)
    key = transparency.verifier_key(context.secrets, context.domain)
    bundle = await context.database.read(lambda reader: _bundle(reader, request.decision, key.name, key.vkey()))
    return DecisionProof(request.decision, bundle)


def statement(reader: Reader, decision: DecisionId) -> StatementOfReasons:
    """Return the statement of reasons of a decision.

    Raises:
        Problem: `not-found`.
    """
    row = reader.one(
        "SELECT d.subject_kind, d.subject_ref, d.ground, d.ground_reference, d.category, d.keywords, d.reason,"
        " d.effective_at_ms, d.automated_detection, d.automated_decision, d.leaf_index,"
        " s.facts, s.redress, s.language, s.nonce"
        " FROM decisions d JOIN statements_of_reasons s ON s.decision = d.decision WHERE d.decision = ?",
        decision,
    )
    if row is None:
        raise Problem("not-found", "there is no such decision")
    kind, ref, ground, ground_reference, category, keywords, reason, effective_at_ms, *rest = row
    automated_detection, automated_decision, leaf_index, facts, redress, language, nonce = rest
    return StatementOfReasons(
        decision=decision,
        subject=Subject(kind, ref),
        measures=measures_of(reader, decision),
        ground=ground,
        ground_reference=ground_reference,
        category=category,
        keywords=json.loads(keywords),
        reason=reason,
        facts=facts,
        language=language,
        effective_at_ms=effective_at_ms,
        automated_detection=bool(automated_detection),
        automated_decision=bool(automated_decision),
        redress=redress,
        leaf_index=leaf_index,
        nonce=nonce,
    )


def measures_of(reader: Reader, decision: DecisionId) -> list[Measure]:
    """Return the measures of a decision; none where it says that nothing is to be done."""
    rows = reader.all("SELECT kind, territory, until_ms FROM measures WHERE decision = ? ORDER BY number", decision)
    return [Measure(kind, tuple(json.loads(territory)), until_ms) for kind, territory, until_ms in rows]


def affected(reader: Reader, subject: Subject, kinds: set[MeasureKind]) -> list[AccountId]:
    """Return whom these measures about this subject affect: the owners of a channel, the author of a post."""
    found: list[AccountId] = []
    if "block-channel" in kinds:
        found += channels.owners(reader, channel_of(subject))
    if "remove-post" in kinds:
        channel, seq = subject.ref.split("/")
        author = posts.author_of(reader, ChannelId(channel), int(seq))
        found += [] if author is None else [author]
    return list(dict.fromkeys(found))


def channel_of(subject: Subject) -> ChannelId:
    """Return the channel that a subject is, or stands in."""
    return ChannelId(subject.ref.split("/")[0])


def deliver(tx: Transaction, told: StatementOfReasons, accounts: list[AccountId], now_ms: int) -> None:
    """Put a statement into the mailbox of every device of the affected, and keep that it was done."""
    for account in accounts:
        devices = devices_of(tx, account)
        for device in devices:
            log.append(tx, mailbox_topic(device), StatementEvent(told, now_ms))
        tx.run(
            "INSERT INTO statement_recipients (decision, account, devices, delivered_at_ms) VALUES (?, ?, ?, ?)",
            *(told.decision, account, len(devices), now_ms),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the senders of a case's reports are told."""

    text: str
    decision: DecisionId
    now_ms: int


def tell_reporters(tx: Transaction, case: str, outcome: Outcome) -> None:
    """Answer every report of a case: on its receipt, and in the mailboxes of senders who have an account."""
    rows = tx.all("SELECT report, reporter FROM reports WHERE case_id = ? AND answered_at_ms IS NULL", case)
    for report, reporter in rows:
        if reporter is not None:
            event = OutcomeEvent(ReportId(report), outcome.text, outcome.now_ms, outcome.decision)
            for device in devices_of(tx, reporter):
                log.append(tx, mailbox_topic(device), event)
    tx.run(
        "UPDATE reports SET answered_at_ms = ?, outcome = ?, decision = ? WHERE case_id = ? AND answered_at_ms IS NULL",
        *(outcome.now_ms, outcome.text, outcome.decision, case),
    )


def _require_concerned(reader: Reader, caller: Caller, decision: DecisionId) -> None:
    if caller.role != "member":
        return
    row = reader.one(
        "SELECT account FROM statement_recipients WHERE decision = ? AND account = ?", decision, caller.account
    )
    if row is None:
        raise Problem("not-found", "there is no such decision about anything of yours")


def _bundle(reader: Reader, decision: DecisionId, origin: str, vkey: str) -> str:
    told = statement(reader, decision)
    note = transparency.read_checkpoint(reader)
    size = transparency.signed_size(reader)
    row = reader.one("SELECT entry FROM decision_leaves WHERE leaf_index = ?", told.leaf_index)
    if row is None:
        raise Problem("not-found", "the log has no such leaf")
    hashes = transparency.inclusion_proof(reader, told.leaf_index, size)
    bundle = ProofBundle(
        log=origin,
        verifier_key=vkey,
        leaf=row[0],
        index=told.leaf_index,
        nonce=told.nonce,
        decision=decision,
        subject=told.subject.ref,
        proof=str(TlogProof(told.leaf_index, hashes, note)),
    )
    return msgspec.json.encode(bundle.members()).decode()
