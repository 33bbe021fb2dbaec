"""The largest and crookedest things that are still well formed: what a hostile member would make to keep others busy.

All is valid to the last signature where it says so, since what breaks a rule is refused before it costs much.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields

from heliograph.mls import tree_math
from heliograph.mls.group_context import GroupContext
from heliograph.mls.leaf_node import Capabilities, Credential, LeafNode, LeafNodeSource
from heliograph.mls.parent_node import ParentNode, parent_hash
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import CipherSuite, Random, SignatureKeyPair
from heliograph.mls.tree_math import LeafIndex, NodeIndex
from tests.mls.company import GROUP_ID, LIFETIME


@dataclass(frozen=True)
class Counts(CipherSuite):
    """A cipher suite that counts what it is asked to do; it does it all the same."""

    hashes: list[int] = field(default_factory=lambda: [0])
    signatures: list[int] = field(default_factory=lambda: [0])

    @classmethod
    def of(cls, suite: CipherSuite) -> "Counts":
        """Return the suite with its counts at zero."""
        given = {one.name: getattr(suite, one.name) for one in fields(suite) if one.init}
        return cls(**given)

    def hash(self, data: bytes) -> bytes:
        self.hashes[0] += 1
        return CipherSuite.hash(self, data)

    def verify_with_label(self, public: bytes, label: str, content: bytes, signature: bytes) -> None:
        self.signatures[0] += 1
        CipherSuite.verify_with_label(self, public, label, content, signature)


class Grower:
    """Makes full trees of which every node is in use and every second leaf is unmerged all the way up."""

    def __init__(self, suite: CipherSuite, random: Random) -> None:
        self.suite = suite
        self.random = random
        self.keys: list[SignatureKeyPair] = []

    def tree(self, leaf_count: int) -> RatchetTree:
        """Return a sound tree of this width, a power of two.

        Each parent node carries as many unmerged leaves as it can, so that each parent hash is taken over a subtree
        that must first be hashed anew without them: the costliest tree to check that there is, for its size.
        """
        self.keys = [self.suite.generate_signature_key(self.random) for _ in range(leaf_count)]
        nodes: list[LeafNode | ParentNode | None] = [None] * (2 * leaf_count - 1)
        for leaf in range(1, leaf_count, 2):
            nodes[2 * leaf] = self._leaf(leaf, None)
        self._set(nodes, tree_math.root(leaf_count), b"")
        return RatchetTree(nodes)

    def context(self, tree: RatchetTree) -> GroupContext:
        """Return the group context that goes with a tree."""
        return GroupContext(1, self.suite.id, GROUP_ID, 1, tree.tree_hash(self.suite), bytes(32))

    def _set(self, nodes: list[LeafNode | ParentNode | None], node: NodeIndex, hash_above: bytes) -> None:
        """Put a subtree's parents in place, from the right so that the left can be tied to what is there."""
        if tree_math.is_leaf(node):
            leaf = tree_math.node_to_leaf(node)
            nodes[node] = self._leaf(leaf, hash_above)
            return
        reach = (1 << tree_math.level(node)) - 1
        odd = tuple(LeafIndex(leaf) for leaf in range((node - reach) // 2, (node + reach) // 2 + 1) if leaf % 2)
        parent_node = ParentNode(self._key(), hash_above, odd)
        nodes[node] = parent_node
        right = tree_math.right(node)
        if not tree_math.is_leaf(right):
            self._set(nodes, right, b"")
        original = self._without_odd(nodes, right)
        self._set(nodes, tree_math.left(node), parent_hash(self.suite, parent_node, original))

    def _without_odd(self, nodes: list[LeafNode | ParentNode | None], top: NodeIndex) -> bytes:
        """Return the tree hash of a subtree as it was before the odd leaves were added."""
        reach = (1 << tree_math.level(top)) - 1
        first = top - reach
        bare: list[LeafNode | ParentNode | None] = [None] * (top + reach + 1)
        for at in range(first, top + reach + 1):
            node = nodes[at]
            is_odd_leaf = at % 4 == 2
            bare[at] = ParentNode(node.encryption_key, node.parent_hash) if isinstance(node, ParentNode) else node
            if is_odd_leaf:
                bare[at] = None
        full = 1
        while full < len(bare):
            full = 2 * full + 1
        return RatchetTree(bare + [None] * (full - len(bare))).tree_hash(self.suite, top)

    def _leaf(self, index: int, parent: bytes | None) -> LeafNode:
        keys = self.keys[index]
        leaf = LeafNode(
            encryption_key=self._key(),
            signature_key=keys.public,
            credential=Credential.basic(b"%d" % index),
            capabilities=Capabilities(cipher_suites=(self.suite.id,)),
            leaf_node_source=LeafNodeSource.KEY_PACKAGE if parent is None else LeafNodeSource.COMMIT,
            lifetime=LIFETIME if parent is None else None,
            parent_hash=parent,
        )
        return leaf.sign(self.suite, keys.private, GROUP_ID, LeafIndex(index))

    def _key(self) -> bytes:
        return self.random(32)


def nested(depth: int, wrap: Callable[[bytes], bytes]) -> bytes:
    """Return bytes put into a structure that is put into a structure, `depth` times."""
    data = b""
    for _ in range(depth):
        data = wrap(data)
    return data
