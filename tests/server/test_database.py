"""Group commit: durable before acknowledged, and nobody pays for a neighbour."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from heliograph.server import log
from heliograph.server.bus.wakeups import Hints
from heliograph.server.db.connection import DatabaseRefusedError, check_sqlite_version, executor
from heliograph.server.db.database import Transaction
from heliograph.server.db.schema import Identity
from heliograph.server.db.sqlite import SQLiteDatabase
from heliograph.server.limits import Limits
from heliograph.server.metrics import create_metrics
from heliograph.wire.events import ErasedEvent, OutcomeEvent
from heliograph.wire.ids import TopicId
from heliograph.wire.problems import Problem

TOPIC = TopicId("raaaaaaaaaaaaaaaaaaaaaaaaaa")
EVENT = OutcomeEvent("rp", "x", 0)


class Opened:
    """A database, and what it has said."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hints: list[Hints] = []
        self.finished: list[Sequence[object]] = []
        self.broken: list[BaseException] = []
        self.database: SQLiteDatabase

    def beside(self) -> list[Any]:
        """Read the entries' bodies as another process would see them now."""
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READONLY)
        found = connection.execute("SELECT seq FROM entries ORDER BY seq").fetchall()
        connection.close()
        return [seq for (seq,) in found]


@asynccontextmanager
async def opened(tmp_path: Path, **limits: Any) -> AsyncGenerator[Opened]:
    one = Opened(tmp_path / "test.db")
    one.database = SQLiteDatabase(
        one.path,
        Identity("localhost", "first", 1),
        Limits(**limits),
        create_metrics(),
        finish=lambda tx, items: one.finished.append(list(items)),
        wake=one.hints.append,
        broken=one.broken.append,
    )
    try:
        await one.database.write(lambda tx: log.create_topic(tx, TOPIC, 0))
        yield one
    finally:
        await one.database.close()


def failing(tx: Transaction) -> None:
    log.append(tx, TOPIC, EVENT)
    tx.defer("never")
    raise Problem("not-allowed")


async def test_an_act_that_fails_takes_nothing_but_itself_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:
        results = await asyncio.gather(
            one.database.write(lambda tx: log.append(tx, TOPIC, EVENT)),
            one.database.write(failing),
            one.database.write(lambda tx: tx.run("INSERT INTO nowhere VALUES (1)")),
            one.database.write(lambda tx: log.append(tx, TOPIC, EVENT)),
            return_exceptions=True,
        )
        assert results[0] == 1 and results[3] == 2
        assert isinstance(results[1], Problem) and isinstance(results[2], apsw.SQLError)
        assert one.beside() == [1, 2]
        assert [[seq for seq, _ in hint[TOPIC] or ()] for hint in one.hints] == [[1, 2]]
        assert one.finished == []


