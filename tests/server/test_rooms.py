"""Rooms: what a room may begin as, who sees it, and what is given to those who join from outside."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from heliograph.mls.credential import Credential
from heliograph.mls.framing import MLSMessage
from heliograph.mls.group_info import GroupInfo
from heliograph.mls.suite import HPKECiphertext
from heliograph.server import rooms
from heliograph.wire.accounts import Empty
from heliograph.wire.ids import AccountId, RoomId, room_id, room_uri
from heliograph.wire.problems import Problem
from heliograph.wire.room_policy import Role, RoomPolicy
from heliograph.wire.rooms import CreateRoom, GetGroupInfo, GetTree, RoomInfo, RoomRequest, Rooms
from tests.server.phones import SUITE, Phone, caller_of, link_phone, new_phone, ready_peer, refusal
from tests.world import World, generous_limits, world


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


@pytest.fixture
async def alice(w: World) -> Phone:
    return await new_phone(w, "alice")


def creation_with(phone: Phone, policy: RoomPolicy, **changes: Any) -> CreateRoom:
    """A creation whose group has this policy, and whose request then says something else."""
    room = room_id(secrets.token_bytes(16))
    group = phone.new_group(room, policy)
    request = CreateRoom(room, "direct" if policy.direct else "group", group.group_info(), group.ratchet_tree())
    return msgspec.structs.replace(request, **changes)


# -- creation


async def test_a_new_room_is_listed_for_its_creator(w: World, alice: Phone) -> None:
    room = await alice.create_room()
    assert await alice.ask("list_rooms", Empty()) == Rooms([RoomInfo(room, "group", 0, 0)])


async def test_the_same_creation_again_finds_the_room_that_it_made(w: World, alice: Phone) -> None:
    request = alice.creation()
    first, second = [await alice.ask("create_room", request) for _ in range(2)]
    assert first == second
    assert len((await alice.ask("list_rooms", Empty())).rooms) == 1


async def test_the_same_creation_many_times_at_once_makes_one_room(w: World, alice: Phone) -> None:
    request = alice.creation()
    answers = await asyncio.gather(*(alice.ask("create_room", request) for _ in range(8)))
    assert answers == [answers[0]] * 8


@pytest.mark.bad_input(69)
async def test_a_room_id_that_is_taken_is_refused(w: World, alice: Phone) -> None:
    bob = await new_phone(w, "bob")
    taken = await alice.create_room()
    group = bob.new_group(taken, bob.policy())
    request = CreateRoom(taken, "group", group.group_info(), group.ratchet_tree())
    assert await refusal(bob.ask("create_room", request)) == "room-exists"


@pytest.mark.bad_input(69)
async def test_a_group_whose_id_is_not_the_rooms_is_refused(w: World, alice: Phone) -> None:
    request = msgspec.structs.replace(alice.creation(), room=room_id(bytes(16)))
    assert await refusal(alice.ask("create_room", request)) == "invalid-proposal"


async def test_a_group_that_is_not_new_is_refused(w: World, alice: Phone) -> None:
    room = await alice.create_room()
    grown = alice.build(room).group
    request = msgspec.structs.replace(
        alice.creation(), room=room, group_info=grown.group_info(), tree=grown.ratchet_tree()
    )
    assert await refusal(alice.ask("create_room", request)) == "room-exists"
    other = alice.creation()
    pending = alice.build(RoomId(other.room))
    later = msgspec.structs.replace(other, group_info=pending.group_info, tree=pending.ratchet_tree)
    assert await refusal(alice.ask("create_room", later)) == "invalid-proposal"


async def test_a_group_of_someone_else_is_refused(w: World, alice: Phone) -> None:
    bob = await new_phone(w, "bob")
    assert await refusal(bob.ask("create_room", alice.creation())) == "invalid-proposal"


async def test_a_group_of_ones_own_other_device_is_refused(w: World, alice: Phone) -> None:
    laptop = await link_phone(w, alice)
    assert await refusal(laptop.ask("create_room", alice.creation())) == "invalid-proposal"


async def test_a_leaf_with_a_key_that_the_account_does_not_know_is_refused(w: World, alice: Phone) -> None:
    impostor = replace(alice, device_key=secrets.token_bytes(32), groups={})
    assert await refusal(alice.ask("create_room", impostor.creation())) == "invalid-proposal"


async def test_a_credential_that_is_no_device_uri_is_refused(w: World, alice: Phone) -> None:
    class Nameless(Phone):
        @property
        def credential(self) -> Credential:
            return Credential.basic(b"\xffalice")

    nameless = Nameless(**{name: getattr(alice, name) for name in Phone.__dataclass_fields__})
    assert await refusal(alice.ask("create_room", nameless.creation())) == "invalid-proposal"


async def test_a_creator_who_is_not_the_only_owner_is_refused(w: World, alice: Phone) -> None:
    bob = await new_phone(w, "bob")
    for policy in (
        alice.policy({bob.account: Role.MEMBER}),
        replace(alice.policy(), participants={alice.account: Role.ADMIN}),
        replace(alice.policy(), participants={bob.account: Role.OWNER}),
    ):
        assert await refusal(alice.ask("create_room", creation_with(alice, policy))) == "invalid-proposal"


async def test_another_franking_key_or_server_is_refused(w: World, alice: Phone) -> None:
    for policy in (
        replace(alice.policy(), franking_key=secrets.token_bytes(32)),
        replace(alice.policy(), domain="elsewhere"),
    ):
        assert await refusal(alice.ask("create_room", creation_with(alice, policy))) == "invalid-proposal"


async def test_a_group_without_a_policy_is_refused(w: World, alice: Phone) -> None:
    room = room_id(secrets.token_bytes(16))
    group = alice.new_group(room, alice.policy(), extensions=())
    request = CreateRoom(room, "group", group.group_info(), group.ratchet_tree())
    assert await refusal(alice.ask("create_room", request)) == "invalid-proposal"


async def test_a_policy_of_another_kind_than_the_room_is_refused(w: World, alice: Phone) -> None:
    request = creation_with(alice, alice.policy(direct=True), kind="group")
    assert await refusal(alice.ask("create_room", request)) == "invalid-proposal"


async def test_a_group_info_without_external_pub_is_refused(w: World, alice: Phone) -> None:
    request = alice.creation()
    info = MLSMessage.decode(request.group_info).body
    assert isinstance(info, GroupInfo)
    closed = MLSMessage(replace(info, extensions=()).sign(SUITE, alice.device_key)).encode()
    answer = await refusal(alice.ask("create_room", msgspec.structs.replace(request, group_info=closed)))
    assert answer == "invalid-proposal"


@pytest.mark.bad_input(62)
@pytest.mark.bad_input(63)
@pytest.mark.bad_input(64)
async def test_every_cut_flip_and_trailing_byte_of_a_group_info_is_refused(w: World, alice: Phone) -> None:
    request = alice.creation()
    caller = await caller_of(w, alice)

    def opened(**spoilt: bytes) -> object:
        return rooms._open_group(w.context, caller, msgspec.structs.replace(request, **spoilt))

    for name in ("group_info", "tree"):
        good: bytes = getattr(request, name)
        for spoilt in [*(good[:size] for size in range(len(good))), *_flips(good), good + b"\x00"]:
            with pytest.raises(Problem, match="invalid-proposal"):
                opened(**{name: spoilt})
    assert opened()


def _flips(good: bytes) -> list[bytes]:
    return [good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :] for at in range(len(good))]


@pytest.mark.bad_input(61)
@pytest.mark.parametrize("spoilt", [b"\x00", b"\x00\x01\x00\x04", secrets.token_bytes(400)])
async def test_what_is_no_group_info_is_refused(w: World, alice: Phone, spoilt: bytes) -> None:
    for name in ("group_info", "tree"):
        request = msgspec.structs.replace(alice.creation(), **{name: spoilt})
        assert await refusal(alice.ask("create_room", request)) == "invalid-proposal"


async def test_an_account_takes_part_in_a_bounded_number_of_rooms(tmp_path: Path) -> None:
    async with world(tmp_path, limits=generous_limits(rooms_per_account=2)) as w:
        alice = await new_phone(w, "alice")
        await alice.create_room()
        await alice.create_room()
        assert await refusal(alice.create_room()) == "not-allowed"


# -- direct rooms


async def test_two_people_have_one_direct_room_whoever_begins(w: World, alice: Phone) -> None:
    bob = await new_phone(w, "bob")
    await alice.create_room(kind="direct", peer=bob.account)
    assert await refusal(bob.create_room(kind="direct", peer=alice.account)) == "room-exists"
    assert await refusal(alice.create_room(kind="direct", peer=bob.account)) == "room-exists"


async def test_of_two_who_begin_a_direct_room_at_once_one_does(w: World, alice: Phone) -> None:
    bob = await new_phone(w, "bob")
    answers = await asyncio.gather(
        alice.create_room(kind="direct", peer=bob.account),
        bob.create_room(kind="direct", peer=alice.account),
        return_exceptions=True,
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["Problem", "str"]


async def test_a_direct_room_that_its_peer_was_not_added_to_gives_way_after_a_while(w: World, alice: Phone) -> None:
    bob = await ready_peer(w, alice)
    first = await alice.create_room(kind="direct", peer=bob.account)
    w.clock.advance_ms(w.context.limits.direct_room_waits_s * 1000)
    await bob.create_room(kind="direct", peer=alice.account)
    assert await refusal(alice.add(first, bob)) == "not-allowed"


async def test_a_direct_room_with_its_peer_in_it_never_gives_way(w: World, alice: Phone) -> None:
    bob = await ready_peer(w, alice)
    await alice.add(await alice.create_room(kind="direct", peer=bob.account), bob)
    w.clock.advance_ms(365 * 86_400_000)
    fresh = await link_phone(w, bob)
    assert await refusal(fresh.create_room(kind="direct", peer=alice.account)) == "room-exists"


async def test_a_direct_room_takes_nobody_but_its_peer(w: World, alice: Phone) -> None:
    bob, carol = await ready_peer(w, alice), await ready_peer(w, alice, "carol")
    room = await alice.create_room(kind="direct", peer=bob.account)
    assert await refusal(alice.add(room, carol)) == "not-allowed"
    await alice.add(room, bob)
    assert await refusal(alice.add(room, carol)) == "not-allowed"


async def test_a_direct_room_needs_one_other_person(w: World, alice: Phone) -> None:
    assert await refusal(alice.create_room(kind="direct")) == "malformed"
    assert await refusal(alice.create_room(kind="direct", peer=alice.account)) == "malformed"
    assert await refusal(alice.create_room(kind="group", peer=alice.account)) == "malformed"


# -- reading


async def test_to_a_stranger_a_room_does_not_exist(w: World, alice: Phone) -> None:
    room, bob = await alice.create_room(), await new_phone(w, "bob")
    tree_hash = alice.groups[room].group_context.tree_hash
    _, public = SUITE.derive_key_pair(secrets.token_bytes(32))
    for operation, request in (
        ("get_room", RoomRequest(room)),
        ("get_group_info", GetGroupInfo(room, public)),
        ("get_tree", GetTree(room, tree_hash)),
    ):
        assert await refusal(bob.ask(operation, request)) == "not-found"
    assert await refusal(bob.entries(room)) == "not-found"
    assert await bob.ask("list_rooms", Empty()) == Rooms([])


async def test_all_devices_of_a_participant_see_the_room_and_only_those_in_the_group_read_it(
    w: World, alice: Phone
) -> None:
    room, laptop = await alice.create_room(), await link_phone(w, alice)
    assert (await laptop.ask("get_room", RoomRequest(room))).room == room
    assert await refusal(laptop.entries(room)) == "not-found"


async def test_the_group_info_is_sealed_to_the_key_of_who_asks(w: World, alice: Phone) -> None:
    room = await alice.create_room()
    private, public = SUITE.derive_key_pair(secrets.token_bytes(32))
    sealed = await alice.ask("get_group_info", GetGroupInfo(room, public))
    opened = SUITE.decrypt_with_label(
        private,
        "HG1 GroupInfo",
        room_uri(alice.domain, room).encode(),
        HPKECiphertext(sealed.kem_output, sealed.ciphertext),
    )
    assert isinstance(MLSMessage.decode(opened).body, GroupInfo)
    assert (sealed.epoch, sealed.tree_hash) == (0, alice.groups[room].group_context.tree_hash)


@pytest.mark.parametrize("public_key", [bytes(32), b"\x01" + bytes(31)])
async def test_a_key_that_hides_nothing_gets_no_group_info(w: World, alice: Phone, public_key: bytes) -> None:
    room = await alice.create_room()
    assert await refusal(alice.ask("get_group_info", GetGroupInfo(room, public_key))) == "malformed"


async def test_a_tree_is_given_by_its_hash_and_no_other(w: World, alice: Phone) -> None:
    room = await alice.create_room()
    group = alice.groups[room]
    assert (await alice.ask("get_tree", GetTree(room, group.group_context.tree_hash))).tree == group.ratchet_tree()
    assert await refusal(alice.ask("get_tree", GetTree(room, bytes(32)))) == "not-found"


async def test_a_room_that_was_never_made_is_not_found(w: World, alice: Phone) -> None:
    assert await refusal(alice.ask("get_room", RoomRequest(room_id(bytes(16))))) == "not-found"


async def test_companions_are_the_devices_of_those_in_shared_rooms(w: World, alice: Phone) -> None:
    bob, carol = await ready_peer(w, alice), await new_phone(w, "carol")
    room = await alice.create_room()
    await alice.add(room, bob)

    def companions(account: AccountId) -> Any:
        return w.context.database.read(lambda reader: rooms.companion_devices(reader, account))

    assert sorted(await companions(bob.account)) == sorted((alice.device, bob.device))
    assert await companions(carol.account) == []
