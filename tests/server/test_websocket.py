"""Hostile frames: each ends its own socket with the right code, and nobody else notices."""

import asyncio
import time
from pathlib import Path

import pytest

from heliograph.server.limits import Rate
from heliograph.wire.encoding import encode_msgpack
from heliograph.wire.events import (
    MAX_FIRST_FRAME_SIZE_BYTES,
    MAX_FRAME_SIZE_BYTES,
    Ack,
    Ended,
    Head,
    Hello,
    Ping,
    Pong,
    Ready,
    ReceivedEntries,
    Refused,
    Resync,
    Subscribe,
    server_frame_decoder,
)
from heliograph.wire.ids import TopicId
from heliograph.wire.operations import STREAM_PATH
from heliograph.wire.rooms import ReadTopic
from tests.server.raw_socket import client_frame, connect, greeted, handshake, upgraded
from tests.world import generous_limits, world

BINARY, TEXT, CLOSE, PING, PONG, CONTINUATION = 2, 1, 8, 9, 10, 0
EMPTY_PING = encode_msgpack(Ping())

HOSTILE_FRAMES = [
    pytest.param(client_frame(EMPTY_PING, masked=False), 1002, id="unmasked", marks=pytest.mark.bad_input(1)),
    pytest.param(client_frame(EMPTY_PING, rsv=4), 1002, id="rsv1", marks=pytest.mark.bad_input(2)),
    pytest.param(client_frame(b"", opcode=3), 1002, id="opcode 3", marks=pytest.mark.bad_input(3)),
    pytest.param(client_frame(b"", opcode=11), 1002, id="opcode 11", marks=pytest.mark.bad_input(3)),
    pytest.param(b"\x82\xff" + (2**63).to_bytes(8) + bytes(4), 1009, id="2^63", marks=pytest.mark.bad_input(4)),
    pytest.param(b"\x82\xff" + (2**62).to_bytes(8) + bytes(4), 1009, id="2^62", marks=pytest.mark.bad_input(5)),
    pytest.param(client_frame(bytes(MAX_FRAME_SIZE_BYTES + 1)), 1009, id="64 KiB + 1", marks=pytest.mark.bad_input(6)),
    pytest.param(client_frame(bytes(126), opcode=PING), 1002, id="long ping", marks=pytest.mark.bad_input(7)),
    pytest.param(client_frame(b"", opcode=PING, fin=False), 1002, id="fragmented ping", marks=pytest.mark.bad_input(8)),
    pytest.param(client_frame(b"", opcode=CONTINUATION), 1002, id="orphan", marks=pytest.mark.bad_input(9)),
    pytest.param(
        client_frame(b"a", fin=False) + client_frame(b"b"), 1002, id="new message", marks=pytest.mark.bad_input(10)
    ),
    pytest.param(client_frame(b"\xff\xfe", opcode=TEXT), 1003, id="text", marks=pytest.mark.bad_input(11)),
    pytest.param(
        client_frame(b"\xc3", opcode=TEXT, fin=False) + client_frame(b"\x28", opcode=CONTINUATION),
        1003,
        id="split text",
        marks=pytest.mark.bad_input(11),
    ),
    pytest.param(client_frame(b"\x03", opcode=CLOSE), 1002, id="close 1 byte", marks=pytest.mark.bad_input(12)),
    pytest.param(client_frame(b"\x03\xe7", opcode=CLOSE), 1002, id="close 999", marks=pytest.mark.bad_input(12)),
    pytest.param(client_frame(b"\x03\xed", opcode=CLOSE), 1002, id="close 1005", marks=pytest.mark.bad_input(12)),
    pytest.param(client_frame(b"\x03\xe8\xff", opcode=CLOSE), 1007, id="close reason", marks=pytest.mark.bad_input(12)),
    pytest.param(
        client_frame(b"", fin=False) + 10_000 * client_frame(b"", opcode=CONTINUATION, fin=False),
        1009,
        id="10k empty fragments",
        marks=pytest.mark.bad_input(13),
    ),
    pytest.param(client_frame(b"{}", opcode=TEXT), 1003, id="text frame", marks=pytest.mark.bad_input(17)),
    pytest.param(b"\x82\xfe" + (5).to_bytes(2) + bytes(9), 1002, id="long length form", marks=pytest.mark.bad_input(4)),
]


