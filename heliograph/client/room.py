"""A room as one of its devices holds it: the MLS group, the policy that stands in it, and what people call it. Pure.

```
              seal                        open
content ------------> ciphertext  => server => ciphertext ----------------------------------> content
 franking tag in the AAD           frank     sender's leaf = sender, room, tag, frank, order
```

Nothing is opened by half: a message is returned only when everything holds that a report would need, and a commit
leads to a new `Room` only when every new leaf is who it says it is and the policy allows the change. Otherwise the
caller keeps what it has. Building never changes state: a commit is built as a `PendingChange`, whose `room` comes into
force when the server has accepted it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from heliograph.client.identity import (
    CredentialError,
    Identity,
    KnownAccount,
    validate_credential,
)
from heliograph.content.framing import decode_application_data
from heliograph.content.franking import (
    Envelope,
    Franked,
    Verified,
    franking_tag,
    verify_received,
)
from heliograph.mls.errors import MLSError, ValidationError, VerificationError
from heliograph.mls.group import (
    Group,
    PendingCommit,
    ReceivedApplication,
)
from heliograph.mls.key_package import KeyPackageBundle
from heliograph.mls.leaf_node import Capabilities, LeafNode, Lifetime
from heliograph.mls.membership import create_group, join, join_external
from heliograph.mls.ratchet_tree import Member, RatchetTree
from heliograph.mls.suite import Random, cipher_suite
from heliograph.mls.tree_math import LeafIndex
from heliograph.wire.events import MessageEvent
from heliograph.wire.frank import encode_frank, frank_aad, stamp_verifier, tag_in
from heliograph.wire.ids import AccountId, DeviceId, RoomId, group_id, parse_device_uri, room_uri, user_uri
from heliograph.wire.room_policy import APP_DATA_DICTIONARY, PROPOSALS, REQUIRED, Role, RoomPolicy

SUITE_ID: Final = 1
DAY_S: Final = 86_400
KEY_PACKAGE_LIFETIME_S: Final = 30 * DAY_S
LAST_RESORT_LIFETIME_S: Final = 90 * DAY_S
CLOCK_SLACK_S: Final = 3600
LEAF_LIFETIME_MS: Final = 7 * DAY_S * 1000
CAPABILITIES: Final = Capabilities(cipher_suites=(SUITE_ID,), extensions=(APP_DATA_DICTIONARY, 0x000A))

Standing = Literal["active", "lost", "restored", "left"]
"""`lost`: commits are missing. `restored`: so is the server's newer past, and its epoch may lie behind ours."""


class MissingAccounts(Exception):
    """These accounts' chains must be fetched before a step can be judged."""

    def __init__(self, accounts: frozenset[AccountId]) -> None:
        super().__init__(f"{len(accounts)} accounts must be looked up")
        self.accounts = accounts


@dataclass(frozen=True, slots=True)
class Accounts:
    """Whom this device knows, and whose chain is as new as the server can give it (`fresh`)."""

    known: Mapping[AccountId, KnownAccount]
    fresh: frozenset[AccountId] = frozenset()


@dataclass(frozen=True, slots=True)
class Room:
    """A room in one epoch. `seq` is the last entry that was worked into it; `peer` whom a direct room is made for.

    `leaf_at_ms` is when this device's leaf was made, 0 where a fresh one is due at once: it came from a key package of
    last resort.
    """

    room: RoomId
    group: Group
    policy: RoomPolicy
    seq: int
    name: str = ""
    topic: str = ""
    standing: Standing = "active"
    leaf_at_ms: int = 0
    peer: AccountId | None = None

    @property
    def direct(self) -> bool:
        """Tell whether it is a room of two people."""
        return self.policy.direct

    @property
    def uri(self) -> str:
        """Return the room's URI."""
        return room_uri(self.policy.domain, self.room)

    def leaf_is_due(self, now_ms: int) -> bool:
        """Tell whether this device's leaf should be renewed before anything is sent."""
        return now_ms - self.leaf_at_ms > LEAF_LIFETIME_MS

    def devices(self) -> dict[LeafIndex, tuple[AccountId, DeviceId]]:
        """Return whose device stands at each leaf."""
        return {member.leaf_index: device_of(member.leaf_node) for member in self.group.members()}

    def uris(self) -> tuple[str, ...]:
        """Return the device URIs of all leaves."""
        return tuple(uri_of(member.leaf_node) for member in self.group.members())


