"""Servers with one planted defect each, to show that the judge of the fault runs can fail.

    python -m tests.faults.twins <defect> serve --data DIR ...      the rest as for `heliograph`

A twin is the real server in which one thing is done as a careless program would do it.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from heliograph.cli.app import main
from heliograph.server import app, submissions
from heliograph.server.connection import Connection
from heliograph.server.db import sqlite
from heliograph.server.pump import Pump

MODULE = "tests.faults.twins"
LATE_S = 0.02


def acknowledge_before_commit() -> None:
    """Tell those who sent messages that they are done, and commit a little later."""

    def commit(self: Any, batch: Any, acts: Any) -> None:
        batch.begin()
        batch.execute("BEGIN IMMEDIATE")
        results = self._run_together(batch, acts)
        if not batch.deferred:
            batch.execute("COMMIT")
        self._finish(batch, batch.deferred)
        self._loop.call_soon_threadsafe(self._tell, results, batch.hints, batch.done_acts)
        if batch.deferred:
            time.sleep(LATE_S)
            batch.execute("COMMIT")

    sqlite.SQLiteDatabase._commit = commit  # type: ignore[method-assign]


def forget_keys() -> None:
    """Take every submission for a new one. Answers come late, so that a kill finds many of them unheard."""
    answer = Connection._answer

    def answer_late(self: Connection, *result: Any) -> None:
        self._loop.call_later(LATE_S, partial(answer, self, *result))

    Connection._answer = answer_late  # type: ignore[method-assign]
    submissions.find_many = lambda reader, keys: {}
    submissions.remember_many = lambda tx, answers: None


def resume_one_late() -> None:
    """Begin behind the entry that the reader needs next."""
    subscribe = Pump.subscribe

    def subscribe_late(self: Pump, topic: Any, cursor: int) -> None:
        subscribe(self, topic, cursor + 1 if cursor > 1 else cursor)

    Pump.subscribe = subscribe_late  # type: ignore[method-assign]


def sync_at_checkpoints_only() -> None:
    """Run SQLite with `synchronous=NORMAL`."""
    app.open_server = partial(app.open_server, synchronous="NORMAL")  # type: ignore[assignment]


DEFECTS: dict[str, Callable[[], None]] = {
    plant.__name__: plant
    for plant in (acknowledge_before_commit, forget_keys, resume_one_late, sync_at_checkpoints_only)
}

if __name__ == "__main__":
    DEFECTS[sys.argv.pop(1)]()
    main()
