"""The public ratchet tree: who is in the group, and the keys that reach them (RFC 9420 §7).

Theory of operation. A `RatchetTree` is a value: a `Subtree` as wide as a power of two, and a `Census` of what its nodes
must not share. An operation gathers the nodes that it changes, makes the paths above them anew, and returns a tree that
shares everything else, with all that was ever computed of it: after a commit only the paths that it touched are hashed
again, and only the keys that came and went are counted.

`apply` makes all changes of a proposal list at once. `merge_path` puts the public keys of an update path in place and
says which parent hash the sender's new leaf must carry; `set_leaf` then puts the leaf there. `validate` is the check of
a whole tree by someone who has not followed its making.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, islice

from heliograph.mls import tree_math
from heliograph.mls.census import Census, Node
from heliograph.mls.codec import Reader, Struct, Writer
from heliograph.mls.errors import DecodeError, ValidationError, VerificationError
from heliograph.mls.extension import Extension
from heliograph.mls.group_context import GroupContext
from heliograph.mls.leaf_node import LAST_RESORT_LIFETIME_LIMIT_S, LeafNode
from heliograph.mls.parent_hashes import check_parents
from heliograph.mls.parent_node import NodeType, ParentNode, parent_hash
from heliograph.mls.subtree import Subtree
from heliograph.mls.suite import CipherSuite
from heliograph.mls.tree_math import LeafIndex, NodeIndex

__all__ = ["LeafIndex", "Member", "NodeIndex", "ParentNode", "RatchetTree"]

# Blank nodes cost a stranger one byte each and us a hash, so a tree has a largest size.
MAX_LEAVES = 1 << 16

_BLANK = b"\0"
_LEAF = bytes((1, NodeType.LEAF))
_PARENT = bytes((1, NodeType.PARENT))


@dataclass(frozen=True, slots=True)
class Member:
    """A leaf that is in use."""

    leaf_index: LeafIndex
    leaf_node: LeafNode


class RatchetTree(Struct):
    """An immutable ratchet tree; operations return a new one and share what did not change."""

    __slots__ = ("_census", "_root")

    _root: Subtree
    # Made when it is first needed, and from then on kept up with every change.
    _census: Census | None

    def __init__(self, nodes: Sequence[Node | None]) -> None:
        """Hold the nodes of a full tree, 2^(d+1) - 1 of them; most callers want `of_leaf` or `decode`."""
        self._root = Subtree.of(nodes)
        self._census = None

    @classmethod
    def of_leaf(cls, leaf_node: LeafNode) -> "RatchetTree":
        """Return the tree of a group of one. Source: RFC 9420 §11."""
        return cls((leaf_node,))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RatchetTree) and self.nodes() == other.nodes()

    def __hash__(self) -> int:
        return hash(tuple(self.nodes()))

    def __repr__(self) -> str:
        return f"RatchetTree({self._root.member_count} members, {self.leaf_count} leaves)"

    # -- reading

    @property
    def leaf_count(self) -> int:
        """Return the number of leaves, blank ones included; a power of two."""
        return self._root.index + 1

    def nodes(self) -> list[Node | None]:
        """Return all nodes in the order of their indices, None for a blank one."""
        nodes: list[Node | None] = [None] * tree_math.node_count(self.leaf_count)
        for subtree in self._root.below():
            nodes[subtree.index] = subtree.node
        return nodes

    def leaf(self, leaf_index: LeafIndex) -> LeafNode | None:
        """Return the leaf here, or None where it is blank or outside the tree."""
        if not 0 <= leaf_index < self.leaf_count:
            return None
        node = self._root.at(tree_math.leaf_to_node(leaf_index)).node
        return node if isinstance(node, LeafNode) else None

    def parent(self, node: NodeIndex) -> ParentNode | None:
        """Return the parent node here, or None where it is blank."""
        found = self._root.at(node).node
        return found if isinstance(found, ParentNode) else None

    def members(self) -> tuple[Member, ...]:
        """Return all leaves in use, in order."""
        return tuple(Member(index, leaf) for index, leaf in self._root.leaves())

    def leaf_nodes(self) -> Iterable[LeafNode]:
        """Return the leaf nodes in use, in order."""
        return (leaf for _, leaf in self._root.leaves())

    def is_blank(self, node: NodeIndex) -> bool:
        """Say whether nothing stands at this node."""
        return self._root.at(node).node is None

    def public_key(self, node: NodeIndex) -> bytes:
        """Return the encryption key at a node; a blank one raises ValidationError."""
        found = self._root.at(node).node
        if found is None:
            raise ValidationError("a blank node has no public key")
        return found.encryption_key

    def has_encryption_key(self, encryption_key: bytes) -> bool:
        """Say whether a node has this encryption key."""
        return encryption_key in self._counted().encryption_keys

    def has_signature_key(self, signature_key: bytes) -> bool:
        """Say whether a member has this signature key."""
        return signature_key in self._counted().signature_keys

    def resolution(self, node: NodeIndex) -> tuple[NodeIndex, ...]:
        """Return the nodes whose keys together reach all members below `node`. Source: RFC 9420 §4.1.1."""
        return self._root.at(node).resolution()

    def resolution_size(self, node: NodeIndex) -> int:
        """Return how many nodes the resolution has."""
        return self._root.at(node).resolution_size

    def filtered_direct_path(self, leaf_index: LeafIndex) -> tuple[tuple[NodeIndex, NodeIndex], ...]:
        """Return (node, its child on the copath) for the filtered direct path of a leaf, lowest first.

        Source: RFC 9420 §4.1.2.
        """
        return tuple((node.index, child.index) for node, child in self._copath(leaf_index) if child.resolution_size)

    def tree_hash(self, suite: CipherSuite, node: NodeIndex | None = None) -> bytes:
        """Return the tree hash of a node, by default the root. Source: RFC 9420 §7.8."""
        return (self._root if node is None else self._root.at(node)).tree_hash(suite)

    # -- changing

    def apply(
        self,
        *,
        updated: Mapping[LeafIndex, LeafNode],
        removed: Collection[LeafIndex],
        added: Sequence[LeafNode],
    ) -> tuple["RatchetTree", tuple[LeafIndex, ...]]:
        """Return the tree after updates, then removals, then additions, and where the additions went.

        Raises ValidationError when a leaf to update or remove is blank. Source: RFC 9420 §12.1, §12.3.
        """
        changes: dict[NodeIndex, Node | None] = {}
        for leaf_index in chain(updated, removed):
            if self.leaf(leaf_index) is None:
                raise ValidationError("the leaf to change is blank or outside the tree")
            changes |= dict.fromkeys(self._direct_path(leaf_index))
        changes |= {tree_math.leaf_to_node(index): leaf_node for index, leaf_node in updated.items()}
        changes |= {tree_math.leaf_to_node(index): None for index in removed}
        tree = self._changed(changes)
        return (tree._truncated() if removed else tree)._add(added)

    def add_leaf(self, leaf_node: LeafNode) -> tuple["RatchetTree", LeafIndex]:
        """Return the tree with a leaf at the leftmost blank place, and that place.

        Source: RFC 9420 §12.1.1.
        """
        tree, places = self._add((leaf_node,))
        return tree, places[0]

    def update_leaf(self, leaf_index: LeafIndex, leaf_node: LeafNode) -> "RatchetTree":
        """Return the tree with a leaf replaced and its direct path blanked. Source: RFC 9420 §12.1.2."""
        return self.apply(updated={leaf_index: leaf_node}, removed=(), added=())[0]

    def remove_leaf(self, leaf_index: LeafIndex) -> "RatchetTree":
        """Return the tree without a leaf, truncated as far as it goes. Source: RFC 9420 §12.1.3."""
        return self.apply(updated={}, removed=(leaf_index,), added=())[0]

    def set_leaf(self, leaf_index: LeafIndex, leaf_node: LeafNode) -> "RatchetTree":
        """Return the tree with a leaf put at a place inside it; nothing else changes."""
        return self._changed({tree_math.leaf_to_node(leaf_index): leaf_node})

    def reserve_leaf(self) -> tuple["RatchetTree", LeafIndex]:
        """Return the tree, extended if it is full, and the leftmost blank leaf. Source: RFC 9420 §12.4.2."""
        (place,) = self._blank_leaves(1)
        return self._wide_enough(place), place

    def merge_path(
        self, suite: CipherSuite, sender: LeafIndex, public_keys: Sequence[bytes], leaf_node: LeafNode | None = None
    ) -> tuple["RatchetTree", bytes]:
        """Return the tree with new keys on the sender's filtered direct path, and the parent hash for its leaf.

        public_keys: one for each node of the filtered direct path, lowest first; another number raises
        ValidationError. leaf_node: what the sender's leaf becomes, where it is known already; else `set_leaf` replaces
        it afterwards. Source: RFC 9420 §7.5, §7.9.
        """
        steps = self._copath(sender)
        path = [(node, child) for node, child in steps if child.resolution_size]
        if len(path) != len(public_keys):
            raise ValidationError("update path does not have one node for each of the filtered direct path")
        changes: dict[NodeIndex, Node | None] = {node.index: None for node, _ in steps}
        if leaf_node is not None:
            changes[tree_math.leaf_to_node(sender)] = leaf_node
        above = b""
        for (node, copath_child), public_key in zip(reversed(path), reversed(public_keys), strict=True):
            parent_node = ParentNode(public_key, above)
            changes[node.index] = parent_node
            above = parent_hash(suite, parent_node, copath_child.tree_hash(suite))
        return self._changed(changes), above

    # -- encoding

    def write(self, writer: Writer) -> None:
        """Append the `ratchet_tree` vector, without the blank nodes after the last.

        Source: RFC 9420 §12.4.3.3.
        """
        encoded: list[bytes] = []
        position = 0
        for subtree in self._root.below():
            if subtree.node is not None:
                tag = _LEAF if isinstance(subtree.node, LeafNode) else _PARENT
                encoded += (_BLANK * (subtree.index - position), tag, subtree.node.encode())
                position = subtree.index + 1
        writer.opaque(b"".join(encoded))

    @classmethod
    def read(cls, reader: Reader) -> "RatchetTree":
        """Read a `ratchet_tree` vector; raises DecodeError. Source: RFC 9420 §12.4.3.3."""
        read = count()

        def read_node(reader: Reader) -> Node | None:
            if next(read) == 2 * MAX_LEAVES - 1:
                raise DecodeError("ratchet tree has more leaves than it may")
            return reader.optional(_read_node)

        nodes: list[Node | None] = list(reader.vector(read_node))
        if not nodes or nodes[-1] is None:
            raise DecodeError("ratchet tree does not end with a node in use")
        for i, node in enumerate(nodes):
            if node is not None and isinstance(node, LeafNode) == bool(i & 1):
                raise DecodeError("ratchet tree has a leaf in a parent's place, or a parent in a leaf's")
        full = 1
        while full < len(nodes):
            full = 2 * full + 1
        return cls(nodes + [None] * (full - len(nodes)))

    # -- checking

    def validate(
        self,
        suite: CipherSuite,
        group_context: GroupContext,
        *,
        now_s: int | None,
        lifetime_limit_s: int | None = None,
    ) -> None:
        """Raise ValidationError or VerificationError unless this is a sound tree for the group context.

        Checks the tree hash, unmerged leaves, parent hashes, the uniqueness of keys, every leaf and its signature, and
        that all members support what the group uses. now_s: seconds since 1970 UTC, or None to leave lifetimes
        unchecked; lifetime_limit_s: the longest lifetime, by default 91 days. A lifetime that has ended is no fault
        here: it bounds when a key package may be used, and a member that is long in the group may not have renewed its
        leaf. Source: RFC 9420 §7.3, §7.9.2, §12.4.3.1.
        """
        if self.tree_hash(suite) != group_context.tree_hash:
            raise VerificationError("tree hash is not the one in the group context")
        self.check_unique_keys()
        self.check_capabilities(group_context.extensions)
        check_parents(suite, self._root)
        limit_s = LAST_RESORT_LIFETIME_LIMIT_S if lifetime_limit_s is None else lifetime_limit_s
        for leaf_index, leaf in self._root.leaves():
            leaf.validate(suite)
            if leaf.lifetime is not None and now_s is not None:
                leaf.lifetime.check_total(limit_s)
                leaf.lifetime.check_started(now_s)
            leaf.verify_signature(suite, group_context.group_id, leaf_index)

    def check_unique_keys(self) -> None:
        """Raise ValidationError when two nodes share an encryption key or two leaves a signature key.

        Source: RFC 9420 §7.3, §12.4.3.1.
        """
        self._counted().check_unique_keys()

    def check_capabilities(self, extensions: Sequence[Extension]) -> None:
        """Raise ValidationError unless all members support what these group-context extensions ask for.

        Source: RFC 9420 §7.3, §11.1, §13.3, §13.4.
        """
        self._counted().check_capabilities(extensions)

    # -- within

    def _with_root(self, root: Subtree, census: Census | None) -> "RatchetTree":
        tree = RatchetTree.__new__(RatchetTree)
        tree._root = root
        tree._census = census
        return tree

    def _counted(self) -> Census:
        if self._census is None:
            self._census = Census.of([subtree.node for subtree in self._root.below() if subtree.node is not None])
        return self._census

    def _changed(self, changes: Mapping[NodeIndex, Node | None]) -> "RatchetTree":
        """Return the tree with other nodes in some places."""
        if not changes:
            return self
        census = self._census
        if census is not None:
            before = (self._root.at(index).node for index in changes)
            removed = [node for node in before if node is not None]
            census = census.changed(removed, [node for node in changes.values() if node is not None])
        return self._with_root(self._root.changed(changes), census)

    def _direct_path(self, leaf_index: LeafIndex) -> tuple[NodeIndex, ...]:
        return tree_math.direct_path(tree_math.leaf_to_node(leaf_index), self.leaf_count)

    def _copath(self, leaf_index: LeafIndex) -> list[tuple[Subtree, Subtree]]:
        """Return each subtree above a leaf with its half that is not above it, lowest first."""
        leaf = tree_math.leaf_to_node(leaf_index)
        steps: list[tuple[Subtree, Subtree]] = []
        subtree = self._root
        while not subtree.is_leaf:
            below, beside = (subtree.left, subtree.right) if leaf < subtree.index else (subtree.right, subtree.left)
            steps.append((subtree, beside))
            subtree = below
        return steps[::-1]

    def _truncated(self) -> "RatchetTree":
        root = self._root
        while not root.is_leaf and root.right.member_count == 0:
            root = root.left
        # What falls away is blank: the root has lost its path with the last leaf below it.
        return self._with_root(root, self._census)

    def _add(self, added: Sequence[LeafNode]) -> tuple["RatchetTree", tuple[LeafIndex, ...]]:
        places = self._blank_leaves(len(added))
        if not places:
            return self, ()
        tree = self._wide_enough(places[-1])
        changes: dict[NodeIndex, Node | None] = {}
        unmerged: dict[NodeIndex, list[LeafIndex]] = {}
        for place, leaf_node in zip(places, added, strict=True):
            changes[tree_math.leaf_to_node(place)] = leaf_node
            for subtree, _ in tree._copath(place):
                if subtree.node is not None:
                    unmerged.setdefault(subtree.index, []).append(place)
        for index, leaves in unmerged.items():
            parent_node = tree.parent(index)
            if parent_node is not None:
                merged = tuple(sorted((*parent_node.unmerged_leaves, *leaves)))
                changes[index] = replace(parent_node, unmerged_leaves=merged)
        return tree._changed(changes), places

    def _blank_leaves(self, wanted: int) -> tuple[LeafIndex, ...]:
        """Return the leftmost blank leaves, beyond the tree's width if it has too few."""
        beyond = map(LeafIndex, range(self.leaf_count, MAX_LEAVES))
        places = tuple(islice(chain(self._root.blank_leaves(), beyond), wanted))
        if len(places) < wanted:
            raise ValidationError("ratchet tree has as many leaves as it may")
        return places

    def _wide_enough(self, place: LeafIndex) -> "RatchetTree":
        root = self._root
        while place > root.index:
            root = root.widened()
        return self._with_root(root, self._census)


def _read_node(reader: Reader) -> Node:
    if reader.enum8(NodeType) is NodeType.LEAF:
        return LeafNode.read(reader)
    return ParentNode.read(reader)
