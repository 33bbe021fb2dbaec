"""The Merkle tree of RFC 6962 and RFC 9162, over SHA-256.

Theory of operation. A leaf hashes as SHA-256(0x00 || entry) and an inner node as SHA-256(0x01 || left ||
right), so no inner node can be passed off as an entry. The *complete* node (level, index) covers the
entries from index * 2**level up to (index + 1) * 2**level and never changes once they exist: those nodes
are what a log stores. Every other hash (a root, a node of a proof) is the hash of a range, and a range is
folded from complete nodes, right to left. So a proof needs about log2(size) stored hashes and nothing else.

Verification follows the algorithms of RFC 9162 and raises ProofError; it never returns a bool.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from heliograph.tlog.errors import ProofError

HASH_SIZE_BYTES: Final = 32
MAX_TREE_SIZE: Final = (1 << 63) - 1
EMPTY_ROOT: Final = hashlib.sha256().digest()

ReadHash = Callable[[int, int], bytes]
"""Return the 32-byte hash of the complete node (level, index)."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry.

    Source: RFC 9162 §2.1.1.
    """
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node.

    Source: RFC 9162 §2.1.1.
    """
    return hashlib.sha256(b"\x01" + left + right).digest()


def complete_nodes(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the complete nodes (level, index) that cover the entries from `start` up to `end`, left to right."""
    while start < end:
        level = (end - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        yield level, start >> level
        start += 1 << level


def range_hash(start: int, end: int, read_hash: ReadHash) -> bytes:
    """Return the hash of the entries from `start` up to `end`: a node of a tree that ends at `end`.

    `start` must be where such a node begins, as in any range that RFC 9162 §2.1.1 splits off.
    """
    if start == end:
        return EMPTY_ROOT
    return fold([read_hash(level, index) for level, index in complete_nodes(start, end)])


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root over complete nodes given left to right (largest first); of none, the hash of an empty tree."""
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def root_hash(size: int, read_hash: ReadHash) -> bytes:
    """Return the root of the tree of the first `size` entries."""
    return range_hash(0, size, read_hash)


def inclusion_proof(index: int, size: int, read_hash: ReadHash) -> tuple[bytes, ...]:
    """Return the hashes that prove entry `index` to be in the tree of `size` entries, leaf's sibling first.

    Raises:
        ProofError: there is no such entry in a tree of that size.

    Source: RFC 9162 §2.1.3.1.
    """
    if not 0 <= index < size:
        raise ProofError(f"There is no entry {index} in a log of {size} entries.")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(range_hash(middle, end, read_hash))
            end = middle
        else:
            path.append(range_hash(start, middle, read_hash))
            start = middle
    return tuple(reversed(path))


def consistency_proof(size1: int, size2: int, read_hash: ReadHash) -> tuple[bytes, ...]:
    """Return the hashes that prove the tree of `size2` entries to continue the tree of `size1` entries.

    Raises:
        ProofError: `size1` is zero or beyond `size2`; nothing can be proved about those.

    Source: RFC 9162 §2.1.4.1.
    """
    if not 0 < size1 <= size2:
        raise ProofError(f"There is no consistency proof from size {size1} to size {size2}.")
    path: list[bytes] = []
    start, end = 0, size2
    known = True  # the subtree at hand is, so far, one that the holder of the old root knows
    while size1 != end:
        middle = start + _split(end - start)
        if size1 <= middle:
            path.append(range_hash(middle, end, read_hash))
            end = middle
        else:
            path.append(range_hash(start, middle, read_hash))
            start, known = middle, False
    if not known:
        path.append(range_hash(start, end, read_hash))
    return tuple(reversed(path))


def root_from_inclusion_proof(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """Return the root that an inclusion proof leads to, from the leaf hash upward.

    Raises:
        ProofError: the index is outside the tree, or the proof has the wrong number or size of hashes.

    Source: RFC 9162 §2.1.3.2.
    """
    if not 0 <= index < size <= MAX_TREE_SIZE:
        raise ProofError(f"The proof is for entry {index}, which a log of {size} entries does not have.")
    _check_hashes(leaf, *proof)
    position, last, root = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError("The inclusion proof has too many hashes for a log of this size.")
        if position & 1 or position == last:
            root = node_hash(sibling, root)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise ProofError("The inclusion proof has too few hashes for a log of this size.")
    return root


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the entry with hash `leaf` is number `index` in the tree of `size` entries under `root`.

    Raises:
        ProofError: it is not, or the proof is malformed.

    Source: RFC 9162 §2.1.3.2.
    """
    _check_hashes(root)
    if not hmac.compare_digest(root_from_inclusion_proof(index, size, leaf, proof), root):
        raise ProofError("The inclusion proof does not lead from this entry to the log's root hash.")


def verify_consistency(size1: int, size2: int, root1: bytes, root2: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree (`size2`, `root2`) begins with all the entries of the tree (`size1`, `root1`).

    From the empty tree every tree goes on, with an empty proof.

    Raises:
        ProofError: it does not, or the proof is malformed.

    Source: RFC 9162 §2.1.4.2.
    """
    if not 0 <= size1 <= size2 <= MAX_TREE_SIZE:
        raise ProofError(f"A log of {size2} entries cannot continue one of {size1}.")
    if size1 != size2:
        _check_hashes(root1, root2, *proof)
    if size1 in (0, size2):
        if proof:
            raise ProofError("There is nothing to prove between these sizes, and yet the proof has hashes.")
        if not hmac.compare_digest(root1, EMPTY_ROOT if size1 == 0 else root2):
            raise ProofError("Two different root hashes are given for logs of the same size.")
        if size2 == 0 and not hmac.compare_digest(root2, EMPTY_ROOT):
            raise ProofError("The root hash of an empty log is wrong.")
        return
    first, second = _roots_from_consistency_proof(size1, size2, root1, proof)
    if not hmac.compare_digest(first, root1):
        raise ProofError("The consistency proof does not lead to the older root hash.")
    if not hmac.compare_digest(second, root2):
        raise ProofError("The consistency proof does not lead to the newer root hash.")


def _roots_from_consistency_proof(size1: int, size2: int, root1: bytes, proof: Sequence[bytes]) -> tuple[bytes, bytes]:
    # A tree whose size is a power of two is itself a node of the newer tree; the proof then leaves its root out.
    path = [root1, *proof] if size1 & (size1 - 1) == 0 else list(proof)
    if not proof or not path:
        raise ProofError("The consistency proof is empty.")
    position, last = size1 - 1, size2 - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofError("The consistency proof has too many hashes for logs of these sizes.")
        if position & 1 or position == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise ProofError("The consistency proof has too few hashes for logs of these sizes.")
    return first, second


def _split(size: int) -> int:
    """The largest power of two below `size`: where RFC 9162 §2.1.1 divides a tree."""
    return 1 << (size - 1).bit_length() - 1


def _check_hashes(*hashes: bytes) -> None:
    if any(len(one) != HASH_SIZE_BYTES for one in hashes):
        raise ProofError("A hash in the proof has another size than 32 bytes.")
