"""Commits, which put proposals into effect, and the update path that a commit may carry (RFC 9420 §12.4, §7.6)."""

from collections.abc import Sequence
from dataclasses import dataclass

from heliograph.mls.codec import Reader, Struct, Writer
from heliograph.mls.leaf_node import LeafNode
from heliograph.mls.proposal import ProposalOrRef
from heliograph.mls.sealed_secrets import read_sealed_secrets
from heliograph.mls.suite import HPKECiphertext

__all__ = ["Commit", "HPKECiphertext", "UpdatePath", "UpdatePathNode"]


# A stranger's smallest items are two bytes, and cost fifty times as much once they are read. A policy permits far fewer
# proposals; no leaf has more nodes above it than its index has bits.
MAX_PROPOSALS = 1 << 14
MAX_PATH_NODES = 32


@dataclass(frozen=True, slots=True)
class UpdatePathNode(Struct):
    """A new public key, and its path secret once for each node of the copath's resolution.

    Source: RFC 9420 §7.6.
    """

    encryption_key: bytes
    encrypted_path_secret: Sequence[HPKECiphertext]

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.opaque(self.encryption_key)
        writer.vector(self.encrypted_path_secret)

    @classmethod
    def read(cls, reader: Reader) -> "UpdatePathNode":
        """Read one; raises DecodeError."""
        return cls(reader.opaque(), read_sealed_secrets(reader))


@dataclass(frozen=True, slots=True)
class UpdatePath(Struct):
    """The committer's new leaf and the new nodes of its filtered direct path, lowest first.

    Source: RFC 9420 §7.6.
    """

    leaf_node: LeafNode
    nodes: tuple[UpdatePathNode, ...]

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        self.leaf_node.write(writer)
        writer.vector(self.nodes)

    @classmethod
    def read(cls, reader: Reader) -> "UpdatePath":
        """Read one; raises DecodeError."""
        return cls(LeafNode.read(reader), reader.vector(UpdatePathNode.read, MAX_PATH_NODES))


@dataclass(frozen=True, slots=True)
class Commit(Struct):
    """Proposals to apply, and a path unless none is needed. Source: RFC 9420 §12.4."""

    proposals: tuple[ProposalOrRef, ...]
    path: UpdatePath | None = None

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.vector(self.proposals)
        writer.optional(self.path)

    @classmethod
    def read(cls, reader: Reader) -> "Commit":
        """Read one; raises DecodeError."""
        return cls(reader.vector(ProposalOrRef.read, MAX_PROPOSALS), reader.optional(UpdatePath.read))
