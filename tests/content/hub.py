"""A hub with real keys: it stamps what it accepts, as the server does."""

from dataclasses import dataclass, field

from heliograph.content.franking import Envelope, VerifyStamp
from heliograph.mls.suite import cipher_suite
from heliograph.wire import frank

ALICE, BOB = "mimi://chat.example/u/alice", "mimi://chat.example/u/bob"
ROOM, OTHER_ROOM = "mimi://chat.example/r/one", "mimi://chat.example/r/two"
NOW_MS = 1_790_000_000_000


@dataclass(frozen=True)
class Acceptance:
    """What the hub knows of one message."""

    tag: bytes
    sender_uri: str = ALICE
    room_uri: str = ROOM
    accepted_at_ms: int = NOW_MS
    room_seq: int = 7
    epoch: int = 3


@dataclass(frozen=True)
class Hub:
    """The hub's MAC key, its signature key pair, and the name of the MAC key."""

    hub_key: bytes = b"h" * 32
    signature_private_key: bytes = b"s" * 32
    kid: bytes = b"2026-09"
    public_key: bytes = field(init=False)

    def __post_init__(self) -> None:
        public = cipher_suite(1).signature_public_key(self.signature_private_key)
        object.__setattr__(self, "public_key", public)

    def context(self, one: Acceptance) -> bytes:
        return frank.context_bytes(one.sender_uri, one.room_uri, one.accepted_at_ms, one.room_seq, one.epoch, self.kid)

    def franks(self, *accepted: Acceptance) -> list[frank.Frank]:
        """Stamp one batch."""
        items = [(one.tag, self.context(one)) for one in accepted]
        return frank.stamp_batch(self.hub_key, self.signature_private_key, self.kid, items)

    def accept(self, *accepted: Acceptance) -> list[Envelope]:
        """Stamp one batch, and return what travels with each message."""
        return [
            Envelope(one.accepted_at_ms, one.room_seq, one.epoch, frank.encode_frank(stamp))
            for one, stamp in zip(accepted, self.franks(*accepted), strict=True)
        ]

    def verifier(self) -> VerifyStamp:
        return frank.stamp_verifier(self.public_key)
