"""One path secret sealed to many, read without taking it apart (RFC 9420 §7.6).

Theory of operation. In a tree with many blank nodes a commit carries a ciphertext for every member, and each receiver
opens one. All have the same lengths, because all seal the same secret; so a vector of them is a table. Reading it holds
every row to the headers of the first, column by column, and a row is taken out when it is asked for. A vector that is
no such table, which no receiver will accept, is read item by item like any other.
"""

from collections.abc import Iterator, Sequence
from typing import overload

from heliograph.mls.codec import Reader, length_header
from heliograph.mls.errors import DecodeError
from heliograph.mls.suite import HPKECiphertext

MAX_RECEIVERS = 1 << 16


class SealedSecrets(Sequence[HPKECiphertext]):
    """Ciphertexts of equal lengths, as they were read; equal to a tuple of the same ciphertexts."""

    __slots__ = ("_data", "_row_bytes", "first")

    def __init__(self, data: bytes, row_bytes: int, first: HPKECiphertext) -> None:
        """Hold the encodings of ciphertexts in a row, each of `row_bytes`, and the first of them."""
        self._data = data
        self._row_bytes = row_bytes
        self.first = first

    def __len__(self) -> int:
        return len(self._data) // self._row_bytes

    @overload
    def __getitem__(self, index: int) -> HPKECiphertext: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[HPKECiphertext, ...]: ...
    def __getitem__(self, index: int | slice) -> HPKECiphertext | tuple[HPKECiphertext, ...]:
        if isinstance(index, slice):
            return tuple(self._row(i) for i in range(*index.indices(len(self))))
        return self._row(range(len(self))[index])

    def __iter__(self) -> Iterator[HPKECiphertext]:
        return map(self._row, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SealedSecrets):
            return self._data == other._data
        return isinstance(other, tuple) and tuple(self) == other

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def _row(self, index: int) -> HPKECiphertext:
        start = index * self._row_bytes
        return HPKECiphertext.decode(self._data[start : start + self._row_bytes])


def read_sealed_secrets(reader: Reader) -> Sequence[HPKECiphertext]:
    """Read an `HPKECiphertext encrypted_path_secret<V>`; raises DecodeError. Source: RFC 9420 §7.6."""
    data = reader.opaque()
    rows = Reader(data)
    if not data:
        return ()
    first = HPKECiphertext.read(rows)
    if rows.position < len(data) and _is_table(data, rows.position, first):
        return SealedSecrets(data, rows.position, first)
    items = [first]
    while rows.position < len(data):
        if len(items) == MAX_RECEIVERS:
            raise DecodeError("more sealed secrets than a tree has leaves")
        items.append(HPKECiphertext.read(rows))
    return tuple(items)


def of_each_length(ciphertexts: Sequence[HPKECiphertext]) -> Sequence[HPKECiphertext]:
    """Return ciphertexts among which there is at least one of every pair of lengths that occurs."""
    return (ciphertexts.first,) if isinstance(ciphertexts, SealedSecrets) else ciphertexts


def _is_table(data: bytes, row_bytes: int, first: HPKECiphertext) -> bool:
    if len(data) % row_bytes:
        return False
    second_header = row_bytes - len(first.ciphertext) - len(length_header(len(first.ciphertext)))
    headers = (
        *range(len(length_header(len(first.kem_output)))),
        *range(second_header, row_bytes - len(first.ciphertext)),
    )
    rows = len(data) // row_bytes
    return all(data[column::row_bytes] == data[column : column + 1] * rows for column in headers)
