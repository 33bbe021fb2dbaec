"""Reading topics over HTTP, and saying what has been kept."""

import msgspec

from heliograph.server import log
from heliograph.server.access import readable_span
from heliograph.server.auth import Caller
from heliograph.server.context import Context
from heliograph.server.db.database import Reader, Transaction
from heliograph.wire.accounts import Empty
from heliograph.wire.events import Entry, ErasedEvent, ReadEntry, TopicEntries, event_decoder
from heliograph.wire.ids import DeviceId, TopicId
from heliograph.wire.problems import Problem
from heliograph.wire.rooms import Acknowledge, ReadTopic

MAX_REPLY_SIZE_BYTES = 4 * 1024 * 1024


async def read_topic(context: Context, caller: Caller | None, request: ReadTopic) -> TopicEntries:
    """Give entries after a cursor, oldest first."""
    if request.incarnation is not None and request.incarnation != context.incarnation:
        raise Problem("incarnation-changed", "this server was restored: cursors of before count no more")

    def query(reader: Reader) -> TopicEntries:
        span = readable_span(reader, caller, request.topic)
        floor, head = _floor_and_head(reader, request.topic)
        head = head if span.last is None else span.last
        if request.after > head:
            raise Problem("incarnation-changed", f"the topic ends at {head}: your cursor is of another history")
        after = max(request.after, floor, span.after)
        entries = log.read(reader, request.topic, after, request.limit, MAX_REPLY_SIZE_BYTES)
        readable = [one for one in entries if span.last is None or one.seq <= span.last]
        return TopicEntries(request.topic, context.incarnation, after + 1, head, [_read_entry(one) for one in readable])

    return await context.database.read(query)


def _read_entry(entry: Entry) -> ReadEntry:
    try:
        return ReadEntry(entry.seq, event_decoder.decode(entry.body))
    except msgspec.MsgspecError:
        return ReadEntry(entry.seq, ErasedEvent("unreadable"))


async def acknowledge(context: Context, caller: Caller, request: Acknowledge) -> Empty:
    """Keep what a device has said that it has; of a channel, which nobody waits for, that is not kept."""

    def act(tx: Transaction) -> None:
        span = readable_span(tx, caller, request.topic)
        head = _floor_and_head(tx, request.topic)[1]
        if request.seq > (head if span.last is None else span.last):
            raise Problem("malformed", "this entry was never delivered")
        write_acknowledgement(tx, request.topic, caller.device, request.seq)

    await context.database.write(act)
    return Empty()


def write_acknowledgement(tx: Transaction, topic: TopicId, device: DeviceId, seq: int) -> None:
    """Move a device's acknowledgement forward, never back. Of a channel, which waits for nobody, none is kept."""
    if topic.startswith("c"):
        return
    tx.run(
        "INSERT INTO acknowledgements (topic, device, seq) VALUES (?, ?, ?)"
        " ON CONFLICT (topic, device) DO UPDATE SET seq = excluded.seq WHERE excluded.seq > acknowledgements.seq",
        *(topic, device, seq),
    )


def _floor_and_head(reader: Reader, topic: TopicId) -> tuple[int, int]:
    found = log.heads(reader, [topic])
    if topic not in found:
        raise Problem("not-found", "there is no such topic")
    return found[topic]
