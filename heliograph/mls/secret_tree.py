"""One-time keys for every message of an epoch (RFC 9420 §9).

Theory of operation. The encryption_secret is the root of a tree shaped like the ratchet tree. Each node's secret
gives its children's; a leaf's gives two hash ratchets, one for handshakes and one for application data, and every
step of a ratchet gives one key and nonce:

    encryption_secret -> ... -> leaf secret -> "handshake"   -> generation 0, 1, 2 ...
                                            -> "application" -> generation 0, 1, 2 ...

Forward secrecy asks that whatever was used is deleted (§9.2). The root is therefore expanded only along the path to a
leaf that is needed for the first time; the nodes on the path go, their siblings stay. A ratchet keeps the secret of
its next generation only. Keys that were jumped over, because messages overtook each other, are kept one by one until
they are used, at most `MAX_SKIPPED_KEYS` a sender; a jump of more than `MAX_STEPS` is refused before any work is done.

The tree *is* its saved rows: a flat mapping from row name to bytes that is copied, never changed. Taking a key
changes one row of a few hundred bytes (a sender's first also the log2(N) rows beside its path), so a store that
compares the rows before and after writes little. The value before a key was taken can still yield that key: whoever
holds the state must drop the old value, and does so by storing the new one in the transaction that tells the message.

    secret_tree/<epoch>/leaf_count          the width of the tree, 4 bytes
    secret_tree/<epoch>/node/<node index>   secret of a node that is not yet expanded
    secret_tree/<epoch>/leaf/<leaf index>   both ratchets of a sender, then the keys it was jumped over

Every row ends with the digest of `saved_row`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from heliograph.mls import tree_math
from heliograph.mls.errors import StateError, ValidationError
from heliograph.mls.framing import ContentType
from heliograph.mls.saved_row import checked, closed, content_of
from heliograph.mls.suite import CipherSuite, Secret
from heliograph.mls.tree_math import LeafIndex, NodeIndex

MAX_STEPS = 1000
MAX_SKIPPED_KEYS = 64
MAX_GENERATION = 0xFFFFFFFF

_APPLICATION = 0
_HANDSHAKE = 1


@dataclass(frozen=True, slots=True)
class MessageKey:
    """The AEAD key and nonce of one message; the nonce is still to be mixed with the reuse guard."""

    generation: int
    key: Secret
    nonce: Secret


@dataclass(frozen=True, slots=True)
class SecretTree:
    """The unused keys of one epoch; taking one returns a new tree without it."""

    suite: CipherSuite
    epoch: int
    leaf_count: int
    rows: Mapping[str, bytes]

    def __repr__(self) -> str:
        return f"SecretTree(epoch={self.epoch}, leaf_count={self.leaf_count})"

    @classmethod
    def create(cls, suite: CipherSuite, epoch: int, leaf_count: int, encryption_secret: bytes) -> Self:
        """Return the untouched tree of an epoch.

        leaf_count: the width of the ratchet tree, a power of two. Source: RFC 9420 §9.
        """
        rows: dict[str, bytes] = {}
        _put(rows, f"{_prefix(epoch)}leaf_count", leaf_count.to_bytes(4))
        _put(rows, _node_row(epoch, tree_math.root(leaf_count)), encryption_secret)
        return cls(suite, epoch, leaf_count, rows)

    @classmethod
    def load(cls, suite: CipherSuite, epoch: int, rows: Mapping[str, bytes]) -> Self:
        """Return the tree of an epoch from among the rows of a saved group.

        Raises StateError where a row is missing, damaged or left over: the rows must hold each leaf's keys once.
        """
        prefix = _prefix(epoch)
        width = checked(rows, f"{prefix}leaf_count")
        tree = cls(suite, epoch, int.from_bytes(width), {n: row for n, row in rows.items() if n.startswith(prefix)})
        if tree.leaf_count.bit_count() != 1:
            raise StateError("the message keys of an epoch are for a tree of no possible width")
        tree._check_rows()
        return tree

    def _check_rows(self) -> None:
        leaves = 0
        for name in self.rows:
            content = checked(self.rows, name)
            kind, _, number = name.removeprefix(_prefix(self.epoch)).partition("/")
            if kind == "node" and number.isdecimal() and len(content) == self.suite.hash_length:
                leaves += 1 << tree_math.level(NodeIndex(int(number)))
            elif kind == "leaf":
                _Ratchets.decode(self.suite, content)
                leaves += 1
            elif kind != "leaf_count":
                raise StateError("a row of the saved group does not hold what it should")
        if leaves != self.leaf_count:
            raise StateError("the message keys of an epoch are not all there, or some are there twice")

    def next_key(self, leaf: LeafIndex, content_type: ContentType) -> tuple[Self, MessageKey]:
        """Return the tree without the next key of a ratchet, and that key: for sending.

        Raises StateError when the ratchet is spent. Source: RFC 9420 §9.1.
        """
        rows = dict(self.rows)
        ratchets = self._ratchets(rows, leaf)
        taken = ratchets.advance(_kind(content_type), 1)
        _put(rows, _leaf_row(self.epoch, leaf), ratchets.encode())
        return self._with(rows), taken

    def take_key(self, leaf: LeafIndex, content_type: ContentType, generation: int) -> tuple[Self, MessageKey]:
        """Return the tree without one key, and that key: for receiving.

        Raises StateError for a key that was used or dropped, ValidationError for a generation more than `MAX_STEPS`
        ahead. Source: RFC 9420 §9.1, §9.2.
        """
        rows = dict(self.rows)
        ratchets = self._ratchets(rows, leaf)
        kind = _kind(content_type)
        steps = generation - ratchets.generations[kind] + 1
        if steps > MAX_STEPS:
            raise ValidationError(f"generation is more than {MAX_STEPS} messages ahead")
        taken = ratchets.advance(kind, steps) if steps > 0 else ratchets.take_skipped(kind, generation)
        _put(rows, _leaf_row(self.epoch, leaf), ratchets.encode())
        return self._with(rows), taken

    def _with(self, rows: dict[str, bytes]) -> Self:
        return type(self)(self.suite, self.epoch, self.leaf_count, rows)

    def _ratchets(self, rows: dict[str, bytes], leaf: LeafIndex) -> "_Ratchets":
        if not 0 <= leaf < self.leaf_count:
            raise ValidationError("sender is not in the tree")
        saved = rows.get(_leaf_row(self.epoch, leaf))
        if saved is not None:
            return _Ratchets.decode(self.suite, content_of(saved))
        leaf_secret = self._expand_path(rows, tree_math.leaf_to_node(leaf))
        length = self.suite.hash_length
        application = self.suite.expand_with_label(leaf_secret, "application", b"", length)
        handshake = self.suite.expand_with_label(leaf_secret, "handshake", b"", length)
        return _Ratchets(self.suite, [0, 0], [application, handshake], [])

    def _expand_path(self, rows: dict[str, bytes], leaf_node: NodeIndex) -> bytes:
        """Delete the secrets from the nearest kept ancestor down to the leaf, keep those beside the path."""
        node = leaf_node
        path: list[NodeIndex] = []
        while (row := rows.pop(_node_row(self.epoch, node), None)) is None:
            if node == tree_math.root(self.leaf_count):
                raise StateError("the secrets of this epoch are gone")
            path.append(node)
            node = tree_math.parent(node, self.leaf_count)
        secret = content_of(row)
        for child in reversed(path):
            is_left = child < node
            beside = tree_math.right(node) if is_left else tree_math.left(node)
            _put(rows, _node_row(self.epoch, beside), self._child(secret, "right" if is_left else "left"))
            secret = self._child(secret, "left" if is_left else "right")
            node = child
        return secret

    def _child(self, secret: bytes, side: str) -> bytes:
        return self.suite.expand_with_label(secret, "tree", side.encode(), self.suite.hash_length)


class _Ratchets:
    """Both ratchets of one sender, unpacked from its row for the length of one call.

    The row: generation (4 bytes) and secret (Nh) of either ratchet, then for each skipped key its kind (1 byte),
    generation (4), key (Nk) and nonce (Nn); all sizes follow from the suite.
    """

    __slots__ = ("generations", "secrets", "skipped", "suite")

    def __init__(self, suite: CipherSuite, generations: list[int], secrets: list[bytes], skipped: list[bytes]) -> None:
        self.suite = suite
        self.generations = generations
        self.secrets = secrets
        self.skipped = skipped

    @classmethod
    def decode(cls, suite: CipherSuite, row: bytes) -> "_Ratchets":
        width = 4 + suite.hash_length
        item = 5 + suite.aead_key_length + suite.aead_nonce_length
        if len(row) < 2 * width or (len(row) - 2 * width) % item:
            raise StateError("saved ratchet has the wrong length")
        return cls(
            suite,
            [int.from_bytes(row[:4]), int.from_bytes(row[width : width + 4])],
            [row[4:width], row[width + 4 : 2 * width]],
            [row[start : start + item] for start in range(2 * width, len(row), item)],
        )

    def encode(self) -> bytes:
        return b"".join(
            (
                self.generations[_APPLICATION].to_bytes(4),
                self.secrets[_APPLICATION],
                self.generations[_HANDSHAKE].to_bytes(4),
                self.secrets[_HANDSHAKE],
                *self.skipped,
            )
        )

    def advance(self, kind: int, steps: int) -> MessageKey:
        """Step a ratchet forward; keep the keys jumped over, return the last."""
        suite, secret, first = self.suite, self.secrets[kind], self.generations[kind]
        last = first + steps - 1
        if last >= MAX_GENERATION:
            raise StateError("this sender's ratchet is spent for the epoch")
        for generation in range(first, last):
            if generation >= last - MAX_SKIPPED_KEYS:
                skipped = self._message_key(secret, generation)
                self.skipped.append(self._tag(kind, generation) + skipped.key + skipped.nonce)
            secret = suite.derive_tree_secret(secret, "secret", generation, suite.hash_length)
        taken = self._message_key(secret, last)
        self.secrets[kind] = suite.derive_tree_secret(secret, "secret", last, suite.hash_length)
        self.generations[kind] = last + 1
        del self.skipped[:-MAX_SKIPPED_KEYS]
        return taken

    def take_skipped(self, kind: int, generation: int) -> MessageKey:
        """Remove and return a key that was jumped over."""
        tag = self._tag(kind, generation)
        for position, item in enumerate(self.skipped):
            if item.startswith(tag):
                del self.skipped[position]
                middle = 5 + self.suite.aead_key_length
                return MessageKey(generation, Secret(item[5:middle]), Secret(item[middle:]))
        raise StateError("the key of this message was already used or dropped: a replay, or far too late")

    def _message_key(self, secret: bytes, generation: int) -> MessageKey:
        suite = self.suite
        key = suite.derive_tree_secret(secret, "key", generation, suite.aead_key_length)
        nonce = suite.derive_tree_secret(secret, "nonce", generation, suite.aead_nonce_length)
        return MessageKey(generation, key, nonce)

    @staticmethod
    def _tag(kind: int, generation: int) -> bytes:
        return bytes((kind,)) + generation.to_bytes(4)


def _kind(content_type: ContentType) -> int:
    return _APPLICATION if content_type == ContentType.APPLICATION else _HANDSHAKE


def _put(rows: dict[str, bytes], name: str, content: bytes) -> None:
    rows[name] = closed(name, content)


def _prefix(epoch: int) -> str:
    return f"secret_tree/{epoch}/"


def _node_row(epoch: int, node: NodeIndex) -> str:
    return f"secret_tree/{epoch}/node/{node}"


def _leaf_row(epoch: int, leaf: LeafIndex) -> str:
    return f"secret_tree/{epoch}/leaf/{leaf}"
