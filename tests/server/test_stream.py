"""The stream: every entry once and in order, from any cursor, and an end within a second when access ends."""

import asyncio
import time
from pathlib import Path

import pytest

from heliograph.server import log
from heliograph.server.db.database import Transaction
from heliograph.wire.accounts import Empty
from heliograph.wire.events import (
    Ack,
    ErasedEvent,
    Gap,
    Head,
    OutcomeEvent,
    ReadEntry,
    ReceivedEntries,
    TopicEntries,
)
from heliograph.wire.ids import TopicId
from heliograph.wire.problems import Problem
from heliograph.wire.rooms import Acknowledge, ReadTopic
from tests.server.raw_socket import greeted
from tests.world import Person, Stream, World, generous_limits, world


def mailbox(person: Person) -> TopicId:
    return TopicId(person.device)


async def tell(w: World, person: Person, *texts: str) -> None:
    """Put entries into a mailbox, each in a transaction of its own."""
    for text in texts:
        event = OutcomeEvent("rp" + "a" * 26, text, w.clock())
        await w.context.database.write(lambda tx, event=event: log.append(tx, mailbox(person), event))


def texts_of(items: list[ReadEntry]) -> list[str]:
    return [one.event.outcome for one in items if isinstance(one.event, OutcomeEvent)]


async def read_texts(stream: Stream, count: int) -> tuple[list[int], list[str]]:
    """Read until `count` entries have come; return their numbers and texts."""
    numbers: list[int] = []
    texts: list[str] = []
    while len(numbers) < count:
        entries = await stream.until(ReceivedEntries)
        numbers += [one.seq for one in entries.items]
        texts += texts_of(entries.items)
    return numbers, texts


