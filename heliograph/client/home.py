"""Where a device lives on disk: a directory that only its owner reads, and the lock of the one process that uses it.

```
<home>/            0700
  lock             held by the process that has the store open
  store.sqlite     0600, and its -wal and -shm files
```

MLS state has one owner at a time: two processes that both moved a ratchet would send two messages under one key.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

from heliograph.client.errors import StoreBusy, StoreMissing

_STORE: Final = "store.sqlite"
_LOCK: Final = "lock"


class HomeLock:
    """The lock of a home directory, from `acquire` until `release`; the end of the process releases it too."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, home: Path) -> "HomeLock":
        """Take the lock.

        Raises:
            StoreBusy: another process holds it.
        """
        descriptor = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise StoreBusy(f"another process uses the device in {home}: end it first") from None
        return cls(descriptor)

    def release(self) -> None:
        """Let another process in."""
        os.close(self._descriptor)


def store_path(home: Path) -> Path:
    """Return the path of a home's store."""
    return home / _STORE


def make_home(home: Path) -> Path:
    """Make a home with an empty store file and return that file's path.

    Raises:
        StoreMissing: a device lives there already.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = store_path(home)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise StoreMissing(f"a device lives in {home} already: choose another place") from None
    return path


def require_home(home: Path) -> Path:
    """Return the path of a home's store file.

    Raises:
        StoreMissing: no device lives there.
    """
    path = store_path(home)
    if not path.is_file():
        raise StoreMissing(f"no device lives in {home}: register an account or add this device to one")
    return path


def discard_home(home: Path) -> None:
    """Take away the store of a home whose registration was refused."""
    for name in (_STORE, f"{_STORE}-wal", f"{_STORE}-shm", _LOCK):
        (home / name).unlink(missing_ok=True)
