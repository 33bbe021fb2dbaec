"""The log of decisions: a checkpoint on schedule, tiles that rebuild it, and nothing that was not signed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from heliograph.server.db.database import Transaction
from heliograph.server.moderation import transparency
from heliograph.tlog import merkle, tiles
from heliograph.tlog.checkpoint import Checkpoint, VerifierKey, open_checkpoint
from heliograph.tlog.decision_leaf import DecisionLeaf
from heliograph.tlog.log import Log
from heliograph.wire.accounts import Empty
from heliograph.wire.operations import CHECKPOINT_PATH, TILE_PREFIX
from tests.server.town import Answer, browse, new_reviewer, open_channel, report_and_decide
from tests.world import World, world


@dataclass
class Observer:
    """Somebody who watches the log from outside."""

    w: World

    async def key(self) -> VerifierKey:
        return VerifierKey.parse((await self.w.call("get_server", Empty())).decisions_log)

    async def checkpoint(self) -> Checkpoint:
        return open_checkpoint((await browse(self.w, CHECKPOINT_PATH)).text, await self.key())

    async def tile(self, path: str) -> bytes:
        async with self.w.http.get(f"{self.w.url}/log/decisions/{path}") as response:
            assert response.status == 200, path
            return await response.read()

    async def append(self, *entries: bytes) -> None:
        def act(tx: Transaction) -> None:
            for entry in entries:
                transparency.append_leaf(tx, entry)

        await self.w.context.database.write(act)

    async def sign(self) -> None:
        await transparency.sign_newest_checkpoint(self.w.context)


@pytest.fixture
async def observer(tmp_path: Path) -> AsyncIterator[Observer]:
    async with world(tmp_path, checkpoint_interval_s=3600) as w:
        running = Observer(w)
        await running.sign()
        yield running


async def test_an_empty_log_has_a_signed_checkpoint(observer: Observer) -> None:
    checkpoint = await observer.checkpoint()
    assert (checkpoint.origin, checkpoint.size, checkpoint.root) == ("localhost/decisions", 0, merkle.EMPTY_ROOT)


async def test_the_log_has_a_key_of_its_own(observer: Observer) -> None:
    server = await observer.w.call("get_server", Empty())
    assert (await observer.key()).public_key != server.hub_signature_key


async def test_a_checkpoint_covers_what_was_decided_before_it(observer: Observer) -> None:
    entries = [b"one", b"two", b"three"]
    await observer.append(*entries)
    await observer.sign()
    checkpoint = await observer.checkpoint()
    assert (checkpoint.size, checkpoint.root) == (3, Log().append(entries)[0].root)


async def test_a_later_checkpoint_continues_an_earlier_one(observer: Observer) -> None:
    await observer.append(*(b"%d" % number for number in range(5)))
    await observer.sign()
    earlier = await observer.checkpoint()
    await observer.append(*(b"%d" % number for number in range(5, 12)))
    await observer.sign()
    later = await observer.checkpoint()
    proof = await observer.w.context.database.read(
        lambda reader: merkle.consistency_proof(earlier.size, later.size, transparency.read_hash(reader))
    )
    merkle.verify_consistency(earlier.size, later.size, earlier.root, later.root, proof)


async def test_checkpoints_come_by_the_clock(tmp_path: Path) -> None:
    async with world(tmp_path, checkpoint_interval_s=1) as w:
        observer = Observer(w)
        await observer.append(b"one")
        async with asyncio.timeout(5):
            while (await observer.checkpoint()).size != 1:
                await asyncio.sleep(0.1)


async def test_nothing_is_signed_twice(observer: Observer) -> None:
    first = (await browse(observer.w, CHECKPOINT_PATH)).text
    await observer.sign()
    rows = await observer.w.context.database.read(lambda reader: reader.all("SELECT size FROM checkpoints"))
    assert (await browse(observer.w, CHECKPOINT_PATH)).text == first
    assert rows == [(0,)]


async def test_an_outsider_rebuilds_the_log_from_its_tiles(observer: Observer) -> None:
    entries = [b"entry %d" % number for number in range(600)]
    await observer.append(*entries)
    await observer.sign()
    checkpoint = await observer.checkpoint()
    bundles = [
        tiles.decode_bundle(await observer.tile(tile.path()), tile.width)
        for tile in tiles.bundles_between(0, checkpoint.size)
    ]
    assert [entry for bundle in bundles for entry in bundle] == entries
    assert Log().append(entries)[0].root == checkpoint.root


async def test_hash_tiles_of_every_level_lead_to_the_root(observer: Observer) -> None:
    await observer.append(*(b"entry %d" % number for number in range(600)))
    await observer.sign()
    checkpoint = await observer.checkpoint()
    nodes: dict[tuple[int, int], bytes] = {}
    for tile in tiles.tiles_between(0, checkpoint.size):
        assert tile.level is not None
        hashes = tiles.tile_hashes(await observer.tile(tile.path()), tile.width)
        for offset, one in enumerate(hashes):
            nodes[tile.level * tiles.TILE_HEIGHT, tile.index * tiles.TILE_WIDTH + offset] = one

    def read(level: int, index: int) -> bytes:
        if (level, index) in nodes:
            return nodes[level, index]
        return merkle.node_hash(read(level - 1, 2 * index), read(level - 1, 2 * index + 1))

    assert merkle.root_hash(checkpoint.size, read) == checkpoint.root
    assert {level for level, _ in nodes} == {0, 8}


async def test_a_partial_tile_stays_readable_when_the_log_has_grown(observer: Observer) -> None:
    await observer.append(b"one", b"two")
    await observer.sign()
    before = await observer.tile("tile/entries/000.p/2")
    await observer.append(b"three")
    await observer.sign()
    assert await observer.tile("tile/entries/000.p/2") == before


async def test_what_no_checkpoint_covers_is_not_given_out(observer: Observer) -> None:
    await observer.append(b"one")
    assert (await refused(observer, "/tile/entries/000.p/1")).status == 404
    await observer.sign()
    assert await observer.tile("tile/entries/000.p/1") == b"\x00\x03one"


async def refused(observer: Observer, path: str) -> Answer:
    return await browse(observer.w, "/log/decisions" + path)


@pytest.mark.bad_input(38)
@pytest.mark.parametrize(
    "path",
    [
        "/tile/0/000",
        "/tile/0/000.p/0",
        "/tile/0/000.p/256",
        "/tile/0/0",
        "/tile/00/000",
        "/tile/64/000",
        "/tile/-1/000",
        "/tile/0/x000/000",
        "/tile/entries/999",
        "/tile/0/%30%30%30.p/9",
        "/tile/0/..%2f..%2fetc",
        "/tile/x",
    ],
)
async def test_a_path_that_names_no_tile_is_not_found(observer: Observer, path: str) -> None:
    await observer.append(b"one")
    await observer.sign()
    assert (await refused(observer, path)).status == 404


async def test_tiles_may_be_kept_for_ever_and_checkpoints_may_not(observer: Observer) -> None:
    await observer.append(b"one")
    await observer.sign()
    tile = await browse(observer.w, TILE_PREFIX + "/entries/000.p/1")
    checkpoint = await browse(observer.w, CHECKPOINT_PATH)
    assert "immutable" in tile.headers["Cache-Control"]
    assert checkpoint.headers["Cache-Control"] == "no-store"
    assert checkpoint.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_what_anyone_fetches_of_a_real_decision_is_its_leaf(observer: Observer) -> None:
    w = observer.w
    channel = await open_channel(w, await w.register("olga"))
    await report_and_decide(w, await new_reviewer(w), channel, "block-channel")
    await observer.sign()
    (entry,) = tiles.decode_bundle(await observer.tile("tile/entries/000.p/1"), 1)
    assert DecisionLeaf.parse(entry).measures == ("block-channel",)
