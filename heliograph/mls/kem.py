"""Key encapsulation mechanisms for HPKE (RFC 9180 §4, §7.1), on raw key bytes.

`cryptography` encrypts and decrypts with these keys but does not derive them, nor give the shared secret out; both are
made here from its Diffie-Hellman. A `Kem` says how to read its keys, derive them, encapsulate and decapsulate; the
Diffie-Hellman ones share all but the arithmetic of their group.
"""

from abc import ABC, abstractmethod
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.hpke import KEM, MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from heliograph.mls.errors import DecodeError
from heliograph.mls.kdf import Random, Secret, hkdf_expand, hkdf_extract

PrivateKey: TypeAlias = x25519.X25519PrivateKey | ec.EllipticCurvePrivateKey | MLKEM768X25519PrivateKey
PublicKey: TypeAlias = x25519.X25519PublicKey | ec.EllipticCurvePublicKey | MLKEM768X25519PublicKey

# The u coordinates of the points whose order divides the cofactor. Source: RFC 7748 §6.1, §7.
_X25519_PRIME = (1 << 255) - 19
_X25519_LOW_ORDER = frozenset(
    {
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _X25519_PRIME - 1,
        _X25519_PRIME,
        _X25519_PRIME + 1,
    }
)


class Kem(ABC):
    """A key encapsulation mechanism on raw key bytes. Source: RFC 9180 §4, §7.1."""

    kem_id: int
    kem: KEM

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


class DhKem(Kem):
    """A Diffie-Hellman KEM: DHKEM(group, HKDF with `hash_name`). Source: RFC 9180 §4.1, §7.1."""

    hash_name: str
    secret_length: int
    private_length: int

    @abstractmethod
    def public_bytes(self, private: bytes) -> bytes:
        """Return the serialized public key of a serialized private key."""

    @abstractmethod
    def diffie_hellman(self, private: bytes, public: bytes) -> bytes:
        """Return the shared point's bytes; raises DecodeError for an unusable key."""

    @abstractmethod
    def derive_private(self, dkp_prk: bytes) -> bytes:
        """Return the serialized private key that follows from the extracted key material."""

    def check_kem_output(self, kem_output: bytes) -> None:
        """Raise DecodeError unless this is a public key, as a kem_output is here. Source: RFC 9180 §4.1."""
        self.check_public_key(kem_output)

    def labeled_extract(self, salt: bytes, label: bytes, ikm: bytes) -> Secret:
        """Return LabeledExtract under this KEM's suite id. Source: RFC 9180 §4."""
        return hkdf_extract(self.hash_name, salt, b"HPKE-v1" + self.suite_id + label + ikm)

    def labeled_expand(self, prk: bytes, label: bytes, info: bytes, length: int) -> Secret:
        """Return LabeledExpand under this KEM's suite id. Source: RFC 9180 §4."""
        labeled_info = length.to_bytes(2) + b"HPKE-v1" + self.suite_id + label + info
        return hkdf_expand(self.hash_name, prk, labeled_info, length)

    @property
    def suite_id(self) -> bytes:
        """Return the KEM's context string. Source: RFC 9180 §4.1."""
        return b"KEM" + self.kem_id.to_bytes(2)

    def derive_key_pair(self, ikm: bytes) -> tuple[Secret, bytes]:
        """Return the (private, public) key pair that follows from `ikm`. Source: RFC 9180 §7.1.3."""
        private = self.derive_private(self.labeled_extract(b"", b"dkp_prk", ikm))
        return Secret(private), self.public_bytes(private)

    def extract_and_expand(self, shared_point: bytes, kem_context: bytes) -> Secret:
        """Return the KEM's shared secret. Source: RFC 9180 §4.1."""
        eae_prk = self.labeled_extract(b"", b"eae_prk", shared_point)
        return self.labeled_expand(eae_prk, b"shared_secret", kem_context, self.secret_length)

    def encapsulate(self, public: bytes, random: Random) -> tuple[Secret, bytes]:
        """Return (shared_secret, kem_output) for a public key; raises DecodeError. Source: RFC 9180 §4.1."""
        ephemeral_private, kem_output = self.derive_key_pair(random(self.private_length))
        shared_point = self.diffie_hellman(ephemeral_private, public)
        return self.extract_and_expand(shared_point, kem_output + public), kem_output

    def decapsulate(self, private: bytes, kem_output: bytes) -> Secret:
        """Return the shared_secret of a kem_output; raises DecodeError. Source: RFC 9180 §4.1."""
        shared_point = self.diffie_hellman(private, kem_output)
        return self.extract_and_expand(shared_point, kem_output + self.public_bytes(private))


