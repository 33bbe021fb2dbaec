"""The embedded database: SQLite in WAL mode, one writer thread, group commit, a few readers.

```
event loop                     writer thread                             readers
write(act) -> inbox --one---> BEGIN; act, act, act ...; finish; COMMIT   BEGIN; query; COMMIT
              call_soon hand-over            |                              |
futures  <---- one call_soon_threadsafe -----+                              |
```

What queued while the last commit ran is the next batch; there is no timer. `synchronous=FULL` is a matter of
correctness: with NORMAL a power cut can give one epoch of a group to two commits. After an I/O error or a sign of
corruption nothing is tried again: the server stops.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import apsw
import structlog

from heliograph.server.bus.wakeups import Hints, Written
from heliograph.server.db.connection import check_sqlite_version, executor, open_connection
from heliograph.server.db.database import Done, Reader, Row, SQLValue, Transaction
from heliograph.server.db.schema import Identity, prepare
from heliograph.server.limits import Limits
from heliograph.server.metrics import Metrics
from heliograph.wire.ids import TopicId
from heliograph.wire.problems import Problem

T = TypeVar("T")
_log: structlog.stdlib.BoundLogger = structlog.get_logger("heliograph.db")

Act = Callable[[Transaction], Any]
Finish = Callable[[Transaction, Sequence[object]], None]

WAL_CHECKPOINT_PAGES = 10_000  # 40 MB: a page that many commits touch is copied once
_FATAL = (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.CantOpenError)


class _Snapshot:
    """A reader, or what a transaction reads with."""

    __slots__ = ("execute",)

    def __init__(self, connection: apsw.Connection) -> None:
        self.execute = executor(connection)

    def all(self, sql: str, *args: SQLValue) -> list[Row]:
        return self.execute(sql, args).fetchall()

    def one(self, sql: str, *args: SQLValue) -> Row | None:
        rows = self.execute(sql, args).fetchall()
        return rows[0] if rows else None


class _Batch(_Snapshot):
    """The transaction that a batch of acts shares, and what they ask to be done around its commit."""

    __slots__ = ("_connection", "deferred", "done_acts", "hints")

    def __init__(self, connection: apsw.Connection) -> None:
        super().__init__(connection)
        self._connection = connection
        self.begin()

    def begin(self) -> None:
        self.hints: list[_Hint] = []
        self.deferred: list[object] = []
        self.done_acts: list[Callable[[], None]] = []

    def run(self, sql: str, *args: SQLValue) -> int:
        self.execute(sql, args).fetchall()
        return self._connection.changes()

    def touch(self, topic: TopicId) -> None:
        self.hints.append((topic, None))

    def publish(self, topic: TopicId, seq: int, body: bytes) -> None:
        self.hints.append((topic, (seq, body)))

    def defer(self, item: object) -> None:
        self.deferred.append(item)

    def after_commit(self, act: Callable[[], None]) -> None:
        self.done_acts.append(act)

    def mark(self) -> tuple[int, int, int]:
        return len(self.hints), len(self.deferred), len(self.done_acts)

    def take_back(self, mark: tuple[int, int, int]) -> None:
        del self.hints[mark[0] :]
        del self.deferred[mark[1] :]
        del self.done_acts[mark[2] :]


_Hint = tuple[TopicId, Written | None]
_Waiting = tuple[Act, Done[Any]]
_Result = tuple[Done[Any], Any, BaseException | None]


class SQLiteDatabase:
    """A data directory's database, open in this process alone (the caller holds the directory's lock).

    `finish` gets what a batch's acts deferred, before its COMMIT. `wake` gets the batch's hints after it, on the
    event loop. `broken` is called once when the disk or the file fails: the server must stop.
    `synchronous` and `vfs` exist for the tests that cut the power.
    """

    def __init__(
        self,
        path: Path,
        first: Identity,
        limits: Limits,
        metrics: Metrics,
        *,
        finish: Finish,
        wake: Callable[[Hints], None],
        broken: Callable[[BaseException], None],
        synchronous: str = "FULL",
        vfs: str | None = None,
    ) -> None:
        check_sqlite_version(apsw.sqlite_lib_version())
        self._limits = limits
        self._metrics = metrics
        self._finish = finish
        self._wake = wake
        self._broken = broken
        self._loop = asyncio.get_running_loop()
        self._connection = open_connection(path, synchronous=synchronous, vfs=vfs)
        self._connection.wal_autocheckpoint(WAL_CHECKPOINT_PAGES)
        self.identity = prepare(executor(self._connection), first)
        self._waiting = 0
        self._waiting_reads = 0
        self._failed = False
        self._inbox: list[_Waiting] = []
        self._batches: queue.SimpleQueue[list[_Waiting] | None] = queue.SimpleQueue()
        self._queries: queue.SimpleQueue[tuple[Callable[[Reader], Any], asyncio.Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        readers = [open_connection(path, synchronous=synchronous, vfs=vfs) for _ in range(limits.readers)]
        self._threads = [threading.Thread(target=self._write_batches, name="heliograph-writer", daemon=True)]
        for number, connection in enumerate(readers):
            executor(connection)("PRAGMA query_only = ON").fetchall()
            name = f"heliograph-reader-{number}"
            self._threads.append(threading.Thread(target=self._answer, args=(connection,), name=name, daemon=True))
        for thread in self._threads:
            thread.start()

    # ------------------------------------------------------------------------------------- on the event loop

    async def write(self, act: Callable[[Transaction], T]) -> T:
        """Run `act` in the next batch and return its result once that is durable.

        Raises:
            Problem: `overloaded`, `storage-full`; and what `act` raises.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self.write_then(act, partial(_settle, future))
        return await future

    def write_then(self, act: Callable[[Transaction], T], done: Done[T]) -> None:
        """Run `act` in the next batch and call `done` once that is durable or has failed.

        Raises:
            Problem: `overloaded`; then `done` is not called.
        """
        if self._failed:
            raise Problem("internal-error", "the server is stopping")
        if self._waiting >= self._limits.waiting_writes:
            raise Problem("overloaded", "the server has too much to write: try again", retry_after_s=1)
        self._waiting += 1
        if not self._inbox:
            self._loop.call_soon(self._hand_over)
        self._inbox.append((act, done))

    async def read(self, query: Callable[[Reader], T]) -> T:
        """Run `query` on a snapshot that holds every write whose await has ended.

        Raises:
            Problem: `overloaded`; and what `query` raises.
        """
        if self._failed:
            raise Problem("internal-error", "the server is stopping")
        if self._waiting_reads >= self._limits.waiting_writes:
            raise Problem("overloaded", "the server has too much to read: try again", retry_after_s=1)
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting_reads += 1
        self._queries.put((query, future))
        return await future

    async def checkpoint(self) -> None:
        """Bring the whole WAL into the database file and cut it to nothing."""

        def act() -> None:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

        await self.between_commits(act)

    async def between_commits(self, act: Callable[[], T]) -> T:
        """Run `act` on the writer thread while no transaction is open (checkpoints, backups)."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting += 1
        self._hand_over()
        self._batches.put([(_Alone(act), partial(_settle, future))])
        return await future

    async def close(self) -> None:
        """Finish what was accepted, fold the WAL in and let go of the files."""
        self._hand_over()
        self._batches.put(None)
        for _ in self._threads[1:]:
            self._queries.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        if not self._failed:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        self._connection.close()

    def _hand_over(self) -> None:
        if self._inbox:
            self._batches.put(self._inbox)
            self._inbox = []

    def _tell(self, results: Sequence[_Result], hints: Sequence[_Hint], done: Sequence[Callable[[], None]]) -> None:
        """Let the event loop know of a batch, in the order that readers rely on."""
        self._waiting -= len(results)
        self._metrics.waiting_writes.set(self._waiting)
        self._metrics.acts_per_commit.observe(len(results))
        for act in done:
            try:
                act()
            except Exception as error:  # the writes are durable: they must be acknowledged
                _log.exception("what follows a commit failed", error=type(error).__name__)
        for tell, value, error in results:
            try:
                tell(value, error)
            except Exception as failure:  # of one writer: the others must hear as well
                _log.exception("a writer failed when it was told", error=type(failure).__name__)
        if hints:
            self._wake(_by_topic(hints))

    def _tell_read(self, future: "asyncio.Future[Any]", value: Any, error: BaseException | None) -> None:
        self._waiting_reads -= 1
        _settle(future, value, error)

    def _tell_broken(self, error: BaseException) -> None:
        if not self._failed:
            self._failed = True
            self._broken(error)

    # ---------------------------------------------------------------------------------- on the writer thread

    def _write_batches(self) -> None:
        batch = _Batch(self._connection)
        backlog: list[_Waiting] = []
        size = self._limits.acts_per_commit
        closing = False
        while not (closing and not backlog):
            if not backlog:
                closing = self._take(backlog, wait=True)
            while not closing and len(backlog) < size and not self._batches.empty():
                closing = self._take(backlog, wait=False)
            if backlog and isinstance(backlog[0][0], _Alone):
                self._run_alone(*backlog.pop(0))
                continue
            count = next((n for n, (act, _) in enumerate(backlog[:size]) if isinstance(act, _Alone)), size)
            if backlog:
                self._commit(batch, backlog[:count])
                del backlog[:count]

    def _take(self, backlog: list[_Waiting], *, wait: bool) -> bool:
        """Move one hand-over into the backlog; return True when the database is being closed."""
        try:
            taken = self._batches.get(block=wait)
        except queue.Empty:
            return False
        if taken is None:
            return True
        backlog.extend(taken)
        return False

    def _run_alone(self, alone: Act, done: Done[Any]) -> None:
        try:
            result: _Result = (done, alone(None), None)  # type: ignore[arg-type]
        except Exception as error:
            result = (done, None, error)
        self._loop.call_soon_threadsafe(self._tell, (result,), (), ())

    def _commit(self, batch: _Batch, acts: list[_Waiting]) -> None:
        """Run a batch. An act that fails after it has written is rare: then all of it is run again, more carefully.

        A savepoint for each act costs a copy of every page that the act touches, so the first run has none.
        """
        try:
            try:
                results = self._run_batch(batch, acts, self._run_together)
            except _WroteAndFailedError:
                batch.execute("ROLLBACK")
                results = self._run_batch(batch, acts, self._run_apart)
        except BaseException as error:
            self._give_up(acts, error)
            return
        self._loop.call_soon_threadsafe(self._tell, results, batch.hints, batch.done_acts)

    def _run_batch(
        self, batch: _Batch, acts: list[_Waiting], run: Callable[[_Batch, list[_Waiting]], list[_Result]]
    ) -> list[_Result]:
        batch.begin()
        batch.execute("BEGIN IMMEDIATE")
        results = run(batch, acts)
        if batch.deferred:
            self._finish(batch, batch.deferred)
        batch.execute("COMMIT")
        return results

    def _run_together(self, batch: _Batch, acts: list[_Waiting]) -> list[_Result]:
        """Run acts one after the other; one that raises must have written nothing, which is how most say no."""
        results: list[_Result] = []
        total_changes = self._connection.total_changes
        for act, done in acts:
            mark, changes = batch.mark(), total_changes()
            try:
                results.append((done, act(batch), None))
            except (apsw.FullError, *_FATAL):
                raise
            except Exception as error:
                if total_changes() != changes:
                    raise _WroteAndFailedError from error
                batch.take_back(mark)
                results.append((done, None, error))
        return results

    def _run_apart(self, batch: _Batch, acts: list[_Waiting]) -> list[_Result]:
        """Run each act in a savepoint: one that raises takes back only what it did itself."""
        results: list[_Result] = []
        execute = batch.execute
        for act, done in acts:
            mark = batch.mark()
            execute("SAVEPOINT act")
            try:
                results.append((done, act(batch), None))
            except (apsw.FullError, *_FATAL):
                raise
            except Exception as error:
                batch.take_back(mark)
                execute("ROLLBACK TO act")
                results.append((done, None, error))
            execute("RELEASE act")
        return results

    def _give_up(self, acts: list[_Waiting], error: BaseException) -> None:
        """Take the whole batch back: nothing of it was acknowledged."""
        fatal = isinstance(error, _FATAL)
        if not fatal and self._connection.in_transaction:
            try:
                executor(self._connection)("ROLLBACK")
            except apsw.Error:
                fatal = True
        answer = error
        if isinstance(error, apsw.FullError):
            answer = Problem("storage-full", "the server's disk is full")
        elif fatal:
            answer = Problem("internal-error", "the server's disk failed: it stops")
            self._loop.call_soon_threadsafe(self._tell_broken, error)
        results: list[_Result] = [(done, None, answer) for _, done in acts]
        self._loop.call_soon_threadsafe(self._tell, results, (), ())

    # --------------------------------------------------------------------------------- on the reader threads

    def _answer(self, connection: apsw.Connection) -> None:
        snapshot = _Snapshot(connection)
        execute = executor(connection)
        while (waiting := self._queries.get()) is not None:
            query, future = waiting
            try:
                execute("BEGIN")
                try:
                    answer = (query(snapshot), None)
                finally:
                    execute("COMMIT")
            except _FATAL as error:
                answer = (None, Problem("internal-error", "the server's disk failed: it stops"))
                self._loop.call_soon_threadsafe(self._tell_broken, error)
            except Exception as error:
                answer = (None, error)
            self._loop.call_soon_threadsafe(self._tell_read, future, *answer)
        connection.close()


class _WroteAndFailedError(Exception):
    """An act raised after it had written."""


class _Alone:
    """An act that needs the connection while no transaction is open."""

    __slots__ = ("_act",)

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act

    def __call__(self, tx: Transaction) -> Any:
        return self._act()


def _settle(future: "asyncio.Future[Any]", value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


def _by_topic(hints: Sequence[_Hint]) -> Hints:
    """Fold a batch's hints: entries in order, or None where anything of the topic asks for a fresh look."""
    found: dict[TopicId, list[Written] | None] = {}
    for topic, written in hints:
        if written is None:
            found[topic] = None
        else:
            entries = found.setdefault(topic, [])
            if entries is not None:
                entries.append(written)
    for entries in found.values():
        if entries is not None and len(entries) > 1:
            entries.sort()  # a number taken early may be filled late
    return found
