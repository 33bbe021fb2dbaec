"""Holding a commit's UpdatePath to its rules and putting it into the tree (RFC 9420 §7.5, §12.4.2).

This is the half that needs no secret: members run it before they open their path secret (`treekem.py`), a server that
follows the group runs it alone.
"""

from collections.abc import Collection, Sequence

from heliograph.mls import tree_math
from heliograph.mls.commit import UpdatePath
from heliograph.mls.errors import DecodeError, ValidationError, VerificationError
from heliograph.mls.extension import Extension
from heliograph.mls.leaf_node import LeafNode, LeafNodeSource
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.sealed_secrets import of_each_length
from heliograph.mls.suite import CipherSuite
from heliograph.mls.tree_math import LeafIndex, NodeIndex


def merge_update_path(
    suite: CipherSuite,
    tree: RatchetTree,
    sender: LeafIndex,
    path: UpdatePath,
    *,
    group_id: bytes,
    extensions: Sequence[Extension],
    added: Collection[LeafIndex],
) -> RatchetTree:
    """Return the tree with a commit's path and new leaf in it.

    tree: after the commit's proposals; sender: the committer's leaf, which is blank for an external commit;
    extensions: of the group context that the commit leads to; added: leaves that the commit adds. Raises
    ValidationError, or VerificationError for the leaf's signature or parent hash. Source: RFC 9420 §7.3, §7.5, §12.4.2.
    """
    leaf = path.leaf_node
    leaf.check_source(LeafNodeSource.COMMIT)
    leaf.validate(suite)
    _check_new_keys(suite, tree, sender, path)
    _check_ciphertexts(suite, tree, sender, path, added)
    merged, parent_hash = tree.merge_path(suite, sender, [node.encryption_key for node in path.nodes], leaf)
    if leaf.parent_hash != parent_hash:
        raise VerificationError("parent_hash of the committer's leaf is not that of its path")
    leaf.verify_signature(suite, group_id, sender)
    before = tree.leaf(sender)
    if before is None or _has_new_abilities(before, leaf):
        merged.check_capabilities(extensions)
    return merged


def path_receivers(tree: RatchetTree, copath_child: NodeIndex, added: Collection[LeafIndex]) -> list[NodeIndex]:
    """Return the nodes to whose keys a path secret is sealed: the resolution without the leaves just added.

    Source: RFC 9420 §7.5, §12.4.1.
    """
    resolution = tree.resolution(copath_child)
    if not added:
        return list(resolution)
    new = {tree_math.leaf_to_node(leaf) for leaf in added}
    return [node for node in resolution if node not in new]


def _count_receivers(tree: RatchetTree, copath_child: NodeIndex, added: Collection[LeafIndex]) -> int:
    """Return how many nodes `path_receivers` has; listing them is left to those who seal or open."""
    return len(path_receivers(tree, copath_child, added)) if added else tree.resolution_size(copath_child)


def _check_new_keys(suite: CipherSuite, tree: RatchetTree, sender: LeafIndex, path: UpdatePath) -> None:
    keys = [path.leaf_node.encryption_key, *(node.encryption_key for node in path.nodes)]
    if len(set(keys)) != len(keys) or any(map(tree.has_encryption_key, keys)):
        raise ValidationError("update path has an encryption_key that is in use already")
    try:
        for node in path.nodes:
            suite.validate_hpke_public_key(node.encryption_key)
    except DecodeError as error:
        raise ValidationError("update path has a key that is not of the cipher suite") from error
    before, signature_key = tree.leaf(sender), path.leaf_node.signature_key
    is_same_key = before is not None and before.signature_key == signature_key
    if not is_same_key and tree.has_signature_key(signature_key):
        raise ValidationError("committer's leaf has the signature_key of another member")


def _check_ciphertexts(
    suite: CipherSuite, tree: RatchetTree, sender: LeafIndex, path: UpdatePath, added: Collection[LeafIndex]
) -> None:
    nodes = tree.filtered_direct_path(sender)
    if len(nodes) != len(path.nodes):
        raise ValidationError("update path does not have one node for each of the filtered direct path")
    for (_, copath_child), node in zip(nodes, path.nodes, strict=True):
        if len(node.encrypted_path_secret) != _count_receivers(tree, copath_child, added):
            raise ValidationError("update path node does not have one ciphertext for each receiver")
        if not all(map(suite.is_sealed_secret, of_each_length(node.encrypted_path_secret))):
            raise ValidationError("update path has a ciphertext that no receiver could open")


def _has_new_abilities(before: LeafNode, after: LeafNode) -> bool:
    return (
        before.capabilities != after.capabilities
        or before.credential.credential_type != after.credential.credential_type
    )
