"""Decisions: one transaction from the reviewer's word to its effect, or nothing; and the law in the schema."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import pytest

from heliograph.server.db.database import Transaction
from heliograph.server.moderation import audit, decisions
from heliograph.tlog.decision_leaf import DecisionLeaf
from heliograph.wire import channels as c
from heliograph.wire.events import ErasedEvent, OutcomeEvent, ReceivedEntries, StatementEvent, TombstoneEvent
from heliograph.wire.ids import CaseId, ChannelId, channel_topic, mailbox_topic
from heliograph.wire.moderation import (
    AttachEvidence,
    Decided,
    DecisionRequest,
    Measure,
    MeasureKind,
    PublicDecision,
)
from heliograph.wire.problems import Problem
from heliograph.wire.rooms import ReadTopic
from tests.server.disclosed import new_conversation, report_privately, send_franked
from tests.server.town import (
    become_reviewer,
    browse,
    new_reviewer,
    open_cases,
    open_channel,
    publish,
    read_bodies,
    report,
    ruling,
    signed_deletion,
    signed_edit,
)
from tests.world import Person, World, world

TABLES = (
    "decisions",
    "measures",
    "statements_of_reasons",
    "statement_recipients",
    "decision_leaves",
    "decision_nodes",
    "restrictions",
    "audit_events",
    "audit_head",
    "entries",
    "topics",
    "posts",
    "cases",
    "reports",
)


@dataclass
class Court:
    """A channel with a post, someone who reports it, and a reviewer."""

    w: World
    author: Person
    reader: Person
    reviewer: Person
    channel: ChannelId

    async def case(self, post: int | None = 1) -> CaseId:
        """Report the post (or the channel) and return the case."""
        await report(self.w, self.reader, self.channel, post=post)
        return (await open_cases(self.w, self.reviewer))[-1].case

    async def decide(self, *kinds: MeasureKind, post: int | None = 1, **changes: Any) -> Decided:
        return await self.w.call("decide", ruling(await self.case(post), *kinds, **changes), self.reviewer)

    async def refusal(self, *kinds: MeasureKind, post: int | None = 1, **changes: Any) -> str:
        request = ruling(await self.case(post), *kinds, **changes)
        with pytest.raises(Problem) as refused:
            await self.w.call("decide", request, self.reviewer)
        return refused.value.slug

    async def mailbox(self, who: Person) -> list[Any]:
        reply = await self.w.call("read_topic", ReadTopic(mailbox_topic(who.device)), who)
        return [entry.event for entry in reply.entries]

    async def all(self, sql: str) -> list[Any]:
        return await self.w.context.database.read(lambda reader: reader.all(sql))

    async def state(self) -> dict[str, list[Any]]:
        """Return everything that a decision could touch."""
        return {table: await self.all(f"SELECT * FROM {table}") for table in TABLES}  # noqa: S608


@pytest.fixture
async def court(tmp_path: Path) -> AsyncIterator[Court]:
    async with world(tmp_path) as w:
        author, reader, reviewer = await w.register("olga"), await w.register("rosa"), await new_reviewer(w)
        channel = await open_channel(w, author)
        await publish(w, author, channel, "terrible words")
        yield Court(w, author, reader, reviewer, channel)


# ------------------------------------------------------------------------------------------------------- what it does


async def test_a_removed_post_is_a_tombstone_with_the_public_reason(court: Court) -> None:
    decided = await court.decide("remove-post")
    view: c.PostView = await court.w.call("get_post", c.GetPost(court.channel, 1))
    assert view.tombstone == c.Tombstone(
        "moderation", decided.effective_at_ms, decided.decision, "It calls for violence against people"
    )


async def test_the_words_of_a_removed_post_leave_every_version(court: Court) -> None:
    await court.w.call("edit_post", signed_edit(court.w, court.author, court.channel, 1, "worse words"), court.author)
    await court.decide("remove-post")
    reply = await court.w.call("read_topic", ReadTopic(channel_topic(court.channel)))
    first, second, third = (entry.event for entry in reply.entries)
    assert (first, second) == (ErasedEvent("removed"), ErasedEvent("removed"))
    assert isinstance(third, TombstoneEvent)
    assert third.tombstone.by == "moderation"


async def test_removing_a_post_leaves_the_others(court: Court) -> None:
    await publish(court.w, court.author, court.channel, "kind words")
    await court.decide("remove-post")
    assert await read_bodies(court.w, court.channel) == ["kind words"]


async def test_connected_followers_see_the_tombstone_at_once(court: Court) -> None:
    await court.w.call("follow", c.ChannelRequest(court.channel), court.reader)
    case = await court.case()
    async with court.w.stream(court.reader) as stream:
        await court.w.call("decide", ruling(case, "remove-post"), court.reviewer)
        while True:
            frame = await stream.receive(1)
            items = getattr(frame, "items", [])
            if getattr(frame, "topic", "") == court.channel and items:
                break
        assert isinstance(items[-1].event, TombstoneEvent)


async def test_a_reader_who_was_behind_is_not_sent_the_removed_words(court: Court) -> None:
    await court.w.call("follow", c.ChannelRequest(court.channel), court.reader)
    async with court.w.stream(court.reader) as ahead:
        await publish(court.w, court.author, court.channel, "terrible again")
        await ahead.until(ReceivedEntries, topic=court.channel)
        await court.decide("remove-post", post=2)
        topic = channel_topic(court.channel)
        async with court.w.stream(court.reader, {topic: 0}, court.w.context.incarnation) as behind:
            seen: dict[int, Any] = {}
            while 3 not in seen:
                frame = await behind.until(ReceivedEntries, topic=topic)
                seen.update({entry.seq: entry.event for entry in frame.items})
        assert seen[2] == ErasedEvent("removed")
        assert isinstance(seen[3], TombstoneEvent)


async def test_a_case_about_a_post_can_block_the_channel_and_remove_the_post(court: Court) -> None:
    await court.decide("remove-post", "block-channel")
    assert (await browse(court.w, "/c/news")).status == 451
    assert await court.all("SELECT tombstone_by FROM posts") == [("moderation",)]


async def test_a_decision_without_measures_says_why_nothing_is_done(court: Court) -> None:
    decided = await court.decide(reason="It reports on violence and does not call for it")
    public: PublicDecision = await court.w.call("get_decision", DecisionRequest(decided.decision))
    assert public.measures == []
    assert await read_bodies(court.w, court.channel) == ["terrible words"]
    assert [event.outcome for event in await court.mailbox(court.reader)] == [
        "No measure was taken: It reports on violence and does not call for it"
    ]


async def test_the_affected_gets_the_statement_of_reasons_on_every_device(court: Court) -> None:
    tablet = await court.w.add_device(court.author)
    decided = await court.decide("remove-post")
    for device in (court.author, tablet):
        events = await court.mailbox(device)
        (told,) = [event.statement for event in events if isinstance(event, StatementEvent)]
        assert told.decision == decided.decision


async def test_a_reporter_with_an_account_is_told_the_outcome(court: Court) -> None:
    decided = await court.decide("remove-post")
    (event,) = await court.mailbox(court.reader)
    assert isinstance(event, OutcomeEvent)
    assert (event.decision, event.outcome) == (
        decided.decision,
        "The post was removed: It calls for violence against people",
    )


async def test_the_reporter_stays_unknown_to_the_affected(court: Court) -> None:
    await court.decide("remove-post", "block-channel")
    assert court.reader.account not in repr(await court.mailbox(court.author))


async def test_the_public_log_gets_one_leaf_that_names_nobody(court: Court) -> None:
    decided = await court.decide("block-channel", post=None, keywords=("KEYWORD_INCITEMENT_VIOLENCE_HATRED",))
    ((index, entry),) = await court.all("SELECT leaf_index, entry FROM decision_leaves")
    leaf = DecisionLeaf.parse(entry)
    assert index == decided.leaf_index
    assert (leaf.subject_kind, leaf.measures, leaf.keywords) == (
        "channel",
        ("block-channel",),
        ("KEYWORD_INCITEMENT_VIOLENCE_HATRED",),
    )
    assert (leaf.source, leaf.minutes_to_action, leaf.subscribers) == ("SOURCE_ARTICLE_16", "0-14", "0-9")
    named = [court.channel, court.author.account, court.reviewer.account, decided.decision, "news", "violence"]
    assert not [name for name in named if name.encode() in entry]


async def test_a_decision_stands_in_the_audit_chain(court: Court) -> None:
    decided = await court.decide("remove-post")
    ((actor, act, detail),) = await court.all(
        "SELECT actor, act, detail FROM audit_events WHERE seq = (SELECT audit_seq FROM decisions)"
    )
    assert (actor, act) == (court.reviewer.account, "decided")
    assert detail == f"{decided.decision} remove-post"
    await court.w.context.database.read(audit.verify_audit)


@pytest.mark.bad_input(124)
async def test_a_decision_that_is_given_to_another_in_the_audit_chain_is_found(court: Court) -> None:
    await court.decide("remove-post")
    sql = "UPDATE audit_events SET actor = ? WHERE act = 'decided'"
    await court.w.context.database.write(lambda tx: tx.run(sql, court.reader.account))
    with pytest.raises(audit.AuditError, match="was changed"):
        await court.w.context.database.read(audit.verify_audit)


async def test_anyone_can_read_what_was_decided_and_why(court: Court) -> None:
    decided = await court.decide("block-channel", post=None)
    public: PublicDecision = await court.w.call("get_decision", DecisionRequest(decided.decision))
    assert (public.subject.kind, public.subject.ref) == ("channel", court.channel)
    assert [measure.kind for measure in public.measures] == ["block-channel"]
    assert (public.reason, public.leaf_index) == ("It calls for violence against people", decided.leaf_index)


async def test_a_post_whose_author_was_faster_keeps_that_tombstone(court: Court) -> None:
    case = await court.case()
    request = signed_deletion(court.w, court.author, court.channel, 1)
    await court.w.call("delete_post", request, court.author)
    await court.w.call("decide", ruling(case, "remove-post"), court.reviewer)
    view: c.PostView = await court.w.call("get_post", c.GetPost(court.channel, 1))
    assert view.tombstone is not None
    assert view.tombstone.by == "author"


# ------------------------------------------------------------------------------------------------------ what it is not


async def test_of_two_reviewers_who_decide_at_once_one_decides(court: Court) -> None:
    case, second = await court.case(), await new_reviewer(court.w, "rolf")
    calls = [court.w.call("decide", ruling(case, "remove-post"), who) for who in (court.reviewer, second)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [one.slug for one in answers if isinstance(one, Problem)] == ["already-decided"]
    assert await court.all("SELECT count(*) FROM decisions") == [(1,)]


@pytest.mark.parametrize(
    "kind",
    ["label", "limit-reach", "hide-from-search", "age-gate", "mute-account", "suspend-account", "end-account"],
)
async def test_a_measure_that_this_server_cannot_carry_out_is_refused(court: Court, kind: MeasureKind) -> None:
    assert await court.refusal(kind) == "not-allowed"


@pytest.mark.parametrize("measure", [Measure("block-channel", ("DE",)), Measure("block-channel", (), 1)])
async def test_a_measure_for_some_countries_or_some_time_is_refused(court: Court, measure: Measure) -> None:
    assert await court.refusal(measures=[measure]) == "not-allowed"


async def test_a_measure_fits_its_subject(court: Court) -> None:
    assert await court.refusal("remove-post", post=None) == "not-allowed"


async def test_a_measure_stands_once(court: Court) -> None:
    assert await court.refusal("remove-post", "remove-post") == "malformed"


@pytest.mark.bad_input(121)
@pytest.mark.parametrize("changes", [{"reason": "x" * 501}, {"facts": "x" * 5001}, {"reason": "a\nb"}, {"reason": " "}])
async def test_a_reason_is_one_line_with_an_end(court: Court, changes: dict[str, Any]) -> None:
    assert await court.refusal("remove-post", **changes) == "malformed"


@pytest.mark.bad_input(121)
async def test_a_reason_of_a_megabyte_is_refused(court: Court) -> None:
    assert await court.refusal("remove-post", reason="x" * 1_000_000) == "too-large"


@pytest.mark.bad_input(121)
async def test_a_reason_with_markup_is_shown_as_text(court: Court) -> None:
    await court.decide("block-channel", reason="<script>alert(1)</script>")
    page = await browse(court.w, "/c/news")
    assert "<script>" not in page.text
    assert "&lt;script&gt;" in page.text


async def test_a_decision_names_a_category_of_the_list(court: Court) -> None:
    assert await court.refusal("remove-post", category="STATEMENT_CATEGORY_NOT_SPECIFIED_NOTICE") == "malformed"
    assert await court.refusal("remove-post", keywords=("KEYWORD_PHISHING",)) == "malformed"


async def test_a_case_that_does_not_exist_cannot_be_decided(court: Court) -> None:
    with pytest.raises(Problem) as refused:
        await court.w.call("decide", ruling(CaseId("cs" + "a" * 26)), court.reviewer)
    assert refused.value.slug == "not-found"


# --------------------------------------------------------------------------------------------------------- who decides


@pytest.mark.bad_input(114)
@pytest.mark.parametrize("role", ["owner", "editor", "moderator"])
async def test_nobody_decides_about_a_channel_in_which_they_have_a_role(court: Court, role: c.ChannelRole) -> None:
    request = c.SetChannelRole(court.channel, court.reviewer.account, role)
    await court.w.call("set_channel_role", request, court.author)
    assert await court.refusal() == "not-allowed"


@pytest.mark.bad_input(114)
async def test_nobody_decides_about_their_own_post(court: Court) -> None:
    editor = await court.w.register("eddy")
    role = c.SetChannelRole(court.channel, editor.account, "editor")
    await court.w.call("set_channel_role", role, court.author)
    post = await publish(court.w, editor, court.channel, "mine")
    gone = c.SetChannelRole(court.channel, editor.account, None)
    await court.w.call("set_channel_role", gone, court.author)
    await become_reviewer(court.w, editor)
    with pytest.raises(Problem) as refused:
        await court.w.call("decide", ruling(await court.case(post)), editor)
    assert refused.value.slug == "not-allowed"


@pytest.mark.bad_input(114)
async def test_nobody_decides_what_they_reported(court: Court) -> None:
    case = await court.case()
    await become_reviewer(court.w, court.reader)
    with pytest.raises(Problem) as refused:
        await court.w.call("decide", ruling(case), court.reader)
    assert refused.value.slug == "not-allowed"


@pytest.mark.bad_input(114)
async def test_nobody_decides_about_a_message_that_they_sent(court: Court) -> None:
    talk = await new_conversation(court.w)
    item = await send_franked(talk.one, talk.room, "terrible")
    await report_privately(talk.other, talk.room)
    case = (await open_cases(court.w, court.reviewer))[-1].case
    await court.w.call("attach_evidence", AttachEvidence(case, item.encode()), court.reviewer)
    sql = "UPDATE accounts SET role = 'reviewer' WHERE account = ?"
    await court.w.context.database.write(lambda tx: tx.run(sql, talk.one.account))
    court.w.context.sessions.forget_account(talk.one.account)
    with pytest.raises(Problem) as refused:
        await talk.one.ask("decide", ruling(case))
    assert refused.value.slug == "not-allowed"


@pytest.mark.bad_input(119)
async def test_who_is_no_reviewer_any_more_decides_nothing(court: Court) -> None:
    case = await court.case()
    sql = "UPDATE accounts SET role = 'member' WHERE account = ?"
    await court.w.context.database.write(lambda tx: tx.run(sql, court.reviewer.account))
    court.w.context.sessions.forget_account(court.reviewer.account)
    with pytest.raises(Problem) as refused:
        await court.w.call("decide", ruling(case), court.reviewer)
    assert refused.value.slug == "not-allowed"


async def test_what_is_public_of_a_private_room_does_not_name_it(court: Court) -> None:
    talk = await new_conversation(court.w)
    await report_privately(talk.other, talk.room)
    case = (await open_cases(court.w, court.reviewer))[-1].case
    decided = await court.w.call("decide", ruling(case), court.reviewer)
    public: PublicDecision = await court.w.call("get_decision", DecisionRequest(decided.decision))
    assert (public.subject.kind, public.subject.ref) == ("room", "")


# ---------------------------------------------------------------------------------------------- all of it, or nothing


FAULTS = {
    "statements_of_reasons": "BEFORE INSERT ON statements_of_reasons",
    "leaf": "BEFORE INSERT ON decision_leaves",
    "node": "BEFORE INSERT ON decision_nodes",
    "audit": "BEFORE INSERT ON audit_events",
    "decision": "BEFORE INSERT ON decisions",
    "measure": "BEFORE INSERT ON measures",
    "tombstone": "BEFORE UPDATE ON posts",
    "restriction": "BEFORE INSERT ON restrictions",
    "recipient": "BEFORE INSERT ON statement_recipients",
    "case": "BEFORE UPDATE ON cases",
    "outcome": "BEFORE UPDATE ON reports",
}


@pytest.mark.parametrize("step", list(FAULTS))
async def test_a_decision_that_fails_at_any_step_leaves_nothing(court: Court, step: str) -> None:
    case = await court.case()
    fault = f"CREATE TRIGGER fault {FAULTS[step]} BEGIN SELECT RAISE(ABORT, 'planted'); END"
    await court.w.context.database.write(lambda tx: tx.run(fault))
    before = await court.state()
    with pytest.raises(Problem) as refused:
        await court.w.call("decide", ruling(case, "remove-post", "block-channel"), court.reviewer)
    assert refused.value.slug == "internal-error"
    assert await court.state() == before
    await court.w.context.database.write(lambda tx: tx.run("DROP TRIGGER fault"))
    await court.w.call("decide", ruling(case, "remove-post", "block-channel"), court.reviewer)
    assert await court.state() != before


async def test_a_failed_decision_does_not_harm_what_is_written_beside_it(court: Court) -> None:
    case = await court.case()
    fault = "CREATE TRIGGER fault BEFORE UPDATE ON reports BEGIN SELECT RAISE(ABORT, 'planted'); END"
    await court.w.context.database.write(lambda tx: tx.run(fault))
    deciding = court.w.call("decide", ruling(case, "block-channel"), court.reviewer)
    posting = [publish(court.w, court.author, court.channel, f"post {number}") for number in range(10)]
    failed, *posted = await asyncio.gather(deciding, *posting, return_exceptions=True)
    assert isinstance(failed, Problem)
    assert sorted(one for one in posted if isinstance(one, int)) == list(range(2, 12))


DECISION = (
    "INSERT INTO decisions (decision, case_id, decider, subject_kind, subject_ref, ground, ground_reference, category,"
    " keywords, reason, source, automated_detection, automated_decision, effective_at_ms, leaf_index, audit_seq)"
    " VALUES ('dc1', ?, 'a', 'post', 'x', 'illegal-content', 'x', 'x', '[]', 'x', 'x', 0, 0, 1, 0, 1)"
)
PARTS = {
    "statement": "INSERT INTO statements_of_reasons (decision, facts, redress, language, nonce)"
    " VALUES ('dc1', 'x', 'x', 'en', x'00')",
    "leaf": "INSERT INTO decision_leaves (leaf_index, entry) VALUES (0, x'00')",
    "audit event": "INSERT INTO audit_events (seq, at_ms, actor, act, object, detail, prev_hash, hash)"
    " VALUES (1, 1, 'a', 'x', 'x', 'x', x'00', x'00')",
}


@pytest.mark.parametrize("missing", [None, *PARTS])
async def test_the_schema_lets_no_decision_in_without_its_statement_leaf_and_audit_event(
    court: Court, missing: str | None
) -> None:
    case = await court.case()
    await court.w.context.database.write(lambda tx: tx.run("DELETE FROM audit_events"))

    def act(tx: Transaction) -> None:
        for part, sql in PARTS.items():
            if part != missing:
                tx.run(sql)
        tx.run(DECISION, case)

    if missing is None:
        await court.w.context.database.write(act)
    else:
        with pytest.raises(apsw.ConstraintError, match="FOREIGN KEY"):
            await court.w.context.database.write(act)
    assert await court.all("SELECT count(*) FROM decisions") == [(1 if missing is None else 0,)]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM statements_of_reasons",
        "DELETE FROM decision_leaves",
        "DELETE FROM audit_events WHERE act = 'decided'",
        "DELETE FROM decisions",
    ],
)
async def test_the_schema_lets_nothing_of_a_decision_be_deleted(court: Court, sql: str) -> None:
    await court.decide("block-channel")
    with pytest.raises(apsw.ConstraintError):
        await court.w.context.database.write(lambda tx: tx.run(sql))


async def test_the_schema_lets_no_restriction_in_without_its_decision(court: Court) -> None:
    sql = "INSERT INTO restrictions (target, kind, decision, from_ms) VALUES (?, 'block-channel', 'dcnone', 1)"
    with pytest.raises(apsw.ConstraintError):
        await court.w.context.database.write(lambda tx: tx.run(sql, court.channel))


async def test_the_schema_lets_moderation_remove_no_post_without_a_decision(court: Court) -> None:
    sql = "UPDATE posts SET tombstone_by = 'moderation', tombstone_at_ms = 1"
    with pytest.raises(apsw.ConstraintError):
        await court.w.context.database.write(lambda tx: tx.run(sql))


async def test_the_schema_keeps_one_open_case_a_subject(court: Court) -> None:
    await court.case()
    sql = (
        "INSERT INTO cases (case_id, subject_kind, subject_ref, state, category, snapshot, opened_at_ms)"
        " SELECT 'csother', subject_kind, subject_ref, 'new', category, snapshot, 1 FROM cases"
    )
    with pytest.raises(apsw.ConstraintError):
        await court.w.context.database.write(lambda tx: tx.run(sql))


def test_outcomes_are_sentences() -> None:
    assert decisions.outcome_text(["remove-post", "block-channel"], "why") == (
        "The post was removed. The channel was blocked: why"
    )
