"""What the client keeps between calls: values under numbers that are given out once and never again.

A state, a transaction, a signer and a closed group are each told apart by their number alone, and StorePSK takes "a
state's or a transaction's" number: so all shelves draw from one sequence. A shelf holds a bounded number of values and
drops the one that has been unused for longest.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

Value = TypeVar("Value")


class UnknownIdError(LookupError):
    """A call names a number, an identity or a signer that is not known here, or no longer."""


class Shelf(Generic[Value]):
    """Values of one kind, by number."""

    def __init__(self, kind: str, numbers: Iterator[int], limit: int) -> None:
        """Make an empty shelf for at most `limit` values; `kind` names them in errors."""
        self._kind = kind
        self._numbers = numbers
        self._limit = limit
        self._values: OrderedDict[int, Value] = OrderedDict()

    def __contains__(self, number: int) -> bool:
        return number in self._values

    def put(self, value: Value) -> int:
        """Keep a new value and return its number."""
        number = next(self._numbers)
        self._values[number] = value
        if len(self._values) > self._limit:
            self._values.popitem(last=False)
        return number

    def get(self, number: int) -> Value:
        """Return the value of this number; raises UnknownIdError."""
        if number not in self._values:
            raise UnknownIdError(f"no {self._kind} has the number {number}")
        self._values.move_to_end(number)
        return self._values[number]

    def replace(self, number: int, value: Value) -> None:
        """Keep another value under a number that is in use; raises UnknownIdError."""
        self.get(number)
        self._values[number] = value

    def drop(self, number: int) -> None:
        """Forget a value; raises UnknownIdError."""
        self.get(number)
        del self._values[number]
