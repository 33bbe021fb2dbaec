"""Message framing: content, who says it, and how it is protected (RFC 9420 §6).

    FramedContent                    what is said, in which group and epoch, by whom
      + FramedContentAuthData        the signature, and for a commit the confirmation tag
      = AuthenticatedContent         what the rest of the protocol works with
          -> PublicMessage           signed; with a membership tag when a member sends it
          -> PrivateMessage          signed and sealed: see `private_message`
              -> MLSMessage          what travels, beside Welcome, GroupInfo and KeyPackage

Decoding checks form alone. Who may send what is checked by `check_sender`; the signature and the membership
tag by the methods that say so. Sealing and opening a PrivateMessage need secrets and live in
`private_message`.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias, TypeVar

from heliograph.mls.codec import EncodedOnce, Reader, Struct, Writer
from heliograph.mls.commit import Commit
from heliograph.mls.errors import DecodeError, UnsupportedError, ValidationError
from heliograph.mls.group_context import GroupContext
from heliograph.mls.group_info import GroupInfo, Welcome
from heliograph.mls.key_package import KeyPackage
from heliograph.mls.leaf_node import ProtocolVersion
from heliograph.mls.proposal import Add, Proposal, ProposalType, read_proposal, write_proposal
from heliograph.mls.suite import CipherSuite
from heliograph.mls.tree_math import LeafIndex

Value = TypeVar("Value")


class ContentType(IntEnum):
    """What a message says. Source: RFC 9420 §6."""

    APPLICATION = 1
    PROPOSAL = 2
    COMMIT = 3


class SenderType(IntEnum):
    """What the sender is to the group. Source: RFC 9420 §6."""

    MEMBER = 1
    EXTERNAL = 2
    NEW_MEMBER_PROPOSAL = 3
    NEW_MEMBER_COMMIT = 4


class WireFormat(IntEnum):
    """What an MLSMessage carries. Source: RFC 9420 §17.2."""

    PUBLIC_MESSAGE = 1
    PRIVATE_MESSAGE = 2
    WELCOME = 3
    GROUP_INFO = 4
    KEY_PACKAGE = 5


# What an external sender may propose. Source: RFC 9420 §12.1.8.
EXTERNAL_PROPOSAL_TYPES = frozenset(
    {
        ProposalType.ADD,
        ProposalType.REMOVE,
        ProposalType.PSK,
        ProposalType.REINIT,
        ProposalType.GROUP_CONTEXT_EXTENSIONS,
    }
)


@dataclass(frozen=True, slots=True)
class Sender(Struct):
    """Who sends; `leaf_index` for a member, `sender_index` for an external sender. Source: RFC 9420 §6."""

    sender_type: SenderType
    leaf_index: LeafIndex | None = None
    sender_index: int | None = None

    @classmethod
    def member(cls, leaf_index: LeafIndex) -> "Sender":
        """Return the member at this leaf as a sender."""
        return cls(SenderType.MEMBER, leaf_index=leaf_index)

    @classmethod
    def external(cls, sender_index: int) -> "Sender":
        """Return the external sender at this index of the external_senders extension."""
        return cls(SenderType.EXTERNAL, sender_index=sender_index)

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.uint8(self.sender_type)
        if self.sender_type is SenderType.MEMBER:
            writer.uint32(_present(self.leaf_index))
        elif self.sender_type is SenderType.EXTERNAL:
            writer.uint32(_present(self.sender_index))

    @classmethod
    def read(cls, reader: Reader) -> "Sender":
        """Read one; raises DecodeError."""
        sender_type = reader.enum8(SenderType)
        if sender_type is SenderType.MEMBER:
            return cls(sender_type, leaf_index=LeafIndex(reader.uint32()))
        if sender_type is SenderType.EXTERNAL:
            return cls(sender_type, sender_index=reader.uint32())
        return cls(sender_type)


Content: TypeAlias = bytes | Proposal | Commit


@dataclass(frozen=True, slots=True)
class FramedContent(EncodedOnce):
    """What a message says and in what place; application data are plain bytes. Source: RFC 9420 §6."""

    group_id: bytes
    epoch: int
    sender: Sender
    authenticated_data: bytes
    content: Content

    @property
    def content_type(self) -> ContentType:
        """Return the type that goes with the content."""
        if isinstance(self.content, bytes):
            return ContentType.APPLICATION
        return ContentType.COMMIT if isinstance(self.content, Commit) else ContentType.PROPOSAL

    def write_fields(self, writer: Writer) -> None:
        """Append the encoding, field by field."""
        writer.opaque(self.group_id)
        writer.uint64(self.epoch)
        self.sender.write(writer)
        writer.opaque(self.authenticated_data)
        writer.uint8(self.content_type)
        write_content(self.content, writer)

    @classmethod
    def read(cls, reader: Reader) -> "FramedContent":
        """Read one; raises DecodeError."""
        start = reader.position
        content = cls(
            group_id=reader.opaque(),
            epoch=reader.uint64(),
            sender=Sender.read(reader),
            authenticated_data=reader.opaque(),
            content=read_content(reader, reader.enum8(ContentType)),
        )
        return content.read_as(reader.since(start))

    def to_be_signed(self, wire_format: WireFormat, group_context: GroupContext | None) -> bytes:
        """Return FramedContentTBS; the context is there for senders who are or become members.

        Source: RFC 9420 §6.1.
        """
        writer = Writer()
        writer.uint16(ProtocolVersion.MLS10)
        writer.uint16(wire_format)
        self.write(writer)
        if self.sender.sender_type in (SenderType.MEMBER, SenderType.NEW_MEMBER_COMMIT):
            if group_context is None:
                raise ValueError("this sender signs the group context too")
            group_context.write(writer)
        return writer.getvalue()

    def sign(
        self,
        suite: CipherSuite,
        private: bytes,
        wire_format: WireFormat,
        group_context: GroupContext | None,
        confirmation_tag: bytes | None = None,
    ) -> "AuthenticatedContent":
        """Return this content signed for a wire format; a commit's confirmation tag may be put in afterwards.

        Source: RFC 9420 §6.1.
        """
        content = self.to_be_signed(wire_format, group_context)
        signature = suite.sign_with_label(private, "FramedContentTBS", content)
        return AuthenticatedContent(wire_format, self, FramedContentAuthData(signature, confirmation_tag))

    def check_sender(self) -> None:
        """Raise ValidationError when this kind of sender may not send this kind of content.

        Source: RFC 9420 §6.1, §12.1.8.
        """
        sender_type = self.sender.sender_type
        if sender_type is SenderType.MEMBER:
            return
        if sender_type is SenderType.NEW_MEMBER_COMMIT:
            if not isinstance(self.content, Commit):
                raise ValidationError("a new_member_commit sender sends commits only")
        elif isinstance(self.content, bytes | Commit):
            raise ValidationError("an outsider sends proposals only")
        elif sender_type is SenderType.NEW_MEMBER_PROPOSAL:
            if not isinstance(self.content, Add):
                raise ValidationError("a new_member_proposal sender sends Add only")
        elif self.content.proposal_type not in EXTERNAL_PROPOSAL_TYPES:
            raise ValidationError("an external sender may not send this type of proposal")


@dataclass(frozen=True, slots=True)
class FramedContentAuthData:
    """The signature, and for a commit the confirmation tag. Source: RFC 9420 §6.1."""

    signature: bytes
    confirmation_tag: bytes | None = None

    def write(self, writer: Writer, content_type: ContentType) -> None:
        """Append the encoding that goes with this type of content."""
        writer.opaque(self.signature)
        if content_type is ContentType.COMMIT:
            writer.opaque(_present(self.confirmation_tag))

    @classmethod
    def read(cls, reader: Reader, content_type: ContentType) -> "FramedContentAuthData":
        """Read the one that goes with this type of content; raises DecodeError."""
        signature = reader.opaque()
        return cls(signature, reader.opaque() if content_type is ContentType.COMMIT else None)


@dataclass(frozen=True, slots=True)
class AuthenticatedContent(Struct):
    """Content with what authenticates its sender, however it travels. Source: RFC 9420 §6."""

    wire_format: WireFormat
    content: FramedContent
    auth: FramedContentAuthData

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.uint16(self.wire_format)
        self.content.write(writer)
        self.auth.write(writer, self.content.content_type)

    @classmethod
    def read(cls, reader: Reader) -> "AuthenticatedContent":
        """Read one; raises DecodeError."""
        wire_format = reader.enum16(WireFormat)
        content = FramedContent.read(reader)
        return cls(wire_format, content, FramedContentAuthData.read(reader, content.content_type))

    def verify_signature(self, suite: CipherSuite, signature_key: bytes, group_context: GroupContext | None) -> None:
        """Raise VerificationError unless this key signed the content in this context.

        Source: RFC 9420 §6.1.
        """
        content = self.content.to_be_signed(self.wire_format, group_context)
        suite.verify_with_label(signature_key, "FramedContentTBS", content, self.auth.signature)

    def proposal_reference(self, suite: CipherSuite) -> bytes:
        """Return the ProposalRef of the proposal sent in this content. Source: RFC 9420 §5.2."""
        return suite.ref_hash("MLS 1.0 Proposal Reference", self.encode())

    def membership_tag(self, suite: CipherSuite, membership_key: bytes, group_context: GroupContext) -> bytes:
        """Return the membership tag, `suite.hash_length` bytes. Source: RFC 9420 §6.2."""
        return suite.mac(membership_key, self.to_be_maced(group_context))

    def to_public_message(
        self, suite: CipherSuite, membership_key: bytes | None, group_context: GroupContext
    ) -> "PublicMessage":
        """Return the PublicMessage of this content, with its membership tag if a member sends it.

        Source: RFC 9420 §6.2.
        """
        if self.content.sender.sender_type is not SenderType.MEMBER:
            return PublicMessage(self.content, self.auth, None)
        key = _present(membership_key)
        return PublicMessage(self.content, self.auth, self.membership_tag(suite, key, group_context))

    def to_be_maced(self, group_context: GroupContext) -> bytes:
        """Return AuthenticatedContentTBM. Source: RFC 9420 §6.2."""
        writer = Writer()
        writer.raw(self.content.to_be_signed(self.wire_format, group_context))
        self.auth.write(writer, self.content.content_type)
        return writer.getvalue()


@dataclass(frozen=True, slots=True)
class PublicMessage(Struct):
    """Content that is signed and not encrypted. Source: RFC 9420 §6.2."""

    content: FramedContent
    auth: FramedContentAuthData
    membership_tag: bytes | None = None

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        self.content.write(writer)
        self.auth.write(writer, self.content.content_type)
        if self.content.sender.sender_type is SenderType.MEMBER:
            writer.opaque(_present(self.membership_tag))

    @classmethod
    def read(cls, reader: Reader) -> "PublicMessage":
        """Read one; raises DecodeError."""
        content = FramedContent.read(reader)
        auth = FramedContentAuthData.read(reader, content.content_type)
        is_member = content.sender.sender_type is SenderType.MEMBER
        return cls(content, auth, reader.opaque() if is_member else None)

    def authenticated_content(self) -> AuthenticatedContent:
        """Return the content with its authentication; nothing is verified by this."""
        return AuthenticatedContent(WireFormat.PUBLIC_MESSAGE, self.content, self.auth)

    def verify_membership_tag(self, suite: CipherSuite, membership_key: bytes, group_context: GroupContext) -> None:
        """Raise VerificationError unless the tag of a member's message matches. Source: RFC 9420 §6.2."""
        if self.content.sender.sender_type is not SenderType.MEMBER:
            return
        content = self.authenticated_content().to_be_maced(group_context)
        suite.verify_mac(membership_key, content, self.membership_tag or b"")


