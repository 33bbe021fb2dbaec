"""Servers that start at once: a process that has everything loaded, and forks the next server when it is asked to.

    python -m tests.faults.nursery [defect]

It reads one line of JSON for each server, the arguments of `heliograph`, and answers `{"pid": ...}`; once that server
is gone it says `{"ended": ...}` and waits for the next line. What the server itself prints comes in between. Loading
takes most of a start, and a run of kills starts a server many times.
"""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

from heliograph.cli.app import main
from tests.faults import twins  # which loads the whole server
from tests.faults.server_process import ROOT, START_WITHIN_S, ServerProcess

MODULE = "tests.faults.nursery"


class NurseryServer(ServerProcess):
    """A server that a nursery forks; `defect` is planted in it (`twins.py`)."""

    def __init__(self, folder: Path, *, limits_file: Path, defect: str | None = None) -> None:
        super().__init__(folder, limits_file=limits_file)
        self._defect = defect
        self._nursery: Process | None = None
        self._forked: int | None = None

    async def start(self) -> None:
        """Fork a server and wait until it listens."""
        nursery = await self._open_nursery()
        if nursery.stdin is None:
            raise RuntimeError("the nursery does not listen")
        nursery.stdin.write(json.dumps(self.arguments()).encode() + b"\n")
        self._forked = (await self._until("pid"))["pid"]
        self.note_announcement(await self._until("url"))

    async def kill(self) -> None:
        """End the process as a crash would: nothing in it gets to run again."""
        if self._forked is None:
            raise RuntimeError("the server is not running")
        os.kill(self._forked, signal.SIGKILL)
        await self._until("ended")
        self._forked = None

    async def end(self) -> None:
        """Leave no process behind."""
        if self._forked is not None:
            os.kill(self._forked, signal.SIGKILL)
        if self._nursery is not None:
            self._nursery.kill()
            await self._nursery.wait()

    async def _open_nursery(self) -> Process:
        if self._nursery is None:
            planted = () if self._defect is None else (self._defect,)
            with self.log.open("ab") as log:
                self._nursery = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", MODULE, *planted), cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=log
                )
        return self._nursery

    async def _until(self, member: str) -> dict[str, Any]:
        """Return the next line that has this member."""
        stdout = (await self._open_nursery()).stdout
        async with asyncio.timeout(START_WITHIN_S):
            while stdout is not None and (line := await stdout.readline()):
                said: dict[str, Any] = json.loads(line)
                if member in said:
                    return said
                if "ended" in said:
                    self._forked = None
                    break
        raise RuntimeError(f"the server has ended: {self.log.read_text(encoding='utf-8')[-2000:]}")


def _serve_all() -> None:
    """Fork a server for each line, one at a time; the child returns and becomes it."""
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            sys.argv = ["heliograph", *json.loads(line)]
            return
        print(json.dumps({"pid": pid}), flush=True)
        print(json.dumps({"ended": os.waitpid(pid, 0)[1]}), flush=True)
    sys.exit()


if __name__ == "__main__":
    for planted in sys.argv[1:]:
        twins.DEFECTS[planted]()
    _serve_all()
    main()