@pytest.mark.parametrize(("frames", "code"), HOSTILE_FRAMES)
async def test_a_hostile_frame_ends_its_socket_with_the_right_code(tmp_path: Path, frames: bytes, code: int) -> None:
    async with world(tmp_path) as w:
        person = await w.register("alice")
        async with w.stream(person) as bystander, greeted(w, person) as raw:
            await raw.send(frames)
            assert await raw.close_code() == code
            await bystander.send(Ping())
            await bystander.until(Pong)


@pytest.mark.bad_input(14)
async def test_a_flood_of_tiny_fragments_holds_nobody_up(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        person = await w.register("alice")
        flood = client_frame(b"a", fin=False) + 200_000 * client_frame(b"a", opcode=CONTINUATION, fin=False)
        async with w.stream(person) as bystander, greeted(w, person) as raw:
            sending = asyncio.create_task(raw.send(flood))
            assert await raw.close_code() == 1009
            started = time.monotonic()
            await bystander.send(Ping())
            await bystander.until(Pong)
            assert time.monotonic() - started < 0.5
            raw.writer.transport.abort()
            await sending


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(100_000 * client_frame(EMPTY_PING), id="tiny frames", marks=pytest.mark.bad_input(15)),
        pytest.param(1000 * client_frame(b"x", opcode=PING), id="pings", marks=pytest.mark.bad_input(16)),
    ],
)
async def test_a_flood_of_frames_is_cut(tmp_path: Path, flood: bytes) -> None:
    limits = generous_limits()
    rates = {name: getattr(limits.rates, name) for name in limits.rates.__struct_fields__}
    rates["frames"] = Rate(200, 40)
    async with world(tmp_path, limits=generous_limits(rates=type(limits.rates)(**rates))) as w:
        person = await w.register("alice")
        async with greeted(w, person) as raw:
            sending = asyncio.create_task(raw.send(flood))
            assert await raw.close_code() == 4429
            raw.writer.transport.abort()
            await sending


@pytest.mark.bad_input(18)
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example"])
async def test_a_page_of_another_site_cannot_open_a_socket(tmp_path: Path, origin: str) -> None:
    async with world(tmp_path) as w, connect(w) as raw:
        await raw.send(handshake(f"Origin: {origin}\r\n"))
        assert (await raw.head())[0] == 403


async def test_a_page_of_this_server_or_of_a_listed_site_can_open_a_socket(tmp_path: Path) -> None:
    async with world(tmp_path, origins=("https://chat.example",)) as w:
        for origin in ("http://localhost", "https://chat.example"):
            async with connect(w) as raw:
                await raw.send(handshake(f"Origin: {origin}\r\n"))
                assert (await raw.head())[0] == 101


