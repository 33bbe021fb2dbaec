"""The secret side of the ratchet tree: making, sealing and opening update paths (RFC 9420 §7.4 - §7.6).

    root                 commit_secret = DeriveSecret(path_secret[last], "path")
     ^                        ^
    path_secret[1]  = DeriveSecret(path_secret[0], "path")      each gives its node's HPKE key pair
     ^                        ^
    path_secret[0]       random, for the lowest node of the sender's filtered direct path

The sender seals path_secret[i] to everyone below the other child of node i: to the resolution of that child, without
the leaves that the same commit adds (they get theirs in the Welcome). A receiver finds the one ciphertext that is for
a key it holds, opens it, and derives all that is above.

`PrivateKeys` are the HPKE private keys that a member holds: its leaf's, and those of the nodes above it that it was
told. The ratchet tree (`ratchet_tree.py`) knows the public halves and decides which nodes a path has.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from heliograph.mls import tree_math
from heliograph.mls.codec import Reader, Struct, Writer
from heliograph.mls.commit import UpdatePath, UpdatePathNode
from heliograph.mls.errors import DecodeError, StateError, ValidationError, VerificationError
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import CipherSuite, Random, Secret
from heliograph.mls.tree_math import LeafIndex, NodeIndex
from heliograph.mls.update_path import path_receivers

_LABEL = "UpdatePathNode"


@dataclass(frozen=True, slots=True)
class PathStep:
    """One node of a path with its secret and the key pair that follows from it."""

    node: NodeIndex
    path_secret: Secret
    private_key: Secret
    public_key: bytes


@dataclass(frozen=True, slots=True)
class PrivateKeys(Struct):
    """The HPKE private keys of one member, by node; always that of its leaf."""

    leaf_index: LeafIndex
    keys: Mapping[NodeIndex, Secret] = field(repr=False)

    def write(self, writer: Writer) -> None:
        """Append the leaf index and all keys."""
        writer.uint32(self.leaf_index)
        writer.uint32(len(self.keys))
        for node, key in sorted(self.keys.items()):
            writer.uint32(node)
            writer.opaque(key)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read what `write` wrote; raises DecodeError."""
        leaf_index = LeafIndex(reader.uint32())
        count = reader.uint32()
        keys: dict[NodeIndex, Secret] = {}
        last = -1
        for _ in range(count):
            node = NodeIndex(reader.uint32())
            if node <= last:
                raise DecodeError("private keys are not in order of their nodes")
            keys[node] = Secret(reader.opaque())
            last = node
        return cls(leaf_index, keys)

    def with_path(self, steps: Sequence[PathStep]) -> Self:
        """Return the keys with those of a path's nodes."""
        return type(self)(self.leaf_index, {**self.keys, **{step.node: step.private_key for step in steps}})

    def check_complete(self, tree: RatchetTree) -> None:
        """Raise ValidationError unless there is a key for each node above the own leaf that counts it as merged.

        Without one, a member could not follow the next commit from the other side of that node.
        Source: RFC 9420 §4.2, §12.4.3.1.
        """
        for node in tree_math.direct_path(tree_math.leaf_to_node(self.leaf_index), tree.leaf_count):
            parent_node = tree.parent(node)
            if parent_node is None or self.leaf_index in parent_node.unmerged_leaves or node in self.keys:
                continue
            raise ValidationError("welcome has no path secret for a node above the newcomer")

    def pruned(self, tree: RatchetTree) -> Self:
        """Return the keys without those of nodes that are blank in the tree, or no longer above the own leaf.

        Source: RFC 9420 §9.2.
        """
        own = tree_math.leaf_to_node(self.leaf_index)
        above = {own, *tree_math.direct_path(own, tree.leaf_count)}
        kept = {node: key for node, key in self.keys.items() if node in above and not tree.is_blank(node)}
        return type(self)(self.leaf_index, kept)


def derive_path(
    suite: CipherSuite, nodes: Sequence[NodeIndex], first_path_secret: bytes
) -> tuple[tuple[PathStep, ...], Secret]:
    """Return the steps for `nodes`, lowest first, and the commit_secret above the last.

    Source: RFC 9420 §7.4.
    """
    path_secret = Secret(first_path_secret)
    steps: list[PathStep] = []
    for node in nodes:
        private_key, public_key = suite.derive_key_pair(suite.derive_secret(path_secret, "node"))
        steps.append(PathStep(node, path_secret, private_key, public_key))
        path_secret = suite.derive_secret(path_secret, "path")
    return tuple(steps), path_secret


