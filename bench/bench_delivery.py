"""What a sealed, stamped, durable message costs the server, beside a relay that only forwards the same frames.

Two loads, each put on both contenders in turn:

    talk      64 senders in 32 rooms of two, each with one message under way: acknowledged, then the next
    fan-out   one sender in a room of 100, all of them connected, one message under way

Both contenders get the same frames (a sealed message of 500 bytes each), answer each to its sender, and write it to
every socket of its room, the sender's own among them. What is measured is the processor time, user and system, that
the contender's process spent, over the messages (talk) or the deliveries (fan-out) that it made.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import uvloop

from bench.contenders import Line, ServerLine, relay, server_lines
from bench.report import Figure, at_most, main, seen, take_turns
from heliograph.mls.framing import MLSMessage, PrivateMessage
from heliograph.wire.events import Submit
from heliograph.wire.frank import context_bytes, tag_in, verify_frank
from heliograph.wire.ids import RoomId, room_id, room_uri
from tests.faults.people import Person, open_room, people, submission
from tests.faults.server_process import ServerProcess, generous_limits_file, serving

SENDERS = 64
MESSAGES_A_SENDER = 250
MEMBERS = 100
FANNED_OUT_MESSAGES = 200
CIPHERTEXT_SIZE_BYTES = 500
EPOCH = 1
US_A_SECOND = 1e6


@dataclass(frozen=True, slots=True)
class Room:
    """A room at one contender: the lines of its members, of whom the first `senders` send."""

    room: RoomId
    lines: Sequence[Line]
    senders: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What one round of one contender took."""

    cpu_us: float
    elapsed_s: float


async def play(rooms: Sequence[Room], messages_each: int, cpu_s: Callable[[], float]) -> Spent:
    """Let every sender of every room send, and wait until everyone has heard everything."""
    parts = [
        _converse(
            line, _messages(room.room, messages_each if number < room.senders else 0), messages_each * room.senders
        )
        for room in rooms
        for number, line in enumerate(room.lines)
    ]
    cpu_before_s, started_s = cpu_s(), time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for part in parts:
            tasks.create_task(part)
    return Spent((cpu_s() - cpu_before_s) * US_A_SECOND, time.perf_counter() - started_s)


def _messages(room: RoomId, count: int) -> list[Submit]:
    return [submission(room, EPOCH, CIPHERTEXT_SIZE_BYTES, number) for number in range(count)]


async def _converse(line: Line, messages: Sequence[Submit], expected: int) -> None:
    waiting = iter(messages)
    if messages:
        await line.send(next(waiting))
    accepted = delivered = 0
    while accepted < len(messages) or delivered < expected:
        heard = await line.hear()
        accepted += heard.accepted
        delivered += heard.delivered
        if heard.accepted and (message := next(waiting, None)) is not None:
            await line.send(message)


async def check_stamp(sender: Person, line: ServerLine, room: RoomId) -> None:
    """Send one more message and check that the server's stamp on it holds: what is measured is the whole work."""
    (message,) = _messages(room, 1)
    await _converse(line, [message], 1)
    answer, body = line.last_accepted, MLSMessage.decode(message.ciphertext).body
    if answer is None or not isinstance(body, PrivateMessage):
        raise RuntimeError("the message was not acknowledged")
    uris = sender.identity.user_uri, room_uri(sender.identity.domain, room)
    context = context_bytes(*uris, answer.accepted_at_ms, answer.seq, EPOCH, answer.frank.kid)
    verify_frank(sender.phone.hub_key, tag_in(body.authenticated_data), context, answer.frank)


@dataclass(frozen=True, slots=True)
class Contender:
    """One of the two, with everybody connected."""

    pairs: Sequence[Room]
    crowd: Room
    cpu_s: Callable[[], float]

    async def talk(self) -> Spent:
        """Play the first load."""
        return await play(self.pairs, MESSAGES_A_SENDER, self.cpu_s)

    async def fan_out(self) -> Spent:
        """Play the second load."""
        return await play([self.crowd], FANNED_OUT_MESSAGES, self.cpu_s)


async def connect_to_server(folder: Path, stack: AsyncExitStack) -> Contender:
    """Start our server, register everyone, make the rooms and connect."""
    limits_file = generous_limits_file(folder)
    print(f"the server runs with limits of its own, no rate holds it up: {limits_file}", file=sys.stderr)
    server = await stack.enter_async_context(serving(ServerProcess(folder, limits_file=limits_file)))
    everyone = await stack.enter_async_context(people(server.url, *(f"member{number}" for number in range(MEMBERS))))
    couples = [everyone[at : at + 2] for at in range(0, SENDERS, 2)]
    rooms = [await open_room(one, [other]) for one, other in couples]
    crowd = await open_room(everyone[0], everyone[1:])
    lines = await stack.enter_async_context(server_lines(everyone))
    await check_stamp(everyone[0], lines[0], crowd)
    pairs = [Room(room, lines[2 * number : 2 * number + 2], 2) for number, room in enumerate(rooms)]
    return Contender(pairs, Room(crowd, lines, 1), server.cpu_s)


async def connect_to_relay(stack: AsyncExitStack) -> Contender:
    """Start the relay and connect as many to rooms of the same sizes."""
    running = await stack.enter_async_context(relay())
    ids = [room_id(number.to_bytes(16)) for number in range(SENDERS // 2 + 1)]
    pairs = [Room(room, await stack.enter_async_context(running.lines(room, 2)), 2) for room in ids[:-1]]
    crowd = await stack.enter_async_context(running.lines(ids[-1], MEMBERS))
    return Contender(pairs, Room(ids[-1], crowd, 1), running.cpu_s)


def measure() -> list[Figure]:
    """Run both loads on both contenders and return the figures."""
    with TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        try:
            server = runner.run(connect_to_server(Path(folder), stack))
            floor = runner.run(connect_to_relay(stack))
            talk = take_turns({"server": lambda: runner.run(server.talk()), "relay": lambda: runner.run(floor.talk())})
            fan_out = take_turns(
                {"server": lambda: runner.run(server.fan_out()), "relay": lambda: runner.run(floor.fan_out())}
            )
        finally:
            runner.run(stack.aclose())
    return figures(talk, fan_out)


def figures(talk: Mapping[str, Sequence[Spent]], fan_out: Mapping[str, Sequence[Spent]]) -> list[Figure]:
    """Return what the rounds say."""
    messages, deliveries = SENDERS * MESSAGES_A_SENDER, FANNED_OUT_MESSAGES * MEMBERS
    message_us = {name: median(one.cpu_us for one in rounds) / messages for name, rounds in talk.items()}
    delivery_us = {name: median(one.cpu_us for one in rounds) / deliveries for name, rounds in fan_out.items()}
    messages_a_second = {name: messages / median(one.elapsed_s for one in rounds) for name, rounds in talk.items()}
    return [
        at_most("cpu a message, ratio to the relay", message_us["server"] / message_us["relay"], "times", 2.5),
        seen("cpu a message, server", message_us["server"], "us"),
        seen("cpu a message, relay", message_us["relay"], "us"),
        seen("messages, server", messages_a_second["server"], "a second"),
        seen("messages, relay", messages_a_second["relay"], "a second"),
        at_most("fan-out to 100, cpu a delivery, server", delivery_us["server"], "us", 17),
        seen("fan-out to 100, cpu a delivery, relay", delivery_us["relay"], "us"),
    ]


if __name__ == "__main__":
    main("delivery", measure)
