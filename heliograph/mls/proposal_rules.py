"""Which proposals a commit may put into effect together, and what they make of the tree (RFC 9420 §12.1 -
§12.3).

    Commit.proposals --resolve--> the proposals with their senders --apply--> Applied: the new tree and extensions

Members and servers run the same rules. `check_proposal` holds one proposal to the rules for its type, as soon
as it is received; `apply` does so for a whole list, adds the rules about the list and about the tree that it
leads to, and makes the changes in the order of §12.3. Nothing here needs a secret. The application's own
policy comes in as a `ProposalPolicy`; whether a credential is true is for the caller to judge from the
members that `Applied` names.

`now_s` is the time at which the message was accepted for the group, so that someone who catches up later
judges the lifetimes of key packages as everyone else did.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heliograph.mls.commit import Commit
from heliograph.mls.credential import CredentialType
from heliograph.mls.errors import DecodeError, StateError, UnsupportedError, ValidationError
from heliograph.mls.extension import Extension, ExternalSenders, RequiredCapabilities, check_unique
from heliograph.mls.framing import EXTERNAL_PROPOSAL_TYPES, Sender, SenderType
from heliograph.mls.group_context import GroupContext
from heliograph.mls.key_package import KeyPackage
from heliograph.mls.leaf_node import LeafNode, LeafNodeSource
from heliograph.mls.proposal import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKeyID,
    PreSharedKeyProposal,
    Proposal,
    ProposalType,
    PSKType,
    ReInit,
    Remove,
    ResumptionPSKUsage,
    UnknownProposal,
    Update,
)
from heliograph.mls.ratchet_tree import Member, RatchetTree
from heliograph.mls.suite import CipherSuite
from heliograph.mls.tree_math import LeafIndex

# Source: RFC 9420 §17.4.
_PATH_REQUIRED = Update | Remove | ExternalInit | GroupContextExtensions


@dataclass(frozen=True, slots=True)
class ProposalPolicy:
    """Which types of proposal the application permits to whom.

    By default all that RFC 9420 permits them. A type that is permitted here must still keep the protocol's rules.
    Source: RFC 9420 §12.1.8, §17.4.
    """

    member: frozenset[int] = frozenset(ProposalType)
    external: frozenset[int] = EXTERNAL_PROPOSAL_TYPES
    new_member: frozenset[int] = frozenset({ProposalType.ADD})
    # How many proposals one commit may cover, so that nobody is made to verify signatures without end.
    commit_proposals_max: int = 2048
    # The longest lifetime of a key package to add, in seconds; by default 31 days, and 91 for one of last resort.
    lifetime_limit_s: int | None = None

    def check(self, proposal: Proposal, sender: Sender) -> None:
        """Raise ValidationError, or UnsupportedError for an unknown type, unless the sender may propose this."""
        if sender.sender_type is SenderType.EXTERNAL:
            permitted = self.external
        elif sender.sender_type is SenderType.NEW_MEMBER_PROPOSAL:
            permitted = self.new_member
        else:
            permitted = self.member
        if proposal.proposal_type in permitted:
            return
        if isinstance(proposal, UnknownProposal):
            raise UnsupportedError(f"proposals of type 0x{proposal.proposal_type:04x} are not supported")
        raise ValidationError("this sender is not permitted to send this type of proposal")


DEFAULT_POLICY = ProposalPolicy()


@dataclass(frozen=True, slots=True)
class SentProposal:
    """A proposal and who sent it; a proposal by value in a commit is sent by the committer."""

    proposal: Proposal
    sender: Sender


@dataclass(frozen=True, slots=True)
class ReceivedProposal:
    """A proposal that was received and may be committed by its reference in this epoch."""

    reference: bytes
    proposal: Proposal
    sender: Sender

    def sent(self) -> SentProposal:
        """Return the proposal with its sender."""
        return SentProposal(self.proposal, self.sender)


@dataclass(frozen=True, slots=True)
class Applied:
    """What a list of proposals leads to.

    tree: with updates, removals and additions made, and no path yet; added, updated: as they stand in it; removed: as
    they stood before; newcomers: the key package of each one added. An external commit's joiner is not yet in it.
    """

    tree: RatchetTree
    extensions: tuple[Extension, ...]
    added: tuple[Member, ...] = ()
    updated: tuple[Member, ...] = ()
    removed: tuple[Member, ...] = ()
    newcomers: tuple[tuple[LeafIndex, KeyPackage], ...] = ()
    external_init: ExternalInit | None = None
    psks: tuple[PreSharedKeyID, ...] = ()
    reinit: ReInit | None = None
    path_required: bool = False


def resolve(commit: Commit, received: Mapping[bytes, ReceivedProposal], sender: Sender) -> tuple[SentProposal, ...]:
    """Return a commit's proposals with their senders, in order.

    Raises StateError when a reference is not to a proposal received in this epoch, ValidationError when an external
    commit or a repeated name refers to one. Source: RFC 9420 §12.4, §12.4.3.2.
    """
    proposals: list[SentProposal] = []
    seen: set[bytes] = set()
    for entry in commit.proposals:
        if entry.proposal is not None:
            proposals.append(SentProposal(entry.proposal, sender))
            continue
        reference = entry.reference or b""
        if sender.sender_type is SenderType.NEW_MEMBER_COMMIT:
            raise ValidationError("an external commit may not include proposals by reference")
        if reference in seen:
            raise ValidationError("a commit includes the same proposal twice")
        if reference not in received:
            raise StateError("a commit includes a proposal that was not received")
        seen.add(reference)
        proposals.append(received[reference].sent())
    return tuple(proposals)


def apply(
    suite: CipherSuite,
    group_context: GroupContext,
    tree: RatchetTree,
    proposals: Sequence[SentProposal],
    *,
    committer: LeafIndex | None,
    now_s: int,
    policy: ProposalPolicy = DEFAULT_POLICY,
) -> Applied:
    """Return what a commit's proposals lead to, or raise when the list is invalid.

    committer: the leaf of the committer, or None for an external commit. Raises ValidationError, VerificationError or
    UnsupportedError. Source: RFC 9420 §12.2, §12.3.
    """
    _check_whole_list(tree, proposals, committer, policy)
    for sent in proposals:
        check_proposal(suite, group_context, tree, sent, now_s=now_s, policy=policy)
    return _make_changes(group_context, tree, proposals)


def combine(
    group_context: GroupContext,
    tree: RatchetTree,
    proposals: Sequence[SentProposal],
    *,
    committer: LeafIndex,
    policy: ProposalPolicy = DEFAULT_POLICY,
) -> Applied:
    """Return what `apply` returns for a member's proposals of which each alone has passed `check_proposal` already.

    Raises ValidationError when they do not go together. No signature is verified. Source: RFC 9420 §12.2, §12.3.
    """
    _check_whole_list(tree, proposals, committer, policy)
    return _make_changes(group_context, tree, proposals)


def _check_whole_list(
    tree: RatchetTree, proposals: Sequence[SentProposal], committer: LeafIndex | None, policy: ProposalPolicy
) -> None:
    if len(proposals) > policy.commit_proposals_max:
        raise ValidationError("a commit covers more proposals than it may")
    if committer is None:
        _check_external_list([sent.proposal for sent in proposals])
    else:
        _check_list(tree, proposals, committer)


def _make_changes(group_context: GroupContext, tree: RatchetTree, proposals: Sequence[SentProposal]) -> Applied:
    listed = [sent.proposal for sent in proposals]
    updated = _updates(proposals)
    removed = [proposal.removed for proposal in listed if isinstance(proposal, Remove)]
    packages = [proposal.key_package for proposal in listed if isinstance(proposal, Add)]
    contexts = [proposal.extensions for proposal in listed if isinstance(proposal, GroupContextExtensions)]
    extensions = contexts[0] if contexts else group_context.extensions
    new_leaves = [package.leaf_node for package in packages]
    after, places = tree.apply(updated=updated, removed=removed, added=new_leaves)
    if updated or packages:
        after.check_unique_keys()
    if updated or packages or contexts:
        after.check_capabilities(extensions)
    return Applied(
        tree=after,
        extensions=extensions,
        added=tuple(map(Member, places, new_leaves)),
        updated=tuple(Member(index, leaf) for index, leaf in updated.items()),
        removed=tuple(Member(index, _member_leaf(tree, index)) for index in removed),
        newcomers=tuple(zip(places, packages, strict=True)),
        external_init=next((proposal for proposal in listed if isinstance(proposal, ExternalInit)), None),
        psks=tuple(proposal.psk for proposal in listed if isinstance(proposal, PreSharedKeyProposal)),
        reinit=next((proposal for proposal in listed if isinstance(proposal, ReInit)), None),
        path_required=not proposals or any(isinstance(proposal, _PATH_REQUIRED) for proposal in listed),
    )


def check_proposal(
    suite: CipherSuite,
    group_context: GroupContext,
    tree: RatchetTree,
    sent: SentProposal,
    *,
    now_s: int,
    policy: ProposalPolicy = DEFAULT_POLICY,
) -> None:
    """Raise ValidationError or VerificationError when a proposal breaks a rule for its type, or the policy.

    tree: of the epoch in which it is sent. Raises UnsupportedError for a type that cannot be applied here.
    Source: RFC 9420 §12.1.
    """
    proposal = sent.proposal
    policy.check(proposal, sent.sender)
    if isinstance(proposal, Add):
        proposal.key_package.validate(suite, now_s, lifetime_limit_s=policy.lifetime_limit_s)
    elif isinstance(proposal, Update):
        _check_update(suite, group_context, tree, sent.sender, proposal.leaf_node)
    elif isinstance(proposal, Remove):
        if tree.leaf(proposal.removed) is None:
            raise ValidationError("a Remove names a blank leaf")
    elif isinstance(proposal, PreSharedKeyProposal):
        _check_psk(suite, proposal.psk)
    elif isinstance(proposal, ExternalInit):
        if sent.sender.sender_type is not SenderType.NEW_MEMBER_COMMIT:
            raise ValidationError("an ExternalInit stands outside an external commit")
        _check_kem_output(suite, proposal)
    elif isinstance(proposal, ReInit):
        if proposal.version < group_context.version:
            raise ValidationError("a ReInit goes back to an older version of the protocol")
        check_context_extensions(proposal.extensions)
    elif isinstance(proposal, GroupContextExtensions):
        check_context_extensions(proposal.extensions)
    else:
        raise UnsupportedError(f"proposals of type 0x{proposal.proposal_type:04x} are not supported")


def check_resync(removed: LeafNode, joiner: LeafNode) -> None:
    """Raise ValidationError unless an external commit's joiner may take the place of the leaf that it removes.

    The joiner must present the same basic credential, or another one of the same type, with a new encryption key; the
    application judges certificates. Source: RFC 9420 §12.2.
    """
    if joiner.encryption_key == removed.encryption_key:
        raise ValidationError("a resync keeps the encryption_key that it should replace")
    before, after = removed.credential, joiner.credential
    is_basic = before.credential_type == CredentialType.BASIC
    if before.credential_type != after.credential_type or (is_basic and before != after):
        raise ValidationError("a resync removes a leaf of another client")


def _check_update(
    suite: CipherSuite, group_context: GroupContext, tree: RatchetTree, sender: Sender, leaf_node: LeafNode
) -> None:
    leaf_index = _member_index(sender)
    leaf_node.check_source(LeafNodeSource.UPDATE)
    leaf_node.validate(suite)
    if leaf_node.encryption_key == _member_leaf(tree, leaf_index).encryption_key:
        raise ValidationError("an Update keeps the encryption_key that it should replace")
    leaf_node.verify_signature(suite, group_context.group_id, leaf_index)


def check_context_extensions(extensions: Sequence[Extension]) -> None:
    """Raise ValidationError or DecodeError for extensions that no group context may have, whoever its members are.

    External senders are held to their certificates' keys as members are. Source: RFC 9420 §5.3, §12.1.7, §13.4.
    """
    check_unique(extensions)
    RequiredCapabilities.of(extensions)
    external_senders = ExternalSenders.of(extensions)
    for sender in external_senders.senders if external_senders else ():
        sender.credential.check_key(sender.signature_key)


def _check_kem_output(suite: CipherSuite, proposal: ExternalInit) -> None:
    try:
        suite.validate_kem_output(proposal.kem_output)
    except DecodeError as error:
        raise ValidationError("the kem_output of an ExternalInit is none of the cipher suite") from error


def _check_psk(suite: CipherSuite, psk: PreSharedKeyID) -> None:
    if psk.psktype is PSKType.RESUMPTION and psk.usage is ResumptionPSKUsage.REINIT:
        raise ValidationError("a psk proposal uses a reinit key outside a reinitialization")
    if psk.psktype is PSKType.RESUMPTION and psk.usage is ResumptionPSKUsage.BRANCH:
        raise ValidationError("a psk proposal uses a branch key outside a branching")
    if len(psk.psk_nonce) != suite.hash_length:
        raise ValidationError("a psk_nonce has not the length of a hash")


def _check_list(tree: RatchetTree, proposals: Sequence[SentProposal], committer: LeafIndex) -> None:
    listed = [sent.proposal for sent in proposals]
    if any(isinstance(proposal, ExternalInit) for proposal in listed):
        raise ValidationError("a commit by a member contains an ExternalInit")
    if len(listed) > 1 and any(isinstance(proposal, ReInit) for proposal in listed):
        raise ValidationError("a commit contains a ReInit together with other proposals")
    if sum(isinstance(proposal, GroupContextExtensions) for proposal in listed) > 1:
        raise ValidationError("a commit contains several GroupContextExtensions")
    _check_psks_differ(listed)
    _check_leaf_changes(proposals, committer)
    removed = {proposal.removed for proposal in listed if isinstance(proposal, Remove)}
    _check_additions(tree, [proposal for proposal in listed if isinstance(proposal, Add)], removed)
    unknown = {proposal.proposal_type for proposal in listed if isinstance(proposal, UnknownProposal)}
    if unknown:
        _check_understood(tree, unknown, removed)


def _check_psks_differ(listed: Sequence[Proposal]) -> None:
    psks = [proposal.psk for proposal in listed if isinstance(proposal, PreSharedKeyProposal)]
    if len(set(psks)) != len(psks):
        raise ValidationError("a commit contains the same PreSharedKeyID twice")


def _check_leaf_changes(proposals: Sequence[SentProposal], committer: LeafIndex) -> None:
    changed: set[LeafIndex] = set()
    for sent in proposals:
        if isinstance(sent.proposal, Update):
            leaf_index = _member_index(sent.sender)
            if leaf_index == committer:
                raise ValidationError("a commit contains an Update by the committer")
        elif isinstance(sent.proposal, Remove):
            leaf_index = sent.proposal.removed
            if leaf_index == committer:
                raise ValidationError("a commit removes the committer")
        else:
            continue
        if leaf_index in changed:
            raise ValidationError("a commit changes or removes the same leaf twice")
        changed.add(leaf_index)


def _check_additions(tree: RatchetTree, additions: Sequence[Add], removed: set[LeafIndex]) -> None:
    if not additions:
        return
    new = [proposal.key_package.leaf_node.signature_key for proposal in additions]
    if len(set(new)) != len(new):
        raise ValidationError("a commit adds the same client twice")
    gone = {leaf.signature_key for index in removed if (leaf := tree.leaf(index)) is not None}
    if any(tree.has_signature_key(key) and key not in gone for key in new):
        raise ValidationError("a commit adds a client that is already in the group")


def _check_understood(tree: RatchetTree, proposal_types: set[int], removed: set[LeafIndex]) -> None:
    for member in tree.members():
        capabilities = member.leaf_node.capabilities
        if member.leaf_index not in removed and not capabilities.supports_proposals(proposal_types):
            raise ValidationError("a commit contains a proposal of a type that a member does not support")


def _check_external_list(listed: Sequence[Proposal]) -> None:
    if sum(isinstance(proposal, ExternalInit) for proposal in listed) != 1:
        raise ValidationError("an external commit needs exactly one ExternalInit")
    if sum(isinstance(proposal, Remove) for proposal in listed) > 1:
        raise ValidationError("an external commit contains several Removes")
    if not all(isinstance(proposal, ExternalInit | Remove | PreSharedKeyProposal) for proposal in listed):
        raise ValidationError("an external commit contains a type of proposal that it may not")
    _check_psks_differ(listed)


def _updates(proposals: Sequence[SentProposal]) -> dict[LeafIndex, LeafNode]:
    return {
        _member_index(sent.sender): sent.proposal.leaf_node for sent in proposals if isinstance(sent.proposal, Update)
    }


def _member_index(sender: Sender) -> LeafIndex:
    if sender.leaf_index is None:
        raise ValidationError("an Update is not sent by a member")
    return sender.leaf_index


def _member_leaf(tree: RatchetTree, leaf_index: LeafIndex) -> LeafNode:
    leaf = tree.leaf(leaf_index)
    if leaf is None:
        raise ValidationError("a proposal is about a blank leaf")
    return leaf
