"""The two that `bench delivery` compares, each a process of its own, spoken to by the same kind of line.

A line is one device's open socket. It sends a message and hears what came back: its own acknowledgements, and
everyone's messages.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import aiohttp

from bench.relay import ACKNOWLEDGEMENT
from heliograph.client.transport import Stream
from heliograph.wire.encoding import encode_msgpack
from heliograph.wire.events import Accepted, ReceivedEntries, Refused, Submit
from heliograph.wire.problems import Problem
from tests.faults.people import Person
from tests.faults.server_process import ROOT, process_cpu_s


@dataclass(frozen=True, slots=True)
class Heard:
    """What one frame brought: acknowledgements of the line's own messages, and messages of its room."""

    accepted: int = 0
    delivered: int = 0


class Line(Protocol):
    """One device's open socket."""

    async def send(self, message: Submit) -> None:
        """Send a message."""
        ...

    async def hear(self) -> Heard:
        """Wait for the next frame."""
        ...


class ServerLine:
    """A device's stream at our server. `last_accepted` is its newest acknowledgement."""

    def __init__(self, stream: Stream) -> None:
        self.last_accepted: Accepted | None = None
        self._stream = stream

    async def send(self, message: Submit) -> None:
        """Send a message."""
        await self._stream.send(message)

    async def hear(self) -> Heard:
        """Wait for the next frame; raises Problem when a message was refused."""
        frame = await self._stream.receive()
        if isinstance(frame, Accepted):
            self.last_accepted = frame
            return Heard(accepted=1)
        if isinstance(frame, Refused):
            raise Problem.received(frame.problem)
        return Heard(delivered=len(frame.items) if isinstance(frame, ReceivedEntries) else 0)


class RelayLine:
    """A socket at the relay."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def send(self, message: Submit) -> None:
        """Send the frame that our server would get."""
        await self._socket.send_bytes(encode_msgpack(message))

    async def hear(self) -> Heard:
        """Wait for the next frame."""
        data = await self._socket.receive_bytes()
        return Heard(accepted=1) if len(data) == len(ACKNOWLEDGEMENT) else Heard(delivered=1)


@asynccontextmanager
async def server_lines(people: Sequence[Person]) -> AsyncGenerator[list[ServerLine]]:
    """Open a stream for each device, to all rooms that it is in."""
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(person.transport.stream("", {})) for person in people]
        yield [ServerLine(stream) for stream in streams]


class Relay:
    """A running relay."""

    def __init__(self, pid: int, port: int, http: aiohttp.ClientSession) -> None:
        self._pid = pid
        self._port = port
        self._http = http

    @asynccontextmanager
    async def lines(self, room: str, count: int) -> AsyncGenerator[list[RelayLine]]:
        """Open as many sockets of one room."""
        async with AsyncExitStack() as stack:
            url = f"ws://127.0.0.1:{self._port}/room/{room}"
            sockets = [await stack.enter_async_context(self._http.ws_connect(url, compress=0)) for _ in range(count)]
            yield [RelayLine(socket) for socket in sockets]

    def cpu_s(self) -> float:
        """Return the user and system time that it has spent."""
        return process_cpu_s(self._pid)


@asynccontextmanager
async def relay() -> AsyncGenerator[Relay]:
    """Run the relay in a process of its own."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.relay", cwd=ROOT, stdout=PIPE)
    try:
        if process.stdout is None:
            raise RuntimeError("the relay's output is not read")
        port = int(await process.stdout.readline())
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as http:
            yield Relay(process.pid, port, http)
    finally:
        process.kill()
        await process.wait()
