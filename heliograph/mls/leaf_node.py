"""Leaf nodes: one client's appearance in a group or key package, signed by that client (RFC 9420 §7.2, §7.3).

A leaf comes from a key package, an Update proposal or a Commit, and says which. The first has a lifetime; the
last has a parent hash; the two that were made inside a group sign its group_id and their leaf_index too.
`validate` holds a leaf to the rules that need nothing but the leaf; what it must share with the other members
(unique keys, readable credentials, required capabilities) is checked over the tree, in `ratchet_tree` and
`proposal_rules`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from heliograph.mls.codec import EncodedOnce, Reader, Struct, Writer, opaque, uint16s
from heliograph.mls.credential import Credential, CredentialType
from heliograph.mls.errors import DecodeError, ValidationError
from heliograph.mls.extension import (
    DEFAULT_EXTENSION_TYPES,
    Extension,
    RequiredCapabilities,
    check_unique,
)
from heliograph.mls.suite import CipherSuite
from heliograph.mls.tree_math import LeafIndex

__all__ = [
    "Capabilities",
    "Credential",
    "CredentialType",
    "LeafNode",
    "LeafNodeSource",
    "Lifetime",
    "ProtocolVersion",
]

DAY_S = 86_400
LIFETIME_LIMIT_S = 31 * DAY_S
LAST_RESORT_LIFETIME_LIMIT_S = 91 * DAY_S

# Everyone who joins fetches all leaves and everyone who is in keeps them, so one member's has a largest size.
MAX_LEAF_NODE_BYTES = 16_384

SHARED_CAPABILITIES_BYTES = 256

DEFAULT_PROPOSAL_TYPES = frozenset(range(0x0001, 0x0008))


class ProtocolVersion(IntEnum):
    """Versions of MLS. Source: RFC 9420 §6."""

    MLS10 = 1


class LeafNodeSource(IntEnum):
    """How a leaf came into the tree. Source: RFC 9420 §7.2."""

    KEY_PACKAGE = 1
    UPDATE = 2
    COMMIT = 3


@dataclass(frozen=True, slots=True)
class Capabilities(Struct):
    """What a client supports beyond the defaults; unknown numbers are kept and mean nothing.

    Source: RFC 9420 §7.2.
    """

    versions: tuple[int, ...] = (ProtocolVersion.MLS10,)
    cipher_suites: tuple[int, ...] = (1,)
    extensions: tuple[int, ...] = ()
    proposals: tuple[int, ...] = ()
    credentials: tuple[int, ...] = (CredentialType.BASIC,)

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.uint16_vector(self.versions)
        writer.uint16_vector(self.cipher_suites)
        writer.uint16_vector(self.extensions)
        writer.uint16_vector(self.proposals)
        writer.uint16_vector(self.credentials)

    @classmethod
    def read(cls, reader: Reader) -> "Capabilities":
        """Read one; raises DecodeError."""
        lists = reader.opaque(), reader.opaque(), reader.opaque(), reader.opaque(), reader.opaque()
        return _shared(lists) if sum(map(len, lists)) <= SHARED_CAPABILITIES_BYTES else cls(*map(uint16s, lists))

    # Both lists that meet here may be a stranger's and hundreds of thousands long: they meet as sets.

    def supports_extensions(self, extension_types: Iterable[int]) -> bool:
        """Say whether all these extension types are listed here or defaults."""
        return (set(extension_types) - DEFAULT_EXTENSION_TYPES).issubset(self.extensions)

    def supports_proposals(self, proposal_types: Iterable[int]) -> bool:
        """Say whether all these proposal types are listed here or defaults."""
        return (set(proposal_types) - DEFAULT_PROPOSAL_TYPES).issubset(self.proposals)

    def check_required(self, needs: "Needs") -> None:
        """Raise ValidationError when something required is missing here. Source: RFC 9420 §11.1."""
        if not _are_listed(needs.extensions, self.extensions):
            raise ValidationError("leaf does not support an extension that the group requires")
        if not _are_listed(needs.proposals, self.proposals):
            raise ValidationError("leaf does not support a proposal type that the group requires")
        if not _are_listed(needs.credentials, self.credentials):
            raise ValidationError("leaf does not support a credential type that the group requires")


# Thousands of members run a handful of programs: one value serves all whose capabilities are alike.
@lru_cache(maxsize=64)
def _shared(lists: tuple[bytes, ...]) -> Capabilities:
    return Capabilities(*map(uint16s, lists))


class Needs(NamedTuple):
    """What a group requires beyond the defaults: built once, and held against every member."""

    extensions: frozenset[int]
    proposals: frozenset[int]
    credentials: frozenset[int]

    @classmethod
    def of(cls, required: RequiredCapabilities) -> "Needs":
        """Return what the extension of the group context asks for."""
        return cls(
            frozenset(required.extension_types) - DEFAULT_EXTENSION_TYPES,
            frozenset(required.proposal_types) - DEFAULT_PROPOSAL_TYPES,
            frozenset(required.credential_types),
        )


def _are_listed(needed: frozenset[int], listed: Sequence[int]) -> bool:
    return len(needed) <= len(listed) and needed.issubset(listed)


@dataclass(frozen=True, slots=True)
class Lifetime(Struct):
    """When a key package may be used, in seconds since 1970 UTC, both ends included.

    Source: RFC 9420 §7.2.
    """

    not_before: int
    not_after: int

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.uint64(self.not_before)
        writer.uint64(self.not_after)

    @classmethod
    def read(cls, reader: Reader) -> "Lifetime":
        """Read one; raises DecodeError."""
        return cls(reader.uint64(), reader.uint64())

    def check_total(self, limit_s: int) -> None:
        """Raise ValidationError when the whole span is negative or longer than `limit_s`.

        Source: RFC 9420 §7.2.
        """
        if self.not_after < self.not_before:
            raise ValidationError("lifetime ends before it begins")
        if self.not_after - self.not_before > limit_s:
            raise ValidationError("lifetime is longer than the limit")

    def check_started(self, now_s: int) -> None:
        """Raise ValidationError before `not_before`. Source: RFC 9420 §7.3."""
        if now_s < self.not_before:
            raise ValidationError("lifetime has not begun")

    def check_not_expired(self, now_s: int) -> None:
        """Raise ValidationError after `not_after`. Source: RFC 9420 §7.3."""
        if now_s > self.not_after:
            raise ValidationError("lifetime has ended")


@dataclass(frozen=True, slots=True)
class LeafNode(EncodedOnce):
    """A member's keys, credential and capabilities, signed by the member. Source: RFC 9420 §7.2.

    `lifetime` is there exactly when the source is KEY_PACKAGE, `parent_hash` exactly when it is COMMIT.
    """

    encryption_key: bytes
    signature_key: bytes
    credential: Credential
    capabilities: Capabilities
    leaf_node_source: LeafNodeSource
    lifetime: Lifetime | None = None
    parent_hash: bytes | None = None
    extensions: tuple[Extension, ...] = ()
    signature: bytes = b""

    def write_fields(self, writer: Writer) -> None:
        """Append the encoding, field by field."""
        writer.opaque(self.encryption_key)
        writer.opaque(self.signature_key)
        self.credential.write(writer)
        self.capabilities.write(writer)
        writer.uint8(self.leaf_node_source)
        if self.leaf_node_source is LeafNodeSource.KEY_PACKAGE:
            if self.lifetime is None:
                raise ValueError("a key package's leaf needs a lifetime")
            self.lifetime.write(writer)
        elif self.leaf_node_source is LeafNodeSource.COMMIT:
            if self.parent_hash is None:
                raise ValueError("a commit's leaf needs a parent_hash")
            writer.opaque(self.parent_hash)
        writer.vector(self.extensions)
        writer.opaque(self.signature)

    @classmethod
    def read(cls, reader: Reader) -> "LeafNode":
        """Read one; raises DecodeError."""
        start = reader.position
        encryption_key = reader.opaque()
        signature_key = reader.opaque()
        credential = Credential.read(reader)
        capabilities = Capabilities.read(reader)
        source = reader.enum8(LeafNodeSource)
        leaf_node = cls(
            encryption_key=encryption_key,
            signature_key=signature_key,
            credential=credential,
            capabilities=capabilities,
            leaf_node_source=source,
            lifetime=Lifetime.read(reader) if source is LeafNodeSource.KEY_PACKAGE else None,
            parent_hash=reader.opaque() if source is LeafNodeSource.COMMIT else None,
            extensions=reader.vector(Extension.read),
            signature=reader.opaque(),
        )
        return leaf_node.read_as(reader.since(start))

    def sign(
        self, suite: CipherSuite, private: bytes, group_id: bytes = b"", leaf_index: LeafIndex | None = None
    ) -> "LeafNode":
        """Return this leaf signed anew; `group_id` and `leaf_index` are needed unless it is a key package's.

        Source: RFC 9420 §7.2.
        """
        content = self._to_be_signed(group_id, leaf_index)
        return replace(self, signature=suite.sign_with_label(private, "LeafNodeTBS", content))

    def verify_signature(self, suite: CipherSuite, group_id: bytes = b"", leaf_index: LeafIndex | None = None) -> None:
        """Raise VerificationError unless the leaf's own key signed it, for this group and place if it names one.

        Source: RFC 9420 §7.3.
        """
        content = self._to_be_signed(group_id, leaf_index)
        suite.verify_with_label(self.signature_key, "LeafNodeTBS", content, self.signature)

    def validate(self, suite: CipherSuite) -> None:
        """Raise ValidationError when the leaf breaks a rule that concerns it alone, its signature excepted.

        Source: RFC 9420 §7.2, §7.3.
        """
        capabilities = self.capabilities
        if self._least_length_bytes() > MAX_LEAF_NODE_BYTES:
            raise ValidationError("leaf is larger than it may be")
        if ProtocolVersion.MLS10 not in capabilities.versions:
            raise ValidationError("leaf does not support MLS 1.0")
        if suite.id not in capabilities.cipher_suites:
            raise ValidationError("leaf does not support the cipher suite in use")
        if self.credential.credential_type not in capabilities.credentials:
            raise ValidationError("leaf does not support its own credential type")
        check_supported_extensions(self.extensions, capabilities)
        self.credential.check_key(self.signature_key)
        try:
            suite.validate_hpke_public_key(self.encryption_key)
        except DecodeError as error:
            raise ValidationError("leaf encryption_key is not a key of the cipher suite") from error

    def check_source(self, source: LeafNodeSource) -> None:
        """Raise ValidationError unless the leaf says that it comes from `source`. Source: RFC 9420 §7.3."""
        if self.leaf_node_source is not source:
            raise ValidationError(f"leaf_node_source is not {source.name.lower()}")

    def _least_length_bytes(self) -> int:
        # All that can be long, without the cost of encoding it.
        lists = self.capabilities
        numbers = (lists.versions, lists.cipher_suites, lists.extensions, lists.proposals, lists.credentials)
        keys = len(self.encryption_key) + len(self.signature_key) + len(self.signature) + len(self.parent_hash or b"")
        extensions = sum(3 + len(extension.extension_data) for extension in self.extensions)
        return keys + len(self.credential.content) + 2 * sum(map(len, numbers)) + extensions

    def _to_be_signed(self, group_id: bytes, leaf_index: LeafIndex | None) -> bytes:
        unsigned = self.encode()[: -len(opaque(self.signature))]
        if self.leaf_node_source is LeafNodeSource.KEY_PACKAGE:
            return unsigned
        if leaf_index is None:
            raise ValueError("a leaf made inside a group is signed with its leaf_index")
        return unsigned + opaque(group_id) + leaf_index.to_bytes(4)


def check_supported_extensions(extensions: Sequence[Extension], capabilities: Capabilities) -> None:
    """Raise ValidationError when a list has a type twice or one that `capabilities` does not list.

    Source: RFC 9420 §7.3, §10, §13.4.
    """
    check_unique(extensions)
    if not capabilities.supports_extensions(extension.extension_type for extension in extensions):
        raise ValidationError("leaf carries an extension that its capabilities do not list")
