"""The words of the protocol that stand for something of MLS: extensions, pre-shared keys, proposals, members by name.

The structs mirror those of `mls_client.proto`; `read` turns a request's into these.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from heliograph.mls.codec import Struct
from heliograph.mls.errors import ValidationError
from heliograph.mls.extension import Extension, ExtensionType, find
from heliograph.mls.framing import MLSMessage
from heliograph.mls.group_info import GroupInfo
from heliograph.mls.key_package import KeyPackage
from heliograph.mls.leaf_node import ProtocolVersion
from heliograph.mls.proposal import (
    Add,
    GroupContextExtensions,
    PreSharedKeyID,
    PreSharedKeyProposal,
    Proposal,
    ReInit,
    Remove,
    ResumptionPSKUsage,
)
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import CipherSuite, Random
from heliograph.mls.tree_math import LeafIndex
from tests.interop.mls_client.shelf import UnknownIdError

Body = TypeVar("Body", bound=Struct)

_UINT16_MAX = 0xFFFF


@dataclass(frozen=True, slots=True)
class Described:
    """A proposal as a request describes it; which fields count depends on the type."""

    proposal_type: str
    key_package: bytes = b""
    removed_id: bytes = b""
    psk_id: bytes = b""
    epoch_id: int = 0
    extensions: tuple[Extension, ...] = ()
    group_id: bytes = b""
    cipher_suite: int = 0

    @classmethod
    def read(cls, message: Any) -> "Described":
        """Return what a ProposalDescription says; raises ValidationError for numbers that MLS cannot carry."""
        values = {field.name: getattr(message, field.name) for field in fields(cls)}
        values["proposal_type"] = message.proposal_type.decode("utf-8", "replace")
        values["extensions"] = read_extensions(message.extensions)
        return cls(**values)

    def proposal(self, suite: CipherSuite, group_id: bytes, tree: RatchetTree | None, random: Random) -> Proposal:
        """Return the proposal to this group; tree: where to look for a member by name, if there is any.

        Raises MLSError, or UnknownIdError for a member who is not in the tree.
        """
        if self.proposal_type == "add":
            return Add(body_of(self.key_package, KeyPackage))
        if self.proposal_type == "remove":
            return Remove(leaf_of(tree, self.removed_id))
        if self.proposal_type == "externalPSK":
            return PreSharedKeyProposal(external_psk(suite, self.psk_id, random))
        if self.proposal_type == "resumptionPSK":
            nonce = random(suite.hash_length)
            usage = ResumptionPSKUsage.APPLICATION
            return PreSharedKeyProposal(PreSharedKeyID.resumption(usage, group_id, self.epoch_id, nonce))
        if self.proposal_type == "groupContextExtensions":
            return GroupContextExtensions(self.extensions)
        if self.proposal_type == "reinit":
            return ReInit(self.group_id, ProtocolVersion.MLS10, uint16(self.cipher_suite), self.extensions)
        raise ValidationError(f"there is no proposal type {self.proposal_type!r}")


def uint16(number: int) -> int:
    """Return a number that MLS can carry in 16 bits; raises ValidationError for a greater one."""
    if number > _UINT16_MAX:
        raise ValidationError(f"{number} does not fit into 16 bits")
    return number


def read_extensions(messages: Sequence[Any]) -> tuple[Extension, ...]:
    """Return the extensions of a request; raises ValidationError for a type of more than 16 bits."""
    return tuple(Extension(uint16(one.extension_type), one.extension_data) for one in messages)


def body_of(message: bytes, kind: type[Body]) -> Body:
    """Return what an MLSMessage carries; raises DecodeError, or ValidationError if it is of another kind."""
    body = MLSMessage.decode(message).body
    if not isinstance(body, kind):
        raise ValidationError(f"the message is not a {kind.__name__}")
    return body


def external_psk(suite: CipherSuite, psk_id: bytes, random: Random) -> PreSharedKeyID:
    """Return the name of an external pre-shared key with a fresh nonce."""
    return PreSharedKeyID.external(psk_id, random(suite.hash_length))


def tree_of(group_info: GroupInfo, ratchet_tree: bytes) -> RatchetTree | None:
    """Return the tree that came beside a GroupInfo or else in it, unchecked; raises DecodeError."""
    encoded = ratchet_tree or find(group_info.extensions, ExtensionType.RATCHET_TREE)
    return None if encoded is None else RatchetTree.decode(encoded)


def leaf_of(tree: RatchetTree | None, identity: bytes) -> LeafIndex:
    """Return the first leaf with this identity in a basic credential; raises UnknownIdError."""
    for member in () if tree is None else tree.members():
        if member.leaf_node.credential.content == identity:
            return member.leaf_index
    raise UnknownIdError("no member has this identity")
