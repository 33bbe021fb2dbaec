"""Whether the parent nodes of a tree were put there by those below them (RFC 9420 §7.9.2).

Every parent node in use must be tied by a parent hash to exactly one of its halves: to a node there that carries the
hash of this parent with the other half as it stood when the parent was set, without the leaves that came later and are
still unmerged.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import pairwise

from heliograph.mls import tree_math
from heliograph.mls.errors import DecodeError, ValidationError
from heliograph.mls.parent_node import ParentNode, leaf_tree_hash, parent_hash, parent_tree_hash
from heliograph.mls.subtree import Subtree
from heliograph.mls.suite import CipherSuite
from heliograph.mls.tree_math import LeafIndex, NodeIndex


def check_parents(suite: CipherSuite, root: Subtree) -> None:
    """Raise ValidationError unless every parent node in use is sound: its key, unmerged leaves and parent hash.

    Source: RFC 9420 §7.9.2, §12.4.3.1.
    """
    parents = [(subtree, subtree.node) for subtree in root.below() if isinstance(subtree.node, ParentNode)]
    unmerged = {subtree.index: frozenset(node.unmerged_leaves) for subtree, node in parents}
    for subtree, node in parents:
        if any(a >= b for a, b in pairwise(node.unmerged_leaves)):
            raise ValidationError("unmerged_leaves are not in increasing order")
        for leaf_index in node.unmerged_leaves:
            _check_unmerged_leaf(subtree, leaf_index, unmerged)
    for subtree, node in parents:
        _check_parent(suite, subtree, node)


def _check_unmerged_leaf(
    subtree: Subtree, leaf_index: LeafIndex, unmerged: Mapping[NodeIndex, frozenset[LeafIndex]]
) -> None:
    leaf = tree_math.leaf_to_node(leaf_index)
    if not tree_math.is_ancestor(subtree.index, leaf):
        raise ValidationError("an unmerged leaf is not a descendant of its parent node")
    step = subtree
    while not step.is_leaf:
        if step.index in unmerged and leaf_index not in unmerged[step.index]:
            raise ValidationError("an unmerged leaf is missing in a node between it and its parent node")
        step = step.left if leaf < step.index else step.right
    if step.node is None:
        raise ValidationError("an unmerged leaf is blank")


def _check_parent(suite: CipherSuite, subtree: Subtree, parent_node: ParentNode) -> None:
    try:
        suite.validate_hpke_public_key(parent_node.encryption_key)
    except DecodeError as error:
        raise ValidationError("a parent node's encryption_key is not of the cipher suite") from error
    left, right = subtree.left, subtree.right
    if not (left.resolution_size and right.resolution_size):
        raise ValidationError("a parent node stands above an empty subtree, where no path puts one")
    unmerged = {tree_math.leaf_to_node(leaf) for leaf in parent_node.unmerged_leaves}
    matches = _matches(suite, parent_node, left, right, unmerged) + _matches(suite, parent_node, right, left, unmerged)
    if matches != 1:
        raise ValidationError("a parent node is not parent-hash valid")


def _matches(
    suite: CipherSuite, parent_node: ParentNode, half: Subtree, sibling: Subtree, unmerged: Collection[NodeIndex]
) -> int:
    """Return 1 if the parent node is tied to a node of this half, else 0."""
    under_half = {leaf for leaf in unmerged if tree_math.is_ancestor(half.index, leaf)}
    # All of the resolution but the one descendant must be unmerged leaves.
    if half.resolution_size != len(under_half) + 1:
        return 0
    candidates = [index for index in half.resolution() if index not in under_half]
    if len(candidates) != 1:
        return 0
    found = half.at(candidates[0]).node
    if found is None or found.parent_hash is None:
        return 0
    original = _hash_without(suite, sibling, [leaf for leaf in unmerged if leaf not in under_half])
    return int(found.parent_hash == parent_hash(suite, parent_node, original))


def _hash_without(suite: CipherSuite, subtree: Subtree, removed: Collection[NodeIndex]) -> bytes:
    """Return the tree hash that a subtree would have without some of its leaves."""
    below = {leaf for leaf in removed if tree_math.is_ancestor(subtree.index, leaf)}
    if not below:
        return subtree.tree_hash(suite)
    if subtree.is_leaf:
        return leaf_tree_hash(suite, tree_math.node_to_leaf(subtree.index), None)
    parent_node = subtree.node if isinstance(subtree.node, ParentNode) else None
    if parent_node is not None:
        kept = (leaf for leaf in parent_node.unmerged_leaves if tree_math.leaf_to_node(leaf) not in below)
        parent_node = replace(parent_node, unmerged_leaves=tuple(kept))
    left_hash = _hash_without(suite, subtree.left, below)
    right_hash = _hash_without(suite, subtree.right, below)
    return parent_tree_hash(suite, parent_node, left_hash, right_hash)
