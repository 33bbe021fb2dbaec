"""ML-KEM-768 with X25519: the KEM 0x647a of draft-ietf-hpke-pq, by name MLKEM768-X25519.

Theory of operation. Whoever would read must break both halves. A private key is a seed of 32 bytes, from which SHAKE256
gives the 64-byte seed of an ML-KEM-768 key and 32 bytes of an X25519 key. A public key is the two public keys in a row,
and a kem_output the two ciphertexts. The shared secret binds what could differ between two who hold the same:

    SHA3-256(ML-KEM secret || X25519 secret || ephemeral X25519 key || recipient's X25519 key || label)

An ML-KEM ciphertext that was tampered with gives another secret, never an error (FIPS 203 §6.3): the refusal comes from
what is decrypted or confirmed with it.
"""

import hashlib

from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.hpke import KEM, MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey

from heliograph.mls.dh_kem import X25519
from heliograph.mls.errors import DecodeError
from heliograph.mls.kdf import Random, Secret
from heliograph.mls.kem import Kem

SEED_LENGTH = 32
MLKEM_SEED_LENGTH = 64
MLKEM_PUBLIC_LENGTH = 1184
MLKEM_CIPHERTEXT_LENGTH = 1088
X25519_LENGTH = 32
PUBLIC_LENGTH = MLKEM_PUBLIC_LENGTH + X25519_LENGTH
KEM_OUTPUT_LENGTH = MLKEM_CIPHERTEXT_LENGTH + X25519_LENGTH

# Source: draft-irtf-cfrg-concrete-hybrid-kems, MLKEM768-X25519.
_COMBINER_LABEL = b"\\.//^\\"
_DERIVE_LABEL = b"DeriveKeyPair"


class Mlkem768X25519Kem(Kem):
    """MLKEM768-X25519, KEM 0x647a; private keys are seeds. Source: draft-ietf-hpke-pq, Hybrid KEMs."""

    kem_id = 0x647A
    kem = KEM.MLKEM768_X25519

    def private_key(self, private: bytes) -> MLKEM768X25519PrivateKey:
        """Return the key object of a 32-byte seed; raises DecodeError."""
        return MLKEM768X25519PrivateKey(*_expand(private))

    def public_key(self, public: bytes) -> MLKEM768X25519PublicKey:
        """Return the key object of 1216 public bytes; raises DecodeError, also for an ML-KEM key out of range."""
        return MLKEM768X25519PublicKey(*_read_public(public))

    def check_public_key(self, public: bytes) -> None:
        """Raise DecodeError for a wrong length, an ML-KEM key out of range and an X25519 key of low order.

        Source: FIPS 203 §7.2, RFC 9180 §7.1.4.
        """
        _read_public(public)
        X25519.check_public_key(public[MLKEM_PUBLIC_LENGTH:])

    def check_kem_output(self, kem_output: bytes) -> None:
        """Raise DecodeError for a wrong length or an ephemeral X25519 key of low order. Source: FIPS 203 §7.3."""
        if len(kem_output) != KEM_OUTPUT_LENGTH:
            raise DecodeError(f"a kem_output of this KEM has {KEM_OUTPUT_LENGTH} bytes")
        X25519.check_public_key(kem_output[MLKEM_CIPHERTEXT_LENGTH:])

    def derive_key_pair(self, ikm: bytes) -> tuple[Secret, bytes]:
        """Return the (seed, public) key pair that follows from `ikm`, 32 bytes and 1216.

        Source: draft-ietf-hpke-pq, Hybrid KEMs; LabeledDerive is that of draft-ietf-hpke-hpke §4.
        """
        labeled = b"HPKE-v1" + self.suite_id + len(_DERIVE_LABEL).to_bytes(2) + _DERIVE_LABEL + SEED_LENGTH.to_bytes(2)
        seed = Secret(hashlib.shake_256(ikm + labeled).digest(SEED_LENGTH))
        mlkem_key, x25519_key = _expand(seed)
        return seed, mlkem_key.public_key().public_bytes_raw() + X25519.public_bytes(x25519_key)

    def encapsulate(self, public: bytes, random: Random) -> tuple[Secret, bytes]:
        """Return (shared_secret, kem_output) for a public key; raises DecodeError.

        random: gives the ephemeral X25519 key alone; the randomness of ML-KEM is drawn by `cryptography`, which takes
        none from outside.
        """
        mlkem_key, _ = _read_public(public)
        recipient_x25519 = public[MLKEM_PUBLIC_LENGTH:]
        ephemeral_key = X25519.private_key(random(X25519_LENGTH))
        ephemeral_x25519 = X25519.public_bytes(ephemeral_key)
        x25519_secret = X25519.diffie_hellman(ephemeral_key, recipient_x25519)
        mlkem_secret, mlkem_ciphertext = mlkem_key.encapsulate()
        shared_secret = _combine(mlkem_secret, x25519_secret, ephemeral_x25519, recipient_x25519)
        return shared_secret, mlkem_ciphertext + ephemeral_x25519

    def decapsulate(self, private: bytes, kem_output: bytes) -> Secret:
        """Return the shared_secret of a kem_output; raises DecodeError for a wrong length or a point of low order.

        A tampered ML-KEM ciphertext gives a secret that nobody else has. Source: FIPS 203 §6.3.
        """
        if len(kem_output) != KEM_OUTPUT_LENGTH:
            raise DecodeError(f"a kem_output of this KEM has {KEM_OUTPUT_LENGTH} bytes")
        mlkem_key, x25519_key = _expand(private)
        ephemeral_x25519 = kem_output[MLKEM_CIPHERTEXT_LENGTH:]
        x25519_secret = X25519.diffie_hellman(x25519_key, ephemeral_x25519)
        mlkem_secret = mlkem_key.decapsulate(kem_output[:MLKEM_CIPHERTEXT_LENGTH])
        return _combine(mlkem_secret, x25519_secret, ephemeral_x25519, X25519.public_bytes(x25519_key))


def _expand(seed: bytes) -> tuple[mlkem.MLKEM768PrivateKey, x25519.X25519PrivateKey]:
    if len(seed) != SEED_LENGTH:
        raise DecodeError(f"a private key of this KEM is a seed of {SEED_LENGTH} bytes")
    expanded = hashlib.shake_256(seed).digest(MLKEM_SEED_LENGTH + X25519_LENGTH)
    mlkem_key = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:MLKEM_SEED_LENGTH])
    return mlkem_key, x25519.X25519PrivateKey.from_private_bytes(expanded[MLKEM_SEED_LENGTH:])


def _read_public(public: bytes) -> tuple[mlkem.MLKEM768PublicKey, x25519.X25519PublicKey]:
    if len(public) != PUBLIC_LENGTH:
        raise DecodeError(f"a public key of this KEM has {PUBLIC_LENGTH} bytes")
    try:
        # This refuses coefficients that are not below the modulus. Source: FIPS 203 §7.2.
        mlkem_key = mlkem.MLKEM768PublicKey.from_public_bytes(public[:MLKEM_PUBLIC_LENGTH])
    except ValueError as error:
        raise DecodeError("not an ML-KEM-768 encapsulation key") from error
    return mlkem_key, X25519.public_key(public[MLKEM_PUBLIC_LENGTH:])


def _combine(mlkem_secret: bytes, x25519_secret: bytes, ephemeral_x25519: bytes, recipient_x25519: bytes) -> Secret:
    bound = mlkem_secret + x25519_secret + ephemeral_x25519 + recipient_x25519 + _COMBINER_LABEL
    return Secret(hashlib.sha3_256(bound).digest())


MLKEM768_X25519 = Mlkem768X25519Kem()
