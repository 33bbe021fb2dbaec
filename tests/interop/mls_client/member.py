"""One client's membership of one group, with what a runner's calls leave behind in it, as a value.

    member, proposal = member.propose(...)          the group keeps it, and here stands which message it was
    member, response = member.commit([proposal], ...)
    member = member.take_up()                       or, at the others: member.follow([proposal], commit)

The protocol names proposals by their messages, as often as it likes, and our library by reference, once: a private one
cannot be opened twice, one's own not at all. So a member remembers the reference of each message that it sent or heard.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from heliograph.mls.errors import StateError, ValidationError
from heliograph.mls.framing import WireFormat
from heliograph.mls.group import Group, PendingCommit
from heliograph.mls.processing import ReceivedApplication, ReceivedCommit
from heliograph.mls.proposal import Proposal, Update
from heliograph.mls.proposal_rules import ProposalPolicy, ReceivedProposal
from heliograph.mls.suite import Random

# Other implementations' key packages live longer than the library's own policy permits.
POLICY = ProposalPolicy(lifetime_limit_s=1 << 64)


@dataclass(frozen=True, slots=True)
class Member:
    """A group as one client holds it.

    is_private: whether handshakes are sent as PrivateMessage; psks: external keys by their id, for all epochs;
    references: of this epoch's proposals, by message; pending: the last commit that was built on this epoch.
    """

    group: Group
    is_private: bool
    psks: Mapping[bytes, bytes] = field(default_factory=dict[bytes, bytes], repr=False)
    references: Mapping[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    pending: PendingCommit | None = None

    @property
    def epoch_authenticator(self) -> bytes:
        """Return the epoch's authenticator, or nothing for one who has been removed and so has no part in it."""
        return self.group.epoch_authenticator if self.group.is_active else b""

    @property
    def _wire_format(self) -> WireFormat:
        return WireFormat.PRIVATE_MESSAGE if self.is_private else WireFormat.PUBLIC_MESSAGE

    def with_psk(self, psk_id: bytes, psk: bytes) -> "Member":
        """Return the member with one more external key."""
        return replace(self, psks={**self.psks, psk_id: psk})

    def seal(self, plaintext: bytes, authenticated_data: bytes, random: Random) -> tuple["Member", bytes]:
        """Return the member without the key that was used, and the PrivateMessage; raises MLSError."""
        group, ciphertext = self.group.seal(plaintext, random=random, authenticated_data=authenticated_data)
        return replace(self, group=group), ciphertext

    def open(self, ciphertext: bytes, now_s: int) -> tuple["Member", ReceivedApplication]:
        """Return the member without the key that was used, and what an application message says; raises MLSError."""
        group, received = self.group.receive(ciphertext, now_s=now_s)
        if not isinstance(received, ReceivedApplication):
            raise ValidationError("the message is not an application message")
        return replace(self, group=group), received

    def propose(self, proposal: Proposal, random: Random, now_s: int) -> tuple["Member", bytes]:
        """Return the member with a proposal that waits, and its message; raises MLSError."""
        group, message = self.group.propose(
            proposal, random=random, now_s=now_s, wire_format=self._wire_format, policy=POLICY
        )
        own = [
            one.reference
            for one in group.pending_proposals
            if one.proposal == proposal and one.sender.leaf_index == group.own_leaf_index
        ]
        return self._with_proposal(group, message, own[-1]), message

    def update(self, random: Random, now_s: int) -> tuple["Member", bytes]:
        """Return the member with an Update of its leaf that waits, and its message; raises MLSError."""
        group, message = self.group.update_leaf(random=random, now_s=now_s, wire_format=self._wire_format)
        own = [
            one.reference
            for one in group.pending_proposals
            if isinstance(one.proposal, Update) and one.sender.leaf_index == group.own_leaf_index
        ]
        return self._with_proposal(group, message, own[-1]), message

    def hear(self, proposals: Sequence[bytes], now_s: int) -> "Member":
        """Return the member to whom all these proposals are known; raises MLSError."""
        member = self
        for message in proposals:
            if message in member.references:
                continue
            group, received = member.group.receive(message, now_s=now_s, psks=self.psks, policy=POLICY)
            if not isinstance(received, ReceivedProposal):
                raise ValidationError("the message is not a proposal")
            member = member._with_proposal(group, message, received.reference)
        return member

    def commit(
        self,
        by_reference: Sequence[bytes],
        by_value: Sequence[Proposal],
        *,
        force_path: bool,
        with_tree: bool,
        random: Random,
        now_s: int,
    ) -> tuple["Member", PendingCommit]:
        """Return the member with a commit that covers exactly these proposals, and that commit.

        Raises MLSError; StateError if one of the proposals by reference cannot be committed, so that a script never
        passes because one was quietly left out.
        """
        member = self.hear(by_reference, now_s)
        wanted = {member.references[message] for message in by_reference}
        unwanted = {one.reference for one in member.group.pending_proposals} - wanted

        pending = member.group.commit(
            by_value,
            random=random,
            now_s=now_s,
            force_path=force_path,
            leave_out=unwanted,
            psks=self.psks,
            policy=POLICY,
            wire_format=self._wire_format,
            with_tree=with_tree,
        )
        if set(pending.references) != wanted:
            raise StateError("a proposal by reference cannot be committed")
        return replace(member, group=pending.group_before or member.group, pending=pending), pending

    def take_up(self) -> "Member":
        """Return the member in the epoch of its own commit; raises StateError if it has built none."""
        if self.pending is None:
            raise StateError("there is no pending commit")
        return Member(self.group.take_up(self.pending.group), self.is_private, self.psks)

    def follow(self, proposals: Sequence[bytes], commit: bytes, now_s: int) -> "Member":
        """Return the member in the epoch of a commit, its own or another's; raises MLSError."""
        if self.pending is not None and commit == self.pending.commit:
            return self.take_up()
        member = self.hear(proposals, now_s)
        group, received = member.group.receive(commit, now_s=now_s, psks=self.psks, policy=POLICY)
        if not isinstance(received, ReceivedCommit):
            raise ValidationError("the message is not a commit")
        return Member(group, self.is_private, self.psks)

    def _with_proposal(self, group: Group, message: bytes, reference: bytes) -> "Member":
        return replace(self, group=group, references={**self.references, message: reference})
