"""One SQLite connection: which SQLite will do, and the settings that writer and readers share."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

import apsw

from heliograph.server.db.database import Row, SQLValue

MIN_SQLITE_VERSION = "3.51.3"
CACHE_KIB = 16 * 1024
"""Of each connection. SQLite walks its table of cached pages at every commit, so a larger one costs all writers."""
BUSY_TIMEOUT_MS = 5000
PREPARED_STATEMENTS = 256


class DatabaseRefusedError(Exception):
    """The database cannot be used by this program; the text says why and what to do."""


class Rows(Protocol):
    """What a statement found."""

    def fetchall(self) -> list[Row]:
        """Return all rows."""
        ...


class Execute(Protocol):
    """Runs statements; prepared ones are kept by their text."""

    def __call__(self, sql: str, args: Sequence[SQLValue] = (), /) -> Rows:
        """Run a statement with values bound at `?`."""
        ...


def check_sqlite_version(version: str) -> None:
    """Refuse an SQLite that can corrupt a WAL database which is checkpointed while it is written.

    Raises:
        DatabaseRefusedError: `version` is older than 3.51.3.
    """
    if _numbers(version) < _numbers(MIN_SQLITE_VERSION):
        raise DatabaseRefusedError(
            f"SQLite {version} is too old: install apsw with SQLite {MIN_SQLITE_VERSION} or newer"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def open_connection(path: Path, *, synchronous: str = "FULL", vfs: str | None = None) -> apsw.Connection:
    """Open a connection with the settings that both writer and readers share.

    Raises:
        DatabaseRefusedError: the file cannot be opened, or is no database.
    """
    try:
        if vfs is None:
            _keep_private(path)
        return _open(path, synchronous, vfs)
    except (apsw.NotADBError, apsw.CorruptError, apsw.CantOpenError, apsw.ReadOnlyError) as error:
        raise DatabaseRefusedError(f"{path}: {error}: restore it from a backup") from None
    except OSError as error:
        raise DatabaseRefusedError(f"{path}: {error.strerror}") from None


def _keep_private(path: Path) -> None:
    """Let nobody but the server's user read the file, whatever the umask; WAL and shared memory take its mode over.

    A file that is there is not opened: to close it again would take away the locks that another connection of this
    process holds on it.
    """
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    elif stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o600)


def _open(path: Path, synchronous: str, vfs: str | None) -> apsw.Connection:
    connection = apsw.Connection(str(path), vfs=vfs, statementcachesize=PREPARED_STATEMENTS)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    execute = executor(connection)
    for setting in (
        "journal_mode = WAL",
        f"synchronous = {synchronous}",
        "mmap_size = 0",
        "secure_delete = ON",
        "trusted_schema = OFF",
        "cell_size_check = ON",
        "temp_store = MEMORY",
        "foreign_keys = ON",
        f"cache_size = -{CACHE_KIB}",
    ):
        execute(f"PRAGMA {setting}").fetchall()
    return connection


def executor(connection: apsw.Connection) -> Execute:
    """Return what runs statements on a cursor of its own.

    apsw's stub names a type that Python 3.11 has not, so this is the one place that looks past it.
    """
    return cast("Execute", connection.cursor().execute)  # pyright: ignore[reportUnknownMemberType]
