"""A group's life with a delivery service that orders handshakes, and members who lag, lose, race, restart and return.

The service keeps a log of handshakes. One commit an epoch gets in: the first that was built on the present epoch.
Every member reads the log at its own pace, and may miss an entry; application messages reach each reader late, early,
in any order, or twice. Whoever has missed too much comes back by an external commit of its own.

`History` knows who must be able to read what, and holds that they do and that nobody else does. What a broken member
would do otherwise goes through methods of its own (`keep`, `read`, `restart`, `build`), which a planted fault can
override.
"""

import random
from dataclasses import dataclass, field

import pytest

from heliograph.mls.errors import MLSError, StateError
from heliograph.mls.framing import MLSMessage, WireFormat
from heliograph.mls.group import Group, PendingCommit, ReceivedCommit
from heliograph.mls.group_info import GroupInfo
from heliograph.mls.key_package import KeyPackageBundle
from heliograph.mls.membership import join, join_external
from heliograph.mls.proposal import PreSharedKeyID, PreSharedKeyProposal, Proposal, ResumptionPSKUsage
from heliograph.mls.public_group import PublicGroup
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.tree_math import LeafIndex
from tests.mls.company import NOW_S, Company, Person

PSKS = {b"shared key": b"\x17" * 32}
PAST_EPOCHS = 2
STATES_KEPT = 4


@dataclass(eq=False)
class Member:
    """One client: where it has read to, what it is building, and the states that it once held.

    since: the epoch in which its present state began; missed: it has not seen an entry of this epoch; deaf: it has
    missed a commit, so that it can follow no more.
    """

    person: Person
    cursor: int
    since: int
    missed: bool = False
    deaf: bool = False
    pending: PendingCommit | None = None
    built_on: int = 0
    states: list[Group] = field(default_factory=list[Group])

    @property
    def name(self) -> str:
        return self.person.name

    @property
    def group(self) -> Group:
        return self.person.group


@dataclass(frozen=True, eq=False)
class Entry:
    """A handshake as the service ordered it."""

    message: bytes
    author: Member
    is_commit: bool


@dataclass(eq=False)
class Sent:
    """An application message on its way, and those who have still to read it."""

    epoch: int
    data: bytes
    message: bytes
    unread: list[Member]


