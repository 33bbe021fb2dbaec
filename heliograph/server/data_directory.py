"""The data directory: one server at a time, and nobody else's eyes."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

LOCK_NAME = "lock"
DATABASE_NAME = "heliograph.db"
SECRETS_NAME = "secrets"


class DataDirectoryError(Exception):
    """The data directory cannot be used; the text says why."""


class DataDirectoryBusyError(DataDirectoryError):
    """Another server runs on the data directory."""


@contextmanager
def locked(directory: Path) -> Generator[Path]:
    """Make the directory if needed and hold it: a second server is refused while this one runs.

    Raises:
        DataDirectoryBusyError: another server holds it.
        DataDirectoryError: it cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DataDirectoryError(f"{directory}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise DataDirectoryBusyError(f"{directory}: another server is running on it: stop that one first") from None
    try:
        yield directory
    finally:
        os.close(descriptor)  # the lock goes with it, also when the process is killed
