"""What a client tells the person who uses it: plain facts, each already checked and saved.

They wait in the store until `Client.receive` has handed them over, so a crash loses none of them.
"""

from typing import Literal

import msgspec

from heliograph.wire.ids import AccountId, ChannelId, DeviceId, Handle, RoomId, TopicId
from heliograph.wire.moderation import StatementOfReasons
from heliograph.wire.problems import ProblemBody


class Told(msgspec.Struct, frozen=True, tag_field="kind", omit_defaults=True):
    """One thing that happened."""


class RoomMessage(Told, frozen=True, tag="message"):
    """A message of a room. `message_id` has 32 bytes; `replaces` and `in_reply_to` name other messages.

    `act` tells what it does: say something, react (the emoji is the text), edit, or delete (no text).
    """

    room: RoomId
    seq: int
    message_id: bytes
    sender: AccountId
    handle: str
    device: DeviceId
    text: str
    accepted_at_ms: int
    act: Literal["say", "react", "edit", "delete"] = "say"
    in_reply_to: bytes | None = None
    replaces: bytes | None = None


class RoomJoined(Told, frozen=True, tag="room-joined"):
    """This device can now read a room, from `seq` on. `again` after it had lost its place."""

    room: RoomId
    seq: int
    direct: bool
    members: list[AccountId]
    again: bool = False


class RoomNamed(Told, frozen=True, tag="room-named"):
    """A room has a new name or topic."""

    room: RoomId
    seq: int
    name: str
    topic: str
    by: str


class MemberChanged(Told, frozen=True, tag="members"):
    """People or devices came to a room or left it. Accounts in `joined` and `left`; device ids in the others."""

    room: RoomId
    seq: int
    by: AccountId
    joined: list[AccountId] = []
    left: list[AccountId] = []
    devices_added: list[DeviceId] = []
    devices_removed: list[DeviceId] = []


class RoomLeft(Told, frozen=True, tag="room-left"):
    """This device reads a room no more: it left, or was removed."""

    room: RoomId
    seq: int
    by: str = ""


class PostReceived(Told, frozen=True, tag="post"):
    """A post of a followed channel, or a new version of one (`version` differs from `post`). Its signature holds."""

    channel: ChannelId
    post: int
    version: int
    author: AccountId
    language: str
    body: str
    accepted_at_ms: int
    reply_to: int | None = None


class PostRemoved(Told, frozen=True, tag="post-removed"):
    """A post of a followed channel is gone."""

    channel: ChannelId
    post: int
    by: Literal["author", "channel", "moderation"]
    reason: str = ""
    decision: str | None = None


class ChannelEnded(Told, frozen=True, tag="channel-ended"):
    """A followed channel can be read no more, and why."""

    channel: ChannelId
    problem: ProblemBody


class StatementReceived(Told, frozen=True, tag="statement"):
    """A decision affects this account."""

    statement: StatementOfReasons


class OutcomeReceived(Told, frozen=True, tag="outcome"):
    """A report that this account sent was decided."""

    report: str
    outcome: str
    decision: str | None = None


class DeviceListChanged(Told, frozen=True, tag="devices"):
    """An account in a shared room, or one's own, has other devices than before."""

    account: AccountId
    handle: Handle
    state_seq: int
    added: list[DeviceId]
    removed: list[DeviceId]
    by_recovery: bool = False


class ProtocolFault(Told, frozen=True, tag="fault"):
    """Something could not be verified and is not shown: a message, a commit, a post, a Welcome."""

    topic: TopicId | RoomId
    seq: int
    detail: str


class EntriesMissed(Told, frozen=True, tag="missed"):
    """Entries `first` to `last` of a topic will never come."""

    topic: TopicId
    first: int
    last: int
    why: str


AnyTold = (
    RoomMessage
    | RoomJoined
    | RoomNamed
    | MemberChanged
    | RoomLeft
    | PostReceived
    | PostRemoved
    | ChannelEnded
    | StatementReceived
    | OutcomeReceived
    | DeviceListChanged
    | ProtocolFault
    | EntriesMissed
)
