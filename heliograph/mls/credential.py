"""Credentials: who a member says it is (RFC 9420 §5.3).

This library carries credentials and checks that a group can read their types. Whether a credential is true is
for the caller to judge (`credential_check`); a certificate must at least hold the key that its owner signs with.
Every defined credential is one length-prefixed value after its type, so an unknown type is read the same way and
carried as it is.
"""

from dataclasses import dataclass
from enum import IntEnum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from heliograph.mls.codec import Reader, Struct, Writer
from heliograph.mls.errors import UnsupportedError, ValidationError


class CredentialType(IntEnum):
    """Credential types that this library knows by name; others are plain ints. Source: RFC 9420 §17.5."""

    BASIC = 0x0001
    X509 = 0x0002


@dataclass(frozen=True, slots=True)
class Credential(Struct):
    """A credential as its type and the bytes inside its vector. Source: RFC 9420 §5.3."""

    credential_type: int
    content: bytes

    @classmethod
    def basic(cls, identity: bytes) -> "Credential":
        """Return a basic credential, a bare identity."""
        return cls(CredentialType.BASIC, identity)

    @classmethod
    def x509(cls, certificates: tuple[bytes, ...]) -> "Credential":
        """Return a credential of DER certificates, the end entity's first."""
        writer = Writer()
        for certificate in certificates:
            writer.opaque(certificate)
        return cls(CredentialType.X509, writer.getvalue())

    @property
    def identity(self) -> bytes:
        """Return the identity of a basic credential; raises UnsupportedError for another type."""
        if self.credential_type != CredentialType.BASIC:
            raise UnsupportedError("only a basic credential has an identity")
        return self.content

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """Return the DER certificates, the end entity's first; raises UnsupportedError for another type."""
        if self.credential_type != CredentialType.X509:
            raise UnsupportedError("only an x509 credential has certificates")
        return _read_certificates(self.content)

    def check_key(self, signature_key: bytes) -> None:
        """Raise ValidationError when a certificate holds another key than `signature_key`.

        Source: RFC 9420 §5.3.
        """
        if self.credential_type != CredentialType.X509:
            return
        certificates = self.certificates
        if not certificates:
            raise ValidationError("an x509 credential holds no certificate")
        if _certified_key(certificates[0]) != signature_key:
            raise ValidationError("the certificate is for another key than the leaf's signature_key")

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.uint16(self.credential_type)
        writer.opaque(self.content)

    @classmethod
    def read(cls, reader: Reader) -> "Credential":
        """Read one, of any type; raises DecodeError."""
        credential = cls(reader.uint16(), reader.opaque())
        if credential.credential_type == CredentialType.X509:
            _read_certificates(credential.content)
        return credential


def _read_certificates(content: bytes) -> tuple[bytes, ...]:
    reader = Reader(content)
    certificates: list[bytes] = []
    while reader.position < len(content):
        certificates.append(reader.opaque())
    return tuple(certificates)


def _certified_key(certificate: bytes) -> bytes:
    try:
        loaded = x509.load_der_x509_certificate(certificate)
        key = loaded.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise ValidationError("the end-entity certificate cannot be read") from error
    if loaded.serial_number <= 0:
        # Releases of `cryptography` differ in whether they read it, and members must not. Source: RFC 5280 §4.1.2.2.
        raise ValidationError("the end-entity certificate has no positive serial number")
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key.public_bytes_raw()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    raise ValidationError("the certificate's key is of a kind that MLS does not use")
