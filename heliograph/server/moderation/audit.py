"""The audit chain: everything that moderation does, each event bound to all before it.

```
hash 1 <- hash 2 <- hash 3 ... <- hash n      hash = SHA-256(prev_hash || the event)
                                     |
                                  audit_head (seq, hash): so that the end cannot be cut off unseen
```

An event is written in the transaction of the act that it tells, and never changed. `verify_audit` walks the chain
and names the first event that was edited, removed or put in. It cannot see a chain that somebody rewrote as a whole,
head included; for decisions the transparency log can, because others hold its checkpoints.
"""

import hashlib
from typing import Final

import msgspec

from heliograph.server.db.database import Reader, Transaction
from heliograph.wire.encoding import encode_msgpack

GENESIS_HASH: Final = bytes(32)
_ROWS_AT_ONCE: Final = 1000


class AuditError(Exception):
    """The audit chain does not hold; the text names the event where it breaks."""


class AuditEvent(msgspec.Struct, frozen=True, array_like=True):
    """What one event says: who (an account, or nobody with one), what, to which object, and a few words."""

    seq: int
    at_ms: int
    actor: str
    act: str
    object: str
    detail: str


def record(tx: Transaction, now_ms: int, actor: str, act: str, subject: str, detail: str = "") -> int:
    """Write an event at the end of the chain and return its seq."""
    head = tx.one("SELECT seq, hash FROM audit_head WHERE id = 1")
    seq, prev_hash = (head[0] + 1, head[1]) if head else (1, GENESIS_HASH)
    event = AuditEvent(seq, now_ms, actor, act, subject, detail)
    own_hash = event_hash(prev_hash, event)
    tx.run(
        "INSERT INTO audit_events (seq, at_ms, actor, act, object, detail, prev_hash, hash)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        *(seq, now_ms, actor, act, subject, detail, prev_hash, own_hash),
    )
    tx.run(
        "INSERT INTO audit_head (id, seq, hash) VALUES (1, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
        *(seq, own_hash),
    )
    return seq


def event_hash(prev_hash: bytes, event: AuditEvent) -> bytes:
    """Return the hash (32 bytes) that binds an event to the one before it."""
    return hashlib.sha256(prev_hash + encode_msgpack(event)).digest()


def verify_audit(reader: Reader) -> int:
    """Check the whole chain and return how many events it has.

    Raises:
        AuditError: an event was changed, removed or put in.
    """
    seq, prev_hash = 0, GENESIS_HASH
    while rows := reader.all(
        "SELECT seq, at_ms, actor, act, object, detail, prev_hash, hash FROM audit_events"
        " WHERE seq > ? ORDER BY seq LIMIT ?",
        *(seq, _ROWS_AT_ONCE),
    ):
        for *fields, stored_prev_hash, stored_hash in rows:
            event = AuditEvent(*fields)
            if event.seq != seq + 1:
                raise AuditError(f"audit event {seq + 1} is missing")
            if stored_prev_hash != prev_hash or stored_hash != event_hash(prev_hash, event):
                raise AuditError(f"audit event {event.seq} was changed")
            seq, prev_hash = event.seq, stored_hash
    head = reader.one("SELECT seq, hash FROM audit_head WHERE id = 1") or (0, GENESIS_HASH)
    if head != (seq, prev_hash):
        raise AuditError(f"the audit chain ends at event {seq}, and its head says {head[0]}")
    return seq
