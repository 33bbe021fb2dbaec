"""A group as someone follows it who holds none of its secrets, such as a delivery service (RFC 9420 §12.4.2,
§16.3).

Theory of operation. A `PublicGroup` is a value: the group context, the ratchet tree, the interim transcript
hash, the last confirmation tag and the proposals of the epoch. It opens on a signed GroupInfo with its tree,
and moves on with each commit:

    MLSMessage --form, group, epoch, sender, signature--> commit
    commit --proposal_rules.resolve, apply--> tree with the proposals --update_path--> tree with the path
    tree hash, transcript hashes ---> the next epoch's context

Everything is checked that can be without secrets. The membership tag, the confirmation tag and the path
secrets cannot: a member that sends those wrong is caught by the other members, and `check_group_info` ties
the committer's own GroupInfo to the state that its commit led to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from heliograph.mls.codec import Reader, Struct, Writer
from heliograph.mls.commit import Commit
from heliograph.mls.errors import DecodeError, StateError, ValidationError, VerificationError
from heliograph.mls.extension import ExternalPub, check_unique
from heliograph.mls.framing import (
    AuthenticatedContent,
    MLSMessage,
    PublicMessage,
    SenderType,
)
from heliograph.mls.group_context import GroupContext
from heliograph.mls.group_info import GroupInfo
from heliograph.mls.handshake_rules import apply_path, signature_key_of
from heliograph.mls.leaf_node import ProtocolVersion
from heliograph.mls.proposal import ReInit
from heliograph.mls.proposal_rules import (
    DEFAULT_POLICY,
    Applied,
    ProposalPolicy,
    ReceivedProposal,
    SentProposal,
    apply,
    check_context_extensions,
    check_proposal,
    resolve,
)
from heliograph.mls.ratchet_tree import Member, RatchetTree
from heliograph.mls.suite import CipherSuite, cipher_suite
from heliograph.mls.transcript_hash import confirmed_transcript_hash, interim_transcript_hash
from heliograph.mls.tree_math import LeafIndex

MAX_PENDING_PROPOSALS = 1024
MAX_PENDING_BYTES = 1 << 22
MAX_EPOCH = (1 << 64) - 1
# Version 2 added `reinit`.
_ENCODING_VERSION = 2
_READABLE_VERSIONS = (1, _ENCODING_VERSION)


@dataclass(frozen=True, slots=True)
class PublicCommit:
    """Who committed and whom it changed.

    added includes the joiner of an external commit; updated includes a committer that renewed its leaf. Both hold the
    leaves as they now stand, removed as they stood before.
    """

    committer: LeafIndex
    external: bool
    added: tuple[Member, ...]
    removed: tuple[Member, ...]
    updated: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class PublicGroup(Struct):
    """The public state of a group in one epoch; each operation returns the next state or raises."""

    group_context: GroupContext
    tree: RatchetTree = field(repr=False)
    interim_transcript_hash: bytes
    confirmation_tag: bytes
    # The proposals of this epoch by reference, and the messages in which they came, in order of arrival.
    proposals: Mapping[bytes, ReceivedProposal] = field(default_factory=lambda: MappingProxyType({}))
    proposal_messages: tuple[AuthenticatedContent, ...] = field(default=(), repr=False)
    # The parameters of the group's successor, once a commit has closed the group with a ReInit.
    reinit: ReInit | None = None

    @classmethod
    def open(
        cls, group_info: GroupInfo, tree: RatchetTree, *, now_s: int, lifetime_limit_s: int | None = None
    ) -> "PublicGroup":
        """Return the group that a GroupInfo and its tree describe, when both are sound.

        lifetime_limit_s: the longest lifetime of a leaf, by default 91 days. Raises ValidationError, VerificationError
        or UnsupportedError. Source: RFC 9420 §12.4.3.1.
        """
        context = group_info.group_context
        if context.version != ProtocolVersion.MLS10:
            raise ValidationError("the group is of another protocol version")
        suite = cipher_suite(context.cipher_suite)
        check_context_extensions(context.extensions)
        check_unique(group_info.extensions)
        # One signature before those of all leaves: a GroupInfo that nobody in the tree has signed is refused at once.
        group_info.verify_signature(suite, tree)
        tree.validate(suite, context, now_s=now_s, lifetime_limit_s=lifetime_limit_s)
        _check_external_pub(suite, group_info)
        tag = group_info.confirmation_tag
        _check_tag(suite, tag)
        interim = interim_transcript_hash(suite, context.confirmed_transcript_hash, tag)
        return cls(context, tree, interim, tag)

    @property
    def suite(self) -> CipherSuite:
        """Return the group's cipher suite."""
        return cipher_suite(self.group_context.cipher_suite)

    @property
    def epoch(self) -> int:
        """Return the number of the epoch."""
        return self.group_context.epoch

    def members(self) -> tuple[Member, ...]:
        """Return the members, in order of their leaves."""
        return self.tree.members()

    def receive_proposal(
        self, message: bytes, *, now_s: int, policy: ProposalPolicy = DEFAULT_POLICY
    ) -> tuple["PublicGroup", ReceivedProposal]:
        """Return the group with a proposal that may now be committed by reference, and the proposal.

        message: an MLSMessage with a PublicMessage. Raises DecodeError, ValidationError, VerificationError,
        UnsupportedError, or StateError for another group or epoch or too many proposals. Source: RFC 9420 §12.1.
        """
        content, public = self._authenticate(message)
        proposal = public.content.content
        if isinstance(proposal, bytes | Commit):
            raise ValidationError("the message is not a proposal")
        sender = public.content.sender
        sent = SentProposal(proposal, sender)
        check_proposal(self.suite, self.group_context, self.tree, sent, now_s=now_s, policy=policy)
        received = ReceivedProposal(content.proposal_reference(self.suite), proposal, sender)
        if received.reference in self.proposals:
            return self, received
        if len(self.proposals) >= MAX_PENDING_PROPOSALS:
            raise StateError("the epoch has as many proposals as it may")
        if sum(len(one.encode()) for one in (*self.proposal_messages, content)) > MAX_PENDING_BYTES:
            raise StateError("the proposals of the epoch are larger than they may be")
        group = replace(
            self,
            proposals=MappingProxyType({**self.proposals, received.reference: received}),
            proposal_messages=(*self.proposal_messages, content),
        )
        return group, received

    def receive_commit(
        self, message: bytes, *, now_s: int, policy: ProposalPolicy = DEFAULT_POLICY
    ) -> tuple["PublicGroup", PublicCommit]:
        """Return the group in the next epoch, and what the commit changed.

        message: an MLSMessage with a PublicMessage. Raises DecodeError, ValidationError, VerificationError,
        UnsupportedError, or StateError for another group or epoch or an unknown proposal.
        Source: RFC 9420 §12.4.2, §12.4.3.2.
        """
        content, public = self._authenticate(message)
        commit = public.content.content
        if not isinstance(commit, Commit):
            raise ValidationError("the message is not a commit")
        sender = public.content.sender
        applied = apply(
            self.suite,
            self.group_context,
            self.tree,
            resolve(commit, self.proposals, sender),
            committer=sender.leaf_index,
            now_s=now_s,
            policy=policy,
        )
        tree, committer = apply_path(self.suite, self.group_context, commit, sender.leaf_index, applied)
        tag = content.auth.confirmation_tag or b""
        _check_tag(self.suite, tag)
        summary = _summary(commit, applied, committer, is_external=sender.leaf_index is None)
        return self._next_epoch(content, tag, tree, applied), summary

    def check_group_info(self, group_info: bytes, *, committer: LeafIndex | None = None) -> GroupInfo:
        """Return the GroupInfo of an MLSMessage when it states exactly this group's state.

        committer: the member who must have signed it, or None for any. Raises DecodeError, ValidationError or
        VerificationError. Source: RFC 9420 §12.4.3.
        """
        body = MLSMessage.decode(group_info).body
        if not isinstance(body, GroupInfo):
            raise ValidationError("the message is not a GroupInfo")
        context = body.group_context
        if (context.group_id, context.epoch) != (self.group_context.group_id, self.group_context.epoch):
            raise ValidationError("the GroupInfo is of another group or epoch")
        if context.tree_hash != self.group_context.tree_hash:
            raise ValidationError("the GroupInfo has another tree_hash than the group")
        if context.confirmed_transcript_hash != self.group_context.confirmed_transcript_hash:
            raise ValidationError("the GroupInfo has another confirmed_transcript_hash than the group")
        if context != self.group_context:
            raise ValidationError("the GroupInfo has another version, cipher suite or extensions than the group")
        if body.confirmation_tag != self.confirmation_tag:
            raise ValidationError("the GroupInfo has another confirmation_tag than the commit")
        if committer is not None and body.signer != committer:
            raise ValidationError("the GroupInfo is signed by another member than the committer")
        check_unique(body.extensions)
        _check_external_pub(self.suite, body)
        body.verify_signature(self.suite, self.tree)
        return body

    def write(self, writer: Writer) -> None:
        """Append the saved state, which is this library's own format."""
        writer.uint8(_ENCODING_VERSION)
        self.group_context.write(writer)
        writer.opaque(self.interim_transcript_hash)
        writer.opaque(self.confirmation_tag)
        self.tree.write(writer)
        writer.vector(self.proposal_messages)
        writer.optional(self.reinit)

    @classmethod
    def read(cls, reader: Reader) -> "PublicGroup":
        """Read a saved state, which is trusted to be one; raises DecodeError."""
        version = reader.uint8()
        if version not in _READABLE_VERSIONS:
            raise DecodeError("the saved state is of a version that is not known here")
        context = GroupContext.read(reader)
        interim = reader.opaque()
        tag = reader.opaque()
        tree = RatchetTree.read(reader)
        messages = reader.vector(AuthenticatedContent.read)
        reinit = reader.optional(ReInit.read) if version >= 2 else None
        suite = cipher_suite(context.cipher_suite)
        proposals = {received.reference: received for received in (_received(suite, m) for m in messages)}
        return cls(context, tree, interim, tag, MappingProxyType(proposals), messages, reinit)

    def _authenticate(self, message: bytes) -> tuple[AuthenticatedContent, PublicMessage]:
        body = MLSMessage.decode(message).body
        if not isinstance(body, PublicMessage):
            raise ValidationError("the message is not a PublicMessage")
        framed = body.content
        if framed.group_id != self.group_context.group_id:
            raise StateError("the message is for another group")
        if framed.epoch != self.group_context.epoch:
            raise StateError("the message is for another epoch")
        if self.reinit is not None:
            raise StateError("the group was closed by a ReInit: it goes on in its successor")
        framed.check_sender()
        content = body.authenticated_content()
        is_outside = framed.sender.sender_type in (SenderType.EXTERNAL, SenderType.NEW_MEMBER_PROPOSAL)
        context = None if is_outside else self.group_context
        content.verify_signature(self.suite, signature_key_of(framed, self.tree, self.group_context), context)
        if body.membership_tag is not None:
            _check_tag(self.suite, body.membership_tag)
        return content, body

    def _next_epoch(
        self, commit: AuthenticatedContent, tag: bytes, tree: RatchetTree, applied: Applied
    ) -> "PublicGroup":
        if self.epoch == MAX_EPOCH:
            raise StateError("the group has come to its last epoch")
        confirmed = confirmed_transcript_hash(self.suite, self.interim_transcript_hash, commit)
        context = replace(
            self.group_context,
            epoch=self.group_context.epoch + 1,
            tree_hash=tree.tree_hash(self.suite),
            confirmed_transcript_hash=confirmed,
            extensions=applied.extensions,
        )
        interim = interim_transcript_hash(self.suite, confirmed, tag)
        return PublicGroup(context, tree, interim, tag, reinit=applied.reinit)


def _summary(commit: Commit, applied: Applied, committer: Member, *, is_external: bool) -> PublicCommit:
    added, updated = applied.added, applied.updated
    if is_external:
        added = (*added, committer)
    elif commit.path is not None:
        updated = (*updated, committer)
    return PublicCommit(committer.leaf_index, is_external, added, applied.removed, updated)


def _received(suite: CipherSuite, message: AuthenticatedContent) -> ReceivedProposal:
    proposal = message.content.content
    if isinstance(proposal, bytes | Commit):
        raise DecodeError("the saved state has something else among its proposals")
    return ReceivedProposal(message.proposal_reference(suite), proposal, message.content.sender)


def _check_tag(suite: CipherSuite, tag: bytes) -> None:
    if len(tag) != suite.hash_length:
        raise VerificationError("a tag has not the length of a MAC")


def _check_external_pub(suite: CipherSuite, group_info: GroupInfo) -> None:
    external_pub = ExternalPub.of(group_info.extensions)
    if external_pub is None:
        return
    try:
        suite.validate_hpke_public_key(external_pub.external_pub)
    except DecodeError as error:
        raise ValidationError("external_pub is not a key of the cipher suite") from error
