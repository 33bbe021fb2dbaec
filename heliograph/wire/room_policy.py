"""Who may change a room, decided by one pure function that the hub and every client ask.

The policy stands in the GroupContext, where all members and the hub see it, in the extension
`app_data_dictionary` (0x0006 of draft-ietf-mls-extensions §4.6): a map from component ids to data.

```
0x0002 safe_aad            which Safe-AAD items each application message carries: frank_aad
0x0021 franking_agent      the hub's Ed25519 key, which franks are checked against
0x0022 participant_list    each participant's user URI and role
```

Roles are the fixed templates of draft-ietf-mimi-room-policy: 0 none, 1 banned, 2 member, 3 admin, 4 owner.
A room's name, topic and picture are not here: the hub would read them. Nothing else stands in the GroupContext but
required_capabilities, so that nobody can put there what no member would look at.

Who begins to take part comes with a device in the same commit: a key package is given only with consent, so nobody is
listed in a room that they know nothing of. Who leaves proposes to remove its own account's devices; from then on every
commit by a member takes them out, and any member may do it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from heliograph.mls.codec import Reader, Struct, Writer
from heliograph.mls.errors import MLSError
from heliograph.mls.extension import Extension, RequiredCapabilities, find
from heliograph.mls.proposal import ProposalType
from heliograph.mls.proposal_rules import ProposalPolicy
from heliograph.wire.ids import AccountId, parse_device_uri, parse_user_uri, user_uri
from heliograph.wire.problems import Problem

APP_DATA_DICTIONARY: Final = 0x0006
SAFE_AAD: Final = 0x0002
FRANK_AAD: Final = 0x0020
FRANKING_AGENT: Final = 0x0021
PARTICIPANT_LIST: Final = 0x0022
ROOM_KIND: Final = 0x8001
_COMPONENTS: Final = frozenset({SAFE_AAD, FRANKING_AGENT, PARTICIPANT_LIST, ROOM_KIND})
REQUIRED: Final = RequiredCapabilities(extension_types=(APP_DATA_DICTIONARY,)).to_extension()
"""The one other extension of the GroupContext: what every member must understand."""

PROPOSALS: Final = ProposalPolicy(
    member=frozenset(
        {
            ProposalType.ADD,
            ProposalType.UPDATE,
            ProposalType.REMOVE,
            ProposalType.EXTERNAL_INIT,
            ProposalType.GROUP_CONTEXT_EXTENSIONS,
        }
    ),
    external=frozenset({ProposalType.REMOVE}),
    new_member=frozenset(),
    commit_proposals_max=512,
)
"""What may be proposed in a room. No pre-shared keys: a commit with one that some lack would split the room; and no
ReInit: a room is not closed by one of its members."""

FRANKING_KEY_BYTES: Final = 32
MAX_PARTICIPANTS: Final = 500
MAX_LEAVES: Final = 1000
MAX_ADDED_DEVICES: Final = 128


class Role(IntEnum):
    """A participant's role in a room."""

    NONE = 0
    BANNED = 1
    MEMBER = 2
    ADMIN = 3
    OWNER = 4


@dataclass(frozen=True, slots=True)
class _Component(Struct):
    component_id: int
    data: bytes

    def write(self, writer: Writer) -> None:
        writer.uint16(self.component_id)
        writer.opaque(self.data)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.uint16(), reader.opaque())


@dataclass(frozen=True, slots=True)
class _Participant(Struct):
    user: bytes
    role: int

    def write(self, writer: Writer) -> None:
        writer.opaque(self.user)
        writer.uint32(self.role)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.opaque(), reader.uint32())