class History:
    """One group from its founding on."""

    def __init__(self, seed: int, suite_id: int = 1) -> None:
        self.chance = random.Random(seed)
        self.company = Company("founder", random=self.chance.randbytes, suite_id=suite_id)
        founder = self.company["founder"]
        self.names = 0
        self.members = {"founder": Member(founder, 0, 0, states=[founder.group])}
        self.out: list[Member] = []
        self.log: list[Entry] = []
        self.sent: list[Sent] = []
        self.offered: dict[str, tuple[Person, KeyPackageBundle]] = {}
        self.info, self.tree = founder.group.group_info(), founder.group.ratchet_tree()
        self.server = self.opened()
        self.is_seen_whole = True

    @property
    def epoch(self) -> int:
        return self.server.epoch

    @property
    def everyone(self) -> list[Member]:
        return list(self.members.values())

    def current(self) -> list[Member]:
        """Return those who have read everything."""
        return [one for one in self.everyone if not (one.deaf or one.missed) and one.cursor == len(self.log)]

    def newcomer(self) -> tuple[Person, KeyPackageBundle]:
        """Return someone new and its key package, and remember it for when it is welcomed."""
        self.names += 1
        person = self.company.person(f"member {self.names}")
        self.offered[person.name] = person, person.key_package()
        return self.offered[person.name]

    # --- what a faulty member would do otherwise ------------------------------------------------------------------

    def keep(self, member: Member, after: Group) -> None:
        """Keep the state that a handshake has led to."""
        member.person.held = after
        member.states = [*member.states, after][-STATES_KEPT:]

    def read(self, member: Member, message: bytes) -> bytes:
        return member.person.read(message)

    def restart(self, member: Member) -> None:
        """End the program and begin again from what was stored: what was being built is lost."""
        member.person.held = Group.load(member.group.rows())
        member.pending = None

    # --- handshakes -----------------------------------------------------------------------------------------------

    def propose(self, member: Member, proposal: Proposal | None, wire_format: WireFormat) -> None:
        """Send a proposal, or an Update if there is none; what is of an old epoch gets no further."""
        person = member.person
        if proposal is None:
            after, message = person.act(
                lambda group: group.update_leaf(random=person.random, now_s=NOW_S, wire_format=wire_format)
            )
        else:
            after, message = person.act(
                lambda group: group.propose(proposal, random=person.random, now_s=NOW_S, wire_format=wire_format)
            )
        person.held = after
        if after.epoch != self.epoch:
            return
        if wire_format is WireFormat.PUBLIC_MESSAGE:
            self.server, _ = self.server.receive_proposal(message, now_s=NOW_S)
        else:
            self.is_seen_whole = False
        # It counts as read by its author, unless something before it is not.
        if member.cursor == len(self.log):
            member.cursor += 1
        self.log.append(Entry(message, member, is_commit=False))

    def build(
        self, member: Member, proposals: list[Proposal], wire_format: WireFormat, *, with_tree: bool = False
    ) -> None:
        """Build a commit, and send it at some later time or never."""
        pending = member.person.commit(proposals, psks=PSKS, wire_format=wire_format, with_tree=with_tree)
        assert pending.group_before is not None
        member.person.held, member.pending, member.built_on = pending.group_before, pending, member.group.epoch

    def submit(self, member: Member) -> None:
        """Send the commit that was built: it gets in, or the member drops it and follows the one that did."""
        pending, member.pending = member.pending, None
        if pending is not None and member.built_on == self.epoch:
            self.accept(member, pending, member.group.take_up(pending.group))

    def accept(self, author: Member, pending: PendingCommit, after: Group) -> None:
        """Let a commit be the one of its epoch."""
        self.follow_as_server(pending)
        self.log.append(Entry(pending.commit, author, is_commit=True))
        self.info, self.tree = pending.group_info, pending.ratchet_tree
        author.cursor, author.missed = len(self.log), False
        self.keep(author, after)
        present = self.present()
        for name in self.members.keys() - present:
            self.out.append(self.members.pop(name))
        for outsider in self.out:
            self.try_to_follow(outsider, pending.commit)
        for name in present & self.offered.keys():
            self.welcome(name, pending)
        # Whoever else was to be added was so by a commit, or by a proposal, of the epoch that is over.
        self.offered.clear()

    def try_to_follow(self, outsider: Member, message: bytes) -> None:
        """Let one who is out make what it can of the commit that put it out, and of those that come after."""
        try:
            after, _ = outsider.states[-1].receive(message, now_s=NOW_S, psks=PSKS)
        except MLSError:
            return
        outsider.states = [*outsider.states, after][-STATES_KEPT:]

    def follow_as_server(self, pending: PendingCommit) -> None:
        """Follow a commit without secrets; what was said in private can only be read off the GroupInfo."""
        self.info, self.tree = pending.group_info, pending.ratchet_tree
        is_public = MLSMessage.decode(pending.commit).wire_format is WireFormat.PUBLIC_MESSAGE
        if is_public and self.is_seen_whole:
            self.server, summary = self.server.receive_commit(pending.commit, now_s=NOW_S)
            self.server.check_group_info(pending.group_info, committer=summary.committer)
            assert self.server.tree.encode() == pending.ratchet_tree
            self.server = PublicGroup.decode(self.server.encode())
        else:
            self.server = self.opened()
        self.is_seen_whole = True

    def opened(self) -> PublicGroup:
        info = MLSMessage.decode(self.info).body
        assert isinstance(info, GroupInfo)
        return PublicGroup.open(info, RatchetTree.decode(self.tree), now_s=NOW_S)

    def present(self) -> set[str]:
        """Return the names of those whose leaves are in the tree."""
        return {leaf.credential.identity.decode() for leaf in self.server.tree.leaf_nodes()}

    def welcome(self, name: str, pending: PendingCommit) -> None:
        person, bundle = self.offered.pop(name)
        assert pending.welcome is not None
        info = MLSMessage.decode(pending.group_info).body
        assert isinstance(info, GroupInfo)
        carries_tree = any(extension.extension_type == 2 for extension in info.extensions)
        tree, private = None if carries_tree else pending.ratchet_tree, person.signature_key.private
        person.held = join(pending.welcome, tree, bundle, private, now_s=NOW_S, psks=PSKS)
        self.members[name] = Member(person, len(self.log), self.epoch, states=[person.group])

    def come_from_outside(self, person: Person, back: Member | None = None) -> None:
        """Let someone new, or a member that is lost, join by a commit of its own."""
        resync_leaf = None if back is None else self.leaf_of(back.name)
        pending = join_external(
            self.info,
            self.tree,
            person.credential,
            person.signature_key.private,
            capabilities=person.capabilities,
            resync_leaf=resync_leaf,
            random=person.random,
            now_s=NOW_S,
        )
        states = [] if back is None else back.states
        member = Member(person, 0, self.epoch + 1, states=states)
        self.offered.pop(person.name, None)
        self.members[person.name] = member
        self.accept(member, pending, pending.group)

    def leaf_of(self, name: str) -> LeafIndex:
        leaves = {one.leaf_node.credential.identity.decode(): one.leaf_index for one in self.server.members()}
        return leaves[name]

    # --- reading the log ------------------------------------------------------------------------------------------

    def catch_up(self, member: Member, most: int) -> None:
        """Read the next entries; one that has missed a commit is told so by each, and its state stays."""
        for entry in self.log[member.cursor : member.cursor + most]:
            member.cursor += 1
            if entry.author is member or not member.group.is_active:
                continue
            if member.deaf:
                with pytest.raises(StateError):
                    member.person.receive(entry.message, psks=PSKS)
                continue
            try:
                after, received = member.person.act(
                    lambda group, entry=entry: group.receive(entry.message, now_s=NOW_S, psks=PSKS)
                )
            except StateError:
                assert member.missed, "a commit was refused by a member that has seen all that it refers to"
                member.deaf = True
                continue
            member.missed &= not isinstance(received, ReceivedCommit)
            self.keep(member, after)

    def lose(self, member: Member) -> None:
        """Miss the next entry."""
        entry = self.log[member.cursor]
        member.cursor += 1
        if entry.author is not member:
            member.missed = True
            member.deaf |= entry.is_commit

    # --- application messages -------------------------------------------------------------------------------------

    def say(self, member: Member, data: bytes) -> None:
        message = member.person.seal(data)
        epoch = member.group.epoch
        readers = [one for one in self.everyone if one is not member and one.since <= epoch]
        self.sent.append(Sent(epoch, data, message, readers))

    def deliver(self, sent: Sent, reader: Member) -> None:
        """Bring a message to a reader; too early it is brought again later, else this was the one time."""
        if sent.epoch > reader.group.epoch:
            with pytest.raises(StateError):
                reader.person.receive(sent.message)
            return
        sent.unread.remove(reader)
        # One who has come back is another client to the epochs before.
        is_readable = sent.epoch >= reader.since and reader.group.epoch - sent.epoch <= PAST_EPOCHS
        if is_readable:
            assert self.read(reader, sent.message) == sent.data
        with pytest.raises(MLSError):
            reader.person.receive(sent.message)

    # --- what must hold -------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Hold that all who have read everything agree, with the server too, and that nobody else reads along."""
        current = self.current()
        if not current:
            return
        first = current[0].group
        for member in current:
            group = member.group
            assert group.is_active
            assert group.epoch_authenticator == first.epoch_authenticator
            assert group.export("label", b"context", 16) == first.export("label", b"context", 16)
            assert group.group_context == self.server.group_context
            assert group.tree.tree_hash(group.suite) == self.server.tree.tree_hash(group.suite)
            if self.is_seen_whole:
                # In another order, where a member proposed before it had read what came before.
                assert {one.reference for one in group.pending_proposals} == self.server.proposals.keys()
        # A state is a value: the key that seals this is still there for what is said next.
        _, message = first.seal(b"members only", random=self.chance.randbytes, before_commit=True)
        for member in current[1:]:
            assert member.group.receive(message, now_s=NOW_S)[1].application_data == b"members only"  # pyright: ignore[reportAttributeAccessIssue]
        for outsider in self.out[-3:]:
            for state in outsider.states:
                with pytest.raises(MLSError):
                    state.receive(message, now_s=NOW_S)

    def settle(self) -> None:
        """Let everyone read everything; hold that no message is lost but to those who missed a commit."""
        for member in self.everyone:
            self.catch_up(member, len(self.log))
        for sent in self.sent:
            for reader in [one for one in sent.unread if self.members.get(one.name) is one]:
                self.deliver(sent, reader)
                assert reader not in sent.unread or reader.deaf
        self.check()


def external_psk(history: History) -> PreSharedKeyProposal:
    nonce = history.chance.randbytes(history.company.suite.hash_length)
    return PreSharedKeyProposal(PreSharedKeyID.external(b"shared key", nonce))


def resumption_psk(history: History) -> PreSharedKeyProposal:
    """Name the key of the present epoch, which all have who can follow."""
    nonce = history.chance.randbytes(history.company.suite.hash_length)
    usage = ResumptionPSKUsage.APPLICATION
    return PreSharedKeyProposal(
        PreSharedKeyID.resumption(usage, history.server.group_context.group_id, history.epoch, nonce)
    )
