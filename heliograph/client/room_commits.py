"""How a room moves from one epoch to the next: judging the commits of others, and building one's own. Pure.

Whoever commits, every member asks the same questions: is each new leaf the device that it says it is, and does the
policy before the commit let its committer do this? `build_commit` asks them of itself first.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from heliograph.client.identity import (
    CredentialError,
    KnownAccount,
    departed,
    validate_credential,
    validate_successor,
)
from heliograph.client.room import (
    SUITE_ID,
    Accounts,
    MissingAccounts,
    PendingChange,
    Room,
    device_of,
    pending_change,
    uri_of,
    validate_leaves,
)
from heliograph.mls.errors import MLSError, ValidationError
from heliograph.mls.extension import Extension
from heliograph.mls.framing import MLSMessage, PublicMessage
from heliograph.mls.group import Group, ReceivedCommit
from heliograph.mls.key_package import KeyPackage
from heliograph.mls.proposal import Add, GroupContextExtensions, Proposal, Remove
from heliograph.mls.proposal_rules import ReceivedProposal
from heliograph.mls.suite import Random, cipher_suite
from heliograph.mls.tree_math import LeafIndex
from heliograph.wire.events import CommitEvent, ProposalEvent
from heliograph.wire.ids import AccountId, DeviceId
from heliograph.wire.room_policy import APP_DATA_DICTIONARY, PROPOSALS, Change, Role, RoomPolicy, check_change


@dataclass(frozen=True, slots=True)
class SeenCommit:
    """What a commit did: by whom, which accounts and devices came and went, and whether this device is out."""

    by: AccountId
    by_device: DeviceId
    external: bool
    joined: tuple[AccountId, ...]
    left: tuple[AccountId, ...]
    added: tuple[tuple[AccountId, DeviceId], ...]
    removed: tuple[tuple[AccountId, DeviceId], ...]
    removed_self: bool


def receive_proposal(room: Room, seq: int, event: ProposalEvent) -> tuple[Room, ReceivedProposal]:
    """Keep a proposal for the next commit.

    Raises:
        MLSError: it does not hold, or is no proposal.
    """
    group, received = room.group.receive(event.proposal, now_s=event.accepted_at_ms // 1000, policy=PROPOSALS)
    if not isinstance(received, ReceivedProposal):
        raise ValidationError("the server calls something a proposal that is none")
    return replace(room, group=group, seq=seq), received


def receive_commit(
    room: Room, seq: int, event: CommitEvent, *, accounts: Accounts, catching_up: bool
) -> tuple[Room, SeenCommit]:
    """Move to the next epoch by another device's commit, if everyone in it is who they say and may do this.

    Raises:
        MissingAccounts: chains must be fetched first.
        MLSError, Problem: the commit does not hold; the room stays as it was.
    """
    group, received = room.group.receive(event.commit, now_s=event.accepted_at_ms // 1000, policy=PROPOSALS)
    if not isinstance(received, ReceivedCommit):
        raise ValidationError("the server calls something a commit that is none")
    return _judge_commit(room, seq, group, received, accounts, catching_up)


def _judge_commit(
    room: Room, seq: int, group: Group, received: ReceivedCommit, accounts: Accounts, catching_up: bool
) -> tuple[Room, SeenCommit]:
    added = tuple(device_of(member.leaf_node) for member in received.added)
    removed = tuple(device_of(member.leaf_node) for member in received.removed)
    committer = (group if received.external else room.group).tree.leaf(received.committer)
    if committer is None:
        raise ValidationError("the committer has no leaf")
    by, by_device = device_of(committer)
    if received.removed_self:
        seen = SeenCommit(by, by_device, received.external, (), (), added, removed, removed_self=True)
        return replace(room, group=group, seq=seq, standing="left"), seen
    for member in received.updated:
        before_leaf = room.group.tree.leaf(member.leaf_index)
        if before_leaf is not None:
            validate_successor(before_leaf.credential, member.leaf_node.credential)
    before, after = room.policy, RoomPolicy.from_extensions(group.group_context.extensions)
    validate_leaves((*received.added, *received.updated), after, accounts, catching_up=catching_up)
    leaving = leaving_uris(room)
    here = replace(room, group=group, policy=after, seq=seq)
    check_change(
        before,
        after,
        Change(
            committer=by,
            external=received.external,
            added=tuple(uri_of(member.leaf_node) for member in received.added),
            removed=tuple(uri_of(member.leaf_node) for member in received.removed),
            present=here.uris(),
            dropped=frozenset() if received.external else _dropped(received, by, before, after, leaving, accounts),
            leaving=leaving,
        ),
    )
    return here, SeenCommit(
        by=by,
        by_device=by_device,
        external=received.external,
        joined=tuple(sorted(after.present() - before.present())),
        left=tuple(sorted(before.present() - after.present())),
        added=tuple(one for one in added if one not in removed),
        removed=tuple(one for one in removed if one not in added),
        removed_self=False,
    )


def _dropped(
    received: ReceivedCommit,
    by: AccountId,
    before: RoomPolicy,
    after: RoomPolicy,
    leaving: Collection[str],
    accounts: Accounts,
) -> frozenset[str]:
    """Return which of the removed devices stand in their account's state no more.

    Raises:
        MissingAccounts: a newer state may tell that one does not, and the commit would be refused otherwise.
    """
    removed = {uri_of(member.leaf_node): device_of(member.leaf_node)[0] for member in received.removed}
    gone = frozenset(departed(removed, accounts.known.values()))
    if before.role(by) < Role.ADMIN:
        unsettled = {account for uri, account in removed.items() if uri not in gone and uri not in leaving}
        unsettled = (unsettled & after.present()) - accounts.fresh - {by}
        if unsettled:
            raise MissingAccounts(frozenset(unsettled))
    return gone


def check_key_package(
    key_package: KeyPackage, account: AccountId, device: DeviceId, policy: RoomPolicy, accounts: Accounts, now_s: int
) -> None:
    """Check a claimed key package before its device is added.

    Raises:
        MLSError: it is not valid, or not of this device.
    """
    key_package.validate(cipher_suite(SUITE_ID), now_s)
    if device_of(key_package.leaf_node) != (account, device):
        raise CredentialError("the key package is of another device than the server says")
    validate_credential(
        uri_of(key_package.leaf_node),
        key_package.leaf_node.signature_key,
        domain=policy.domain,
        known=accounts.known.get(account),
        participants={account},
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a commit should change: key packages by device, accounts to list or unlist, leaves to take out."""

    add: Sequence[KeyPackage] = ()
    join: Collection[AccountId] = ()
    leave: Collection[AccountId] = ()
    remove_leaves: Collection[LeafIndex] = ()
    roles: Mapping[AccountId, Role] = field(default_factory=dict[AccountId, Role])