@dataclass(frozen=True, slots=True)
class RoomPolicy:
    """The policy of one epoch: direct or group, who takes part in which role, and the hub's franking key."""

    domain: str
    direct: bool
    participants: Mapping[AccountId, Role]
    franking_key: bytes

    def role(self, account: AccountId) -> Role:
        """Return the role of `account`; who is not listed has none."""
        return self.participants.get(account, Role.NONE)

    def present(self) -> frozenset[AccountId]:
        """Return the accounts whose devices may stand in the group."""
        return frozenset(account for account, role in self.participants.items() if role >= Role.MEMBER)

    def extension(self) -> Extension:
        """Return the policy as the GroupContext extension."""
        listed = Writer()
        listed.vector(
            _Participant(user_uri(self.domain, account).encode(), role)
            for account, role in sorted(self.participants.items())
        )
        aad = Writer()
        aad.uint16_vector([FRANK_AAD])
        components = (
            _Component(SAFE_AAD, aad.getvalue()),
            _Component(FRANKING_AGENT, self.franking_key),
            _Component(PARTICIPANT_LIST, listed.getvalue()),
            _Component(ROOM_KIND, b"\x01" if self.direct else b"\x02"),
        )
        writer = Writer()
        writer.vector(components)
        return Extension(APP_DATA_DICTIONARY, writer.getvalue())

    @classmethod
    def from_extensions(cls, extensions: Sequence[Extension]) -> Self:
        """Read the policy of a GroupContext.

        Raises:
            Problem: `invalid-proposal`, the policy is absent or cannot be read, or something else stands beside it.
        """
        dictionary = find(extensions, APP_DATA_DICTIONARY)
        if dictionary is None:
            raise _refusal("the group has no policy")
        if any(one != REQUIRED for one in extensions if one.extension_type != APP_DATA_DICTIONARY):
            raise _refusal("beside the policy the group context holds required_capabilities for it, and nothing else")
        try:
            return cls._decode(dictionary)
        except (MLSError, ValueError) as error:
            raise _refusal(f"the policy cannot be read: {error}") from None

    @classmethod
    def _decode(cls, data: bytes) -> Self:
        reader = Reader(data)
        components = reader.vector(_Component.read)
        reader.finish()
        ids = [component.component_id for component in components]
        if ids != sorted(set(ids)):
            raise ValueError("components must be sorted and stand once")
        found = {component.component_id: component.data for component in components}
        if other := _COMPONENTS ^ found.keys():
            raise ValueError(f"component {min(other):#06x} is missing or unknown")
        if found[SAFE_AAD] != b"\x02" + FRANK_AAD.to_bytes(2):
            raise ValueError("messages must carry frank_aad")
        if found[ROOM_KIND] not in (b"\x01", b"\x02"):
            raise ValueError("the kind of room is unknown")
        if len(found[FRANKING_AGENT]) != FRANKING_KEY_BYTES:
            raise ValueError("the franking key is no Ed25519 key")
        domain, participants = _read_participants(found[PARTICIPANT_LIST])
        return cls(domain, found[ROOM_KIND] == b"\x01", participants, found[FRANKING_AGENT])


