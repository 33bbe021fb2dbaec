"""Decisions: one transaction from the reviewer's word to its effect, and the law in the schema.

```
                           one transaction
statement of reasons --+
leaf of the public log +--> decision --> measures --> restriction | tombstone --> 451 and 410 on every route
audit event -----------+        |
                                +--> statement to the affected, outcome to the reporters, case decided
```

The three on the left are written first, because the schema lets no decision in without them. If anything fails,
nothing has happened. A decision is never changed; another one may follow it.

Who decides has no part in the matter: no role in the channel, not the author, no reporter, no sender of evidence, not
in the room. An owner can press a role on anyone, so a role that came after the case was opened, or was laid down
unused, keeps nobody from deciding: else a channel would be judged by nobody.
"""

import json
from dataclasses import dataclass
from typing import Final

from heliograph.server import posts
from heliograph.server.auth import Caller
from heliograph.server.context import Context
from heliograph.server.db.database import Reader, Transaction
from heliograph.server.moderation import audit, statements, transparency, values
from heliograph.server.text import TextError, check_line, check_lines
from heliograph.tlog.decision_leaf import (
    NONCE_SIZE_BYTES,
    DecisionLeaf,
    commitment_text,
    hour_and_week,
    minutes_range,
    subscribers_range,
)
from heliograph.wire.channels import Tombstone
from heliograph.wire.ids import AccountId, CaseId, ChannelId, DecisionId, channel_topic, decision_id, user_uri
from heliograph.wire.moderation import (
    Decide,
    Decided,
    DecisionRequest,
    MeasureKind,
    PublicDecision,
    Subject,
    SubjectKind,
)
from heliograph.wire.problems import Problem

MEASURES_IN_FORCE: Final[dict[MeasureKind, tuple[SubjectKind, ...]]] = {
    "block-channel": ("channel", "post"),
    "remove-post": ("post",),
}
"""Which measures this server takes, and about what."""


@dataclass(frozen=True, slots=True)
class _Case:
    """What a decision must know of its case."""

    case: CaseId
    subject: Subject
    opened_at_ms: int
    source: str


@dataclass(frozen=True, slots=True)
class _Ruling:
    """A decision on its way in: who decides what about which case, when, under which id and nonce."""

    decision: DecisionId
    nonce: bytes
    now_ms: int
    caller: Caller
    domain: str
    request: Decide

    @property
    def kinds(self) -> list[MeasureKind]:
        """Its measures, in order."""
        return [measure.kind for measure in self.request.measures]


async def decide(context: Context, caller: Caller, request: Decide) -> Decided:
    """Decide a case: with measures, or with none and a reason why nothing is to be done.

    Raises:
        Problem: `not-found`; `already-decided`; `not-allowed`, the caller has a part in the matter or a measure is
            not in force; `malformed`.
    """
    _check_request(request)
    ruling = _Ruling(
        decision_id(context.random(16)),
        context.random(NONCE_SIZE_BYTES),
        context.now_ms(),
        caller,
        context.domain,
        request,
    )
    return await context.database.write(lambda tx: _decide(tx, ruling))


async def get_decision(context: Context, caller: Caller | None, request: DecisionRequest) -> PublicDecision:
    """Tell what anyone may know of a decision. What it says of a private room or an account stays out.

    Raises:
        Problem: `not-found`.
    """
    del caller
    return await context.database.read(lambda reader: public_decision(reader, request.decision))


def public_decision(reader: Reader, decision: DecisionId) -> PublicDecision:
    """Return what anyone may know of a decision.

    Raises:
        Problem: `not-found`.
    """
    told = statements.statement(reader, decision)
    subject = told.subject if told.subject.kind in ("channel", "post") else Subject(told.subject.kind, "")
    return PublicDecision(decision, subject, told.measures, told.reason, told.effective_at_ms, told.leaf_index)