def build_commit(room: Room, wanted: Wanted, *, now_s: int, random: Random) -> PendingChange:
    """Build the commit that makes the wanted changes true, and lets go the devices that wait to leave.

    No other pending proposal is taken up: a commit lends what it takes up its own maker's role.

    Raises:
        Problem: the policy does not allow it.
        MLSError: it cannot be done.
    """
    policy = _policy_after(room, wanted)
    leaves_waiting = _leaves_waiting(room)
    pending_removals = set(leaves_waiting.values())
    leave_out = {one.reference for one in room.group.pending_proposals} - leaves_waiting.keys()
    leaves = {index for index, (account, _) in room.devices().items() if account in wanted.leave} | set(
        wanted.remove_leaves
    )
    proposals: list[Proposal] = [Remove(index) for index in sorted(leaves - pending_removals)]
    proposals += [Add(key_package) for key_package in wanted.add]
    if policy != room.policy:
        others = [one for one in room.group.group_context.extensions if one.extension_type != APP_DATA_DICTIONARY]
        extensions: tuple[Extension, ...] = (*others, policy.extension())
        proposals.append(GroupContextExtensions(extensions))
    pending = room.group.commit(proposals, random=random, now_s=now_s, leave_out=leave_out, policy=PROPOSALS)
    after = replace(room, group=pending.group, policy=policy, leaf_at_ms=now_s * 1000)
    gone, stale = leaves | pending_removals, set(wanted.remove_leaves)
    own = room.devices()
    check_change(
        room.policy,
        policy,
        Change(
            committer=own[room.group.own_leaf_index][0],
            external=False,
            added=tuple(uri_of(key_package.leaf_node) for key_package in wanted.add),
            removed=tuple(uri_of(one.leaf_node) for one in room.group.members() if one.leaf_index in gone),
            present=after.uris(),
            dropped=frozenset(uri_of(one.leaf_node) for one in room.group.members() if one.leaf_index in stale),
            leaving=leaving_uris(room),
        ),
    )
    return pending_change(after, room.group.epoch, pending)


def _policy_after(room: Room, wanted: Wanted) -> RoomPolicy:
    participants = {account: role for account, role in room.policy.participants.items() if account not in wanted.leave}
    for account in wanted.join:
        participants.setdefault(account, Role.OWNER if room.direct else Role.MEMBER)
    participants.update(wanted.roles)
    return replace(room.policy, participants=participants)


