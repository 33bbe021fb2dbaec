"""The TLS presentation language, as far as MLS uses it (RFC 9420 §2.1).

Theory of operation. A `Reader` walks over one `bytes` object with a position and an end; a vector narrows the
end for as long as its items are read, so nothing is copied until a leaf value is taken, and every length is
checked against the bytes that are there before anything is allocated. Lengths use the variable-size header of
§2.1.2, and a header that is longer than it need be is refused. The structures of MLS nest to a small fixed
depth; the reader counts and stops at `MAX_DEPTH`, so no input can exhaust the stack.

A `Writer` appends to one growing buffer. Every structure in `mls` is a `Struct`: a frozen dataclass with
`write` and `read`, from which `encode` and `decode` follow. One that is asked for its encoding again and again is an
`EncodedOnce`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from struct import unpack
from typing import Self, TypeVar

from heliograph.mls.errors import DecodeError

Item = TypeVar("Item")
Code = TypeVar("Code", bound=IntEnum)

MAX_DEPTH = 16
# No vector can hold more items than a length header can count bytes.
MAX_VECTOR_BYTES = (1 << 30) - 1
MAX_VARINT = (1 << 30) - 1

_HEADER_MASKS = (0x3F, 0x3FFF, 0x3FFFFFFF)
_SHORT_HEADERS = tuple(bytes((length,)) for length in range(0x40))


class Reader:
    """Read values from one byte string; every method raises DecodeError when the bytes run out or are malformed."""

    __slots__ = ("_data", "_depth", "_end", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._end = len(data)
        self._depth = 0

    @property
    def position(self) -> int:
        """Return the offset of the next byte to be read."""
        return self._position

    def since(self, position: int) -> bytes:
        """Return the bytes read since `position`, an earlier value of `self.position`."""
        return self._data[position : self._position]

    def raw(self, length: int) -> bytes:
        """Read exactly `length` bytes."""
        start = self._position
        stop = start + length
        if stop > self._end:
            raise DecodeError("input ends early")
        self._position = stop
        return self._data[start:stop]

    def rest(self) -> bytes:
        """Read everything up to the end of the enclosing vector or input."""
        return self.raw(self._end - self._position)

    def uint8(self) -> int:
        """Read a uint8."""
        position = self._position
        if position >= self._end:
            raise DecodeError("input ends early")
        self._position = position + 1
        return self._data[position]

    def uint16(self) -> int:
        """Read a big-endian uint16."""
        return int.from_bytes(self.raw(2))

    def uint32(self) -> int:
        """Read a big-endian uint32."""
        return int.from_bytes(self.raw(4))

    def uint64(self) -> int:
        """Read a big-endian uint64."""
        return int.from_bytes(self.raw(8))

    def varint(self) -> int:
        """Read a variable-size length header.

        Source: RFC 9420 §2.1.2.
        """
        first = self.uint8()
        if first < 0x40:
            return first
        prefix = first >> 6
        if prefix == 3:
            raise DecodeError("length header with the reserved prefix 3")
        value = (first & 0x3F) << (8 * ((1 << prefix) - 1)) | int.from_bytes(self.raw((1 << prefix) - 1))
        if value <= _HEADER_MASKS[prefix - 1]:
            raise DecodeError("length header is not minimal")
        return value

    def opaque(self) -> bytes:
        """Read an `opaque value<V>`."""
        start = self._position
        # Most values are short: their header is one byte that is the length itself.
        if start < self._end and (length := self._data[start]) < 0x40:
            stop = start + 1 + length
            if stop > self._end:
                raise DecodeError("input ends early")
            self._position = stop
            return self._data[start + 1 : stop]
        return self.raw(self.varint())

    def vector(self, read_item: "Callable[[Reader], Item]", most: int = MAX_VECTOR_BYTES) -> tuple[Item, ...]:
        """Read a `T items<V>`, at most so many of them; the items must fill the vector exactly."""
        length = self.varint()
        stop = self._position + length
        if stop > self._end:
            raise DecodeError("vector is longer than its input")
        return self._bounded(read_item, stop, most)

    def uint16_vector(self) -> tuple[int, ...]:
        """Read a `uint16 values<V>`."""
        return uint16s(self.opaque())

    def uint32_vector(self) -> tuple[int, ...]:
        """Read a `uint32 values<V>`."""
        data = self.opaque()
        if len(data) % 4:
            raise DecodeError("length of a vector of uint32 is not a multiple of 4")
        return unpack(f">{len(data) // 4}I", data)

    def enum8(self, kind: type[Code]) -> Code:
        """Read a uint8 that must be a member of `kind`."""
        return self._enum(kind, self.uint8())

    def enum16(self, kind: type[Code]) -> Code:
        """Read a uint16 that must be a member of `kind`."""
        return self._enum(kind, self.uint16())

    def optional(self, read_item: "Callable[[Reader], Item]") -> Item | None:
        """Read an `optional<T>`.

        Source: RFC 9420 §2.1.1.
        """
        present = self.uint8()
        if present == 0:
            return None
        if present != 1:
            raise DecodeError("presence byte is neither 0 nor 1")
        return read_item(self)

    def finish(self) -> None:
        """Refuse bytes that nothing has read."""
        if self._position != self._end:
            raise DecodeError("trailing bytes after the end of the structure")

    @staticmethod
    def _enum(kind: type[Code], value: int) -> Code:
        try:
            return kind(value)
        except ValueError:
            raise DecodeError(f"{value} is not a {kind.__name__}") from None

    def _bounded(self, read_item: "Callable[[Reader], Item]", stop: int, most: int) -> tuple[Item, ...]:
        if self._depth >= MAX_DEPTH:
            raise DecodeError("vectors are nested too deeply")
        outer_end = self._end
        self._end = stop
        self._depth += 1
        items: list[Item] = []
        while self._position < stop:
            if len(items) == most:
                raise DecodeError("vector has more items than it may")
            before = self._position
            items.append(read_item(self))
            if self._position == before:
                raise DecodeError("vector item consumes nothing")
        self._depth -= 1
        self._end = outer_end
        return tuple(items)


def uint16s(data: bytes) -> tuple[int, ...]:
    """Return the numbers in a `uint16 values<V>` without its header; raises DecodeError for an odd length."""
    if len(data) % 2:
        raise DecodeError("vector of uint16 has an odd length")
    return unpack(f">{len(data) // 2}H", data)


def length_header(length: int) -> bytes:
    """Return the minimal header of a length up to 2^30 - 1; a longer one raises ValueError.

    Source: RFC 9420 §2.1.2.
    """
    if length < 0x40:
        return _SHORT_HEADERS[length]
    if length < 0x4000:
        return (length | 0x4000).to_bytes(2)
    if length <= MAX_VARINT:
        return (length | 0x80000000).to_bytes(4)
    raise ValueError("vector is longer than 2^30 - 1 bytes")


def opaque(data: bytes) -> bytes:
    """Return an `opaque value<V>`. Source: RFC 9420 §2.1.2."""
    return length_header(len(data)) + data


class Writer:
    """Append values to one buffer; `bytes(writer)` is not defined, take `getvalue()`."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def getvalue(self) -> bytes:
        """Return what was written so far."""
        return bytes(self._buffer)

    def raw(self, data: bytes) -> None:
        """Append bytes as they are."""
        self._buffer += data

    def uint8(self, value: int) -> None:
        """Append a uint8."""
        self._buffer.append(value)

    def uint16(self, value: int) -> None:
        """Append a big-endian uint16."""
        self._buffer += value.to_bytes(2)

    def uint32(self, value: int) -> None:
        """Append a big-endian uint32."""
        self._buffer += value.to_bytes(4)

    def uint64(self, value: int) -> None:
        """Append a big-endian uint64."""
        self._buffer += value.to_bytes(8)

    def varint(self, value: int) -> None:
        """Append a minimal length header for a value up to 2^30 - 1; larger raises ValueError."""
        self._buffer += length_header(value)

    def opaque(self, data: bytes) -> None:
        """Append an `opaque value<V>`."""
        self._buffer += length_header(len(data))
        self._buffer += data

    def vector(self, items: "Iterable[Struct]") -> None:
        """Append a `T items<V>`."""
        inner = Writer()
        for item in items:
            item.write(inner)
        self._buffer += length_header(len(inner._buffer))
        self._buffer += inner._buffer

    def uint16_vector(self, values: Iterable[int]) -> None:
        """Append a `uint16 values<V>`."""
        self.opaque(b"".join(value.to_bytes(2) for value in values))

    def uint32_vector(self, values: Iterable[int]) -> None:
        """Append a `uint32 values<V>`."""
        self.opaque(b"".join(value.to_bytes(4) for value in values))

    def optional(self, item: "Struct | None") -> None:
        """Append an `optional<T>`."""
        if item is None:
            self._buffer.append(0)
        else:
            self._buffer.append(1)
            item.write(self)


