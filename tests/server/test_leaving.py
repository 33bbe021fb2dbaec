"""Leaving a room: out with one's own proposal, and taken out of the group by the next who commits."""

import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from heliograph.mls.proposal import Remove
from heliograph.wire.events import CommitEvent, Ended, Entries, MessageEvent, ProposalEvent
from heliograph.wire.ids import RoomId, TopicId
from heliograph.wire.room_policy import Role
from heliograph.wire.rooms import ReadTopic, SubmitProposal
from tests.server.phones import (
    Phone,
    joined_peer,
    link_phone,
    new_key,
    new_phone,
    refusal,
)
from tests.world import World, world


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


@pytest.fixture
async def alice(w: World) -> Phone:
    return await new_phone(w, "alice")


@pytest.fixture
async def room(alice: Phone) -> RoomId:
    return await alice.create_room()


@pytest.fixture
async def bob(w: World, alice: Phone, room: RoomId) -> Phone:
    return await joined_peer(w, alice, room)


async def leave(phone: Phone, room: RoomId) -> int:
    """Propose to remove one's own leaf; return the entry's seq."""
    return (await phone.propose(room, Remove(phone.groups[room].own_leaf_index))).seq


async def test_what_a_leaver_reads_ends_with_its_own_proposal(alice: Phone, bob: Phone, room: RoomId) -> None:
    seq = await leave(bob, room)
    await alice.follow(room, 1)
    await alice.send(room, b"now that he is gone")
    await alice.commit(room)

    reply = await bob.ask("read_topic", ReadTopic(TopicId(room), 1))
    assert [type(one.event) for one in reply.entries] == [ProposalEvent]
    assert (seq, reply.head_seq) == (2, 2)
    assert [type(event) for event in await alice.entries(room, 1)] == [ProposalEvent, MessageEvent, CommitEvent]


async def test_the_stream_of_a_leaver_ends_at_once(w: World, alice: Phone, bob: Phone, room: RoomId) -> None:
    async with w.stream(bob.token) as stream:
        await leave(bob, room)
        ended = await stream.until(Ended, room)
        assert ended.problem.type == "not-allowed"
        await alice.follow(room, 1)
        await alice.send(room)
        with pytest.raises(TimeoutError):
            await stream.until(Entries, room, within_s=0.2)


async def test_a_leaver_sends_nothing_more(bob: Phone, room: RoomId) -> None:
    message = bob.message(room)
    await leave(bob, room)
    assert await refusal(bob.ask("submit_message", message)) == "not-allowed"


async def test_a_leaver_commits_and_proposes_nothing_more(bob: Phone, room: RoomId) -> None:
    commit = bob.submission(room, bob.build(room))
    _, update = bob.groups[room].update_leaf(random=secrets.token_bytes, now_s=bob.now_s())
    await leave(bob, room)
    assert await refusal(bob.ask("submit_commit", commit)) == "invalid-proposal"
    assert await refusal(bob.ask("submit_proposal", SubmitProposal(room, new_key(), 1, update))) == "not-allowed"


async def test_a_member_that_has_left_cannot_commit_the_leave_of_another(
    w: World, alice: Phone, bob: Phone, room: RoomId
) -> None:
    carol = await joined_peer(w, alice, room, "carol")
    await bob.follow(room, 1)
    await leave(carol, room)
    await bob.follow(room, 2)
    commit = bob.submission(room, bob.build(room))
    await leave(bob, room)
    assert await refusal(bob.ask("submit_commit", commit)) in ("invalid-proposal", "not-allowed")


async def test_a_commit_that_leaves_a_leaver_in_is_refused(alice: Phone, bob: Phone, room: RoomId) -> None:
    without_it = alice.build(room)
    await leave(bob, room)
    assert await refusal(alice.ask("submit_commit", alice.submission(room, without_it))) == "invalid-proposal"

    await alice.follow(room, 1)
    await alice.commit(room)
    assert [one.leaf_node.credential for one in alice.groups[room].members()] == [alice.credential]


