"""Statements of reasons: what the affected are told, who may read it, and the proof that it was counted."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from heliograph.server.moderation import statements
from heliograph.tlog.errors import ProofError
from heliograph.tlog.verify import verify_decision
from heliograph.wire import channels as c
from heliograph.wire.accounts import Empty
from heliograph.wire.ids import ChannelId, DecisionId
from heliograph.wire.moderation import Decided, DecisionRequest, StatementOfReasons
from heliograph.wire.problems import Problem
from tests.server.town import VIOLENCE, new_reviewer, open_channel, publish, report_and_decide
from tests.world import Person, World, world


@dataclass
class Blocked:
    """A blocked channel, its owner, an editor whose post was removed, and a stranger."""

    w: World
    owner: Person
    editor: Person
    stranger: Person
    reviewer: Person
    channel: ChannelId
    decided: Decided

    async def statement(self, who: Person) -> StatementOfReasons:
        return await self.w.call("get_statement", DecisionRequest(self.decided.decision), who)

    async def bundle(self, who: Person) -> str:
        return (await self.w.call("get_decision_proof", DecisionRequest(self.decided.decision), who)).bundle

    async def key(self) -> str:
        return (await self.w.call("get_server", Empty())).decisions_log


@pytest.fixture
async def blocked(tmp_path: Path) -> AsyncIterator[Blocked]:
    async with world(tmp_path) as w:
        owner, editor, stranger = [await w.register(name) for name in ("olga", "eddy", "sam")]
        reviewer = await new_reviewer(w)
        channel = await open_channel(w, owner)
        await w.call("set_channel_role", c.SetChannelRole(channel, editor.account, "editor"), owner)
        post = await publish(w, editor, channel, "terrible words")
        decided = await report_and_decide(w, reviewer, channel, "remove-post", "block-channel", post=post)
        yield Blocked(w, owner, editor, stranger, reviewer, channel, decided)


async def test_a_statement_has_everything_that_the_law_asks_for(blocked: Blocked) -> None:
    told = await blocked.statement(blocked.owner)
    assert (told.subject.kind, told.subject.ref) == ("post", f"{blocked.channel}/1")
    assert [measure.kind for measure in told.measures] == ["remove-post", "block-channel"]
    assert (told.ground, told.ground_reference) == ("illegal-content", "Criminal Code, section 130")
    assert (told.category, told.keywords, told.language) == (VIOLENCE, [], "en")
    assert told.reason == "It calls for violence against people"
    assert told.facts.startswith("The post names a place")
    assert (told.automated_detection, told.automated_decision) == (False, False)
    assert told.redress == statements.REDRESS
    assert told.effective_at_ms == blocked.decided.effective_at_ms


async def test_owner_author_and_reviewer_may_read_it_and_nobody_else(blocked: Blocked) -> None:
    for who in (blocked.owner, blocked.editor, blocked.reviewer):
        assert (await blocked.statement(who)).decision == blocked.decided.decision
    for operation in ("get_statement", "get_decision_proof"):
        with pytest.raises(Problem) as refused:
            await blocked.w.call(operation, DecisionRequest(blocked.decided.decision), blocked.stranger)
        assert refused.value.slug == "not-found"


async def test_a_decision_that_does_not_exist_has_no_statement(blocked: Blocked) -> None:
    for who in (blocked.owner, blocked.reviewer):
        with pytest.raises(Problem) as refused:
            await blocked.w.call("get_statement", DecisionRequest(DecisionId("dc" + "a" * 26)), who)
        assert refused.value.slug == "not-found"


async def test_it_is_kept_who_was_told(blocked: Blocked) -> None:
    rows = await blocked.w.context.database.read(
        lambda reader: reader.all("SELECT account, devices FROM statement_recipients")
    )
    assert sorted(rows) == sorted([(blocked.owner.account, 1), (blocked.editor.account, 1)])


# ------------------------------------------------------------------------------------------------------------ the proof


async def test_the_affected_can_prove_to_anyone_that_the_decision_stands_in_the_log(blocked: Blocked) -> None:
    proven = verify_decision(await blocked.bundle(blocked.owner), [await blocked.key()])
    assert proven.pinned
    assert (proven.decision, proven.subject) == (blocked.decided.decision, f"{blocked.channel}/1")
    assert proven.index == blocked.decided.leaf_index
    assert proven.leaf.measures == ("remove-post", "block-channel")
    assert proven.checkpoint.origin == "localhost/decisions"


async def test_the_statement_opens_the_same_leaf_as_the_proof(blocked: Blocked) -> None:
    told = await blocked.statement(blocked.editor)
    proven = verify_decision(await blocked.bundle(blocked.editor))
    proven.leaf.check_opening(told.nonce, told.decision, told.subject.ref)


async def test_every_decision_of_many_is_proven_under_the_newest_checkpoint(blocked: Blocked) -> None:
    decisions = [blocked.decided.decision]
    for number in range(9):
        channel = await open_channel(blocked.w, blocked.owner, f"square{number}")
        decisions.append((await report_and_decide(blocked.w, blocked.reviewer, channel, "block-channel")).decision)
    key = await blocked.key()
    for index, decision in enumerate(decisions):
        proof = await blocked.w.call("get_decision_proof", DecisionRequest(decision), blocked.owner)
        assert verify_decision(proof.bundle, [key]).index == index


@pytest.mark.parametrize("member", ["leaf", "nonce", "decision", "subject", "index", "proof", "log"])
async def test_a_proof_with_anything_changed_does_not_hold(blocked: Blocked, member: str) -> None:
    members: dict[str, Any] = json.loads(await blocked.bundle(blocked.owner))
    value = members[member]
    members[member] = value + 1 if isinstance(value, int) else changed(value)
    with pytest.raises(ProofError):
        verify_decision(json.dumps(members), [await blocked.key()])


def changed(text: str) -> str:
    """Change one letter near the middle of a text."""
    middle = len(text) // 2
    return text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :]


async def test_a_proof_under_a_key_that_one_does_not_trust_does_not_hold(blocked: Blocked, tmp_path: Path) -> None:
    async with world(tmp_path / "other") as other:
        strange_key = (await other.call("get_server", Empty())).decisions_log
    with pytest.raises(ProofError):
        verify_decision(await blocked.bundle(blocked.owner), [strange_key])