def propose_leaving(room: Room, account: AccountId, *, random: Random, now_s: int) -> tuple[Room, tuple[bytes, ...]]:
    """Propose to remove all leaves of this account; another member commits it."""
    messages: list[bytes] = []
    group = room.group
    for index, (owner, _) in sorted(room.devices().items()):
        if owner == account:
            group, message = group.propose(Remove(index), random=random, now_s=now_s, policy=PROPOSALS)
            messages.append(message)
    return replace(room, group=group), tuple(messages)


def stale_leaves(room: Room, known: Mapping[AccountId, KnownAccount]) -> tuple[LeafIndex, ...]:
    """Return the leaves whose device has left its account: nothing is sent while they stand."""
    gone = set(departed(room.uris(), known.values()))
    return tuple(one.leaf_index for one in room.group.members() if uri_of(one.leaf_node) in gone)


def leavers(room: Room) -> frozenset[AccountId]:
    """Return the accounts that have proposed to remove leaves of their own and wait for a commit."""
    devices = room.devices()
    found: set[AccountId] = set()
    for one in room.group.pending_proposals:
        if isinstance(one.proposal, Remove) and one.sender.leaf_index is not None:
            proposer = devices.get(LeafIndex(one.sender.leaf_index))
            target = devices.get(one.proposal.removed)
            if proposer is not None and target is not None and proposer[0] == target[0]:
                found.add(target[0])
    return frozenset(found)


def leaving_uris(room: Room) -> frozenset[str]:
    """Return the devices that the next commit must take out: their own account has proposed it in this epoch.

    What this device has proposed itself does not count: the server may not have taken it.
    """
    leaves = {member.leaf_index: member.leaf_node for member in room.group.members()}
    return frozenset(uri_of(leaves[index]) for index in _leaves_waiting(room).values())


def _leaves_waiting(room: Room) -> dict[bytes, LeafIndex]:
    """Return the leaves whose own account has proposed to remove them, by the proposal's reference."""
    leaves = {member.leaf_index: member.leaf_node for member in room.group.members()}
    found: dict[bytes, LeafIndex] = {}
    for one in room.group.pending_proposals:
        sender = one.sender.leaf_index
        if isinstance(one.proposal, Remove) and sender is not None and sender != room.group.own_leaf_index:
            target, proposer = leaves.get(one.proposal.removed), leaves.get(LeafIndex(sender))
            if target is not None and proposer is not None and device_of(target)[0] == device_of(proposer)[0]:
                found[one.reference] = one.proposal.removed
    return found


def spoilt_leave(room: Room, event: ProposalEvent) -> AccountId | None:
    """Return the account that has signed to take a device of its own out, in a proposal that does not hold otherwise.

    The server cannot check a membership tag. It may have taken such a proposal and ask every commit for the leave, so
    somebody who may remove people must do it by value, or the room would be stuck.
    """
    try:
        body = MLSMessage.decode(event.proposal).body
        if not isinstance(body, PublicMessage) or not isinstance(body.content.content, Remove):
            return None
        sender = body.content.sender.leaf_index
        leaf = None if sender is None else room.group.tree.leaf(sender)
        target = room.group.tree.leaf(body.content.content.removed)
        if leaf is None or target is None or device_of(leaf)[0] != device_of(target)[0]:
            return None
        body.authenticated_content().verify_signature(room.group.suite, leaf.signature_key, room.group.group_context)
    except MLSError:
        return None
    return device_of(leaf)[0]


def is_elected(
    room: Room,
    account: AccountId,
    except_for: Collection[AccountId],
    *,
    least: Role = Role.MEMBER,
    skip: Collection[tuple[AccountId, DeviceId]] = (),
) -> bool:
    """Tell whether this device is the one of all that should act: the lowest leaf whose account holds the role.

    All members come to the same answer, so that not everybody does the same thing at once.
    """
    for index, (owner, device) in sorted(room.devices().items()):
        if owner not in except_for and (owner, device) not in skip and room.policy.role(owner) >= least:
            return index == room.group.own_leaf_index and owner == account
    return False


def own_commit(before: Room, after: Room, account: AccountId, device: DeviceId) -> SeenCommit:
    """Return what a commit of this device's own did, from the room before and after it."""
    stood, stands = set(before.devices().values()), set(after.devices().values())
    return SeenCommit(
        by=account,
        by_device=device,
        external=False,
        joined=tuple(sorted(after.policy.present() - before.policy.present())),
        left=tuple(sorted(before.policy.present() - after.policy.present())),
        added=tuple(sorted(stands - stood)),
        removed=tuple(sorted(stood - stands)),
        removed_self=False,
    )
