"""Many rows in one statement.

A statement costs a lock, a lookup and a change of threads, whatever it does; a batch of messages pays that once.
Numbers of rows are rounded, so that there are few texts and each stays prepared: what finds or updates rows is
filled up with NULLs, which match nothing; what inserts rows is cut into groups.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain

from heliograph.server.db.database import Reader, Row, SQLValue, Transaction

Values = tuple[SQLValue, ...]
_GROUP_SIZES = (64, 32, 16, 8, 4, 2, 1)


def insert_rows(tx: Transaction, into: str, rows: Sequence[Values]) -> None:
    """Insert rows; `into` is the table and its columns, such as `entries (topic, seq)`."""
    for group in _groups(rows):
        tx.run(_insert(into, len(group), len(group[0])), *chain.from_iterable(group))


def select_rows(reader: Reader, select: str, on: str, keys: Sequence[Values]) -> list[Row]:
    """Return what `select ... FROM table` finds for each of `keys`, whose values `on` calls `k.column1` ..."""
    if not keys:
        return []
    filled = _filled(keys)
    return reader.all(_select(select, on, len(filled), len(keys[0])), *chain.from_iterable(filled))


def update_rows(tx: Transaction, update: str, where: str, rows: Sequence[Values]) -> None:
    """Update a row for each of `rows`, whose values `update` and `where` call `k.column1`, `k.column2` ..."""
    if rows:
        filled = _filled(rows)
        tx.run(_update(update, where, len(filled), len(rows[0])), *chain.from_iterable(filled))


def _groups(rows: Sequence[Values]) -> Iterator[Sequence[Values]]:
    at = 0
    for size in _GROUP_SIZES:
        while len(rows) - at >= size:
            yield rows[at : at + size]
            at += size


def _filled(rows: Sequence[Values]) -> Sequence[Values]:
    """Fill up with rows of NULLs to the next power of two."""
    missing = (1 << (len(rows) - 1).bit_length()) - len(rows)
    return [*rows, *[(None,) * len(rows[0])] * missing] if missing else rows


@cache
def _insert(into: str, rows: int, columns: int) -> str:
    return f"INSERT INTO {into} VALUES {_values(rows, columns)}"  # noqa: S608


@cache
def _select(select: str, on: str, rows: int, columns: int) -> str:
    table = select.rpartition(" FROM ")
    return f"{table[0]} FROM (VALUES {_values(rows, columns)}) AS k JOIN {table[2]} ON {on}"


@cache
def _update(update: str, where: str, rows: int, columns: int) -> str:
    return f"{update} FROM (VALUES {_values(rows, columns)}) AS k WHERE {where}"


def _values(rows: int, columns: int) -> str:
    return ", ".join([f"({', '.join('?' * columns)})"] * rows)