def _read_participants(data: bytes) -> tuple[str, dict[AccountId, Role]]:
    reader = Reader(data)
    listed = reader.vector(_Participant.read)
    reader.finish()
    participants: dict[AccountId, Role] = {}
    domains: set[str] = set()
    for one in listed:
        domain, account = parse_user_uri(one.user.decode())
        if account in participants:
            raise ValueError("a participant stands twice")
        domains.add(domain)
        participants[account] = Role(one.role)
    if len(domains) != 1:
        raise ValueError("participants are of one server, and there is at least one")
    if len(participants) > MAX_PARTICIPANTS:
        raise ValueError(f"a room has at most {MAX_PARTICIPANTS} participants")
    return domains.pop(), participants


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit does, in the words of the policy.

    `committer` is the account that commits; `external` says that it does so from outside the group;
    `added` and `removed` are the device URIs of the leaves that come and go; `present` are the device URIs of
    all leaves after the commit. `dropped` are those that their account no longer lists; `leaving` those that their
    own account has proposed to remove in this epoch.
    """

    committer: AccountId
    external: bool
    added: tuple[str, ...]
    removed: tuple[str, ...]
    present: tuple[str, ...]
    dropped: frozenset[str] = frozenset()
    leaving: frozenset[str] = frozenset()


def check_change(before: RoomPolicy, after: RoomPolicy, change: Change) -> None:
    """Check that a commit is allowed by the policy before it and leads to a sound one.

    Raises:
        Problem: `not-allowed`, the committer's role does not permit it; `invalid-proposal`, leaves and
            participants do not fit together.
    """
    check_roles(before, after, change.committer)
    _check_leaves(after, change)
    if change.external:
        _check_external(before, after, change)
    else:
        _check_newcomers(before, after, change)
        _check_removals(before, after, change)


def check_roles(before: RoomPolicy, after: RoomPolicy, account: AccountId) -> None:
    """Check that `account` may bring the policy from `before` to `after`, whichever devices come and go with it.

    Raises:
        Problem: `not-allowed`, `invalid-proposal`.
    """
    _check_fixed_parts(before, after)
    _check_participants(before, after, account)


def _check_fixed_parts(before: RoomPolicy, after: RoomPolicy) -> None:
    if (before.domain, before.direct, before.franking_key) != (
        after.domain,
        after.direct,
        after.franking_key,
    ):
        raise _refusal("server, kind of room and franking key stay as they are")
    if before.direct and len(before.participants) == 2 and before.participants != after.participants:
        raise Problem("not-allowed", "a direct room keeps its two people")
    if after.direct and len(after.participants) > 2:
        raise Problem("not-allowed", "a direct room has two people")


def _check_participants(before: RoomPolicy, after: RoomPolicy, committer: AccountId) -> None:
    own = before.role(committer)
    if own < Role.MEMBER:
        raise Problem("not-allowed", "only participants may commit")
    for account in before.participants.keys() | after.participants.keys():
        old, new = before.role(account), after.role(account)
        if old == new:
            continue
        leaves_alone = account == committer and new in (Role.NONE, Role.MEMBER) and new < old
        if leaves_alone:
            continue
        if own < Role.ADMIN:
            raise Problem("not-allowed", "only admins and owners may change who takes part")
        if max(old, new) >= own and own is not Role.OWNER:
            raise Problem("not-allowed", "an admin may change only those below")
    if before.direct is False and Role.OWNER not in after.participants.values():
        raise Problem("not-allowed", "a room keeps at least one owner")


def _check_leaves(after: RoomPolicy, change: Change) -> None:
    if len(change.added) > MAX_ADDED_DEVICES or len(change.present) > MAX_LEAVES:
        raise _refusal(f"at most {MAX_ADDED_DEVICES} devices join at once, and {MAX_LEAVES} in all")
    if len(set(change.present)) != len(change.present):
        raise _refusal("a device stands in a room once")
    allowed = after.present()
    for uri in change.present:
        if _account_of(after.domain, uri) not in allowed:
            raise _refusal("a device of an account that takes no part cannot stand in the group")


def _check_newcomers(before: RoomPolicy, after: RoomPolicy, change: Change) -> None:
    brought = {_account_of(after.domain, uri) for uri in change.added}
    if not after.present() - before.present() <= brought:
        raise _refusal("who begins to take part comes with a device: add one of a claimed key package in this commit")


def _check_removals(before: RoomPolicy, after: RoomPolicy, change: Change) -> None:
    if not change.leaving <= set(change.removed):
        raise _refusal("a device has proposed to leave: commit the pending leave")
    if before.role(change.committer) >= Role.ADMIN:
        return
    for uri in change.removed:
        account = _account_of(after.domain, uri)
        stays = account in after.present() and uri not in change.dropped and uri not in change.leaving
        if stays and account != change.committer:
            raise Problem("not-allowed", "only admins and owners may remove the devices of others")


def _check_external(before: RoomPolicy, after: RoomPolicy, change: Change) -> None:
    if before.participants != after.participants:
        raise Problem("not-allowed", "who joins from outside changes nobody's role")
    if any(uri not in change.added for uri in change.removed):
        raise Problem("not-allowed", "who joins from outside replaces only the same device")
    if any(_account_of(after.domain, uri) != change.committer for uri in change.added):
        raise Problem("not-allowed", "who joins from outside adds only itself")


def _account_of(domain: str, uri: str) -> AccountId:
    try:
        uri_domain, account, _ = parse_device_uri(uri)
    except ValueError:
        raise _refusal("a leaf's credential is not a device URI") from None
    if uri_domain != domain:
        raise _refusal("a leaf's credential names another server")
    return account


def _refusal(detail: str) -> Problem:
    return Problem("invalid-proposal", detail)
