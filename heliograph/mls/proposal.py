"""Proposals: the changes that a group may make to itself (RFC 9420 §12.1).

A proposal is its type's number and its content. A type that is not known here is carried as
`UnknownProposal`, whose content is taken to be one length-prefixed value, as every registered type since the
RFC has it; whether a group accepts it is a matter of validation, not of decoding.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, TypeAlias

from heliograph.mls.codec import Reader, Struct, Writer
from heliograph.mls.errors import DecodeError
from heliograph.mls.extension import Extension
from heliograph.mls.key_package import KeyPackage
from heliograph.mls.leaf_node import LeafNode
from heliograph.mls.tree_math import LeafIndex


class ProposalType(IntEnum):
    """The default proposal types. Source: RFC 9420 §17.4."""

    ADD = 0x0001
    UPDATE = 0x0002
    REMOVE = 0x0003
    PSK = 0x0004
    REINIT = 0x0005
    EXTERNAL_INIT = 0x0006
    GROUP_CONTEXT_EXTENSIONS = 0x0007


class PSKType(IntEnum):
    """Where a pre-shared key comes from. Source: RFC 9420 §8.4."""

    EXTERNAL = 1
    RESUMPTION = 2


class ResumptionPSKUsage(IntEnum):
    """What a resumption key is used for. Source: RFC 9420 §8.4."""

    APPLICATION = 1
    REINIT = 2
    BRANCH = 3


@dataclass(frozen=True, slots=True)
class PreSharedKeyID(Struct):
    """The name of a pre-shared key: `psk_id` when external, else usage, group and epoch.

    Source: RFC 9420 §8.4.
    """

    psktype: PSKType
    psk_nonce: bytes
    psk_id: bytes = b""
    usage: ResumptionPSKUsage | None = None
    psk_group_id: bytes = b""
    psk_epoch: int = 0

    @classmethod
    def external(cls, psk_id: bytes, psk_nonce: bytes) -> "PreSharedKeyID":
        """Return the name of a key that the application has given its members; psk_nonce: fresh, KDF.Nh bytes."""
        return cls(PSKType.EXTERNAL, psk_nonce, psk_id)

    @classmethod
    def resumption(cls, usage: ResumptionPSKUsage, group_id: bytes, epoch: int, psk_nonce: bytes) -> "PreSharedKeyID":
        """Return the name of the key of an epoch's members; psk_nonce: fresh, KDF.Nh bytes. Source: RFC 9420 §8.6."""
        return cls(PSKType.RESUMPTION, psk_nonce, usage=usage, psk_group_id=group_id, psk_epoch=epoch)

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.uint8(self.psktype)
        if self.psktype is PSKType.EXTERNAL:
            writer.opaque(self.psk_id)
        else:
            if self.usage is None:
                raise ValueError("a resumption key has a usage")
            writer.uint8(self.usage)
            writer.opaque(self.psk_group_id)
            writer.uint64(self.psk_epoch)
        writer.opaque(self.psk_nonce)

    @classmethod
    def read(cls, reader: Reader) -> "PreSharedKeyID":
        """Read one; raises DecodeError."""
        psktype = reader.enum8(PSKType)
        if psktype is PSKType.EXTERNAL:
            psk_id = reader.opaque()
            return cls(psktype, psk_id=psk_id, psk_nonce=reader.opaque())
        usage = reader.enum8(ResumptionPSKUsage)
        group_id = reader.opaque()
        epoch = reader.uint64()
        return cls(psktype, usage=usage, psk_group_id=group_id, psk_epoch=epoch, psk_nonce=reader.opaque())


@dataclass(frozen=True, slots=True)
class Add(Struct):
    """Add the client of this key package. Source: RFC 9420 §12.1.1."""

    proposal_type: ClassVar[int] = ProposalType.ADD
    key_package: KeyPackage

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        self.key_package.write(writer)

    @classmethod
    def read(cls, reader: Reader) -> "Add":
        """Read one; raises DecodeError."""
        return cls(KeyPackage.read(reader))


@dataclass(frozen=True, slots=True)
class Update(Struct):
    """Replace the sender's leaf. Source: RFC 9420 §12.1.2."""

    proposal_type: ClassVar[int] = ProposalType.UPDATE
    leaf_node: LeafNode

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        self.leaf_node.write(writer)

    @classmethod
    def read(cls, reader: Reader) -> "Update":
        """Read one; raises DecodeError."""
        return cls(LeafNode.read(reader))


@dataclass(frozen=True, slots=True)
class Remove(Struct):
    """Remove the member at this leaf. Source: RFC 9420 §12.1.3."""

    proposal_type: ClassVar[int] = ProposalType.REMOVE
    removed: LeafIndex

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.uint32(self.removed)

    @classmethod
    def read(cls, reader: Reader) -> "Remove":
        """Read one; raises DecodeError."""
        return cls(LeafIndex(reader.uint32()))


