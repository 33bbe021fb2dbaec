"""The log of decisions: one leaf a decision, checkpoints signed on a schedule, tiles that anyone may fetch.

```
decide --(one transaction)--> decision_leaves + decision_nodes       append_leaf
every interval, or when asked --> checkpoints                        sign_newest_checkpoint
GET /log/decisions/checkpoint, /log/decisions/tile/...               read_checkpoint, read_tile   (C2SP tlog-tiles)
```

Complete nodes are stored once and never change; a proof or a tile is read from them. The log has a key of its own,
so that whoever watches it need trust nothing else of this server.
"""

from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from heliograph.server import peer
from heliograph.server.context import Context
from heliograph.server.db.database import Reader, Transaction
from heliograph.server.secrets import Secrets
from heliograph.tlog import merkle, tiles
from heliograph.tlog.checkpoint import Checkpoint, VerifierKey, sign_checkpoint
from heliograph.tlog.errors import ProofError
from heliograph.tlog.log import Log
from heliograph.tlog.merkle import ReadHash
from heliograph.wire.operations import CHECKPOINT_PATH, TILE_PREFIX
from heliograph.wire.problems import Problem

ORIGIN_SUFFIX: Final = "/decisions"


def log_routes(context: Context) -> Sequence[web.RouteDef]:
    """Return the routes under which anyone may fetch the log."""

    def charge(request: web.Request) -> None:
        now_ms = context.now_ms()
        source = context.admission.source(peer.address(context, request), now_ms)
        context.admission.charge("source", source, now_ms)
        context.admission.charge("read", source, now_ms)

    async def checkpoint(request: web.Request) -> web.Response:
        charge(request)
        return web.Response(text=await context.database.read(read_checkpoint), content_type="text/plain")

    async def tile(request: web.Request) -> web.Response:
        charge(request)
        path = "tile/" + request.match_info["path"]
        content = await context.database.read(lambda reader: read_tile(reader, path))
        # A tile never changes; a partial one is replaced by a whole one under another path.
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return web.Response(body=content, content_type="application/octet-stream", headers=headers)

    return [web.get(CHECKPOINT_PATH, checkpoint), web.get(TILE_PREFIX + "/{path:.+}", tile)]


def verifier_key(secrets: Secrets, domain: str) -> VerifierKey:
    """Return the log's name and public key: what a verifier must hold."""
    public = _signer(secrets).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return VerifierKey(domain + ORIGIN_SUFFIX, public)


def append_leaf(tx: Transaction, entry: bytes) -> int:
    """Append an entry to the log and return its index."""
    log, nodes = _log(tx).append([entry])
    index = log.size - 1
    tx.run("INSERT INTO decision_leaves (leaf_index, entry) VALUES (?, ?)", index, entry)
    for node in nodes:
        tx.run(
            "INSERT INTO decision_nodes (level, node_index, hash) VALUES (?, ?, ?)",
            *(node.level, node.index, node.hash),
        )
    return index


async def sign_newest_checkpoint(context: Context) -> None:
    """Sign a checkpoint of the log as it stands, unless the newest one covers it already."""
    key, now_ms, sign = verifier_key(context.secrets, context.domain), context.now_ms(), _signer(context.secrets).sign
    await context.database.write(lambda tx: _sign_newest(tx, key, sign, now_ms))


def read_checkpoint(reader: Reader) -> str:
    """Return the newest signed checkpoint.

    Raises:
        Problem: `not-found`, none has been signed yet.
    """
    row = reader.one("SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1")
    if row is None:
        raise Problem("not-found", "the log has no checkpoint yet: try again in a minute")
    return row[0]


def read_tile(reader: Reader, path: str) -> bytes:
    """Return a hash tile or an entry bundle by its path below the log, such as `tile/0/000.p/5`.

    Only what the newest checkpoint covers is given out: nobody can be shown what was never signed.

    Raises:
        Problem: `not-found`.
    """
    try:
        tile = tiles.parse_path(path)
    except ProofError as error:
        raise Problem("not-found", str(error)) from None
    if not tiles.exists(tile, signed_size(reader)):
        raise Problem("not-found", "the signed log has no such tile")
    first = tile.index * tiles.TILE_WIDTH
    if tile.level is not None:
        nodes = reader.all(
            "SELECT hash FROM decision_nodes WHERE level = ? AND node_index >= ? AND node_index < ?"
            " ORDER BY node_index",
            *(tile.level * tiles.TILE_HEIGHT, first, first + tile.width),
        )
        return b"".join(node for (node,) in nodes)
    rows = reader.all(
        "SELECT entry FROM decision_leaves WHERE leaf_index >= ? AND leaf_index < ? ORDER BY leaf_index",
        *(first, first + tile.width),
    )
    return tiles.encode_bundle([entry for (entry,) in rows])


def signed_size(reader: Reader) -> int:
    """Return how many leaves the newest checkpoint covers; 0 where there is none."""
    row = reader.one("SELECT max(size) FROM checkpoints")
    return (row[0] if row else None) or 0


def inclusion_proof(reader: Reader, index: int, size: int) -> tuple[bytes, ...]:
    """Return the hashes that lead from a leaf to the root of the log of `size` leaves."""
    return merkle.inclusion_proof(index, size, read_hash(reader))


def read_hash(reader: Reader) -> ReadHash:
    """Return what reads the log's stored nodes, one by one."""

    def read(level: int, index: int) -> bytes:
        row = reader.one("SELECT hash FROM decision_nodes WHERE level = ? AND node_index = ?", level, index)
        if row is None:
            raise ProofError(f"The log has no node {index} at level {level}.")
        return row[0]

    return read


def _sign_newest(tx: Transaction, key: VerifierKey, sign: Callable[[bytes], bytes], now_ms: int) -> None:
    log = _log(tx)
    if tx.one("SELECT size FROM checkpoints WHERE size = ?", log.size) is not None:
        return
    note = sign_checkpoint(Checkpoint(key.name, log.size, log.root), key, sign)
    tx.run("INSERT INTO checkpoints (size, note, signed_at_ms) VALUES (?, ?, ?)", log.size, str(note), now_ms)


def _log(reader: Reader) -> Log:
    row = reader.one("SELECT max(leaf_index) FROM decision_leaves")
    last = row[0] if row else None
    return Log.load(0 if last is None else last + 1, read_hash(reader))


def _signer(secrets: Secrets) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(secrets.decisions_log_key)
