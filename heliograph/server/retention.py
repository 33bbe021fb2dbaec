"""What the server lets go of, and when: everything that all its readers have, and what has become too old.

```
floor          min ack of all devices                        head
  |                   |                                        |
  +-- deleted now ----+-- messages: until message_lives -------+   a room
                      +-- handshakes: until handshake_lives ---+
```

A device acknowledges what it has kept (`topics.py`). Entries do not carry an index of their
times: each sweep notes the head of a topic that has grown (`topic_marks`), and later everything up to an old mark is
known to be at least as old. A Welcome goes when its device has it or nobody can use it any more, and a ratchet tree
when no Welcome and no present epoch needs it. Rows of `submissions` stay as long as the room.

Nothing here must happen at once: `sweep` works in small acts that let everyone else's writes in between.
"""

from collections.abc import Sequence

from heliograph.server import log
from heliograph.server.context import Context
from heliograph.server.db.database import Reader, Transaction
from heliograph.wire.events import MessageEvent, event_decoder
from heliograph.wire.ids import DeviceId, RoomId, TopicId, mailbox_topic

MARK_INTERVAL_MS = 6 * 3_600_000
TREE_GRACE_MS = 3_600_000
"""So long a replaced tree is still given to whoever was told its hash just before."""
CLAIM_GRACE_MS = 86_400_000
_PAGE = 32
_ENTRIES_PER_ACT = 256


async def sweep(context: Context) -> None:
    """Let go of what is delivered or too old, in every room and mailbox."""
    now_ms = context.now_ms()
    await _sweep_welcomes(context, now_ms)
    await context.database.write(lambda tx: _sweep_small_rows(tx, now_ms))
    after = ""
    while topics := await context.database.read(lambda reader, after=after: _grown_topics(reader, after)):
        old = await context.database.write(lambda tx, topics=topics: _sweep_topics(tx, context, topics, now_ms))
        for room, seq in old:
            while await context.database.write(lambda tx, room=room, seq=seq: _erase_old_messages(tx, room, seq)):
                pass
        after = topics[-1]


def _grown_topics(reader: Reader, after: str) -> list[TopicId]:
    rows = reader.all(
        "SELECT topic FROM topics WHERE topic > ? AND head > floor AND (topic LIKE 'r%' OR topic LIKE 'd%')"
        " ORDER BY topic LIMIT ?",
        *(after, _PAGE),
    )
    return [topic for (topic,) in rows]


def _sweep_topics(
    tx: Transaction, context: Context, topics: Sequence[TopicId], now_ms: int
) -> list[tuple[RoomId, int]]:
    """Advance the floors of some topics; return the rooms with messages to take out, and up to where."""
    limits = context.limits
    old: list[tuple[RoomId, int]] = []
    for topic in topics:
        _mark(tx, topic, now_ms)
        is_room = topic.startswith("r")
        lives_s = limits.handshake_lives_s if is_room else limits.mailbox_lives_s
        expired = _head_before(tx, topic, now_ms - lives_s * 1000)
        log.advance_floor(tx, topic, max(_delivered_to_all(tx, topic), expired))
        if is_room:
            old.append((RoomId(topic), _head_before(tx, topic, now_ms - limits.message_lives_s * 1000)))
    return [(room, seq) for room, seq in old if seq > 0]


def _mark(tx: Transaction, topic: TopicId, now_ms: int) -> None:
    """Note the head now, unless that was done lately or nothing has come since."""
    row = tx.one("SELECT at_ms, head FROM topic_marks WHERE topic = ? ORDER BY at_ms DESC LIMIT 1", topic)
    at_ms, marked = (None, 0) if row is None else row
    if at_ms is None or now_ms - at_ms >= MARK_INTERVAL_MS:
        tx.run(
            "INSERT INTO topic_marks (topic, at_ms, head) SELECT topic, ?, head FROM topics"
            " WHERE topic = ? AND head > ?",
            *(now_ms, topic, marked),
        )


def _head_before(reader: Reader, topic: TopicId, time_ms: int) -> int:
    """Return the newest entry that is known to be older than `time_ms`, up to the interval between two marks."""
    row = reader.one(
        "SELECT max(head) FROM topic_marks WHERE topic = ? AND at_ms <= ?", topic, time_ms + MARK_INTERVAL_MS
    )
    return 0 if row is None or row[0] is None else row[0]


