"""The newest entries of active topics, shared by all their readers, so that a live entry is not read back.

It holds only what hints brought, in unbroken order; whatever breaks the order empties the topic, and readers go to
the database.
"""

from collections import deque
from collections.abc import Sequence

import msgspec

from heliograph.server.bus.wakeups import Written
from heliograph.wire.events import Entry
from heliograph.wire.ids import TopicId


class Tail:
    """At most `entries` of each of `topics` topics, and `size_bytes` in all; the least active topic goes first."""

    def __init__(self, entries: int, topics: int, size_bytes: int) -> None:
        self._entries = entries
        self._topics = topics
        self._size_limit_bytes = size_bytes
        self._size_bytes = 0
        self._held: dict[TopicId, deque[Written]] = {}

    def extend(self, topic: TopicId, written: Sequence[Written]) -> None:
        """Add entries just written, in order."""
        held = self._held.pop(topic, None)
        if held is None or held[-1][0] + 1 != written[0][0]:
            self._forget(held)
            held = deque[Written]()
        for one in written:
            held.append(one)
            self._size_bytes += len(one[1])
        while len(held) > self._entries:
            self._size_bytes -= len(held.popleft()[1])
        self._held[topic] = held
        while self._held and (len(self._held) > self._topics or self._size_bytes > self._size_limit_bytes):
            self.drop(next(iter(self._held)))

    def drop(self, topic: TopicId) -> None:
        """Forget a topic."""
        self._forget(self._held.pop(topic, None))

    def after(self, topic: TopicId, seq: int, max_bytes: int) -> list[Entry] | None:
        """Return entries after `seq` that fit in `max_bytes` (but one), or None if they are not all here."""
        held = self._held.get(topic)
        if not held or seq + 1 < held[0][0]:
            return None
        size_bytes = 0
        found: list[Entry] = []
        for number, body in held:
            if number <= seq:
                continue
            size_bytes += len(body) + 16
            if found and size_bytes > max_bytes:
                break
            found.append(Entry(number, msgspec.Raw(body)))
        return found

    def _forget(self, held: "deque[Written] | None") -> None:
        if held is not None:
            self._size_bytes -= sum(len(body) for _, body in held)
