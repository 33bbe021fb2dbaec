"""Act five: the server is gone, and an outsider checks the decision's proof with Python alone.

The outsider has no account and has installed nothing: in an empty folder lie the proof, the log's key (as anyone could
have read it while the server ran), and the few files of `heliograph verify`. Python runs there isolated (`-I -S`), so
nothing but its standard library can be imported.
"""

import asyncio
import json
import shutil
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import heliograph
from heliograph.cli.demo import story
from heliograph.cli.demo.narrator import Narrator
from heliograph.cli.demo.server_process import ServerProcess
from heliograph.cli.exit_codes import ExitCode

_NEEDED: Final = ("__init__.py", "cli/__init__.py", "cli/verify.py", "tlog")
_PROGRAM: Final = """\
import sys
sys.path.insert(0, sys.argv.pop(1))
from heliograph.cli import verify
code = verify.main()
foreign = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - {"heliograph", "__main__"}
sys.exit(f"imported {sorted(foreign)}" if foreign else code)
"""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the outsider was given: the proof's text, the log's key, and what the decision is said to be."""

    bundle: str
    log_key: str
    decision: str
    subject: str


async def play(narrator: Narrator, folder: Path, server: ServerProcess, proof: Proof, said: Sequence[str]) -> None:
    """Look for private words in what the server left; verify the proof and refuse every tampered copy, offline.

    said: everything that was said in the room.
    """
    code = await server.stop()
    narrator.check(
        code == ExitCode.OK and not _answers(server.url),
        f"The server was stopped (exit code {code}); nobody answers at {server.url}",
        f"its exit code is {code}",
    )
    _look_for_words(narrator, folder, server, said)
    outsider = _outfit(folder / "outsider")
    genuine = outsider / "proof.json"
    genuine.write_text(proof.bundle, encoding="utf-8")

    code, told = await _verify(outsider, genuine, proof.log_key)
    narrator.check(code == ExitCode.OK, "An outsider verifies the decision's proof, offline, with Python alone", told)
    result: dict[str, Any] = json.loads(told)
    expected = (proof.decision, proof.subject, ["block-channel"], True)
    named = (result["decision"], result["subject"], result["measures"], result["key_pinned"])
    narrator.check(
        named == expected,
        f"It is decision {proof.decision[:9]} about {proof.subject[:9]}: {', '.join(result['measures'])}",
        told,
        decision=result["decision"],
        log=result["log"],
        index=result["index"],
    )
    for what, changed in _tampered(json.loads(proof.bundle)):
        file = outsider / "tampered.json"
        file.write_text(json.dumps(changed), encoding="utf-8")
        code, told = await _verify(outsider, file, proof.log_key)
        narrator.check(code == ExitCode.NOT_VERIFIED, f"A copy with {what} is refused", f"exit code {code}: {told}")


def _look_for_words(narrator: Narrator, folder: Path, server: ServerProcess, said: Sequence[str]) -> None:
    """Look for every sentence of the room, and for its name, in everything that the server has written."""
    written = [path for path in (folder / "server.log", *server.data.rglob("*")) if path.is_file()]
    found = [
        f"“{words}” in {path.name}"
        for path in written
        for data in [path.read_bytes()]
        for words in (story.ROOM_NAME, *said)
        if words.encode() in data
    ]
    public = [path for path in written if story.POSTS[0].body.encode() in path.read_bytes()]
    narrator.check(
        not found and bool(public),
        f"In all that the server has written ({len(written)} files) stands no word that was said in the room",
        "; ".join(found) or "the public posts were not found either, so the search is no good",
    )


def _answers(url: str) -> bool:
    host, _, port = url.removeprefix("http://").partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def _outfit(folder: Path) -> Path:
    """Make the outsider's folder: the files that `heliograph verify` consists of, and nothing else."""
    source = Path(heliograph.__file__).parent
    for name in _NEEDED:
        there = folder / "heliograph" / name
        there.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, there, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source / name, there)
    return folder


async def _verify(outsider: Path, file: Path, key: str) -> tuple[int, str]:
    ran = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", _PROGRAM, str(outsider), str(file), "--key", key, "--json"),
        cwd=outsider,
        env={},
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await ran.communicate()
    return ran.returncode or 0, (out or err).decode().strip()


def _tampered(bundle: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    leaf: str = bundle["leaf"]
    # Not the last character, whose low bits base64 does not use.
    changed = leaf[:20] + ("A" if leaf[20] != "A" else "B") + leaf[21:]
    return [
        ("another subject", {**bundle, "subject": "c" + "a" * 26}),
        ("another decision", {**bundle, "decision": "dc" + "a" * 26}),
        ("one changed character in the log's entry", {**bundle, "leaf": changed}),
        ("another place in the log", {**bundle, "index": bundle["index"] + 1}),
    ]
