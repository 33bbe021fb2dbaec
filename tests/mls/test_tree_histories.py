"""Long histories of one ratchet tree: what it kept up step by step is what a tree says that is read from its bytes.

The tree shares subtrees, remembers hashes and resolutions, and counts keys as they come and go. Nothing of that may
show. After each step the kept tree is held against one that `decode` makes anew, and against an array of nodes to
which the RFC's words are done one by one.
"""

import random
from collections.abc import Callable, Sequence

import pytest

from heliograph.mls import tree_math
from heliograph.mls.census import Node
from heliograph.mls.credential import Credential
from heliograph.mls.errors import MLSError
from heliograph.mls.leaf_node import Capabilities, LeafNode, LeafNodeSource
from heliograph.mls.parent_node import ParentNode
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import cipher_suite
from heliograph.mls.tree_math import LeafIndex, NodeIndex

SUITE = cipher_suite(1)


class ArrayTree:
    """RFC 9420 §7.7 and §12.1 done to an array: slow, and with nothing remembered."""

    def __init__(self, nodes: Sequence[Node | None]) -> None:
        self.nodes = list(nodes)

    @property
    def leaf_count(self) -> int:
        return (len(self.nodes) + 1) // 2

    def above(self, leaf: LeafIndex) -> tuple[NodeIndex, ...]:
        return tree_math.direct_path(tree_math.leaf_to_node(leaf), self.leaf_count)

    def resolution(self, node: NodeIndex) -> list[NodeIndex]:
        here = self.nodes[node]
        if here is not None:
            unmerged = here.unmerged_leaves if isinstance(here, ParentNode) else ()
            return [node, *map(tree_math.leaf_to_node, unmerged)]
        if tree_math.is_leaf(node):
            return []
        return [*self.resolution(tree_math.left(node)), *self.resolution(tree_math.right(node))]

    def put(self, leaf: LeafIndex, leaf_node: LeafNode | None) -> None:
        """Change a leaf by an Update or Remove."""
        self.nodes[2 * leaf] = leaf_node
        for node in self.above(leaf):
            self.nodes[node] = None

    def truncate(self) -> None:
        while len(self.nodes) > 1 and not any(self.nodes[len(self.nodes) // 2 + 1 :: 2]):
            del self.nodes[len(self.nodes) // 2 :]

    def reserve(self) -> LeafIndex:
        if None not in self.nodes[::2]:
            self.nodes += [None] * (len(self.nodes) + 1)
        return LeafIndex(self.nodes[::2].index(None))

    def add(self, leaf_node: LeafNode) -> None:
        place = self.reserve()
        self.nodes[2 * place] = leaf_node
        for node in self.above(place):
            here = self.nodes[node]
            if isinstance(here, ParentNode):
                merged = tuple(sorted((*here.unmerged_leaves, place)))
                self.nodes[node] = ParentNode(here.encryption_key, here.parent_hash, merged)

    def filtered_path(self, leaf: LeafIndex) -> list[tuple[NodeIndex, NodeIndex]]:
        beside = tree_math.copath(tree_math.leaf_to_node(leaf), self.leaf_count)
        steps = zip(self.above(leaf), beside, strict=True)
        return [(node, child) for node, child in steps if self.resolution(child)]


class History:
    """One tree, the array that must stand beside it, and every key that was ever in either."""

    def __init__(self, seed: int, most_members: int) -> None:
        self.chance = random.Random(seed)
        self.most_members = most_members
        self.keys: list[bytes] = []
        self.tree = RatchetTree.of_leaf(self.leaf())
        self.array = ArrayTree(self.tree.nodes())

    def key(self) -> bytes:
        """Return a key, now and then one that is or was in use, as a hostile proposal would have it."""
        again = self.keys and self.chance.random() < 0.02
        self.keys.append(self.chance.choice(self.keys) if again else self.chance.randbytes(6))
        return self.keys[-1]

    def leaf(self) -> LeafNode:
        kind = self.chance.choice([1, 1, 1, 2, 7])
        credentials = {kind, *self.chance.sample([1, 2, 7], self.chance.randrange(4))}
        capabilities = Capabilities(credentials=tuple(sorted(credentials)))
        parent_hash = self.chance.randbytes(2)
        return LeafNode(
            self.key(),
            self.key(),
            Credential(kind, b""),
            capabilities,
            LeafNodeSource.COMMIT,
            parent_hash=parent_hash,
        )

    def members(self) -> list[LeafIndex]:
        return [member.leaf_index for member in self.tree.members()]

    def proposals(self) -> None:
        members = self.members()
        self.chance.shuffle(members)
        # The first one commits, and so stays.
        changed = self.chance.choice([0, 0, 1, 2])
        gone = self.chance.choice([0, 0, 1, 3] if len(members) < self.most_members else [3, 8, len(members)])
        updated = {leaf: self.leaf() for leaf in members[1 : 1 + changed]}
        removed = members[1 + changed :][:gone]
        added = [self.leaf() for _ in range(self.chance.choice([0, 0, 1, 1, 2, 7]))]
        self.tree, _ = self.tree.apply(updated=updated, removed=removed, added=added)
        for leaf, leaf_node in [*updated.items(), *((leaf, None) for leaf in removed)]:
            self.array.put(leaf, leaf_node)
        if removed:
            self.array.truncate()
        for leaf_node in added:
            self.array.add(leaf_node)

    def path(self) -> None:
        sender = self.chance.choice(self.members())
        if self.chance.random() < 0.2:
            self.tree, sender = self.tree.reserve_leaf()
            assert sender == self.array.reserve()
        steps = self.array.filtered_path(sender)
        public_keys, leaf = [self.key() for _ in steps], self.leaf()
        if self.chance.random() < 0.5:
            self.tree, _ = self.tree.merge_path(SUITE, sender, public_keys, leaf)
        else:
            self.tree = self.tree.merge_path(SUITE, sender, public_keys)[0].set_leaf(sender, leaf)
        self.array.put(sender, leaf)
        for (node, _), public_key in zip(steps, public_keys, strict=True):
            found = self.tree.parent(node)  # its parent_hash is for the official vectors to judge
            assert found is not None
            self.array.nodes[node] = ParentNode(public_key, found.parent_hash)

    def step(self) -> None:
        # What is asked for in between is remembered; mostly it is not.
        if self.chance.random() < 0.3:
            self.tree.tree_hash(SUITE)
        if self.chance.random() < 0.3:
            self.tree.has_encryption_key(b"")
        if self.chance.random() < 0.7:
            self.proposals()
        if self.chance.random() < 0.7:
            self.path()
        self.check()

    def check(self) -> None:
        kept, anew = self.tree, RatchetTree.decode(self.tree.encode())
        assert kept.nodes() == anew.nodes() == self.array.nodes
        assert kept.leaf_count == anew.leaf_count == self.array.leaf_count
        assert kept.members() == anew.members()
        for node in map(NodeIndex, range(len(self.array.nodes))):
            assert list(kept.resolution(node)) == list(anew.resolution(node)) == self.array.resolution(node)
            assert kept.resolution_size(node) == len(kept.resolution(node))
            assert kept.tree_hash(SUITE, node) == anew.tree_hash(SUITE, node)
        for leaf in map(LeafIndex, range(kept.leaf_count)):
            assert list(kept.filtered_direct_path(leaf)) == self.array.filtered_path(leaf)
        for key in self.keys[-200:]:
            assert kept.has_encryption_key(key) == anew.has_encryption_key(key)
            assert kept.has_signature_key(key) == anew.has_signature_key(key)
        assert refusal(kept.check_unique_keys) == refusal(anew.check_unique_keys)
        assert refusal(lambda: kept.check_capabilities(())) == refusal(lambda: anew.check_capabilities(()))


def refusal(check: Callable[[], None]) -> str | None:
    try:
        check()
    except MLSError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("seed", "most_members", "steps"), [(1, 3, 900), (2, 9, 700), (3, 17, 600), (4, 70, 250)])
def test_a_tree_that_lived_long_is_the_tree_that_its_bytes_say(seed: int, most_members: int, steps: int):
    history = History(seed, most_members)
    former: list[tuple[RatchetTree, bytes]] = []
    for number in range(steps):
        if number % 20 == 0:
            former.append((history.tree, history.tree.encode()))
        history.step()
    for tree, encoded in former:
        assert tree.encode() == encoded
        assert tree.tree_hash(SUITE) == RatchetTree.decode(encoded).tree_hash(SUITE)


@pytest.mark.parametrize("fault", ["_hash", "_resolution"])
def test_a_memory_that_outlives_a_change_is_noticed(fault: str):
    history = History(5, 9)
    for _ in range(10):
        history.step()
    history.tree.tree_hash(SUITE)
    history.tree.resolution(tree_math.root(history.tree.leaf_count))
    setattr(history.tree._root, fault, {"_hash": bytes(32), "_resolution": ()}[fault])
    with pytest.raises(AssertionError):
        history.check()
