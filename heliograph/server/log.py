"""Topics: what anyone must learn is an entry of one, written in the transaction of the change that it tells.

An entry's number comes from the topic's stored head, so numbers are dense (1, 2, 3 ...) and are never given out
twice, whatever is deleted. Bodies are encoded once, here, and go to every reader as they stand.

```
floor        head
  |            |
  v            v
  3 | 4 5 6 7 8      entries <= floor are gone (readers get a gap), an erased one keeps its number
```
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from heliograph.server.db.database import Reader, Transaction
from heliograph.server.db.many import insert_rows, update_rows
from heliograph.wire.encoding import encode_msgpack
from heliograph.wire.events import CommitEvent, Entry, ErasedEvent, Event
from heliograph.wire.ids import TopicId
from heliograph.wire.problems import Problem

DIGEST_SIZE_BYTES = 16
UNREADABLE = encode_msgpack(ErasedEvent("unreadable"))


def create_topic(tx: Transaction, topic: TopicId, now_ms: int) -> None:
    """Begin a topic with no entries."""
    tx.run("INSERT INTO topics (topic, head, floor, created_at_ms) VALUES (?, 0, 0, ?)", topic, now_ms)


def append(tx: Transaction, topic: TopicId, event: Event) -> int:
    """Write an entry, wake the topic's readers after the commit, and return its seq.

    Raises:
        Problem: `not-found`, there is no such topic.
    """
    seq = reserve(tx, topic)
    fill(tx, topic, seq, event)
    return seq


def reserve(tx: Transaction, topic: TopicId) -> int:
    """Take the topic's next seq; `fill` must follow in the same transaction.

    Raises:
        Problem: `not-found`, there is no such topic.
    """
    row = tx.one("UPDATE topics SET head = head + 1 WHERE topic = ? RETURNING head", topic)
    if row is None:
        raise Problem("not-found", "there is no such topic")
    return row[0]


def fill(tx: Transaction, topic: TopicId, seq: int, event: Event) -> None:
    """Write the entry of a reserved seq."""
    fill_many(tx, [(topic, seq, event)])


def reserve_many(tx: Transaction, counts: Mapping[TopicId, int]) -> dict[TopicId, int]:
    """Take the next `counts[topic]` seqs of each topic and return the first of each; `fill_many` must follow.

    Raises:
        Problem: `not-found`, there is no such topic.
    """
    rows = update_rows(
        tx,
        "UPDATE topics SET head = head + k.column2",
        "topics.topic = k.column1",
        "topic, head",
        list(counts.items()),
    )
    if len(rows) != len(counts):
        raise Problem("not-found", "there is no such topic")
    return {topic: head - counts[topic] + 1 for topic, head in rows}


def fill_many(tx: Transaction, entries: Sequence[tuple[TopicId, int, Event]]) -> None:
    """Write the entries of reserved seqs."""
    bodies = [encode_msgpack(event) for _, _, event in entries]
    rows = [(topic, seq, body, _digest(body)) for (topic, seq, _), body in zip(entries, bodies, strict=True)]
    insert_rows(tx, "entries (topic, seq, body, digest)", rows)
    for (topic, seq, event), body in zip(entries, bodies, strict=True):
        if isinstance(event, CommitEvent):
            tx.touch(topic)  # a commit may remove a reader: access is asked again
        else:
            tx.publish(topic, seq, body)


def heads(reader: Reader, topics: Iterable[TopicId]) -> dict[TopicId, tuple[int, int]]:
    """Return (floor, head) of each of `topics` that exists."""
    found: dict[TopicId, tuple[int, int]] = {}
    for topic in topics:
        row = reader.one("SELECT floor, head FROM topics WHERE topic = ?", topic)
        if row is not None:
            found[topic] = (row[0], row[1])
    return found


def floor(reader: Reader, topic: TopicId) -> int:
    """Return the floor of a topic: entries up to it are gone.

    Raises:
        Problem: `not-found`, there is no such topic.
    """
    found = heads(reader, [topic])
    if topic not in found:
        raise Problem("not-found", "there is no such topic")
    return found[topic][0]


def read(reader: Reader, topic: TopicId, after: int, limit: int, max_bytes: int) -> list[Entry]:
    """Return entries after `after`, oldest first: at most `limit`, and no more than fit in `max_bytes` (but one).

    A body that no longer matches its digest reads as erased, why "unreadable": one bad sector must not stop a
    topic.
    """
    size_bytes = 0
    entries: list[Entry] = []
    for seq, body, digest in reader.all(
        "SELECT seq, body, digest FROM entries WHERE topic = ? AND seq > ? ORDER BY seq LIMIT ?", topic, after, limit
    ):
        size_bytes += len(body) + _ITEM_OVERHEAD_BYTES
        if entries and size_bytes > max_bytes:
            break
        entries.append(Entry(seq, msgspec.Raw(body if _digest(body) == digest else UNREADABLE)))
    return entries


def erase(tx: Transaction, topic: TopicId, seq: int, why: str) -> None:
    """Take an entry's body out: its number stays. `why` is one of `ErasedEvent`'s."""
    body = encode_msgpack(msgspec.convert({"t": "erased", "why": why}, ErasedEvent))
    if tx.run("UPDATE entries SET body = ?, digest = ? WHERE topic = ? AND seq = ?", body, _digest(body), topic, seq):
        tx.touch(topic)


def advance_floor(tx: Transaction, topic: TopicId, floor: int) -> None:
    """Delete entries up to `floor`; readers that stood before it are told of the gap."""
    if tx.run("UPDATE topics SET floor = ? WHERE topic = ? AND floor < ? AND head >= ?", floor, topic, floor, floor):
        tx.run("DELETE FROM entries WHERE topic = ? AND seq <= ?", topic, floor)
        tx.touch(topic)


_ITEM_OVERHEAD_BYTES = 16  # array header, seq and body header of one item in a frame


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:DIGEST_SIZE_BYTES]
