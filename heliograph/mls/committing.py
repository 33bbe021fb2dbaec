"""Making a commit (RFC 9420 §12.4.1), as a member or from outside (§12.4.3.2).

Nothing here changes a state: `build` returns the commit as it travels and the epoch that it begins, which the caller
takes up when the delivery service has accepted the commit, and drops otherwise.

    proposals --> proposal_rules.apply --> tree'
                                            |  fresh leaf and path secrets (treekem)
                                            v
        provisional context <-- tree hash -- tree''
              |
              +--> path secrets sealed --> Commit --> signature, confirmation tag --> framing (the caller's choice)
                                                            |
              GroupInfo, Welcome for each newcomer <--  new Epoch (epoch.advance)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from heliograph.mls import key_schedule, treekem
from heliograph.mls.commit import Commit, UpdatePath
from heliograph.mls.credential import Credential
from heliograph.mls.epoch import Epoch, Provisional, advance, provisional_context
from heliograph.mls.errors import StateError, ValidationError
from heliograph.mls.extension import Extension
from heliograph.mls.framing import AuthenticatedContent, FramedContent, MLSMessage, Sender, WireFormat
from heliograph.mls.group_context import GroupContext
from heliograph.mls.leaf_node import Capabilities, LeafNode, LeafNodeSource
from heliograph.mls.proposal import (
    PreSharedKeyID,
    ProposalOrRef,
)
from heliograph.mls.proposal_rules import Applied
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import CipherSuite, Random, Secret
from heliograph.mls.tree_math import LeafIndex, leaf_to_node
from heliograph.mls.treekem import PathStep, PrivateKeys
from heliograph.mls.welcome import seal_welcome


@dataclass(frozen=True, slots=True)
class Committer:
    """Who commits, and upon which epoch; an outsider has no membership key and no keys but its new leaf's."""

    suite: CipherSuite
    group_context: GroupContext
    interim_transcript_hash: bytes
    init_secret: Secret
    membership_key: Secret | None
    sender: Sender
    private_keys: PrivateKeys
    signature_private_key: Secret

    @classmethod
    def member(cls, epoch: Epoch) -> "Committer":
        """Return a member of an epoch as its committer."""
        return cls(
            suite=epoch.suite,
            group_context=epoch.group_context,
            interim_transcript_hash=epoch.interim_transcript_hash,
            init_secret=epoch.secrets.init_secret,
            membership_key=epoch.secrets.membership_key,
            sender=Sender.member(epoch.own_leaf_index),
            private_keys=epoch.private_keys,
            signature_private_key=epoch.signature_private_key,
        )

    @property
    def leaf_index(self) -> LeafIndex:
        """Return the committer's leaf."""
        return self.private_keys.leaf_index


@dataclass(frozen=True, slots=True)
class LeafChanges:
    """What to change in the own leaf along with its encryption key; None leaves a part as it is."""

    credential: Credential | None = None
    capabilities: Capabilities | None = None
    extensions: tuple[Extension, ...] | None = None
    signature_private_key: Secret | None = field(default=None, repr=False)


class FreshLeaf(NamedTuple):
    """The leaf that a path puts in place, still without keys and signature, and the key that will sign it."""

    leaf_node: LeafNode
    signature_private_key: Secret

    @classmethod
    def of(cls, epoch: Epoch, changes: LeafChanges | None) -> "FreshLeaf":
        """Return the own leaf of an epoch with changes."""
        leaf = epoch.tree.leaf(epoch.own_leaf_index)
        if leaf is None:
            raise StateError("this member has no leaf")
        changes = changes or LeafChanges()
        private_key = changes.signature_private_key or epoch.signature_private_key
        changed = replace(
            leaf,
            signature_key=epoch.suite.signature_public_key(private_key),
            credential=leaf.credential if changes.credential is None else changes.credential,
            capabilities=leaf.capabilities if changes.capabilities is None else changes.capabilities,
            extensions=leaf.extensions if changes.extensions is None else changes.extensions,
        )
        return cls(changed, private_key)


@dataclass(frozen=True, slots=True)
class UpdateKeys:
    """The private keys behind an Update that this member has proposed."""

    encryption_private_key: Secret = field(repr=False)
    signature_private_key: Secret = field(repr=False)


def propose_leaf(epoch: Epoch, changes: LeafChanges | None, random: Random) -> tuple[LeafNode, UpdateKeys]:
    """Return the own leaf with a fresh encryption key, signed for an Update, and the keys behind it.

    Source: RFC 9420 §12.1.2.
    """
    suite = epoch.suite
    fresh = FreshLeaf.of(epoch, changes)
    private_key, public_key = suite.derive_key_pair(random(suite.hash_length))
    unsigned = replace(
        fresh.leaf_node,
        encryption_key=public_key,
        leaf_node_source=LeafNodeSource.UPDATE,
        lifetime=None,
        parent_hash=None,
    )
    signed = unsigned.sign(suite, fresh.signature_private_key, epoch.group_context.group_id, epoch.own_leaf_index)
    return signed, UpdateKeys(private_key, fresh.signature_private_key)


