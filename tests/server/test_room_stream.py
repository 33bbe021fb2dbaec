"""Rooms on the stream: sends by socket, delivery to members alone, and the end of it with a removal."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import pytest

from heliograph.server import log, rooms
from heliograph.server.db.database import Transaction
from heliograph.wire.events import (
    Accepted,
    CommitEvent,
    Ended,
    Gap,
    Head,
    MessageEvent,
    Ping,
    Pong,
    ProposalEvent,
    ReceivedEntries,
    Refused,
    Submit,
    Subscribe,
    Typing,
    Unsubscribe,
)
from heliograph.wire.ids import RoomId, TopicId
from tests.server.phones import Phone, joined_peer, new_phone
from tests.world import Stream, World, world


@pytest.fixture
async def w(tmp_path: Path) -> AsyncGenerator[World]:
    async with world(tmp_path) as running:
        yield running


@pytest.fixture
async def alice(w: World) -> Phone:
    return await new_phone(w, "alice")


@pytest.fixture
async def room(alice: Phone) -> RoomId:
    return await alice.create_room()


def submission(phone: Phone, room: RoomId, request: int, text: bytes = b"hello") -> Submit:
    message = phone.message(room, text)
    return Submit(request, room, message.key, message.epoch, message.ciphertext)


async def read_messages(stream: Stream, room: RoomId, count: int) -> list[tuple[int, bytes]]:
    """Read until `count` messages have come; return their numbers and ciphertexts."""
    found: list[tuple[int, bytes]] = []
    while len(found) < count:
        entries = await stream.until(ReceivedEntries, room)
        found += [(one.seq, one.event.ciphertext) for one in entries.items if isinstance(one.event, MessageEvent)]
    return found


async def test_a_message_sent_by_socket_is_acknowledged_and_reaches_every_member(
    w: World, alice: Phone, room: RoomId
) -> None:
    bob = await joined_peer(w, alice, room)
    async with w.stream(alice) as hers, w.stream(bob) as his:
        for stream in (hers, his):
            await stream.until(Head, room)
        frame = submission(alice, room, 7)
        await hers.send(frame)
        accepted = await hers.until(Accepted)
        assert (accepted.request, accepted.seq) == (7, 2)
        assert await read_messages(his, room, 1) == [(2, frame.ciphertext)]


async def test_messages_of_one_socket_keep_their_order_however_many_are_under_way(
    w: World, alice: Phone, room: RoomId
) -> None:
    async with w.stream(alice) as stream:
        await stream.until(Head, room)
        frames = [submission(alice, room, number) for number in range(200)]
        for frame in frames:
            await stream.send(frame)
        delivered = await read_messages(stream, room, 200)
        assert [ciphertext for _, ciphertext in delivered] == [frame.ciphertext for frame in frames]
        assert [seq for seq, _ in delivered] == list(range(1, 201))


async def test_the_same_key_twice_in_one_batch_is_one_message_with_one_answer(
    w: World, alice: Phone, room: RoomId
) -> None:
    async with w.stream(alice) as stream:
        await stream.until(Head, room)
        frame = submission(alice, room, 1)
        again = msgspec.structs.replace(frame, request=2)
        other = msgspec.structs.replace(submission(alice, room, 3), key=frame.key)
        for one in (frame, again, other):
            await stream.send(one)
        first, second = await stream.until(Accepted), await stream.until(Accepted)
        refused = await stream.until(Refused)
        assert (first.request, second.request) == (1, 2)
        assert (first.seq, first.frank) == (second.seq, second.frank)
        assert (refused.request, refused.problem.type) == (3, "key-reused")


async def test_a_refused_message_harms_no_neighbour_in_its_batch(w: World, alice: Phone, room: RoomId) -> None:
    mallory = await new_phone(w, "mallory")
    async with w.stream(alice) as hers, w.stream(mallory) as theirs:
        await hers.until(Head, room)
        good = [submission(alice, room, number) for number in range(20)]
        forged = [msgspec.structs.replace(one, key=secrets.token_bytes(16)) for one in good]

        async def send(stream: Stream, frames: list[Submit]) -> Counter[str]:
            for frame in frames:
                await stream.send(frame)
            answers: Counter[str] = Counter()
            while answers.total() < len(frames):
                frame = await stream.receive()
                if isinstance(frame, Accepted):
                    answers["accepted"] += 1
                elif isinstance(frame, Refused):
                    answers[frame.problem.type] += 1
            return answers

        answers = await asyncio.gather(send(hers, good), send(theirs, forged))
        assert answers == [Counter(accepted=20), Counter({"not-found": 20})]
        assert await w.context.database.read(lambda r: r.one("SELECT head FROM topics WHERE topic = ?", room)) == (20,)


async def test_a_removed_member_sees_the_commit_that_removed_it_and_then_the_end(
    w: World, alice: Phone, room: RoomId
) -> None:
    bob = await joined_peer(w, alice, room)
    async with w.stream(bob) as his:
        await his.until(Head, room)
        await alice.remove(room, bob)
        entries = await his.until(ReceivedEntries, room)
        assert isinstance(entries.items[-1].event, CommitEvent)
        ended = await his.until(Ended, room)
        assert ended.problem.type == "not-allowed"
        await alice.send(room)
        await his.send(Ping())
        assert isinstance(await his.receive(), Pong)
        await his.send(submission(alice, room, 1))
        assert (await his.until(Refused)).problem.type == "not-allowed"


async def test_a_removed_member_gets_nothing_of_what_was_said_while_it_was_being_told(
    w: World, alice: Phone, room: RoomId
) -> None:
    bob = await joined_peer(w, alice, room)
    async with w.stream(bob) as his:
        await his.until(Head, room)
        database = w.context.database
        busy = [asyncio.create_task(database.read(lambda _: time.sleep(0.5))) for _ in range(w.context.limits.readers)]
        await asyncio.sleep(0.1)

        def remove(tx: Transaction) -> None:
            seq = log.append(tx, TopicId(room), CommitEvent(1, b"commit", 0, bytes(32)))
            rooms.write_left(tx, room, bob.device, seq)

        await database.write(remove)
        for _ in range(3):
            await database.write(lambda tx: log.append(tx, TopicId(room), ProposalEvent(2, b"not for bob", 0)))
        await asyncio.gather(*busy)
        entries = await his.until(ReceivedEntries, room)
        assert [type(one.event) for one in entries.items] == [CommitEvent]
        assert isinstance(await his.receive(), Ended)


async def test_a_newcomer_reads_from_its_own_beginning(w: World, alice: Phone, room: RoomId) -> None:
    await alice.send(room)
    bob = await joined_peer(w, alice, room)
    await alice.send(room)
    async with w.stream(bob) as his:
        gap = await his.until(Gap, room)
        assert (gap.first, gap.last, gap.why) == (1, 2, "not-allowed")
        assert [seq for seq, _ in await read_messages(his, room, 1)] == [3]


async def test_a_stranger_cannot_follow_a_room(w: World, alice: Phone, room: RoomId) -> None:
    mallory = await new_phone(w, "mallory")
    async with w.stream(mallory) as stream:
        await stream.send(Subscribe(TopicId(room)))
        assert (await stream.until(Ended, room)).problem.type == "not-found"
        await alice.send(room)
        await stream.send(Typing(room, b"x"))
        assert (await stream.until(Refused)).problem.type == "not-found"


async def test_typing_reaches_the_other_members_and_is_kept_nowhere(w: World, alice: Phone, room: RoomId) -> None:
    bob = await joined_peer(w, alice, room)
    async with w.stream(alice) as hers, w.stream(bob) as his:
        for stream in (hers, his):
            await stream.until(Head, room)
        await hers.send(Typing(room, b"sealed"))
        assert (await his.until(Typing)).sealed == b"sealed"
        await hers.send(Ping())
        assert isinstance(await hers.receive(), Pong)
    assert len(await bob.entries(room)) == 0


async def test_a_topic_that_is_no_longer_wanted_is_no_longer_sent(w: World, alice: Phone, room: RoomId) -> None:
    async with w.stream(alice) as stream:
        await stream.until(Head, room)
        await stream.send(Unsubscribe(TopicId(room)))
        await stream.send(Ping())
        await stream.until(Pong)
        await alice.send(room)
        await stream.send(Ping())
        assert isinstance(await stream.receive(), Pong)
        await stream.send(Subscribe(TopicId(room), after=0))
        assert [seq for seq, _ in await read_messages(stream, room, 1)] == [1]
