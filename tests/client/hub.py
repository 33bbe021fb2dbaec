"""A room without a server or a socket: a hub that stamps and numbers, and devices that are values.

Everything here is pure but the stores' absence: `Memory` is what the engine reads, kept in dicts.
"""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from heliograph.client import engine
from heliograph.client.changes import (
    AccountLearned,
    Change,
    ChangeDropped,
    CiphertextMade,
    CursorMoved,
    KeyPackageSpent,
    MessageSaved,
    RoomForgotten,
    RoomSaved,
    StoredMessage,
    Tell,
)
from heliograph.client.identity import Founded, Identity, KnownAccount, found_account
from heliograph.client.room import CAPABILITIES, PendingChange, Room, create_room, lifetime, seal_message
from heliograph.client.room_commits import Wanted, build_commit
from heliograph.client.step import Facts, Missing, Step
from heliograph.client.told import Told
from heliograph.content.compose import Composer
from heliograph.content.franking import Franked, frank_message
from heliograph.mls.framing import MLSMessage
from heliograph.mls.group_info import Welcome
from heliograph.mls.key_package import KeyPackageBundle, create_key_package
from heliograph.mls.suite import cipher_suite
from heliograph.wire.events import AnyEvent, CommitEvent, MessageEvent, ProposalEvent, WelcomeEvent
from heliograph.wire.frank import context_bytes, stamp_batch
from heliograph.wire.ids import AccountId, Handle, RoomId, TopicId, room_id, room_uri, user_uri

DOMAIN = "example.org"
NOW_MS = 1_790_000_000_000
SUITE = cipher_suite(1)


@dataclass
class Memory:
    """What one device has saved."""

    accounts: dict[AccountId, KnownAccount] = field(default_factory=dict[AccountId, KnownAccount])
    rooms: dict[RoomId, Room] = field(default_factory=dict[RoomId, Room])
    pendings: dict[RoomId, PendingChange] = field(default_factory=dict[RoomId, PendingChange])
    bundles: dict[bytes, KeyPackageBundle] = field(default_factory=dict[bytes, KeyPackageBundle])
    messages: dict[bytes, StoredMessage] = field(default_factory=dict[bytes, StoredMessage])
    ciphertexts: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    told: list[Told] = field(default_factory=list[Told])
    cursors: dict[str, int] = field(default_factory=dict[str, int])

    def room(self, room: RoomId) -> Room | None:
        return self.rooms.get(room)

    def pending(self, room: RoomId) -> PendingChange | None:
        return self.pendings.get(room)

    def key_package(self, reference: bytes) -> KeyPackageBundle | None:
        return self.bundles.get(reference)

    def message(self, room: RoomId, message_id: bytes) -> StoredMessage | None:
        del room
        return self.messages.get(message_id)

    def message_of_ciphertext(self, room: RoomId, sha256: bytes) -> bytes | None:
        del room
        return self.ciphertexts.get(sha256)

    def save(self, changes: tuple[Change, ...]) -> None:
        """Keep what a step changes."""
        for change in changes:
            match change:
                case AccountLearned(known):
                    self.accounts[known.account] = known
                case RoomSaved(room):
                    self.rooms[room.room] = room
                    self.cursors[room.room] = room.seq
                case RoomForgotten(room):
                    self.rooms.pop(room, None)
                case ChangeDropped(room):
                    self.pendings.pop(room, None)
                case KeyPackageSpent(reference):
                    self.bundles.pop(reference)
                case MessageSaved(message):
                    self.messages[message.message_id] = message
                case CiphertextMade(_, sha256, message_id):
                    self.ciphertexts[sha256] = message_id
                case CursorMoved(topic, seq):
                    self.cursors[topic] = seq
                case Tell(told):
                    self.told.append(told)
                case _:
                    pass


