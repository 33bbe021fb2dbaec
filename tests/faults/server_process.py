"""A server in a process of its own, which can be killed at any moment and started again where it was.

    async with serving(ServerProcess(folder, limits_file=generous_limits_file(folder))) as server:
        ... server.url ...
        await server.kill()
        await server.start()

It is the command that an operator runs, `heliograph serve`, or, for planted defects, a launcher in its place.
"""

import asyncio
import json
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from heliograph.server.limits import Rates

ROOT = Path(__file__).parents[2]
SERVE = "heliograph.cli.app"
START_WITHIN_S = 60.0
GENEROUS_RATE = "{ burst = 1e9, per_s = 1e9 }"


def generous_limits_file(folder: Path) -> Path:
    """Write a limits file in which no rate holds a load up, and return its path."""
    names = [field.encode_name for field in msgspec.structs.fields(Rates)]
    path = folder / "limits.toml"
    path.write_text("[rates]\n" + "".join(f"{name} = {GENEROUS_RATE}\n" for name in names), encoding="utf-8")
    return path


class ServerProcess:
    """One server's data directory and the process that serves it, on one port through all restarts.

    `module` is what `python -m` runs with the arguments of `heliograph`; `environment` replaces the process's own;
    both may be set between a stop and a start.
    Its log goes to `folder/server.log`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limits_file: Path | None = None,
        module: tuple[str, ...] = (SERVE,),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.data = folder / "data"
        self.log = folder / "server.log"
        self._limits_file = limits_file
        self.module = module
        self.environment = environment
        self._port = 0
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The id of the running process."""
        return self._running().pid

    def arguments(self) -> list[str]:
        """Return the arguments of `heliograph` that start this server where it was."""
        listen = ("--listen", f"127.0.0.1:{self._port}", "--registration", "open", "--json")
        limits = () if self._limits_file is None else ("--limits", str(self._limits_file))
        return ["serve", "--data", str(self.data), *listen, *limits]

    def note_announcement(self, announcement: dict[str, Any]) -> None:
        """Keep the port that the server has told."""
        self._port = int(announcement["url"].rpartition(":")[2])

    async def start(self) -> None:
        """Start the server and wait until it listens."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *self.module, *self.arguments()),
                cwd=ROOT,
                env=self.environment,
                stdout=PIPE,
                stderr=log,
            )
        async with asyncio.timeout(START_WITHIN_S):
            line = await self._stdout().readline()
        if not line:
            code = await self._process.wait()
            self._process = None
            raise RuntimeError(f"the server ended with {code}: {self.log.read_text(encoding='utf-8')[-2000:]}")
        self.note_announcement(json.loads(line))

    async def kill(self) -> None:
        """End the process as a crash would: nothing in it gets to run again."""
        process = self._running()
        process.send_signal(signal.SIGKILL)
        await process.wait()
        self._process = None

    async def stop(self) -> None:
        """Ask the server to end, and wait until it has drained."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        await process.wait()
        self._process = None

    async def end(self) -> None:
        """Leave no process behind."""
        if self._process is not None:
            await self.kill()

    def cpu_s(self) -> float:
        """Return the user and system time that the running process has spent in all its threads."""
        return process_cpu_s(self.pid)

    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process

    def _stdout(self) -> asyncio.StreamReader:
        stdout = self._running().stdout
        if stdout is None:
            raise RuntimeError("the server's output is not read")
        return stdout


@asynccontextmanager
async def serving(server: ServerProcess) -> AsyncGenerator[ServerProcess]:
    """Start a server, and leave no process behind."""
    try:
        await server.start()
        yield server
    finally:
        await server.end()


def process_cpu_s(pid: int) -> float:
    """Return the user and system time that a process has spent, to the nanosecond where Linux gives it."""
    return time.clock_gettime(~pid << 3 | 2)  # the clock id that clock_getcpuclockid(3) would return
