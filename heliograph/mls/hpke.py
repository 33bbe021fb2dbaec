"""Hybrid public key encryption (RFC 9180), the part that MLS uses: base mode, empty AAD.

Theory of operation. `cryptography` offers one-shot base-mode encryption and decryption; `Hpke.seal` and `Hpke.open`
are thin covers over them that take and give raw key bytes. Three things that MLS needs are not offered and are
written here and in the KEMs (`kem`):

    derive_key_pair      DeriveKeyPair of RFC 9180 §7.1.3, for the nodes of the ratchet tree
    setup_and_export     SetupBaseS followed by Export, for the sender of an ExternalInit
    receive_and_export   SetupBaseR followed by Export, for its receivers

The sender's ephemeral key inside `seal` is drawn by `cryptography` itself; `setup_and_export` takes its randomness as
an argument.
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, Suite

from heliograph.mls.errors import DecodeError, VerificationError
from heliograph.mls.kdf import HASHES, Random, Secret, hkdf_expand, hkdf_extract
from heliograph.mls.kem import Kem


@dataclass(frozen=True, slots=True)
class Hpke:
    """One HPKE cipher suite: a KEM, a KDF and an AEAD."""

    kem: Kem
    kdf: KDF
    kdf_id: int
    kdf_hash_name: str
    aead: AEAD
    aead_id: int

    def seal(self, public: bytes, info: bytes, plaintext: bytes) -> tuple[bytes, bytes]:
        """Return (kem_output, ciphertext) for a public key, with an empty AAD; raises DecodeError for a bad key."""
        key = self.kem.public_key(public)
        try:
            sealed = self._suite().encrypt(plaintext, key, info)
        except ValueError as error:
            raise DecodeError("unusable HPKE public key") from error
        enc_length = self.kem.kem.enc_length()
        return sealed[:enc_length], sealed[enc_length:]

    def open(self, private: bytes, info: bytes, kem_output: bytes, ciphertext: bytes) -> Secret:
        """Return the plaintext; raises VerificationError when it does not decrypt."""
        if len(kem_output) != self.kem.kem.enc_length():
            raise DecodeError("HPKE kem_output has the wrong length")
        try:
            return Secret(self._suite().decrypt(kem_output + ciphertext, self.kem.private_key(private), info))
        except (InvalidTag, ValueError) as error:
            raise VerificationError("HPKE decryption failed") from error

    def derive_key_pair(self, ikm: bytes) -> tuple[Secret, bytes]:
        """Return the (private, public) key pair that follows from `ikm`. Source: RFC 9180 §7.1.3."""
        return self.kem.derive_key_pair(ikm)

    def setup_and_export(
        self, public: bytes, info: bytes, exporter_context: bytes, length: int, random: Random
    ) -> tuple[bytes, Secret]:
        """Return (kem_output, exported secret) as a base-mode sender. Source: RFC 9180 §5.1.1, §5.3."""
        shared_secret, kem_output = self.kem.encapsulate(public, random)
        return kem_output, self._export(shared_secret, info, exporter_context, length)

    def receive_and_export(
        self, private: bytes, kem_output: bytes, info: bytes, exporter_context: bytes, length: int
    ) -> Secret:
        """Return the exported secret as a base-mode receiver; raises DecodeError.

        Source: RFC 9180 §5.1.1, §5.3.
        """
        shared_secret = self.kem.decapsulate(private, kem_output)
        return self._export(shared_secret, info, exporter_context, length)

    def _suite(self) -> Suite:
        return Suite(self.kem.kem, self.kdf, self.aead)

    def _export(self, shared_secret: bytes, info: bytes, exporter_context: bytes, length: int) -> Secret:
        prefix = b"HPKE-v1HPKE" + b"".join(n.to_bytes(2) for n in (self.kem.kem_id, self.kdf_id, self.aead_id))
        name = self.kdf_hash_name
        hash_length = HASHES[name](b"").digest_size
        psk_id_hash = hkdf_extract(name, b"", prefix + b"psk_id_hash")
        info_hash = hkdf_extract(name, b"", prefix + b"info_hash" + info)
        context = b"\x00" + psk_id_hash + info_hash
        secret = hkdf_extract(name, shared_secret, prefix + b"secret")
        exporter_info = hash_length.to_bytes(2) + prefix + b"exp" + context
        exporter_secret = hkdf_expand(name, secret, exporter_info, hash_length)
        return hkdf_expand(name, exporter_secret, length.to_bytes(2) + prefix + b"sec" + exporter_context, length)
