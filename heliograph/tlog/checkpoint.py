"""Signed notes and checkpoints (C2SP signed-note v1.0, tlog-checkpoint v1.0, tlog-cosignature v1.0 for Ed25519).

    example.com/decisions                                     origin
    10                                                        tree size
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=              root hash

    — example.com/decisions Az3grlgtzPICa5OS8np...            one line a signature: the log's, then any witnesses'

The text above the blank line is what is signed. A verifier key, or vkey, is `name+hash+base64(type ||
public key)`; its hash, the first four bytes of SHA-256(name || newline || type || public key), leads each
signature and tells which key made it. Signatures of unknown keys are ignored; one of a known key that fails
condemns the note.

Signing takes a callable, so that this package needs no library and never holds a private key.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from heliograph.tlog import ed25519
from heliograph.tlog.errors import ProofError
from heliograph.tlog.merkle import HASH_SIZE_BYTES, MAX_TREE_SIZE

MAX_NOTE_SIZE_BYTES: Final = 128 * 1024
MAX_SIGNATURES: Final = 32

_SIGNATURE_LINE: Final = re.compile("— (?P<name>[^ ]+) (?P<signature>[A-Za-z0-9+/=]+)")
_DECIMAL: Final = re.compile("0|[1-9][0-9]{0,18}", re.ASCII)
_VKEY: Final = re.compile(r"(?P<name>[^+]+)\+(?P<hash>[0-9a-f]{8})\+(?P<key>[A-Za-z0-9+/=]+)")
_KEY_ID_SIZE_BYTES: Final = 4
_TIMESTAMP_SIZE_BYTES: Final = 8

Sign = Callable[[bytes], bytes]
"""Return the 64-byte Ed25519 signature of the given bytes."""


class SignatureType(IntEnum):
    """What a note key signs: the text itself, or, for a witness, the text behind a line with the time."""

    ED25519 = 0x01
    COSIGNATURE = 0x04


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A name and the Ed25519 public key (32 bytes) that signs notes under it."""

    name: str
    public_key: bytes
    type: SignatureType = SignatureType.ED25519

    def __post_init__(self) -> None:
        if not _is_key_name(self.name):
            raise ProofError("A key name is empty or has a space or a plus sign.")
        if len(self.public_key) != ed25519.PUBLIC_KEY_SIZE_BYTES:
            raise ProofError("An Ed25519 public key has 32 bytes.")

    @property
    def key_id(self) -> bytes:
        """Return the four bytes that name this key in its signatures."""
        preimage = self.name.encode() + b"\n" + bytes([self.type]) + self.public_key
        return hashlib.sha256(preimage).digest()[:_KEY_ID_SIZE_BYTES]

    def vkey(self) -> str:
        """Return the key as text, `name+hash+base64`."""
        key = base64.b64encode(bytes([self.type]) + self.public_key).decode("ascii")
        return f"{self.name}+{self.key_id.hex()}+{key}"

    @classmethod
    def parse(cls, vkey: str) -> "VerifierKey":
        """Return the key of a vkey; raises ProofError for another form, type of key, or a hash that does not fit."""
        match = _VKEY.fullmatch(vkey)
        if match is None:
            raise ProofError("A verifier key is written name+hash+base64.")
        data = decode_base64(match["key"])
        if not data or data[0] not in tuple(SignatureType):
            raise ProofError("The verifier key is of a type that is not known here.")
        key = cls(match["name"], data[1:], SignatureType(data[0]))
        if key.key_id.hex() != match["hash"]:
            raise ProofError("The hash in the verifier key does not fit its name and key.")
        ed25519.check_public_key(key.public_key)
        return key

    def verify(self, text: str, signature: bytes) -> int | None:
        """Check this key's signature (without its key id) of a note's text.

        Returns the time of a cosignature in seconds since 1970 UTC, None for a plain signature.

        Raises:
            ProofError: it does not hold.
        """
        if self.type is SignatureType.ED25519:
            ed25519.verify(self.public_key, text.encode(), signature)
            return None
        time_s = int.from_bytes(signature[:_TIMESTAMP_SIZE_BYTES])
        ed25519.verify(self.public_key, _cosigned(text, time_s), signature[_TIMESTAMP_SIZE_BYTES:])
        return time_s


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: the key's name and id (4 bytes), and the signature of whatever type that key has."""

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        """Return the line, with its newline."""
        return f"— {self.name} {base64.b64encode(self.key_id + self.signature).decode('ascii')}\n"


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A text that ends in a newline, and the signatures under it, not verified yet."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def __str__(self) -> str:
        return self.text + "\n" + "".join(signature.line() for signature in self.signatures)

    @classmethod
    def parse(cls, note: str) -> "SignedNote":
        """Return the text and signatures of a note; raises ProofError if it is not one."""
        if len(note.encode("utf-8", "replace")) > MAX_NOTE_SIZE_BYTES:
            raise ProofError("The signed note is too large.")
        if any(character < " " and character != "\n" for character in note) or not _is_encodable(note):
            raise ProofError("The signed note contains control characters or broken text.")
        text, separator, lines = note.rpartition("\n\n")
        if not separator or not lines.endswith("\n"):
            raise ProofError("The signed note has no blank line followed by signatures.")
        signatures = tuple(_parse_signature(line) for line in lines[:-1].split("\n"))
        if len(signatures) > MAX_SIGNATURES:
            raise ProofError("The signed note has too many signatures.")
        return cls(text + "\n", signatures)

    def with_signature(self, signature: NoteSignature) -> "SignedNote":
        """Return the note with one more signature line."""
        return SignedNote(self.text, (*self.signatures, signature))

    def verify(self, keys: Sequence[VerifierKey]) -> tuple[VerifierKey, ...]:
        """Return the known keys whose signatures hold, in the order of the lines.

        Raises:
            ProofError: a known key's signature fails, or none of the known keys signed.
        """
        known = {(key.name, key.key_id): key for key in keys}
        verified: list[VerifierKey] = []
        for one in self.signatures:
            key = known.get((one.name, one.key_id))
            if key is None:
                continue
            key.verify(self.text, one.signature)
            if key not in verified:
                verified.append(key)
        if not verified:
            raise ProofError("The note carries no signature of a key that is trusted here.")
        return tuple(verified)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: its origin, size and 32-byte root; `extensions` are further lines of the text."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the text that is signed."""
        root = base64.b64encode(self.root).decode("ascii")
        return "".join(f"{line}\n" for line in (self.origin, str(self.size), root, *self.extensions))

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Return the checkpoint in a note's text; raises ProofError if it is written in any other way."""
        if not text.endswith("\n"):
            raise ProofError("A checkpoint ends with a newline.")
        lines = text[:-1].split("\n")
        if len(lines) < 3 or not all(lines):
            raise ProofError("A checkpoint has at least three lines, and no empty one.")
        origin, size, root, *extensions = lines
        checkpoint = cls(origin, parse_decimal(size), decode_base64(root), tuple(extensions))
        if len(checkpoint.root) != HASH_SIZE_BYTES:
            raise ProofError("The root hash in the checkpoint has another size than 32 bytes.")
        return checkpoint


