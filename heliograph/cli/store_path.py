"""Where things lie on this machine, and how secrets come in.

A *home* holds one device: its keys, rooms and messages. It is `--home`, else `$HELIOGRAPH_HOME`, else a folder in
the user's data directory; whoever needs two devices uses two homes. Only its owner may enter it.

A secret is never an argument, which every user of the machine could read in the process list, nor an environment
variable, which children inherit. It is read from a file, or from standard input where the file is called `-`.
"""

import os
import sys
from pathlib import Path

from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError

MAX_SECRET_SIZE_BYTES = 4096


def device_home(chosen: Path | None) -> Path:
    """Return the folder of this device, made if it is missing, open to its owner alone."""
    return private_folder(chosen or _data_directory() / "heliograph")


def server_data(chosen: Path | None) -> Path:
    """Return the folder of this machine's server, made if it is missing, open to its owner alone."""
    return private_folder(chosen or _data_directory() / "heliograph-server")


def private_folder(path: Path) -> Path:
    """Make a folder of mode 0700; refuse one that others may enter.

    Raises:
        CommandError: it cannot be made, is no folder, or is open to others.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode
    except FileExistsError:
        raise CommandError(ExitCode.USAGE, f"{path} is not a folder") from None
    except OSError as error:
        raise CommandError(ExitCode.FAILED, f"{path}: {error.strerror}") from None
    if os.name == "posix" and mode & 0o077:
        raise CommandError(ExitCode.REFUSED, f"{path} is open to other users; try: chmod 700 '{path}'")
    return path


def read_secret(source: Path) -> str:
    """Return the one line that a file holds, or that comes on standard input for `-`.

    Raises:
        CommandError: there is no such file, or it holds no text of at most 4096 bytes.
    """
    try:
        if str(source) == "-":
            raw = sys.stdin.buffer.read(MAX_SECRET_SIZE_BYTES + 1)
        else:
            with source.open("rb") as file:
                raw = file.read(MAX_SECRET_SIZE_BYTES + 1)
        secret = raw.decode().strip()
    except OSError as error:
        raise CommandError(ExitCode.NOT_FOUND, f"{source}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(ExitCode.USAGE, f"{source} is not text") from None
    if not secret or len(raw) > MAX_SECRET_SIZE_BYTES:
        raise CommandError(ExitCode.USAGE, f"{source} holds no secret of at most {MAX_SECRET_SIZE_BYTES} bytes")
    return secret


def _data_directory() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
