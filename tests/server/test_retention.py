"""Retention: what all have, and what is too old, is gone; what someone still needs is not."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heliograph.mls.leaf_node import Lifetime
from heliograph.server import retention
from heliograph.wire.accounts import PublishKeyPackages
from heliograph.wire.events import CommitEvent, ErasedEvent, MessageEvent
from heliograph.wire.ids import RoomId, TopicId
from heliograph.wire.problems import Problem
from heliograph.wire.rooms import Acknowledge, GetTree, ReadTopic
from tests.server.phones import DAY_S, Phone, encoded, link_phone, new_phone, refusal, revoke_phone
from tests.world import World, generous_limits, world

DAY_MS = 86_400_000
HOUR_MS = 3_600_000


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    limits = generous_limits(session_idle_s=400 * DAY_S, session_lives_s=400 * DAY_S)
    async with world(tmp_path, limits=limits) as running:
        yield running


@pytest.fixture
async def alice(w: World) -> Phone:
    return await new_phone(w, "alice")


@pytest.fixture
async def room(alice: Phone) -> RoomId:
    return await alice.create_room()


@pytest.fixture
async def bob(w: World, alice: Phone, room: RoomId) -> Phone:
    phone = await new_phone(w, "bob")
    await phone.publish(5, last_resort=True)
    await phone.consent(alice)
    await alice.add(room, phone)
    await phone.accept_welcome()
    return phone


async def acknowledge(phone: Phone, topic: str, seq: int) -> None:
    await phone.ask("acknowledge", Acknowledge(TopicId(topic), seq))


async def first_kept(phone: Phone, topic: str) -> int:
    """The number of the oldest entry that is still there."""
    return (await phone.ask("read_topic", ReadTopic(TopicId(topic), 0, 500))).first


async def pass_days(w: World, days: int) -> None:
    """Let days pass, with the sweeps in them that a running server makes (here every six hours)."""
    for _ in range(days * 4):
        w.clock.advance_ms(6 * HOUR_MS)
        await retention.sweep(w.context)


# -- acknowledgement


async def test_an_acknowledgement_never_moves_back(w: World, alice: Phone, room: RoomId, bob: Phone) -> None:
    for _ in range(3):
        await alice.send(room)
    await acknowledge(bob, room, 4)
    await acknowledge(bob, room, 2)
    row = await w.context.database.read(
        lambda reader: reader.one("SELECT seq FROM acknowledgements WHERE topic = ? AND device = ?", room, bob.device)
    )
    assert row == (4,)


@pytest.mark.bad_input(32)
async def test_what_was_never_delivered_cannot_be_acknowledged(w: World, alice: Phone, room: RoomId) -> None:
    await alice.send(room)
    assert await refusal(acknowledge(alice, room, 2)) == "malformed"
    assert await refusal(acknowledge(alice, room, -1)) == "malformed"


async def test_only_a_reader_acknowledges(w: World, alice: Phone, room: RoomId) -> None:
    carol = await new_phone(w, "carol")
    await alice.send(room)
    assert await refusal(acknowledge(carol, room, 1)) == "not-found"
    assert await refusal(acknowledge(carol, alice.device, 0)) == "not-found"


# -- rooms


async def test_what_all_devices_have_is_gone_and_its_number_is_never_given_again(
    w: World, alice: Phone, room: RoomId, bob: Phone
) -> None:
    for _ in range(3):
        await alice.send(room)
    await acknowledge(alice, room, 4)
    await acknowledge(bob, room, 3)
    await retention.sweep(w.context)
    assert await first_kept(bob, room) == 4
    assert (await alice.send(room)).seq == 5


async def test_what_one_device_has_not_said_that_it_has_is_kept(
    w: World, alice: Phone, room: RoomId, bob: Phone
) -> None:
    await alice.send(room)
    await acknowledge(alice, room, 2)
    await retention.sweep(w.context)
    assert await first_kept(bob, room) == 2


async def test_a_device_that_its_account_has_dropped_holds_nothing_back(w: World, alice: Phone, room: RoomId) -> None:
    laptop = await link_phone(w, alice)
    await laptop.join_from_outside(room)
    await alice.follow(room)
    await alice.send(room)
    await acknowledge(alice, room, 2)
    await revoke_phone(w, alice, laptop)
    await retention.sweep(w.context)
    assert await first_kept(alice, room) == 3


async def test_a_device_that_was_removed_from_the_room_holds_nothing_back(
    w: World, alice: Phone, room: RoomId, bob: Phone
) -> None:
    await alice.remove(room, bob)
    await alice.send(room)
    await acknowledge(alice, room, 3)
    await retention.sweep(w.context)
    assert await first_kept(alice, room) == 4


async def test_messages_go_after_thirty_days_and_commits_stay(w: World, alice: Phone, room: RoomId, bob: Phone) -> None:
    await alice.send(room)
    await alice.commit(room)
    await pass_days(w, 29)
    assert [type(event) for event in await bob.entries(room)] == [MessageEvent, CommitEvent]
    await pass_days(w, 2)
    assert [type(event) for event in await bob.entries(room)] == [ErasedEvent, CommitEvent]
    assert (await bob.entries(room))[0].why == "expired"


async def test_commits_that_someone_never_fetched_go_after_ninety_days(
    w: World, alice: Phone, room: RoomId, bob: Phone
) -> None:
    await alice.commit(room)
    await pass_days(w, 89)
    assert await first_kept(bob, room) == 2
    await pass_days(w, 2)
    assert await first_kept(bob, room) == 3


async def test_newer_messages_are_kept_while_older_ones_go(w: World, alice: Phone, room: RoomId, bob: Phone) -> None:
    await alice.send(room, b"old")
    await pass_days(w, 20)
    await alice.send(room, b"new")
    await pass_days(w, 11)
    assert [type(event) for event in await bob.entries(room)] == [ErasedEvent, MessageEvent]


async def test_many_old_messages_go_in_small_acts(w: World, alice: Phone, room: RoomId, bob: Phone) -> None:
    for _ in range(300):
        await alice.send(room)
    await pass_days(w, 31)
    assert {type(event) for event in await bob.entries(room, 1)} == {ErasedEvent}


async def test_a_retry_finds_its_answer_however_old_it_is(w: World, alice: Phone, room: RoomId, bob: Phone) -> None:
    request = alice.message(room)
    first = await alice.ask("submit_message", request)
    await pass_days(w, 100)
    again = await alice.ask("submit_message", request)
    assert (again.seq, again.accepted_at_ms) == (first.seq, first.accepted_at_ms)


# -- mailboxes, Welcomes and trees


async def test_a_mailbox_lets_go_of_what_its_device_has(w: World, alice: Phone, room: RoomId, bob: Phone) -> None:
    head = len(await bob.entries(bob.device))
    await acknowledge(bob, bob.device, head)
    await retention.sweep(w.context)
    assert await bob.entries(bob.device) == []


async def test_a_welcome_that_nobody_fetched_goes_after_31_days(w: World, alice: Phone, room: RoomId) -> None:
    bob = await new_phone(w, "bob")
    await bob.publish(1)
    await bob.consent(alice)
    await alice.add(room, bob)
    await pass_days(w, 30)
    assert len(await bob.welcomes()) == 1
    await pass_days(w, 2)
    assert await bob.welcomes() == []


async def test_a_welcome_for_a_last_resort_package_lives_91_days(w: World, alice: Phone, room: RoomId) -> None:
    bob = await new_phone(w, "bob")
    await bob.publish(0, last_resort=True)
    await bob.consent(alice)
    await alice.add(room, bob)
    await pass_days(w, 89)
    assert len(await bob.welcomes()) == 1
    await pass_days(w, 3)
    assert await bob.welcomes() == []


async def test_a_tree_is_kept_as_long_as_a_welcome_needs_it(w: World, alice: Phone, room: RoomId) -> None:
    bob = await new_phone(w, "bob")
    await bob.publish(1)
    await bob.consent(alice)
    await alice.add(room, bob)
    (welcome,) = await bob.welcomes()
    await alice.commit(room)
    await pass_days(w, 5)
    assert (await bob.ask("get_tree", GetTree(room, welcome.tree_hash))).tree
    await acknowledge(bob, bob.device, len(await bob.entries(bob.device)))
    await pass_days(w, 1)
    assert await refusal(bob.ask("get_tree", GetTree(room, welcome.tree_hash))) == "not-found"


async def test_the_present_tree_is_always_there(w: World, alice: Phone, room: RoomId, bob: Phone) -> None:
    await alice.commit(room)
    await pass_days(w, 100)
    tree_hash = alice.groups[room].group_context.tree_hash
    assert (await alice.ask("get_tree", GetTree(room, tree_hash))).tree == alice.groups[room].ratchet_tree()


async def test_a_replaced_tree_goes_after_an_hour(w: World, alice: Phone, room: RoomId) -> None:
    old = alice.groups[room].group_context.tree_hash
    await alice.commit(room)
    await retention.sweep(w.context)
    assert (await alice.ask("get_tree", GetTree(room, old))).tree
    w.clock.advance_ms(2 * HOUR_MS)
    await retention.sweep(w.context)
    assert await refusal(alice.ask("get_tree", GetTree(room, old))) == "not-found"


async def test_packages_that_are_over_go_with_what_was_noted_of_them(w: World, alice: Phone) -> None:
    await alice.publish(2)
    await alice.claim(alice.account)
    await pass_days(w, 32)
    for sql in ("SELECT count(*) FROM key_packages", "SELECT count(*) FROM claims"):
        assert await w.context.database.read(lambda reader, sql=sql: reader.one(sql)) == (0,)


async def test_an_expired_package_cannot_come_back_when_its_note_is_gone(w: World, alice: Phone) -> None:
    bundle = alice.key_package(lifetime=Lifetime(alice.now_s(), alice.now_s() + DAY_S))
    await alice.ask("publish_key_packages", PublishKeyPackages((encoded(bundle),)))
    await pass_days(w, 3)
    with pytest.raises(Problem, match="invalid-key-package"):
        await alice.ask("publish_key_packages", PublishKeyPackages((encoded(bundle),)))


async def test_marks_do_not_pile_up(w: World, alice: Phone, room: RoomId, bob: Phone) -> None:
    for _ in range(6):
        seq = (await alice.send(room)).seq
        await acknowledge(alice, room, seq)
        await acknowledge(bob, room, seq)
        await pass_days(w, 1)
    rows = await w.context.database.read(
        lambda reader: reader.all("SELECT head FROM topic_marks WHERE topic = ?", room)
    )
    assert len(rows) <= 2


async def test_a_second_sweep_finds_nothing_to_do(w: World, alice: Phone, room: RoomId, bob: Phone) -> None:
    await alice.send(room)
    await pass_days(w, 31)
    before = await bob.entries(room)
    await retention.sweep(w.context)
    assert await bob.entries(room) == before
