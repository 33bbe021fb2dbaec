"""The people of the demo: each a client with a store of its own, and everything that it has told, in order.

`Person` runs in this process. `DeviceProcess` is a device in a process of its own, `heliograph receive --follow`,
which can be killed like any other process.
"""

import asyncio
import json
import signal
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from heliograph.cli.demo.narrator import WrongOutcome
from heliograph.cli.demo.server_process import heliograph_command
from heliograph.client.client import Client
from heliograph.client.told import AnyTold, ProtocolFault, RoomMessage
from heliograph.wire.ids import RoomId
from heliograph.wire.operations import OPERATIONS

ToldKind = TypeVar("ToldKind")

WITHIN_S: Final = 30.0
LOOK_EVERY_S: Final = 0.2


class FrankClient(Client):
    """A client that can also be told what to say on the wire, word for word: how a liar, or anyone curious, uses it."""

    async def say(self, operation: str, request: msgspec.Struct) -> msgspec.Struct:
        """Call an operation of the contract; raises Problem where the server refuses."""
        return await self._call(operation, request, OPERATIONS[operation].reply)


class Person:
    """Someone with an open device in this process."""

    def __init__(self, name: str, client: FrankClient, tasks: asyncio.TaskGroup) -> None:
        self.name = name
        self.client = client
        self.told: list[tuple[float, AnyTold]] = []
        self._news = asyncio.Event()
        self.listener = tasks.create_task(self._listen(), name=f"listener of {name}")

    async def _listen(self) -> None:
        """Keep everything that the client tells, with the time at which it was told; runs until cancelled."""
        async for told in self.client.receive():
            self.told.append((time.monotonic(), told))
            news, self._news = self._news, asyncio.Event()
            news.set()

    async def until(self, holds: Callable[[], bool], what: str, within_s: float = WITHIN_S) -> None:
        """Wait until `holds` is true; looked at whenever the client tells something, and now and then.

        Raises:
            WrongOutcome: it did not come to pass in time.
        """
        try:
            async with asyncio.timeout(within_s):
                while not holds():
                    await asyncio.wait((asyncio.ensure_future(self._news.wait()),), timeout=LOOK_EVERY_S)
        except TimeoutError:
            raise WrongOutcome(f"{self.name} waited {within_s:.0f} s in vain until {what}; {self._last()}") from None

    def all(self, kind: type[ToldKind]) -> list[ToldKind]:
        """Return everything of one kind that was told."""
        return [told for _, told in self.told if isinstance(told, kind)]

    def faults(self) -> list[str]:
        """Return what could not be verified."""
        return [f"{self.name}: {fault.topic}/{fault.seq}: {fault.detail}" for fault in self.all(ProtocolFault)]

    def read(self, room: RoomId) -> list[tuple[int, str]]:
        """Return what this device keeps of a room: entry numbers and words, in order."""
        return [(one.seq, one.text) for one in self.client.messages(room, 1000) if one.act == "say" and one.seq]

    def heard(self, room: RoomId) -> list[int]:
        """Return the entry numbers of the messages that were told, in order, as often as they were told."""
        return [told.seq for told in self.all(RoomMessage) if told.room == room]

    def _last(self) -> str:
        return f"the last that came was {self.told[-1][1]}" if self.told else "nothing came"


class DeviceProcess:
    """A device that another process runs: `heliograph --home DIR receive --follow --json`."""

    def __init__(self, home: Path, log: Path, tasks: asyncio.TaskGroup) -> None:
        self.home = home
        self.lines: list[dict[str, Any]] = []
        self._log = log
        self._tasks = tasks
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def start(self) -> int:
        """Start the process and return its number."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *heliograph_command(),
                *("--home", str(self.home), "receive", "--follow", "--json"),
                stdout=PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._reader = self._tasks.create_task(self._read(self._process))
        return self._process.pid

    async def end(self, how: signal.Signals) -> int:
        """Send a signal, read what the process had still printed, and return its exit code.

        Raises:
            WrongOutcome: the signal did not end it.
        """
        process, reader = self._process, self._reader
        if process is None or reader is None:
            return 0
        if process.returncode is None:
            process.send_signal(how)
        try:
            async with asyncio.timeout(WITHIN_S):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            raise WrongOutcome(f"{how.name} did not end the process of {self.home.name}") from None
        await reader
        self._process = self._reader = None
        return code

    async def leave(self) -> None:
        """Kill the process, if it still runs."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def until(self, holds: Callable[[list[dict[str, Any]]], bool], what: str) -> None:
        """Wait until the printed lines make `holds` true; raises WrongOutcome when that takes too long."""
        try:
            async with asyncio.timeout(WITHIN_S):
                while not holds(self.lines):
                    await self._news.wait()
        except TimeoutError:
            raise WrongOutcome(f"waited {WITHIN_S:.0f} s in vain until {what}; see {self._log}") from None

    async def _read(self, process: Process) -> None:
        if process.stdout is None:
            return
        while line := await process.stdout.readline():
            # What a killed process had half printed is no line.
            if line.endswith(b"\n"):
                self.lines.append(json.loads(line))
            news, self._news = self._news, asyncio.Event()
            news.set()


async def run_command(home: Path, *arguments: str, given: str = "") -> tuple[int, list[dict[str, Any]], str]:
    """Run one `heliograph` command on a device; return its exit code, the objects that it printed, and its words."""
    process = await asyncio.create_subprocess_exec(
        *heliograph_command(), "--home", str(home), *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    try:
        out, err = await process.communicate(given.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, [json.loads(line) for line in out.splitlines()], err.decode().strip()
