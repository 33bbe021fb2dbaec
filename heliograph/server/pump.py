"""What goes out of one socket: a cursor a topic, and no messages.

```
hints -> dirty topics -> pump -> tail or database -> socket       while the socket's buffer is small
```

A topic is *live* when everything up to its head has been written; then an entry just committed is written at once,
as the frame that all readers share (`deliver`). Otherwise it is *dirty*, and the pump reads on from the cursor. So a
slow reader holds one bounded buffer, and what it has not read costs nothing.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from heliograph.server import log
from heliograph.server.access import Span, readable_span
from heliograph.server.auth import Caller
from heliograph.server.context import Context
from heliograph.server.db.database import Reader
from heliograph.server.tail import Tail
from heliograph.wire.events import MAX_FRAME_SIZE_BYTES, Ended, Entries, Entry, Gap, Head
from heliograph.wire.ids import TopicId
from heliograph.wire.problems import Problem

MAX_ENTRIES_SIZE_BYTES = MAX_FRAME_SIZE_BYTES - 256
MAX_BACKOFF_S = 0.25


@dataclass(slots=True)
class Subscription:
    """Where a socket stands in a topic. `last` is set once the reader has left: nothing follows it."""

    topic: TopicId
    cursor: int
    last: int | None = None
    live: bool = False
    dirty: bool = True
    ask_access: bool = True


class Outlet(Protocol):
    """The socket that a pump fills."""

    caller: Caller | None
    close_code: int | None

    def write_if_clear(self, frame: bytes) -> bool:
        """Write a finished frame and return True, or return False where the socket does not take more now."""
        ...

    def send(self, frame: Any) -> None:
        """Write one of the structs of `wire/events.py`."""
        ...

    def is_clear(self) -> bool:
        """Tell whether the socket is open and takes more now."""
        ...


class Pump:
    """The subscriptions of one socket. `joined` and `parted` hear of each topic that comes and goes."""

    def __init__(
        self,
        context: Context,
        tail: Tail,
        outlet: Outlet,
        joined: Callable[[TopicId], None],
        parted: Callable[[TopicId], None],
    ) -> None:
        self._context = context
        self._tail = tail
        self._outlet = outlet
        self._joined = joined
        self._parted = parted
        self._subscriptions: dict[TopicId, Subscription] = {}
        self._wake = asyncio.Event()

    # ----------------------------------------------------------------------------------------------- subscriptions

    def subscribe(self, topic: TopicId, cursor: int) -> None:
        """Send a topic from a cursor; one that is sent already moves its cursor forward, never back."""
        known = self._subscriptions.get(topic)
        if known is not None:
            known.cursor = max(known.cursor, cursor)
            return
        if len(self._subscriptions) >= self._context.limits.subscriptions_per_socket:
            refusal = Problem("too-many-requests", "this socket carries its most topics")
            self._outlet.send(Ended(topic, refusal.body))
            return
        self._subscriptions[topic] = Subscription(topic, cursor)
        self._joined(topic)
        self._wake.set()

    def unsubscribe(self, topic: TopicId) -> None:
        """Send a topic no more."""
        if self._subscriptions.pop(topic, None) is not None:
            self._parted(topic)

    def end(self) -> None:
        """Send nothing more."""
        for topic in tuple(self._subscriptions):
            self.unsubscribe(topic)

    def cursor(self, topic: TopicId) -> int | None:
        """Return up to where a topic has been sent, None where it is not sent."""
        subscription = self._subscriptions.get(topic)
        return None if subscription is None else subscription.cursor

    def is_live(self, topic: TopicId) -> bool:
        """Tell whether the socket has everything of a topic."""
        subscription = self._subscriptions.get(topic)
        return subscription is not None and subscription.live

    # ------------------------------------------------------------------------------------------------------- hints

    def deliver(self, topic: TopicId, first: int, last: int, frame: bytes) -> int:
        """Write entries just committed, if the socket stands right before them; else read them in turn.

        Returns how many entries were written.
        """
        subscription = self._subscriptions.get(topic)
        if subscription is None or subscription.cursor >= last:
            return 0
        if subscription.live and subscription.cursor == first - 1 and self._outlet.write_if_clear(frame):
            subscription.cursor = last
            return last - first + 1
        self._mark(subscription)
        return 0

    def touch(self, topic: TopicId) -> None:
        """Look at a topic anew: access may have changed, entries may have gone."""
        subscription = self._subscriptions.get(topic)
        if subscription is not None:
            subscription.ask_access = True
            self._mark(subscription)

    def wake(self) -> None:
        """Let `run` see that the socket has closed."""
        self._wake.set()

    def _mark(self, subscription: Subscription) -> None:
        subscription.live = False
        subscription.dirty = True
        self._wake.set()

    # ----------------------------------------------------------------------------------------------------- pumping

    async def run(self) -> None:
        """Bring dirty topics up to their heads, in turn, a frame at a time, until the socket closes."""
        while self._outlet.close_code is None:
            await self._wake.wait()
            self._wake.clear()
            dirty = [one for one in self._subscriptions.values() if one.dirty]
            while dirty and self._outlet.close_code is None:
                await self._until_clear()
                dirty = [one for one in dirty if await self._advance(one)]

    async def _until_clear(self) -> None:
        wait_s = 0.005
        while not self._outlet.is_clear() and self._outlet.close_code is None:
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, MAX_BACKOFF_S)

    async def _advance(self, one: Subscription) -> bool:
        """Write one frame of what a topic still holds; return whether there is more."""
        if self._subscriptions.get(one.topic) is not one or not one.dirty:
            return False
        one.dirty = False
        entries = None
        if not one.ask_access and one.last is None:  # the tail knows of nobody who has left
            entries = self._tail.after(one.topic, one.cursor, MAX_ENTRIES_SIZE_BYTES)
        if entries is None:
            entries = await self._read(one)
            if entries is None or self._subscriptions.get(one.topic) is not one:
                return False
        if entries:
            self._send_entries(one, entries)
            one.dirty = True
            return True
        if one.last is not None and one.cursor >= one.last:
            self._finish(one, Problem("not-allowed", "this device is no longer in the room"))
        elif not one.dirty:
            one.live = True
            self._outlet.send(Head(one.topic, one.cursor))
        return one.dirty

    def _send_entries(self, one: Subscription, entries: list[Entry]) -> None:
        """Write entries that follow the cursor; where numbers are missing, say so first."""
        if entries[0].seq != one.cursor + 1:
            self._outlet.send(Gap(one.topic, one.cursor + 1, entries[0].seq - 1, "removed"))
        run = 1
        while run < len(entries) and entries[run].seq == entries[run - 1].seq + 1:
            run += 1
        self._outlet.send(Entries(one.topic, entries[0].seq, entries[:run]))
        one.cursor = entries[run - 1].seq
        self._context.metrics.delivered.inc(run)

    async def _read(self, one: Subscription) -> list[Entry] | None:
        """Read on from the cursor; None if the topic is over for this socket."""
        limits, caller, cursor = self._context.limits, self._outlet.caller, one.cursor

        def query(reader: Reader) -> tuple[Span, int, list[Entry]]:
            span = readable_span(reader, caller, one.topic)
            floor = max(log.floor(reader, one.topic), span.after)
            after = max(cursor, floor)
            return span, floor, log.read(reader, one.topic, after, limits.rows_per_read, MAX_ENTRIES_SIZE_BYTES)

        one.ask_access = False
        try:
            span, floor, entries = await self._context.database.read(query)
        except Problem as problem:
            self._finish(one, problem)
            return None
        one.last = span.last
        if one.cursor < floor:
            why = "not-allowed" if floor == span.after else "expired"
            self._outlet.send(Gap(one.topic, one.cursor + 1, floor, why))
            one.cursor = floor
        return [one for one in entries if span.last is None or one.seq <= span.last]

    def _finish(self, one: Subscription, problem: Problem) -> None:
        if self._subscriptions.get(one.topic) is one:
            self.unsubscribe(one.topic)
            self._outlet.send(Ended(one.topic, problem.body))
