"""How commands speak: results on standard output, everything else on standard error.

With `--json` a result is one JSON object a line, with a `type`, so that `heliograph receive --follow --json | jq`
works; without, it is a line for people. Progress and complaints never mix with results.

Text that strangers wrote is printed as text: control characters, which could move the cursor or recolour a terminal,
and the marks that reverse the direction of writing are shown as escapes.
"""

import base64
import json
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]

_BIDI = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
_UNSAFE = {
    code: f"\\u{code:04x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0xFEFF, *_BIDI)
    if chr(code) not in "\n\t"
}

_errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def printable(text: str) -> str:
    """Return text with everything that could steer a terminal written out."""
    return text.translate(_UNSAFE)


class Output:
    """One command's results: lines for people, or with `as_json` one object a line."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def tell(self, kind: str, text: str, /, **members: Any) -> None:
        """Print one result: `text` for people, or `members` under their `kind`; bytes become base64url."""
        if self.as_json:
            line = json.dumps({"type": kind, **members}, default=_json_value, ensure_ascii=False)
        else:
            line = printable(text)
        print(line, flush=True)

    def table(self, kind: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Print rows: aligned under their columns for people, else one object a row."""
        if self.as_json:
            for row in rows:
                self.tell(kind, "", **dict(zip(columns, row, strict=True)))
            return
        cells = [[printable(str(cell)).replace("\n", " ") for cell in row] for row in rows]
        widths = [max(len(line[i]) for line in (list(columns), *cells)) for i in range(len(columns))]
        for line in (list(columns), *cells):
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

    @contextmanager
    def progress(self, doing: str, total: int | None = None) -> Generator["Step"]:
        """Show on standard error how far long work is; silent where that is no terminal."""
        columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        bar = Progress(*columns, console=_errors, transient=True, disable=not _errors.is_terminal)
        with bar:
            task = bar.add_task(doing, total=total)
            yield Step(bar, task)


class Step:
    """What moves a progress bar on."""

    def __init__(self, bar: Progress, task: Any) -> None:
        self._bar = bar
        self._task = task

    def advance(self, doing: str | None = None, by: int = 1) -> None:
        """Say that `by` more are done, and what is being done now."""
        self._bar.update(self._task, advance=by, description=doing)


def note(text: str) -> None:
    """Say something that is no result, on standard error."""
    _errors.print(printable(text))


def complain(text: str) -> None:
    """Say on standard error what went wrong."""
    print(f"heliograph: {printable(text)}", file=sys.stderr, flush=True)


def _json_value(value: object) -> object:
    if isinstance(value, bytes):
        return base64.urlsafe_b64encode(value).decode("ascii").rstrip("=")
    raise TypeError(f"not a JSON value: {type(value).__name__}")
