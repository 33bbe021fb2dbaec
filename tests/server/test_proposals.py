"""Proposals: kept for whoever commits them, each by a sender who could have committed it itself."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heliograph.mls.proposal import (
    Add,
    GroupContextExtensions,
    Remove,
)
from heliograph.server import commits
from heliograph.wire.accounts import Empty
from heliograph.wire.events import ProposalEvent
from heliograph.wire.ids import RoomId
from heliograph.wire.room_policy import Role
from heliograph.wire.rooms import SubmitProposal
from tests.server.phones import (
    Phone,
    joined_peer,
    link_phone,
    new_key,
    new_phone,
    policy_extensions,
    ready_peer,
    refusal,
)
from tests.world import World, generous_limits, world


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


async def test_a_proposal_is_an_entry_and_may_be_committed_by_reference(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room)
    laptop = await link_phone(w, bob)
    await laptop.publish(1)
    packages = await bob.claim(bob.account)
    await bob.propose(room, Add(next(one for one in packages if one.leaf_node.credential == laptop.credential)))
    assert isinstance((await alice.entries(room, 1))[0], ProposalEvent)
    await alice.follow(room, 1)
    await alice.commit(room)
    assert len(await laptop.welcomes()) == 1


async def test_two_proposals_at_once_are_both_taken(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room)
    carol = await joined_peer(w, alice, room, "carol")
    await bob.follow(room, 1)
    updates = []
    for phone in (alice, bob, carol):
        phone.groups[room], message = phone.groups[room].update_leaf(random=secrets.token_bytes, now_s=phone.now_s())
        updates.append(phone.ask("submit_proposal", SubmitProposal(room, new_key(), 2, message)))
    answers = await asyncio.gather(*updates)
    assert sorted(answer.seq for answer in answers) == [3, 4, 5]
    row = await w.context.database.read(lambda reader: reader.one("SELECT public_group FROM room_groups"))
    assert row is not None
    assert len(commits.PublicGroup.decode(row[0]).proposals) == 3


async def test_a_proposal_again_under_its_key_gets_its_first_answer(w: World, alice: Phone, room: RoomId) -> None:
    _, message = alice.groups[room].update_leaf(random=secrets.token_bytes, now_s=alice.now_s())
    request = SubmitProposal(room, new_key(), 0, message)
    first = await alice.ask("submit_proposal", request)
    assert await alice.ask("submit_proposal", request) == first
    again = SubmitProposal(room, new_key(), 0, message)
    assert await refusal(alice.ask("submit_proposal", again)) == "invalid-proposal"


@pytest.mark.bad_input(77)
async def test_proposals_that_nobody_commits_come_to_an_end(tmp_path: Path) -> None:
    async with world(tmp_path, limits=generous_limits(proposals_per_epoch=4)) as w:
        alice = await new_phone(w, "alice")
        room = await alice.create_room()

        async def propose() -> Any:
            _, message = alice.groups[room].update_leaf(random=secrets.token_bytes, now_s=alice.now_s())
            request = SubmitProposal(room, new_key(), alice.groups[room].epoch, message)
            return await alice.ask("submit_proposal", request)

        for _ in range(4):
            await propose()
        assert await refusal(propose()) == "not-allowed"
        await alice.commit(room)
        assert (await propose()).seq == 6


@pytest.mark.bad_input(80)
async def test_a_device_cannot_hand_in_another_devices_proposal(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room)
    _, message = alice.groups[room].update_leaf(random=secrets.token_bytes, now_s=alice.now_s())
    request = SubmitProposal(room, new_key(), 1, message)
    assert await refusal(bob.ask("submit_proposal", request)) == "not-allowed"


async def test_a_member_cannot_borrow_a_committers_role_by_a_proposal(w: World, alice: Phone, room: RoomId) -> None:
    bob, carol = await joined_peer(w, alice, room), await ready_peer(w, alice, "carol")
    await carol.consent(bob)
    group = bob.groups[room]
    promoted = replace(bob.policy(), participants={alice.account: Role.OWNER, bob.account: Role.OWNER})
    for proposal in (
        GroupContextExtensions(policy_extensions(group, promoted)),
        Remove(bob.leaf_of(room, alice)),
        Add((await bob.claim(carol.account))[0]),
    ):
        assert await refusal(bob.propose(room, proposal)) == "not-allowed"
        bob.groups[room] = group


async def test_a_proposed_package_must_have_been_claimed_here(w: World, alice: Phone, room: RoomId) -> None:
    bob = await ready_peer(w, alice)
    proposal = Add(bob.key_package().key_package)
    assert await refusal(alice.propose(room, proposal)) == "invalid-proposal"


async def test_who_leaves_proposes_its_own_removal(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room)
    await bob.propose(room, Remove(bob.groups[room].own_leaf_index))
    await alice.follow(room, 1)
    await alice.commit(room, policy=alice.policy_without(room, bob))
    assert (await bob.ask("list_rooms", Empty())).rooms == []
