"""Commits and proposals: one commit an epoch, checked without the group's secrets, with all that follows from it."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from heliograph.mls.commit import Commit
from heliograph.mls.extension import Extension, ExternalPub
from heliograph.mls.framing import (
    ContentType,
    FramedContent,
    MLSMessage,
    PrivateMessage,
    PublicMessage,
    Sender,
    WireFormat,
)
from heliograph.mls.group_info import GroupInfo, Welcome
from heliograph.mls.proposal import (
    Add,
    GroupContextExtensions,
    PreSharedKeyID,
    PreSharedKeyProposal,
    Proposal,
    ProposalOrRef,
    PSKType,
    Remove,
    ResumptionPSKUsage,
)
from heliograph.mls.tree_math import LeafIndex
from heliograph.server import commits
from heliograph.wire.accounts import Empty
from heliograph.wire.events import CommitEvent, ProposalEvent
from heliograph.wire.ids import RoomId
from heliograph.wire.problems import Problem
from heliograph.wire.room_policy import Role, RoomPolicy
from heliograph.wire.rooms import MAX_HANDSHAKE_SIZE_BYTES, SubmitCommit, SubmitProposal
from tests.server.phones import (
    SUITE,
    Phone,
    link_phone,
    new_key,
    new_phone,
    policy_extensions,
    refusal,
    revoke_phone,
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


async def ready_peer(w: World, host: Phone, handle: str = "bob") -> Phone:
    phone = await new_phone(w, handle)
    await phone.publish(5)
    await phone.consent(host)
    return phone


async def joined_peer(w: World, host: Phone, room: RoomId, handle: str = "bob", role: Role = Role.MEMBER) -> Phone:
    """Someone whom `host` has added and who has joined by the Welcome."""
    phone = await ready_peer(w, host, handle)
    await host.add(room, phone, role=role)
    await phone.accept_welcome()
    return phone


def leaf_of(phone: Phone, room: RoomId, other: Phone) -> LeafIndex:
    members = phone.groups[room].members()
    return next(one.leaf_index for one in members if one.leaf_node.credential == other.credential)


def without(phone: Phone, room: RoomId, *others: Phone) -> RoomPolicy:
    """The room's policy without these accounts."""
    before = RoomPolicy.from_extensions(phone.groups[room].group_context.extensions)
    gone = {other.account for other in others}
    kept = {account: role for account, role in before.participants.items() if account not in gone}
    return replace(before, participants=kept)


async def remove(phone: Phone, room: RoomId, *others: Phone) -> Any:
    proposals = [Remove(leaf_of(phone, room, other)) for other in others]
    return await phone.commit(room, proposals, without(phone, room, *others))


def forged_commit(phone: Phone, room: RoomId, proposals: tuple[ProposalOrRef, ...]) -> bytes:
    """A signed commit that nobody's library would build."""
    group = phone.groups[room]
    content = FramedContent(
        group.group_id, group.epoch, Sender.member(group.own_leaf_index), b"", Commit(proposals)
    )
    signed = content.sign(
        SUITE, phone.device_key, WireFormat.PUBLIC_MESSAGE, group.group_context, confirmation_tag=bytes(32)
    )
    return MLSMessage(PublicMessage(signed.content, signed.auth, bytes(32))).encode()


async def caller_of(w: World, phone: Phone) -> Any:
    await phone.ask("list_rooms", Empty())
    return next(one.caller for one in w.context.sessions.each() if one.caller.device == phone.device)


async def planner(w: World, phone: Phone, request: SubmitCommit) -> Callable[..., Any]:
    """What the server does with a commit before it writes, again and again on the same room."""
    caller = await caller_of(w, phone)
    base = await w.context.database.read(lambda reader: commits._base(reader, caller, request, b"", b""))
    assert isinstance(base, commits._Base)
    return lambda **changes: commits._plan(w.context, caller, msgspec.structs.replace(request, **changes), base)


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
    await remove(alice, room, bob)
    await alice.send(room, b"after")
    assert await bob.follow(room) == [b"before"]
    assert not bob.groups[room].is_active


async def test_who_comes_back_reads_from_there(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room)
    await remove(alice, room, bob)
    await alice.send(room, b"away")
    await alice.add(room, bob)
    await bob.accept_welcome()
    await alice.send(room, b"back")
    assert await bob.follow(room) == [b"back"]


