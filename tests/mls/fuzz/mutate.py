"""Changes of genuine bytes by chance, the same in every run: what runs where there is no atheris.

They are the ones that have broken parsers before: cuts, flips, other lengths, longer encodings of the same length,
pieces of one structure inside another.
"""

import random
from collections.abc import Callable, Iterator, Sequence

# Length headers that claim much, or more than they need.
_HEADERS = (
    b"\0",
    b"\x40\0",
    b"\x40\x3f",
    b"\x7f\xff",
    b"\x80\0\0\0",
    b"\x80\0\x40\0",
    b"\xbf\xff\xff\xff",
    b"\xc0",
    b"\xff" * 8,
)


def mutations(seeds: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Return the seeds themselves and `count` changed ones; the same for the same arguments."""
    chance = random.Random(seed)
    yield from seeds
    yield b""
    for _ in range(count):
        data = chance.choice(seeds) if seeds else chance.randbytes(chance.randrange(40))
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            data = chance.choice(_CHANGES)(data, seeds, chance)
        yield data


def _cut(data: bytes, _seeds: Sequence[bytes], chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _flip(data: bytes, _seeds: Sequence[bytes], chance: random.Random) -> bytes:
    if not data:
        return data
    at = chance.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << chance.randrange(8),)) + data[at + 1 :]


def _set(data: bytes, _seeds: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + bytes((chance.choice((0, 1, 2, 3, 4, 0x3F, 0x40, 0x7F, 0x80, 0xFF)),)) + data[at + 1 :]


def _length(data: bytes, _seeds: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice(_HEADERS) + data[at + 1 :]


def _longer(data: bytes, _seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """Write one byte, perhaps a length, in the longer form that is not allowed."""
    at = chance.randrange(len(data) + 1)
    return data[:at] + b"\x40" + data[at:]


def _insert(data: bytes, _seeds: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.randbytes(chance.randrange(1, 6)) + data[at:]


def _drop(data: bytes, _seeds: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + data[at + chance.randrange(1, 40) :]


def _repeat(data: bytes, _seeds: Sequence[bytes], chance: random.Random) -> bytes:
    at, size = chance.randrange(len(data) + 1), chance.randrange(1, 80)
    return data[: at + size] + data[at : at + size] * chance.randrange(1, 4) + data[at + size :]


def _splice(data: bytes, seeds: Sequence[bytes], chance: random.Random) -> bytes:
    other = chance.choice(seeds) if seeds else b""
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]


_CHANGES: tuple[Callable[[bytes, Sequence[bytes], random.Random], bytes], ...] = (
    *(_cut, _flip, _flip, _set, _length, _longer),
    *(_insert, _drop, _repeat, _splice),
)
