"""A node of the ratchet tree together with all that is below it (RFC 9420 §4, §7.8).

Theory of operation. A `Subtree` never changes, so trees share it: an operation makes new ones on the paths from the
nodes that it changes to the root, and keeps all others. What follows from a subtree alone, its tree hash and its
resolution, is remembered in it when it is first asked for, and so survives in every later tree that still holds the
subtree. A subtree knows its place, because the tree hash covers it.

A subtree without any node is one object, however wide it is; its halves come into being when something is put there.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

from heliograph.mls import tree_math
from heliograph.mls.census import Node
from heliograph.mls.leaf_node import LeafNode
from heliograph.mls.parent_node import ParentNode, leaf_tree_hash, parent_tree_hash
from heliograph.mls.suite import CipherSuite
from heliograph.mls.tree_math import LeafIndex, NodeIndex


class Subtree:
    """What stands at `index` and below.

    member_count: the leaves in use; resolution_size: the number of nodes in the resolution, 0 if all are blank.
    """

    __slots__ = ("_halves", "_hash", "_resolution", "index", "member_count", "node", "resolution_size")

    def __init__(self, index: NodeIndex, node: Node | None, halves: "tuple[Subtree, Subtree] | None" = None) -> None:
        """Put a node above its two halves; without halves it is a leaf, or a wide subtree with nothing in it."""
        self.index = index
        self.node = node
        self._halves = halves
        self._hash: bytes | None = None
        self._resolution: tuple[NodeIndex, ...] | None = None
        if halves is None:
            self.member_count = self.resolution_size = int(node is not None)
            return
        left, right = halves
        self.member_count = left.member_count + right.member_count
        if node is None:
            self.resolution_size = left.resolution_size + right.resolution_size
        else:
            self.resolution_size = 1 + (len(node.unmerged_leaves) if isinstance(node, ParentNode) else 0)

    @classmethod
    def of(cls, nodes: Sequence[Node | None]) -> "Subtree":
        """Return the whole tree of a full array of nodes, 2^(d+1) - 1 of them."""
        row = [cls(NodeIndex(i), nodes[i]) for i in range(0, len(nodes), 2)]
        while len(row) > 1:
            row = [cls._above(nodes, left, right) for left, right in zip(row[::2], row[1::2], strict=True)]
        return row[0]

    @classmethod
    def _above(cls, nodes: Sequence[Node | None], left: "Subtree", right: "Subtree") -> "Subtree":
        index = NodeIndex((left.index + right.index) // 2)
        if nodes[index] is None and left.resolution_size == right.resolution_size == 0:
            return cls(index, None)
        return cls(index, nodes[index], (left, right))

    @property
    def left(self) -> "Subtree":
        """Return the left half; a leaf raises ValueError."""
        return Subtree(tree_math.left(self.index), None) if self._halves is None else self._halves[0]

    @property
    def right(self) -> "Subtree":
        """Return the right half; a leaf raises ValueError."""
        return Subtree(tree_math.right(self.index), None) if self._halves is None else self._halves[1]

    @property
    def is_leaf(self) -> bool:
        """Say whether this is one leaf."""
        return self.index & 1 == 0

    def at(self, index: NodeIndex) -> "Subtree":
        """Return the subtree at an index, which must be here or below."""
        subtree = self
        while subtree.index != index:
            if subtree._halves is None:
                return Subtree(index, None)
            subtree = subtree._halves[index > subtree.index]
        return subtree

    def changed(self, nodes: Mapping[NodeIndex, Node | None]) -> "Subtree":
        """Return the subtree with other nodes in some places, which must be here or below."""
        return self._changed(nodes, sorted(nodes))

    def _changed(self, nodes: Mapping[NodeIndex, Node | None], indices: Sequence[NodeIndex]) -> "Subtree":
        if not indices:
            return self
        index = self.index
        node = nodes.get(index, self.node)
        if self.is_leaf:
            return Subtree(index, node)
        middle = bisect_left(indices, index)
        left = self.left._changed(nodes, indices[:middle])
        right = self.right._changed(nodes, indices[middle + (index in nodes) :])
        if node is None and left.resolution_size == right.resolution_size == 0:
            return Subtree(index, None)
        return Subtree(index, node, (left, right))

    def widened(self) -> "Subtree":
        """Return a tree of twice the leaves, with this one as its left half."""
        index = NodeIndex(2 * self.index + 1)
        if self.resolution_size == 0:
            return Subtree(index, None)
        return Subtree(index, None, (self, Subtree(tree_math.right(index), None)))

    def below(self) -> "Iterator[Subtree]":
        """Go through this subtree and all below it that hold anything, from left to right."""
        found: list[Subtree] = []
        self._gather(found)
        return iter(found)

    def _gather(self, found: "list[Subtree]") -> None:
        if self._halves is not None:
            self._halves[0]._gather(found)
            found.append(self)
            self._halves[1]._gather(found)
        elif self.node is not None:
            found.append(self)

    def leaves(self) -> list[tuple[LeafIndex, LeafNode]]:
        """Return the leaves in use, in order."""
        found: list[Subtree] = []
        self._gather_leaves(found)
        nodes = ((LeafIndex(subtree.index >> 1), subtree.node) for subtree in found)
        return [(index, node) for index, node in nodes if isinstance(node, LeafNode)]

    def _gather_leaves(self, found: "list[Subtree]") -> None:
        if self._halves is not None:
            self._halves[0]._gather_leaves(found)
            self._halves[1]._gather_leaves(found)
        elif self.node is not None:
            found.append(self)

    def blank_leaves(self) -> Iterator[LeafIndex]:
        """Go through the leaves that are not in use, in order."""
        width = 1 << tree_math.level(self.index)
        if self.member_count == width:
            return
        if self._halves is None:
            first = (self.index + 1 - width) // 2
            yield from map(LeafIndex, range(first, first + width))
        else:
            for half in self._halves:
                yield from half.blank_leaves()

    def resolution(self) -> tuple[NodeIndex, ...]:
        """Return the nodes whose keys together reach all members here. Source: RFC 9420 §4.1.1."""
        if self._resolution is None:
            found: list[NodeIndex] = []
            self._resolve(found)
            self._resolution = tuple(found)
        return self._resolution

    def _resolve(self, found: list[NodeIndex]) -> None:
        if self.node is not None:
            found.append(self.index)
            if self.resolution_size > 1 and isinstance(self.node, ParentNode):
                found += map(tree_math.leaf_to_node, self.node.unmerged_leaves)
        elif self._resolution is not None:
            found += self._resolution
        elif self._halves is not None:
            self._halves[0]._resolve(found)
            self._halves[1]._resolve(found)

    def tree_hash(self, suite: CipherSuite) -> bytes:
        """Return the tree hash. Source: RFC 9420 §7.8."""
        known = self._hash
        # Hashes of two suites have different lengths or are the same.
        if known is None or len(known) != suite.hash_length:
            if self.is_leaf:
                leaf = self.node if isinstance(self.node, LeafNode) else None
                known = leaf_tree_hash(suite, tree_math.node_to_leaf(self.index), leaf)
            else:
                parent_node = self.node if isinstance(self.node, ParentNode) else None
                known = parent_tree_hash(suite, parent_node, self.left.tree_hash(suite), self.right.tree_hash(suite))
            self._hash = known
        return known
