"""Becoming a member: as founder (RFC 9420 §11), through a Welcome (§12.4.3.1) or by an external commit (§12.4.3.2).

A joiner sees the group for the first time and trusts nothing: `PublicGroup.open` holds the tree, every leaf in it
and the signed GroupInfo to their rules. A Welcome must then fit our own key package and keys, and its epoch's
confirmation tag must match.
"""

import hmac
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from heliograph.mls import key_schedule, proposal_rules, treekem
from heliograph.mls.committing import BuiltCommit, Committer, FreshLeaf, build, check_own_leaf
from heliograph.mls.credential import Credential
from heliograph.mls.epoch import Epoch, SavedTree
from heliograph.mls.errors import StateError, ValidationError, VerificationError
from heliograph.mls.extension import Extension, ExtensionType, ExternalPub, find
from heliograph.mls.framing import MLSMessage, Sender, SenderType
from heliograph.mls.group_context import GroupContext
from heliograph.mls.group_info import GroupInfo, Welcome
from heliograph.mls.key_package import KeyPackageBundle
from heliograph.mls.key_schedule import KnownPsks
from heliograph.mls.leaf_node import Capabilities, LeafNode, LeafNodeSource, Lifetime, ProtocolVersion
from heliograph.mls.proposal import (
    ExternalInit,
    PreSharedKeyID,
    PreSharedKeyProposal,
    Proposal,
    ProposalOrRef,
    Remove,
)
from heliograph.mls.proposal_rules import DEFAULT_POLICY, SentProposal
from heliograph.mls.public_group import PublicGroup
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import CipherSuite, Random, Secret
from heliograph.mls.transcript_hash import interim_transcript_hash
from heliograph.mls.tree_math import LeafIndex, leaf_to_node
from heliograph.mls.treekem import PrivateKeys
from heliograph.mls.welcome import OpenedWelcome, open_welcome


def found(
    suite: CipherSuite,
    group_id: bytes,
    credential: Credential,
    signature_private_key: Secret,
    *,
    lifetime: Lifetime,
    capabilities: Capabilities,
    extensions: Sequence[Extension],
    leaf_extensions: Sequence[Extension],
    random: Random,
) -> tuple[Epoch, Secret]:
    """Return epoch 0 of a new group of one, and its encryption_secret. Source: RFC 9420 §11."""
    proposal_rules.check_context_extensions(extensions)
    encryption_private_key, encryption_key = suite.derive_key_pair(random(suite.hash_length))
    leaf_node = LeafNode(
        encryption_key=encryption_key,
        signature_key=suite.signature_public_key(signature_private_key),
        credential=credential,
        capabilities=capabilities,
        leaf_node_source=LeafNodeSource.KEY_PACKAGE,
        lifetime=lifetime,
        extensions=tuple(leaf_extensions),
    ).sign(suite, signature_private_key)
    tree = RatchetTree.of_leaf(leaf_node)
    context = GroupContext(
        version=ProtocolVersion.MLS10,
        cipher_suite=suite.id,
        group_id=group_id,
        epoch=0,
        tree_hash=tree.tree_hash(suite),
        confirmed_transcript_hash=b"",
        extensions=tuple(extensions),
    )
    tree.validate(suite, context, now_s=None)
    schedule = key_schedule.first_epoch(suite, random(suite.hash_length))
    tag = key_schedule.confirmation_tag(suite, schedule.epoch.confirmation_key, b"")
    own = LeafIndex(0)
    epoch = Epoch(
        suite=suite,
        group_context=context,
        saved_tree=SavedTree(tree),
        interim_transcript_hash=interim_transcript_hash(suite, b"", tag),
        confirmation_tag=tag,
        private_keys=PrivateKeys(own, {leaf_to_node(own): encryption_private_key}),
        signature_private_key=signature_private_key,
        secrets=schedule.epoch,
    )
    return epoch, schedule.encryption_secret


class Joined(NamedTuple):
    """The epoch into which a Welcome leads, its encryption_secret, and the pre-shared keys that it was made with."""

    epoch: Epoch
    encryption_secret: Secret
    psks: tuple[PreSharedKeyID, ...]


def join_by_welcome(
    message: bytes,
    ratchet_tree: bytes | None,
    bundle: KeyPackageBundle,
    signature_private_key: bytes,
    *,
    psks: KnownPsks,
    now_s: int,
    lifetime_limit_s: int | None,
) -> Joined:
    """Return where a Welcome leads. Source: RFC 9420 §12.4.3.1."""
    body = MLSMessage.decode(message).body
    if not isinstance(body, Welcome):
        raise ValidationError("message is not a Welcome")
    opened = open_welcome(body, bundle, psks)
    suite, group_info, schedule = opened.suite, opened.group_info, opened.schedule
    encoded = _tree_bytes(group_info, ratchet_tree)
    tree = RatchetTree.decode(encoded)
    public = PublicGroup.open(group_info, tree, now_s=now_s, lifetime_limit_s=lifetime_limit_s)
    own = _own_leaf(public.tree, bundle)
    if suite.signature_public_key(signature_private_key) != bundle.key_package.leaf_node.signature_key:
        raise StateError("signature key is not the one in the key package")
    confirmed = group_info.group_context.confirmed_transcript_hash
    tag = key_schedule.confirmation_tag(suite, schedule.epoch.confirmation_key, confirmed)
    if not hmac.compare_digest(tag, group_info.confirmation_tag):
        raise VerificationError("confirmation_tag of the welcome does not match")
    epoch = Epoch(
        suite=suite,
        group_context=group_info.group_context,
        saved_tree=SavedTree(public.tree, encoded),
        interim_transcript_hash=public.interim_transcript_hash,
        confirmation_tag=tag,
        private_keys=_private_keys(opened, public.tree, own, bundle),
        signature_private_key=Secret(signature_private_key),
        secrets=schedule.epoch,
    )
    return Joined(epoch, schedule.encryption_secret, opened.psks)


