"""Attachments: sealed under a key of their own, stored by anyone, described by an ExternalPart.

Theory of operation. The plaintext is padded with zeros to its Padmé length, so that its size tells little,
and sealed with AES-128-GCM under a key used once. The message that refers to it carries the key and nonce,
the SHA-256 of the stored bytes, the true size, and (extension -2) the SHA-256 of the plaintext. AES-GCM
does not commit to its key: one ciphertext can be made to open to two pictures under two keys. The hash of
the plaintext closes that; opening checks it before anything is shown.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from heliograph.content.message import Disposition, ExternalPart
from heliograph.mls.errors import UnsupportedError, ValidationError, VerificationError
from heliograph.mls.suite import Random

AES_128_GCM: Final = 1
SHA256: Final = 1
MAX_PLAINTEXT_SIZE_BYTES: Final = 8 * 1024 * 1024

_KEY_SIZE_BYTES: Final = 16
_NONCE_SIZE_BYTES: Final = 12
_TAG_SIZE_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class SealedAttachment:
    """What to upload (`ciphertext`) and what to tell the readers."""

    ciphertext: bytes = field(repr=False)
    key: bytes = field(repr=False)
    nonce: bytes
    size_bytes: int
    content_hash: bytes
    plaintext_hash: bytes

    def part(
        self,
        url: str,
        content_type: str,
        *,
        expires: int = 0,
        description: str = "",
        filename: str = "",
        disposition: int = Disposition.ATTACHMENT,
    ) -> ExternalPart:
        """Return the part that refers to the uploaded bytes; its message also needs `plaintext_hash`."""
        return ExternalPart(
            content_type=content_type,
            url=url,
            expires=expires,
            size=self.size_bytes,
            enc_alg=AES_128_GCM,
            key=self.key,
            nonce=self.nonce,
            hash_alg=SHA256,
            content_hash=self.content_hash,
            description=description,
            filename=filename,
            disposition=disposition,
        )


def padded_size_bytes(size_bytes: int) -> int:
    """Return the Padmé length of a plaintext: at most 12 % more, and few distinct values.

    Source: Nikitin et al., "Reducing Metadata Leakage from Encrypted Files", PETS 2019.
    """
    if size_bytes < 2:
        return size_bytes
    exponent = size_bytes.bit_length() - 1
    low_bits = exponent - exponent.bit_length()
    return -(-size_bytes >> low_bits) << low_bits


def seal_attachment(plaintext: bytes, random: Random) -> SealedAttachment:
    """Seal up to 8 MiB under a fresh key drawn from `random`.

    Raises:
        ValidationError: it is empty or larger.
    """
    if not 1 <= len(plaintext) <= MAX_PLAINTEXT_SIZE_BYTES:
        raise ValidationError("attachment: it has no bytes, or more than 8 MiB")
    key, nonce = random(_KEY_SIZE_BYTES), random(_NONCE_SIZE_BYTES)
    padded = plaintext.ljust(padded_size_bytes(len(plaintext)), b"\x00")
    ciphertext = AESGCM(key).encrypt(nonce, padded, b"")
    return SealedAttachment(
        ciphertext=ciphertext,
        key=key,
        nonce=nonce,
        size_bytes=len(plaintext),
        content_hash=hashlib.sha256(ciphertext).digest(),
        plaintext_hash=hashlib.sha256(plaintext).digest(),
    )


def open_attachment(part: ExternalPart, plaintext_hash: bytes, ciphertext: bytes) -> bytes:
    """Return the plaintext of downloaded bytes, every commitment of the message checked.

    Raises:
        UnsupportedError: the part uses another algorithm than AES-128-GCM with SHA-256.
        ValidationError: the part's own fields have impossible sizes.
        VerificationError: the bytes are not those of the part, or do not open to the plaintext committed to.
    """
    check_part(part)
    if len(ciphertext) != padded_size_bytes(part.size) + _TAG_SIZE_BYTES:
        raise VerificationError("attachment: the stored bytes have another size than the message says")
    if not hmac.compare_digest(hashlib.sha256(ciphertext).digest(), part.content_hash):
        raise VerificationError("attachment: the stored bytes are not those of the message")
    try:
        padded = AESGCM(part.key).decrypt(part.nonce, ciphertext, b"")
    except InvalidTag:
        raise VerificationError("attachment: the stored bytes do not open under the message's key") from None
    plaintext = padded[: part.size]
    if any(padded[part.size :]):
        raise VerificationError("attachment: the padding is not zero")
    if not hmac.compare_digest(hashlib.sha256(plaintext).digest(), plaintext_hash):
        raise VerificationError("attachment: it opens to something other than the message committed to")
    return plaintext


def check_part(part: ExternalPart) -> None:
    """Refuse a part that `open_attachment` could never open.

    Raises:
        UnsupportedError: another algorithm than AES-128-GCM with SHA-256.
        ValidationError: fields of impossible sizes.
    """
    if part.enc_alg != AES_128_GCM or part.hash_alg != SHA256:
        raise UnsupportedError("attachment: sealed or hashed with an algorithm that is not known here")
    if not 1 <= part.size <= MAX_PLAINTEXT_SIZE_BYTES:
        raise ValidationError("attachment: it has no bytes, or more than 8 MiB")
    if (len(part.key), len(part.nonce), part.aad, len(part.content_hash)) != (16, 12, b"", 32):
        raise ValidationError("attachment: its key, nonce, aad or hash has a wrong size")
