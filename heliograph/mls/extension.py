"""Extensions: typed, length-prefixed additions to leaf nodes, key packages, group contexts and group infos
(§13).

An extension is carried as its type and its bytes, known or not; whoever needs the meaning of one asks `find`
for the bytes and decodes them. The types that RFC 9420 defines are "default": every client supports them, and
they are not listed in capabilities.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from heliograph.mls.codec import Reader, Struct, Writer
from heliograph.mls.credential import Credential
from heliograph.mls.errors import ValidationError


class ExtensionType(IntEnum):
    """Extension types that this library knows by name; others are plain ints. Source: RFC 9420 §17.3."""

    APPLICATION_ID = 0x0001
    RATCHET_TREE = 0x0002
    REQUIRED_CAPABILITIES = 0x0003
    EXTERNAL_PUB = 0x0004
    EXTERNAL_SENDERS = 0x0005
    LAST_RESORT = 0x000A


DEFAULT_EXTENSION_TYPES = frozenset(range(0x0001, 0x0006))


@dataclass(frozen=True, slots=True)
class Extension(Struct):
    """One extension, carried opaquely. Source: RFC 9420 §7.2, §13.2."""

    extension_type: int
    extension_data: bytes

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.uint16(self.extension_type)
        writer.opaque(self.extension_data)

    @classmethod
    def read(cls, reader: Reader) -> "Extension":
        """Read one; raises DecodeError."""
        return cls(reader.uint16(), reader.opaque())


def find(extensions: Iterable[Extension], extension_type: int) -> bytes | None:
    """Return the data of the first extension of this type, or None where there is none."""
    for extension in extensions:
        if extension.extension_type == extension_type:
            return extension.extension_data
    return None


def check_unique(extensions: Sequence[Extension]) -> None:
    """Raise ValidationError when two extensions have the same type. Source: RFC 9420 §13.4."""
    if len({extension.extension_type for extension in extensions}) != len(extensions):
        raise ValidationError("two extensions of one list have the same type")


@dataclass(frozen=True, slots=True)
class ApplicationId(Struct):
    """An identifier that the application chose for a leaf; nobody vouches for it. Source: RFC 9420 §5.3.3."""

    application_id: bytes

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.opaque(self.application_id)

    @classmethod
    def read(cls, reader: Reader) -> "ApplicationId":
        """Read one; raises DecodeError."""
        return cls(reader.opaque())


@dataclass(frozen=True, slots=True)
class RequiredCapabilities(Struct):
    """What every member of the group must support beyond the defaults. Source: RFC 9420 §11.1."""

    extension_types: tuple[int, ...] = ()
    proposal_types: tuple[int, ...] = ()
    credential_types: tuple[int, ...] = ()

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.uint16_vector(self.extension_types)
        writer.uint16_vector(self.proposal_types)
        writer.uint16_vector(self.credential_types)

    @classmethod
    def read(cls, reader: Reader) -> "RequiredCapabilities":
        """Read one; raises DecodeError."""
        return cls(reader.uint16_vector(), reader.uint16_vector(), reader.uint16_vector())

    def to_extension(self) -> Extension:
        """Return the extension that carries this."""
        return Extension(ExtensionType.REQUIRED_CAPABILITIES, self.encode())

    @classmethod
    def of(cls, extensions: Iterable[Extension]) -> "RequiredCapabilities | None":
        """Return what these group-context extensions require, or None; raises DecodeError."""
        data = find(extensions, ExtensionType.REQUIRED_CAPABILITIES)
        return None if data is None else cls.decode(data)


@dataclass(frozen=True, slots=True)
class ExternalPub(Struct):
    """The group's public key for external commits, in a GroupInfo. Source: RFC 9420 §12.4.3.2."""

    external_pub: bytes

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.opaque(self.external_pub)

    @classmethod
    def read(cls, reader: Reader) -> "ExternalPub":
        """Read one; raises DecodeError."""
        return cls(reader.opaque())

    def to_extension(self) -> Extension:
        """Return the extension that carries this."""
        return Extension(ExtensionType.EXTERNAL_PUB, self.encode())

    @classmethod
    def of(cls, extensions: Iterable[Extension]) -> "ExternalPub | None":
        """Return the external key among these GroupInfo extensions, or None; raises DecodeError."""
        data = find(extensions, ExtensionType.EXTERNAL_PUB)
        return None if data is None else cls.decode(data)


@dataclass(frozen=True, slots=True)
class ExternalSender(Struct):
    """One outsider who may send proposals to the group. Source: RFC 9420 §12.1.8.1."""

    signature_key: bytes
    credential: Credential

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.opaque(self.signature_key)
        self.credential.write(writer)

    @classmethod
    def read(cls, reader: Reader) -> "ExternalSender":
        """Read one; raises DecodeError."""
        return cls(reader.opaque(), Credential.read(reader))


@dataclass(frozen=True, slots=True)
class ExternalSenders(Struct):
    """The outsiders who may send proposals, by sender_index. Source: RFC 9420 §12.1.8.1."""

    senders: tuple[ExternalSender, ...] = ()

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.vector(self.senders)

    @classmethod
    def read(cls, reader: Reader) -> "ExternalSenders":
        """Read one; raises DecodeError."""
        return cls(reader.vector(ExternalSender.read))

    def to_extension(self) -> Extension:
        """Return the extension that carries this."""
        return Extension(ExtensionType.EXTERNAL_SENDERS, self.encode())

    @classmethod
    def of(cls, extensions: Iterable[Extension]) -> "ExternalSenders | None":
        """Return the external senders of these group-context extensions, or None; raises DecodeError."""
        data = find(extensions, ExtensionType.EXTERNAL_SENDERS)
        return None if data is None else cls.decode(data)