def commit_from_outside(
    group_info: bytes,
    ratchet_tree: bytes | None,
    credential: Credential,
    signature_private_key: Secret,
    *,
    capabilities: Capabilities,
    leaf_extensions: Sequence[Extension],
    resync_leaf: LeafIndex | None,
    psks: Sequence[tuple[PreSharedKeyID, bytes]],
    random: Random,
    now_s: int,
    authenticated_data: bytes,
    with_tree: bool,
    lifetime_limit_s: int | None,
) -> tuple[Committer, BuiltCommit]:
    """Return an external commit that adds a new leaf, and removes the same client's old one at `resync_leaf`.

    psks: to mix into the new epoch, with their keys. Source: RFC 9420 §12.4.3.2.
    """
    info = open_group_info(group_info)
    shown = RatchetTree.decode(_tree_bytes(info, ratchet_tree))
    public = PublicGroup.open(info, shown, now_s=now_s, lifetime_limit_s=lifetime_limit_s)
    suite, context = public.suite, public.group_context
    external_pub = ExternalPub.of(info.extensions)
    if external_pub is None:
        raise ValidationError("GroupInfo has no external_pub: the group cannot be joined from outside")
    kem_output, init_secret = key_schedule.start_external_init(suite, external_pub.external_pub, random)
    proposals: list[Proposal] = [ExternalInit(kem_output)]
    if resync_leaf is not None:
        proposals.append(Remove(resync_leaf))
    proposals.extend(PreSharedKeyProposal(identifier) for identifier, _ in psks)
    sender = Sender(SenderType.NEW_MEMBER_COMMIT)
    applied = proposal_rules.apply(
        suite,
        context,
        public.tree,
        [SentProposal(proposal, sender) for proposal in proposals],
        committer=None,
        now_s=now_s,
        policy=DEFAULT_POLICY,
    )
    tree, own = applied.tree.reserve_leaf()
    committer = Committer(
        suite=suite,
        group_context=context,
        interim_transcript_hash=public.interim_transcript_hash,
        init_secret=init_secret,
        membership_key=None,
        sender=sender,
        private_keys=PrivateKeys(own, {}),
        signature_private_key=signature_private_key,
    )
    leaf_node = LeafNode(
        encryption_key=b"",
        signature_key=suite.signature_public_key(signature_private_key),
        credential=credential,
        capabilities=capabilities,
        leaf_node_source=LeafNodeSource.COMMIT,
        extensions=tuple(leaf_extensions),
    )
    built = build(
        committer,
        [ProposalOrRef(proposal=proposal) for proposal in proposals],
        replace(applied, tree=tree),
        fresh_leaf=FreshLeaf(leaf_node, signature_private_key),
        psks=psks,
        authenticated_data=authenticated_data,
        random=random,
        with_tree=with_tree,
    )
    joiner = check_own_leaf(built.epoch)
    for member in applied.removed:
        proposal_rules.check_resync(member.leaf_node, joiner)
    return committer, built


def open_group_info(message: bytes) -> GroupInfo:
    """Return the GroupInfo in an MLSMessage, nothing in it verified; raises DecodeError or ValidationError."""
    body = MLSMessage.decode(message).body
    if not isinstance(body, GroupInfo):
        raise ValidationError("message is not a GroupInfo")
    return body


def _tree_bytes(group_info: GroupInfo, ratchet_tree: bytes | None) -> bytes:
    encoded = ratchet_tree or find(group_info.extensions, ExtensionType.RATCHET_TREE)
    if encoded is None:
        raise StateError("the ratchet tree is neither given nor in the GroupInfo")
    return encoded


def _own_leaf(tree: RatchetTree, bundle: KeyPackageBundle) -> LeafIndex:
    for member in tree.members():
        if member.leaf_node == bundle.key_package.leaf_node:
            return member.leaf_index
    raise ValidationError("welcome leads into a tree that does not hold the key package's leaf")


def _private_keys(opened: OpenedWelcome, tree: RatchetTree, own: LeafIndex, bundle: KeyPackageBundle) -> PrivateKeys:
    private_keys = PrivateKeys(own, {leaf_to_node(own): bundle.encryption_private_key})
    if opened.path_secret is not None:
        signer = opened.group_info.signer
        steps = treekem.steps_from_secret(opened.suite, tree, signer, own, opened.path_secret)
        private_keys = private_keys.with_path(steps)
    private_keys.check_complete(tree)
    return private_keys
