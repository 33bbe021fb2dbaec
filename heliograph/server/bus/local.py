"""Hints inside one process: plain calls."""

from collections.abc import Callable

from heliograph.server.bus.wakeups import Hints


class LocalWakeups:
    """Calls every listener, in the order in which they came."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Hints], None]] = []

    def publish(self, hints: Hints) -> None:
        """Tell every listener."""
        for heard in tuple(self._listeners):
            heard(hints)

    def listen(self, heard: Callable[[Hints], None]) -> Callable[[], None]:
        """Call `heard` with every hint from now on; return what ends it."""
        self._listeners.append(heard)

        def end() -> None:
            if heard in self._listeners:
                self._listeners.remove(heard)

        return end
