"""What a reader hears when topics have grown: a hint, never the truth.

A hint without entries says "ask again": access may have changed, or entries were erased. A hint with entries
carries what was just committed, so that readers in the same process need not read it back.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from heliograph.wire.ids import TopicId

Written = tuple[int, bytes]
"""An entry just committed: its seq and its body as MessagePack."""

Hints = Mapping[TopicId, Sequence[Written] | None]
"""By topic: the entries just written in order, or None for "ask again"."""


class Wakeups(Protocol):
    """Carries hints from whoever committed to whoever reads."""

    def publish(self, hints: Hints) -> None:
        """Tell every listener. Runs on the event loop."""
        ...

    def listen(self, heard: Callable[[Hints], None]) -> Callable[[], None]:
        """Call `heard` with every hint from now on; return what ends it."""
        ...