@dataclass(frozen=True, slots=True)
class PendingChange:
    """A commit that was built and not yet accepted: what to send, and the room once the server has taken it.

    `external` says that it joins from outside: then there is no room to keep until it is accepted.
    """

    room: Room
    epoch: int
    commit: bytes = field(repr=False)
    welcome: bytes | None = field(repr=False)
    group_info: bytes = field(repr=False)
    tree: bytes = field(repr=False)
    external: bool = False


@dataclass(frozen=True, slots=True)
class OpenedMessage:
    """A message of the room that passed every check, and who sent it from which device."""

    verified: Verified
    application_data: bytes = field(repr=False)
    envelope: Envelope
    sender: AccountId
    device: DeviceId


@dataclass(frozen=True, slots=True)
class NotShown:
    """A message that could not be verified; it is never displayed."""

    detail: str


Opened: TypeAlias = OpenedMessage | NotShown


def uri_of(leaf: LeafNode) -> str:
    """Return the device URI in a leaf's credential.

    Raises:
        CredentialError: the credential is of another kind.
    """
    try:
        return leaf.credential.identity.decode()
    except (MLSError, UnicodeDecodeError):
        raise CredentialError("the leaf's credential is not a device URI") from None


def device_of(leaf: LeafNode) -> tuple[AccountId, DeviceId]:
    """Return the account and device that a leaf's credential names; raises CredentialError."""
    try:
        _, account, device = parse_device_uri(uri_of(leaf))
    except ValueError:
        raise CredentialError("the leaf's credential is not a device URI") from None
    return account, device


def validate_leaves(members: Sequence[Member], policy: RoomPolicy, accounts: Accounts, *, catching_up: bool) -> None:
    """Check that every leaf is a device of a participant.

    Raises:
        MissingAccounts: chains must be fetched first.
        CredentialError: one is not, by a chain that is as new as can be had.
    """
    missing: set[AccountId] = set()
    for member in members:
        uri = uri_of(member.leaf_node)
        account, _ = device_of(member.leaf_node)
        try:
            validate_credential(
                uri,
                member.leaf_node.signature_key,
                domain=policy.domain,
                known=accounts.known.get(account),
                participants=policy.present(),
                catching_up=catching_up,
            )
        except CredentialError:
            if account in accounts.fresh:
                raise
            missing.add(account)
    if missing:
        raise MissingAccounts(frozenset(missing))


def pending_change(after: Room, epoch: int, pending: PendingCommit, *, external: bool = False) -> PendingChange:
    """Return a built commit with the room that it leads to from `epoch`."""
    return PendingChange(
        after, epoch, pending.commit, pending.welcome, pending.group_info, pending.ratchet_tree, external
    )


# ---------------------------------------------------------------------------------------- beginning and joining


def lifetime(now_s: int, length_s: int = KEY_PACKAGE_LIFETIME_S) -> Lifetime:
    """Return the lifetime of a leaf or key package made now; it begins an hour ago, for clocks that are behind."""
    return Lifetime(now_s - CLOCK_SLACK_S, now_s + length_s)


def create_room(
    identity: Identity, room: RoomId, *, direct: bool, franking_key: bytes, now_s: int, random: Random
) -> Room:
    """Return a room of one: this device alone, its account the owner."""
    policy = RoomPolicy(identity.domain, direct, {identity.account: Role.OWNER}, franking_key)
    group = create_group(
        cipher_suite(SUITE_ID),
        group_id(room),
        identity.credential,
        identity.device_private_key,
        lifetime=lifetime(now_s),
        capabilities=CAPABILITIES,
        extensions=(REQUIRED, policy.extension()),
        random=random,
    )
    return Room(room, group, policy, seq=0, leaf_at_ms=now_s * 1000)


def join_room(
    identity: Identity,
    room: RoomId,
    seq: int,
    welcome: bytes,
    tree: bytes,
    bundle: KeyPackageBundle,
    *,
    franking_key: bytes,
    accounts: Accounts,
    now_s: int,
) -> Room:
    """Join by a Welcome, after checking every leaf of the room.

    seq: the entry that added this device.

    Raises:
        MissingAccounts: members' chains must be fetched first.
        MLSError, Problem: the Welcome, the tree, a leaf or the policy does not hold.
    """
    group = join(welcome, tree, bundle, identity.device_private_key, now_s=now_s)
    joined = _judged(identity, room, group, seq, franking_key, accounts)
    return replace(joined, leaf_at_ms=0 if bundle.key_package.is_last_resort else now_s * 1000)