def sign_checkpoint(checkpoint: Checkpoint, key: VerifierKey, sign: Sign) -> SignedNote:
    """Return the checkpoint signed by the log; `sign` signs with the private half of `key`."""
    text = checkpoint.text()
    return SignedNote(text, (NoteSignature(key.name, key.key_id, sign(text.encode())),))


def cosign(note: SignedNote, key: VerifierKey, sign: Sign, time_s: int) -> SignedNote:
    """Return the note with a witness's cosignature of that time added.

    Source: C2SP tlog-cosignature v1.0.
    """
    signature = time_s.to_bytes(_TIMESTAMP_SIZE_BYTES) + sign(_cosigned(note.text, time_s))
    return note.with_signature(NoteSignature(key.name, key.key_id, signature))


def open_checkpoint(note: str, key: VerifierKey, witnesses: Sequence[VerifierKey] = ()) -> Checkpoint:
    """Return the checkpoint of a signed note after checking the log's signature and those of known witnesses.

    Raises:
        ProofError: the note is malformed, is of another log than the key's, or a signature fails.
    """
    signed = SignedNote.parse(note)
    if key not in signed.verify([key, *witnesses]):
        raise ProofError("The checkpoint is not signed by the log's own key.")
    checkpoint = Checkpoint.parse(signed.text)
    if checkpoint.origin != key.name:
        raise ProofError("The checkpoint is of another log than the one that the key belongs to.")
    return checkpoint


def parse_decimal(text: str) -> int:
    """Return a size or index written without sign or leading zeros; raises ProofError."""
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_TREE_SIZE:
        raise ProofError("A number is not written as a plain decimal.")
    return int(text)


def decode_base64(text: str) -> bytes:
    """Return the bytes of canonical RFC 4648 §4 text; raises ProofError."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ProofError("A value is not valid base64.") from None
    if base64.b64encode(data).decode("ascii") != text:
        raise ProofError("A value is not canonical base64.")
    return data


def _cosigned(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def _parse_signature(line: str) -> NoteSignature:
    match = _SIGNATURE_LINE.fullmatch(line)
    if match is None or not _is_key_name(match["name"]):
        raise ProofError("A signature line of the note is malformed.")
    data = decode_base64(match["signature"])
    if len(data) <= _KEY_ID_SIZE_BYTES:
        raise ProofError("A signature of the note is too short.")
    return NoteSignature(match["name"], data[:_KEY_ID_SIZE_BYTES], data[_KEY_ID_SIZE_BYTES:])


def _is_key_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(one.isspace() or one < " " for one in name)


def _is_encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
