import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.tlog import merkle, tiles
from heliograph.tlog.errors import ProofError
from heliograph.tlog.tiles import Tile
from tests.tlog.nodes import entries, grown


@pytest.mark.rule("C2SP tlog-tiles v0.1, Merkle Tree")
@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(2, 5, 17), "tile/2/005.p/17"),
        (Tile(63, 1000, 255), "tile/63/x001/000.p/255"),
        (Tile(None, 273, 112), "tile/entries/273.p/112"),
    ],
)
def test_a_tile_has_one_path(tile: Tile, path: str) -> None:
    assert tile.path() == path
    assert tiles.parse_path(path) == tile


@given(level=st.none() | st.integers(0, 63), index=st.integers(0, 1 << 54), width=st.integers(1, 256))
def test_a_path_leads_back_to_its_tile(level: int | None, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert tiles.parse_path(tile.path()) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0/0",
        "tile/00/000",
        "tile/64/000",
        "tile/0/001/000",
        "tile/0/x000/001",
        "tile/0/x01/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/../000",
        "tile/-1/000",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "tile/0/\u0660\u0660\u0660",
    ],
)
@pytest.mark.bad_input(38)
def test_a_path_written_in_any_other_way_is_refused(path: str) -> None:
    with pytest.raises(ProofError):
        tiles.parse_path(path)


@pytest.mark.rule("C2SP tlog-tiles v0.1, Partial Tiles")
def test_a_log_of_seventy_thousand_has_the_tiles_that_the_specification_counts() -> None:
    made = list(tiles.tiles_between(0, 70_000))
    assert [tile for tile in made if tile.width < 256] == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert sum(tile.level == 0 and tile.width == 256 for tile in made) == 273
    assert sum(tile.level == 1 and tile.width == 256 for tile in made) == 1


@pytest.mark.rule("C2SP tlog-tiles v0.1, Partial Tiles")
def test_two_hundred_and_fifty_six_entries_fill_one_tile_and_begin_the_next_level() -> None:
    assert list(tiles.tiles_between(0, 256)) == [Tile(0, 0), Tile(1, 0, 1)]


@given(older=st.integers(0, 700), more=st.integers(0, 700))
def test_tiles_of_two_steps_together_hold_every_full_tile_once(older: int, more: int) -> None:
    size = older + more
    steps = [*tiles.tiles_between(0, older), *tiles.tiles_between(older, size)]
    full = [tile for tile in steps if tile.width == 256]
    assert sorted(full, key=repr) == sorted(
        (tile for tile in tiles.tiles_between(0, size) if tile.width == 256), key=repr
    )
    assert all(tiles.exists(tile, size) for tile in steps)


def test_a_tile_beyond_the_log_does_not_exist() -> None:
    assert not tiles.exists(Tile(0, 0, 5), 4)
    assert not tiles.exists(Tile(1, 0, 1), 255)
    assert tiles.exists(Tile(1, 0, 1), 256)


def test_the_root_can_be_computed_from_tiles_alone() -> None:
    log, nodes = grown(600)
    row = [
        one
        for tile in tiles.tiles_between(0, 600)
        if tile.level == 0
        for one in tiles.tile_hashes(tiles.tile_bytes(tile, nodes.read), tile.width)
    ]
    upper = tiles.tile_hashes(tiles.tile_bytes(Tile(1, 0, 2), nodes.read), 2)
    assert row == [merkle.leaf_hash(entry) for entry in entries(600)]
    assert upper == (nodes.read(8, 0), nodes.read(8, 1))
    from_tiles = {(8, 0): upper[0], (8, 1): upper[1]}
    assert merkle.range_hash(0, 512, lambda level, index: merkle.node_hash(*upper)) == nodes.read(9, 0)
    assert from_tiles[8, 0] == merkle.range_hash(0, 256, nodes.read)
    assert log.root == merkle.root_hash(600, nodes.read)


@given(items=st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_a_bundle_gives_its_entries_back(items: list[bytes]) -> None:
    content = tiles.encode_bundle(items)
    assert tiles.decode_bundle(content, len(items)) == tuple(items)


@pytest.mark.parametrize("content", [b"", b"\x00", b"\x00\x02a", b"\x00\x01a\x00", b"\x00\x01a\x00\x01b", b"\xff\xff"])
@pytest.mark.bad_input(62)
def test_a_bundle_that_is_cut_or_too_long_is_refused(content: bytes) -> None:
    with pytest.raises(ProofError):
        tiles.decode_bundle(content, 1)


def test_a_bundle_holds_at_most_256_entries_of_two_byte_length() -> None:
    with pytest.raises(ValueError, match="256"):
        tiles.encode_bundle([b""] * 257)
    with pytest.raises(ValueError, match="65535"):
        tiles.encode_bundle([bytes(65536)])


def test_a_tile_with_a_missing_byte_is_refused() -> None:
    with pytest.raises(ProofError):
        tiles.tile_hashes(bytes(63), 2)


def test_entry_bundles_hold_every_entry_once() -> None:
    items = entries(600)
    read: list[bytes] = []
    for bundle in tiles.bundles_between(0, 600):
        first = bundle.index * 256
        content = tiles.encode_bundle(items[first : first + bundle.width])
        read += tiles.decode_bundle(content, bundle.width)
    assert read == items
    assert [one.path() for one in tiles.bundles_between(256, 300)] == ["tile/entries/001.p/44"]