@dataclass(frozen=True, slots=True)
class PrivateMessage(Struct):
    """Content that is signed and encrypted. Source: RFC 9420 §6.3."""

    group_id: bytes
    epoch: int
    content_type: ContentType
    authenticated_data: bytes
    encrypted_sender_data: bytes
    ciphertext: bytes

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.opaque(self.group_id)
        writer.uint64(self.epoch)
        writer.uint8(self.content_type)
        writer.opaque(self.authenticated_data)
        writer.opaque(self.encrypted_sender_data)
        writer.opaque(self.ciphertext)

    @classmethod
    def read(cls, reader: Reader) -> "PrivateMessage":
        """Read one; raises DecodeError."""
        return cls(
            group_id=reader.opaque(),
            epoch=reader.uint64(),
            content_type=reader.enum8(ContentType),
            authenticated_data=reader.opaque(),
            encrypted_sender_data=reader.opaque(),
            ciphertext=reader.opaque(),
        )

    def content_aad(self) -> bytes:
        """Return PrivateContentAAD. Source: RFC 9420 §6.3.1."""
        writer = Writer()
        writer.opaque(self.group_id)
        writer.uint64(self.epoch)
        writer.uint8(self.content_type)
        writer.opaque(self.authenticated_data)
        return writer.getvalue()

    def sender_data_aad(self) -> bytes:
        """Return SenderDataAAD. Source: RFC 9420 §6.3.2."""
        writer = Writer()
        writer.opaque(self.group_id)
        writer.uint64(self.epoch)
        writer.uint8(self.content_type)
        return writer.getvalue()