async def test_a_removed_account_sees_the_room_no_more(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room)
    await remove(alice, room, bob)
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
    await remove(alice, room, bob)
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
async def test_a_commit_of_another_epoch_than_its_request_says_is_refused(
    w: World, alice: Phone, room: RoomId
) -> None:
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
    await remove(alice, room, bob)
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


async def test_a_device_of_an_account_that_takes_no_part_cannot_be_added(
    w: World, alice: Phone, room: RoomId
) -> None:
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
    attempt = bob.commit(room, [Remove(leaf_of(bob, room, alice))])
    assert await refusal(attempt) == "not-allowed"


async def test_a_member_may_remove_a_device_that_its_account_has_dropped(w: World, alice: Phone, room: RoomId) -> None:
    laptop = await link_phone(w, alice)
    await laptop.publish(1)
    await alice.add(room, alice)
    bob = await joined_peer(w, alice, room)
    await revoke_phone(w, alice, laptop)
    answer = await bob.commit(room, [Remove(leaf_of(bob, room, laptop))])
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
    await bob.commit(room, [Remove(leaf_of(bob, room, laptop))])
    assert await refusal(laptop.send(room)) == "not-allowed"


async def test_the_last_owner_cannot_go(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room, role=Role.ADMIN)
    attempt = bob.commit(room, [Remove(leaf_of(bob, room, alice))], without(bob, room, alice))
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


@pytest.mark.bad_input(75)
async def test_a_resumption_psk_of_a_strange_group_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    psk = PreSharedKeyID(
        PSKType.RESUMPTION,
        secrets.token_bytes(32),
        usage=ResumptionPSKUsage.APPLICATION,
        psk_group_id=secrets.token_bytes(16),
        psk_epoch=3,
    )
    message = forged_commit(alice, room, (ProposalOrRef(proposal=PreSharedKeyProposal(psk)),))
    request = alice.submission(room, alice.build(room), commit=message)
    assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"


# -- GroupInfo and tree


@pytest.mark.bad_input(78)
async def test_a_stale_group_info_does_not_rewind_the_room(w: World, alice: Phone, room: RoomId) -> None:
    old = alice.groups[room]
    await alice.commit(room)
    request = alice.submission(room, alice.build(room), group_info=old.group_info())
    assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"


async def test_a_group_info_that_another_member_signed_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room)
    pending = alice.build(room)
    body = MLSMessage.decode(pending.group_info).body
    assert isinstance(body, GroupInfo)
    other = replace(body, signer=bob.groups[room].own_leaf_index).sign(SUITE, bob.device_key)
    request = alice.submission(room, pending, group_info=MLSMessage(other).encode())
    assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"


async def test_a_group_info_that_shuts_the_door_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    pending = alice.build(room)
    body = MLSMessage.decode(pending.group_info).body
    assert isinstance(body, GroupInfo)
    low_order = (ExternalPub(bytes(31)).to_extension(),)
    for extensions in ((), low_order):
        shut = MLSMessage(replace(body, extensions=extensions).sign(SUITE, alice.device_key)).encode()
        request = alice.submission(room, pending, group_info=shut)
        assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"


async def test_another_tree_than_the_commit_leads_to_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    pending = alice.build(room)
    for tree in (alice.groups[room].ratchet_tree(), pending.ratchet_tree + b"\x00", pending.ratchet_tree[:-1]):
        request = alice.submission(room, pending, tree=tree)
        assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"


# -- spoilt bytes


@pytest.mark.bad_input(62)
@pytest.mark.bad_input(63)
@pytest.mark.bad_input(64)
async def test_every_cut_flip_and_trailing_byte_of_a_commit_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    """All but the membership tag, which only members can check."""
    bob = await ready_peer(w, alice)
    proposals, policy = alice.addition(room, await alice.claim(bob.account), bob.account)
    request = alice.submission(room, alice.build(room, proposals, policy))
    plan = await planner(w, alice, request)
    assert plan()
    cuts = [request.commit[:size] for size in range(1, len(request.commit))]
    flips = [_flipped(request.commit, at) for at in range(len(request.commit) - SUITE.hash_length)]
    for spoilt in (*cuts, *flips, request.commit + b"\x00"):
        with pytest.raises(Problem, match=r"invalid-proposal|not-allowed"):
            plan(commit=spoilt)
    for at in range(len(request.group_info)):
        with pytest.raises(Problem, match="invalid-proposal"):
            plan(group_info=_flipped(request.group_info, at))


