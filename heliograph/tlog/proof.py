"""Proofs that stand alone: an inclusion proof and the checkpoint it leads to, as text (C2SP tlog-proof).

c2sp.org/tlog-proof@v1
extra YWdlLXYxLjIuMQ==          optional, not authenticated
index 7
gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=          sibling hashes, the leaf's first

example.com/decisions           the checkpoint, as the log signed it
...
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from heliograph.tlog import merkle
from heliograph.tlog.checkpoint import (
    MAX_NOTE_SIZE_BYTES,
    Checkpoint,
    VerifierKey,
    decode_base64,
    open_checkpoint,
    parse_decimal,
)
from heliograph.tlog.errors import ProofError

HEADER: Final = "c2sp.org/tlog-proof@v1"
MAX_PROOF_SIZE_BYTES: Final = MAX_NOTE_SIZE_BYTES + 16 * 1024
_MAX_HASHES: Final = 63


@dataclass(frozen=True, slots=True)
class TlogProof:
    """The index of an entry, its inclusion proof, the signed checkpoint note, and opaque unauthenticated bytes."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    extra: bytes = b""

    def __str__(self) -> str:
        extra = f"extra {base64.b64encode(self.extra).decode('ascii')}\n" if self.extra else ""
        hashes = "".join(f"{base64.b64encode(one).decode('ascii')}\n" for one in self.hashes)
        return f"{HEADER}\n{extra}index {self.index}\n{hashes}\n{self.checkpoint}"

    @classmethod
    def parse(cls, text: str) -> "TlogProof":
        """Return the parts of a proof, nothing verified; raises ProofError if the text is not one."""
        if len(text) > MAX_PROOF_SIZE_BYTES:
            raise ProofError("The proof is too large.")
        head, separator, checkpoint = text.partition("\n\n")
        header, *lines = head.split("\n")
        if header != HEADER or not separator:
            raise ProofError("The text is not a proof of the form c2sp.org/tlog-proof@v1.")
        extra = b""
        if lines and lines[0].startswith("extra "):
            extra = decode_base64(lines.pop(0).removeprefix("extra "))
        if not lines or not lines[0].startswith("index "):
            raise ProofError("The proof does not say which entry it is for.")
        index = parse_decimal(lines[0].removeprefix("index "))
        if len(lines) - 1 > _MAX_HASHES:
            raise ProofError("The proof has more hashes than any log could need.")
        hashes = tuple(decode_base64(line) for line in lines[1:])
        return cls(index, hashes, checkpoint, extra)

    def verify(self, entry: bytes, key: VerifierKey, witnesses: Sequence[VerifierKey] = ()) -> Checkpoint:
        """Return the checkpoint after checking that `entry` is in the log that `key` signs.

        Raises:
            ProofError: the checkpoint's signature, or the way from the entry to its root, does not hold.
        """
        checkpoint = open_checkpoint(self.checkpoint, key, witnesses)
        merkle.verify_inclusion(self.index, checkpoint.size, merkle.leaf_hash(entry), self.hashes, checkpoint.root)
        return checkpoint
