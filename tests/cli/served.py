"""A real server as a process, and the command line run against it: what the tests of commands share."""

import json
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from heliograph.cli.app import app
from heliograph.cli.demo.server_process import LIMITS
from heliograph.cli.exit_codes import ExitCode

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 30
HELIOGRAPH = (sys.executable, "-m", "heliograph.cli.app")


@contextmanager
def served(data: Path, *settings: str) -> Generator[dict[str, Any]]:
    """Run `heliograph serve` as a process; give what it announced; stop it and expect that it drains."""
    command = (*HELIOGRAPH, "serve", "--data", str(data), "--listen", "127.0.0.1:0", "--json", *settings)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(WITHIN_S) == ExitCode.OK


@dataclass(frozen=True)
class Ran:
    """How a command ended: exit code, what it printed, what it complained about."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON objects that it printed."""
        return [json.loads(line) for line in self.out.splitlines()]

    def one(self) -> dict[str, Any]:
        """The only JSON object that it printed, of a command that went well."""
        assert self.code == ExitCode.OK, self.err
        (line,) = self.lines
        return line


class Town:
    """A server, and people who use its command line, each with a home of their own."""

    def __init__(self, folder: Path, url: str, first_invitation: str) -> None:
        self.folder = folder
        self.url = url
        self.first_invitation = first_invitation

    def home(self, name: str) -> Path:
        """The home of a device."""
        return self.folder / name

    def run(self, who: str, *arguments: str, given: str | None = None) -> Ran:
        """Run a command on somebody's device."""
        told = CliRunner(env={"HELIOGRAPH_SERVER": self.url}).invoke(
            app, ["--home", str(self.home(who)), *arguments], input=given, prog_name="heliograph"
        )
        if told.exception is not None and not isinstance(told.exception, SystemExit):
            raise told.exception
        return Ran(told.exit_code, told.stdout, told.stderr)

    def json(self, who: str, *arguments: str, given: str | None = None) -> Ran:
        """Run a command that prints JSON."""
        return self.run(who, *arguments, "--json", given=given)

    def newcomer(self, handle: str) -> dict[str, Any]:
        """Found an account."""
        return self.json(handle, "account", "create", handle).one()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Generator[Town]:
    """Give a server that anyone may join, for all tests of a module."""
    folder = tmp_path_factory.mktemp("town")
    limits = folder / "limits.toml"
    limits.write_text(LIMITS, encoding="utf-8")
    settings = ("--registration", "open", "--limits", str(limits), "--checkpoint-interval-s", "1")
    with served(folder / "server", "--domain", "town.example", *settings) as announced:
        yield Town(folder, announced["url"], announced["first_invitation"])
