"""Who may read a topic, and from where to where: asked by the stream and by `read_topic`, answered in one place.

A room's device reads what came after the commit that added it, up to the commit that removed it. A channel is
anyone's unless it is blocked. A mailbox is its device's alone.
"""

from typing import NamedTuple

from heliograph.server import channels, rooms
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


def own_topics(reader: Reader, caller: Caller) -> list[TopicId]:
    """Return the topics that a stream carries without being asked: mailbox, rooms, followed channels."""
    return [
        TopicId(caller.device),
        *rooms.topics_of(reader, caller.account, caller.device),
        *channels.followed_topics(reader, caller.account),
    ]
