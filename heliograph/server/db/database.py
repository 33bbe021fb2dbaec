"""What a feature sees of the database: read a snapshot, or act inside a transaction.

```
await database.write(act)      act(tx) runs on the writer thread; the await ends after COMMIT
await database.read(query)     query(reader) runs on a reader thread, on one consistent snapshot
```

Many acts share one commit (group commit), and one which raises takes nothing but itself back. An act must be quick,
must touch nothing but its transaction and its own variables, and must not await. It may be run a second time, when
a neighbour failed half-way: what it did the first time has then never been. SQL is the common subset of SQLite and
PostgreSQL, values are bound at `?`.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from heliograph.wire.ids import TopicId

T = TypeVar("T")
SQLValue = None | int | float | str | bytes
Row = tuple[Any, ...]
Done = Callable[[T | None, BaseException | None], None]
"""Told once of what was written: the act's result, or what it or the commit raised."""


class Reader(Protocol):
    """Reads one consistent snapshot."""

    def all(self, sql: str, *args: SQLValue) -> list[Row]:
        """Return all rows."""
        ...

    def one(self, sql: str, *args: SQLValue) -> Row | None:
        """Return the first row, or None."""
        ...


class Transaction(Reader, Protocol):
    """Reads and writes inside the batch that is being committed."""

    def run(self, sql: str, *args: SQLValue) -> int:
        """Run a statement and return how many rows it changed."""
        ...

    def touch(self, topic: TopicId) -> None:
        """Wake the readers of `topic` after the commit: they ask access again and read from the database."""
        ...

    def publish(self, topic: TopicId, seq: int, body: bytes) -> None:
        """Wake the readers of `topic` after the commit with an entry just written (`log.append` does this)."""
        ...

    def defer(self, item: object) -> None:
        """Hand `item`, with all of the batch's, to the one `finish` function before COMMIT."""
        ...

    def after_commit(self, act: Callable[[], None]) -> None:
        """Run `act` on the event loop once the batch is durable, before the writer's await ends."""
        ...


class Database(Protocol):
    """One store of the truth."""

    async def write(self, act: Callable[[Transaction], T]) -> T:
        """Run `act` in a transaction and return its result once it is durable.

        Raises:
            Problem: `overloaded`, too much is waiting; `storage-full`, the disk is full. And what `act` raises.
        """
        ...

    def write_then(self, act: Callable[[Transaction], T], done: Done[T]) -> None:
        """Run `act` as `write` does, and call `done` on the event loop with its result or with what was raised.

        It is for those who have much to write: no task waits.

        Raises:
            Problem: `overloaded`; then `done` is not called.
        """
        ...

    async def read(self, query: Callable[[Reader], T]) -> T:
        """Run `query` on a snapshot that holds every write whose await has ended."""
        ...
