"""What a topic's log holds, and what travels on the socket.

An entry's body is one `Event` as MessagePack: it is encoded once, when it is written, and goes to every reader as
it stands. A frame is one `ClientFrame` or `ServerFrame` as MessagePack in a binary WebSocket frame, at most 64 KiB.
"""

from typing import Annotated, Any, Final, Literal

import msgspec

from heliograph.wire.channels import Tombstone
from heliograph.wire.frank import Frank
from heliograph.wire.ids import AccountIdText, DeviceIdText, RoomIdText, TopicIdText
from heliograph.wire.moderation import StatementOfReasons
from heliograph.wire.problems import ProblemBody
from heliograph.wire.rooms import Epoch, IdempotencyKey, RoomKind, Seq

MAX_FRAME_SIZE_BYTES: Final = 64 * 1024
MAX_FIRST_FRAME_SIZE_BYTES: Final = 64 * 1024
MAX_CURSORS: Final = 2000


class Event(msgspec.Struct, frozen=True, tag_field="t", omit_defaults=True):
    """What one entry of a topic tells."""


class MessageEvent(Event, frozen=True, tag="message"):
    """A room: a sealed message was accepted. The sender stands inside the ciphertext only."""

    epoch: int
    ciphertext: bytes
    accepted_at_ms: int
    frank: Frank


class CommitEvent(Event, frozen=True, tag="commit"):
    """A room: the commit that ends `epoch`."""

    epoch: int
    commit: bytes
    accepted_at_ms: int
    tree_hash: bytes


class ProposalEvent(Event, frozen=True, tag="proposal"):
    """A room: a proposal for `epoch`."""

    epoch: int
    proposal: bytes
    accepted_at_ms: int


class WelcomeEvent(Event, frozen=True, tag="welcome"):
    """A mailbox: this device was added to a room at `epoch`; `seq` is the entry in the room that added it."""

    room: str
    kind: RoomKind
    epoch: int
    seq: int
    welcome: bytes
    tree_hash: bytes
    accepted_at_ms: int


class DevicesEvent(Event, frozen=True, tag="devices"):
    """A mailbox: an account's chain has grown to state `state_seq` (one's own, or of someone in a shared room)."""

    account: str
    state_seq: int
    accepted_at_ms: int


class KeyPackagesLowEvent(Event, frozen=True, tag="key-packages-low"):
    """A mailbox: few one-time key packages are left, or the last-resort one was used: publish new ones."""

    one_time: int
    last_resort_used: bool
    accepted_at_ms: int


class StatementEvent(Event, frozen=True, tag="statement"):
    """A mailbox: a decision affects this account."""

    statement: StatementOfReasons
    accepted_at_ms: int


class OutcomeEvent(Event, frozen=True, tag="outcome"):
    """A mailbox: a report that this account sent has been decided."""

    report: str
    outcome: str
    accepted_at_ms: int
    decision: str | None = None


class PostEvent(Event, frozen=True, tag="post"):
    """A channel: a post; its id is this entry's seq."""

    signed: bytes
    signature: bytes
    accepted_at_ms: int


class EditEvent(Event, frozen=True, tag="edit"):
    """A channel: a new version of post `of`."""

    of: int
    signed: bytes
    signature: bytes
    accepted_at_ms: int


class TombstoneEvent(Event, frozen=True, tag="tombstone"):
    """A channel: post `of` is gone, by its author (with the author's signature) or by a decision."""

    of: int
    tombstone: Tombstone
    signed: bytes = b""
    signature: bytes = b""


class ErasedEvent(Event, frozen=True, tag="erased"):
    """Stands where an entry was whose body has been taken out: delivered by all, past its time, or removed."""

    why: Literal["delivered", "expired", "removed", "unreadable"]