@dataclass(frozen=True, slots=True)
class BuiltCommit:
    """A signed commit with its confirmation tag, still to be framed, and the epoch that it begins for its sender."""

    content: AuthenticatedContent
    welcome: bytes | None
    group_info: bytes
    epoch: Epoch
    encryption_secret: Secret = field(repr=False)


def check_own_leaf(epoch: Epoch) -> LeafNode:
    """Return the own leaf that a commit puts in place; raises ValidationError for one that every member would refuse.

    Source: RFC 9420 §7.3.
    """
    leaf = epoch.tree.leaf(epoch.own_leaf_index)
    if leaf is None:
        raise ValidationError("the committer has no leaf")
    leaf.validate(epoch.suite)
    epoch.tree.check_unique_keys()
    epoch.tree.check_capabilities(epoch.group_context.extensions)
    return leaf


class _NewPath(NamedTuple):
    tree: RatchetTree
    path: UpdatePath | None
    steps: tuple[PathStep, ...]
    private_keys: PrivateKeys
    commit_secret: Secret


def build(
    committer: Committer,
    proposals: Sequence[ProposalOrRef],
    applied: Applied,
    *,
    fresh_leaf: FreshLeaf | None,
    psks: Sequence[tuple[PreSharedKeyID, bytes]],
    authenticated_data: bytes,
    random: Random,
    wire_format: WireFormat = WireFormat.PUBLIC_MESSAGE,
    with_tree: bool = False,
) -> BuiltCommit:
    """Return the commit of `proposals`, which lead to `applied`.

    fresh_leaf: what the committer's leaf becomes, or None for a commit without a path; wire_format: how the commit will
    be framed, which its signature covers; with_tree: put the ratchet tree into the GroupInfo of the new epoch, which
    the Welcome holds too. Source: RFC 9420 §12.4.1.
    """
    suite = committer.suite
    if fresh_leaf is None:
        zero = key_schedule.zero_secret(suite)
        made = _NewPath(applied.tree, None, (), committer.private_keys, zero)
        signature_private_key = committer.signature_private_key
    else:
        made = _make_path(committer, applied, fresh_leaf, random)
        signature_private_key = fresh_leaf.signature_private_key
    content = FramedContent(
        group_id=committer.group_context.group_id,
        epoch=committer.group_context.epoch,
        sender=committer.sender,
        authenticated_data=authenticated_data,
        content=Commit(tuple(proposals), made.path),
    )
    signed = content.sign(suite, committer.signature_private_key, wire_format, committer.group_context)
    provisional = Provisional(
        tree=made.tree,
        extensions=applied.extensions,
        private_keys=made.private_keys,
        signature_private_key=signature_private_key,
        commit_secret=made.commit_secret,
        psk_secret=key_schedule.psk_secret(suite, psks),
        init_secret=committer.init_secret,
    )
    epoch, schedule = advance(suite, committer.group_context, committer.interim_transcript_hash, signed, provisional)
    group_info = epoch.group_info(with_tree=with_tree)
    welcome = None
    if applied.newcomers:
        welcome = seal_welcome(
            suite,
            group_info=group_info,
            schedule=schedule,
            sender=committer.leaf_index,
            steps=made.steps,
            newcomers=applied.newcomers,
            psks=[identifier for identifier, _ in psks],
        )
    return BuiltCommit(
        content=replace(signed, auth=replace(signed.auth, confirmation_tag=epoch.confirmation_tag)),
        welcome=None if welcome is None else MLSMessage(welcome).encode(),
        group_info=MLSMessage(group_info).encode(),
        epoch=epoch,
        encryption_secret=schedule.encryption_secret,
    )


def _make_path(committer: Committer, applied: Applied, fresh_leaf: FreshLeaf, random: Random) -> _NewPath:
    suite, own = committer.suite, committer.leaf_index
    leaf_private_key, leaf_public_key = suite.derive_key_pair(random(suite.hash_length))
    steps, commit_secret = treekem.create_path(suite, applied.tree, own, random)
    tree, parent_hash = applied.tree.merge_path(suite, own, [step.public_key for step in steps])
    leaf_node = replace(
        fresh_leaf.leaf_node,
        encryption_key=leaf_public_key,
        leaf_node_source=LeafNodeSource.COMMIT,
        lifetime=None,
        parent_hash=parent_hash,
    ).sign(suite, fresh_leaf.signature_private_key, committer.group_context.group_id, own)
    tree = tree.set_leaf(own, leaf_node)
    context = provisional_context(suite, committer.group_context, tree, applied.extensions).encode()
    added = [leaf_index for leaf_index, _ in applied.newcomers]
    path = UpdatePath(leaf_node, treekem.seal_path(suite, tree, own, steps, context, added))
    private_keys = PrivateKeys(own, {**committer.private_keys.keys, leaf_to_node(own): leaf_private_key})
    return _NewPath(tree, path, steps, private_keys.with_path(steps), commit_secret)


def public_commit(committer: Committer, built: BuiltCommit) -> bytes:
    """Return the MLSMessage (PublicMessage) of a commit that was built for it. Source: RFC 9420 §6.2."""
    message = built.content.to_public_message(committer.suite, committer.membership_key, committer.group_context)
    return MLSMessage(message).encode()