def _flipped(message: bytes, at: int) -> bytes:
    return message[:at] + bytes((message[at] ^ 1,)) + message[at + 1 :]


@pytest.mark.bad_input(65)
@pytest.mark.bad_input(66)
@pytest.mark.parametrize(
    ("at", "instead"),
    [(0, b"\x00\x02"), (2, b"\x00\x09"), (2, b"\x00\x02"), (4, b"\x40\x10"), (4, b"\xd0"), (4, b"\x80\xff\xff\xff")],
    ids=["version-2", "unknown-format", "other-format", "long-varint", "prefix-3", "past-the-end"],
)
async def test_a_malformed_head_is_refused(w: World, alice: Phone, room: RoomId, at: int, instead: bytes) -> None:
    pending = alice.build(room)
    replaced = 1 if at == 4 else len(instead)
    spoilt = pending.commit[:at] + instead + pending.commit[at + replaced :]
    assert spoilt != pending.commit
    answer = await refusal(alice.ask("submit_commit", alice.submission(room, pending, commit=spoilt)))
    assert answer == "invalid-proposal"


@pytest.mark.bad_input(67)
async def test_extensions_in_extensions_are_bytes_and_cost_nothing(w: World, alice: Phone, room: RoomId) -> None:
    data = b""
    for _ in range(10_000):
        data = Extension(0x0A0A, data[:200_000]).encode()
    deep = GroupContextExtensions((Extension(0x0A0A, data),))
    message = forged_commit(alice, room, (ProposalOrRef(proposal=deep),))
    request = alice.submission(room, alice.build(room), commit=message)
    begun = time.perf_counter()
    assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"
    assert time.perf_counter() - begun < 2


@pytest.mark.bad_input(68)
async def test_a_handshake_that_hides_from_the_policy_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    group = alice.groups[room]
    hidden = PrivateMessage(group.group_id, 0, ContentType.COMMIT, b"", bytes(32), secrets.token_bytes(500))
    message = MLSMessage(hidden).encode()
    request = alice.submission(room, alice.build(room), commit=message)
    assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"
    proposal = SubmitProposal(room, new_key(), 0, message)
    assert await refusal(alice.ask("submit_proposal", proposal)) == "invalid-proposal"


@pytest.mark.bad_input(76)
async def test_a_commit_of_50_kib_is_taken_and_one_of_5_mib_is_not(w: World, alice: Phone, room: RoomId) -> None:
    group = alice.groups[room]
    pending = group.commit(
        random=secrets.token_bytes, now_s=alice.now_s(), authenticated_data=secrets.token_bytes(50 * 1024)
    )
    large = alice.submission(room, pending, commit=bytes(5 * 1024 * 1024))
    assert await refusal(alice.ask("submit_commit", large)) == "malformed"
    assert (await alice.ask("submit_commit", alice.submission(room, pending))).seq == 1


@pytest.mark.bad_input(76)
async def test_ten_thousand_proposals_are_refused_quickly(w: World, alice: Phone, room: RoomId) -> None:
    many: tuple[Proposal, ...] = tuple(Remove(LeafIndex(number)) for number in range(10_000))
    message = forged_commit(alice, room, tuple(ProposalOrRef(proposal=one) for one in many))
    request = alice.submission(room, alice.build(room), commit=message)
    begun = time.perf_counter()
    assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"
    assert time.perf_counter() - begun < 2


@pytest.mark.bad_input(76)
async def test_a_tree_of_ten_thousand_leaves_is_refused_quickly(w: World, alice: Phone, room: RoomId) -> None:
    request = alice.submission(room, alice.build(room), tree=bytes(MAX_HANDSHAKE_SIZE_BYTES))
    creation = msgspec.structs.replace(alice.creation(), tree=b"\x80\x0f\xff\xfc" + bytes(0xFFFFC))
    begun = time.perf_counter()
    assert await refusal(alice.ask("submit_commit", request)) == "invalid-proposal"
    assert await refusal(alice.ask("create_room", creation)) == "invalid-proposal"
    assert time.perf_counter() - begun < 2


# -- proposals


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
        phone.groups[room], message = phone.groups[room].update_leaf(
            random=secrets.token_bytes, now_s=phone.now_s()
        )
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
        Remove(leaf_of(bob, room, alice)),
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
    await alice.commit(room, policy=without(alice, room, bob))
    assert (await bob.ask("list_rooms", Empty())).rooms == []
