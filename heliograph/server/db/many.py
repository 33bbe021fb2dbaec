"""Many rows in one statement.

A statement costs a lock, a lookup and a change of threads, whatever it does; a batch of messages pays that once.
Numbers of rows are rounded up with rows of NULLs, which match nothing and are not inserted: so there are few texts,
and each stays prepared.
"""

from collections.abc import Sequence
from functools import cache
from itertools import chain

from heliograph.server.db.database import Reader, Row, SQLValue, Transaction

Values = tuple[SQLValue, ...]
MAX_ROWS = 1024
"""In one statement: SQLite binds 32766 values, PostgreSQL as many."""


def insert_rows(tx: Transaction, into: str, rows: Sequence[Values]) -> None:
    """Insert rows whose first value is never NULL; `into` is the table and its columns, as `entries (topic, seq)`."""
    for at in range(0, len(rows), MAX_ROWS):
        filled = _filled(rows[at : at + MAX_ROWS])
        tx.run(_insert(into, len(filled), len(rows[0])), *chain.from_iterable(filled))


def select_rows(reader: Reader, select: str, on: str, keys: Sequence[Values]) -> list[Row]:
    """Return what `select ... FROM table` finds for each of `keys`, whose values `on` calls `k.column1` ..."""
    if not keys:
        return []
    filled = _filled(keys)
    return reader.all(_select(select, on, len(filled), len(keys[0])), *chain.from_iterable(filled))


def update_rows(tx: Transaction, update: str, where: str, returning: str, rows: Sequence[Values]) -> list[Row]:
    """Update a row for each of `rows`, whose values `update` and `where` call `k.column1` ...; return what it says."""
    if not rows:
        return []
    filled = _filled(rows)
    return tx.all(_update(update, where, returning, len(filled), len(rows[0])), *chain.from_iterable(filled))


def _filled(rows: Sequence[Values]) -> Sequence[Values]:
    """Fill up with rows of NULLs to the next power of two."""
    missing = (1 << (len(rows) - 1).bit_length()) - len(rows)
    return [*rows, *[(None,) * len(rows[0])] * missing] if missing else rows


@cache
def _insert(into: str, rows: int, columns: int) -> str:
    if rows == 1:
        return f"INSERT INTO {into} VALUES {_values(1, columns)}"  # noqa: S608
    return f"INSERT INTO {into} SELECT * FROM (VALUES {_values(rows, columns)}) AS k WHERE k.column1 IS NOT NULL"  # noqa: S608


@cache
def _select(select: str, on: str, rows: int, columns: int) -> str:
    table = select.rpartition(" FROM ")
    return f"{table[0]} FROM (VALUES {_values(rows, columns)}) AS k JOIN {table[2]} ON {on}"


@cache
def _update(update: str, where: str, returning: str, rows: int, columns: int) -> str:
    return f"{update} FROM (VALUES {_values(rows, columns)}) AS k WHERE {where} RETURNING {returning}"


def _values(rows: int, columns: int) -> str:
    return ", ".join([f"({', '.join('?' * columns)})"] * rows)