class X25519Kem(DhKem):
    """DHKEM(X25519, HKDF-SHA256), KEM 0x0020."""

    kem_id = 0x0020
    hash_name = "sha256"
    secret_length = 32
    private_length = 32
    kem = KEM.X25519

    def private_key(self, private: bytes) -> x25519.X25519PrivateKey:
        """Return the key object of 32 private bytes; raises DecodeError."""
        if len(private) != 32:
            raise DecodeError("an X25519 private key has 32 bytes")
        return x25519.X25519PrivateKey.from_private_bytes(private)

    def public_key(self, public: bytes) -> x25519.X25519PublicKey:
        """Return the key object of 32 public bytes; raises DecodeError."""
        if len(public) != 32:
            raise DecodeError("an X25519 public key has 32 bytes")
        return x25519.X25519PublicKey.from_public_bytes(public)

    def check_public_key(self, public: bytes) -> None:
        """Raise DecodeError for another length than 32, and for a point that gives everyone the same secret."""
        self.public_key(public)
        if int.from_bytes(public, "little") % (1 << 255) in _X25519_LOW_ORDER:
            raise DecodeError("an X25519 public key of low order")

    def public_bytes(self, private: bytes) -> bytes:
        """Return the 32 public bytes of a private key."""
        return self.private_key(private).public_key().public_bytes_raw()

    def diffie_hellman(self, private: bytes, public: bytes) -> bytes:
        """Return the 32-byte shared value; an all-zero result raises DecodeError."""
        try:
            return self.private_key(private).exchange(self.public_key(public))
        except ValueError as error:
            raise DecodeError("unusable X25519 public key") from error

    def derive_private(self, dkp_prk: bytes) -> bytes:
        """Return 32 bytes. Source: RFC 9180 §7.1.3."""
        return self.labeled_expand(dkp_prk, b"sk", b"", 32)


class P256Kem(DhKem):
    """DHKEM(P-256, HKDF-SHA256), KEM 0x0010; keys are big-endian scalars and uncompressed points."""

    kem_id = 0x0010
    hash_name = "sha256"
    secret_length = 32
    private_length = 32
    kem = KEM.P256
    _ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

    def private_key(self, private: bytes) -> ec.EllipticCurvePrivateKey:
        """Return the key object of a 32-byte scalar; raises DecodeError."""
        scalar = int.from_bytes(private)
        if len(private) != 32 or not 0 < scalar < self._ORDER:
            raise DecodeError("not a P-256 private key")
        return ec.derive_private_key(scalar, ec.SECP256R1())

    def public_key(self, public: bytes) -> ec.EllipticCurvePublicKey:
        """Return the key object of a 65-byte uncompressed point; raises DecodeError."""
        return p256_public_key(public)

    def public_bytes(self, private: bytes) -> bytes:
        """Return the 65-byte uncompressed point of a private key."""
        public = self.private_key(private).public_key()
        return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def diffie_hellman(self, private: bytes, public: bytes) -> bytes:
        """Return the 32-byte x coordinate of the shared point; raises DecodeError."""
        return self.private_key(private).exchange(ec.ECDH(), self.public_key(public))

    def derive_private(self, dkp_prk: bytes) -> bytes:
        """Return a 32-byte scalar, by rejection sampling. Source: RFC 9180 §7.1.3."""
        for counter in range(256):
            candidate = self.labeled_expand(dkp_prk, b"candidate", bytes((counter,)), 32)
            if 0 < int.from_bytes(candidate) < self._ORDER:
                return candidate
        raise DecodeError("no P-256 key follows from this key material")


def p256_public_key(public: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key object of a 65-byte uncompressed P-256 point; raises DecodeError."""
    if len(public) != 65 or public[0] != 4:
        raise DecodeError("a P-256 public key is an uncompressed point of 65 bytes")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
    except ValueError as error:
        raise DecodeError("not a point on P-256") from error
