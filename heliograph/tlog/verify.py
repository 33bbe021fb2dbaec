"""Check a decision's proof with nothing but the bundle, the log's key, and Python.

The bundle is one JSON object that the affected party receives with the statement of reasons; binary values
are base64url without padding:

    v 1 · kind "heliograph-decision-proof" · log (origin) · verifier_key (vkey) · leaf (the entry) · index
    nonce · decision · subject · proof (C2SP tlog-proof text, with the checkpoint)

What a pass proves: the log's key signed a checkpoint; entry `index` of that log is this leaf; the leaf
commits to this decision about this subject. Whether the key is the right one only the verifier can know.
Without a key of one's own the bundle's key is used, and the report says that it is not pinned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from heliograph.tlog.checkpoint import Checkpoint, VerifierKey
from heliograph.tlog.decision_leaf import (
    DecisionLeaf,
    decode_base64url,
    encode_base64url,
    expect_members,
    parse_object,
)
from heliograph.tlog.errors import ProofError
from heliograph.tlog.proof import TlogProof

VERSION: Final = 1
KIND: Final = "heliograph-decision-proof"
MAX_BUNDLE_SIZE_BYTES: Final = 512 * 1024

_TEXTS: Final = ("kind", "log", "verifier_key", "leaf", "nonce", "decision", "subject", "proof")


@dataclass(frozen=True, slots=True)
class DecisionProof:
    """A bundle, parsed; nothing in it is verified yet."""

    log: str
    verifier_key: str
    leaf: bytes
    index: int
    nonce: bytes
    decision: str
    subject: str
    proof: str

    def members(self) -> dict[str, Any]:
        """Return the bundle as the members of its JSON object."""
        return {
            "v": VERSION,
            "kind": KIND,
            "log": self.log,
            "verifier_key": self.verifier_key,
            "leaf": encode_base64url(self.leaf),
            "index": self.index,
            "nonce": encode_base64url(self.nonce),
            "decision": self.decision,
            "subject": self.subject,
            "proof": self.proof,
        }

    @classmethod
    def parse(cls, text: str) -> "DecisionProof":
        """Return the bundle in a JSON text; raises ProofError for anything missing, unknown or wrongly typed."""
        data = text.encode("utf-8", "replace")
        members = parse_object(data, MAX_BUNDLE_SIZE_BYTES, "The proof bundle")
        expect_members(members, {"v", "index", *_TEXTS}, "The proof bundle")
        for name in _TEXTS:
            if not isinstance(members[name], str):
                raise ProofError(f"The proof bundle's `{name}` is not a text.")
        for name in ("v", "index"):
            if type(members[name]) is not int or members[name] < 0:
                raise ProofError(f"The proof bundle's `{name}` is not a number.")
        if members.pop("v") != VERSION or members.pop("kind") != KIND:
            raise ProofError("The file is not a decision proof of a version that is known here.")
        members["leaf"] = decode_base64url(members["leaf"])
        members["nonce"] = decode_base64url(members["nonce"])
        return cls(**members)


@dataclass(frozen=True, slots=True)
class VerifiedDecision:
    """What a verified bundle proves; `pinned` is true when the verifier brought the log's key."""

    leaf: DecisionLeaf
    index: int
    decision: str
    subject: str
    checkpoint: Checkpoint
    verifier_key: str
    pinned: bool


def verify_decision(bundle: str, trusted_keys: Sequence[str] = ()) -> VerifiedDecision:
    """Return what a decision's proof bundle (JSON text) proves, checked offline.

    trusted_keys: the vkeys that the verifier trusts. Given none, the key in the bundle is used, unpinned.

    Raises:
        ProofError: with a sentence that says what does not hold.
    """
    parsed = DecisionProof.parse(bundle)
    key = _log_key(parsed, trusted_keys)
    proof = TlogProof.parse(parsed.proof)
    if proof.index != parsed.index:
        raise ProofError("The bundle and its inclusion proof speak of different entries.")
    checkpoint = proof.verify(parsed.leaf, key)
    leaf = DecisionLeaf.parse(parsed.leaf)
    leaf.check_opening(parsed.nonce, parsed.decision, parsed.subject)
    return VerifiedDecision(
        leaf=leaf,
        index=parsed.index,
        decision=parsed.decision,
        subject=parsed.subject,
        checkpoint=checkpoint,
        verifier_key=key.vkey(),
        pinned=bool(trusted_keys),
    )


def _log_key(bundle: DecisionProof, trusted_keys: Sequence[str]) -> VerifierKey:
    claimed = VerifierKey.parse(bundle.verifier_key)
    trusted = [VerifierKey.parse(vkey) for vkey in trusted_keys]
    if trusted and claimed not in trusted:
        raise ProofError("The bundle is signed under a key that is not among the keys you trust.")
    if claimed.name != bundle.log:
        raise ProofError("The key in the bundle belongs to another log than the one it names.")
    return claimed
