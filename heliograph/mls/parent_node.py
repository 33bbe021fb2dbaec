"""Parent nodes, and what is hashed for a node of the ratchet tree (RFC 9420 §7.1, §7.8, §7.9).

A tree hash covers a subtree as it stands. A parent hash covers a parent's key, what is above it, and the
sibling subtree as it stood when the parent was set; it ties the parent to whoever set it.
"""

from dataclasses import dataclass
from enum import IntEnum

from heliograph.mls.codec import Reader, Struct, Writer, opaque
from heliograph.mls.leaf_node import LeafNode
from heliograph.mls.suite import CipherSuite
from heliograph.mls.tree_math import LeafIndex


class NodeType(IntEnum):
    """What stands at a node. Source: RFC 9420 §7.8."""

    LEAF = 1
    PARENT = 2


@dataclass(frozen=True, slots=True)
class ParentNode(Struct):
    """A node whose private key the members below it hold, except the unmerged ones. Source: RFC 9420 §7.1."""

    encryption_key: bytes
    parent_hash: bytes = b""
    unmerged_leaves: tuple[LeafIndex, ...] = ()

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.opaque(self.encryption_key)
        writer.opaque(self.parent_hash)
        writer.uint32_vector(self.unmerged_leaves)

    @classmethod
    def read(cls, reader: Reader) -> "ParentNode":
        """Read one; raises DecodeError."""
        encryption_key = reader.opaque()
        parent_hash = reader.opaque()
        return cls(encryption_key, parent_hash, tuple(map(LeafIndex, reader.uint32_vector())))


def leaf_tree_hash(suite: CipherSuite, leaf_index: LeafIndex, leaf_node: LeafNode | None) -> bytes:
    """Return the tree hash of a leaf. Source: RFC 9420 §7.8."""
    return suite.hash(
        _LEAF + leaf_index.to_bytes(4) + (_ABSENT if leaf_node is None else _PRESENT + leaf_node.encode())
    )


def parent_tree_hash(suite: CipherSuite, parent_node: ParentNode | None, left_hash: bytes, right_hash: bytes) -> bytes:
    """Return the tree hash of a parent from those of its children. Source: RFC 9420 §7.8."""
    node = _ABSENT if parent_node is None else _PRESENT + parent_node.encode()
    return suite.hash(_PARENT + node + opaque(left_hash) + opaque(right_hash))


def parent_hash(suite: CipherSuite, parent_node: ParentNode, original_sibling_tree_hash: bytes) -> bytes:
    """Return the parent hash of a parent with the child whose original tree hash is given.

    Source: RFC 9420 §7.9.
    """
    above = opaque(parent_node.encryption_key) + opaque(parent_node.parent_hash)
    return suite.hash(above + opaque(original_sibling_tree_hash))


_LEAF, _PARENT = bytes((NodeType.LEAF,)), bytes((NodeType.PARENT,))
_ABSENT, _PRESENT = b"\0", b"\1"
