"""What every bench shares: contenders take turns, medians count, and one table or one JSON object comes out.

    def measure() -> Sequence[Figure]:
        taken = take_turns({"ours": run_ours, "relay": run_relay}, rounds=5)
        ratio = median(taken["ours"]) / median(taken["relay"])
        return [at_most("cpu ratio to the relay", ratio, "times", 2.5)]

    if __name__ == "__main__":
        main("delivery", measure)

Progress goes to standard error, the result to standard output. The exit code is 1 when a bound is broken.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

MIN_ROUNDS = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number; `bound` is text such as "<= 2.5", or None where nothing is promised."""

    name: str
    value: float
    unit: str
    bound: str | None
    ok: bool


def at_most(name: str, value: float, unit: str, bound: float) -> Figure:
    """Return a figure that is good while it does not exceed its bound."""
    return Figure(name, value, unit, f"<= {bound:g}", value <= bound)


def seen(name: str, value: float, unit: str) -> Figure:
    """Return a figure that is only told."""
    return Figure(name, value, unit, None, True)


def take_turns(contenders: Mapping[str, Callable[[], T]], *, rounds: int = MIN_ROUNDS) -> dict[str, list[T]]:
    """Run every contender once a round, so that a disturbance meets all of them; return their results."""
    if rounds < MIN_ROUNDS:
        raise ValueError(f"a median needs at least {MIN_ROUNDS} rounds")
    taken: dict[str, list[T]] = {name: [] for name in contenders}
    for number in range(1, rounds + 1):
        for name, run in contenders.items():
            print(f"round {number} of {rounds}: {name}", file=sys.stderr, flush=True)
            taken[name].append(run())
    return taken


def machine() -> dict[str, str | int]:
    """Return what the figures depend on: processor, cores, Python, system."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def report(bench: str, figures: Sequence[Figure], *, as_json: bool) -> int:
    """Print the figures, as a table or as one JSON object; return the exit code."""
    if as_json:
        print(json.dumps({"bench": bench, "machine": machine(), "figures": [asdict(one) for one in figures]}))
    else:
        title = f"{bench}: {_processor()}, {os.cpu_count()} cores"
        table = Table("figure", "value", "unit", "bound", "", title=title)
        for one in figures:
            verdict = "" if one.bound is None else "ok" if one.ok else "[red]BROKEN[/red]"
            table.add_row(one.name, f"{one.value:.4g}", one.unit, one.bound or "", verdict)
        Console().print(table)
    return 0 if all(one.ok for one in figures) else 1


def main(bench: str, measure: Callable[[], Sequence[Figure]]) -> None:
    """Measure, report and exit."""
    parser = argparse.ArgumentParser(prog=f"dev.py bench {bench}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    sys.exit(report(bench, measure(), as_json=options.json))


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
