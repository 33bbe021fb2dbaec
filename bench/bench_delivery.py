"""What a sealed, stamped, durable message costs the server, beside a relay that only forwards the same frames.

Three loads, each put on both contenders in turn:

    talk      64 senders in 16 rooms of four, each with one message under way: acknowledged, then the next
    pairs     the same in 32 rooms of two: the least that a message can do for its cost
    fan-out   one sender in a room of 100, all of them connected, one message under way

Both contenders get the same frames (a sealed message of 500 bytes each), answer each to its sender, and write it to
every socket of its room, the sender's own among them. What is measured is the processor time, user and system, that
the contender's process spent, over the messages (talk, pairs) or the deliveries (fan-out) that it made.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TypeVar

import uvloop

from bench.bystanders import Bystanders
from bench.contenders import Line, ServerLine, relay, server_lines
from bench.report import Figure, at_most, main, seen, take_turns
from heliograph.mls.framing import MLSMessage, PrivateMessage
from heliograph.wire.events import Submit
from heliograph.wire.frank import context_bytes, tag_in, verify_frank
from heliograph.wire.ids import RoomId, room_id, room_uri
from tests.faults.people import Person, open_room, people, submission
from tests.faults.server_process import ServerProcess, generous_limits_file, serving

MEMBERS = 100
CIPHERTEXT_SIZE_BYTES = 500
EPOCH = 1
US_A_SECOND = 1e6

T = TypeVar("T")


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
class Load:
    """What senders do: so many messages each, in rooms of so many people of whom so many send."""

    rooms: int
    people_a_room: int
    senders_a_room: int
    messages_each: int

    @property
    def messages(self) -> int:
        """How many messages are sent in all."""
        return self.rooms * self.senders_a_room * self.messages_each

    @property
    def deliveries(self) -> int:
        """How many entries are written to sockets in all."""
        return self.messages * self.people_a_room


LOADS = {
    "talk": Load(rooms=16, people_a_room=4, senders_a_room=4, messages_each=250),
    "pairs": Load(rooms=32, people_a_room=2, senders_a_room=2, messages_each=250),
    "fan-out": Load(rooms=1, people_a_room=MEMBERS, senders_a_room=1, messages_each=200),
}


@dataclass(frozen=True, slots=True)
class Contender:
    """One of the two, with everybody connected to the rooms of every load."""

    rooms: Mapping[str, Sequence[Room]]
    cpu_s: Callable[[], float]

    async def play(self, load: str) -> Spent:
        """Play a load by its name."""
        return await play(self.rooms[load], LOADS[load].messages_each, self.cpu_s)


async def connect_to_server(folder: Path, stack: AsyncExitStack) -> Contender:
    """Start our server, register everyone, make the rooms and connect."""
    limits_file = generous_limits_file(folder)
    print(f"the server runs with limits of its own, no rate holds it up: {limits_file}", file=sys.stderr)
    server = await stack.enter_async_context(serving(ServerProcess(folder, limits_file=limits_file)))
    everyone = await stack.enter_async_context(people(server, *(f"member{number}" for number in range(MEMBERS))))
    made = {
        name: [await open_room(part[0], part[1:]) for part in load_parts(everyone, load)]
        for name, load in LOADS.items()
    }
    lines = await stack.enter_async_context(server_lines(everyone))
    await check_stamp(everyone[0], lines[0], made["fan-out"][0])
    rooms = {
        name: [
            Room(room, part, load.senders_a_room)
            for room, part in zip(made[name], load_parts(lines, load), strict=True)
        ]
        for name, load in LOADS.items()
    }
    return Contender(rooms, server.cpu_s)


async def connect_to_relay(stack: AsyncExitStack) -> Contender:
    """Start the relay and connect as many to rooms of the same sizes."""
    running = await stack.enter_async_context(relay())
    numbers = itertools.count()
    rooms: dict[str, list[Room]] = {}
    for name, load in LOADS.items():
        ids = [room_id(next(numbers).to_bytes(16)) for _ in range(load.rooms)]
        rooms[name] = [
            Room(
                room,
                await stack.enter_async_context(running.lines(room, load.people_a_room)),
                load.senders_a_room,
            )
            for room in ids
        ]
    return Contender(rooms, running.cpu_s)


def load_parts(everyone: Sequence[T], load: Load) -> list[Sequence[T]]:
    """Return who is in which of a load's rooms."""
    size = load.people_a_room
    return [everyone[number * size : (number + 1) * size] for number in range(load.rooms)]


def measure() -> list[Figure]:
    """Play every load to both contenders in turn and return the figures."""
    with TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        try:
            server = runner.run(connect_to_server(Path(folder), stack))
            floor = runner.run(connect_to_relay(stack))
            bystanders = Bystanders(lambda: time.process_time() + server.cpu_s() + floor.cpu_s())
            taken = {
                load: take_turns(
                    {
                        "server": lambda load=load: runner.run(server.play(load)),
                        "relay": lambda load=load: runner.run(floor.play(load)),
                    }
                )
                for load in LOADS
            }
            others_percent = bystanders.share_percent()
        finally:
            runner.run(stack.aclose())
    return [*figures(taken), seen("processors, taken by others meanwhile", others_percent, "%")]


def figures(taken: Mapping[str, Mapping[str, Sequence[Spent]]]) -> list[Figure]:
    """Return what the rounds say."""
    cpu_us = {
        (load, name): median(one.cpu_us for one in rounds)
        for load, contenders in taken.items()
        for name, rounds in contenders.items()
    }
    elapsed_s = {name: median(one.elapsed_s for one in rounds) for name, rounds in taken["talk"].items()}
    ratio = {load: cpu_us[load, "server"] / cpu_us[load, "relay"] for load in LOADS}
    messages, deliveries = LOADS["talk"].messages, LOADS["fan-out"].deliveries
    return [
        at_most("cpu a message, ratio to the relay", ratio["talk"], "times", 2.5),
        seen("cpu a message, server", cpu_us["talk", "server"] / messages, "us"),
        seen("cpu a message, relay", cpu_us["talk", "relay"] / messages, "us"),
        seen("messages, server", messages / elapsed_s["server"], "a second"),
        seen("messages, relay", messages / elapsed_s["relay"], "a second"),
        seen("rooms of two, ratio to the relay", ratio["pairs"], "times"),
        seen("rooms of two, cpu a message, server", cpu_us["pairs", "server"] / LOADS["pairs"].messages, "us"),
        seen("rooms of two, cpu a message, relay", cpu_us["pairs", "relay"] / LOADS["pairs"].messages, "us"),
        at_most("fan-out to 100, cpu a delivery, server", cpu_us["fan-out", "server"] / deliveries, "us", 17),
        seen("fan-out to 100, cpu a delivery, relay", cpu_us["fan-out", "relay"] / deliveries, "us"),
    ]


if __name__ == "__main__":
    main("delivery", measure)
