"""The signature schemes of the cipher suites: Ed25519, and ECDSA on P-256, P-384 and P-521 (RFC 9420 §5.1.1, §17.1).

Keys are raw bytes as they stand in a LeafNode. Reading a private key costs as much as a signature or more, and a device
or a hub has one that it uses again and again; so the last eight key objects are kept, and no more.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from heliograph.mls.dh_kem import P256, P384, P521, NistCurveKem
from heliograph.mls.errors import DecodeError, VerificationError
from heliograph.mls.kdf import Random, Secret

_KEPT_KEYS = 8


@dataclass(frozen=True, slots=True)
class SignatureKeyPair:
    """A signature key pair in the encoding that MLS uses for its scheme."""

    private: Secret
    public: bytes


class SignatureScheme(ABC):
    """A signature scheme on raw key bytes. Source: RFC 9420 §5.1.1, §17.1."""

    @abstractmethod
    def generate(self, random: Random) -> SignatureKeyPair:
        """Return a key pair made from `random`."""

    @abstractmethod
    def public(self, private: bytes) -> bytes:
        """Return the public key of a private key; raises DecodeError."""

    @abstractmethod
    def sign(self, private: bytes, message: bytes) -> bytes:
        """Return a signature; raises DecodeError for an unusable key."""

    @abstractmethod
    def verify(self, public: bytes, message: bytes, signature: bytes) -> None:
        """Raise VerificationError unless the signature is this key's over this message."""


class Ed25519(SignatureScheme):
    """Ed25519; private keys are 32-byte seeds, public keys 32 bytes."""

    def generate(self, random: Random) -> SignatureKeyPair:
        """Return a key pair made from 32 random bytes."""
        seed = random(32)
        return SignatureKeyPair(Secret(seed), self.public(seed))

    def public(self, private: bytes) -> bytes:
        """Return the 32 public bytes."""
        return _ed25519_key(private).public_key().public_bytes_raw()

    def sign(self, private: bytes, message: bytes) -> bytes:
        """Return a 64-byte signature."""
        return _ed25519_key(private).sign(message)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> None:
        """Raise VerificationError unless the signature is this key's over this message."""
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise VerificationError("signature does not verify") from error


class Ecdsa(SignatureScheme):
    """ECDSA on a NIST curve; DER signatures, uncompressed public points, scalars of the curve's full width."""

    def __init__(self, kem: NistCurveKem, hash_algorithm: hashes.HashAlgorithm) -> None:
        """Take the curve by the KEM over it, which reads the same keys."""
        self._kem = kem
        self._ecdsa = ec.ECDSA(hash_algorithm)

    def generate(self, random: Random) -> SignatureKeyPair:
        """Return a key pair made from random bytes, by the derivation that HPKE uses for this curve."""
        private, public = self._kem.derive_key_pair(random(self._kem.private_length))
        return SignatureKeyPair(private, public)

    def public(self, private: bytes) -> bytes:
        """Return the uncompressed point."""
        return self._kem.public_bytes(_nist_curve_key(self._kem, private))

    def sign(self, private: bytes, message: bytes) -> bytes:
        """Return a DER-encoded signature."""
        return _nist_curve_key(self._kem, private).sign(message, self._ecdsa)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> None:
        """Raise VerificationError unless the signature is this key's over this message."""
        try:
            self._kem.public_key(public).verify(signature, message, self._ecdsa)
        except (InvalidSignature, DecodeError, ValueError) as error:
            raise VerificationError("signature does not verify") from error


@lru_cache(maxsize=_KEPT_KEYS)
def _ed25519_key(private: bytes) -> ed25519.Ed25519PrivateKey:
    if len(private) != 32:
        raise DecodeError("an Ed25519 private key has 32 bytes")
    return ed25519.Ed25519PrivateKey.from_private_bytes(private)


@lru_cache(maxsize=_KEPT_KEYS)
def _nist_curve_key(kem: NistCurveKem, private: bytes) -> ec.EllipticCurvePrivateKey:
    return kem.private_key(private)


ED25519 = Ed25519()
ECDSA_P256 = Ecdsa(P256, hashes.SHA256())
ECDSA_P384 = Ecdsa(P384, hashes.SHA384())
ECDSA_P521 = Ecdsa(P521, hashes.SHA512())
