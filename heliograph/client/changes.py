"""What there is to save: each kind of change to a device's store, as a value.

The pure parts of the client (engine, room, channel) return these; `store` alone turns them into SQL, all of one step
in one transaction. So a message, the ratchet that opened it and the cursor behind it are kept together or not at all.
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

from heliograph.client.identity import KnownAccount
from heliograph.client.room import PendingChange, Room
from heliograph.client.told import Told
from heliograph.content.franking import Envelope
from heliograph.mls.key_package import KeyPackageBundle
from heliograph.wire.ids import AccountId, ChannelId, DeviceId, Handle, RoomId, TopicId

Act = Literal["say", "react", "edit", "delete", "profile", "receipt"]
MessageState = Literal["waiting", "sent", "received", "refused"]


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as it is kept: what it says, and the bytes and stamp that prove it.

    `seq` and `accepted_at_ms` are 0, and `envelope` absent, until the server has accepted it.
    """

    room: RoomId
    message_id: bytes
    sender: AccountId
    device: DeviceId
    act: Act
    text: str
    application_data: bytes = field(repr=False)
    state: MessageState
    created_at_ms: int
    seq: int = 0
    accepted_at_ms: int = 0
    envelope: Envelope | None = None
    in_reply_to: bytes | None = None
    replaces: bytes | None = None


class Intent(msgspec.Struct, frozen=True, tag_field="do", omit_defaults=True, forbid_unknown_fields=True):
    """Something that this device has promised to do: it stands in the outbox until it is done or refused."""


class SendContent(Intent, frozen=True, tag="send"):
    """Send a message to a room. `message_id` names the stored message that holds its bytes."""

    message_id: bytes


class CreateGroup(Intent, frozen=True, tag="create-group"):
    """Tell the server of a room whose group of one stands in the store."""

    peer: str | None = None


class ChangeMembers(Intent, frozen=True, tag="change-members"):
    """Bring people into a room or take them out, all their devices with them."""

    add: list[str] = []
    remove: list[str] = []
    contact_tokens: dict[str, str] = {}


class TendRoom(Intent, frozen=True, tag="tend"):
    """Commit what a room needs: pending proposals, leaves of departed devices, a fresh leaf of one's own where due."""


class LeaveRoom(Intent, frozen=True, tag="leave"):
    """Take this account's devices out of a room."""


class JoinFromOutside(Intent, frozen=True, tag="join-from-outside"):
    """Join a room by an external commit: as a new device of a participant, or after this device lost its place.

    `restored`: the server was restored from a backup: see first whether its past is still ours. `after`: the room's
    entries up to this one come first, since they may put this device out.
    """

    restored: bool = False
    after: int = 0


class NameRoom(Intent, frozen=True, tag="name-room"):
    """Say again what a room is called, for those who came in from outside."""


class CallOnce(Intent, frozen=True, tag="call"):
    """Send one ready request that bears its own idempotency key: an operation and its request as JSON."""

    operation: str
    request: bytes


AnyIntent: TypeAlias = (
    SendContent | CreateGroup | ChangeMembers | TendRoom | LeaveRoom | JoinFromOutside | NameRoom | CallOnce
)


@dataclass(frozen=True, slots=True)
class AccountLearned:
    """An account's chain was verified."""

    known: KnownAccount


@dataclass(frozen=True, slots=True)
class KeyPackagesMade:
    """Key packages are about to be published: their private keys come first."""

    bundles: tuple[KeyPackageBundle, ...]
    made_at_ms: int


@dataclass(frozen=True, slots=True)
class KeyPackageSpent:
    """A one-time key package was used: its private keys are deleted."""

    reference: bytes


@dataclass(frozen=True, slots=True)
class KeyPackagesOutlived:
    """Key packages made before these times can be used no more, nor any Welcome to them: they are deleted."""

    one_time_before_ms: int
    last_resort_before_ms: int


@dataclass(frozen=True, slots=True)
class RoomSaved:
    """A room's state moved on; the store writes the rows that differ."""

    room: Room


@dataclass(frozen=True, slots=True)
class RoomForgotten:
    """A room's keys are deleted; its messages stay."""

    room: RoomId


@dataclass(frozen=True, slots=True)
class CursorMoved:
    """Everything of a topic up to `seq` is kept."""

    topic: TopicId
    seq: int


@dataclass(frozen=True, slots=True)
class CursorDropped:
    """A topic is read no more."""

    topic: TopicId


@dataclass(frozen=True, slots=True)
class MessageSaved:
    """A message came, or is about to be sent."""

    message: StoredMessage


@dataclass(frozen=True, slots=True)
class MessageAccepted:
    """The server took a message of ours."""

    room: RoomId
    message_id: bytes
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """The server will not take a message of ours."""

    room: RoomId
    message_id: bytes


@dataclass(frozen=True, slots=True)
class CiphertextMade:
    """A message of ours was sealed: by this hash it is known again in the stream, which it enters unreadable to us."""

    room: RoomId
    ciphertext_sha256: bytes
    message_id: bytes


@dataclass(frozen=True, slots=True)
class CiphertextSeen:
    """A sealed message of ours came by in the stream."""

    room: RoomId
    ciphertext_sha256: bytes


@dataclass(frozen=True, slots=True)
class IntentAdded:
    """A promise: `request`, where it is ready already, is the exact request to send (MessagePack)."""

    lane: str
    intent: AnyIntent
    request: bytes = b""


@dataclass(frozen=True, slots=True)
class IntentSealed:
    """The exact request of an intent; it is what is sent, again and again, until there is an answer."""

    intent_id: int
    request: bytes


@dataclass(frozen=True, slots=True)
class LaneUnsealed:
    """What was sealed for a lane is of a past that the server knows no more: it is to be made anew."""

    lane: str


@dataclass(frozen=True, slots=True)
class IntentDone:
    """An intent is fulfilled or refused."""

    intent_id: int


@dataclass(frozen=True, slots=True)
class ChangePending:
    """A commit of ours is about to be sent; the room's next state waits beside it."""

    pending: PendingChange


@dataclass(frozen=True, slots=True)
class ChangeDropped:
    """A commit of ours was merged, or another won its epoch."""

    room: RoomId


@dataclass(frozen=True, slots=True)
class ChannelFollowed:
    """A channel is followed."""

    channel: ChannelId
    handle: Handle
    title: str


@dataclass(frozen=True, slots=True)
class ChannelUnfollowed:
    """A channel is followed no more."""

    channel: ChannelId


@dataclass(frozen=True, slots=True)
class Tell:
    """Something to tell the person: it waits until it is taken."""

    told: Told


@dataclass(frozen=True, slots=True)
class MetaSaved:
    """A named value of the device (see `meta` in schema.sql); an empty one is deleted."""

    name: str
    value: bytes = field(repr=False)


Change: TypeAlias = (
    AccountLearned
    | KeyPackagesMade
    | KeyPackageSpent
    | KeyPackagesOutlived
    | RoomSaved
    | RoomForgotten
    | CursorMoved
    | CursorDropped
    | MessageSaved
    | MessageAccepted
    | MessageRefused
    | CiphertextMade
    | CiphertextSeen
    | IntentAdded
    | IntentSealed
    | LaneUnsealed
    | IntentDone
    | ChangePending
    | ChangeDropped
    | ChannelFollowed
    | ChannelUnfollowed
    | Tell
    | MetaSaved
)
