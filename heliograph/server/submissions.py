"""A key is used once: how a retry finds its first answer, for as long as a room lives.

Each entry of a room leaves a row (key hash, seq, digest of what was submitted). The hash is keyed by a key that lies
beside the database and not in it, so that the rows do not tell which device sent which entry. A retry is recognised
before anything else is asked: membership and epoch may have moved on since the first answer was given.
"""

import hashlib
import hmac
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from heliograph.server.db.database import Reader, Transaction
from heliograph.server.db.many import insert_rows, select_rows
from heliograph.wire.encoding import encode_msgpack
from heliograph.wire.ids import DeviceId, RoomId
from heliograph.wire.problems import Problem

HASH_SIZE_BYTES = 16


class First(NamedTuple):
    """The first answer under a key: the entry, and when it was taken."""

    seq: int
    accepted_at_ms: int


def key_hash(lookup_key: bytes, room: RoomId, device: DeviceId, key: bytes) -> bytes:
    """Return what is kept (16 bytes) of a device's idempotency key for a room."""
    mac = _keyed(lookup_key).copy()
    mac.update(room.encode() + device.encode() + key)
    return mac.digest()[:HASH_SIZE_BYTES]


@lru_cache(maxsize=1)
def _keyed(lookup_key: bytes) -> hmac.HMAC:
    return hmac.new(lookup_key, digestmod="sha256")


def digest_of(request: msgspec.Struct) -> bytes:
    """Return the digest (16 bytes) by which the same handshake is recognised."""
    kind = type(request).__name__.encode()
    return hashlib.sha256(kind + encode_msgpack(request)).digest()[:HASH_SIZE_BYTES]


def find(reader: Reader, room: RoomId, hashed_key: bytes, digest: bytes) -> First | None:
    """Return the first answer that was given under a key, None where it is new.

    Raises:
        Problem: `key-reused`, it was given for something else.
    """
    row = reader.one(
        "SELECT seq, digest, accepted_at_ms FROM submissions WHERE room = ? AND key_hash = ?", room, hashed_key
    )
    if row is None:
        return None
    if row[1] != digest:
        raise key_reused()
    return First(row[0], row[2])


def remember(tx: Transaction, room: RoomId, hashed_key: bytes, digest: bytes, first: First) -> None:
    """Keep the first answer under a key."""
    tx.run(
        "INSERT INTO submissions (room, key_hash, seq, digest, accepted_at_ms) VALUES (?, ?, ?, ?, ?)",
        room,
        hashed_key,
        first.seq,
        digest,
        first.accepted_at_ms,
    )


def find_many(reader: Reader, keys: Sequence[tuple[RoomId, bytes]]) -> dict[tuple[RoomId, bytes], tuple[bytes, First]]:
    """Return the digest and first answer of each (room, hashed key) that is known."""
    rows = select_rows(
        reader,
        "SELECT room, key_hash, digest, seq, accepted_at_ms FROM submissions",
        "room = k.column1 AND key_hash = k.column2",
        keys,
    )
    return {(room, key): (digest, First(seq, accepted_at_ms)) for room, key, digest, seq, accepted_at_ms in rows}


def remember_many(tx: Transaction, answers: Sequence[tuple[RoomId, bytes, bytes, First]]) -> None:
    """Keep first answers: (room, hashed key, digest, first answer) each."""
    rows = [(room, key, first.seq, digest, first.accepted_at_ms) for room, key, digest, first in answers]
    insert_rows(tx, "submissions (room, key_hash, seq, digest, accepted_at_ms)", rows)


def key_reused() -> Problem:
    """Return the refusal of a key that was used for something else."""
    return Problem("key-reused", "take a new random key for each thing you send")