async def test_a_commit_that_crossed_a_leave_is_refused(w: World, alice: Phone, bob: Phone, room: RoomId) -> None:
    """The commit was checked against the room before the leave came, and written after it."""
    pending = alice.build(room)
    request = alice.submission(room, pending)
    held, write = [], w.context.database.write

    async def late(act: Any) -> Any:
        if not held:
            held.append(act)
            await leave(bob, room)
        return await write(act)

    w.context.database.write = late  # type: ignore[method-assign]
    answer = await refusal(alice.ask("submit_commit", request))
    w.context.database.write = write  # type: ignore[method-assign]
    assert answer == "invalid-proposal"
    assert (await bob.entries(room, 1))[-1].__class__ is ProposalEvent


async def test_a_plain_member_may_commit_the_leave_of_an_owner(
    w: World, alice: Phone, bob: Phone, room: RoomId
) -> None:
    owner = await joined_peer(w, alice, room, "olga", Role.OWNER)
    await bob.follow(room, 1)
    await leave(owner, room)
    await bob.follow(room, 2)
    await bob.commit(room)
    assert owner.credential not in [one.leaf_node.credential for one in bob.groups[room].members()]


async def test_a_leave_may_be_committed_by_value(alice: Phone, bob: Phone, room: RoomId) -> None:
    leaf = alice.leaf_of(room, bob)
    await leave(bob, room)
    await alice.commit(room, [Remove(leaf)])
    assert len(alice.groups[room].members()) == 1


async def test_an_account_leaves_with_all_its_devices(w: World, alice: Phone, bob: Phone, room: RoomId) -> None:
    laptop = await link_phone(w, bob)
    await laptop.join_from_outside(room)
    await alice.follow(room, 1)
    await bob.follow(room, 1)
    leaves = [bob.groups[room].own_leaf_index, bob.leaf_of(room, laptop)]
    for leaf in leaves:
        await bob.propose(room, Remove(leaf))

    assert await refusal(laptop.send(room)) == "not-allowed"
    await alice.follow(room, 2)
    await alice.commit(room)
    assert len(alice.groups[room].members()) == 1


async def test_a_device_that_is_leaving_is_proposed_once(w: World, alice: Phone, bob: Phone, room: RoomId) -> None:
    """Two Removes of one leaf cannot stand in one commit."""
    laptop = await link_phone(w, bob)
    await laptop.join_from_outside(room)
    await bob.follow(room, 1)
    leaf = bob.groups[room].own_leaf_index
    await laptop.propose(room, Remove(leaf))
    assert await refusal(bob.propose(room, Remove(leaf))) == "invalid-proposal"


async def test_a_proposal_to_leave_again_under_its_key_gets_its_first_answer(bob: Phone, room: RoomId) -> None:
    _, message = bob.groups[room].propose(Remove(bob.groups[room].own_leaf_index), random=os.urandom, now_s=bob.now_s())
    request = SubmitProposal(room, new_key(), 1, message)
    first = await bob.ask("submit_proposal", request)
    assert await bob.ask("submit_proposal", request) == first


async def test_to_propose_the_removal_of_another_does_not_put_it_out(
    w: World, alice: Phone, bob: Phone, room: RoomId
) -> None:
    await alice.propose(room, Remove(alice.leaf_of(room, bob)))
    await bob.follow(room, 1)
    assert (await bob.send(room)).seq == 3


async def test_a_commit_from_outside_may_pass_over_a_leaver_who_stays_out(
    w: World, alice: Phone, bob: Phone, room: RoomId
) -> None:
    tablet = await link_phone(w, alice)
    await leave(bob, room)
    await tablet.join_from_outside(room)

    assert await refusal(bob.send(room)) == "not-allowed"
    await alice.follow(room, 1)
    assert bob.credential in [one.leaf_node.credential for one in alice.groups[room].members()]
    await alice.commit(room, [Remove(alice.leaf_of(room, bob))], alice.policy_without(room, bob))
    assert [type(event) for event in await bob.entries(room, 1)] == [ProposalEvent]


async def test_who_has_left_comes_back_from_outside_and_reads_from_there(
    alice: Phone, bob: Phone, room: RoomId
) -> None:
    await leave(bob, room)
    await alice.follow(room, 1)
    await alice.send(room, b"between")
    back = await bob.join_from_outside(room, resync=True)
    await alice.follow(room, 3)
    await alice.send(room, b"welcome back")

    assert await bob.follow(room, back.seq) == [b"welcome back"]
    reply = await bob.ask("read_topic", ReadTopic(TopicId(room), 0))
    assert reply.first == back.seq + 1