@dataclass(frozen=True, slots=True)
class SenderData(Struct):
    """Which member's which key sealed a PrivateMessage; `reuse_guard` has 4 bytes.

    Source: RFC 9420 §6.3.2.
    """

    leaf_index: LeafIndex
    generation: int
    reuse_guard: bytes

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.uint32(self.leaf_index)
        writer.uint32(self.generation)
        writer.raw(self.reuse_guard)

    @classmethod
    def read(cls, reader: Reader) -> "SenderData":
        """Read one; raises DecodeError."""
        return cls(LeafIndex(reader.uint32()), reader.uint32(), reader.raw(4))


@dataclass(frozen=True, slots=True)
class PrivateMessageContent:
    """What a PrivateMessage seals; its type of content is told outside. Source: RFC 9420 §6.3.1."""

    content: Content
    auth: FramedContentAuthData

    def encode(self, content_type: ContentType, padding_bytes: int = 0) -> bytes:
        """Return the encoding, followed by that many zero bytes."""
        writer = Writer()
        write_content(self.content, writer)
        self.auth.write(writer, content_type)
        writer.raw(bytes(padding_bytes))
        return writer.getvalue()

    @classmethod
    def decode(cls, data: bytes, content_type: ContentType) -> "PrivateMessageContent":
        """Decode content of this type with its padding; raises DecodeError, also for padding that is not zero."""
        reader = Reader(data)
        content = read_content(reader, content_type)
        auth = FramedContentAuthData.read(reader, content_type)
        if any(reader.rest()):
            raise DecodeError("padding is not zero")
        return cls(content, auth)


