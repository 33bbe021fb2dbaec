"""Who may read a topic, and from where to where: asked by the stream and by `read_topic`, answered in one place.

A room's device reads what came after the commit that added it, up to the commit that removed it. A channel is
anyone's unless it is blocked. A mailbox is its device's alone.
"""

from collections.abc import Iterable
from typing import NamedTuple

from heliograph.server import channels, log, rooms
from heliograph.server.auth import Caller
from heliograph.server.db.database import Reader
from heliograph.wire.ids import ChannelId, RoomId, TopicId
from heliograph.wire.problems import Problem


class Span(NamedTuple):
    """The entries that may be read: those after `after`, up to `last` where it ends."""

    after: int
    last: int | None


def readable_span(reader: Reader, caller: Caller | None, topic: TopicId) -> Span:
    """Return which entries of `topic` the caller may read.

    Raises:
        Problem: `not-found`, there is no such topic for this caller; `channel-restricted`.
    """
    kind = topic[0]
    if kind == "c":
        channels.require_open(reader, ChannelId(topic))
        return Span(0, None)
    if caller is not None and kind == "r":
        span = rooms.readable_span(reader, caller.device, RoomId(topic))
        return Span(span.after, span.last)
    if caller is not None and topic == caller.device:
        return Span(0, None)
    raise Problem("not-found", "there is no such topic")


def readable_heads(
    reader: Reader, caller: Caller, topics: Iterable[TopicId]
) -> dict[TopicId, tuple[int, int] | Problem]:
    """Return (floor, head) of each topic that the caller may read, and the refusal of each other.

    Nobody learns how far a topic has come, or whether there is one, that they may not read.
    """
    return {topic: _readable_head(reader, caller, topic) for topic in topics}


def _readable_head(reader: Reader, caller: Caller, topic: TopicId) -> tuple[int, int] | Problem:
    try:
        last = readable_span(reader, caller, topic).last
    except Problem as problem:
        return problem
    floor, head = log.heads(reader, [topic]).get(topic, (0, 0))
    return floor, head if last is None else last


def own_topics(reader: Reader, caller: Caller) -> list[TopicId]:
    """Return the topics that a stream carries without being asked: mailbox, rooms, followed channels."""
    return [
        TopicId(caller.device),
        *rooms.topics_of(reader, caller.account, caller.device),
        *channels.followed_topics(reader, caller.account),
    ]
