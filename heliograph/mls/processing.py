"""Following other members' messages: whose they are, and where a commit leads (RFC 9420 §6, §12.4.2).

`open_application` opens and verifies application data of this or a past epoch. For handshakes, `verify_handshake`
settles who sent a proposal or commit; `process_commit` then takes the commit through all checks of §12.4.2 and returns
the epoch that it begins. All raise and change nothing when anything is wrong. A commit counts only when its
confirmation tag, which no outsider and no one with another view of the group can make, has matched.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from heliograph.mls import key_schedule, private_message, proposal_rules, treekem
from heliograph.mls.commit import Commit
from heliograph.mls.committing import UpdateKeys
from heliograph.mls.epoch import Epoch, PastEpoch, Provisional, advance, provisional_context
from heliograph.mls.errors import StateError, ValidationError, VerificationError
from heliograph.mls.framing import AuthenticatedContent, PrivateMessage, SenderType
from heliograph.mls.handshake_rules import apply_path, signature_key_of
from heliograph.mls.key_schedule import KnownPsks
from heliograph.mls.leaf_node import LeafNode
from heliograph.mls.private_message import OpenedMessage
from heliograph.mls.proposal import ReInit
from heliograph.mls.proposal_rules import Applied, ProposalPolicy, ReceivedProposal
from heliograph.mls.ratchet_tree import Member
from heliograph.mls.secret_tree import SecretTree
from heliograph.mls.suite import Secret
from heliograph.mls.tree_math import LeafIndex, leaf_to_node
from heliograph.mls.treekem import PrivateKeys


@dataclass(frozen=True, slots=True)
class ReceivedApplication:
    """Application data that a member sent, with its leaf as it was in the epoch of the message."""

    sender: LeafIndex
    leaf_node: LeafNode
    epoch: int
    generation: int
    application_data: bytes = field(repr=False)
    authenticated_data: bytes


@dataclass(frozen=True, slots=True)
class ReceivedCommit:
    """A commit that was followed into the next epoch.

    added includes the joiner of an external commit; updated includes a committer that renewed its leaf. Both hold the
    leaves as they now stand, removed as they stood before. removed_self: this member is out, and reads nothing new; it
    has the committer's signature for that, but not the secrets to check the confirmation tag. reinit: the group ends
    here, and goes on in another with these parameters.
    """

    committer: LeafIndex
    external: bool
    added: tuple[Member, ...]
    removed: tuple[Member, ...]
    updated: tuple[Member, ...]
    removed_self: bool
    authenticated_data: bytes
    reinit: ReInit | None = None


@dataclass(frozen=True, slots=True)
class ProcessedCommit:
    """Where a verified commit leads; `epoch` is None if it removes this member."""

    epoch: Epoch | None
    encryption_secret: Secret = field(repr=False)
    applied: Applied
    committer: Member

    def received(self, message: AuthenticatedContent) -> ReceivedCommit:
        """Return what the caller is told of the commit in `message`."""
        commit = message.content.content
        external = message.content.sender.sender_type is SenderType.NEW_MEMBER_COMMIT
        added, updated = self.applied.added, self.applied.updated
        if external:
            added = (*added, self.committer)
        elif isinstance(commit, Commit) and commit.path is not None:
            updated = (*updated, self.committer)
        return ReceivedCommit(
            committer=self.committer.leaf_index,
            external=external,
            added=added,
            removed=self.applied.removed,
            updated=updated,
            removed_self=self.epoch is None,
            authenticated_data=message.content.authenticated_data,
            reinit=self.applied.reinit,
        )


def open_private(
    epoch: PastEpoch, secret_tree: SecretTree, message: PrivateMessage
) -> tuple[SecretTree, OpenedMessage]:
    """Return the tree without the key that was used, and the content of another member's message, not yet verified.

    Raises StateError for one's own message or a replay, VerificationError if it does not decrypt.
    Source: RFC 9420 §6.3.
    """
    sender_data = private_message.open_sender_data(epoch.suite, epoch.sender_data_secret, message)
    if sender_data.leaf_index == epoch.own_leaf_index:
        raise StateError("this is our own message: what it says is known here already")
    return private_message.open_content(epoch.suite, secret_tree, sender_data, message)


def open_application(
    epoch: PastEpoch, secret_tree: SecretTree, message: PrivateMessage
) -> tuple[SecretTree, ReceivedApplication]:
    """Return the tree without the key that was used, and application data whose sender is verified.

    epoch: that of the message. Raises what `open_private` raises, and VerificationError for a wrong signature.
    Source: RFC 9420 §6.1, §6.3.
    """
    secret_tree, opened = open_private(epoch, secret_tree, message)
    leaf = epoch.saved_tree.tree.leaf(opened.leaf_index)
    if leaf is None:
        raise ValidationError("sender is not a member")
    opened.authenticated_content.verify_signature(epoch.suite, leaf.signature_key, epoch.group_context)
    content = opened.authenticated_content.content
    if not isinstance(content.content, bytes):
        raise ValidationError("message does not hold application data")
    return secret_tree, ReceivedApplication(
        sender=opened.leaf_index,
        leaf_node=leaf,
        epoch=message.epoch,
        generation=opened.generation,
        application_data=content.content,
        authenticated_data=content.authenticated_data,
    )


def verify_handshake(epoch: Epoch, message: AuthenticatedContent) -> None:
    """Raise unless the one whom a proposal or commit names as its sender signed it and may send it.

    Raises ValidationError or VerificationError. Source: RFC 9420 §6.1, §12.1.8.
    """
    message.content.check_sender()
    signature_key = signature_key_of(message.content, epoch.tree, epoch.group_context)
    message.verify_signature(epoch.suite, signature_key, epoch.group_context)


def process_commit(
    epoch: Epoch,
    message: AuthenticatedContent,
    proposals: Mapping[bytes, ReceivedProposal],
    update_keys: Mapping[bytes, UpdateKeys],
    *,
    psks: KnownPsks,
    policy: ProposalPolicy,
    now_s: int,
) -> ProcessedCommit:
    """Return the epoch that a commit begins, whose sender has been verified.

    proposals: received in this epoch, by reference; update_keys: of this member's own Updates; psks: the
    pre-shared keys at hand. Raises ValidationError, VerificationError, StateError or UnsupportedError.
    Source: RFC 9420 §12.4.2.
    """
    suite, content = epoch.suite, message.content
    commit = content.content
    if not isinstance(commit, Commit):
        raise ValidationError("message is not a commit")
    applied = proposal_rules.apply(
        suite,
        epoch.group_context,
        epoch.tree,
        proposal_rules.resolve(commit, proposals, content.sender),
        committer=content.sender.leaf_index,
        now_s=now_s,
        policy=policy,
    )
    tree, committer = apply_path(suite, epoch.group_context, commit, content.sender.leaf_index, applied)
    if any(member.leaf_index == epoch.own_leaf_index for member in applied.removed):
        return ProcessedCommit(None, Secret(b""), applied, committer)
    psk_secret = key_schedule.psk_secret(suite, psks.find(applied.psks))
    private_keys, signature_private_key = _own_keys(epoch, applied, commit, proposals, update_keys)
    commit_secret: Secret = key_schedule.zero_secret(suite)
    if commit.path is not None:
        context = provisional_context(suite, epoch.group_context, tree, applied.extensions)
        added = [leaf_index for leaf_index, _ in applied.newcomers]
        private_keys, commit_secret = treekem.open_path(
            suite, tree, private_keys, committer.leaf_index, commit.path, context.encode(), added
        )
    provisional = Provisional(
        tree=tree,
        extensions=applied.extensions,
        private_keys=private_keys,
        signature_private_key=signature_private_key,
        commit_secret=commit_secret,
        psk_secret=psk_secret,
        init_secret=_init_secret(epoch, applied),
    )
    following, schedule = advance(suite, epoch.group_context, epoch.interim_transcript_hash, message, provisional)
    if not hmac.compare_digest(following.confirmation_tag, message.auth.confirmation_tag or b""):
        raise VerificationError("confirmation_tag of the commit does not match")
    return ProcessedCommit(following, schedule.encryption_secret, applied, committer)


def _own_keys(
    epoch: Epoch,
    applied: Applied,
    commit: Commit,
    proposals: Mapping[bytes, ReceivedProposal],
    update_keys: Mapping[bytes, UpdateKeys],
) -> tuple[PrivateKeys, Secret]:
    """Return the own keys after the proposals: others if the commit takes up an Update of this member's."""
    own = epoch.own_leaf_index
    if all(member.leaf_index != own for member in applied.updated):
        return epoch.private_keys.pruned(applied.tree), epoch.signature_private_key
    for entry in commit.proposals:
        keys = update_keys.get(entry.reference or b"")
        if keys is not None:
            private_keys = PrivateKeys(own, {leaf_to_node(own): keys.encryption_private_key})
            return private_keys, keys.signature_private_key
    raise StateError("commit includes an Update of this member whose keys are gone")


def _init_secret(epoch: Epoch, applied: Applied) -> Secret:
    if applied.external_init is None:
        return epoch.secrets.init_secret
    return key_schedule.receive_external_init(
        epoch.suite, epoch.secrets.external_secret, applied.external_init.kem_output
    )
