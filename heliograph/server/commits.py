"""Commits and proposals: how a room's group moves from one epoch to the next, one commit an epoch.

```
submit_commit   1 the key: a retry finds its first answer
                2 the epoch: a loser is told which one the room is at
                3 in a thread: framing, signature, tree, policy, Welcome, GroupInfo -> _Plan
                4 one transaction: the epoch is compared and swapped; chain states, claims; the commit's entry, a
                  Welcome in the mailbox of each device that joins, who takes part, tree, GroupInfo, key
```

The hub checks all that can be checked without the group's secrets, and every client checks it again. Handshakes are
PublicMessages for that reason. Source: RFC 9420 §12.4, §16.3; RFC 9750 §5.2.1.

Who leaves cannot commit that itself: it proposes to remove its own account's devices. With that entry it is out (what
it reads ends there, and it sends and commits no more), and the next commit by a member takes its leaves away. A commit
from outside cannot include a proposal and ends the epoch all the same; then an admin removes the leaves, or the device
comes back by such a commit of its own.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from heliograph.mls.commit import Commit
from heliograph.mls.errors import MLSError
from heliograph.mls.extension import ExternalPub
from heliograph.mls.framing import MLSMessage, PublicMessage
from heliograph.mls.group_info import Welcome
from heliograph.mls.leaf_node import LeafNode
from heliograph.mls.proposal import Add, GroupContextExtensions, Remove, Update
from heliograph.mls.proposal_rules import ReceivedProposal, resolve
from heliograph.mls.public_group import PublicCommit, PublicGroup
from heliograph.mls.ratchet_tree import Member
from heliograph.mls.suite import cipher_suite
from heliograph.mls.tree_math import LeafIndex
from heliograph.server import credentials, key_packages, log, rooms, submissions
from heliograph.server.auth import Caller
from heliograph.server.context import Context
from heliograph.server.credentials import LeafDevice
from heliograph.server.db.database import Reader, Transaction
from heliograph.server.submissions import First
from heliograph.wire.events import CommitEvent, ProposalEvent, WelcomeEvent
from heliograph.wire.ids import RoomId, device_uri, mailbox_topic, room_topic
from heliograph.wire.problems import Problem
from heliograph.wire.room_policy import (
    MAX_ADDED_DEVICES,
    PROPOSALS,
    Change,
    Role,
    RoomPolicy,
    check_change,
    check_roles,
)
from heliograph.wire.rooms import RoomKind, SubmitCommit, SubmitProposal, Submitted

_REFUSAL = "invalid-proposal"
_ATTEMPTS = 8
# Beside the context a GroupInfo holds external_pub, a tag and a signature: what is longer is ballast for every joiner.
MAX_GROUP_INFO_REST_BYTES = 8192


class _Base(NamedTuple):
    """The room that a handshake was built on; `dropped` are the devices in it that their accounts list no more."""

    kind: RoomKind
    epoch: int
    revision: int
    public_group: bytes
    head_seq: int
    dropped: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Joiner:
    """A device that comes in: by a Welcome for the key package `reference`, or by itself from outside."""

    named: LeafDevice
    reference: bytes = b""
    welcome: bytes = b""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a commit that holds by itself would do; `leaves` are those whose keys the chains must confirm.

    It is built on the room as it was at `head_seq`.
    """

    head_seq: int
    external: bool
    group: PublicGroup
    saved_group: bytes
    before: RoomPolicy
    after: RoomPolicy
    leaves: tuple[LeafNode, ...]
    joiners: tuple[_Joiner, ...]
    removed: tuple[LeafDevice, ...]


