"""The Diffie-Hellman KEMs of HPKE: X25519, P-256, P-384 and P-521 (RFC 9180 §4.1, §7.1).

They share all but the arithmetic of their group, which is that of `cryptography`. The private keys of a NIST curve are
big-endian scalars of the curve's full width (66 bytes for P-521), its public keys uncompressed points.
"""

from abc import abstractmethod
from typing import Generic, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.hpke import KEM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from heliograph.mls.errors import DecodeError
from heliograph.mls.kdf import Random, Secret, hkdf_expand, hkdf_extract
from heliograph.mls.kem import Kem

DhKey = TypeVar("DhKey", x25519.X25519PrivateKey, ec.EllipticCurvePrivateKey)

# The u coordinates of the points whose order divides the cofactor. Source: RFC 7748 §6.1, §7.
_X25519_PRIME = (1 << 255) - 19
X25519_LOW_ORDER = frozenset(
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


class DhKem(Kem, Generic[DhKey]):
    """A Diffie-Hellman KEM: DHKEM(group, HKDF with `hash_name`). Source: RFC 9180 §4.1, §7.1."""

    hash_name: str
    secret_length: int
    private_length: int

    @abstractmethod
    def private_key(self, private: bytes) -> DhKey:
        """Return the key object of a serialized private key; raises DecodeError."""

    @abstractmethod
    def public_bytes(self, key: DhKey) -> bytes:
        """Return the serialized public key of a private key."""

    @abstractmethod
    def diffie_hellman(self, key: DhKey, public: bytes) -> bytes:
        """Return the shared point's bytes; raises DecodeError for an unusable public key."""

    @abstractmethod
    def derive_private(self, dkp_prk: bytes) -> Secret:
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

    def derive_key_pair(self, ikm: bytes) -> tuple[Secret, bytes]:
        """Return the (private, public) key pair that follows from `ikm`. Source: RFC 9180 §7.1.3."""
        private = self.derive_private(self.labeled_extract(b"", b"dkp_prk", ikm))
        return private, self.public_bytes(self.private_key(private))

    def encapsulate(self, public: bytes, random: Random) -> tuple[Secret, bytes]:
        """Return (shared_secret, kem_output) for a public key; raises DecodeError. Source: RFC 9180 §4.1."""
        ikm = random(self.private_length)
        ephemeral_key = self.private_key(self.derive_private(self.labeled_extract(b"", b"dkp_prk", ikm)))
        kem_output = self.public_bytes(ephemeral_key)
        return self._shared_secret(self.diffie_hellman(ephemeral_key, public), kem_output + public), kem_output

    def decapsulate(self, private: bytes, kem_output: bytes) -> Secret:
        """Return the shared_secret of a kem_output; raises DecodeError. Source: RFC 9180 §4.1."""
        key = self.private_key(private)
        return self._shared_secret(self.diffie_hellman(key, kem_output), kem_output + self.public_bytes(key))

    def _shared_secret(self, shared_point: bytes, kem_context: bytes) -> Secret:
        eae_prk = self.labeled_extract(b"", b"eae_prk", shared_point)
        return self.labeled_expand(eae_prk, b"shared_secret", kem_context, self.secret_length)


class X25519Kem(DhKem[x25519.X25519PrivateKey]):
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
        if len(public) != 32:
            raise DecodeError("an X25519 public key has 32 bytes")
        if int.from_bytes(public, "little") % (1 << 255) in X25519_LOW_ORDER:
            raise DecodeError("an X25519 public key of low order")

    def public_bytes(self, key: x25519.X25519PrivateKey) -> bytes:
        """Return the 32 public bytes of a private key."""
        return key.public_key().public_bytes_raw()

    def diffie_hellman(self, key: x25519.X25519PrivateKey, public: bytes) -> bytes:
        """Return the 32-byte shared value; an all-zero result raises DecodeError."""
        try:
            return key.exchange(self.public_key(public))
        except ValueError as error:
            raise DecodeError("unusable X25519 public key") from error

    def derive_private(self, dkp_prk: bytes) -> Secret:
        """Return 32 bytes. Source: RFC 9180 §7.1.3."""
        return self.labeled_expand(dkp_prk, b"sk", b"", 32)


class NistCurveKem(DhKem[ec.EllipticCurvePrivateKey]):
    """DHKEM over a NIST curve. Source: RFC 9180 §7.1."""

    def __init__(self, kem_id: int, kem: KEM, curve: ec.EllipticCurve, hash_name: str, secret_length: int) -> None:
        """Take the curve's numbers; `secret_length` is Nsecret in bytes."""
        self.kem_id = kem_id
        self.kem = kem
        self.curve = curve
        self.hash_name = hash_name
        self.secret_length = secret_length
        self.private_length = (curve.key_size + 7) // 8
        # P-521 alone has bits to spare in its first byte.
        self._bitmask = 0xFF >> (8 * self.private_length - curve.key_size)

    def private_key(self, private: bytes) -> ec.EllipticCurvePrivateKey:
        """Return the key object of a scalar of the curve's width; raises DecodeError."""
        scalar = int.from_bytes(private)
        if len(private) != self.private_length or not 0 < scalar < self.curve.group_order:
            raise DecodeError(f"not a private key on {self.curve.name}")
        return ec.derive_private_key(scalar, self.curve)

    def public_key(self, public: bytes) -> ec.EllipticCurvePublicKey:
        """Return the key object of an uncompressed point; raises DecodeError."""
        if len(public) != 2 * self.private_length + 1 or public[0] != 4:
            raise DecodeError(f"not an uncompressed point of {self.curve.name}")
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(self.curve, public)
        except ValueError as error:
            raise DecodeError(f"not a point on {self.curve.name}") from error

    def public_bytes(self, key: ec.EllipticCurvePrivateKey) -> bytes:
        """Return the uncompressed point of a private key."""
        return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def diffie_hellman(self, key: ec.EllipticCurvePrivateKey, public: bytes) -> bytes:
        """Return the x coordinate of the shared point, in the curve's width; raises DecodeError."""
        return key.exchange(ec.ECDH(), self.public_key(public))

    def derive_private(self, dkp_prk: bytes) -> Secret:
        """Return a scalar, by rejection sampling. Source: RFC 9180 §7.1.3."""
        for counter in range(256):
            candidate = self.labeled_expand(dkp_prk, b"candidate", bytes((counter,)), self.private_length)
            scalar = Secret(bytes((candidate[0] & self._bitmask,)) + candidate[1:])
            if 0 < int.from_bytes(scalar) < self.curve.group_order:
                return scalar
        raise DecodeError(f"no key on {self.curve.name} follows from this key material")


X25519 = X25519Kem()
P256 = NistCurveKem(0x0010, KEM.P256, ec.SECP256R1(), "sha256", 32)
P384 = NistCurveKem(0x0011, KEM.P384, ec.SECP384R1(), "sha384", 48)
P521 = NistCurveKem(0x0012, KEM.P521, ec.SECP521R1(), "sha512", 64)
