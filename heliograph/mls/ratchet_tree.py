"""The public ratchet tree: who is in the group, and the keys that reach them (RFC 9420 §7).

Theory of operation. A `RatchetTree` is a value. It holds the array of nodes of a full tree (see `tree_math`)
and, beside it, the tree hash and the encoding of every node that has been asked for. An operation copies these,
changes a few nodes, forgets the hashes from those nodes up to the root, and returns a new tree; everything
else, hashes included, is shared. So after a commit only the paths that it touched are hashed again.

`apply` makes all changes of a proposal list in one copy. `merge_path` puts the public keys of an update path
in place and says which parent hash the sender's new leaf must carry; `set_leaf` then puts the leaf there.
`validate` is the check of a whole tree by someone who has not followed its making.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

from heliograph.mls import tree_math
from heliograph.mls.codec import Reader, Struct, Writer
from heliograph.mls.errors import DecodeError, ValidationError, VerificationError
from heliograph.mls.extension import Extension, RequiredCapabilities
from heliograph.mls.group_context import GroupContext
from heliograph.mls.leaf_node import LAST_RESORT_LIFETIME_LIMIT_S, LeafNode
from heliograph.mls.parent_node import (
    NodeType,
    ParentNode,
    leaf_tree_hash,
    parent_hash,
    parent_tree_hash,
)
from heliograph.mls.suite import CipherSuite
from heliograph.mls.tree_math import LeafIndex, NodeIndex

__all__ = ["LeafIndex", "Member", "NodeIndex", "ParentNode", "RatchetTree"]

Node: TypeAlias = LeafNode | ParentNode

# Blank nodes cost a stranger one byte each and us a hash, so a tree has a largest size.
MAX_LEAVES = 1 << 16


@dataclass(frozen=True, slots=True)
class Member:
    """A leaf that is in use."""

    leaf_index: LeafIndex
    leaf_node: LeafNode


class RatchetTree(Struct):
    """An immutable ratchet tree; operations return a new one and share what did not change."""

    __slots__ = ("_encodings", "_hash_name", "_hashes", "_nodes")

    _nodes: list[Node | None]
    # By node index, the node and its encoding; an entry counts only for that very node.
    _encodings: dict[int, tuple[Node, bytes]]
    _hashes: list[bytes | None]
    _hash_name: str

    def __init__(self, nodes: Sequence[Node | None]) -> None:
        """Hold the nodes of a full tree, 2^(d+1) - 1 of them; most callers want `of_leaf` or `decode`."""
        self._nodes = list(nodes)
        self._encodings = {}
        self._hashes = [None] * len(self._nodes)
        self._hash_name = ""

    @classmethod
    def of_leaf(cls, leaf_node: LeafNode) -> "RatchetTree":
        """Return the tree of a group of one. Source: RFC 9420 §11."""
        return cls((leaf_node,))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RatchetTree) and self._nodes == other._nodes

    def __hash__(self) -> int:
        return hash(tuple(self._nodes))

    def __repr__(self) -> str:
        return f"RatchetTree({len(self.members())} members, {self.leaf_count} leaves)"

    # -- reading

    @property
    def leaf_count(self) -> int:
        """Return the number of leaves, blank ones included; a power of two."""
        return (len(self._nodes) + 1) // 2

    def leaf(self, leaf_index: LeafIndex) -> LeafNode | None:
        """Return the leaf here, or None where it is blank or outside the tree."""
        node = self._nodes[2 * leaf_index] if 0 <= leaf_index < self.leaf_count else None
        return node if isinstance(node, LeafNode) else None

    def parent(self, node: NodeIndex) -> ParentNode | None:
        """Return the parent node here, or None where it is blank."""
        found = self._nodes[node]
        return found if isinstance(found, ParentNode) else None

    def members(self) -> tuple[Member, ...]:
        """Return all leaves in use, in order."""
        leaves = enumerate(self._nodes[::2])
        return tuple(Member(LeafIndex(i), leaf) for i, leaf in leaves if isinstance(leaf, LeafNode))

    def leaf_nodes(self) -> Iterable[LeafNode]:
        """Return the leaf nodes in use, in order."""
        return (leaf for leaf in self._nodes[::2] if isinstance(leaf, LeafNode))

    def is_blank(self, node: NodeIndex) -> bool:
        """Say whether nothing stands at this node."""
        return self._nodes[node] is None

    def public_key(self, node: NodeIndex) -> bytes:
        """Return the encryption key at a node; a blank one raises ValidationError."""
        found = self._nodes[node]
        if found is None:
            raise ValidationError("a blank node has no public key")
        return found.encryption_key

    def encryption_keys(self) -> set[bytes]:
        """Return the encryption keys of all nodes."""
        return {node.encryption_key for node in self._nodes if node is not None}

    def resolution(self, node: NodeIndex) -> tuple[NodeIndex, ...]:
        """Return the nodes whose keys together reach all members below `node`. Source: RFC 9420 §4.1.1."""
        found: list[NodeIndex] = []
        self._resolve(node, found)
        return tuple(found)

    def filtered_direct_path(self, leaf_index: LeafIndex) -> tuple[tuple[NodeIndex, NodeIndex], ...]:
        """Return (node, its child on the copath) for the filtered direct path of a leaf, lowest first.

        Source: RFC 9420 §4.1.2.
        """
        leaf = tree_math.leaf_to_node(leaf_index)
        path = tree_math.direct_path(leaf, self.leaf_count)
        steps = zip(path, tree_math.copath(leaf, self.leaf_count), strict=True)
        return tuple((node, child) for node, child in steps if self._has_nodes(child))

    def tree_hash(self, suite: CipherSuite, node: NodeIndex | None = None) -> bytes:
        """Return the tree hash of a node, by default the root. Source: RFC 9420 §7.8."""
        if self._hash_name != suite.hash_name:
            self._hashes = [None] * len(self._nodes)
            self._hash_name = suite.hash_name
        return self._hash(suite, tree_math.root(self.leaf_count) if node is None else node)

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
        tree = self._copy()
        for leaf_index, leaf_node in updated.items():
            tree._require(leaf_index)
            tree._blank_path(leaf_index)
            tree._put(tree_math.leaf_to_node(leaf_index), leaf_node)
        for leaf_index in removed:
            tree._require(leaf_index)
            tree._blank_path(leaf_index)
            tree._put(tree_math.leaf_to_node(leaf_index), None)
        if removed:
            tree._truncate()
        places: list[LeafIndex] = []
        for leaf_node in added:
            places.append(tree._add(leaf_node, places[-1] if places else 0))
        return tree, tuple(places)

    def add_leaf(self, leaf_node: LeafNode) -> tuple["RatchetTree", LeafIndex]:
        """Return the tree with a leaf at the leftmost blank place, and that place.

        Source: RFC 9420 §12.1.1.
        """
        tree, places = self.apply(updated={}, removed=(), added=(leaf_node,))
        return tree, places[0]

    def update_leaf(self, leaf_index: LeafIndex, leaf_node: LeafNode) -> "RatchetTree":
        """Return the tree with a leaf replaced and its direct path blanked. Source: RFC 9420 §12.1.2."""
        return self.apply(updated={leaf_index: leaf_node}, removed=(), added=())[0]

    def remove_leaf(self, leaf_index: LeafIndex) -> "RatchetTree":
        """Return the tree without a leaf, truncated as far as it goes. Source: RFC 9420 §12.1.3."""
        return self.apply(updated={}, removed=(leaf_index,), added=())[0]

    def set_leaf(self, leaf_index: LeafIndex, leaf_node: LeafNode) -> "RatchetTree":
        """Return the tree with a leaf put at a place inside it; nothing else changes."""
        tree = self._copy()
        tree._put(tree_math.leaf_to_node(leaf_index), leaf_node)
        return tree

    def reserve_leaf(self) -> tuple["RatchetTree", LeafIndex]:
        """Return the tree, extended if it is full, and the leftmost blank leaf. Source: RFC 9420 §12.4.2."""
        tree = self._copy()
        return tree, tree._leftmost_blank(0)

    def merge_path(
        self, suite: CipherSuite, sender: LeafIndex, public_keys: Sequence[bytes]
    ) -> tuple["RatchetTree", bytes]:
        """Return the tree with new keys on the sender's filtered direct path, and the parent hash for its leaf.

        public_keys: one for each node of the filtered direct path, lowest first; another number raises
        ValidationError. The leaf stays as it is: `set_leaf` replaces it. Source: RFC 9420 §7.5, §7.9.
        """
        path = self.filtered_direct_path(sender)
        if len(path) != len(public_keys):
            raise ValidationError("update path does not have one node for each of the filtered direct path")
        tree = self._copy()
        tree._blank_path(sender)
        above = b""
        for (node, copath_child), public_key in reversed(tuple(zip(path, public_keys, strict=True))):
            parent_node = ParentNode(public_key, above)
            tree._put(node, parent_node)
            above = parent_hash(suite, parent_node, tree.tree_hash(suite, copath_child))
        return tree, above

    # -- encoding

    def write(self, writer: Writer) -> None:
        """Append the `ratchet_tree` vector, without the blank nodes after the last.

        Source: RFC 9420 §12.4.3.3.
        """
        last = max((i for i, node in enumerate(self._nodes) if node is not None), default=-1)
        writer.opaque(b"".join(self._encoded(i, node) for i, node in enumerate(self._nodes[: last + 1])))

    @classmethod
    def read(cls, reader: Reader) -> "RatchetTree":
        """Read a `ratchet_tree` vector; raises DecodeError. Source: RFC 9420 §12.4.3.3."""
        encodings: list[bytes] = []

        def read_node(reader: Reader) -> Node | None:
            if len(encodings) == 2 * MAX_LEAVES - 1:
                raise DecodeError("ratchet tree has more leaves than it may")
            start = reader.position
            node = reader.optional(_read_node)
            encodings.append(reader.since(start))
            return node

        nodes: list[Node | None] = list(reader.vector(read_node))
        if not nodes or nodes[-1] is None:
            raise DecodeError("ratchet tree does not end with a node in use")
        for i, node in enumerate(nodes):
            if node is not None and isinstance(node, LeafNode) == bool(i & 1):
                raise DecodeError("ratchet tree has a leaf in a parent's place, or a parent in a leaf's")
        full = 1
        while full < len(nodes):
            full = 2 * full + 1
        tree = cls(nodes + [None] * (full - len(nodes)))
        tree._encodings = {
            i: (node, encoded)
            for i, (node, encoded) in enumerate(zip(nodes, encodings, strict=True))
            if node is not None
        }
        return tree

    # -- checking

    def validate(self, suite: CipherSuite, group_context: GroupContext, *, now_s: int | None) -> None:
        """Raise ValidationError or VerificationError unless this is a sound tree for the group context.

        Checks the tree hash, unmerged leaves, parent hashes, the uniqueness of keys, every leaf and its signature, and
        that all members support what the group uses. now_s: seconds since 1970 UTC, or None to leave lifetimes
        unchecked. A lifetime that has ended is no fault here: it bounds when a key package may be used, and a member
        that is long in the group may not have renewed its leaf. Source: RFC 9420 §7.3, §7.9.2, §12.4.3.1.
        """
        if self.tree_hash(suite) != group_context.tree_hash:
            raise VerificationError("tree hash is not the one in the group context")
        self.check_unique_keys()
        self.check_capabilities(group_context.extensions)
        self._check_parents(suite)
        for member in self.members():
            leaf = member.leaf_node
            leaf.validate(suite)
            if leaf.lifetime is not None and now_s is not None:
                leaf.lifetime.check_total(LAST_RESORT_LIFETIME_LIMIT_S)
                leaf.lifetime.check_started(now_s)
            leaf.verify_signature(suite, group_context.group_id, member.leaf_index)

    def check_unique_keys(self) -> None:
        """Raise ValidationError when two nodes share an encryption key or two leaves a signature key.

        Source: RFC 9420 §7.3, §12.4.3.1.
        """
        used = [node.encryption_key for node in self._nodes if node is not None]
        if len(set(used)) != len(used):
            raise ValidationError("two nodes of the tree have the same encryption_key")
        signing = [leaf.signature_key for leaf in self.leaf_nodes()]
        if len(set(signing)) != len(signing):
            raise ValidationError("two leaves of the tree have the same signature_key")

    def check_capabilities(self, extensions: Sequence[Extension]) -> None:
        """Raise ValidationError unless all members support what these group-context extensions ask for.

        That is the extensions themselves, the required capabilities, and each other's types of credential.

        Source: RFC 9420 §7.3, §11.1, §13.3, §13.4.
        """
        required = RequiredCapabilities.of(extensions)
        in_use = {extension.extension_type for extension in extensions}
        capabilities = {leaf.capabilities for leaf in self.leaf_nodes()}
        credential_types = {leaf.credential.credential_type for leaf in self.leaf_nodes()}
        for supported in capabilities:
            if not supported.supports_extensions(in_use):
                raise ValidationError("a member does not support an extension of the group context")
            if not credential_types.issubset(supported.credentials):
                raise ValidationError("a member does not support a credential type in use")
            if required is not None:
                supported.check_required(required)

    def _check_parents(self, suite: CipherSuite) -> None:
        parents = {NodeIndex(i): self.parent(NodeIndex(i)) for i in range(1, len(self._nodes), 2)}
        unmerged = {node: frozenset(found.unmerged_leaves) for node, found in parents.items() if found}
        for node, found in parents.items():
            leaves = found.unmerged_leaves if found is not None else ()
            if any(a >= b for a, b in pairwise(leaves)):
                raise ValidationError("unmerged_leaves are not in increasing order")
            for leaf_index in leaves:
                self._check_unmerged_leaf(node, leaf_index, unmerged)
        for node, found in parents.items():
            if found is not None:
                self._check_parent(suite, node, found)

    def _check_parent(self, suite: CipherSuite, node: NodeIndex, parent_node: ParentNode) -> None:
        try:
            suite.validate_hpke_public_key(parent_node.encryption_key)
        except DecodeError as error:
            raise ValidationError("a parent node's encryption_key is not of the cipher suite") from error
        children = (tree_math.left(node), tree_math.right(node))
        if not all(map(self._has_nodes, children)):
            raise ValidationError("a parent node stands above an empty subtree, where no path puts one")
        matches = sum(
            self._count_parent_hash_matches(suite, parent_node, child, sibling)
            for child, sibling in (children, children[::-1])
        )
        if matches != 1:
            raise ValidationError("a parent node is not parent-hash valid")

    def _check_unmerged_leaf(
        self, node: NodeIndex, leaf_index: LeafIndex, unmerged: Mapping[NodeIndex, frozenset[LeafIndex]]
    ) -> None:
        step = tree_math.leaf_to_node(leaf_index)
        if not tree_math.is_ancestor(node, step):
            raise ValidationError("an unmerged leaf is not a descendant of its parent node")
        if self._nodes[step] is None:
            raise ValidationError("an unmerged leaf is blank")
        while (step := tree_math.parent(step, self.leaf_count)) != node:
            if step in unmerged and leaf_index not in unmerged[step]:
                raise ValidationError("an unmerged leaf is missing in a node between it and its parent node")

    def _count_parent_hash_matches(
        self, suite: CipherSuite, parent_node: ParentNode, child: NodeIndex, sibling: NodeIndex
    ) -> int:
        resolution = self.resolution(child)
        unmerged = {tree_math.leaf_to_node(leaf) for leaf in parent_node.unmerged_leaves}
        under_child = {leaf for leaf in unmerged if tree_math.is_ancestor(child, leaf)}
        candidates = [node for node in resolution if node not in under_child]
        # All of the resolution but the one descendant must be unmerged leaves.
        if len(candidates) != 1 or len(resolution) != len(under_child) + 1:
            return 0
        found = self._nodes[candidates[0]]
        original = self._hash_without(suite, sibling, unmerged - under_child)
        carried = None if found is None else found.parent_hash
        return int(carried is not None and carried == parent_hash(suite, parent_node, original))

    # -- within

    def _copy(self) -> "RatchetTree":
        tree = RatchetTree.__new__(RatchetTree)
        tree._nodes = self._nodes.copy()
        tree._encodings = self._encodings.copy()
        tree._hashes = self._hashes.copy()
        tree._hash_name = self._hash_name
        return tree

    def _encoded(self, i: int, node: Node | None) -> bytes:
        if node is None:
            return b"\x00"
        known = self._encodings.get(i)
        if known is not None and known[0] is node:
            return known[1]
        writer = Writer()
        writer.uint8(1)
        writer.uint8(NodeType.LEAF if isinstance(node, LeafNode) else NodeType.PARENT)
        node.write(writer)
        encoded = writer.getvalue()
        self._encodings[i] = (node, encoded)
        return encoded

    def _put(self, node: NodeIndex, value: Node | None) -> None:
        self._nodes[node] = value
        self._hashes[node] = None
        for above in tree_math.direct_path(node, self.leaf_count):
            self._hashes[above] = None

    def _require(self, leaf_index: LeafIndex) -> None:
        if self.leaf(leaf_index) is None:
            raise ValidationError("the leaf to change is blank or outside the tree")

    def _blank_path(self, leaf_index: LeafIndex) -> None:
        for node in tree_math.direct_path(tree_math.leaf_to_node(leaf_index), self.leaf_count):
            self._nodes[node] = None
            self._hashes[node] = None

    def _truncate(self) -> None:
        while len(self._nodes) > 1:
            half = len(self._nodes) // 2
            if any(self._nodes[half + 1 :: 2]):
                return
            del self._nodes[half:]
            del self._hashes[half:]

    def _add(self, leaf_node: LeafNode, start: int) -> LeafIndex:
        place = self._leftmost_blank(start)
        node = tree_math.leaf_to_node(place)
        for above in tree_math.direct_path(node, self.leaf_count):
            parent_node = self.parent(above)
            if parent_node is not None:
                leaves = tuple(sorted((*parent_node.unmerged_leaves, place)))
                self._nodes[above] = replace(parent_node, unmerged_leaves=leaves)
        self._put(node, leaf_node)
        return place

    def _leftmost_blank(self, start: int) -> LeafIndex:
        for i in range(start, self.leaf_count):
            if self._nodes[2 * i] is None:
                return LeafIndex(i)
        place = self.leaf_count
        if place >= MAX_LEAVES:
            raise ValidationError("ratchet tree has as many leaves as it may")
        self._nodes += [None] * (len(self._nodes) + 1)
        self._hashes += [None] * (len(self._hashes) + 1)
        return LeafIndex(place)

    def _has_nodes(self, node: NodeIndex) -> bool:
        reach = (1 << tree_math.level(node)) - 1
        return any(found is not None for found in self._nodes[node - reach : node + reach + 1])

    def _resolve(self, node: NodeIndex, found: list[NodeIndex]) -> None:
        value = self._nodes[node]
        if value is not None:
            found.append(node)
            if isinstance(value, ParentNode):
                found.extend(map(tree_math.leaf_to_node, value.unmerged_leaves))
        elif not tree_math.is_leaf(node):
            self._resolve(tree_math.left(node), found)
            self._resolve(tree_math.right(node), found)

    def _hash(self, suite: CipherSuite, node: NodeIndex) -> bytes:
        known = self._hashes[node]
        if known is None:
            if tree_math.is_leaf(node):
                leaf_index = tree_math.node_to_leaf(node)
                known = leaf_tree_hash(suite, leaf_index, self.leaf(leaf_index))
            else:
                left_hash = self._hash(suite, tree_math.left(node))
                right_hash = self._hash(suite, tree_math.right(node))
                known = parent_tree_hash(suite, self.parent(node), left_hash, right_hash)
            self._hashes[node] = known
        return known

    def _hash_without(self, suite: CipherSuite, node: NodeIndex, removed: set[NodeIndex]) -> bytes:
        below = {leaf for leaf in removed if tree_math.is_ancestor(node, leaf)}
        if not below:
            return self.tree_hash(suite, node)
        if tree_math.is_leaf(node):
            return leaf_tree_hash(suite, tree_math.node_to_leaf(node), None)
        parent_node = self.parent(node)
        if parent_node is not None:
            kept = (x for x in parent_node.unmerged_leaves if tree_math.leaf_to_node(x) not in below)
            parent_node = replace(parent_node, unmerged_leaves=tuple(kept))
        left_hash = self._hash_without(suite, tree_math.left(node), below)
        right_hash = self._hash_without(suite, tree_math.right(node), below)
        return parent_tree_hash(suite, parent_node, left_hash, right_hash)


def _read_node(reader: Reader) -> Node:
    if reader.enum8(NodeType) is NodeType.LEAF:
        return LeafNode.read(reader)
    return ParentNode.read(reader)
