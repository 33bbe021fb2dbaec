"""Private rooms, as they travel: creation, commits, proposals, messages and reading back."""

from typing import Annotated, Final, Literal

import msgspec

from heliograph.wire.accounts import Wire
from heliograph.wire.frank import Frank
from heliograph.wire.ids import AccountIdText, RoomIdText, TopicIdText

IDEMPOTENCY_KEY_SIZE_BYTES: Final = 16
MAX_CIPHERTEXT_SIZE_BYTES: Final = 48 * 1024
MAX_HANDSHAKE_SIZE_BYTES: Final = 1024 * 1024
MAX_TREE_SIZE_BYTES: Final = 2 * 1024 * 1024

RoomKind = Literal["direct", "group"]
IdempotencyKey = Annotated[
    bytes, msgspec.Meta(min_length=IDEMPOTENCY_KEY_SIZE_BYTES, max_length=IDEMPOTENCY_KEY_SIZE_BYTES)
]
Epoch = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Seq = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Ciphertext = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_CIPHERTEXT_SIZE_BYTES)]
Handshake = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_HANDSHAKE_SIZE_BYTES)]
Tree = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_TREE_SIZE_BYTES)]
TreeHash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=64)]


class CreateRoom(Wire, frozen=True):
    """Create a room from its creator's group of one (epoch 0): the GroupInfo (an MLSMessage) and its tree.

    A direct room names its peer: a server keeps one room a pair.
    """

    room: RoomIdText
    kind: RoomKind
    group_info: Handshake
    tree: Tree
    peer: AccountIdText | None = None


class RoomRequest(Wire, frozen=True):
    """Name one room."""

    room: RoomIdText


class RoomInfo(Wire, frozen=True):
    """What the server knows of a room: its kind, epoch, newest entry and the caller's standing."""

    room: RoomIdText
    kind: RoomKind
    epoch: int
    head_seq: int


class Rooms(Wire, frozen=True):
    """The rooms that the caller's account takes part in."""

    rooms: list[RoomInfo]


class SubmitCommit(Wire, frozen=True):
    """Move a room to its next epoch: the commit that was built on `epoch`, the Welcome for all who are added, the new
    GroupInfo and the tree that goes with it. All are MLSMessages but the tree.
    """

    room: RoomIdText
    key: IdempotencyKey
    epoch: Epoch
    commit: Handshake
    group_info: Handshake
    tree: Tree
    welcome: Handshake | None = None


class SubmitProposal(Wire, frozen=True):
    """Put a proposal (a PublicMessage) before a room."""

    room: RoomIdText
    key: IdempotencyKey
    epoch: Epoch
    proposal: Handshake


class SubmitMessage(Wire, frozen=True):
    """Send a sealed message (a PrivateMessage) to a room."""

    room: RoomIdText
    key: IdempotencyKey
    epoch: Epoch
    ciphertext: Ciphertext


class Submitted(Wire, frozen=True):
    """The acknowledgement: the entry's number in the room and when the server took it. It is durable."""

    seq: int
    accepted_at_ms: int
    frank: Frank | None = None


class GetGroupInfo(Wire, frozen=True):
    """Ask for a room's GroupInfo, sealed to a fresh HPKE key (X25519, 32 bytes) of the caller."""

    room: RoomIdText
    public_key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class SealedGroupInfo(Wire, frozen=True):
    """A GroupInfo sealed by HPKE: EncryptWithLabel, label "HG1 GroupInfo", context the room URI."""

    epoch: int
    kem_output: bytes
    ciphertext: bytes
    tree_hash: bytes


class GetTree(Wire, frozen=True):
    """Ask for the ratchet tree of this hash."""

    room: RoomIdText
    tree_hash: TreeHash


class TreeReply(Wire, frozen=True):
    """A ratchet tree, to be checked against the GroupInfo's tree hash."""

    tree: bytes


class ReadTopic(Wire, frozen=True):
    """Read entries after a cursor, oldest first."""

    topic: TopicIdText
    after: Seq = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 100
    incarnation: str | None = None


class Acknowledge(Wire, frozen=True):
    """Say that this device has kept everything up to `seq` (cumulative)."""

    topic: TopicIdText
    seq: Seq
