"""What the engine works with: what it reads of the store, the facts of one step, and what a step leads to. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from heliograph.client.changes import Change, CursorMoved, StoredMessage, Tell
from heliograph.client.identity import Identity, KnownAccount
from heliograph.client.room import Accounts, PendingChange, Room
from heliograph.client.told import ProtocolFault
from heliograph.mls.key_package import KeyPackageBundle
from heliograph.wire.ids import AccountId, RoomId, TopicId


class Stored(Protocol):
    """What the engine reads of the device's store."""

    @property
    def accounts(self) -> Mapping[AccountId, KnownAccount]:
        """Return all known accounts."""
        ...

    def room(self, room: RoomId) -> Room | None:
        """Return a room."""
        ...

    def pending(self, room: RoomId) -> PendingChange | None:
        """Return the room's commit that waits to be accepted."""
        ...

    def key_package(self, reference: bytes) -> KeyPackageBundle | None:
        """Return a key package with its private keys."""
        ...

    def message(self, room: RoomId, message_id: bytes) -> StoredMessage | None:
        """Return one message."""
        ...

    def message_of_ciphertext(self, room: RoomId, sha256: bytes) -> bytes | None:
        """Return the id of the message that a sealed message of ours holds."""
        ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What a step knows besides the store. `franking_key` is the server's, which new rooms must name.

    live: the topic was caught up when this entry came, so its times can be held against the clock. fetched: chains that
    were fetched for this entry; asked: accounts that were asked for, whether their chains could be learned or not.
    trees: ratchet trees that were fetched, by hash.
    """

    identity: Identity
    franking_key: bytes
    now_ms: int
    live: bool
    fetched: Mapping[AccountId, KnownAccount] = field(default_factory=dict[AccountId, KnownAccount])
    asked: frozenset[AccountId] = frozenset()
    trees: Mapping[bytes, bytes] = field(default_factory=dict[bytes, bytes])


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Ask the stream for a topic, after this entry."""

    topic: TopicId
    after: int


@dataclass(frozen=True, slots=True)
class OfferKeyPackages:
    """Publish new key packages."""

    last_resort: bool


@dataclass(frozen=True, slots=True)
class JoinOwnRooms:
    """Join the rooms of this account in which this device does not stand."""


Wish: TypeAlias = Subscribe | OfferKeyPackages | JoinOwnRooms


@dataclass(frozen=True, slots=True)
class Step:
    """What one entry leads to: changes to save together, then wishes to follow."""

    changes: tuple[Change, ...] = ()
    wishes: tuple[Wish, ...] = ()


@dataclass(frozen=True, slots=True)
class Missing:
    """What must be fetched before the entry can be judged."""

    accounts: frozenset[AccountId] = frozenset()
    tree: tuple[RoomId, bytes] | None = None


def accounts_of(stored: Stored, facts: Facts) -> Accounts:
    """Return whom this device knows, with what was fetched for this step."""
    return Accounts({**stored.accounts, **facts.fetched}, facts.asked)


def fault(topic: TopicId, seq: int, detail: str) -> Step:
    """Return the step that passes over an entry that does not hold, and says so."""
    return Step((CursorMoved(topic, seq), Tell(ProtocolFault(topic, seq, detail))))