def _delivered_to_all(reader: Reader, topic: TopicId) -> int:
    """Return up to where every device that still reads a topic has kept it."""
    if topic.startswith("d"):
        row = reader.one("SELECT seq FROM acknowledgements WHERE topic = ? AND device = ?", topic, topic)
        return 0 if row is None else row[0]
    row = reader.one(
        "SELECT min(CASE WHEN a.seq > m.joined_seq THEN a.seq ELSE m.joined_seq END) FROM room_devices m"
        " JOIN devices d ON d.device = m.device AND d.removed_at_ms IS NULL"
        " LEFT JOIN acknowledgements a ON a.topic = m.room AND a.device = m.device"
        " WHERE m.room = ? AND m.left_seq IS NULL",
        topic,
    )
    return 0 if row is None or row[0] is None else row[0]


def _erase_old_messages(tx: Transaction, room: RoomId, old: int) -> bool:
    """Take out the bodies of the next few messages up to `old`; return whether more may be left."""
    row = tx.one("SELECT swept_seq FROM rooms WHERE room = ?", room)
    if row is None or row[0] >= old:
        return False
    rows = tx.all(
        "SELECT seq, body FROM entries WHERE topic = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
        *(room, row[0], old, _ENTRIES_PER_ACT),
    )
    for seq, body in rows:
        if _is_message(body):
            log.erase(tx, TopicId(room), seq, "expired")
    swept = rows[-1][0] if len(rows) == _ENTRIES_PER_ACT else old
    tx.run("UPDATE rooms SET swept_seq = ? WHERE room = ?", swept, room)
    return swept < old


def _is_message(body: bytes) -> bool:
    try:
        return isinstance(event_decoder.decode(body), MessageEvent)
    except ValueError:
        return True  # what cannot be read any more has nothing that a joiner needs


async def _sweep_welcomes(context: Context, now_ms: int) -> None:
    """Let go of Welcomes that their devices have acknowledged, or that nobody can use any more."""

    def query(reader: Reader) -> Sequence[tuple[DeviceId, int, str]]:
        rows = reader.all(
            "SELECT w.device, w.seq, CASE WHEN a.seq >= w.seq THEN 'delivered' ELSE 'expired' END FROM welcomes w"
            " JOIN devices d ON d.device = w.device"
            " LEFT JOIN acknowledgements a ON a.topic = w.device AND a.device = w.device"
            " WHERE w.expires_at_ms <= ? OR a.seq >= w.seq OR d.removed_at_ms IS NOT NULL LIMIT ?",
            *(now_ms, _ENTRIES_PER_ACT),
        )
        return [(device, seq, why) for device, seq, why in rows]

    while gone := await context.database.read(query):
        await context.database.write(lambda tx, gone=gone: _drop_welcomes(tx, gone))


def _drop_welcomes(tx: Transaction, gone: Sequence[tuple[DeviceId, int, str]]) -> None:
    for device, seq, why in gone:
        tx.run("DELETE FROM welcomes WHERE device = ? AND seq = ?", device, seq)
        log.erase(tx, mailbox_topic(device), seq, why)


def _sweep_small_rows(tx: Transaction, now_ms: int) -> None:
    tx.run("DELETE FROM key_packages WHERE expires_at_ms <= ?", now_ms)
    tx.run("DELETE FROM claims WHERE expires_at_ms <= ?", now_ms - CLAIM_GRACE_MS)
    tx.run("DELETE FROM invitations WHERE used_by IS NULL AND expires_at_ms <= ?", now_ms)
    tx.run("DELETE FROM contact_tokens WHERE expires_at_ms <= ?", now_ms)
    tx.run(
        "DELETE FROM room_trees WHERE superseded_at_ms <= ? AND NOT EXISTS (SELECT 1 FROM welcomes w"
        " WHERE w.room = room_trees.room AND w.tree_hash = room_trees.tree_hash)",
        now_ms - TREE_GRACE_MS,
    )
    tx.run(
        "DELETE FROM topic_marks WHERE at_ms < (SELECT max(m.at_ms) FROM topic_marks m JOIN topics t"
        " ON t.topic = m.topic WHERE m.topic = topic_marks.topic AND m.head <= t.floor)"
    )