async def test_a_write_is_durable_when_it_is_acknowledged(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:
        for number in range(1, 20):
            await one.database.write(lambda tx: log.append(tx, TOPIC, EVENT))
            assert one.beside()[-1] == number


async def test_waiting_writes_share_a_commit_and_one_finish(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:

        def act(tx: Transaction) -> None:
            tx.defer("item")

        await asyncio.gather(*(one.database.write(act) for _ in range(300)))
        assert sum(len(items) for items in one.finished) == 300
        assert len(one.finished) <= 3
        assert max(len(items) for items in one.finished) == 256


async def test_what_follows_a_commit_runs_before_its_await_ends(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:
        order: list[str] = []

        def act(tx: Transaction) -> None:
            tx.after_commit(lambda: order.append("after"))

        await one.database.write(act)
        order.append("awaited")
        assert order == ["after", "awaited"]


async def test_a_failure_after_the_commit_does_not_lose_the_acknowledgement(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:

        def broken() -> None:
            raise ValueError("a bug")

        def act(tx: Transaction) -> int:
            tx.after_commit(broken)
            return log.append(tx, TOPIC, EVENT)

        assert await one.database.write(act) == 1


async def test_a_batch_whose_finish_fails_is_taken_back_whole(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:

        def finish(tx: Transaction, items: Sequence[object]) -> None:
            raise ValueError("no stamp")

        one.database._finish = finish

        def act(tx: Transaction) -> int:
            tx.defer("item")
            return log.append(tx, TOPIC, EVENT)

        results = await asyncio.gather(*(one.database.write(act) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in results] == 3 * [ValueError]
        assert one.beside() == []
        assert one.hints == []


async def test_too_many_waiting_writes_are_refused(tmp_path: Path) -> None:
    async with opened(tmp_path, waiting_writes=10) as one:
        results = await asyncio.gather(
            *(one.database.write(lambda tx: log.append(tx, TOPIC, EVENT)) for _ in range(15)), return_exceptions=True
        )
        refused = [result for result in results if isinstance(result, Problem)]
        assert len(refused) == 5
        assert all(problem.slug == "overloaded" and problem.body.retry_after_s for problem in refused)


async def test_a_full_disk_refuses_writes_and_the_database_goes_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:
        pages = executor(one.database._connection)("PRAGMA page_count").fetchall()[0][0]
        one.database._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        big = OutcomeEvent("rp", "x" * 100_000, 0)
        with pytest.raises(Problem, match="storage-full"):
            await one.database.write(lambda tx: log.append(tx, TOPIC, big))
        one.database._connection.execute("PRAGMA max_page_count = 1000000")
        assert await one.database.write(lambda tx: log.append(tx, TOPIC, EVENT)) == 1
        assert one.broken == []


async def test_a_failing_disk_stops_the_server_and_is_never_tried_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:

        def act(tx: Transaction) -> None:
            raise apsw.IOError("fsync failed")

        with pytest.raises(Problem, match="internal-error"):
            await one.database.write(act)
        assert [type(error) for error in one.broken] == [apsw.IOError]
        with pytest.raises(Problem, match="internal-error"):
            await one.database.write(lambda tx: log.append(tx, TOPIC, EVENT))


async def test_a_reader_cannot_write(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:
        with pytest.raises(apsw.ReadOnlyError):
            await one.database.read(lambda reader: reader.all("DELETE FROM topics"))


async def test_a_cancelled_waiter_does_not_take_its_write_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:
        task = asyncio.create_task(one.database.write(lambda tx: log.append(tx, TOPIC, EVENT)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await one.database.write(lambda tx: log.append(tx, TOPIC, EVENT)) == 2


async def test_numbers_are_never_given_out_twice_whatever_is_deleted(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:
        for _ in range(3):
            await one.database.write(lambda tx: log.append(tx, TOPIC, EVENT))
        await one.database.write(lambda tx: log.advance_floor(tx, TOPIC, 3))
        assert await one.database.write(lambda tx: log.append(tx, TOPIC, EVENT)) == 4
        assert await one.database.read(lambda reader: log.heads(reader, [TOPIC])) == {TOPIC: (3, 4)}


async def test_a_number_taken_early_and_filled_late_reaches_readers_in_order(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:

        def act(tx: Transaction) -> None:
            early = log.reserve(tx, TOPIC)
            log.append(tx, TOPIC, EVENT)
            log.fill(tx, TOPIC, early, ErasedEvent("expired"))

        await one.database.write(act)
        assert [seq for seq, _ in one.hints[0][TOPIC] or ()] == [1, 2]


async def test_an_entry_of_a_topic_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:
        with pytest.raises(Problem, match="not-found"):
            await one.database.write(lambda tx: log.append(tx, TopicId("rbbbbbbbbbbbbbbbbbbbbbbbbbb"), EVENT))


@pytest.mark.bad_input(133)
@pytest.mark.parametrize("version", ["3.40.1", "3.51.2", "3.7.0"])
def test_an_sqlite_that_can_corrupt_a_wal_database_is_refused(version: str) -> None:
    with pytest.raises(DatabaseRefusedError, match="too old"):
        check_sqlite_version(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.54.1", "4.0.0"])
def test_a_newer_sqlite_will_do(version: str) -> None:
    check_sqlite_version(version)


@pytest.mark.bad_input(131)
async def test_a_database_newer_than_the_program_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as one:
        await one.database.write(lambda tx: tx.run("UPDATE server SET schema_version = 999"))
    with pytest.raises(DatabaseRefusedError, match="install the newer"):
        async with opened(tmp_path):
            pass


async def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "test.db"))
    connection.execute("CREATE TABLE birds (name TEXT)")
    connection.close()
    with pytest.raises(DatabaseRefusedError, match="not made by heliograph"):
        async with opened(tmp_path):
            pass


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(DatabaseRefusedError, match="restore it"):
        async with opened(tmp_path):
            pass