async def submit_commit(context: Context, caller: Caller, request: SubmitCommit) -> Submitted:
    """Move a room to its next epoch."""
    hashed_key = submissions.key_hash(context.secrets.lookup_key, request.room, caller.device, request.key)
    digest = submissions.digest_of(request)
    domain = context.domain
    base = await context.database.read(lambda reader: _base(reader, domain, caller, request, hashed_key, digest))
    if isinstance(base, First):
        return Submitted(base.seq, base.accepted_at_ms)
    plan = await asyncio.to_thread(_plan, context, caller, request, base)

    def act(tx: Transaction) -> Submitted:
        first = submissions.find(tx, request.room, hashed_key, digest)
        if first is None:
            first = _accept(tx, context, caller, request, plan)
            submissions.remember(tx, request.room, hashed_key, digest, first)
        return Submitted(first.seq, first.accepted_at_ms)

    return await context.database.write(act)


async def submit_proposal(context: Context, caller: Caller, request: SubmitProposal) -> Submitted:
    """Put a proposal before a room, to be committed by reference in this epoch."""
    hashed_key = submissions.key_hash(context.secrets.lookup_key, request.room, caller.device, request.key)
    digest = submissions.digest_of(request)
    domain = context.domain
    for _ in range(_ATTEMPTS):
        base = await context.database.read(lambda reader: _base(reader, domain, caller, request, hashed_key, digest))
        if isinstance(base, First):
            return Submitted(base.seq, base.accepted_at_ms)
        group, received = await asyncio.to_thread(_receive_proposal, context, caller, request, base)
        checked = group.encode(), received, _left_by(domain, group, received), base.revision

        def act(
            tx: Transaction, checked: tuple[bytes, ReceivedProposal, LeafDevice | None, int] = checked
        ) -> First | None:
            first = submissions.find(tx, request.room, hashed_key, digest)
            if first is None:
                first = _accept_proposal(tx, context, caller, request, checked)
                if first is not None:
                    submissions.remember(tx, request.room, hashed_key, digest, first)
            return first

        first = await context.database.write(act)
        if first is not None:
            return Submitted(first.seq, first.accepted_at_ms)
    raise Problem("overloaded", "too many proposals came at once", retry_after_s=1)


def wrong_epoch(epoch: int) -> Problem:
    """Return the refusal of what was built on another epoch than the room's."""
    return Problem("wrong-epoch", f"the room is at epoch {epoch}: synchronise and build again", epoch=epoch)


def _base(
    reader: Reader,
    domain: str,
    caller: Caller,
    request: SubmitCommit | SubmitProposal,
    hashed_key: bytes,
    digest: bytes,
) -> _Base | First:
    first = submissions.find(reader, request.room, hashed_key, digest)
    if first is not None:
        return first
    rooms.require_participant(reader, caller.account, request.room)
    row = reader.one(
        "SELECT r.kind, r.epoch, r.revision, g.public_group, t.head FROM rooms r"
        " JOIN room_groups g ON g.room = r.room JOIN topics t ON t.topic = r.room WHERE r.room = ?",
        request.room,
    )
    if row is None:
        raise Problem("not-found", "there is no such room")
    base = _Base(*row)
    if base.epoch != request.epoch:
        raise wrong_epoch(base.epoch)
    return base._replace(dropped=_dropped(reader, domain, request.room))


def _dropped(reader: Reader, domain: str, room: RoomId) -> frozenset[str]:
    rows = reader.all(
        "SELECT m.account, m.device FROM room_devices m JOIN devices d ON d.device = m.device"
        " WHERE m.room = ? AND d.removed_at_ms IS NOT NULL",
        room,
    )
    return frozenset(device_uri(domain, account, device) for account, device in rows)


# ------------------------------------------------------------------------------- what needs no database: a thread


