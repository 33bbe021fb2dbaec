"""Cipher suites and the labelled functions over them (RFC 9420 §5.1, §5.2, §8, §17.1).

Theory of operation. A cipher suite is one row of `_SUITES`: an HPKE suite (`hpke`), a hash, an AEAD and a signature
scheme (`signature`). All else is common: every hash input, signature, encryption and key derivation of MLS carries a
label that starts with "MLS 1.0 ", so that a value made for one purpose never passes for another. Callers name labels
without that prefix (`ref_hash` alone takes it whole, as the RFC writes it).

    suite = cipher_suite(1)
    suite.sign_with_label(private, "LeafNodeTBS", content)

A suite that is not in the table raises UnsupportedError; adding one is adding a row. Suites 4 and 6 (X448 and Ed448)
are absent because `cryptography` has no HPKE over X448.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF

from heliograph.mls.codec import Reader, Struct, Writer, opaque
from heliograph.mls.dh_kem import P256, P384, P521, X25519
from heliograph.mls.errors import UnsupportedError, VerificationError
from heliograph.mls.hpke import Hpke
from heliograph.mls.hybrid_kem import MLKEM768_X25519
from heliograph.mls.kdf import HASHES, Digest, Random, Secret, hkdf_expand, hkdf_extract
from heliograph.mls.signature import (
    ECDSA_P256,
    ECDSA_P384,
    ECDSA_P521,
    ED25519,
    SignatureKeyPair,
    SignatureScheme,
)

__all__ = [
    "CIPHER_SUITES",
    "CipherSuite",
    "HPKECiphertext",
    "Random",
    "Secret",
    "SignatureKeyPair",
    "SignatureScheme",
    "cipher_suite",
]

# The tag of every AEAD in use, and of HPKE with it. Source: RFC 5116 §5, RFC 8439 §2.8.
AEAD_TAG_LENGTH = 16

MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 = 0x0001
MLS_128_DHKEMP256_AES128GCM_SHA256_P256 = 0x0002
MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519 = 0x0003
MLS_256_DHKEMP521_AES256GCM_SHA512_P521 = 0x0005
MLS_256_DHKEMP384_AES256GCM_SHA384_P384 = 0x0007
# "TBD2" of draft-ietf-mls-pq-ciphersuites-06, under a number for private use until IANA assigns one.
MLS_128_MLKEM768X25519_AES256GCM_SHA384_Ed25519 = 0xF04E


@dataclass(frozen=True, slots=True)
class HPKECiphertext(Struct):
    """What EncryptWithLabel gives. Source: RFC 9420 §7.6."""

    kem_output: bytes
    ciphertext: bytes

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.opaque(self.kem_output)
        writer.opaque(self.ciphertext)

    @classmethod
    def read(cls, reader: Reader) -> "HPKECiphertext":
        """Read one; raises DecodeError."""
        return cls(reader.opaque(), reader.opaque())


@dataclass(frozen=True, slots=True)
class CipherSuite:
    """The algorithms of a group, and the labelled functions of MLS over them."""

    id: int
    name: str
    hpke: Hpke = field(repr=False)
    hash_name: str
    aead: type[AESGCM] | type[ChaCha20Poly1305] = field(repr=False)
    aead_key_length: int
    signature: SignatureScheme = field(repr=False)
    aead_nonce_length: int = 12
    hash_length: int = field(init=False)
    _new_hash: Callable[[bytes], Digest] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        new_hash = HASHES[self.hash_name]
        object.__setattr__(self, "_new_hash", new_hash)
        object.__setattr__(self, "hash_length", new_hash(b"").digest_size)

    def hash(self, data: bytes) -> bytes:
        """Return the suite's hash, `hash_length` bytes."""
        return self._new_hash(data).digest()

    def mac(self, key: bytes, data: bytes) -> bytes:
        """Return the suite's HMAC, `hash_length` bytes."""
        return hmac.digest(key, data, self.hash_name)

    def verify_mac(self, key: bytes, data: bytes, tag: bytes) -> None:
        """Raise VerificationError unless `tag` is the HMAC of `data`."""
        if not hmac.compare_digest(self.mac(key, data), tag):
            raise VerificationError("MAC does not match")

    def extract(self, salt: bytes, ikm: bytes) -> Secret:
        """Return KDF.Extract, `hash_length` bytes."""
        return hkdf_extract(self.hash_name, salt, ikm)

    def expand(self, secret: bytes, info: bytes, length: int) -> Secret:
        """Return KDF.Expand to `length` bytes."""
        return hkdf_expand(self.hash_name, secret, info, length)

    def expand_with_label(self, secret: bytes, label: str, context: bytes, length: int) -> Secret:
        """Return ExpandWithLabel to `length` bytes. Source: RFC 9420 §8."""
        return hkdf_expand(self.hash_name, secret, _kdf_label(label, length) + opaque(context), length)

    def derive_secret(self, secret: bytes, label: str) -> Secret:
        """Return DeriveSecret, `hash_length` bytes. Source: RFC 9420 §8."""
        return self.expand_with_label(secret, label, b"", self.hash_length)

    def derive_tree_secret(self, secret: bytes, label: str, generation: int, length: int) -> Secret:
        """Return DeriveTreeSecret to `length` bytes. Source: RFC 9420 §9."""
        return self.expand_with_label(secret, label, generation.to_bytes(4), length)

    def ref_hash(self, label: str, value: bytes) -> bytes:
        """Return RefHash of `value`, `hash_length` bytes; this label is taken whole, with its "MLS 1.0 ".

        Source: RFC 9420 §5.2.
        """
        return self.hash(_ref_label(label) + opaque(value))

    def sign_with_label(self, private: bytes, label: str, content: bytes) -> bytes:
        """Return SignWithLabel. Source: RFC 9420 §5.1.2."""
        return self.signature.sign(private, _labelled(label, content))

    def verify_with_label(self, public: bytes, label: str, content: bytes, signature: bytes) -> None:
        """Raise VerificationError unless VerifyWithLabel holds. Source: RFC 9420 §5.1.2."""
        self.signature.verify(public, _labelled(label, content), signature)

    def generate_signature_key(self, random: Random) -> SignatureKeyPair:
        """Return a new signature key pair."""
        return self.signature.generate(random)

    def signature_public_key(self, private: bytes) -> bytes:
        """Return the public key of a signature private key; raises DecodeError."""
        return self.signature.public(private)

    def encrypt_with_label(self, public: bytes, label: str, context: bytes, plaintext: bytes) -> HPKECiphertext:
        """Return EncryptWithLabel to an HPKE public key. Source: RFC 9420 §5.1.3."""
        return HPKECiphertext(*self.hpke.seal(public, _labelled(label, context), plaintext))

    def decrypt_with_label(self, private: bytes, label: str, context: bytes, ciphertext: HPKECiphertext) -> Secret:
        """Return DecryptWithLabel; raises VerificationError when it fails. Source: RFC 9420 §5.1.3."""
        return self.hpke.open(private, _labelled(label, context), ciphertext.kem_output, ciphertext.ciphertext)

    def derive_key_pair(self, ikm: bytes) -> tuple[Secret, bytes]:
        """Return the HPKE (private, public) key pair that follows from `ikm`. Source: RFC 9180 §7.1.3."""
        return self.hpke.derive_key_pair(ikm)

    def validate_hpke_public_key(self, public: bytes) -> None:
        """Raise DecodeError unless `public` is a usable HPKE public key of this suite."""
        self.hpke.kem.check_public_key(public)

    def validate_kem_output(self, kem_output: bytes) -> None:
        """Raise DecodeError unless `kem_output` could come from the HPKE of this suite, as far as anyone can see."""
        self.hpke.kem.check_kem_output(kem_output)

    def is_sealed_secret(self, ciphertext: HPKECiphertext) -> bool:
        """Say whether a ciphertext has the lengths of one secret of `hash_length` bytes, sealed."""
        lengths = len(ciphertext.kem_output), len(ciphertext.ciphertext)
        return lengths == (self.hpke.kem.kem.enc_length(), self.hash_length + AEAD_TAG_LENGTH)

    def seal(self, key: bytes, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
        """Return the AEAD ciphertext with its tag."""
        return self.aead(key).encrypt(nonce, plaintext, aad)

    def open(self, key: bytes, nonce: bytes, aad: bytes, ciphertext: bytes) -> Secret:
        """Return the AEAD plaintext; raises VerificationError when it does not decrypt."""
        try:
            return Secret(self.aead(key).decrypt(nonce, ciphertext, aad))
        except (InvalidTag, ValueError) as error:
            raise VerificationError("AEAD decryption failed") from error


def cipher_suite(suite_id: int) -> CipherSuite:
    """Return the cipher suite of this number; raises UnsupportedError. Source: RFC 9420 §17.1."""
    try:
        return _SUITES[suite_id]
    except KeyError:
        raise UnsupportedError(f"cipher suite 0x{suite_id:04x} is not supported") from None


@lru_cache(maxsize=8)
def _ref_label(label: str) -> bytes:
    return opaque(label.encode())


@lru_cache(maxsize=128)
def _label(label: str) -> bytes:
    return opaque(b"MLS 1.0 " + label.encode())


@lru_cache(maxsize=128)
def _kdf_label(label: str, length: int) -> bytes:
    return length.to_bytes(2) + _label(label)


def _labelled(label: str, content: bytes) -> bytes:
    return _label(label) + opaque(content)


_SUITES = {
    suite.id: suite
    for suite in (
        CipherSuite(
            id=MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519,
            name="MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519",
            hpke=Hpke(X25519, KDF.HKDF_SHA256, 1, "sha256", AEAD.AES_128_GCM, 1),
            hash_name="sha256",
            aead=AESGCM,
            aead_key_length=16,
            signature=ED25519,
        ),
        CipherSuite(
            id=MLS_128_DHKEMP256_AES128GCM_SHA256_P256,
            name="MLS_128_DHKEMP256_AES128GCM_SHA256_P256",
            hpke=Hpke(P256, KDF.HKDF_SHA256, 1, "sha256", AEAD.AES_128_GCM, 1),
            hash_name="sha256",
            aead=AESGCM,
            aead_key_length=16,
            signature=ECDSA_P256,
        ),
        CipherSuite(
            id=MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519,
            name="MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519",
            hpke=Hpke(X25519, KDF.HKDF_SHA256, 1, "sha256", AEAD.CHACHA20_POLY1305, 3),
            hash_name="sha256",
            aead=ChaCha20Poly1305,
            aead_key_length=32,
            signature=ED25519,
        ),
        CipherSuite(
            id=MLS_256_DHKEMP521_AES256GCM_SHA512_P521,
            name="MLS_256_DHKEMP521_AES256GCM_SHA512_P521",
            hpke=Hpke(P521, KDF.HKDF_SHA512, 3, "sha512", AEAD.AES_256_GCM, 2),
            hash_name="sha512",
            aead=AESGCM,
            aead_key_length=32,
            signature=ECDSA_P521,
        ),
        CipherSuite(
            id=MLS_256_DHKEMP384_AES256GCM_SHA384_P384,
            name="MLS_256_DHKEMP384_AES256GCM_SHA384_P384",
            hpke=Hpke(P384, KDF.HKDF_SHA384, 2, "sha384", AEAD.AES_256_GCM, 2),
            hash_name="sha384",
            aead=AESGCM,
            aead_key_length=32,
            signature=ECDSA_P384,
        ),
        CipherSuite(
            id=MLS_128_MLKEM768X25519_AES256GCM_SHA384_Ed25519,
            name="MLS_128_MLKEM768X25519_AES256GCM_SHA384_Ed25519",
            hpke=Hpke(MLKEM768_X25519, KDF.HKDF_SHA384, 2, "sha384", AEAD.AES_256_GCM, 2),
            hash_name="sha384",
            aead=AESGCM,
            aead_key_length=32,
            signature=ED25519,
        ),
    )
}

# The numbers of all suites that are built.
CIPHER_SUITES = tuple(_SUITES)
