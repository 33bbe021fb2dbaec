"""One epoch of a group as one member holds it, and the step to the next (RFC 9420 §8, §12.4).

An `Epoch` is what stays the same between two commits: the group context, the tree, the secrets and the member's own
private keys. Making a commit and receiving one end in the same step, `advance`:

    the signed commit ---------> confirmed transcript hash --+
    tree after the proposals --> tree hash ------------------+--> GroupContext --+
    extensions ----------------------------------------------+                   +--> key schedule --> Epoch
    commit_secret, psk_secret, init_secret -------------------------------------+                     + Schedule
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from heliograph.mls import key_schedule
from heliograph.mls.errors import StateError
from heliograph.mls.extension import Extension, ExtensionType, ExternalPub
from heliograph.mls.framing import AuthenticatedContent
from heliograph.mls.group_context import GroupContext
from heliograph.mls.group_info import GroupInfo
from heliograph.mls.key_schedule import EpochSecrets, Schedule
from heliograph.mls.public_group import MAX_EPOCH
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import CipherSuite, Secret
from heliograph.mls.transcript_hash import confirmed_transcript_hash, interim_transcript_hash
from heliograph.mls.tree_math import LeafIndex
from heliograph.mls.treekem import PrivateKeys


class SavedTree:
    """A ratchet tree and its encoding; the one that is not at hand is made when it is first asked for."""

    __slots__ = ("_encoded", "_tree")

    def __init__(self, tree: RatchetTree | None, encoded: bytes | None = None) -> None:
        """Hold a tree, or an encoding that is trusted to be one."""
        self._tree = tree
        self._encoded = encoded

    @property
    def tree(self) -> RatchetTree:
        """Return the tree."""
        if self._tree is None:
            self._tree = RatchetTree.decode(self._encoded or b"")
        return self._tree

    @property
    def encoded(self) -> bytes:
        """Return the encoding, as a joiner needs it out of band. Source: RFC 9420 §12.4.3.3."""
        if self._encoded is None:
            self._encoded = self.tree.encode()
        return self._encoded


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one member knows of one epoch, apart from message keys and pending proposals."""

    suite: CipherSuite
    group_context: GroupContext
    saved_tree: SavedTree = field(repr=False)
    interim_transcript_hash: bytes = field(repr=False)
    confirmation_tag: bytes = field(repr=False)
    private_keys: PrivateKeys = field(repr=False)
    signature_private_key: Secret = field(repr=False)
    secrets: EpochSecrets = field(repr=False)

    @property
    def tree(self) -> RatchetTree:
        """Return the ratchet tree."""
        return self.saved_tree.tree

    @property
    def own_leaf_index(self) -> LeafIndex:
        """Return the member's own leaf."""
        return self.private_keys.leaf_index

    def group_info(self, *, with_tree: bool = False) -> GroupInfo:
        """Return a GroupInfo that lets an outsider join by an external commit, signed by this member.

        with_tree: put the ratchet tree in it, which may then be large. Source: RFC 9420 §12.4.3, §12.4.3.2, §12.4.3.3.
        """
        _, external_pub = key_schedule.external_key_pair(self.suite, self.secrets.external_secret)
        tree = (Extension(ExtensionType.RATCHET_TREE, self.saved_tree.encoded),) if with_tree else ()
        unsigned = GroupInfo(
            group_context=self.group_context,
            extensions=(*tree, ExternalPub(external_pub).to_extension()),
            confirmation_tag=self.confirmation_tag,
            signer=self.own_leaf_index,
        )
        return unsigned.sign(self.suite, self.signature_private_key)


@dataclass(frozen=True, slots=True)
class PastEpoch:
    """What is kept of an epoch that is over: what late application messages need, and its resumption_psk."""

    suite: CipherSuite
    group_context: GroupContext
    saved_tree: SavedTree = field(repr=False)
    own_leaf_index: LeafIndex
    sender_data_secret: Secret = field(repr=False)
    resumption_psk: Secret = field(repr=False)

    @classmethod
    def of(cls, epoch: Epoch) -> "PastEpoch":
        """Return what is kept of an epoch."""
        return cls(
            suite=epoch.suite,
            group_context=epoch.group_context,
            saved_tree=epoch.saved_tree,
            own_leaf_index=epoch.own_leaf_index,
            sender_data_secret=epoch.secrets.sender_data_secret,
            resumption_psk=epoch.secrets.resumption_psk,
        )


class Provisional(NamedTuple):
    """What the proposals and the path of a commit lead to, before the key schedule turns."""

    tree: RatchetTree
    extensions: tuple[Extension, ...]
    private_keys: PrivateKeys
    signature_private_key: Secret
    commit_secret: bytes
    psk_secret: bytes
    init_secret: bytes


def provisional_context(
    suite: CipherSuite, before: GroupContext, tree: RatchetTree, extensions: tuple[Extension, ...]
) -> GroupContext:
    """Return the context under which path secrets are sealed: new but for the transcript.

    Raises StateError if there is no epoch left. Source: RFC 9420 §12.4.1.
    """
    if before.epoch == MAX_EPOCH:
        raise StateError("the group has come to its last epoch")
    return replace(before, epoch=before.epoch + 1, tree_hash=tree.tree_hash(suite), extensions=extensions)


def advance(
    suite: CipherSuite,
    before: GroupContext,
    interim_before: bytes,
    commit: AuthenticatedContent,
    provisional: Provisional,
) -> tuple[Epoch, Schedule]:
    """Return the epoch that a signed commit begins, with the short-lived secrets of the turn.

    The epoch's confirmation_tag is what the commit's must be. Source: RFC 9420 §8, §12.4.1, §12.4.2.
    """
    confirmed = confirmed_transcript_hash(suite, interim_before, commit)
    context = replace(
        provisional_context(suite, before, provisional.tree, provisional.extensions),
        confirmed_transcript_hash=confirmed,
    )
    schedule = key_schedule.next_epoch(
        suite,
        init_secret=provisional.init_secret,
        commit_secret=provisional.commit_secret,
        psk_secret=provisional.psk_secret,
        group_context=context,
    )
    tag = key_schedule.confirmation_tag(suite, schedule.epoch.confirmation_key, confirmed)
    epoch = Epoch(
        suite=suite,
        group_context=context,
        saved_tree=SavedTree(provisional.tree),
        interim_transcript_hash=interim_transcript_hash(suite, confirmed, tag),
        confirmation_tag=tag,
        private_keys=provisional.private_keys.pruned(provisional.tree),
        signature_private_key=provisional.signature_private_key,
        secrets=schedule.epoch,
    )
    return epoch, schedule