@dataclass(frozen=True, slots=True)
class PreSharedKeyProposal(Struct):
    """Mix a pre-shared key into the next epoch (the RFC's PreSharedKey). Source: RFC 9420 §12.1.4."""

    proposal_type: ClassVar[int] = ProposalType.PSK
    psk: PreSharedKeyID

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        self.psk.write(writer)

    @classmethod
    def read(cls, reader: Reader) -> "PreSharedKeyProposal":
        """Read one; raises DecodeError."""
        return cls(PreSharedKeyID.read(reader))


@dataclass(frozen=True, slots=True)
class ReInit(Struct):
    """Close the group and start it anew with these parameters. Source: RFC 9420 §12.1.5."""

    proposal_type: ClassVar[int] = ProposalType.REINIT
    group_id: bytes
    version: int
    cipher_suite: int
    extensions: tuple[Extension, ...] = ()

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.opaque(self.group_id)
        writer.uint16(self.version)
        writer.uint16(self.cipher_suite)
        writer.vector(self.extensions)

    @classmethod
    def read(cls, reader: Reader) -> "ReInit":
        """Read one; raises DecodeError."""
        return cls(reader.opaque(), reader.uint16(), reader.uint16(), reader.vector(Extension.read))


@dataclass(frozen=True, slots=True)
class ExternalInit(Struct):
    """Start the next epoch from a secret sent to the group's external key. Source: RFC 9420 §12.1.6."""

    proposal_type: ClassVar[int] = ProposalType.EXTERNAL_INIT
    kem_output: bytes

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.opaque(self.kem_output)

    @classmethod
    def read(cls, reader: Reader) -> "ExternalInit":
        """Read one; raises DecodeError."""
        return cls(reader.opaque())


@dataclass(frozen=True, slots=True)
class GroupContextExtensions(Struct):
    """Replace all extensions of the group context. Source: RFC 9420 §12.1.7."""

    proposal_type: ClassVar[int] = ProposalType.GROUP_CONTEXT_EXTENSIONS
    extensions: tuple[Extension, ...]

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.vector(self.extensions)

    @classmethod
    def read(cls, reader: Reader) -> "GroupContextExtensions":
        """Read one; raises DecodeError."""
        return cls(reader.vector(Extension.read))


@dataclass(frozen=True, slots=True)
class UnknownProposal(Struct):
    """A proposal of a type that is not known here, with its content's vector as it came.

    Source: RFC 9420 §13.2.
    """

    proposal_type: int
    content: bytes

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.opaque(self.content)

    @classmethod
    def read(cls, reader: Reader) -> "UnknownProposal":
        """Refuse: the type comes before the content, so only `read_proposal` can read one."""
        raise DecodeError("a proposal is read with its type")


Proposal: TypeAlias = (
    Add | Update | Remove | PreSharedKeyProposal | ReInit | ExternalInit | GroupContextExtensions | UnknownProposal
)

_READERS = {
    kind.proposal_type: kind.read
    for kind in (Add, Update, Remove, PreSharedKeyProposal, ReInit, ExternalInit, GroupContextExtensions)
}


def write_proposal(proposal: Proposal, writer: Writer) -> None:
    """Append the RFC's `Proposal` structure: the type's number and the content."""
    writer.uint16(proposal.proposal_type)
    proposal.write(writer)


def read_proposal(reader: Reader) -> Proposal:
    """Read the RFC's `Proposal` structure; raises DecodeError. Source: RFC 9420 §12.1."""
    proposal_type = reader.uint16()
    read = _READERS.get(proposal_type)
    if read is None:
        return UnknownProposal(proposal_type, reader.opaque())
    return read(reader)


def encode_proposal(proposal: Proposal) -> bytes:
    """Return the encoding of the RFC's `Proposal` structure."""
    writer = Writer()
    write_proposal(proposal, writer)
    return writer.getvalue()


def decode_proposal(data: bytes) -> Proposal:
    """Decode a `Proposal` structure that fills `data` exactly; raises DecodeError."""
    reader = Reader(data)
    proposal = read_proposal(reader)
    reader.finish()
    return proposal


class ProposalOrRefType(IntEnum):
    """How a commit names a proposal. Source: RFC 9420 §12.4."""

    PROPOSAL = 1
    REFERENCE = 2


@dataclass(frozen=True, slots=True)
class ProposalOrRef(Struct):
    """A proposal by value, or the ProposalRef of one sent before; exactly one of the two.

    Source: RFC 9420 §12.4.
    """

    proposal: Proposal | None = None
    reference: bytes | None = None

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        if self.proposal is not None:
            writer.uint8(ProposalOrRefType.PROPOSAL)
            write_proposal(self.proposal, writer)
        elif self.reference is not None:
            writer.uint8(ProposalOrRefType.REFERENCE)
            writer.opaque(self.reference)
        else:
            raise ValueError("a proposal or a reference is needed")

    @classmethod
    def read(cls, reader: Reader) -> "ProposalOrRef":
        """Read one; raises DecodeError."""
        if reader.enum8(ProposalOrRefType) is ProposalOrRefType.PROPOSAL:
            return cls(proposal=read_proposal(reader))
        return cls(reference=reader.opaque())