class Struct(ABC):
    """A structure of the protocol with exactly one encoding."""

    __slots__ = ()

    @abstractmethod
    def write(self, writer: Writer) -> None:
        """Append the encoding of this structure."""

    @classmethod
    @abstractmethod
    def read(cls, reader: Reader) -> Self:
        """Read one structure; raises DecodeError."""

    def encode(self) -> bytes:
        """Return the encoding of this structure."""
        writer = Writer()
        self.write(writer)
        return writer.getvalue()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode a structure that fills `data` exactly; raises DecodeError, also for trailing bytes."""
        reader = Reader(data)
        value = cls.read(reader)
        reader.finish()
        return value


@dataclass(frozen=True, slots=True)
class EncodedOnce(Struct):
    """A structure that keeps its encoding, the one from which it was read or the first that was made.

    Signatures, tags and hashes all ask for it. `dataclasses.replace` makes a new structure, which has none yet.
    """

    _encoded: bytes = field(default=b"", init=False, repr=False, compare=False)

    @abstractmethod
    def write_fields(self, writer: Writer) -> None:
        """Append the encoding, field by field."""

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.raw(self.encode())

    def encode(self) -> bytes:
        """Return the encoding."""
        if not self._encoded:
            writer = Writer()
            self.write_fields(writer)
            object.__setattr__(self, "_encoded", writer.getvalue())
        return self._encoded

    def read_as(self, encoded: bytes) -> Self:
        """Return this structure, which was read from `encoded`."""
        object.__setattr__(self, "_encoded", encoded)
        return self
