"""What a newcomer is told: GroupInfo, and the Welcome that seals it (RFC 9420 §12.4.3). Structures only.

Opening a Welcome needs secrets and lives in `welcome`; a server reads these structures and holds none.
"""

from dataclasses import dataclass, field, replace

from heliograph.mls.codec import Reader, Struct, Writer
from heliograph.mls.errors import ValidationError
from heliograph.mls.extension import Extension
from heliograph.mls.group_context import GroupContext
from heliograph.mls.proposal import PreSharedKeyID
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import CipherSuite, HPKECiphertext, Secret
from heliograph.mls.tree_math import LeafIndex

__all__ = [
    "EncryptedGroupSecrets",
    "GroupInfo",
    "GroupSecrets",
    "PathSecret",
    "PreSharedKeyID",
    "Welcome",
]


@dataclass(frozen=True, slots=True)
class GroupInfo(Struct):
    """A member's signed statement of the group's state. Source: RFC 9420 §12.4.3."""

    group_context: GroupContext
    extensions: tuple[Extension, ...]
    confirmation_tag: bytes
    signer: LeafIndex
    signature: bytes = b""

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        self._write_unsigned(writer)
        writer.opaque(self.signature)

    @classmethod
    def read(cls, reader: Reader) -> "GroupInfo":
        """Read one; raises DecodeError."""
        return cls(
            group_context=GroupContext.read(reader),
            extensions=reader.vector(Extension.read),
            confirmation_tag=reader.opaque(),
            signer=LeafIndex(reader.uint32()),
            signature=reader.opaque(),
        )

    def sign(self, suite: CipherSuite, private: bytes) -> "GroupInfo":
        """Return this signed anew. Source: RFC 9420 §12.4.3."""
        return replace(self, signature=suite.sign_with_label(private, "GroupInfoTBS", self._to_be_signed()))

    def verify_signature(self, suite: CipherSuite, tree: RatchetTree) -> None:
        """Raise VerificationError unless the leaf at `signer` signed this, ValidationError if that leaf is blank.

        Source: RFC 9420 §12.4.3.1.
        """
        leaf = tree.leaf(self.signer)
        if leaf is None:
            raise ValidationError("GroupInfo signer is a blank leaf")
        suite.verify_with_label(leaf.signature_key, "GroupInfoTBS", self._to_be_signed(), self.signature)

    def _write_unsigned(self, writer: Writer) -> None:
        self.group_context.write(writer)
        writer.vector(self.extensions)
        writer.opaque(self.confirmation_tag)
        writer.uint32(self.signer)

    def _to_be_signed(self) -> bytes:
        writer = Writer()
        self._write_unsigned(writer)
        return writer.getvalue()


@dataclass(frozen=True, slots=True)
class PathSecret(Struct):
    """The path secret of the lowest node that newcomer and committer share. Source: RFC 9420 §12.4.3.1."""

    path_secret: Secret = field(repr=False)

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.opaque(self.path_secret)

    @classmethod
    def read(cls, reader: Reader) -> "PathSecret":
        """Read one; raises DecodeError."""
        return cls(Secret(reader.opaque()))


@dataclass(frozen=True, slots=True)
class GroupSecrets(Struct):
    """What a Welcome seals for one newcomer. Source: RFC 9420 §12.4.3.1."""

    joiner_secret: Secret = field(repr=False)
    path_secret: PathSecret | None = field(default=None, repr=False)
    psks: tuple[PreSharedKeyID, ...] = ()

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.opaque(self.joiner_secret)
        writer.optional(self.path_secret)
        writer.vector(self.psks)

    @classmethod
    def read(cls, reader: Reader) -> "GroupSecrets":
        """Read one; raises DecodeError."""
        return cls(Secret(reader.opaque()), reader.optional(PathSecret.read), reader.vector(PreSharedKeyID.read))


@dataclass(frozen=True, slots=True)
class EncryptedGroupSecrets(Struct):
    """GroupSecrets sealed to one key package, named by its KeyPackageRef. Source: RFC 9420 §12.4.3.1."""

    new_member: bytes
    encrypted_group_secrets: HPKECiphertext

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.opaque(self.new_member)
        self.encrypted_group_secrets.write(writer)

    @classmethod
    def read(cls, reader: Reader) -> "EncryptedGroupSecrets":
        """Read one; raises DecodeError."""
        return cls(reader.opaque(), HPKECiphertext.read(reader))


@dataclass(frozen=True, slots=True)
class Welcome(Struct):
    """An invitation for all members that one commit adds. Source: RFC 9420 §12.4.3.1."""

    cipher_suite: int
    secrets: tuple[EncryptedGroupSecrets, ...]
    encrypted_group_info: bytes

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.uint16(self.cipher_suite)
        writer.vector(self.secrets)
        writer.opaque(self.encrypted_group_info)

    @classmethod
    def read(cls, reader: Reader) -> "Welcome":
        """Read one; raises DecodeError."""
        return cls(reader.uint16(), reader.vector(EncryptedGroupSecrets.read), reader.opaque())
