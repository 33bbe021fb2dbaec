"""The disk as a power cut leaves it: everything that was synced, and nothing else.

`build_shim` compiles `powercut.c`; a server started with it writes a journal of all that it did to its data
directory. `disk_after_cut` plays that journal over the directory as it was at the start.
"""

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SHIM_SOURCE = Path(__file__).with_name("powercut.c")
_HEAD = struct.Struct("=cIQQ")


class Act(NamedTuple):
    """One thing that was done to a file: w(rite), t(runcate), s(ync), u(nlink) or r(ename; `data` is the new path)."""

    kind: str
    path: Path
    offset: int
    data: bytes


def compiler() -> str | None:
    """Return the path of a C compiler, if this machine has one."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build_shim(folder: Path) -> Path:
    """Compile the shim into `folder` and return its path."""
    library = folder / "powercut.so"
    command = [compiler() or "cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SHIM_SOURCE), "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return library


def environment(library: Path, directory: Path, journal: Path) -> dict[str, str]:
    """Return the environment in which a process keeps a journal of what it does below `directory`."""
    return {
        **os.environ,
        "LD_PRELOAD": str(library),
        "POWERCUT_DIR": str(directory),
        "POWERCUT_LOG": str(journal),
    }


def read_journal(journal: Path) -> Iterator[Act]:
    """Yield what was done, in order; a record cut short by the kill was never done."""
    data = journal.read_bytes()
    position = 0
    while position + _HEAD.size <= len(data):
        kind, path_length, offset, length = _HEAD.unpack_from(data, position)
        start = position + _HEAD.size
        position = start + path_length + length
        if position > len(data):
            return
        path = Path(os.fsdecode(data[start : start + path_length]))
        yield Act(kind.decode(), path, offset, data[start + path_length : position])


def disk_after_cut(directory: Path, journal: Path) -> int:
    """Make `directory` what a power cut would have left, and return how many acts were lost.

    `directory` must have held no watched file before the journal began: each is rebuilt from nothing. An unlinked
    file is gone, as directory entries count as durable; shared memory files never survive.
    """
    durable: dict[Path, bytearray] = {}
    pending: dict[Path, list[Act]] = {}
    for act in read_journal(journal):
        if act.kind == "u":
            durable.pop(act.path, None)
            pending.pop(act.path, None)
        elif act.kind == "r":
            _rename(durable, pending, act.path, Path(os.fsdecode(act.data)))
        elif act.kind == "s":
            contents = durable.setdefault(act.path, bytearray())
            for waiting in pending.pop(act.path, []):
                _apply(contents, waiting)
        else:
            pending.setdefault(act.path, []).append(act)
    for path in {path for path in (*durable, *pending) if not path.is_dir()}:
        path.write_bytes(durable.get(path, b""))
    for shared_memory in directory.rglob("*-shm"):
        shared_memory.unlink()
    return sum(map(len, pending.values()))


def _rename(durable: dict[Path, bytearray], pending: dict[Path, list[Act]], old: Path, new: Path) -> None:
    for known in (durable, pending):
        known.pop(new, None)
    if old in durable:
        durable[new] = durable.pop(old)
    if old in pending:
        pending[new] = [act._replace(path=new) for act in pending.pop(old)]


def _apply(contents: bytearray, act: Act) -> None:
    if act.kind == "t":
        del contents[act.offset :]
        contents.extend(bytes(act.offset - len(contents)))
        return
    contents.extend(bytes(max(0, act.offset - len(contents))))
    contents[act.offset : act.offset + len(act.data)] = act.data
