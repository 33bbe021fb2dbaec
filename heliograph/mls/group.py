"""A group as its member holds it: the face of this library (RFC 9420).

    group = create_group(...) | join(...) | join_external(...)      see `membership`
    pending = group.commit([Add(key_package)], random=..., now_s=...)                 nothing has changed yet
        pending.commit -> delivery service      accepted? group = group.take_up(pending.group) : receive what came first
        pending.welcome -> the newcomer         who joins by it
    group, message = group.seal(data, random=...)
    group, received = group.receive(message, now_s=...)
    store(group.rows()) ... group = Group.load(rows)

Theory of operation. A `Group` is a value. Every operation returns a new one, or raises an MLSError and leaves the
old one whole. A caller keeps the new value when it agrees with what it was told (`Received`: the credentials of the
leaves in it are the caller's to judge) and else drops it. Secrets are forgotten by dropping the old value: store the
new rows in one transaction with whatever the message led to, and only then tell anyone.

Three parts change at different speeds. The `Epoch` changes with commits; proposals gather in between; message keys
change with every message. `rows()` keeps them apart (`saved_state.py`). Of past epochs the last `PAST_EPOCHS` are
kept, for application messages only.

Handshakes are sent as PublicMessage unless the caller asks for PrivateMessage: the delivery service can hold public
ones to its policy. Application data are always PrivateMessage.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from heliograph.mls import key_schedule, private_message, proposal_rules
from heliograph.mls.choosing import choose_proposals
from heliograph.mls.commit import Commit
from heliograph.mls.committing import (
    BuiltCommit,
    Committer,
    FreshLeaf,
    LeafChanges,
    build,
    check_own_leaf,
    propose_leaf,
)
from heliograph.mls.credential_check import CredentialCheck, check_received
from heliograph.mls.epoch import Epoch, PastEpoch
from heliograph.mls.errors import StateError, ValidationError
from heliograph.mls.framing import (
    AuthenticatedContent,
    Content,
    ContentType,
    FramedContent,
    MLSMessage,
    PrivateMessage,
    PublicMessage,
    Sender,
    WireFormat,
)
from heliograph.mls.group_context import GroupContext
from heliograph.mls.key_schedule import KnownPsks
from heliograph.mls.leaf_node import LeafNode
from heliograph.mls.processing import (
    ReceivedApplication,
    ReceivedCommit,
    open_application,
    open_private,
    process_commit,
    verify_handshake,
)
from heliograph.mls.proposal import Proposal, ProposalOrRef, ReInit, Update, encode_proposal
from heliograph.mls.proposal_rules import (
    DEFAULT_POLICY,
    ProposalPolicy,
    ReceivedProposal,
    SentProposal,
)
from heliograph.mls.public_group import MAX_PENDING_BYTES, MAX_PENDING_PROPOSALS
from heliograph.mls.ratchet_tree import Member, RatchetTree
from heliograph.mls.saved_state import VERSION, SlowState, load_slow_state, version_of
from heliograph.mls.secret_tree import SecretTree
from heliograph.mls.suite import CipherSuite, Random, Secret
from heliograph.mls.tree_math import LeafIndex

PAST_EPOCHS = 2


Received: TypeAlias = ReceivedApplication | ReceivedProposal | ReceivedCommit


@dataclass(frozen=True, slots=True)
class PendingCommit:
    """A commit that is not yet accepted: MLSMessages to send, the tree to offer, and what the group then is.

    commit: a PublicMessage, or a PrivateMessage if that was asked for; welcome: a Welcome, None if nobody is added;
    group_info: a GroupInfo with external_pub; group: as it is if the commit is accepted.
    group_before: the group as it stays until then, without the message key that a private commit used; to be stored
    before the commit is sent. None for a commit from outside. references: of the waiting proposals that it covers.
    """

    commit: bytes
    welcome: bytes | None
    group_info: bytes
    group: "Group"
    group_before: "Group | None" = None
    references: tuple[bytes, ...] = ()

    @classmethod
    def of(
        cls,
        built: BuiltCommit,
        message: bytes,
        group: "Group",
        group_before: "Group | None" = None,
        references: tuple[bytes, ...] = (),
    ) -> "PendingCommit":
        """Return a commit that was built and framed as `message`."""
        return cls(message, built.welcome, built.group_info, group, group_before, references)

    @property
    def ratchet_tree(self) -> bytes:
        """Return the encoded tree of the new epoch, for joiners; made when it is first asked for."""
        return self.group.ratchet_tree()


@dataclass(frozen=True, slots=True)
class Group:
    """One member's state of one group."""

    _slow: SlowState
    _secret_trees: Mapping[int, SecretTree] = field(repr=False)

    @classmethod
    def enter(cls, epoch: Epoch, encryption_secret: Secret) -> "Group":
        """Return the group as one holds it who has just come to its epoch."""
        return cls(SlowState(epoch), _first_keys(epoch, encryption_secret))

    # --- what can be asked ----------------------------------------------------------------------------------------

    @property
    def suite(self) -> CipherSuite:
        """Return the cipher suite."""
        return self._slow.epoch.suite

    @property
    def group_context(self) -> GroupContext:
        """Return what all members of this epoch agree on."""
        return self._slow.epoch.group_context

    @property
    def group_id(self) -> bytes:
        """Return the group's identifier."""
        return self.group_context.group_id

    @property
    def epoch(self) -> int:
        """Return the number of the present epoch."""
        return self.group_context.epoch

    @property
    def tree(self) -> RatchetTree:
        """Return the ratchet tree."""
        return self._slow.epoch.tree

    def tree_at(self, epoch: int) -> RatchetTree:
        """Return the ratchet tree of this epoch or of a past one that is kept; raises StateError for another."""
        return self._readable_epoch(epoch).saved_tree.tree

    @property
    def own_leaf_index(self) -> LeafIndex:
        """Return this member's leaf."""
        return self._slow.epoch.own_leaf_index

    @property
    def own_leaf(self) -> LeafNode:
        """Return this member's leaf node."""
        leaf = self.tree.leaf(self.own_leaf_index)
        if leaf is None:
            raise StateError("this member has no leaf")
        return leaf

    @property
    def is_active(self) -> bool:
        """Tell whether this member is still in the group; once removed it can only read late messages."""
        return self._slow.is_active

    @property
    def reinit(self) -> ReInit | None:
        """Return the parameters of the group's successor, if a commit has closed this group; see `successor`.

        Source: RFC 9420 §11.2.
        """
        return self._slow.reinit

    @property
    def epoch_authenticator(self) -> bytes:
        """Return a value that members can compare to see that they are in the same epoch. Source: RFC 9420 §8.7."""
        return self._slow.epoch.secrets.epoch_authenticator

    @property
    def pending_proposals(self) -> tuple[ReceivedProposal, ...]:
        """Return the proposals of this epoch that wait for a commit, in order of arrival."""
        return tuple(self._slow.proposals.values())

    @property
    def external_pub(self) -> bytes:
        """Return the public key for joining by an external commit. Source: RFC 9420 §8.3."""
        return key_schedule.external_key_pair(self.suite, self._slow.epoch.secrets.external_secret)[1]

    def members(self) -> tuple[Member, ...]:
        """Return all members, in order of their leaves."""
        return self.tree.members()

    def export(self, label: str, context: bytes, length: int) -> Secret:
        """Return `length` bytes that only members of this epoch know. Source: RFC 9420 §8.5."""
        return key_schedule.export(self.suite, self._slow.epoch.secrets.exporter_secret, label, context, length)

    def group_info(self, *, with_tree: bool = False) -> bytes:
        """Return an MLSMessage with this epoch's GroupInfo, signed by this member; it carries external_pub.

        with_tree: let it carry the ratchet tree too. Source: RFC 9420 §12.4.3, §12.4.3.3.
        """
        self._require_active()
        return MLSMessage(self._slow.epoch.group_info(with_tree=with_tree)).encode()

    def ratchet_tree(self) -> bytes:
        """Return the encoded ratchet tree, which goes to joiners beside Welcome or GroupInfo.

        Source: RFC 9420 §12.4.3.3.
        """
        return self._slow.epoch.saved_tree.encoded

    def forget_past_epochs(self, keep: int = 0) -> "Group":
        """Return the group with no more than the newest `keep` of its past epochs.

        Past epochs go by themselves after `PAST_EPOCHS` commits; this is for a limit in time. Source: RFC 9420 §9.2.
        """
        past = self._slow.past[:keep]
        kept = {self.epoch, *(one.group_context.epoch for one in past)}
        secret_trees = {epoch: tree for epoch, tree in self._secret_trees.items() if epoch in kept}
        return Group(replace(self._slow, past=past), secret_trees)

    # --- saved state ----------------------------------------------------------------------------------------------

    def rows(self) -> Mapping[str, bytes]:
        """Return the state as rows; a message changes at most 4 KiB of them, a commit the big ones.

        Unchanged rows are the same objects as before. They hold all secrets of the group.
        """
        rows = dict(self._slow.rows)
        for secret_tree in self._secret_trees.values():
            rows.update(secret_tree.rows)
        return rows

    @classmethod
    def load(cls, rows: Mapping[str, bytes]) -> "Group":
        """Return the group that `rows` gave.

        Rows of older versions are read too. Raises UnsupportedError for a version that is not known, StateError when
        any row is damaged, missing or left over.
        """
        slow = load_slow_state(rows)
        suite = slow.epoch.suite
        epochs = [slow.epoch.group_context.epoch, *(past.group_context.epoch for past in slow.past)]
        group = cls(slow, {epoch: SecretTree.load(suite, epoch, rows) for epoch in epochs})
        is_present = version_of(rows) == VERSION
        saved, given = group.rows(), dict(rows)
        if (saved != given) if is_present else (saved.keys() != given.keys()):
            raise StateError("the saved group has rows that do not belong to it")
        return group

    # --- proposals ------------------------------------------------------------------------------------------------

    def propose(
        self,
        proposal: Proposal,
        *,
        random: Random,
        now_s: int,
        authenticated_data: bytes = b"",
        wire_format: WireFormat = WireFormat.PUBLIC_MESSAGE,
        policy: ProposalPolicy = DEFAULT_POLICY,
    ) -> tuple["Group", bytes]:
        """Return the group with a proposal that waits for a commit, and its MLSMessage.

        wire_format: PUBLIC_MESSAGE or PRIVATE_MESSAGE. Raises ValidationError for a proposal that no one may commit, or
        an Update, for which there is `update_leaf`. Source: RFC 9420 §12.1.
        """
        if isinstance(proposal, Update):
            raise ValidationError("an Update is proposed by update_leaf, which keeps its keys")
        self._require_active()
        signed = self._sign(proposal, authenticated_data, wire_format)
        group, _ = self._keep_proposal(signed, proposal, policy, now_s)
        return group._framed(signed, random)

    def update_leaf(
        self,
        changes: LeafChanges | None = None,
        *,
        random: Random,
        now_s: int,
        authenticated_data: bytes = b"",
        wire_format: WireFormat = WireFormat.PUBLIC_MESSAGE,
    ) -> tuple["Group", bytes]:
        """Return the group with an Update of the own leaf that another member may commit, and its MLSMessage.

        Source: RFC 9420 §12.1.2.
        """
        self._require_active()
        leaf_node, keys = propose_leaf(self._slow.epoch, changes, random)
        signed = self._sign(Update(leaf_node), authenticated_data, wire_format)
        group, received = self._keep_proposal(signed, Update(leaf_node), DEFAULT_POLICY, now_s)
        update_keys = {**group._slow.update_keys, received.reference: keys}
        group = replace(group, _slow=replace(group._slow, update_keys=update_keys))
        return group._framed(signed, random)

    def _sign(self, content: Content, authenticated_data: bytes, wire_format: WireFormat) -> AuthenticatedContent:
        framed = FramedContent(
            group_id=self.group_id,
            epoch=self.epoch,
            sender=Sender.member(self.own_leaf_index),
            authenticated_data=authenticated_data,
            content=content,
        )
        return framed.sign(self.suite, self._slow.epoch.signature_private_key, wire_format, self.group_context)

    def _framed(
        self, signed: AuthenticatedContent, random: Random, padding_bytes: int | None = None
    ) -> tuple["Group", bytes]:
        """Return the group without the message key that was used, if any, and the MLSMessage of signed content."""
        secrets = self._slow.epoch.secrets
        if signed.wire_format is WireFormat.PUBLIC_MESSAGE:
            public = signed.to_public_message(self.suite, secrets.membership_key, self.group_context)
            return self, MLSMessage(public).encode()
        secret_tree, private = private_message.seal(
            self.suite,
            self._secret_trees[self.epoch],
            secrets.sender_data_secret,
            signed,
            random=random,
            padding_bytes=padding_bytes,
        )
        return self._with_keys(secret_tree), MLSMessage(private).encode()

    def _keep_proposal(
        self, message: AuthenticatedContent, proposal: Proposal, policy: ProposalPolicy, now_s: int
    ) -> tuple["Group", ReceivedProposal]:
        sender = message.content.sender
        sent = SentProposal(proposal, sender)
        proposal_rules.check_proposal(self.suite, self.group_context, self.tree, sent, now_s=now_s, policy=policy)
        received = ReceivedProposal(message.proposal_reference(self.suite), proposal, sender)
        if received.reference in self._slow.proposals:
            return self, received
        if len(self._slow.proposals) >= MAX_PENDING_PROPOSALS:
            raise StateError("the epoch has as many proposals as it may")
        proposals = {**self._slow.proposals, received.reference: received}
        if sum(len(encode_proposal(one.proposal)) for one in proposals.values()) > MAX_PENDING_BYTES:
            raise StateError("the proposals of the epoch are larger than they may be")
        return replace(self, _slow=replace(self._slow, proposals=proposals)), received

    # --- commits --------------------------------------------------------------------------------------------------

    def commit(
        self,
        proposals: Sequence[Proposal] = (),
        *,
        random: Random,
        now_s: int,
        force_path: bool = True,
        changes: LeafChanges | None = None,
        leave_out: Collection[bytes] = (),
        authenticated_data: bytes = b"",
        psks: Mapping[bytes, bytes] | None = None,
        policy: ProposalPolicy = DEFAULT_POLICY,
        wire_format: WireFormat = WireFormat.PUBLIC_MESSAGE,
        with_tree: bool = False,
    ) -> PendingCommit:
        """Return a commit of `proposals` by value and of all pending ones, by reference, that can go along with them.

        A pending proposal that has become invalid, or that cannot stand beside another, is left out: nobody can block
        the group with one. So are those whose reference is in `leave_out`: a committer answers for all that it commits,
        whoever has proposed it. force_path: renew the own leaf and path even if the proposals do not require it.
        changes: of the own leaf; they imply a path. psks: external pre-shared keys by `psk_id`. wire_format:
        PUBLIC_MESSAGE or PRIVATE_MESSAGE; with_tree: let Welcome and GroupInfo carry the ratchet tree. This group stays
        as it is: building a commit changes nothing, but see `PendingCommit.group_before` for a private one.
        Raises ValidationError, VerificationError or UnsupportedError for `proposals`.
        Source: RFC 9420 §12.4.1.
        """
        self._require_active()
        epoch = self._slow.epoch
        waiting = [received for received in self.pending_proposals if received.reference not in leave_out]
        known = self.known_psks(psks)
        chosen, applied = choose_proposals(
            epoch, waiting, proposals, psks=known, past=self._slow.past, now_s=now_s, policy=policy
        )
        with_path = force_path or applied.path_required or changes is not None
        committer = Committer.member(epoch)
        references = tuple(received.reference for received in chosen)
        built = build(
            committer,
            [
                *(ProposalOrRef(reference=reference) for reference in references),
                *(ProposalOrRef(proposal=proposal) for proposal in proposals),
            ],
            applied,
            fresh_leaf=FreshLeaf.of(epoch, changes) if with_path else None,
            psks=known.find(applied.psks),
            authenticated_data=authenticated_data,
            random=random,
            wire_format=wire_format,
            with_tree=with_tree,
        )
        if changes is not None:
            check_own_leaf(built.epoch)
        group_before, message = self._framed(built.content, random)
        group = group_before._after(built.epoch, built.encryption_secret, applied.reinit)
        return PendingCommit.of(built, message, group, group_before, references)

    def take_up(self, after: "Group") -> "Group":
        """Return `after`, the group of this member's own PendingCommit, once that is accepted.

        Message keys that were used, and past epochs that were forgotten, since the commit was built stay so. Raises
        StateError if it was not built on this epoch of this member's, or this member has been removed since.
        Source: RFC 9420 §9.2, §12.4.2.
        """
        self._require_active()
        before = after._slow.past[0] if after._slow.past else None
        if before is None or before.group_context != self.group_context or after.own_leaf_index != self.own_leaf_index:
            raise StateError("the commit was built on another state than this")
        past = tuple(one for one in after._slow.past if one.group_context.epoch in self._secret_trees)
        kept = {one.group_context.epoch: self._secret_trees[one.group_context.epoch] for one in past}
        slow = after._slow if past == after._slow.past else replace(after._slow, past=past)
        return Group(slow, {after.epoch: after._secret_trees[after.epoch], **kept})

    def _after(self, epoch: Epoch, encryption_secret: Secret, reinit: ReInit | None) -> "Group":
        past = (PastEpoch.of(self._slow.epoch), *self._slow.past)[:PAST_EPOCHS]
        kept = {one.group_context.epoch: self._secret_trees[one.group_context.epoch] for one in past}
        return Group(SlowState(epoch, past=past, reinit=reinit), {**_first_keys(epoch, encryption_secret), **kept})

    # --- application messages -------------------------------------------------------------------------------------

    def seal(
        self,
        application_data: bytes,
        *,
        random: Random,
        authenticated_data: bytes = b"",
        padding_bytes: int | None = None,
        before_commit: bool = False,
    ) -> tuple["Group", bytes]:
        """Return the group without the key that was used, and the MLSMessage (PrivateMessage) to send.

        padding_bytes: zero bytes to add; None pads to the Padmé length, at least 256 bytes; before_commit: send
        although proposals wait, which the RFC wants committed first; else they raise StateError.
        Source: RFC 9420 §6.3, §12.4, §15.
        """
        self._require_active()
        if self._slow.proposals and not before_commit:
            raise StateError("proposals wait for a commit, which goes before application data")
        signed = self._sign(application_data, authenticated_data, WireFormat.PRIVATE_MESSAGE)
        return self._framed(signed, random, padding_bytes)

    def _with_keys(self, secret_tree: SecretTree) -> "Group":
        return Group(self._slow, {**self._secret_trees, secret_tree.epoch: secret_tree})

    # --- receiving ------------------------------------------------------------------------------------------------

    def receive(
        self,
        message: bytes,
        *,
        now_s: int,
        psks: Mapping[bytes, bytes] | None = None,
        policy: ProposalPolicy = DEFAULT_POLICY,
        check_credential: CredentialCheck | None = None,
    ) -> tuple["Group", Received]:
        """Return the group after an MLSMessage (PublicMessage or PrivateMessage), and what it said.

        now_s: when the message was accepted for the group, in seconds since 1970 UTC; psks: external pre-shared keys by
        `psk_id`; check_credential: called for each credential that a proposal or commit brings in. Raises DecodeError,
        ValidationError, VerificationError, UnsupportedError, or StateError for another group or epoch, a replay, or
        one's own message; and what `check_credential` raises. Source: RFC 9420 §6, §12.4.2, §5.3.1.
        """
        group, received = self._receive(message, now_s, psks, policy)
        check_received(check_credential, self.group_context, group.group_context, received)
        return group, received

    def _receive(
        self, message: bytes, now_s: int, psks: Mapping[bytes, bytes] | None, policy: ProposalPolicy
    ) -> tuple["Group", Received]:
        body = MLSMessage.decode(message).body
        if isinstance(body, PublicMessage):
            return self._receive_handshake(self._open_public(body), now_s, psks, policy)
        if not isinstance(body, PrivateMessage):
            raise ValidationError("message is neither a PublicMessage nor a PrivateMessage")
        if body.content_type is ContentType.APPLICATION:
            self._check_group(body.group_id)
            epoch = self._readable_epoch(body.epoch)
            secret_tree, received = open_application(epoch, self._secret_trees[body.epoch], body)
            return self._with_keys(secret_tree), received
        self._check_place(body.group_id, body.epoch)
        epoch = PastEpoch.of(self._slow.epoch)
        secret_tree, opened = open_private(epoch, self._secret_trees[body.epoch], body)
        group = self._with_keys(secret_tree)
        return group._receive_handshake(opened.authenticated_content, now_s, psks, policy)

    def _check_place(self, group_id: bytes, epoch: int) -> None:
        self._require_active()
        self._check_group(group_id)
        if epoch != self.epoch:
            raise StateError("handshake is for an earlier epoch" if epoch < self.epoch else "handshake is ahead")

    def _check_group(self, group_id: bytes) -> None:
        if group_id != self.group_id:
            raise StateError("message is for another group")

    def _open_public(self, message: PublicMessage) -> AuthenticatedContent:
        self._check_place(message.content.group_id, message.content.epoch)
        if message.content.content_type is ContentType.APPLICATION:
            raise ValidationError("application data in a PublicMessage")
        epoch = self._slow.epoch
        message.verify_membership_tag(self.suite, epoch.secrets.membership_key, self.group_context)
        return message.authenticated_content()

    def _readable_epoch(self, number: int) -> PastEpoch:
        if number == self.epoch:
            return PastEpoch.of(self._slow.epoch)
        for past in self._slow.past:
            if past.group_context.epoch == number:
                return past
        raise StateError("the epoch is not known here: too old, or still to come")

    def _receive_handshake(
        self, message: AuthenticatedContent, now_s: int, psks: Mapping[bytes, bytes] | None, policy: ProposalPolicy
    ) -> tuple["Group", ReceivedProposal | ReceivedCommit]:
        content = message.content.content
        is_own = message.content.sender.leaf_index == self.own_leaf_index
        if is_own and isinstance(content, Commit):
            raise StateError("this is our own commit: take up the group of its PendingCommit instead")
        verify_handshake(self._slow.epoch, message)
        if isinstance(content, bytes):
            raise ValidationError("message is not a handshake")
        if not isinstance(content, Commit):
            is_lost = is_own and isinstance(content, Update)
            if is_lost and message.proposal_reference(self.suite) not in self._slow.proposals:
                raise StateError("this is our own Update, and its keys are gone")
            return self._keep_proposal(message, content, policy, now_s)
        processed = process_commit(
            self._slow.epoch,
            message,
            self._slow.proposals,
            self._slow.update_keys,
            psks=self.known_psks(psks),
            policy=policy,
            now_s=now_s,
        )
        if processed.epoch is None:
            group = replace(self, _slow=SlowState(self._slow.epoch, is_active=False, past=self._slow.past))
        else:
            group = self._after(processed.epoch, processed.encryption_secret, processed.applied.reinit)
        return group, processed.received(message)

    def known_psks(self, external: Mapping[bytes, bytes] | None) -> KnownPsks:
        """Return the pre-shared keys at hand: the given ones, by `psk_id`, and the resumption_psk of each epoch kept.

        Source: RFC 9420 §8.4, §8.6.
        """
        epoch = self._slow.epoch
        resumption: dict[tuple[bytes, int], bytes] = {(self.group_id, self.epoch): epoch.secrets.resumption_psk}
        for past in self._slow.past:
            resumption[self.group_id, past.group_context.epoch] = past.resumption_psk
        return KnownPsks(external or {}, resumption)

    def _require_active(self) -> None:
        if not self.is_active:
            raise StateError("this member was removed from the group")
        if self.reinit is not None:
            raise StateError("the group was closed by a ReInit: it goes on in its successor")


def _first_keys(epoch: Epoch, encryption_secret: Secret) -> dict[int, SecretTree]:
    number = epoch.group_context.epoch
    return {number: SecretTree.create(epoch.suite, number, epoch.tree.leaf_count, encryption_secret)}