async def test_backlog_then_live_entries_come_in_order_without_a_hole(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        await tell(w, alice, *(f"old {n}" for n in range(100)))
        async with w.stream(alice) as stream:
            telling = asyncio.create_task(tell(w, alice, *(f"new {n}" for n in range(100))))
            numbers, texts = await read_texts(stream, 200)
            await telling
            assert numbers == list(range(1, 201))
            assert texts == [f"old {n}" for n in range(100)] + [f"new {n}" for n in range(100)]


async def test_a_stream_resumes_after_its_cursor(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        await tell(w, alice, "one", "two", "three")
        async with w.stream(alice, {mailbox(alice): 2}) as stream:
            assert await read_texts(stream, 1) == ([3], ["three"])
            assert (await stream.until(Head)).seq == 3


async def test_what_was_missed_while_the_server_was_down_is_there_when_it_is_back(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        await tell(w, alice, "one")
        incarnation = w.context.incarnation
    async with world(tmp_path) as w:
        await tell(w, alice, "two")
        await w.login(alice)
        assert w.context.incarnation == incarnation
        async with w.stream(alice, {mailbox(alice): 1}, incarnation) as stream:
            assert await read_texts(stream, 1) == ([2], ["two"])


async def test_an_expired_beginning_is_said_as_a_gap(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        await tell(w, alice, *"abcde")
        await w.context.database.write(lambda tx: log.advance_floor(tx, mailbox(alice), 3))
        async with w.stream(alice, {mailbox(alice): 1}) as stream:
            gap = await stream.until(Gap)
            assert (gap.first, gap.last, gap.why) == (2, 3, "expired")
            assert await read_texts(stream, 2) == ([4, 5], ["d", "e"])


async def test_an_erased_entry_keeps_its_number(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        await tell(w, alice, "a", "b", "c")
        await w.context.database.write(lambda tx: log.erase(tx, mailbox(alice), 2, "removed"))
        async with w.stream(alice) as stream:
            entries = await stream.until(ReceivedEntries)
            assert [one.seq for one in entries.items] == [1, 2, 3]
            assert entries.items[1].event == ErasedEvent("removed")


async def test_a_flipped_bit_costs_one_entry_and_not_the_topic(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        await tell(w, alice, "a", "b", "c")

        def flip(tx: Transaction) -> None:
            row = tx.one("SELECT body FROM entries WHERE topic = ? AND seq = 2", mailbox(alice))
            assert row is not None
            body = bytes((row[0][0] ^ 1,)) + row[0][1:]
            tx.run("UPDATE entries SET body = ? WHERE topic = ? AND seq = 2", body, mailbox(alice))

        await w.context.database.write(flip)
        async with w.stream(alice) as stream:
            entries = await stream.until(ReceivedEntries)
            assert [type(one.event) for one in entries.items] == [OutcomeEvent, ErasedEvent, OutcomeEvent]


async def test_a_large_entry_comes_alone_and_the_rest_follows(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        await tell(w, alice, "small", "x" * 200_000, "last")
        async with w.stream(alice) as stream:
            numbers, texts = await read_texts(stream, 3)
            assert numbers == [1, 2, 3]
            assert [len(text) for text in texts] == [5, 200_000, 4]


async def test_all_sockets_of_a_device_get_every_entry(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        async with w.stream(alice) as one, w.stream(alice) as other:
            for stream in (one, other):
                await stream.until(Head)
            await tell(w, alice, "x", "y")
            assert await read_texts(one, 2) == await read_texts(other, 2) == ([1, 2], ["x", "y"])


@pytest.mark.bad_input(25)
async def test_a_peer_that_never_reads_holds_one_bounded_buffer_and_is_cut(tmp_path: Path) -> None:
    limits = generous_limits(send_buffer_soft_bytes=64 * 1024, stalled_for_s=1)
    async with world(tmp_path, limits=limits) as w:
        alice = await w.register("alice")
        async with w.stream(alice) as reader, greeted(w, alice) as deaf:
            deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
            texts = [f"{n} " + "x" * 60_000 for n in range(200)]
            telling = asyncio.create_task(tell(w, alice, *texts))
            assert (await read_texts(reader, 200))[1] == texts
            await telling
            async with asyncio.timeout(5):
                while len(w.server.streams.connections) > 1:
                    await asyncio.sleep(0.05)


async def test_a_slow_reader_misses_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, limits=generous_limits(send_buffer_soft_bytes=64 * 1024)) as w:
        alice = await w.register("alice")
        async with w.stream(alice) as stream:
            await tell(w, alice, *(f"{n} " + "x" * 40_000 for n in range(100)))
            await asyncio.sleep(0.2)
            numbers, _ = await read_texts(stream, 100)
            assert numbers == list(range(1, 101))


async def test_logging_out_ends_the_sockets_of_that_session_within_a_second(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        async with w.stream(alice) as stream:
            started = time.monotonic()
            await w.call("end_session", Empty(), alice)
            assert await stream.ending() == 4401
            assert time.monotonic() - started < 1


async def test_a_removed_device_loses_token_socket_and_mailbox_within_a_second(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        phone = await w.add_device(alice)
        unused_ticket = await w.ticket(phone)
        async with w.stream(phone) as stream, w.stream(alice) as other:
            started = time.monotonic()
            await w.remove_device(alice, phone.device)
            assert await stream.ending() == 4401
            assert time.monotonic() - started < 1
            await other.until(ReceivedEntries)
        with pytest.raises(Problem, match="not-logged-in"):
            await w.call("list_rooms", Empty(), phone)
        with pytest.raises(Problem, match="login-failed"):
            await w.open_session(phone)
        with pytest.raises(Problem, match="ticket-refused"):
            w.context.tickets.use(unused_ticket, w.clock())


async def test_acknowledgements_of_the_socket_are_kept_and_never_go_back(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        await tell(w, alice, *"abc")
        async with w.stream(alice) as stream:
            await read_texts(stream, 3)
            for seq in (1, 3, 2):
                await stream.send(Ack(mailbox(alice), seq))
            await stream.until(Head)
        await w.server.streams.save_acknowledgements()
        await w.call("acknowledge", Acknowledge(mailbox(alice), 1), alice)
        row = await w.context.database.read(
            lambda reader: reader.one("SELECT topic, device, seq FROM acknowledgements")
        )
        assert row == (alice.device, alice.device, 3)


async def test_an_acknowledgement_beyond_the_head_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        with pytest.raises(Problem, match="malformed"):
            await w.call("acknowledge", Acknowledge(mailbox(alice), 1), alice)


async def test_reading_over_http_gives_the_same_entries(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        await tell(w, alice, *"abc")
        page: TopicEntries = await w.call("read_topic", ReadTopic(mailbox(alice), after=1, limit=1), alice)
        assert (page.first, page.head_seq, texts_of(page.entries)) == (2, 3, ["b"])
        for after, incarnation in ((9, None), (0, "another")):
            with pytest.raises(Problem, match="incarnation-changed"):
                await w.call("read_topic", ReadTopic(mailbox(alice), after, incarnation=incarnation), alice)


async def test_a_drained_server_sends_its_sockets_away_and_takes_no_new_ones(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice = await w.register("alice")
        async with w.stream(alice) as stream:
            draining = asyncio.create_task(w.server.drain())
            assert await stream.ending() == 1012
            await draining
            assert not w.server.ready


async def test_a_socket_keeps_its_session_in_use_and_ends_with_it(tmp_path: Path) -> None:
    async with world(tmp_path, limits=generous_limits(ping_every_s=1)) as w:
        alice = await w.register("alice")
        async with w.stream(alice) as stream:
            w.clock.advance_ms(w.context.limits.session_lives_s * 1000)
            assert await stream.ending() == 4401