@pytest.mark.bad_input(19)
@pytest.mark.parametrize(
    "request_bytes",
    [
        handshake("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        handshake(key="c2hvcnQ="),
        handshake(key="not base64!"),
        handshake().replace(b"Version: 13", b"Version: 8"),
        handshake().replace(b"Upgrade: websocket", b"Upgrade: h2c"),
    ],
    ids=["two keys", "short key", "no key", "version", "protocol"],
)
async def test_a_wrong_handshake_is_refused(tmp_path: Path, request_bytes: bytes) -> None:
    async with world(tmp_path) as w, connect(w) as raw:
        await raw.send(request_bytes)
        assert (await raw.head())[0] == 400


@pytest.mark.bad_input(20)
async def test_a_ticket_works_once_and_for_half_a_minute(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        person = await w.register("alice")
        used, late = await w.ticket(person), await w.ticket(person)
        async with upgraded(w) as raw:
            await raw.send(client_frame(encode_msgpack(Hello(used))))
            assert (await raw.frame())[0] == BINARY
        w.clock.advance_ms(30_000)
        for ticket in (used, late, "made-up", ""):
            async with upgraded(w) as raw:
                await raw.send(client_frame(encode_msgpack(Hello(ticket))))
                assert await raw.close_code() == 4401


@pytest.mark.bad_input(21)
async def test_a_ticket_in_the_address_is_refused_and_not_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with world(tmp_path) as w:
        ticket = await w.ticket(await w.register("alice"))
        async with connect(w) as raw:
            await raw.send(handshake(path=f"{STREAM_PATH}?ticket={ticket}"))
            assert (await raw.head())[0] == 400
    shown = capsys.readouterr()
    assert ticket not in shown.out + shown.err


@pytest.mark.bad_input(22)
async def test_a_socket_that_says_nothing_is_closed(tmp_path: Path) -> None:
    async with world(tmp_path, limits=generous_limits(hello_within_s=1)) as w, upgraded(w) as raw:
        assert await raw.close_code(within_s=3) == 4408


@pytest.mark.bad_input(23)
async def test_the_first_frame_is_small(tmp_path: Path) -> None:
    async with world(tmp_path) as w, upgraded(w) as raw:
        await raw.send(client_frame(bytes(MAX_FIRST_FRAME_SIZE_BYTES + 1)))
        assert await raw.close_code() == 1009


@pytest.mark.parametrize("payload", [b"", b"\xc1", EMPTY_PING, b"\x81\xa1f\xa5hello"])
async def test_the_first_frame_is_a_hello(tmp_path: Path, payload: bytes) -> None:
    async with world(tmp_path) as w, upgraded(w) as raw:
        await raw.send(client_frame(payload))
        assert await raw.close_code() == 4400


async def test_a_hello_that_comes_with_the_handshake_is_read(tmp_path: Path) -> None:
    async with world(tmp_path) as w, connect(w) as raw:
        hello = client_frame(encode_msgpack(Hello(await w.ticket(await w.register("alice")))))
        await raw.send(handshake() + hello)
        assert (await raw.head())[0] == 101
        assert isinstance(server_frame_decoder.decode((await raw.frame())[1]), Ready)


@pytest.mark.bad_input(24)
async def test_compression_is_not_negotiated(tmp_path: Path) -> None:
    async with world(tmp_path) as w, connect(w) as raw:
        await raw.send(handshake("Sec-WebSocket-Extensions: permessage-deflate\r\n"))
        status, head = await raw.head()
        assert status == 101
        assert "sec-websocket-extensions" not in head.lower()


@pytest.mark.bad_input(26)
async def test_a_peer_that_falls_silent_is_cut(tmp_path: Path) -> None:
    async with world(tmp_path, limits=generous_limits(silent_for_s=1, ping_every_s=1)) as w:
        person = await w.register("alice")
        async with greeted(w, person) as raw:
            assert await raw.close_code(within_s=5) == 1001


@pytest.mark.bad_input(27)
async def test_a_handshake_that_trickles_in_is_cut(tmp_path: Path) -> None:
    async with world(tmp_path, limits=generous_limits(head_within_s=1)) as w, connect(w) as raw:

        async def trickle() -> None:
            for byte in handshake():
                await raw.send(bytes((byte,)))
                await asyncio.sleep(0.1)

        trickling = asyncio.create_task(trickle())
        assert await raw.is_closed(within_s=4)
        trickling.cancel()


@pytest.mark.bad_input(28)
async def test_a_device_has_ten_sockets_at_most(tmp_path: Path) -> None:
    async with world(tmp_path, limits=generous_limits(sockets_per_device=2)) as w:
        person = await w.register("alice")
        async with w.stream(person), w.stream(person):
            ticket = await w.ticket(person)
            async with upgraded(w) as raw:
                await raw.send(client_frame(encode_msgpack(Hello(ticket))))
                assert await raw.close_code() == 4429
        async with asyncio.timeout(10):
            while w.server.streams.connections:  # the server learns a moment later that they are gone
                await asyncio.sleep(0.01)
        async with w.stream(person):
            pass


@pytest.mark.bad_input(29)
async def test_a_hello_with_too_many_topics_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        ticket = await w.ticket(await w.register("alice"))
        cursors = {TopicId(f"r{number:026d}".replace("0", "a").replace("1", "b")): 0 for number in range(3000)}
        async with upgraded(w) as raw:
            await raw.send(client_frame(encode_msgpack(Hello(ticket, cursors=cursors))))
            assert await raw.close_code() == 1009


@pytest.mark.bad_input(30)
async def test_subscribing_twice_delivers_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        person = await w.register("alice")
        mailbox = TopicId(person.device)
        async with w.stream(person) as stream:
            await stream.until(Head, mailbox)
            await stream.send(Subscribe(mailbox))
            await stream.send(Subscribe(mailbox))
            await w.add_device(person)
            seen = [(await stream.until(ReceivedEntries, mailbox)).first]
            await stream.send(Ping())
            while not isinstance(frame := await stream.receive(), Pong):
                if isinstance(frame, ReceivedEntries):
                    seen.append(frame.first)
            assert seen == [1]


@pytest.mark.bad_input(31)
async def test_a_cursor_in_the_future_is_answered_with_the_head(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        person = await w.register("alice")
        mailbox = TopicId(person.device)
        async with w.stream(person, {mailbox: 99}) as stream:
            resync = await stream.until(Resync)
            assert resync.heads == {mailbox: 0}
            assert (await stream.until(Head, mailbox)).seq == 0


@pytest.mark.bad_input(31)
@pytest.mark.parametrize("cursor", [-1, 2**53, "1.0", 1.5])
async def test_a_cursor_that_is_no_number_of_an_entry_is_refused(tmp_path: Path, cursor: object) -> None:
    async with world(tmp_path) as w:
        person = await w.register("alice")
        hello = {"f": "hello", "ticket": await w.ticket(person), "cursors": {person.device: cursor}}
        async with upgraded(w) as raw:
            await raw.send(client_frame(encode_msgpack(hello)))
            assert await raw.close_code() == 4400


@pytest.mark.bad_input(31)
async def test_a_cursor_of_another_incarnation_is_answered_with_all_heads(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        person = await w.register("alice")
        async with w.stream(person, {TopicId(person.device): 7}, incarnation="before-the-restore") as stream:
            resync = await stream.until(Resync)
            assert (resync.incarnation, resync.heads) == (w.context.incarnation, {person.device: 0})


@pytest.mark.bad_input(32)
async def test_an_acknowledgement_of_what_was_never_delivered_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        person = await w.register("alice")
        async with w.stream(person) as stream:
            await stream.until(Head)
            await stream.send(Ack(TopicId(person.device), 5))
            assert (await stream.until(Refused)).problem.type == "malformed"


@pytest.mark.bad_input(33)
async def test_frames_after_a_close_are_ignored(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        person = await w.register("alice")
        async with greeted(w, person) as raw:
            await raw.send(client_frame(b"\x03\xe8", opcode=CLOSE) + 100 * client_frame(b"\xff\xff"))
            assert await raw.close_code() == 1000
            assert await raw.is_closed(within_s=3)


async def test_a_malformed_frame_is_refused_by_name_and_the_socket_lives(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        person = await w.register("alice")
        async with greeted(w, person) as raw:
            for payload in (
                b"\xc1",
                b"\x91\x01",
                encode_msgpack({"f": "ping", "extra": 1}),
                encode_msgpack({"f": "x"}),
            ):
                await raw.send(client_frame(payload))
            await raw.send(client_frame(EMPTY_PING))
            answers: list[object] = []
            while not answers or not isinstance(answers[-1], Pong):
                opcode, payload = await raw.frame()
                assert opcode == BINARY
                answers.append(server_frame_decoder.decode(payload))
            refused = [one for one in answers if isinstance(one, Refused)]
            assert [one.problem.type for one in refused] == 4 * ["malformed"]


async def test_a_fragmented_message_is_read_as_one(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        person = await w.register("alice")
        async with greeted(w, person) as raw:
            head, tail = EMPTY_PING[:2], EMPTY_PING[2:]
            await raw.send(client_frame(head, fin=False) + client_frame(b"hi", opcode=PING))
            await raw.send(client_frame(tail, opcode=CONTINUATION))
            opcodes = []
            while PONG not in opcodes or len(opcodes) < 3:
                opcodes.append((await raw.frame())[0])
            assert PONG in opcodes


async def test_a_topic_that_is_not_the_callers_ends_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        alice, mallory = await w.register("alice"), await w.register("mallory")
        async with w.stream(mallory) as stream:
            await stream.send(Subscribe(TopicId(alice.device)))
            ended = await stream.until(Ended, alice.device)
            assert ended.problem.type == "not-found"
        with pytest.raises(Exception, match="not-found"):
            await w.call("read_topic", ReadTopic(TopicId(alice.device)), mallory)