AnyEvent = (
    MessageEvent
    | CommitEvent
    | ProposalEvent
    | WelcomeEvent
    | DevicesEvent
    | KeyPackagesLowEvent
    | StatementEvent
    | OutcomeEvent
    | PostEvent
    | EditEvent
    | TombstoneEvent
    | ErasedEvent
)


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One entry of a topic, body still encoded."""

    seq: int
    body: msgspec.Raw


class ReadEntry(msgspec.Struct, frozen=True, array_like=True):
    """One entry of a topic as a client decodes it."""

    seq: int
    event: AnyEvent


class Frame(msgspec.Struct, frozen=True, tag_field="f", omit_defaults=True, forbid_unknown_fields=True):
    """One message on the socket."""


class Hello(Frame, frozen=True, tag="hello"):
    """Client, first: the ticket, and the cursors that it holds, by topic, under one incarnation."""

    ticket: Annotated[str, msgspec.Meta(max_length=128)]
    incarnation: Annotated[str, msgspec.Meta(max_length=64)] = ""
    cursors: Annotated[dict[TopicIdText, Seq], msgspec.Meta(max_length=MAX_CURSORS)] = {}


class Ack(Frame, frozen=True, tag="ack"):
    """Client: this device has kept everything of a topic up to `seq`."""

    topic: TopicIdText
    seq: Seq


class Subscribe(Frame, frozen=True, tag="subscribe"):
    """Client: send this topic too, from a cursor; without one from its floor (rooms, mailbox) or head (channels)."""

    topic: TopicIdText
    after: Seq | None = None


class Unsubscribe(Frame, frozen=True, tag="unsubscribe"):
    """Client: send this topic no more."""

    topic: TopicIdText


class Typing(Frame, frozen=True, tag="typing"):
    """Both ways: a sealed sign that somebody types; never kept."""

    topic: RoomIdText
    sealed: Annotated[bytes, msgspec.Meta(max_length=256)]


class Ping(Frame, frozen=True, tag="ping"):
    """Client: are you there?"""


class Submit(Frame, frozen=True, tag="submit"):
    """Client: send a sealed message, as `submit_message` does. `request` is echoed with the answer."""

    request: Seq
    room: RoomIdText
    key: IdempotencyKey
    epoch: Epoch
    ciphertext: Annotated[bytes, msgspec.Meta(min_length=1, max_length=48 * 1024)]


ClientFrame = Hello | Ack | Subscribe | Unsubscribe | Typing | Ping | Submit


class Ready(Frame, frozen=True, tag="ready"):
    """Server, first: who this stream is for, and under which incarnation cursors now stand."""

    incarnation: str
    account: AccountIdText
    device: DeviceIdText


class Entries(Frame, frozen=True, tag="entries"):
    """Server: entries of a topic, in order, the first being number `first`."""

    topic: str
    first: int
    items: list[Entry]


class ReceivedEntries(Frame, frozen=True, tag="entries"):
    """`Entries` as a client decodes it."""

    topic: str
    first: int
    items: list[ReadEntry]


class Gap(Frame, frozen=True, tag="gap"):
    """Server: entries `first` to `last` of a topic will not come, and why."""

    topic: str
    first: int
    last: int
    why: Literal["expired", "not-allowed", "removed"]


class Head(Frame, frozen=True, tag="head"):
    """Server: you now have everything of this topic up to `seq`."""

    topic: str
    seq: int


class Resync(Frame, frozen=True, tag="resync"):
    """Server: it was restored from a backup. Cursors of another incarnation count no more; these are the heads."""

    incarnation: str
    heads: dict[str, int]


class Ended(Frame, frozen=True, tag="ended"):
    """Server: this topic is over for this stream, and why (blocked, removed, left, not found)."""

    topic: str
    problem: ProblemBody


class Accepted(Frame, frozen=True, tag="accepted"):
    """Server: the answer to `submit`: durable."""

    request: int
    seq: int
    accepted_at_ms: int
    frank: Frank


class Refused(Frame, frozen=True, tag="refused"):
    """Server: the answer to `submit` or another frame that could not be done."""

    request: int | None
    problem: ProblemBody


class Pong(Frame, frozen=True, tag="pong"):
    """Server: I am."""


ServerFrame = Ready | Entries | Gap | Head | Resync | Ended | Accepted | Refused | Typing | Pong
ReceivedFrame = Ready | ReceivedEntries | Gap | Head | Resync | Ended | Accepted | Refused | Typing | Pong


class TopicEntries(msgspec.Struct, frozen=True):
    """The answer to `read_topic`: entries after the cursor, the topic's head and the server's incarnation.

    `first` is the number of the first item; where it is larger than the cursor + 1, what lies between has expired.
    """

    topic: str
    incarnation: str
    first: int
    head_seq: int
    entries: list[ReadEntry]


event_decoder: "msgspec.msgpack.Decoder[Any]" = msgspec.msgpack.Decoder(AnyEvent)
client_frame_decoder: "msgspec.msgpack.Decoder[Any]" = msgspec.msgpack.Decoder(ClientFrame)
server_frame_decoder: "msgspec.msgpack.Decoder[Any]" = msgspec.msgpack.Decoder(ReceivedFrame)