def _check_request(request: Decide) -> None:
    values.check_decision(request.ground, request.category, request.keywords)
    kinds = [measure.kind for measure in request.measures]
    if len(set(kinds)) != len(kinds):
        raise Problem("malformed", "a measure stands twice in the decision")
    for measure in request.measures:
        if measure.kind not in MEASURES_IN_FORCE:
            raise Problem("not-allowed", f"the measure {measure.kind} is not in force on this server yet")
        if measure.territory or measure.until_ms is not None:
            raise Problem("not-allowed", "measures for some countries or until a date are not in force yet")
    try:
        check_line(request.reason)
        check_line(request.ground_reference)
        check_lines(request.facts)
    except TextError as error:
        raise Problem("malformed", f"the reason, its ground or the facts cannot be published: {error}") from None


def _decide(tx: Transaction, ruling: _Ruling) -> Decided:
    case = _open_case(tx, ruling.request.case)
    for kind in ruling.kinds:
        if case.subject.kind not in MEASURES_IN_FORCE[kind]:
            raise Problem("not-allowed", f"the measure {kind} does not fit a case about a {case.subject.kind}")
    _require_impartial(tx, case, ruling)
    # Asked first: what follows takes roles and posts away.
    affected = statements.affected(tx, case.subject, set(ruling.kinds))
    leaf_index = _write(tx, case, ruling)
    _take_effect(tx, case, ruling)
    told = statements.statement(tx, ruling.decision)
    statements.deliver(tx, told, affected, ruling.now_ms)
    tx.run("UPDATE cases SET state = 'decided' WHERE case_id = ?", case.case)
    outcome = statements.Outcome(outcome_text(ruling.kinds, ruling.request.reason), ruling.decision, ruling.now_ms)
    statements.tell_reporters(tx, case.case, outcome)
    return Decided(ruling.decision, leaf_index, ruling.now_ms)


def outcome_text(kinds: list[MeasureKind], reason: str) -> str:
    """Return the sentence that a reporter reads."""
    done = {"block-channel": "The channel was blocked", "remove-post": "The post was removed"}
    what = ". ".join(done.get(kind, kind) for kind in kinds) or "No measure was taken"
    return f"{what}: {reason}"


def _open_case(reader: Reader, case: CaseId) -> _Case:
    row = reader.one("SELECT subject_kind, subject_ref, opened_at_ms, state FROM cases WHERE case_id = ?", case)
    if row is None:
        raise Problem("not-found", "there is no such case")
    kind, ref, opened_at_ms, state = row
    if state not in ("new", "leased"):
        raise Problem("already-decided", "this case has been decided; a new report opens a new one")
    source = values.SOURCE_OTHER_NOTIFICATION if kind == "room" else values.SOURCE_NOTICE
    return _Case(case, Subject(kind, ref), opened_at_ms, source)


def _require_impartial(reader: Reader, case: _Case, ruling: _Ruling) -> None:
    account, subject = ruling.caller.account, case.subject
    if reader.one("SELECT 1 FROM reports WHERE case_id = ? AND reporter = ?", case.case, account) is not None:
        raise Problem("not-allowed", "you reported this yourself: another reviewer must decide")
    if subject.kind in ("channel", "post"):
        _require_no_role(reader, statements.channel_of(subject), case, account)
    elif reader.one("SELECT 1 FROM room_devices WHERE room = ? AND account = ?", subject.ref, account) is not None:
        raise Problem("not-allowed", "you are or were in this room: another reviewer must decide")
    if subject.kind == "post" and account in statements.affected(reader, subject, {"remove-post"}):
        raise Problem("not-allowed", "you wrote this post: another reviewer must decide")
    sender = user_uri(ruling.domain, account)
    if reader.one("SELECT 1 FROM evidence WHERE case_id = ? AND sender = ?", case.case, sender) is not None:
        raise Problem("not-allowed", "you sent one of the reported messages: another reviewer must decide")


