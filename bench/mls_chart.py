"""How the bench of MLS is looked at: one line an operation in a table, and small charts of time against group size."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import log10

from rich.box import SIMPLE_HEAD
from rich.table import Table

CREATE = "create"
WIDTH, HEIGHT, MARGIN_LEFT, MARGIN_TOP, MARGIN = 210, 150, 46, 30, 22
COLUMNS = 3
COLOURS = {"ours": "#0b5cad", "primitives": "#8a8a8a", "ts-mls": "#c2410c"}


@dataclass(frozen=True, slots=True)
class Row:
    """One operation of one suite and size: our time, that of its primitives, and that of ts-mls where it was asked."""

    suite_id: int
    size: int
    operation: str
    ours_ms: float
    primitives_ms: float
    peer_ms: float | None

    @property
    def name(self) -> str:
        """Return what the row is called."""
        return f"{suite_name(self.suite_id)}, N={self.size}, {self.operation}"

    @property
    def ratio(self) -> float:
        """Return our time over that of the primitives."""
        return self.ours_ms / self.primitives_ms

    @property
    def ratio_max(self) -> float:
        """Return the budget: 2.5 times the primitives, or in small groups 4 times, or 0.3 ms if that is more."""
        return 2.5 if self.size >= 100 else max(4.0, 0.3 / self.primitives_ms)

    @property
    def ratio_to_peer(self) -> float | None:
        """Return our time over that of ts-mls."""
        return None if self.peer_ms is None else self.ours_ms / self.peer_ms

    @property
    def ok(self) -> bool:
        """Say whether the row keeps its budget and is faster than ts-mls."""
        return self.ratio <= self.ratio_max and (self.ratio_to_peer or 0) <= 1


def suite_name(suite_id: int) -> str:
    """Return the suite as people say it."""
    return f"suite {suite_id}" if suite_id < 0x1000 else f"suite 0x{suite_id:04X}"


def tables(rows: Sequence[Row]) -> Iterator[Table]:
    """Return the rows as a table a suite, for people."""
    for suite_id in dict.fromkeys(row.suite_id for row in rows):
        shown = Table(title=f"{suite_name(suite_id)}: time of one operation, ms", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
        for heading in ("N", "operation", "ours", "primitives", "ratio", "budget", "ts-mls", "ratio", ""):
            shown.add_column(heading, justify="left" if heading == "operation" else "right", no_wrap=True)
        size = None
        for row in rows:
            if row.suite_id != suite_id:
                continue
            if size is not None and row.size != size:
                shown.add_section()
            shown.add_row(
                "" if row.size == size else str(row.size),
                row.operation,
                _milliseconds(row.ours_ms),
                _milliseconds(row.primitives_ms),
                f"{row.ratio:.2f}",
                f"{row.ratio_max:.2g}",
                "" if row.peer_ms is None else _milliseconds(row.peer_ms),
                "" if row.ratio_to_peer is None else f"{row.ratio_to_peer:.2f}",
                "ok" if row.ok else "[red]BROKEN[/red]",
            )
            size = row.size
        yield shown


def _milliseconds(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def svg(rows: Sequence[Row]) -> str:
    """Return one small chart an operation and suite, both axes logarithmic, as an SVG document."""
    panels: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        panels.setdefault((row.suite_id, row.operation), []).append(row)
    per_column = -(-len(panels) // COLUMNS)
    width, height = COLUMNS * WIDTH, per_column * HEIGHT + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        ' font-family="sans-serif" font-size="9">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, ((suite_id, operation), of_panel) in enumerate(panels.items()):
        left, top = number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT
        parts.append(f'<g transform="translate({left} {top})">')
        parts += _panel(f"{operation}, {suite_name(suite_id)}", of_panel)
        parts.append("</g>")
    for number, (name, colour) in enumerate(COLOURS.items()):
        parts.append(f'<text x="{MARGIN_LEFT + 90 * number}" y="{height - 8}" fill="{colour}">&#9644; {name}</text>')
    return "\n".join((*parts, "</svg>\n"))


def _panel(title: str, rows: Sequence[Row]) -> list[str]:
    lines = {
        "ours": {row.size: row.ours_ms for row in rows},
        "primitives": {row.size: row.primitives_ms for row in rows},
        "ts-mls": {row.size: row.peer_ms for row in rows if row.peer_ms is not None},
    }
    values = [value for line in lines.values() for value in line.values()]
    low, high = _floor(min(values)), _floor(max(values)) + 1
    sizes = [row.size for row in rows]
    right, bottom = WIDTH - 18, HEIGHT - MARGIN

    def x(size: float) -> float:
        span = log10(max(sizes)) - log10(min(sizes)) or 1.0
        return MARGIN_LEFT + (log10(size) - log10(min(sizes))) / span * (right - MARGIN_LEFT)

    def y(value: float) -> float:
        return bottom - (log10(value) - low) / (high - low) * (bottom - MARGIN_TOP)

    parts = [f'<text x="{MARGIN_LEFT}" y="{MARGIN_TOP - 12}" font-size="10">{escape(title)}</text>']
    for power in range(low, high + 1):
        height = y(10.0**power)
        parts.append(f'<path d="M{MARGIN_LEFT} {height:.1f}H{right}" stroke="#e2e2e2"/>')
        parts.append(f'<text x="{MARGIN_LEFT - 4}" y="{height + 3:.1f}" text-anchor="end">{10.0**power:g} ms</text>')
    parts += [f'<text x="{x(size):.1f}" y="{bottom + 12}" text-anchor="middle">{size}</text>' for size in sizes]
    for name, line in lines.items():
        parts += _line(COLOURS[name], {x(size): y(value) for size, value in line.items()})
    return parts


def _line(colour: str, points: Mapping[float, float]) -> list[str]:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points.items())
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>' for x, y in points.items()]
    return [f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="1.5"/>', *dots]


def _floor(value: float) -> int:
    return int(log10(value) // 1)
