"""Counting what stands in a tree, without counting all of it anew after every change.

Theory of operation. A `Tally` is a value: how often each item occurs. A change is laid over a dict that all tallies
share which came from it, and once the overlay has grown to a fraction of that dict, both become one new dict. So a
change costs what it changes and a small share of the whole.
"""

from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)

_LEAST_OVERLAY = 64
_OVERLAY_SHARE = 16


class Tally(Generic[Item]):
    """An immutable multiset; `repeated` is the number of items that occur more than once."""

    __slots__ = ("_base", "_overlay", "repeated")

    _base: dict[Item, int]
    # Items whose count is another than in the base, with that count.
    _overlay: dict[Item, int]
    repeated: int

    def __init__(self, base: dict[Item, int], overlay: dict[Item, int], repeated: int) -> None:
        """Hold two dicts that nobody changes any more; most callers want `of` or `changed`."""
        self._base = base
        self._overlay = overlay
        self.repeated = repeated

    @classmethod
    def of(cls, items: Iterable[Item]) -> "Tally[Item]":
        """Return the tally of some items."""
        counts: dict[Item, int] = {}
        for item in items:
            counts[item] = counts.get(item, 0) + 1
        return cls(counts, {}, sum(count > 1 for count in counts.values()))

    def __contains__(self, item: Item) -> bool:
        return self.count(item) > 0

    def __iter__(self) -> Iterator[Item]:
        """Go through the items that occur, each once."""
        yield from (item for item in self._base if item not in self._overlay)
        yield from (item for item, count in self._overlay.items() if count)

    def count(self, item: Item) -> int:
        """Return how often an item occurs."""
        over = self._overlay.get(item)
        return self._base.get(item, 0) if over is None else over

    def changed(self, removed: Iterable[Item], added: Iterable[Item]) -> "Tally[Item]":
        """Return the tally after some occurrences are gone and others have come."""
        steps: dict[Item, int] = {}
        for item in removed:
            steps[item] = steps.get(item, 0) - 1
        for item in added:
            steps[item] = steps.get(item, 0) + 1
        overlay, repeated = self._overlay.copy(), self.repeated
        for item, step in steps.items():
            before = self.count(item)
            overlay[item] = before + step
            repeated += (before + step > 1) - (before > 1)
        if len(overlay) <= _LEAST_OVERLAY + len(self._base) // _OVERLAY_SHARE:
            return Tally(self._base, overlay, repeated)
        counts = {item: count for item, count in (self._base | overlay).items() if count}
        return Tally(counts, {}, repeated)
