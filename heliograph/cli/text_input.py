"""Text that commands take: as an argument, or from standard input for `-` or where there is none."""

import sys
from pathlib import Path

from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError

MAX_TEXT_SIZE_BYTES = 512 * 1024


def text_or_input(text: str | None, what: str, max_size_bytes: int) -> str:
    """Return the text, or standard input without its last line break.

    Raises:
        CommandError: there is none, it is too long, or it is not UTF-8.
    """
    if text is None and _is_typed():
        raise CommandError(ExitCode.USAGE, f"there is no {what}: give it as an argument or on standard input")
    if text is None or text == "-":
        text = _decoded(_read_input(max_size_bytes + 2), what).removesuffix("\n").removesuffix("\r")
    return _checked(text, what, max_size_bytes)


def _checked(text: str, what: str, max_size_bytes: int) -> str:
    if not text.strip():
        raise CommandError(ExitCode.USAGE, f"the {what} is empty")
    if len(text.encode("utf-8", "surrogatepass")) > max_size_bytes:
        raise CommandError(ExitCode.USAGE, f"the {what} is longer than {max_size_bytes} bytes")
    if any("\ud800" <= one <= "\udfff" for one in text):
        raise CommandError(ExitCode.USAGE, f"the {what} is not UTF-8 text")
    return text


def read_text_file(source: Path, what: str) -> str:
    """Return the text of a file, or of standard input for `-`.

    Raises:
        CommandError: there is no such file, or it is too long, empty, or not UTF-8.
    """
    if str(source) == "-":
        return text_or_input("-", what, MAX_TEXT_SIZE_BYTES)
    try:
        with source.open("rb") as file:
            raw = file.read(MAX_TEXT_SIZE_BYTES + 1)
    except OSError as error:
        raise CommandError(ExitCode.NOT_FOUND, f"{source}: {error.strerror}") from None
    return _checked(_decoded(raw, what), what, MAX_TEXT_SIZE_BYTES)


def _is_typed() -> bool:
    return sys.stdin is None or sys.stdin.closed or sys.stdin.isatty()  # pyright: ignore[reportUnnecessaryComparison]


def _read_input(max_size_bytes: int) -> bytes:
    if sys.stdin is None or sys.stdin.closed:  # pyright: ignore[reportUnnecessaryComparison]
        return b""
    return sys.stdin.buffer.read(max_size_bytes)


def _decoded(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise CommandError(ExitCode.USAGE, f"the {what} is not UTF-8 text") from None
