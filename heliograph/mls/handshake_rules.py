"""What members and servers hold a handshake to alike: whose signature it bears, and where a commit's path leads.

Rules that stood in two places would some day be two rules, and a commit that the delivery service passes and the
members refuse splits the group. So `processing` and `public_group` both take these from here (RFC 9420 §6.1, §12.1.8,
§12.4.2).
"""

from heliograph.mls.commit import Commit
from heliograph.mls.errors import ValidationError
from heliograph.mls.extension import ExternalSenders
from heliograph.mls.framing import FramedContent
from heliograph.mls.group_context import GroupContext
from heliograph.mls.proposal import Add
from heliograph.mls.proposal_rules import Applied, check_resync
from heliograph.mls.ratchet_tree import Member, RatchetTree
from heliograph.mls.suite import CipherSuite
from heliograph.mls.tree_math import LeafIndex
from heliograph.mls.update_path import merge_update_path


def signature_key_of(handshake: FramedContent, tree: RatchetTree, group_context: GroupContext) -> bytes:
    """Return the key with which a handshake's sender must have signed it; raises ValidationError if there is none.

    Source: RFC 9420 §6.1, §12.1.8.
    """
    sender, content = handshake.sender, handshake.content
    if sender.leaf_index is not None:
        leaf = tree.leaf(sender.leaf_index)
        if leaf is None:
            raise ValidationError("the sender is no member but a blank leaf")
        return leaf.signature_key
    if sender.sender_index is not None:
        external = ExternalSenders.of(group_context.extensions)
        if external is None or sender.sender_index >= len(external.senders):
            raise ValidationError("the sender is not among the group's external_senders")
        return external.senders[sender.sender_index].signature_key
    if isinstance(content, Commit):
        if content.path is None:
            raise ValidationError("an external commit has no path")
        return content.path.leaf_node.signature_key
    if isinstance(content, Add):
        return content.key_package.leaf_node.signature_key
    raise ValidationError("this sender may not send this content")


def apply_path(
    suite: CipherSuite, group_context: GroupContext, commit: Commit, committer: LeafIndex | None, applied: Applied
) -> tuple[RatchetTree, Member]:
    """Return the tree that a commit leads to, and the committer as it stands there.

    group_context: of the epoch in which it is sent; committer: None for an external commit; applied: its proposals.
    Raises ValidationError or VerificationError. Source: RFC 9420 §12.4.2, §12.4.3.2.
    """
    if commit.path is None and applied.path_required:
        raise ValidationError("the commit lacks the path that its proposals require")
    tree = applied.tree
    if committer is None:
        tree, committer = tree.reserve_leaf()
    if commit.path is not None:
        tree = merge_update_path(
            suite,
            tree,
            committer,
            commit.path,
            group_id=group_context.group_id,
            extensions=applied.extensions,
            added=[leaf_index for leaf_index, _ in applied.newcomers],
        )
    leaf = tree.leaf(committer)
    if leaf is None:
        raise ValidationError("the committer is not a member")
    if applied.external_init is not None:
        for member in applied.removed:
            check_resync(member.leaf_node, leaf)
    return tree, Member(committer, leaf)
