"""Deterministic CBOR, the subset that MIMI content uses (RFC 8949 §4.2.1, draft-ietf-mimi-content-08 §6).

Theory of operation. Every value has exactly one encoding: shortest lengths and numbers, no indefinite
lengths, map keys sorted by their encoded bytes. The decoder accepts only that encoding, so what was decoded
encodes to the same bytes again, and hashes and tags over the bytes mean one value. It goes through the
input once; lengths are checked against the bytes that are there before anything is built, and nesting is
counted.

Values are int, bytes, str, bool, None, tuple (array), dict (map) and Tag. Floating point is refused, which
the draft discourages, and so is every tag but 32 (a URI). Map keys are int, str or bytes.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from heliograph.mls.errors import DecodeError

MAX_DEPTH: Final = 12
MAX_KEY_INTEGER: Final = (1 << 53) - 1
URI_TAG: Final = 32

Key: TypeAlias = int | str | bytes
Value: TypeAlias = "int | bytes | str | bool | Tag | tuple[Value, ...] | dict[Key, Value] | None"

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_FALSE, _TRUE, _NULL = b"\xf4", b"\xf5", b"\xf6"
_SMALLEST: Final = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}


@dataclass(frozen=True, slots=True)
class Tag:
    """A tagged value (RFC 8949 §3.4); only number 32 exists here."""

    number: int
    value: "Value"


def encode(value: Value) -> bytes:
    """Return the deterministic encoding of a value; raises ValueError for one that this subset does not have."""
    output = bytearray()
    _write(output, value, MAX_DEPTH)
    return bytes(output)


def decode(data: bytes, max_depth: int = MAX_DEPTH) -> Value:
    """Return the value that `data` encodes, arrays and maps nested at most `max_depth` deep.

    Raises:
        DecodeError: not the deterministic encoding of one value, or outside this subset.
    """
    reader = _Reader(data)
    value = reader.value(max_depth)
    if reader.position != len(data):
        raise DecodeError("CBOR: bytes after the end of the value")
    return value


def _write(output: bytearray, value: Value, depth_left: int) -> None:
    if depth_left < 0:
        raise ValueError("CBOR: nested too deep")
    match value:
        case None:
            output += _NULL
        case bool():
            output += _TRUE if value else _FALSE
        case int():
            _write_integer(output, value)
        case bytes():
            _write_head(output, _BYTES, len(value))
            output += value
        case str():
            text = value.encode()
            _write_head(output, _TEXT, len(text))
            output += text
        case tuple():
            _write_head(output, _ARRAY, len(value))
            for item in value:
                _write(output, item, depth_left - 1)
        case dict():
            _write_map(output, value, depth_left)
        case Tag():
            if value.number != URI_TAG:
                raise ValueError("CBOR: a tag that MIMI content does not use")
            _write_head(output, _TAG, value.number)
            _write(output, value.value, depth_left - 1)


def _write_map(output: bytearray, value: dict[Key, Value], depth_left: int) -> None:
    _write_head(output, _MAP, len(value))
    for encoded, item in sorted(((_encode_key(key), item) for key, item in value.items()), key=_first):
        output += encoded
        _write(output, item, depth_left - 1)


def _first(pair: tuple[bytes, Value]) -> bytes:
    return pair[0]


def _encode_key(key: Key) -> bytes:
    if isinstance(key, bool) or (isinstance(key, int) and abs(key) > MAX_KEY_INTEGER):
        raise ValueError("CBOR: a map key that MIMI content does not allow")
    return encode(key)


def _write_integer(output: bytearray, value: int) -> None:
    if not -(1 << 64) <= value < 1 << 64:
        raise ValueError("CBOR: an integer of more than 64 bits")
    _write_head(output, _UNSIGNED if value >= 0 else _NEGATIVE, value if value >= 0 else -1 - value)


def _write_head(output: bytearray, major: int, argument: int) -> None:
    if argument < 24:
        output.append(major << 5 | argument)
        return
    size = next(size for size in (1, 2, 4, 8) if argument < 1 << 8 * size)
    output.append(major << 5 | 23 + size.bit_length())
    output += argument.to_bytes(size)


class _Reader:
    __slots__ = ("data", "position")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def value(self, depth_left: int) -> Value:
        if depth_left < 0:
            raise DecodeError("CBOR: nested too deep")
        major, argument = self.head()
        match major:
            case 0:
                return argument
            case 1:
                return -1 - argument
            case 2:
                return self.take(argument)
            case 3:
                return self.text(argument)
            case 4:
                self.expect_items(argument)
                return tuple([self.value(depth_left - 1) for _ in range(argument)])
            case 5:
                return self.map(argument, depth_left)
            case 6:
                if argument != URI_TAG:
                    raise DecodeError("CBOR: a tag that MIMI content does not use")
                return Tag(argument, self.value(depth_left - 1))
            case _:
                return self.simple(argument)

    def head(self) -> tuple[int, int]:
        first = self.take(1)[0]
        major, argument = first >> 5, first & 0x1F
        if argument < 24:
            return major, argument
        if argument > 27:
            raise DecodeError("CBOR: an indefinite length or a reserved one")
        if major == _SIMPLE:
            raise DecodeError("CBOR: a floating point number or an unassigned simple value")
        size = 1 << argument - 24
        argument = int.from_bytes(self.take(size))
        if argument < _SMALLEST[size]:
            raise DecodeError("CBOR: not the shortest encoding")
        return major, argument

    def take(self, length: int) -> bytes:
        start, stop = self.position, self.position + length
        if stop > len(self.data):
            raise DecodeError("CBOR: the input ends early")
        self.position = stop
        return self.data[start:stop]

    def text(self, length: int) -> str:
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise DecodeError("CBOR: a text that is not UTF-8") from None

    def simple(self, number: int) -> bool | None:
        if number not in (20, 21, 22):
            raise DecodeError("CBOR: an unassigned simple value")
        return None if number == 22 else number == 21

    def map(self, length: int, depth_left: int) -> dict[Key, Value]:
        self.expect_items(2 * length)
        items: dict[Key, Value] = {}
        before = b""
        for _ in range(length):
            start = self.position
            key = self.key()
            encoded = self.data[start : self.position]
            if encoded <= before:
                raise DecodeError("CBOR: map keys are out of order or twice there")
            before = encoded
            items[key] = self.value(depth_left - 1)
        return items

    def key(self) -> Key:
        key = self.value(0) if self.position < len(self.data) else None
        if isinstance(key, bool) or not isinstance(key, int | str | bytes):
            raise DecodeError("CBOR: a map key is neither a number, a text nor bytes")
        if isinstance(key, int) and abs(key) > MAX_KEY_INTEGER:
            raise DecodeError("CBOR: a map key beyond 2^53 - 1")
        return key

    def expect_items(self, count: int) -> None:
        # An item takes at least one byte, so a count that the input cannot hold is refused before any work.
        if count > len(self.data) - self.position:
            raise DecodeError("CBOR: the input ends early")
