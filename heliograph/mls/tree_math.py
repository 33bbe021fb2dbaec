"""The arithmetic of the array-based tree (RFC 9420 Appendix C).

A tree of `leaf_count` leaves (always a power of two) is an array of `2 * leaf_count - 1` nodes. Even nodes
are leaves, odd nodes are parents; the number of trailing one bits of an index is the level of its node.

              7
        3           11
     1     5     9      13
    0 2   4 6   8 10  12  14        leaf i is node 2 i
"""

from typing import NewType

LeafIndex = NewType("LeafIndex", int)
NodeIndex = NewType("NodeIndex", int)


def node_count(leaf_count: int) -> int:
    """Return the number of nodes of a tree with `leaf_count` leaves."""
    return 0 if leaf_count == 0 else 2 * leaf_count - 1


def is_leaf(node: NodeIndex) -> bool:
    """Say whether a node index belongs to a leaf."""
    return node & 1 == 0


def leaf_to_node(leaf: LeafIndex) -> NodeIndex:
    """Return the node index of a leaf."""
    return NodeIndex(2 * leaf)


def node_to_leaf(node: NodeIndex) -> LeafIndex:
    """Return the leaf index of a leaf node; a parent's index raises ValueError."""
    if node & 1:
        raise ValueError("node is not a leaf")
    return LeafIndex(node >> 1)


def level(node: NodeIndex) -> int:
    """Return the level of a node; leaves are at level 0."""
    return (~node & (node + 1)).bit_length() - 1


def root(leaf_count: int) -> NodeIndex:
    """Return the root of a tree with `leaf_count` leaves, a power of two."""
    return NodeIndex(leaf_count - 1)


def left(node: NodeIndex) -> NodeIndex:
    """Return the left child; a leaf raises ValueError."""
    k = level(node)
    if k == 0:
        raise ValueError("a leaf has no children")
    return NodeIndex(node ^ (1 << (k - 1)))


def right(node: NodeIndex) -> NodeIndex:
    """Return the right child; a leaf raises ValueError."""
    k = level(node)
    if k == 0:
        raise ValueError("a leaf has no children")
    return NodeIndex(node ^ (3 << (k - 1)))


def parent(node: NodeIndex, leaf_count: int) -> NodeIndex:
    """Return the parent of a node; the root raises ValueError."""
    if node == root(leaf_count):
        raise ValueError("the root has no parent")
    k = level(node)
    return NodeIndex((node | (1 << k)) & ~(1 << (k + 1)))


def sibling(node: NodeIndex, leaf_count: int) -> NodeIndex:
    """Return the other child of this node's parent; the root raises ValueError."""
    above = parent(node, leaf_count)
    return right(above) if node < above else left(above)


def direct_path(node: NodeIndex, leaf_count: int) -> tuple[NodeIndex, ...]:
    """Return the ancestors of a node from its parent up to the root; empty for the root.

    A node outside the tree raises ValueError.
    """
    top = root(leaf_count)
    if not 0 <= node <= 2 * top:
        raise ValueError("the node is outside the tree")
    path: list[NodeIndex] = []
    k = level(node)
    while node != top:
        node = NodeIndex((node | (1 << k)) & ~(1 << (k + 1)))
        k += 1
        path.append(node)
    return tuple(path)


def copath(node: NodeIndex, leaf_count: int) -> tuple[NodeIndex, ...]:
    """Return the siblings of a node and of its ancestors below the root, lowest first."""
    if node == root(leaf_count):
        return ()
    path = (node, *direct_path(node, leaf_count)[:-1])
    return tuple(sibling(step, leaf_count) for step in path)


def is_ancestor(above: NodeIndex, below: NodeIndex) -> bool:
    """Say whether `above` is an ancestor of `below`, or the same node."""
    reach = (1 << level(above)) - 1
    return above - reach <= below <= above + reach


def common_ancestor(one: NodeIndex, other: NodeIndex) -> NodeIndex:
    """Return the lowest node that has both nodes in its subtree."""
    k = max(level(one), level(other))
    while one >> (k + 1) != other >> (k + 1):
        k += 1
    return NodeIndex((one >> (k + 1) << (k + 1)) | ((1 << k) - 1))