def _plan(context: Context, caller: Caller, request: SubmitCommit, base: _Base) -> _Plan:
    try:
        before = PublicGroup.decode(base.public_group)
        after, summary = before.receive_commit(request.commit, now_s=context.now_ms() // 1000, policy=PROPOSALS)
        # First, for it bounds the context, and the context bounds what is kept for each newcomer.
        policy_after = RoomPolicy.from_extensions(after.group_context.extensions)
        references = _added_references(before, request.commit)
        room_for_group_info = len(after.group_context.encode()) + MAX_GROUP_INFO_REST_BYTES
        if len(request.group_info) > room_for_group_info:
            raise Problem(_REFUSAL, "the GroupInfo is larger than it needs to be")
        group_info = after.check_group_info(request.group_info, committer=summary.committer)
        if ExternalPub.of(group_info.extensions) is None:
            raise Problem(_REFUSAL, "the GroupInfo has no external_pub")
        welcomes = _split_welcome(after, references, request.welcome)
    except MLSError as error:
        raise Problem(_REFUSAL, str(error)) from None
    if request.tree != after.tree.encode():
        raise Problem(_REFUSAL, "the tree is not the one that the commit leads to")
    committer = _committer(before, after, summary)
    if credentials.named_device(context.domain, committer, _REFUSAL) != (caller.account, caller.device):
        raise Problem("not-allowed", "a device commits for itself")
    policy_before = RoomPolicy.from_extensions(before.group_context.extensions)
    leaving = _leaving(context.domain, before)
    check_change(policy_before, policy_after, _change(caller, after, summary, base.dropped, leaving))
    return _Plan(
        head_seq=base.head_seq,
        external=summary.external,
        group=after,
        saved_group=after.encode(),
        before=policy_before,
        after=policy_after,
        leaves=(committer, *(member.leaf_node for member in (*summary.added, *summary.updated))),
        joiners=_joiners(context.domain, summary, references, welcomes),
        removed=_named(context.domain, summary.removed),
    )


def _leaving(domain: str, group: PublicGroup) -> frozenset[str]:
    """The URIs of the devices whose own account has proposed to take them out."""
    found = (_left_by(domain, group, one) for one in group.proposals.values())
    return frozenset(device_uri(domain, *named) for named in found if named is not None)


def _left_by(domain: str, group: PublicGroup, received: ReceivedProposal) -> LeafDevice | None:
    """Return the device that leaves by a proposal, if it is one to remove a device of its sender's own account."""
    proposal, sender_index = received.proposal, received.sender.leaf_index
    if not isinstance(proposal, Remove) or sender_index is None:
        return None
    leaf, sender = group.tree.leaf(proposal.removed), group.tree.leaf(LeafIndex(sender_index))
    if leaf is None or sender is None:
        return None
    named = credentials.named_device(domain, leaf, _REFUSAL)
    return named if named.account == credentials.named_device(domain, sender, _REFUSAL).account else None


def _committer(before: PublicGroup, after: PublicGroup, summary: PublicCommit) -> LeafNode:
    leaf = (after if summary.external else before).tree.leaf(summary.committer)
    if leaf is None:
        raise Problem(_REFUSAL, "the committer is a blank leaf")
    return leaf


def _added_references(before: PublicGroup, message: bytes) -> tuple[bytes, ...]:
    """The KeyPackageRefs of a commit's Adds, in the order of the leaves that they become."""
    body = MLSMessage.decode(message).body
    if not isinstance(body, PublicMessage) or not isinstance(body.content.content, Commit):
        raise Problem(_REFUSAL, "the message is not a commit")
    sent = resolve(body.content.content, before.proposals, body.content.sender)
    return tuple(one.proposal.key_package.reference(before.suite) for one in sent if isinstance(one.proposal, Add))


def _split_welcome(after: PublicGroup, references: Sequence[bytes], message: bytes | None) -> dict[bytes, bytes]:
    """Return each newcomer's Welcome by its KeyPackageRef: its own secrets, and the GroupInfo that all share."""
    if message is None:
        if references:
            raise Problem(_REFUSAL, "a commit that adds devices comes with their Welcome")
        return {}
    if not references:
        raise Problem(_REFUSAL, "a Welcome comes with a commit that adds nobody")
    welcome = MLSMessage.decode(message).body
    if not isinstance(welcome, Welcome):
        raise Problem(_REFUSAL, "welcome is not a Welcome")
    # Each newcomer gets a Welcome of its own, so what all of them hold must be small before it is multiplied.
    if len(references) > MAX_ADDED_DEVICES:
        raise Problem(_REFUSAL, f"a commit adds at most {MAX_ADDED_DEVICES} devices")
    if len(welcome.encrypted_group_info) > len(after.group_context.encode()) + MAX_GROUP_INFO_REST_BYTES:
        raise Problem(_REFUSAL, "the Welcome's GroupInfo is larger than it needs to be")
    if welcome.cipher_suite != after.group_context.cipher_suite:
        raise Problem(_REFUSAL, "the Welcome is of another cipher suite")
    if sorted(one.new_member for one in welcome.secrets) != sorted(references):
        raise Problem(_REFUSAL, "the Welcome is not for exactly the devices that the commit adds")
    return {
        one.new_member: MLSMessage(Welcome(welcome.cipher_suite, (one,), welcome.encrypted_group_info)).encode()
        for one in welcome.secrets
    }


def _change(
    caller: Caller, after: PublicGroup, summary: PublicCommit, dropped: frozenset[str], leaving: frozenset[str]
) -> Change:
    return Change(
        committer=caller.account,
        external=summary.external,
        added=_uris(summary.added),
        removed=_uris(summary.removed),
        present=_uris(after.members()),
        dropped=dropped,
        leaving=leaving,
    )


def _uris(members: Sequence[Member]) -> tuple[str, ...]:
    try:
        return tuple(credentials.leaf_uri(member.leaf_node) for member in members)
    except ValueError:
        raise Problem(_REFUSAL, "a leaf's credential is not a device URI") from None


def _named(domain: str, members: Sequence[Member]) -> tuple[LeafDevice, ...]:
    return tuple(credentials.named_device(domain, member.leaf_node, _REFUSAL) for member in members)


def _joiners(
    domain: str, summary: PublicCommit, references: Sequence[bytes], welcomes: dict[bytes, bytes]
) -> tuple[_Joiner, ...]:
    named = _named(domain, summary.added)
    if summary.external:
        return tuple(map(_Joiner, named))
    return tuple(_Joiner(one, reference, welcomes[reference]) for one, reference in zip(named, references, strict=True))


def _receive_proposal(
    context: Context, caller: Caller, request: SubmitProposal, base: _Base
) -> tuple[PublicGroup, ReceivedProposal]:
    try:
        before = PublicGroup.decode(base.public_group)
        after, received = before.receive_proposal(request.proposal, now_s=context.now_ms() // 1000, policy=PROPOSALS)
    except MLSError as error:
        raise Problem(_REFUSAL, str(error)) from None
    if received.reference in before.proposals:
        raise Problem(_REFUSAL, "this proposal was made before")
    leaf_index = received.sender.leaf_index
    sender = None if leaf_index is None else before.tree.leaf(leaf_index)
    if sender is None or credentials.named_device(context.domain, sender, _REFUSAL) != (caller.account, caller.device):
        raise Problem("not-allowed", "a device proposes for itself")
    leaver = _left_by(context.domain, before, received)
    if leaver is None and len(after.proposals) > context.limits.proposals_per_epoch:
        raise Problem("not-allowed", "the epoch has as many proposals as it may: commit them first")
    if leaver is not None and device_uri(context.domain, *leaver) in _leaving(context.domain, before):
        raise Problem(_REFUSAL, "this device is leaving already")
    _check_may_propose(context.domain, caller, before, received)
    return after, received


def _check_may_propose(domain: str, caller: Caller, group: PublicGroup, received: ReceivedProposal) -> None:
    """Hold the sender to its own role: whoever commits a proposal by reference lends it another."""
    policy, proposal = RoomPolicy.from_extensions(group.group_context.extensions), received.proposal
    if isinstance(proposal, GroupContextExtensions):
        check_roles(policy, RoomPolicy.from_extensions(proposal.extensions), caller.account)
        return
    if isinstance(proposal, Remove):
        leaf = group.tree.leaf(proposal.removed)
    elif isinstance(proposal, Add):
        leaf = proposal.key_package.leaf_node
    else:
        return
    own = leaf is not None and credentials.named_device(domain, leaf, _REFUSAL).account == caller.account
    if not own and policy.role(caller.account) < Role.ADMIN:
        raise Problem("not-allowed", "only admins and owners may propose about the devices of others")


# ---------------------------------------------------------------------------------------------- one transaction


def _accept(tx: Transaction, context: Context, caller: Caller, request: SubmitCommit, plan: _Plan) -> First:
    row = tx.one("SELECT kind, epoch, pair, tree_hash FROM rooms WHERE room = ?", request.room)
    if row is None:
        raise Problem("not-found", "there is no such room")
    kind, epoch, pair, old_tree_hash = row
    if epoch != request.epoch:
        raise wrong_epoch(epoch)
    for leaf in plan.leaves:
        credentials.require_leaf(tx, context.domain, leaf, _REFUSAL)
    _check_leavers(tx, caller, request, plan)
    _check_pair(plan, pair)
    now_ms = context.now_ms()
    # The first leaf is the committer's, which may have outlived its key package.
    _check_lifetimes(plan.leaves[1:], now_ms)
    tree_hash = plan.group.group_context.tree_hash
    seq = log.append(tx, room_topic(request.room), CommitEvent(request.epoch, request.commit, now_ms, tree_hash))
    _write_epoch(tx, request, plan, now_ms, old_tree_hash)
    rooms.write_participants(tx, request.room, plan.before, plan.after)
    _write_devices(tx, request, plan, seq)
    for joiner in plan.joiners:
        if joiner.reference:
            _welcome(tx, context, request, joiner, kind, (seq, now_ms, tree_hash))
    return First(seq, now_ms)


def _check_lifetimes(newcomers: Sequence[LeafNode], now_ms: int) -> None:
    """Refuse who expired since the plan was made: members judge newcomers by the time that goes out with the entry."""
    try:
        for leaf in newcomers:
            if leaf.lifetime is not None:
                leaf.lifetime.check_not_expired(now_ms // 1000)
    except MLSError as error:
        raise Problem(_REFUSAL, str(error)) from None


def _check_leavers(tx: Transaction, caller: Caller, request: SubmitCommit, plan: _Plan) -> None:
    """Refuse a member that has left, and a commit that was built before somebody left."""
    if plan.external:
        return
    rooms.require_participant_device(tx, caller.account, caller.device, request.room)
    if rooms.has_lost_a_device(tx, request.room, plan.head_seq):
        raise Problem(_REFUSAL, "a device has just proposed to leave: synchronise and commit the pending leave")


def _check_pair(plan: _Plan, pair: str | None) -> None:
    """A direct room is for the two people that it was made for, and only while it holds their place."""
    if plan.after.direct and len(plan.after.participants) > 1 and pair != " ".join(sorted(plan.after.participants)):
        raise Problem("not-allowed", "this direct room is for two others, or another has taken its place")


def _write_epoch(tx: Transaction, request: SubmitCommit, plan: _Plan, now_ms: int, old_tree_hash: bytes) -> None:
    oldest_epoch = request.epoch + 1 if plan.removed else request.epoch
    tree_hash = plan.group.group_context.tree_hash
    changed = tx.run(
        "UPDATE rooms SET epoch = ?, oldest_epoch = ?, revision = revision + 1, tree_hash = ?"
        " WHERE room = ? AND epoch = ?",
        request.epoch + 1,
        oldest_epoch,
        tree_hash,
        request.room,
        request.epoch,
    )
    if changed != 1:
        raise wrong_epoch(request.epoch + 1)
    tx.run(
        "UPDATE room_groups SET public_group = ?, group_info = ? WHERE room = ?",
        plan.saved_group,
        request.group_info,
        request.room,
    )
    tx.run(
        "UPDATE room_trees SET superseded_at_ms = ? WHERE room = ? AND tree_hash = ?",
        now_ms,
        request.room,
        old_tree_hash,
    )
    rooms.write_tree(tx, request.room, tree_hash, request.tree)


def _write_devices(tx: Transaction, request: SubmitCommit, plan: _Plan, seq: int) -> None:
    """Who is replaced by its own new leaf reads on from where it stood; who had left joins anew."""
    removed = set(plan.removed)
    joined = {joiner.named for joiner in plan.joiners}
    for named in removed - joined:
        rooms.write_left(tx, request.room, named.device, seq)
    for named in joined:
        if named not in removed or rooms.has_left(tx, request.room, named.device):
            rooms.write_joined(tx, request.room, named.account, named.device, seq)


def _welcome(
    tx: Transaction,
    context: Context,
    request: SubmitCommit,
    joiner: _Joiner,
    kind: RoomKind,
    entry: tuple[int, int, bytes],
) -> None:
    seq, now_ms, tree_hash = entry
    device, limits = joiner.named.device, context.limits
    last_resort = key_packages.use_claim(tx, joiner.reference)
    event = WelcomeEvent(request.room, kind, request.epoch + 1, seq, joiner.welcome, tree_hash, now_ms)
    mailbox_seq = log.append(tx, mailbox_topic(device), event)
    lives_s = limits.last_resort_welcome_lives_s if last_resort else limits.welcome_lives_s
    tx.run(
        "INSERT INTO welcomes (device, seq, room, tree_hash, expires_at_ms) VALUES (?, ?, ?, ?, ?)",
        device,
        mailbox_seq,
        request.room,
        tree_hash,
        now_ms + lives_s * 1000,
    )


def _accept_proposal(
    tx: Transaction,
    context: Context,
    caller: Caller,
    request: SubmitProposal,
    checked: tuple[bytes, ReceivedProposal, LeafDevice | None, int],
) -> First | None:
    """Return the entry, or None where another proposal came in between and the group must be read again."""
    saved, received, leaver, revision = checked
    row = tx.one("SELECT epoch, revision FROM rooms WHERE room = ?", request.room)
    if row is None:
        raise Problem("not-found", "there is no such room")
    if row[0] != request.epoch:
        raise wrong_epoch(row[0])
    if row[1] != revision:
        return None
    if leaver is None:
        rooms.require_participant_device(tx, caller.account, caller.device, request.room)
    _require_proposed_leaf(tx, context, caller, received)
    now_ms = context.now_ms()
    if isinstance(received.proposal, Add):
        _check_lifetimes([received.proposal.key_package.leaf_node], now_ms)
    tx.run("UPDATE rooms SET revision = revision + 1 WHERE room = ?", request.room)
    tx.run("UPDATE room_groups SET public_group = ? WHERE room = ?", saved, request.room)
    topic = room_topic(request.room)
    seq = log.append(tx, topic, ProposalEvent(request.epoch, request.proposal, now_ms))
    tx.touch(topic)  # a message of this batch may have an earlier seq and is written later; and a leaver reads no more
    if leaver is not None:
        rooms.write_left(tx, request.room, leaver.device, seq)
    return First(seq, now_ms)


def _require_proposed_leaf(tx: Transaction, context: Context, caller: Caller, received: ReceivedProposal) -> None:
    """Refuse a leaf now that a commit would be refused for later."""
    proposal = received.proposal
    if isinstance(proposal, Update):
        named = credentials.require_leaf(tx, context.domain, proposal.leaf_node, _REFUSAL)
        if named != (caller.account, caller.device):
            raise Problem(_REFUSAL, "an Update is for its sender's own device")
    elif isinstance(proposal, Add):
        credentials.require_leaf(tx, context.domain, proposal.key_package.leaf_node, _REFUSAL)
        suite = cipher_suite(proposal.key_package.cipher_suite)
        key_packages.require_claimed(tx, proposal.key_package.reference(suite))