class Phone:
    """A device with its memory."""

    def __init__(self, hub: "Hub", handle: str) -> None:
        self.hub = hub
        self.founded: Founded = found_account(DOMAIN, Handle(handle), now_ms=NOW_MS, random=hub.random)
        self.identity: Identity = self.founded.identity
        self.memory = Memory()
        self.known = KnownAccount(self.identity.account, Handle(handle), (self.founded.genesis,))
        self.memory.accounts[self.identity.account] = self.known

    def apply(self, topic: str, seq: int, event: AnyEvent, *, live: bool = True) -> Step:
        """Apply an entry, with everything that is missing fetched from the hub, and keep what follows."""
        facts = Facts(self.identity, self.hub.franking_key, self.hub.now_ms, live)
        for _ in range(3):
            step = engine.apply(self.memory, facts, TopicId(topic), seq, event)
            if isinstance(step, Step):
                self.memory.save(step.changes)
                return step
            facts = self.hub.fetched(facts, step)
        raise AssertionError("the engine asks for the same thing again and again")

    @property
    def told(self) -> list[Told]:
        """What this device has told, oldest first."""
        return self.memory.told

    def key_package(self) -> KeyPackageBundle:
        """Make a key package and keep its private keys."""
        bundle = create_key_package(
            SUITE,
            self.identity.credential,
            self.identity.device_private_key,
            lifetime=lifetime(self.hub.now_ms // 1000),
            capabilities=CAPABILITIES,
            random=self.hub.random,
        )
        self.memory.bundles[bundle.key_package.reference(SUITE)] = bundle
        return bundle

    def composer(self, room: RoomId) -> Composer:
        """Return what composes this device's messages."""
        return Composer(self.identity.user_uri, room_uri(DOMAIN, room), self.hub.random)

    def seal(self, room: RoomId, franked: Franked) -> bytes:
        """Seal a message, advancing the ratchet."""
        after, ciphertext = seal_message(self.memory.rooms[room], franked, random=self.hub.random)
        self.memory.rooms[room] = after
        return ciphertext


class Hub:
    """Numbers, stamps and delivers; and may be told to lie."""

    def __init__(self) -> None:
        self.random = random.Random(0xB0B).randbytes
        self.now_ms = NOW_MS
        self.hub_key = self.random(32)
        keys = SUITE.generate_signature_key(self.random)
        self.franking_private_key, self.franking_key = keys.private, keys.public
        self.phones: list[Phone] = []
        self.seq = 0
        self.trees: dict[bytes, bytes] = {}

    def phone(self, handle: str) -> Phone:
        """Return a new person's device."""
        phone = Phone(self, handle)
        self.phones.append(phone)
        return phone

    def fetched(self, facts: Facts, missing: Missing) -> Facts:
        """Give what a step asked for."""
        chains = {one.identity.account: one.known for one in self.phones}
        found: Mapping[AccountId, KnownAccount] = {
            account: chains[account] for account in missing.accounts if account in chains
        }
        trees = dict(facts.trees)
        if missing.tree is not None:
            trees[missing.tree[1]] = self.trees[missing.tree[1]]
        return replace(facts, fetched={**facts.fetched, **found}, asked=facts.asked | missing.accounts, trees=trees)

    def stamp(self, sender: Phone, room: RoomId, epoch: int, ciphertext: bytes, tag: bytes) -> MessageEvent:
        """Accept a message: the next number, the time, and the frank."""
        self.seq += 1
        context = context_bytes(
            user_uri(DOMAIN, sender.identity.account), room_uri(DOMAIN, room), self.now_ms, self.seq, epoch, b"k1"
        )
        (frank,) = stamp_batch(self.hub_key, self.franking_private_key, b"k1", [(tag, context)])
        return MessageEvent(epoch, ciphertext, self.now_ms, frank)

    def say(self, sender: Phone, room: RoomId, text: str) -> tuple[int, MessageEvent]:
        """Seal and stamp a text."""
        franked = frank_message(sender.composer(room).text(text))
        ciphertext = sender.seal(room, franked)
        event = self.stamp(sender, room, sender.memory.rooms[room].group.epoch, ciphertext, franked.tag)
        return self.seq, event

    def commit(self, pending: PendingChange, tree_hash: bytes | None = None) -> tuple[int, CommitEvent]:
        """Accept a commit."""
        self.seq += 1
        hashed = tree_hash or pending.room.group.group_context.tree_hash
        self.trees[hashed] = pending.tree
        return self.seq, CommitEvent(pending.epoch, pending.commit, self.now_ms, hashed)

    def propose(self, sender: Phone, room: RoomId, message: bytes) -> tuple[int, ProposalEvent]:
        """Put a proposal before a room, whoever may have made it."""
        self.seq += 1
        return self.seq, ProposalEvent(sender.memory.rooms[room].group.epoch, message, self.now_ms)

    def room_of(self, creator: Phone, *others: Phone) -> RoomId:
        """Return a room in which all of these stand, with the creator's commit applied everywhere."""
        room = create_room(
            creator.identity,
            room_id(self.random(16)),
            direct=False,
            franking_key=self.franking_key,
            now_s=self.now_ms // 1000,
            random=self.random,
        )
        creator.memory.rooms[room.room] = room
        self.add(creator, room.room, *others)
        return room.room

    def add(self, committer: Phone, room: RoomId, *others: Phone) -> tuple[int, CommitEvent]:
        """Let a member add people: the committer and the newcomers are brought up to it."""
        wanted = Wanted(
            add=[one.key_package().key_package for one in others], join=[one.identity.account for one in others]
        )
        pending = self.build(committer, room, wanted)
        seq, event = self.commit(pending)
        committer.apply(room, seq, event)
        for one in others:
            one.apply(one.identity.device, 1, welcome_event(room, pending, seq, event))
        return seq, event

    def build(self, committer: Phone, room: RoomId, wanted: Wanted) -> PendingChange:
        """Build a commit and keep it as pending."""
        held = committer.memory.rooms[room]
        pending = build_commit(held, wanted, now_s=self.now_ms // 1000, random=self.random)
        committer.memory.pendings[room] = pending
        return pending


def welcome_event(room: RoomId, pending: PendingChange, seq: int, event: CommitEvent) -> WelcomeEvent:
    """Return what the hub puts into a newcomer's mailbox."""
    assert pending.welcome is not None
    assert isinstance(MLSMessage.decode(pending.welcome).body, Welcome)
    return WelcomeEvent(room, "group", pending.epoch + 1, seq, pending.welcome, event.tree_hash, event.accepted_at_ms)


def sha256(data: bytes) -> bytes:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(data).digest()