def _require_no_role(reader: Reader, channel: ChannelId, case: _Case, account: AccountId) -> None:
    has_role = reader.one(
        "SELECT 1 FROM channel_roles WHERE channel = ? AND account = ? AND given_at_ms <= ?",
        *(channel, account, case.opened_at_ms),
    )
    if has_role is not None:
        detail = "you have a role in this channel: another reviewer must decide, or you lay down what you never used"
        raise Problem("not-allowed", detail)
    has_acted = reader.one(
        "SELECT 1 FROM channel_requests WHERE channel = ? AND account = ?"
        " UNION ALL SELECT 1 FROM channels WHERE channel = ? AND founder = ?",
        *(channel, account, channel, account),
    )
    if has_acted is not None:
        raise Problem("not-allowed", "you have acted in this channel: another reviewer must decide")


def _write(tx: Transaction, case: _Case, ruling: _Ruling) -> int:
    """Write the decision and what it cannot be without, and return the index of its leaf."""
    request, decision = ruling.request, ruling.decision
    tx.run(
        "INSERT INTO statements_of_reasons (decision, facts, redress, language, nonce) VALUES (?, ?, ?, ?, ?)",
        *(decision, request.facts, statements.REDRESS, request.language, ruling.nonce),
    )
    leaf_index = transparency.append_leaf(tx, _leaf(tx, case, ruling).encode())
    detail = f"{decision} {' '.join(ruling.kinds) or 'no-action'}"
    audit_seq = audit.record(tx, ruling.now_ms, ruling.caller.account, "decided", case.case, detail)
    tx.run(
        "INSERT INTO decisions (decision, case_id, decider, subject_kind, subject_ref, ground, ground_reference,"
        " category, keywords, reason, source, automated_detection, automated_decision, effective_at_ms, leaf_index,"
        " audit_seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?)",
        *(decision, case.case, ruling.caller.account, case.subject.kind, case.subject.ref, request.ground),
        *(request.ground_reference, request.category, json.dumps(list(request.keywords)), request.reason),
        *(case.source, ruling.now_ms, leaf_index, audit_seq),
    )
    for number, measure in enumerate(request.measures):
        tx.run(
            "INSERT INTO measures (decision, number, kind, territory, until_ms) VALUES (?, ?, ?, ?, ?)",
            *(decision, number, measure.kind, json.dumps(measure.territory), measure.until_ms),
        )
    return leaf_index


def _leaf(reader: Reader, case: _Case, ruling: _Ruling) -> DecisionLeaf:
    request = ruling.request
    hour, week = hour_and_week(ruling.now_ms)
    row = reader.one("SELECT followers FROM channels WHERE channel = ?", statements.channel_of(case.subject))
    return DecisionLeaf(
        hour=hour,
        week=week,
        subject_kind=case.subject.kind,
        category=request.category,
        keywords=request.keywords,
        ground=request.ground,
        measures=tuple(ruling.kinds),
        territory=(),
        language=request.language,
        source=case.source,
        automated_detection=False,
        automated_decision=False,
        minutes_to_action=minutes_range((ruling.now_ms - case.opened_at_ms) // 60_000),
        subscribers=subscribers_range(0 if row is None else row[0]),
        refers_to=None,
        commitment=commitment_text(ruling.nonce, ruling.decision, case.subject.ref),
    )


def _take_effect(tx: Transaction, case: _Case, ruling: _Ruling) -> None:
    if "remove-post" in ruling.kinds:
        channel, seq = case.subject.ref.split("/")
        _remove_post(tx, ChannelId(channel), int(seq), ruling)
    if "block-channel" in ruling.kinds:
        channel = statements.channel_of(case.subject)
        tx.run(
            "INSERT INTO restrictions (target, kind, decision, from_ms, lifted_by)"
            " VALUES (?, 'block-channel', ?, ?, NULL)",
            *(channel, ruling.decision, ruling.now_ms),
        )
        tx.touch(channel_topic(channel))


def _remove_post(tx: Transaction, channel: ChannelId, post: int, ruling: _Ruling) -> None:
    row = tx.one("SELECT tombstone_by FROM posts WHERE channel = ? AND post = ?", channel, post)
    if row is None or row[0] is not None:
        return  # its author was faster: the tombstone that stands says so
    tombstone = Tombstone("moderation", ruling.now_ms, ruling.decision, ruling.request.reason)
    posts.bury(tx, channel, post, tombstone)
