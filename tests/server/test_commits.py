"""Commits: one an epoch, checked without the group's secrets, with all that follows from it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from heliograph.mls.framing import (
    MLSMessage,
)
from heliograph.mls.group_info import Welcome
from heliograph.mls.proposal import (
    Add,
    Remove,
)
from heliograph.server import commits
from heliograph.wire.accounts import Empty
from heliograph.wire.events import CommitEvent
from heliograph.wire.ids import RoomId
from heliograph.wire.problems import Problem
from heliograph.wire.room_policy import Role
from tests.server.phones import (
    Phone,
    caller_of,
    joined_peer,
    link_phone,
    new_phone,
    ready_peer,
    refusal,
    revoke_phone,
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


# -- what a commit does


async def test_a_commit_begins_the_next_epoch_and_is_an_entry_of_the_room(w: World, alice: Phone, room: RoomId) -> None:
    answer = await alice.commit(room)
    (event,) = await alice.entries(room)
    assert (answer.seq, event.epoch) == (1, 0)
    assert event.tree_hash == alice.groups[room].group_context.tree_hash


async def test_who_is_added_gets_a_welcome_of_its_own_and_can_join(w: World, alice: Phone, room: RoomId) -> None:
    bob, carol = await ready_peer(w, alice), await ready_peer(w, alice, "carol")
    await alice.add(room, bob, carol)
    (event,) = await bob.welcomes()
    body = MLSMessage.decode(event.welcome).body
    assert isinstance(body, Welcome)
    assert len(body.secrets) == 1
    assert (event.room, event.epoch, event.seq, event.kind) == (room, 1, 1, "group")
    await bob.accept_welcome()
    await carol.accept_welcome()
    assert bob.groups[room].epoch_authenticator == carol.groups[room].epoch_authenticator


async def test_who_is_added_reads_what_comes_after_the_commit_that_added_it(
    w: World, alice: Phone, room: RoomId
) -> None:
    await alice.send(room, b"before")
    bob = await joined_peer(w, alice, room)
    await alice.send(room, b"after")
    assert await bob.follow(room) == [b"after"]


async def test_who_is_removed_reads_up_to_the_commit_that_removed_it(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room)
    await alice.send(room, b"before")
    await alice.remove(room, bob)
    await alice.send(room, b"after")
    assert await bob.follow(room) == [b"before"]
    assert not bob.groups[room].is_active


async def test_who_comes_back_reads_from_there(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room)
    await alice.remove(room, bob)
    await alice.send(room, b"away")
    await alice.add(room, bob)
    await bob.accept_welcome()
    await alice.send(room, b"back")
    assert await bob.follow(room) == [b"back"]


async def test_a_removed_account_sees_the_room_no_more(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room)
    await alice.remove(room, bob)
    assert (await bob.ask("list_rooms", Empty())).rooms == []


# -- one commit an epoch


@pytest.mark.bad_input(71)
async def test_of_two_commits_for_one_epoch_at_the_same_instant_one_wins(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room)
    requests = [(phone, phone.submission(room, phone.build(room))) for phone in (alice, bob)]
    answers = await asyncio.gather(
        *(phone.ask("submit_commit", request) for phone, request in requests), return_exceptions=True
    )
    (loser,) = [answer for answer in answers if isinstance(answer, Problem)]
    assert (loser.slug, loser.body.epoch) == ("wrong-epoch", 2)
    assert sum(isinstance(event, CommitEvent) for event in await alice.entries(room)) == 2


@pytest.mark.bad_input(71)
async def test_of_many_commits_in_one_batch_one_wins(w: World, alice: Phone, room: RoomId) -> None:
    requests = [alice.submission(room, alice.build(room)) for _ in range(12)]
    answers = await asyncio.gather(
        *(alice.ask("submit_commit", request) for request in requests), return_exceptions=True
    )
    assert sorted(getattr(answer, "slug", "won") for answer in answers) == ["won"] + ["wrong-epoch"] * 11


async def test_the_losers_welcome_is_not_delivered(w: World, alice: Phone, room: RoomId) -> None:
    bob, carol = await joined_peer(w, alice, room), await ready_peer(w, alice, "carol")
    proposals, policy = alice.addition(room, await alice.claim(carol.account), carol.account)
    late = alice.submission(room, alice.build(room, proposals, policy))
    await bob.commit(room)
    assert await refusal(alice.ask("submit_commit", late)) == "wrong-epoch"
    assert await carol.welcomes() == []


@pytest.mark.bad_input(72)
async def test_a_retry_of_the_winner_gets_its_first_answer(w: World, alice: Phone, room: RoomId) -> None:
    pending = alice.build(room)
    request = alice.submission(room, pending)
    first = await alice.ask("submit_commit", request)
    alice.groups[room] = pending.group
    await alice.commit(room)
    assert await alice.ask("submit_commit", request) == first


@pytest.mark.bad_input(72)
async def test_a_retry_gets_its_first_answer_though_its_sender_has_been_removed(
    w: World, alice: Phone, room: RoomId
) -> None:
    bob = await joined_peer(w, alice, room)
    pending = bob.build(room)
    request = bob.submission(room, pending)
    first = await bob.ask("submit_commit", request)
    await alice.follow(room, 1)
    await alice.remove(room, bob)
    assert await bob.ask("submit_commit", request) == first


async def test_the_same_commit_many_times_at_once_is_taken_once(w: World, alice: Phone, room: RoomId) -> None:
    request = alice.submission(room, alice.build(room))
    answers = await asyncio.gather(*(alice.ask("submit_commit", request) for _ in range(6)))
    assert answers == [answers[0]] * 6
    assert len(await alice.entries(room)) == 1


@pytest.mark.bad_input(57)
async def test_a_key_that_stood_for_another_commit_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    request = alice.submission(room, alice.build(room))
    await alice.ask("submit_commit", request)
    other = alice.submission(room, alice.build(room), key=request.key)
    assert await refusal(alice.ask("submit_commit", other)) == "key-reused"


@pytest.mark.bad_input(70)
async def test_another_epoch_than_the_rooms_is_refused_and_told(w: World, alice: Phone, room: RoomId) -> None:
    await alice.commit(room)
    pending = alice.build(room)
    for epoch, answer in ((0, "wrong-epoch"), (2, "wrong-epoch"), (-1, "malformed"), (2**64 - 1, "malformed")):
        assert await refusal(alice.ask("submit_commit", alice.submission(room, pending, epoch=epoch))) == answer


@pytest.mark.bad_input(70)
async def test_a_commit_of_another_epoch_than_its_request_says_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    stale = alice.build(room)
    await alice.commit(room)
    assert await refusal(alice.ask("submit_commit", alice.submission(room, stale))) == "invalid-proposal"


# -- who commits


@pytest.mark.bad_input(80)
async def test_a_device_cannot_hand_in_another_devices_commit(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room)
    stolen = alice.submission(room, alice.build(room))
    assert await refusal(bob.ask("submit_commit", stolen)) == "not-allowed"


@pytest.mark.bad_input(69)
async def test_a_stranger_finds_no_room_to_commit_to(w: World, alice: Phone, room: RoomId) -> None:
    bob = await new_phone(w, "bob")
    stolen = alice.submission(room, alice.build(room))
    assert await refusal(bob.ask("submit_commit", stolen)) == "not-found"


@pytest.mark.bad_input(69)
async def test_a_commit_of_another_group_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    other = await alice.create_room()
    request = msgspec.structs.replace(alice.submission(other, alice.build(other)), room=room)
    assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"


@pytest.mark.bad_input(74)
async def test_a_removed_member_commits_no_more(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room)
    late = bob.build(room)
    await alice.remove(room, bob)
    assert await refusal(bob.ask("submit_commit", bob.submission(room, late))) == "not-found"


@pytest.mark.bad_input(74)
async def test_a_device_that_was_just_revoked_commits_no_more(w: World, alice: Phone, room: RoomId) -> None:
    laptop = await link_phone(w, alice)
    await laptop.publish(1)
    await alice.add(room, alice)
    await laptop.accept_welcome()
    caller, request = await caller_of(w, laptop), laptop.submission(room, laptop.build(room))
    await revoke_phone(w, alice, laptop)
    assert await refusal(laptop.ask("submit_commit", request)) == "not-logged-in"
    assert await refusal(commits.submit_commit(w.context, caller, request)) == "invalid-proposal"


# -- adding


@pytest.mark.bad_input(73)
async def test_a_commit_that_adds_comes_with_its_welcome(w: World, alice: Phone, room: RoomId) -> None:
    bob = await ready_peer(w, alice)
    proposals, policy = alice.addition(room, await alice.claim(bob.account), bob.account)
    pending = alice.build(room, proposals, policy)
    answer = await refusal(alice.ask("submit_commit", alice.submission(room, pending, welcome=None)))
    assert answer == "invalid-proposal"


@pytest.mark.bad_input(73)
async def test_a_welcome_without_an_add_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    bob = await ready_peer(w, alice)
    proposals, policy = alice.addition(room, await alice.claim(bob.account), bob.account)
    welcome = alice.build(room, proposals, policy).welcome
    request = alice.submission(room, alice.build(room), welcome=welcome)
    assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"


@pytest.mark.bad_input(73)
async def test_a_welcome_for_others_than_the_added_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    bob = await ready_peer(w, alice)
    proposals, policy = alice.addition(room, await alice.claim(bob.account), bob.account)
    pending = alice.build(room, proposals, policy)
    body = MLSMessage.decode(pending.welcome or b"").body
    assert isinstance(body, Welcome)
    stranger = replace(body.secrets[0], new_member=bytes(32))
    for spoilt in ((), (stranger,), (*body.secrets, stranger), body.secrets * 2):
        welcome = MLSMessage(replace(body, secrets=spoilt)).encode()
        request = alice.submission(room, pending, welcome=welcome)
        assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"


async def test_a_package_that_was_not_claimed_here_cannot_be_added(w: World, alice: Phone, room: RoomId) -> None:
    bob = await ready_peer(w, alice)
    private = bob.key_package().key_package
    proposals, policy = alice.addition(room, [private], bob.account)
    assert await refusal(alice.commit(room, proposals, policy)) == "invalid-proposal"


async def test_a_package_is_added_once(w: World, alice: Phone, room: RoomId) -> None:
    bob, other = await ready_peer(w, alice), await alice.create_room()
    packages = await alice.claim(bob.account)
    await alice.commit(room, *alice.addition(room, packages, bob.account))
    assert await refusal(alice.commit(other, *alice.addition(other, packages, bob.account))) == "invalid-proposal"


async def test_a_package_of_last_resort_may_be_added_again(w: World, alice: Phone, room: RoomId) -> None:
    bob, other = await new_phone(w, "bob"), await alice.create_room()
    await bob.publish(0, last_resort=True)
    await bob.consent(alice)
    await alice.add(room, bob)
    await alice.add(other, bob)
    assert len(await bob.welcomes()) == 2


async def test_a_device_that_its_account_has_dropped_cannot_be_added(w: World, alice: Phone, room: RoomId) -> None:
    bob = await new_phone(w, "bob")
    lost = await link_phone(w, bob)
    await lost.publish(1)
    await bob.consent(alice)
    packages = await alice.claim(bob.account)
    await revoke_phone(w, bob, lost)
    assert await refusal(alice.commit(room, *alice.addition(room, packages, bob.account))) == "invalid-proposal"


async def test_a_device_of_an_account_that_takes_no_part_cannot_be_added(w: World, alice: Phone, room: RoomId) -> None:
    bob = await ready_peer(w, alice)
    packages = await alice.claim(bob.account)
    assert await refusal(alice.commit(room, [Add(package) for package in packages])) == "invalid-proposal"


async def test_a_member_cannot_bring_people_in_and_an_admin_can(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room)
    carol = await joined_peer(w, alice, room, "carol", Role.ADMIN)
    dave = await ready_peer(w, carol, "dave")
    await bob.follow(room, 1)
    packages = await carol.claim(dave.account)
    assert await refusal(bob.commit(room, *bob.addition(room, packages, dave.account))) == "not-allowed"
    await carol.commit(room, *carol.addition(room, packages, dave.account))
    assert len(await dave.welcomes()) == 1


# -- removing


async def test_a_member_cannot_remove_the_device_of_another(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room)
    attempt = bob.commit(room, [Remove(bob.leaf_of(room, alice))])
    assert await refusal(attempt) == "not-allowed"


async def test_a_member_may_remove_a_device_that_its_account_has_dropped(w: World, alice: Phone, room: RoomId) -> None:
    laptop = await link_phone(w, alice)
    await laptop.publish(1)
    await alice.add(room, alice)
    bob = await joined_peer(w, alice, room)
    await revoke_phone(w, alice, laptop)
    answer = await bob.commit(room, [Remove(bob.leaf_of(room, laptop))])
    assert answer.seq == 3


async def test_an_account_may_remove_its_own_device(w: World, alice: Phone, room: RoomId) -> None:
    bob = await new_phone(w, "bob")
    laptop = await link_phone(w, bob)
    for phone in (bob, laptop):
        await phone.publish(1)
    await bob.consent(alice)
    await alice.add(room, bob)
    await bob.accept_welcome()
    await laptop.accept_welcome()
    await bob.commit(room, [Remove(bob.leaf_of(room, laptop))])
    assert await refusal(laptop.send(room)) == "not-allowed"


async def test_the_last_owner_cannot_go(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room, role=Role.ADMIN)
    attempt = bob.commit(room, [Remove(bob.leaf_of(room, alice))], bob.policy_without(room, alice))
    assert await refusal(attempt) == "not-allowed"


# -- from outside


async def test_a_participants_new_device_joins_from_outside(w: World, alice: Phone, room: RoomId) -> None:
    laptop = await link_phone(w, alice)
    await laptop.join_from_outside(room)
    await alice.follow(room)
    await alice.send(room, b"hello laptop")
    assert await laptop.follow(room, 1) == [b"hello laptop"]


async def test_a_device_that_lost_its_state_takes_its_own_place_again_and_misses_no_entry(
    w: World, alice: Phone, room: RoomId
) -> None:
    bob = await joined_peer(w, alice, room)
    await bob.join_from_outside(room, resync=True)
    assert [type(event) for event in await bob.entries(room)] == [CommitEvent]
    assert len(bob.groups[room].members()) == 2
    assert (await bob.send(room)).seq == 3


@pytest.mark.bad_input(75)
async def test_who_takes_no_part_gets_nothing_to_join_with_and_cannot_join(
    w: World, alice: Phone, room: RoomId
) -> None:
    laptop, bob = await link_phone(w, alice), await new_phone(w, "bob")
    pending = await laptop.build_from_outside(room)
    assert await refusal(bob.build_from_outside(room)) == "not-found"
    request = laptop.submission(room, pending, epoch=0)
    assert await refusal(bob.ask("submit_commit", request)) == "not-found"


@pytest.mark.bad_input(75)
async def test_a_device_of_another_participant_cannot_be_brought_in_from_outside(
    w: World, alice: Phone, room: RoomId
) -> None:
    bob, laptop = await joined_peer(w, alice, room), await link_phone(w, alice)
    pending = await laptop.build_from_outside(room)
    request = laptop.submission(room, pending, epoch=1)
    assert await refusal(bob.ask("submit_commit", request)) == "not-allowed"
