"""Tiles: how a log is served as files that never change (C2SP tlog-tiles v0.1).

A tile of level L and index N holds the hashes of 256 consecutive complete nodes of tree level 8 * L, from
node 256 * N on; it stands for a subtree of height 8. The last tile of each level may be *partial*: it holds
fewer hashes and its path names how many. Entries travel in bundles of 256, each entry behind its length in
two bytes.

The functions name what exists at a size and fill it from stored nodes; who serves the bytes is not decided
here.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from heliograph.tlog.errors import ProofError
from heliograph.tlog.merkle import HASH_SIZE_BYTES, MAX_TREE_SIZE, ReadHash

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
MAX_LEVEL: Final = 63
MAX_ENTRY_SIZE_BYTES: Final = 0xFFFF

_PATH: Final = re.compile(
    r"tile/(?P<level>entries|0|[1-9][0-9]?)/(?P<index>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile or entry bundle: level 0 to 63, or None for a bundle; width 1 to 256, below 256 when partial."""

    level: int | None
    index: int
    width: int = TILE_WIDTH

    def path(self) -> str:
        """Return the path below the log's prefix, such as `tile/0/x001/x234/067` or `tile/entries/000.p/17`."""
        suffix = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        level = "entries" if self.level is None else str(self.level)
        return f"tile/{level}/{_index_path(self.index)}{suffix}"


def parse_path(path: str) -> Tile:
    """Return the tile or bundle that a path names.

    Raises:
        ProofError: the path is not written exactly as the specification wants it.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        raise ProofError("That is not the path of a tile.")
    index = int(match["index"].replace("x", "").replace("/", ""))
    level = None if match["level"] == "entries" else int(match["level"])
    tile = Tile(level, index, int(match["width"] or TILE_WIDTH))
    if tile.path() != path or index > MAX_TREE_SIZE >> TILE_HEIGHT or (level or 0) > MAX_LEVEL:
        raise ProofError("That is not the path of a tile.")
    return tile


def exists(tile: Tile, size: int) -> bool:
    """Tell whether a log of `size` entries has this tile, whole or as part of a larger one."""
    return tile.index * TILE_WIDTH + tile.width <= size >> TILE_HEIGHT * (tile.level or 0)


def tiles_between(older_size: int, size: int) -> Iterator[Tile]:
    """Yield the hash tiles that a log of `size` entries has and one of `older_size` had not, partial ones last."""
    level = 0
    while size >> TILE_HEIGHT * level:
        older_width, width = older_size >> TILE_HEIGHT * level, size >> TILE_HEIGHT * level
        yield from _row(level, older_width, width)
        level += 1


def bundles_between(older_size: int, size: int) -> Iterator[Tile]:
    """Yield the entry bundles that a log of `size` entries has and one of `older_size` had not."""
    yield from _row(None, older_size, size)


def tile_bytes(tile: Tile, read_hash: ReadHash) -> bytes:
    """Return the content of a hash tile, read from stored nodes: 32 bytes for each of its `width` hashes."""
    if tile.level is None:
        raise ValueError("an entry bundle holds no hashes")
    level, first = TILE_HEIGHT * tile.level, tile.index * TILE_WIDTH
    return b"".join(read_hash(level, first + offset) for offset in range(tile.width))


def tile_hashes(content: bytes, width: int) -> tuple[bytes, ...]:
    """Return the hashes in a tile's content; raises ProofError unless there are exactly `width` of them."""
    if len(content) != width * HASH_SIZE_BYTES:
        raise ProofError(f"A tile of {width} hashes has {len(content)} bytes.")
    return tuple(content[at : at + HASH_SIZE_BYTES] for at in range(0, len(content), HASH_SIZE_BYTES))


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Return the content of an entry bundle of 1 to 256 entries of up to 65535 bytes each."""
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise ValueError("an entry bundle holds 1 to 256 entries")
    if any(len(entry) > MAX_ENTRY_SIZE_BYTES for entry in entries):
        raise ValueError("an entry has at most 65535 bytes")
    return b"".join(len(entry).to_bytes(2) + entry for entry in entries)


def decode_bundle(content: bytes, width: int) -> tuple[bytes, ...]:
    """Return the entries of a bundle; raises ProofError unless it holds exactly `width` whole entries."""
    entries: list[bytes] = []
    at = 0
    while at < len(content) and len(entries) < width:
        length = int.from_bytes(content[at : at + 2])
        entry = content[at + 2 : at + 2 + length]
        if at + 2 + length > len(content):
            raise ProofError("An entry bundle ends in the middle of an entry.")
        entries.append(entry)
        at += 2 + length
    if at != len(content) or len(entries) != width:
        raise ProofError(f"An entry bundle does not hold exactly {width} entries.")
    return tuple(entries)


def _row(level: int | None, older_width: int, width: int) -> Iterator[Tile]:
    for index in range(older_width // TILE_WIDTH, width // TILE_WIDTH):
        yield Tile(level, index)
    if width % TILE_WIDTH and width > older_width:
        yield Tile(level, width // TILE_WIDTH, width % TILE_WIDTH)


def _index_path(index: int) -> str:
    path = f"{index % 1000:03}"
    while index >= 1000:
        index //= 1000
        path = f"x{index % 1000:03}/{path}"
    return path
