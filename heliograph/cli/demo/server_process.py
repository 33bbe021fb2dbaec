"""The demo's server: `heliograph serve`, a process of its own, spoken to over its socket like any other server."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any, Final, Self

from heliograph.cli.demo.narrator import WrongOutcome

DOMAIN: Final = "demo.example"
START_WITHIN_S: Final = 30
STOP_WITHIN_S: Final = 20

LIMITS: Final = """\
# Everyone in the demo comes from one address. The limits for one address and for the whole server's new accounts
# are raised; all others are as they are for everybody.
[rates]
read = { burst = 20000, per_s = 5000 }
register = { burst = 1000, per_s = 100 }
registrations = { burst = 1000, per_s = 100 }
login = { burst = 5000, per_s = 500 }
source = { burst = 20000, per_s = 5000 }
"""


class ServerProcess:
    """A running server: its address, its first invitation, and its folder."""

    def __init__(self, process: Process, data: Path, url: str, first_invitation: str) -> None:
        self._process = process
        self.data = data
        self.url = url
        self.first_invitation = first_invitation

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    @classmethod
    async def start(cls, folder: Path) -> Self:
        """Start a server whose data lie in a folder; its log goes to `server.log` beside them.

        Raises:
            WrongOutcome: it does not come up.
        """
        limits, data = folder / "limits.toml", folder / "server"
        limits.write_text(LIMITS, encoding="utf-8")
        command = ("serve", "--data", str(data), "--listen", "127.0.0.1:0", "--domain", DOMAIN, "--json")
        settings = ("--limits", str(limits), "--registration", "open", "--checkpoint-interval-s", "1")
        with (folder / "server.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *heliograph_command(), *command, *settings, stdout=PIPE, stderr=log, start_new_session=True
            )
        announced = await first_line(process, START_WITHIN_S)
        if announced is None:
            await process.wait()
            raise WrongOutcome(f"the server did not start; see {folder / 'server.log'}")
        return cls(process, data, announced["url"], announced["first_invitation"])

    async def stop(self) -> int:
        """Ask the server to stop and return its exit code; a server that does not listen is killed."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_WITHIN_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
        return await self._process.wait()


def heliograph_command() -> tuple[str, ...]:
    """Return the command that runs this same program as another process."""
    return (sys.executable, "-m", "heliograph.cli.app")


async def first_line(process: Process, within_s: float) -> dict[str, Any] | None:
    """Return the first JSON line that a process prints, None where it ends or says nothing in time."""
    if process.stdout is None:
        return None
    try:
        async with asyncio.timeout(within_s):
            line = await process.stdout.readline()
    except TimeoutError:
        process.kill()
        return None
    return json.loads(line) if line else None
