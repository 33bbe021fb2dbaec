"""Key packages: what a client publishes so that others can add it while it is away (RFC 9420 §10).

`create_key_package` makes one with its three private keys' public halves inside; the signature key is the
caller's, the other two come out in the bundle. A package is used once, except one that is marked as the last
resort.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from heliograph.mls.codec import EncodedOnce, Reader, Writer, opaque
from heliograph.mls.credential import Credential
from heliograph.mls.errors import DecodeError, ValidationError
from heliograph.mls.extension import Extension, ExtensionType, find
from heliograph.mls.leaf_node import (
    LAST_RESORT_LIFETIME_LIMIT_S,
    LIFETIME_LIMIT_S,
    Capabilities,
    LeafNode,
    LeafNodeSource,
    Lifetime,
    ProtocolVersion,
    check_supported_extensions,
)
from heliograph.mls.suite import CipherSuite, Random, Secret


@dataclass(frozen=True, slots=True)
class KeyPackage(EncodedOnce):
    """A signed leaf together with the key to which a Welcome is encrypted. Source: RFC 9420 §10."""

    version: int
    cipher_suite: int
    init_key: bytes
    leaf_node: LeafNode
    extensions: tuple[Extension, ...] = ()
    signature: bytes = b""

    @property
    def is_last_resort(self) -> bool:
        """Say whether the package is marked for use more than once."""
        return find(self.extensions, ExtensionType.LAST_RESORT) is not None

    def write_fields(self, writer: Writer) -> None:
        """Append the encoding, field by field."""
        writer.uint16(self.version)
        writer.uint16(self.cipher_suite)
        writer.opaque(self.init_key)
        self.leaf_node.write(writer)
        writer.vector(self.extensions)
        writer.opaque(self.signature)

    @classmethod
    def read(cls, reader: Reader) -> "KeyPackage":
        """Read one; raises DecodeError."""
        start = reader.position
        key_package = cls(
            version=reader.uint16(),
            cipher_suite=reader.uint16(),
            init_key=reader.opaque(),
            leaf_node=LeafNode.read(reader),
            extensions=reader.vector(Extension.read),
            signature=reader.opaque(),
        )
        return key_package.read_as(reader.since(start))

    def reference(self, suite: CipherSuite) -> bytes:
        """Return the KeyPackageRef, `suite.hash_length` bytes. Source: RFC 9420 §5.2."""
        return suite.ref_hash("MLS 1.0 KeyPackage Reference", self.encode())

    def sign(self, suite: CipherSuite, private: bytes) -> "KeyPackage":
        """Return this package signed anew. Source: RFC 9420 §10."""
        return replace(self, signature=suite.sign_with_label(private, "KeyPackageTBS", self._to_be_signed()))

    def validate(self, suite: CipherSuite, now_s: int, *, lifetime_limit_s: int | None = None) -> None:
        """Raise ValidationError or VerificationError unless the package may be used now, in a group of this suite.

        lifetime_limit_s: the longest lifetime; by default 31 days, or 91 days for a package of last resort.
        Source: RFC 9420 §10.1.
        """
        if self.version != ProtocolVersion.MLS10:
            raise ValidationError("key package is for another protocol version")
        if self.cipher_suite != suite.id:
            raise ValidationError("key package is for another cipher suite")
        leaf = self.leaf_node
        leaf.check_source(LeafNodeSource.KEY_PACKAGE)
        leaf.validate(suite)
        check_supported_extensions(self.extensions, leaf.capabilities)
        if leaf.encryption_key == self.init_key:
            raise ValidationError("key package uses one key as init_key and encryption_key")
        try:
            suite.validate_hpke_public_key(self.init_key)
        except DecodeError as error:
            raise ValidationError("init_key is not a key of the cipher suite") from error
        if leaf.lifetime is None:
            raise ValidationError("key package has no lifetime")
        if lifetime_limit_s is None:
            lifetime_limit_s = LAST_RESORT_LIFETIME_LIMIT_S if self.is_last_resort else LIFETIME_LIMIT_S
        leaf.lifetime.check_total(lifetime_limit_s)
        leaf.lifetime.check_started(now_s)
        leaf.lifetime.check_not_expired(now_s)
        self.verify_signatures(suite)

    def verify_signatures(self, suite: CipherSuite) -> None:
        """Raise VerificationError unless the leaf's key signed both the leaf and the package.

        Source: RFC 9420 §7.3, §10.1.
        """
        self.leaf_node.verify_signature(suite)
        key = self.leaf_node.signature_key
        suite.verify_with_label(key, "KeyPackageTBS", self._to_be_signed(), self.signature)

    def _to_be_signed(self) -> bytes:
        return self.encode()[: -len(opaque(self.signature))]


@dataclass(frozen=True, slots=True)
class KeyPackageBundle:
    """A key package with the two private keys that its maker keeps until it has joined."""

    key_package: KeyPackage
    init_private_key: Secret = field(repr=False)
    encryption_private_key: Secret = field(repr=False)


def create_key_package(
    suite: CipherSuite,
    credential: Credential,
    signature_private_key: bytes,
    *,
    lifetime: Lifetime,
    capabilities: Capabilities,
    extensions: Sequence[Extension] = (),
    leaf_extensions: Sequence[Extension] = (),
    random: Random,
) -> KeyPackageBundle:
    """Return a new, signed key package and its private keys. Source: RFC 9420 §10."""
    init_private_key, init_key = suite.derive_key_pair(random(suite.hash_length))
    encryption_private_key, encryption_key = suite.derive_key_pair(random(suite.hash_length))
    leaf_node = LeafNode(
        encryption_key=encryption_key,
        signature_key=suite.signature_public_key(signature_private_key),
        credential=credential,
        capabilities=capabilities,
        leaf_node_source=LeafNodeSource.KEY_PACKAGE,
        lifetime=lifetime,
        extensions=tuple(leaf_extensions),
    ).sign(suite, signature_private_key)
    key_package = KeyPackage(
        version=ProtocolVersion.MLS10,
        cipher_suite=suite.id,
        init_key=init_key,
        leaf_node=leaf_node,
        extensions=tuple(extensions),
    ).sign(suite, signature_private_key)
    return KeyPackageBundle(key_package, init_private_key, encryption_private_key)
