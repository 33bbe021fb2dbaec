"""Many rows in one statement.

A statement costs a lock, a lookup and a change of threads, whatever it does; a batch of messages pays that once.
Rows are taken in groups of a few sizes, so that there are few texts and each stays prepared.
"""

from collections.abc import Iterator, Sequence
from functools import cache

from heliograph.server.db.database import Reader, Row, SQLValue, Transaction

Values = tuple[SQLValue, ...]
_GROUP_SIZES = (64, 32, 16, 8, 4, 2, 1)


def insert_rows(tx: Transaction, into: str, rows: Sequence[Values]) -> None:
    """Insert rows; `into` is the table and its columns, such as `entries (topic, seq)`."""
    for group in _groups(rows):
        tx.run(_insert(into, len(group), len(group[0])), *(value for row in group for value in row))


def select_rows(reader: Reader, select: str, keys: Sequence[Values]) -> list[Row]:
    """Return what `select` finds; it ends in `IN`, and `keys` are what follows.

    A key of several columns needs a row value: `... WHERE (room, device) IN`.
    """
    found: list[Row] = []
    for group in _groups(keys):
        found += reader.all(_select(select, len(group), len(group[0])), *(value for row in group for value in row))
    return found


def update_rows(tx: Transaction, update: str, where: str, rows: Sequence[Values]) -> None:
    """Update a row for each of `rows`, whose values `update` and `where` call `new.column1`, `new.column2` ..."""
    for group in _groups(rows):
        sql = _update(update, where, len(group), len(group[0]))
        tx.run(sql, *(value for row in group for value in row))


def _groups(rows: Sequence[Values]) -> Iterator[Sequence[Values]]:
    at = 0
    for size in _GROUP_SIZES:
        while len(rows) - at >= size:
            yield rows[at : at + size]
            at += size


@cache
def _insert(into: str, rows: int, columns: int) -> str:
    return f"INSERT INTO {into} VALUES {_values(rows, columns)}"  # noqa: S608


@cache
def _select(select: str, rows: int, columns: int) -> str:
    return f"{select} (VALUES {_values(rows, columns)})"


@cache
def _update(update: str, where: str, rows: int, columns: int) -> str:
    return f"{update} FROM (VALUES {_values(rows, columns)}) AS new WHERE {where}"


def _values(rows: int, columns: int) -> str:
    return ", ".join([f"({', '.join('?' * columns)})"] * rows)
