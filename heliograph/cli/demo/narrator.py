"""How the demo is told: acts, what happened in them and when, and every expectation with its outcome.

People read a calm list, with a mark before each thing that was checked. Programs read one object a line: `act`,
`event`, `check`, and at the end `demo`. Nothing is assumed: what is not checked is told as an event.
"""

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

from heliograph.cli.output import Output, Step, printable


class WrongOutcome(Exception):
    """Something came out otherwise than the demo promises; the text says what was expected and what came."""


class _Console(Console):
    """A console that leaves a closed pipe to the one place where exceptions become exit codes."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Narrator:
    """Tell the demo as it goes, and stop it at the first wrong outcome."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._console = _Console(highlight=False, soft_wrap=True)
        self._started_s = time.monotonic()
        self._act = 0
        self.checks = 0

    def elapsed_s(self) -> float:
        """Return the seconds since the demo began."""
        return time.monotonic() - self._started_s

    @contextmanager
    def act(self, number: int, title: str) -> Generator[None]:
        """Tell one act, with its title before and its length after."""
        self._act, began_s = number, time.monotonic()
        self._tell("act", Text.assemble("\n", (f"{number}  {title}", "bold")), act=number, title=title)
        yield
        took_s = round(time.monotonic() - began_s, 2)
        self._tell("act-ended", Text(f"   {took_s:.1f} s", style="dim"), act=number, took_s=took_s)

    def event(self, text: str, **members: Any) -> None:
        """Tell something that happened."""
        self._tell("event", self._line(" ", text, ""), act=self._act, text=text, **members)

    def check(self, holds: bool, text: str, otherwise: str = "", **members: Any) -> None:
        """Tell that an expectation holds.

        Raises:
            WrongOutcome: it does not.
        """
        self._tell(
            "check",
            self._line("✓", text, "green") if holds else self._line("✗", f"{text}: {otherwise or 'no'}", "red"),
            act=self._act,
            text=text,
            ok=holds,
            **members,
        )
        if not holds:
            raise WrongOutcome(f"{text}: {otherwise or 'it is not so'}")
        self.checks += 1

    def require(self, holds: bool, text: str) -> None:
        """Check something that is not worth a line when it holds; raises WrongOutcome when it does not."""
        if holds:
            self.checks += 1
        else:
            self.check(False, text)

    @contextmanager
    def progress(self, doing: str, total: int) -> Generator[Step]:
        """Show on standard error how far long work is."""
        with self._output.progress(doing, total) as step:
            yield step

    def quote(self, who: str, words: str) -> None:
        """Tell what somebody said, as its readers see it."""
        line = Text.assemble(" " * 12, (f"{who}: ", "cyan"), printable(words))
        self._tell("quote", line, act=self._act, who=who, text=words)

    def end(self, *, ok: bool, **figures: Any) -> None:
        """Tell how it ended."""
        took_s = round(self.elapsed_s(), 2)
        said = f"Everything came out as promised: {self.checks} checks in {took_s:.1f} s."
        line = Text(f"\n{said}" if ok else "\nThe demo failed.", style="bold" if ok else "bold red")
        self._tell("demo", line, ok=ok, checks=self.checks, took_s=took_s, **figures)

    def _line(self, mark: str, text: str, style: str) -> Text:
        return Text.assemble((f"{self.elapsed_s():7.2f} s ", "dim"), (mark, style), " ", printable(text))

    def _tell(self, kind: str, line: Text, /, **members: Any) -> None:
        if self._output.as_json:
            self._output.tell(kind, "", at_s=round(self.elapsed_s(), 3), **members)
        else:
            self._console.print(line)
