"""Key encapsulation mechanisms for HPKE (RFC 9180 §4, §7.1), on raw key bytes.

`cryptography` encrypts and decrypts with these keys but does not derive them, nor give the shared secret out; both are
made here from its Diffie-Hellman and its ML-KEM. A `Kem` says how to read its keys, derive them, encapsulate and
decapsulate. There are two families:

    dh_kem       DHKEM over X25519, P-256, P-384 and P-521
    hybrid_kem   ML-KEM-768 with X25519, against those who keep today's ciphertexts for a quantum computer
"""

from abc import ABC, abstractmethod
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.hpke import KEM, MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey

from heliograph.mls.errors import DecodeError
from heliograph.mls.kdf import Random, Secret

PrivateKey: TypeAlias = x25519.X25519PrivateKey | ec.EllipticCurvePrivateKey | MLKEM768X25519PrivateKey
PublicKey: TypeAlias = x25519.X25519PublicKey | ec.EllipticCurvePublicKey | MLKEM768X25519PublicKey


class Kem(ABC):
    """A key encapsulation mechanism on raw key bytes. Source: RFC 9180 §4, §7.1."""

    kem_id: int
    kem: KEM

    @property
    def suite_id(self) -> bytes:
        """Return the KEM's context string. Source: RFC 9180 §4.1."""
        return b"KEM" + self.kem_id.to_bytes(2)

    @abstractmethod
    def private_key(self, private: bytes) -> PrivateKey:
        """Return the key object of a serialized private key; raises DecodeError."""

    @abstractmethod
    def public_key(self, public: bytes) -> PublicKey:
        """Return the key object of a serialized public key; raises DecodeError."""

    def check_public_key(self, public: bytes) -> None:
        """Raise DecodeError unless this is a public key to which something can be encrypted."""
        self.public_key(public)

    def check_kem_output(self, kem_output: bytes) -> None:
        """Raise DecodeError unless this could be a kem_output, as far as anyone can see without the private key."""
        if len(kem_output) != self.kem.enc_length():
            raise DecodeError("a kem_output has not the length of one")

    @abstractmethod
    def derive_key_pair(self, ikm: bytes) -> tuple[Secret, bytes]:
        """Return the (private, public) key pair that follows from `ikm`. Source: RFC 9180 §7.1.3."""

    @abstractmethod
    def encapsulate(self, public: bytes, random: Random) -> tuple[Secret, bytes]:
        """Return (shared_secret, kem_output) for a public key; raises DecodeError. Source: RFC 9180 §4."""

    @abstractmethod
    def decapsulate(self, private: bytes, kem_output: bytes) -> Secret:
        """Return the shared_secret of a kem_output; raises DecodeError. Source: RFC 9180 §4."""
