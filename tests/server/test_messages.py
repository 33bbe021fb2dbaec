"""Sealed messages: taken once, from members, for the epoch that stands, stamped by the hub, and never plain text."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from heliograph.mls.errors import MLSError
from heliograph.mls.framing import ContentType, MLSMessage, PrivateMessage
from heliograph.mls.safe_aad import SafeAAD, SafeAADItem
from heliograph.server import franking_keys, messages
from heliograph.server.rooms import hub_public_key
from heliograph.wire.events import ErasedEvent, MessageEvent
from heliograph.wire.frank import Frank, FrankError, context_bytes, verify_frank, verify_mac
from heliograph.wire.ids import RoomId, group_id, room_id, room_topic, room_uri, user_uri
from heliograph.wire.problems import Problem
from heliograph.wire.room_policy import FRANK_AAD
from heliograph.wire.rooms import MAX_CIPHERTEXT_SIZE_BYTES, SubmitMessage
from tests.server.phones import Phone, frank_aad, link_phone, new_key, new_phone, refusal
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
    phone = await new_phone(w, "bob")
    await phone.publish(5)
    await phone.consent(alice)
    await alice.add(room, phone)
    await phone.accept_welcome()
    return phone


def sealed(room: RoomId, *, epoch: int = 0, aad: bytes = frank_aad(bytes(32)), **changes: Any) -> bytes:
    """Random bytes in the frame of a sealed message."""
    body = PrivateMessage(group_id(room), epoch, ContentType.APPLICATION, aad, bytes(28), secrets.token_bytes(300))
    return MLSMessage(replace(body, **changes)).encode()


def submission(room: RoomId, ciphertext: bytes, epoch: int = 0) -> SubmitMessage:
    return SubmitMessage(room, new_key(), epoch, ciphertext)


def tag_of(event: MessageEvent) -> bytes:
    body = MLSMessage.decode(event.ciphertext).body
    assert isinstance(body, PrivateMessage)
    return SafeAAD.decode(body.authenticated_data).find(FRANK_AAD) or b""


def context_of(sender: Phone, room: RoomId, event: MessageEvent, seq: int, frank: Frank) -> bytes:
    sender_uri = user_uri(sender.domain, sender.account)
    return context_bytes(sender_uri, room_uri(sender.domain, room), event.accepted_at_ms, seq, event.epoch, frank.kid)


# -- taking


async def test_a_message_reaches_the_other_members(w: World, alice: Phone, room: RoomId, bob: Phone) -> None:
    await alice.send(room, b"good morning")
    assert await bob.follow(room, 1) == [b"good morning"]


async def test_messages_are_numbered_without_a_hole(w: World, alice: Phone, room: RoomId, bob: Phone) -> None:
    requests = [phone.message(room) for phone in (alice, bob) for _ in range(20)]
    senders = [alice] * 20 + [bob] * 20
    answers = await asyncio.gather(
        *(phone.ask("submit_message", request) for phone, request in zip(senders, requests, strict=True))
    )
    assert sorted(answer.seq for answer in answers) == list(range(2, 42))


async def test_a_stranger_finds_no_room_to_write_to(w: World, alice: Phone, room: RoomId) -> None:
    carol = await new_phone(w, "carol")
    assert await refusal(carol.ask("submit_message", alice.message(room))) == "not-found"


async def test_there_is_no_writing_to_a_room_that_was_never_made(w: World, alice: Phone) -> None:
    nowhere = room_id(bytes(16))
    assert await refusal(alice.ask("submit_message", submission(nowhere, sealed(nowhere)))) == "not-found"


async def test_a_participants_device_that_has_not_joined_cannot_write(w: World, alice: Phone, room: RoomId) -> None:
    laptop = await link_phone(w, alice)
    assert await refusal(laptop.ask("submit_message", alice.message(room))) == "not-found"


async def test_a_removed_member_writes_no_more_from_the_removal_on(
    w: World, alice: Phone, room: RoomId, bob: Phone
) -> None:
    late = bob.message(room)
    await alice.remove(room, bob)
    assert await refusal(bob.ask("submit_message", late)) == "not-allowed"


# -- epochs


async def test_a_message_of_the_epoch_before_is_taken_when_the_commit_removed_nobody(
    w: World, alice: Phone, room: RoomId, bob: Phone
) -> None:
    late = bob.message(room, b"late")
    await alice.commit(room)
    assert (await bob.ask("submit_message", late)).seq == 3


async def test_a_message_of_the_epoch_before_is_refused_when_the_commit_removed_someone(
    w: World, alice: Phone, room: RoomId, bob: Phone
) -> None:
    late = alice.message(room)
    await alice.remove(room, bob)
    assert await refusal(alice.ask("submit_message", late)) == "epoch-too-old"


@pytest.mark.bad_input(70)
@pytest.mark.bad_input(79)
async def test_a_message_of_an_older_or_coming_epoch_is_refused_and_told_which_one_stands(
    w: World, alice: Phone, room: RoomId
) -> None:
    for _ in range(3):
        await alice.commit(room)
    for epoch, answer in ((0, "epoch-too-old"), (1, "epoch-too-old"), (4, "wrong-epoch"), (2**40, "wrong-epoch")):
        with pytest.raises(Problem, match=answer) as caught:
            await alice.ask("submit_message", submission(room, sealed(room, epoch=epoch), epoch))
        assert caught.value.body.epoch == 3


@pytest.mark.bad_input(70)
@pytest.mark.parametrize("epoch", [-1, 2**53, 2**64 - 1])
async def test_an_epoch_that_no_group_reaches_is_malformed(w: World, alice: Phone, room: RoomId, epoch: int) -> None:
    assert await refusal(alice.ask("submit_message", submission(room, sealed(room), epoch))) == "malformed"


async def test_the_request_may_not_say_another_epoch_than_the_message(w: World, alice: Phone, room: RoomId) -> None:
    request = submission(room, sealed(room, epoch=1), 0)
    assert await refusal(alice.ask("submit_message", request)) == "invalid-message"


# -- once


@pytest.mark.bad_input(58)
async def test_a_retry_gets_its_first_answer_and_is_one_entry(w: World, alice: Phone, room: RoomId) -> None:
    request = alice.message(room)
    first = await alice.ask("submit_message", request)
    assert await alice.ask("submit_message", request) == first
    assert len(await alice.entries(room)) == 1


@pytest.mark.bad_input(58)
async def test_the_same_message_many_times_at_once_is_taken_once(w: World, alice: Phone, room: RoomId) -> None:
    request = alice.message(room)
    answers = await asyncio.gather(*(alice.ask("submit_message", request) for _ in range(8)))
    assert {(answer.seq, answer.accepted_at_ms) for answer in answers} == {(1, w.clock())}
    assert len(await alice.entries(room)) == 1


@pytest.mark.bad_input(58)
async def test_two_devices_may_happen_to_use_the_same_key(w: World, alice: Phone, room: RoomId, bob: Phone) -> None:
    key = new_key()
    answers = await asyncio.gather(
        *(phone.ask("submit_message", phone.message(room, key=key)) for phone in (alice, bob))
    )
    assert sorted(answer.seq for answer in answers) == [2, 3]


@pytest.mark.bad_input(57)
async def test_a_key_that_stood_for_another_message_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    request = alice.message(room)
    await alice.ask("submit_message", request)
    other = alice.message(room, key=request.key)
    assert await refusal(alice.ask("submit_message", other)) == "key-reused"


@pytest.mark.bad_input(57)
async def test_a_key_that_stood_for_a_commit_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    pending = alice.build(room)
    request = alice.submission(room, pending)
    await alice.ask("submit_commit", request)
    alice.groups[room] = pending.group
    assert await refusal(alice.ask("submit_message", alice.message(room, key=request.key))) == "key-reused"


@pytest.mark.bad_input(57)
@pytest.mark.parametrize("key", [b"", bytes(15), bytes(65)])
async def test_a_key_of_another_length_is_malformed(w: World, alice: Phone, room: RoomId, key: bytes) -> None:
    assert await refusal(alice.ask("submit_message", alice.message(room, key=key))) == "malformed"


async def test_a_retry_after_its_sender_was_removed_gets_its_first_answer(
    w: World, alice: Phone, room: RoomId, bob: Phone
) -> None:
    request = bob.message(room)
    first = await bob.ask("submit_message", request)
    await alice.remove(room, bob)
    assert await bob.ask("submit_message", request) == first


async def test_a_retry_after_the_entry_is_gone_gets_its_place_and_a_stamp_that_holds(
    w: World, alice: Phone, room: RoomId
) -> None:
    request = alice.message(room)
    first = await alice.ask("submit_message", request)
    (event,) = await alice.entries(room)
    await w.context.database.write(lambda tx: messages.log.erase(tx, room_topic(room), 1, "delivered"))
    again = await alice.ask("submit_message", request)
    assert (again.seq, again.accepted_at_ms) == (first.seq, first.accepted_at_ms)
    context = context_of(alice, room, event, 1, again.frank)
    verify_frank(hub_public_key(w.context), tag_of(event), context, again.frank)
    assert [type(entry) for entry in await alice.entries(room)] == [ErasedEvent]


# -- the stamp


async def test_every_stamp_of_a_batch_holds_for_its_message_and_for_no_other(
    w: World, alice: Phone, room: RoomId
) -> None:
    await asyncio.gather(*(alice.ask("submit_message", alice.message(room)) for _ in range(9)))
    events = await alice.entries(room)
    public = hub_public_key(w.context)
    for seq, event in enumerate(events, start=1):
        verify_frank(public, tag_of(event), context_of(alice, room, event, seq, event.frank), event.frank)
        other = events[seq % len(events)]
        with pytest.raises(FrankError):
            verify_frank(public, tag_of(other), context_of(alice, room, event, seq, event.frank), event.frank)


async def test_the_sender_is_stamped_from_the_session(w: World, alice: Phone, room: RoomId, bob: Phone) -> None:
    answer = await bob.send(room)
    assert answer.frank is not None
    event = (await alice.entries(room))[-1]
    public, tag = hub_public_key(w.context), tag_of(event)
    verify_frank(public, tag, context_of(bob, room, event, answer.seq, answer.frank), answer.frank)
    with pytest.raises(FrankError):
        verify_frank(public, tag, context_of(alice, room, event, answer.seq, answer.frank), answer.frank)


async def test_the_hub_knows_its_own_mac_while_it_keeps_the_months_key(w: World, alice: Phone, room: RoomId) -> None:
    await alice.send(room)
    (event,) = await alice.entries(room)
    key = franking_keys.find_key(w.context.secrets, event.frank.kid)
    assert key is not None
    verify_mac(key, tag_of(event), context_of(alice, room, event, 1, event.frank), event.frank.mac)


async def test_nothing_that_is_stored_with_a_message_names_its_sender(w: World, alice: Phone, room: RoomId) -> None:
    await alice.send(room)
    for sql in ("SELECT * FROM entries WHERE topic = ?", "SELECT * FROM submissions WHERE room = ?"):
        rows = await w.context.database.read(lambda reader, sql=sql: reader.all(sql, room))
        stored = b"".join(value if isinstance(value, bytes) else str(value).encode() for value in rows[0])
        for name in (alice.account, alice.device, alice.account[1:], alice.device[1:]):
            assert name.encode() not in stored


# -- what is not a sealed message


@pytest.mark.bad_input(61)
@pytest.mark.bad_input(82)
@pytest.mark.parametrize(
    "ciphertext",
    [b"hello", json.dumps({"text": "hello"}).encode(), b"\x00" * 40, secrets.token_bytes(200)],
    ids=["text", "json", "zeros", "random"],
)
async def test_plain_bytes_are_refused(w: World, alice: Phone, room: RoomId, ciphertext: bytes) -> None:
    assert await refusal(alice.ask("submit_message", submission(room, ciphertext))) == "invalid-message"


@pytest.mark.bad_input(61)
async def test_an_empty_message_is_malformed(w: World, alice: Phone, room: RoomId) -> None:
    assert await refusal(alice.ask("submit_message", submission(room, b""))) == "malformed"


@pytest.mark.bad_input(68)
async def test_a_commit_is_not_sent_as_a_message(w: World, alice: Phone, room: RoomId) -> None:
    open_commit = alice.build(room).commit
    hidden_commit = sealed(room, content_type=ContentType.COMMIT)
    for ciphertext in (open_commit, hidden_commit):
        assert await refusal(alice.ask("submit_message", submission(room, ciphertext))) == "invalid-message"


@pytest.mark.bad_input(69)
async def test_a_message_of_another_group_is_refused(w: World, alice: Phone, room: RoomId) -> None:
    other = await alice.create_room()
    request = msgspec.structs.replace(alice.message(other), room=room)
    assert await refusal(alice.ask("submit_message", request)) == "invalid-message"


@pytest.mark.bad_input(81)
async def test_random_bytes_in_a_right_frame_are_taken_and_harm_nobody(
    w: World, alice: Phone, room: RoomId, bob: Phone
) -> None:
    await alice.ask("submit_message", submission(room, sealed(room, epoch=1), 1))
    await alice.send(room, b"after")
    events = await bob.entries(room, 1)
    assert [type(event) for event in events] == [MessageEvent, MessageEvent]
    with pytest.raises(MLSError):
        bob.groups[room].receive(events[0].ciphertext, now_s=bob.now_s())
    assert await bob.follow(room, 2) == [b"after"]


@pytest.mark.parametrize(
    "aad",
    [
        b"",
        frank_aad(bytes(31)),
        frank_aad(bytes(33)),
        frank_aad(bytes(32)) + b"\x00",
        SafeAAD((SafeAADItem(0x0021, bytes(32)),)).encode(),
        SafeAAD((SafeAADItem(0x0020, bytes(32)), SafeAADItem(0x0021, b"x"))).encode(),
        SafeAAD(()).encode(),
    ],
    ids=["none", "short", "long", "trailing", "another-item", "two-items", "empty"],
)
async def test_a_message_without_exactly_one_franking_tag_is_refused(
    w: World, alice: Phone, room: RoomId, aad: bytes
) -> None:
    assert await refusal(alice.ask("submit_message", submission(room, sealed(room, aad=aad)))) == "invalid-message"


@pytest.mark.bad_input(59)
async def test_a_message_may_be_as_large_as_the_limit_and_not_larger(w: World, alice: Phone, room: RoomId) -> None:
    def of_size(size: int) -> bytes:
        empty = len(sealed(room, ciphertext=bytes(20_000))) - 20_000
        return sealed(room, ciphertext=bytes(size - empty))

    for size in (MAX_CIPHERTEXT_SIZE_BYTES - 1, MAX_CIPHERTEXT_SIZE_BYTES):
        assert len(of_size(size)) == size
        await alice.ask("submit_message", submission(room, of_size(size)))
    too_large = submission(room, of_size(MAX_CIPHERTEXT_SIZE_BYTES + 1))
    assert await refusal(alice.ask("submit_message", too_large)) == "malformed"


@pytest.mark.bad_input(62)
@pytest.mark.bad_input(64)
@pytest.mark.bad_input(65)
@pytest.mark.bad_input(66)
def test_every_cut_trailing_byte_and_crooked_length_is_refused() -> None:
    room = room_id(bytes(range(16)))
    good = sealed(room)
    sender_data = len(good) - 300 - 2 - 28 - 1
    assert good[sender_data] == 28
    crooked = [
        good[:4] + b"\x40" + good[4:],
        good[:sender_data] + b"\x40\x1c" + good[sender_data + 1 :],
        good[:sender_data] + b"\xdc" + good[sender_data + 1 :],
        good[:sender_data] + b"\xbf\xff\xff\xff" + good[sender_data + 1 :],
        b"\x00\x02" + good[2:],
        b"\x00\x01\x00\x01" + good[4:],
        b"\x00\x01\xff\xff" + good[4:],
    ]
    assert messages.read_tag(room, 0, good) == bytes(32)
    for spoilt in (*(good[:size] for size in range(len(good))), good + b"\x00", *crooked):
        with pytest.raises(Problem, match="invalid-message"):
            messages.read_tag(room, 0, spoilt)


@pytest.mark.bad_input(63)
def test_every_flipped_byte_of_the_head_is_refused() -> None:
    room = room_id(bytes(range(16)))
    good = sealed(room)
    for at in range(len(good) - 300 - 2 - 28 - 1 - 32):
        with pytest.raises(Problem, match="invalid-message"):
            messages.read_tag(room, 0, good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :])
