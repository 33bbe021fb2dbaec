"""A group as its member holds it: the face of this library (RFC 9420).

    group = create_group(suite, group_id, credential, signature_private_key, ...)     alone, epoch 0
    pending = group.commit([Add(key_package)], random=..., now_s=...)                 nothing has changed yet
        pending.commit -> delivery service      accepted? group = group.take_up(pending.group) : receive what came first
        pending.welcome -> the newcomer         group = join(welcome, ratchet_tree, bundle, signature_private_key, ...)
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

Handshakes are sent as PublicMessage, so that the delivery service can hold them to its policy; private ones are
understood when received. Application data are always PrivateMessage.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from heliograph.mls import joining, key_schedule, private_message, proposal_rules
from heliograph.mls.commit import Commit
from heliograph.mls.committing import (
    BuiltCommit,
    Committer,
    FreshLeaf,
    LeafChanges,
    UpdateKeys,
    build,
    check_own_leaf,
    choose_proposals,
    propose_leaf,
)
from heliograph.mls.credential import Credential
from heliograph.mls.epoch import Epoch, PastEpoch
from heliograph.mls.errors import StateError, ValidationError
from heliograph.mls.extension import Extension
from heliograph.mls.framing import (
    AuthenticatedContent,
    ContentType,
    FramedContent,
    MLSMessage,
    PrivateMessage,
    PublicMessage,
    Sender,
    WireFormat,
)
from heliograph.mls.group_context import GroupContext
from heliograph.mls.key_package import KeyPackageBundle
from heliograph.mls.key_schedule import KnownPsks
from heliograph.mls.leaf_node import Capabilities, LeafNode, Lifetime
from heliograph.mls.processing import (
    ReceivedApplication,
    ReceivedCommit,
    open_application,
    open_private,
    process_commit,
    verify_handshake,
)
from heliograph.mls.proposal import Proposal, ProposalOrRef, Update
from heliograph.mls.proposal_rules import (
    DEFAULT_POLICY,
    ProposalPolicy,
    ReceivedProposal,
    SentProposal,
)
from heliograph.mls.public_group import MAX_PENDING_PROPOSALS
from heliograph.mls.ratchet_tree import Member, RatchetTree
from heliograph.mls.saved_state import SlowState, load_slow_state
from heliograph.mls.secret_tree import SecretTree
from heliograph.mls.suite import CipherSuite, Random, Secret
from heliograph.mls.tree_math import LeafIndex

PAST_EPOCHS = 2


Received: TypeAlias = ReceivedApplication | ReceivedProposal | ReceivedCommit


@dataclass(frozen=True, slots=True)
class PendingCommit:
    """A commit that is not yet accepted: MLSMessages to send, the tree to offer, and the group if it is accepted.

    commit: a PublicMessage; welcome: a Welcome, None if nobody is added; group_info: a GroupInfo with external_pub;
    ratchet_tree: the encoded tree of the new epoch, for joiners.
    """

    commit: bytes
    welcome: bytes | None
    group_info: bytes
    ratchet_tree: bytes
    group: "Group"


@dataclass(frozen=True, slots=True)
class Group:
    """One member's state of one group."""

    _slow: SlowState
    _secret_trees: Mapping[int, SecretTree] = field(repr=False)

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

    def group_info(self) -> bytes:
        """Return an MLSMessage with this epoch's GroupInfo, signed by this member; it carries external_pub.

        Source: RFC 9420 §12.4.3.
        """
        self._require_active()
        return MLSMessage(self._slow.epoch.group_info()).encode()

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

        Raises UnsupportedError for rows of another version, StateError when any row is damaged, missing or left over.
        """
        slow = load_slow_state(rows)
        suite = slow.epoch.suite
        epochs = [slow.epoch.group_context.epoch, *(past.group_context.epoch for past in slow.past)]
        group = cls(slow, {epoch: SecretTree.load(suite, epoch, rows) for epoch in epochs})
        if group.rows() != dict(rows):
            raise StateError("the saved group has rows that do not belong to it")
        return group

    # --- proposals ------------------------------------------------------------------------------------------------

    def propose(
        self,
        proposal: Proposal,
        *,
        now_s: int,
        authenticated_data: bytes = b"",
        policy: ProposalPolicy = DEFAULT_POLICY,
    ) -> tuple["Group", bytes]:
        """Return the group with a proposal that waits for a commit, and its MLSMessage (PublicMessage).

        Raises ValidationError for a proposal that no one may commit, or an Update, for which there is `update_leaf`;
        UnsupportedError for psk and reinit. Source: RFC 9420 §12.1.
        """
        if isinstance(proposal, Update):
            raise ValidationError("an Update is proposed by update_leaf, which keeps its keys")
        return self._propose(proposal, None, now_s, authenticated_data, policy)

    def update_leaf(
        self,
        changes: LeafChanges | None = None,
        *,
        random: Random,
        now_s: int,
        authenticated_data: bytes = b"",
    ) -> tuple["Group", bytes]:
        """Return the group with an Update of the own leaf that another member may commit, and its MLSMessage.

        Source: RFC 9420 §12.1.2.
        """
        self._require_active()
        leaf_node, keys = propose_leaf(self._slow.epoch, changes, random)
        return self._propose(Update(leaf_node), keys, now_s, authenticated_data, DEFAULT_POLICY)

    def _propose(
        self,
        proposal: Proposal,
        keys: UpdateKeys | None,
        now_s: int,
        authenticated_data: bytes,
        policy: ProposalPolicy,
    ) -> tuple["Group", bytes]:
        self._require_active()
        epoch = self._slow.epoch
        content = FramedContent(
            group_id=self.group_id,
            epoch=self.epoch,
            sender=Sender.member(self.own_leaf_index),
            authenticated_data=authenticated_data,
            content=proposal,
        )
        signed = content.sign(self.suite, epoch.signature_private_key, WireFormat.PUBLIC_MESSAGE, self.group_context)
        group, received = self._keep_proposal(signed, proposal, policy, now_s)
        if keys is not None:
            update_keys = {**group._slow.update_keys, received.reference: keys}
            group = replace(group, _slow=replace(group._slow, update_keys=update_keys))
        message = signed.to_public_message(self.suite, epoch.secrets.membership_key, self.group_context)
        return group, MLSMessage(message).encode()

    def _keep_proposal(
        self, message: AuthenticatedContent, proposal: Proposal, policy: ProposalPolicy, now_s: int
    ) -> tuple["Group", ReceivedProposal]:
        sender = message.content.sender
        policy.check(proposal, sender)
        proposal_rules.check_proposal(
            self.suite, self.group_context, self.tree, SentProposal(proposal, sender), now_s=now_s
        )
        received = ReceivedProposal(message.proposal_reference(self.suite), proposal, sender)
        if received.reference in self._slow.proposals:
            return self, received
        if len(self._slow.proposals) >= MAX_PENDING_PROPOSALS:
            raise StateError("the epoch has as many proposals as it may")
        proposals = {**self._slow.proposals, received.reference: received}
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
    ) -> PendingCommit:
        """Return a commit of `proposals` by value and of all pending ones, by reference, that can go along with them.

        A pending proposal that has become invalid, or that cannot stand beside another, is left out: nobody can block
        the group with one. So are those whose reference is in `leave_out`: a committer answers for all that it commits,
        whoever has proposed it. force_path: renew the own leaf and path even if the proposals do not require it.
        changes: of the own leaf; they imply a path. psks: external pre-shared keys by `psk_id`. This group stays as it
        is: building a commit changes nothing.
        Raises ValidationError, VerificationError or UnsupportedError for `proposals`.
        Source: RFC 9420 §12.4.1.
        """
        self._require_active()
        epoch = self._slow.epoch
        waiting = [received for received in self.pending_proposals if received.reference not in leave_out]
        chosen, applied = choose_proposals(epoch, waiting, proposals, now_s=now_s, policy=policy)
        with_path = force_path or applied.path_required or changes is not None
        built = build(
            Committer.member(epoch),
            [
                *(ProposalOrRef(reference=received.reference) for received in chosen),
                *(ProposalOrRef(proposal=proposal) for proposal in proposals),
            ],
            applied,
            fresh_leaf=FreshLeaf.of(epoch, changes) if with_path else None,
            psks=self._known_psks(psks).find(applied.psks),
            authenticated_data=authenticated_data,
            random=random,
        )
        if changes is not None:
            check_own_leaf(built.epoch)
        return _pending(built, self._after(built.epoch, built.encryption_secret))

    def take_up(self, after: "Group") -> "Group":
        """Return `after`, the group of this member's own PendingCommit, once that is accepted.

        Message keys that were used, and past epochs that were forgotten, since the commit was built stay so. Raises
        StateError if it was not built on this epoch of this member's. Source: RFC 9420 §9.2, §12.4.2.
        """
        before = after._slow.past[0] if after._slow.past else None
        if before is None or before.group_context != self.group_context or after.own_leaf_index != self.own_leaf_index:
            raise StateError("the commit was built on another state than this")
        past = tuple(one for one in after._slow.past if one.group_context.epoch in self._secret_trees)
        kept = {one.group_context.epoch: self._secret_trees[one.group_context.epoch] for one in past}
        slow = after._slow if past == after._slow.past else replace(after._slow, past=past)
        return Group(slow, {after.epoch: after._secret_trees[after.epoch], **kept})

    def _after(self, epoch: Epoch, encryption_secret: Secret) -> "Group":
        past = (PastEpoch.of(self._slow.epoch), *self._slow.past)[:PAST_EPOCHS]
        kept = {one.group_context.epoch: self._secret_trees[one.group_context.epoch] for one in past}
        return Group(SlowState(epoch, past=past), {**_first_keys(epoch, encryption_secret), **kept})

    # --- application messages -------------------------------------------------------------------------------------

    def seal(
        self,
        application_data: bytes,
        *,
        random: Random,
        authenticated_data: bytes = b"",
        padding_bytes: int | None = None,
    ) -> tuple["Group", bytes]:
        """Return the group without the key that was used, and the MLSMessage (PrivateMessage) to send.

        padding_bytes: zero bytes to add; None pads to the Padmé length, at least 256 bytes. Source: RFC 9420 §6.3, §15.
        """
        self._require_active()
        epoch = self._slow.epoch
        content = FramedContent(
            group_id=self.group_id,
            epoch=self.epoch,
            sender=Sender.member(self.own_leaf_index),
            authenticated_data=authenticated_data,
            content=application_data,
        )
        signed = content.sign(self.suite, epoch.signature_private_key, WireFormat.PRIVATE_MESSAGE, self.group_context)
        secret_tree, message = private_message.seal(
            self.suite,
            self._secret_trees[self.epoch],
            epoch.secrets.sender_data_secret,
            signed,
            random=random,
            padding_bytes=padding_bytes,
        )
        return self._with_keys(secret_tree), MLSMessage(message).encode()

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
    ) -> tuple["Group", Received]:
        """Return the group after an MLSMessage (PublicMessage or PrivateMessage), and what it said.

        now_s: when the message was accepted for the group, in seconds since 1970 UTC; psks: external pre-shared keys by
        `psk_id`. Raises DecodeError, ValidationError, VerificationError, UnsupportedError, or StateError for another
        group or epoch, a replay, or one's own message. Source: RFC 9420 §6, §12.4.2.
        """
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
        raise StateError("message is for an epoch that is not known here: too old, or still to come")

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
            psks=self._known_psks(psks),
            policy=policy,
            now_s=now_s,
        )
        if processed.epoch is None:
            group = replace(self, _slow=SlowState(self._slow.epoch, is_active=False, past=self._slow.past))
        else:
            group = self._after(processed.epoch, processed.encryption_secret)
        return group, processed.received(message)

    def _known_psks(self, external: Mapping[bytes, bytes] | None) -> KnownPsks:
        epoch = self._slow.epoch
        resumption: dict[tuple[bytes, int], bytes] = {(self.group_id, self.epoch): epoch.secrets.resumption_psk}
        for past in self._slow.past:
            resumption[self.group_id, past.group_context.epoch] = past.resumption_psk
        return KnownPsks(external or {}, resumption)

    def _require_active(self) -> None:
        if not self.is_active:
            raise StateError("this member was removed from the group")


def create_group(
    suite: CipherSuite,
    group_id: bytes,
    credential: Credential,
    signature_private_key: bytes,
    *,
    lifetime: Lifetime,
    capabilities: Capabilities,
    extensions: Sequence[Extension] = (),
    leaf_extensions: Sequence[Extension] = (),
    random: Random,
) -> Group:
    """Return a new group whose only member is its creator.

    extensions: of the group context. Raises ValidationError if the creator's own leaf does not meet them.
    Source: RFC 9420 §11.
    """
    epoch, encryption_secret = joining.found(
        suite,
        group_id,
        credential,
        Secret(signature_private_key),
        lifetime=lifetime,
        capabilities=capabilities,
        extensions=extensions,
        leaf_extensions=leaf_extensions,
        random=random,
    )
    return Group(SlowState(epoch), _first_keys(epoch, encryption_secret))


def join(
    welcome: bytes,
    ratchet_tree: bytes | None,
    bundle: KeyPackageBundle,
    signature_private_key: bytes,
    *,
    now_s: int,
    psks: Mapping[bytes, bytes] | None = None,
) -> Group:
    """Return the group into which a Welcome invites the owner of a key package.

    welcome: an MLSMessage; ratchet_tree: None if it is in the Welcome's GroupInfo; psks: external pre-shared keys by
    `psk_id`. The caller judges the credentials of `members()` before it keeps the group. Raises MLSError of any kind;
    StateError means that the Welcome is not for this key package or needs something that is missing.
    Source: RFC 9420 §12.4.3.1.
    """
    epoch, encryption_secret = joining.join_by_welcome(
        welcome, ratchet_tree, bundle, signature_private_key, psks=psks or {}, now_s=now_s
    )
    return Group(SlowState(epoch), _first_keys(epoch, encryption_secret))


def join_external(
    group_info: bytes,
    ratchet_tree: bytes | None,
    credential: Credential,
    signature_private_key: bytes,
    *,
    capabilities: Capabilities,
    leaf_extensions: Sequence[Extension] = (),
    resync_leaf: LeafIndex | None = None,
    random: Random,
    now_s: int,
    authenticated_data: bytes = b"",
) -> PendingCommit:
    """Return a commit by which an outsider adds itself; its group holds if the commit is accepted.

    resync_leaf: the same client's old leaf, which the commit removes. Source: RFC 9420 §12.4.3.2.
    """
    built = joining.commit_from_outside(
        group_info,
        ratchet_tree,
        credential,
        Secret(signature_private_key),
        capabilities=capabilities,
        leaf_extensions=leaf_extensions,
        resync_leaf=resync_leaf,
        random=random,
        now_s=now_s,
        authenticated_data=authenticated_data,
    )
    return _pending(built, Group(SlowState(built.epoch), _first_keys(built.epoch, built.encryption_secret)))


def _first_keys(epoch: Epoch, encryption_secret: Secret) -> dict[int, SecretTree]:
    number = epoch.group_context.epoch
    return {number: SecretTree.create(epoch.suite, number, epoch.tree.leaf_count, encryption_secret)}


def _pending(built: BuiltCommit, group: Group) -> PendingCommit:
    return PendingCommit(built.commit, built.welcome, built.group_info, group.ratchet_tree(), group)