def join_from_outside(
    identity: Identity,
    room: RoomId,
    group_info: bytes,
    tree: bytes,
    *,
    franking_key: bytes,
    accounts: Accounts,
    least_epoch: int,
    now_s: int,
    random: Random,
) -> PendingChange:
    """Build the external commit that brings this device in, in place of its own leaf if one is left.

    group_info: an MLSMessage. least_epoch: the newest epoch that this device has seen.

    Raises:
        MissingAccounts: members' chains must be fetched first.
        MLSError, Problem: the GroupInfo, the tree, a leaf or the policy does not hold, or the epoch lies behind.
    """
    own_uri = identity.uri
    members = RatchetTree.decode(tree).members()
    own_leaf = next((one.leaf_index for one in members if uri_of(one.leaf_node) == own_uri), None)
    pending = join_external(
        group_info,
        tree,
        identity.credential,
        identity.device_private_key,
        capabilities=CAPABILITIES,
        resync_leaf=own_leaf,
        random=random,
        now_s=now_s,
    )
    epoch = pending.group.epoch - 1
    if epoch < least_epoch:
        raise ValidationError("the server offers an older epoch of the room than this device has seen")
    after = replace(_judged(identity, room, pending.group, 0, franking_key, accounts), leaf_at_ms=now_s * 1000)
    return pending_change(after, epoch, pending, external=True)


def _judged(identity: Identity, room: RoomId, group: Group, seq: int, franking_key: bytes, accounts: Accounts) -> Room:
    """A newcomer's checks: this room, this server's franking key, and every leaf a device of a participant."""
    if group.group_id != group_id(room):
        raise ValidationError("the group is of another room")
    policy = RoomPolicy.from_extensions(group.group_context.extensions)
    if policy.domain != identity.domain or policy.franking_key != franking_key:
        raise ValidationError("the room's policy names another server or another franking key")
    validate_leaves(group.members(), policy, accounts, catching_up=True)
    return Room(room, group, policy, seq)


# ------------------------------------------------------------------------------------------------------ messages


def seal_message(room: Room, franked: Franked, *, random: Random) -> tuple[Room, bytes]:
    """Return the room with its ratchet advanced, and the sealed message. Save the room before sending."""
    # A message does not wait for a commit that may need somebody else: who leaves is out at the hub at once, and the
    # next commit must say so (ADR 14).
    group, ciphertext = room.group.seal(
        franked.application_data, authenticated_data=frank_aad(franked.tag), random=random, before_commit=True
    )
    return replace(room, group=group), ciphertext


def open_message(
    room: Room,
    seq: int,
    event: MessageEvent,
    *,
    arrived_at_ms: int | None,
) -> tuple[Room, Opened]:
    """Open a message of the room and check all that must hold before it is shown.

    arrived_at_ms: the local time for a message that came live, None for one from the backlog.
    """
    here = replace(room, seq=seq)
    try:
        group, received = room.group.receive(event.ciphertext, now_s=event.accepted_at_ms // 1000, policy=PROPOSALS)
    except MLSError as error:
        return here, NotShown(f"it could not be opened: {error}")
    if not isinstance(received, ReceivedApplication):
        return here, NotShown("it is not a message")
    here = replace(here, group=group)
    try:
        account, device = device_of(received.leaf_node)
        envelope = Envelope(event.accepted_at_ms, seq, event.epoch, encode_frank(event.frank))
        if received.epoch != event.epoch:
            raise VerificationError("it was sealed in another epoch than the server says")
        verified = verify_received(
            received.application_data,
            tag_in(received.authenticated_data),
            envelope,
            sender_uri=user_uri(room.policy.domain, account),
            room_uri=room.uri,
            after_room_seq=room.seq,
            verify_stamp=stamp_verifier(room.policy.franking_key),
            arrived_at_ms=arrived_at_ms,
        )
    except MLSError as error:
        return here, NotShown(str(error))
    return here, OpenedMessage(verified, received.application_data, envelope, account, device)


def verify_own(room: Room, seq: int, event: MessageEvent, application_data: bytes) -> Envelope:
    """Check the server's stamp on a message of this device's own, which it cannot decrypt.

    Raises:
        MLSError: the stamp is not on this message.
    """
    envelope = Envelope(event.accepted_at_ms, seq, event.epoch, encode_frank(event.frank))
    content = decode_application_data(application_data)
    verify_stamp = stamp_verifier(room.policy.franking_key)
    verify_stamp(franking_tag(content.salt, application_data), content.sender_uri, room.uri, envelope)
    return envelope