def create_path(
    suite: CipherSuite, tree: RatchetTree, sender: LeafIndex, random: Random
) -> tuple[tuple[PathStep, ...], Secret]:
    """Return fresh steps for the filtered direct path of the sender, and the commit_secret.

    Source: RFC 9420 §7.4.
    """
    nodes = [node for node, _ in tree.filtered_direct_path(sender)]
    return derive_path(suite, nodes, random(suite.hash_length))


def seal_path(
    suite: CipherSuite,
    tree: RatchetTree,
    sender: LeafIndex,
    steps: Sequence[PathStep],
    group_context: bytes,
    added: Collection[LeafIndex],
) -> tuple[UpdatePathNode, ...]:
    """Return the nodes of an UpdatePath: each path secret sealed to those who need it.

    tree: after the proposals and the path; group_context: the encoded provisional context of the new epoch;
    added: leaves that the commit adds, which get no ciphertext. Source: RFC 9420 §7.6.
    """
    path = tree.filtered_direct_path(sender)
    return tuple(
        UpdatePathNode(
            encryption_key=step.public_key,
            encrypted_path_secret=tuple(
                suite.encrypt_with_label(tree.public_key(node), _LABEL, group_context, step.path_secret)
                for node in path_receivers(tree, copath_child, added)
            ),
        )
        for step, (_, copath_child) in zip(steps, path, strict=True)
    )


def open_path(
    suite: CipherSuite,
    tree: RatchetTree,
    own: PrivateKeys,
    sender: LeafIndex,
    path: UpdatePath,
    group_context: bytes,
    added: Collection[LeafIndex],
) -> tuple[PrivateKeys, Secret]:
    """Return the own keys with those that the path renews, and the commit_secret.

    tree, group_context, added: as for `seal_path`; the path's form is checked by `update_path` before. Raises
    VerificationError when the secret does not open or does not give the path's public keys, StateError when there is
    none for this member.
    Source: RFC 9420 §7.5, §7.6.
    """
    nodes = tree.filtered_direct_path(sender)
    own_node = tree_math.leaf_to_node(own.leaf_index)
    start = next((i for i, (_, child) in enumerate(nodes) if tree_math.is_ancestor(child, own_node)), None)
    if start is None or start >= len(path.nodes):
        raise StateError("update path does not pass above this member")
    receivers = path_receivers(tree, nodes[start][1], added)
    ciphertexts = path.nodes[start].encrypted_path_secret
    position = next((i for i, node in enumerate(receivers) if node in own.keys), len(ciphertexts))
    if position >= len(ciphertexts):
        raise StateError("update path holds no secret that this member can open")
    private_key = own.keys[receivers[position]]
    path_secret = suite.decrypt_with_label(private_key, _LABEL, group_context, ciphertexts[position])
    steps, commit_secret = derive_path(suite, [node for node, _ in nodes[start:]], path_secret)
    check_path_keys(tree, steps)
    return own.with_path(steps), commit_secret


def steps_from_secret(
    suite: CipherSuite, tree: RatchetTree, sender: LeafIndex, own_leaf: LeafIndex, path_secret: bytes
) -> tuple[PathStep, ...]:
    """Return the steps that a newcomer learns from the path secret in its Welcome.

    sender: who committed. Raises VerificationError when they do not fit the tree. Source: RFC 9420 §12.4.3.1.
    """
    above = tree_math.common_ancestor(tree_math.leaf_to_node(sender), tree_math.leaf_to_node(own_leaf))
    nodes = [node for node, _ in tree.filtered_direct_path(sender)]
    if above not in nodes:
        raise ValidationError("welcome has a path secret for a node that is not on the path")
    steps, _ = derive_path(suite, nodes[nodes.index(above) :], path_secret)
    check_path_keys(tree, steps)
    return steps


def path_secret_for(steps: Sequence[PathStep], sender: LeafIndex, newcomer: LeafIndex) -> Secret:
    """Return the path secret of the lowest node above both, which goes into the newcomer's Welcome.

    Source: RFC 9420 §12.4.3.1.
    """
    above = tree_math.common_ancestor(tree_math.leaf_to_node(sender), tree_math.leaf_to_node(newcomer))
    return next(step.path_secret for step in steps if step.node == above)


def check_path_keys(tree: RatchetTree, steps: Sequence[PathStep]) -> None:
    """Raise VerificationError unless each derived public key is the one in the tree.

    Source: RFC 9420 §7.5, §12.4.3.1.
    """
    for step in steps:
        if tree.is_blank(step.node) or tree.public_key(step.node) != step.public_key:
            raise VerificationError("path secret does not give the public key that is in the tree")