MLSMessageBody: TypeAlias = PublicMessage | PrivateMessage | Welcome | GroupInfo | KeyPackage

_BODIES: dict[WireFormat, type[MLSMessageBody]] = {
    WireFormat.PUBLIC_MESSAGE: PublicMessage,
    WireFormat.PRIVATE_MESSAGE: PrivateMessage,
    WireFormat.WELCOME: Welcome,
    WireFormat.GROUP_INFO: GroupInfo,
    WireFormat.KEY_PACKAGE: KeyPackage,
}
_WIRE_FORMATS = {body: wire_format for wire_format, body in _BODIES.items()}


@dataclass(frozen=True, slots=True)
class MLSMessage(Struct):
    """The envelope in which everything travels. Source: RFC 9420 §6."""

    body: MLSMessageBody

    @property
    def wire_format(self) -> WireFormat:
        """Return the format that goes with the body."""
        return _WIRE_FORMATS[type(self.body)]

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.uint16(ProtocolVersion.MLS10)
        writer.uint16(self.wire_format)
        self.body.write(writer)

    @classmethod
    def read(cls, reader: Reader) -> "MLSMessage":
        """Read one; raises DecodeError, or UnsupportedError for another version of the protocol."""
        if reader.uint16() != ProtocolVersion.MLS10:
            raise UnsupportedError("the message is of another protocol version")
        body = _BODIES[reader.enum16(WireFormat)].read(reader)
        if isinstance(body, KeyPackage) and body.version != ProtocolVersion.MLS10:
            raise DecodeError("key package names another version than its envelope")
        return cls(body)


def write_content(content: Content, writer: Writer) -> None:
    """Append application data, a proposal or a commit, without its type."""
    if isinstance(content, bytes):
        writer.opaque(content)
    elif isinstance(content, Commit):
        content.write(writer)
    else:
        write_proposal(content, writer)


def read_content(reader: Reader, content_type: ContentType) -> Content:
    """Read content of this type; raises DecodeError."""
    if content_type is ContentType.APPLICATION:
        return reader.opaque()
    return Commit.read(reader) if content_type is ContentType.COMMIT else read_proposal(reader)


def _present(value: Value | None) -> Value:
    if value is None:
        raise ValueError("a field that this message needs is absent")
    return value
