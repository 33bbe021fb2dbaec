"""An append-only log as a value: its size and its frontier.

Theory of operation. The *frontier* is the row of complete nodes along the right edge, largest first: at
most one for each bit of the size. It is all that is needed to append and to compute the root, so a client
that replicates a log keeps only this. Appending returns a new `Log` and the complete nodes that came into
being; the caller stores those in the same transaction as the entries, and serves proofs and tiles from what
it stored. Two nodes an entry, on average.

    log, nodes = log.append(entries)        # then store `nodes`, each once and for ever
    log.inclusion_proof(index, read_hash)   # read_hash(level, index) -> a stored node's hash
"""

from collections.abc import Iterable
from dataclasses import dataclass

from heliograph.tlog import merkle
from heliograph.tlog.errors import ProofError
from heliograph.tlog.merkle import ReadHash


@dataclass(frozen=True, slots=True)
class Node:
    """A complete node: the hash of the entries from index * 2**level up to (index + 1) * 2**level."""

    level: int
    index: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Log:
    """The first `size` entries of a log; `frontier` holds one hash for each bit set in `size`, largest node first."""

    size: int = 0
    frontier: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.frontier) != self.size.bit_count():
            raise ProofError("The frontier does not fit the size of the log.")

    @classmethod
    def load(cls, size: int, read_hash: ReadHash) -> "Log":
        """Return the log of `size` entries from its stored nodes."""
        nodes = merkle.complete_nodes(0, size)
        return cls(size, tuple(read_hash(level, index) for level, index in nodes))

    @property
    def root(self) -> bytes:
        """Return the 32-byte root hash."""
        return merkle.fold(self.frontier)

    def append(self, entries: Iterable[bytes]) -> "tuple[Log, tuple[Node, ...]]":
        """Return the log with these entries after its own, and the nodes to store, children before parents."""
        return self.append_hashes(merkle.leaf_hash(entry) for entry in entries)

    def append_hashes(self, leaf_hashes: Iterable[bytes]) -> "tuple[Log, tuple[Node, ...]]":
        """Append as `append` does, given each entry's leaf hash."""
        size, frontier = self.size, list(self.frontier)
        nodes: list[Node] = []
        for leaf in leaf_hashes:
            node = Node(0, size, leaf)
            nodes.append(node)
            while node.index & 1:
                parent = merkle.node_hash(frontier.pop(), node.hash)
                node = Node(node.level + 1, node.index >> 1, parent)
                nodes.append(node)
            frontier.append(node.hash)
            size += 1
        return Log(size, tuple(frontier)), tuple(nodes)

    def inclusion_proof(self, index: int, read_hash: ReadHash) -> tuple[bytes, ...]:
        """Return the proof that entry `index` is in this log; raises ProofError where there is no such entry."""
        return merkle.inclusion_proof(index, self.size, read_hash)

    def consistency_proof(self, older_size: int, read_hash: ReadHash) -> tuple[bytes, ...]:
        """Return the proof that this log continues its first `older_size` (from 1) entries; raises ProofError."""
        return merkle.consistency_proof(older_size, self.size, read_hash)
