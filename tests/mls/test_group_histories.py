"""Whatever happens, in whatever order: the members of a group agree, and nobody else reads along.

Hypothesis plays histories of a small group (`history.py`). After each step all who have read everything hold the same
epoch as the server that follows without secrets, and what one of them seals is read by the others and by no one who is
out, with none of the keys that it ever had. At the end everything that was sent has been read, once.

The same machine must fail where a member has one of the faults that are planted below.
"""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from heliograph.mls.errors import MLSError
from heliograph.mls.framing import WireFormat
from heliograph.mls.group import Group
from heliograph.mls.proposal import Add, Proposal, Remove
from tests.mls.fuzz.genuine import HYBRID
from tests.mls.history import History, Member, external_psk, resumption_psk

MOST = 6
WIRE_FORMATS = st.sampled_from([WireFormat.PUBLIC_MESSAGE, WireFormat.PUBLIC_MESSAGE, WireFormat.PRIVATE_MESSAGE])
CHOICE = st.integers(0, MOST - 1)
KINDS = st.lists(st.sampled_from(["add", "add", "remove", "psk", "resumption"]), max_size=3, unique=True)


class GroupHistory(RuleBasedStateMachine):
    """Up to six members who add, remove, update, race, lag, lose and reorder messages, restart and come back."""

    kind: type[History] = History

    @initialize(seed=st.integers(0, 2**32), suite_id=st.sampled_from([1, 1, 1, 1, 1, HYBRID]))
    def found(self, seed: int, suite_id: int) -> None:
        self.history = self.kind(seed, suite_id)

    def anyone(self, choice: int) -> Member:
        return self.history.everyone[choice % len(self.history.everyone)]

    def has_room(self) -> bool:
        return len(self.history.members) + len(self.history.offered) < MOST

    # --- handshakes

    @rule(
        who=CHOICE,
        kind=st.sampled_from(["update", "remove", "leave", "add", "psk"]),
        subject=CHOICE,
        wire_format=WIRE_FORMATS,
    )
    def propose(self, who: int, kind: str, subject: int, wire_format: WireFormat) -> None:
        member, proposal = self.anyone(who), None
        leaf = self.anyone(subject).group.own_leaf_index
        if kind == "remove" and member.group.tree.leaf(leaf) is not None:
            proposal = Remove(leaf)
        elif kind == "leave":
            proposal = Remove(member.group.own_leaf_index)
        elif kind == "add" and self.has_room():
            proposal = Add(self.history.newcomer()[1].key_package)
        elif kind == "psk":
            proposal = external_psk(self.history)
        if member.group.is_active:
            self.history.propose(member, proposal, wire_format)

    @rule(who=CHOICE, kinds=KINDS, subject=CHOICE, wire_format=WIRE_FORMATS, with_tree=st.booleans())
    def build(self, who: int, kinds: list[str], subject: int, wire_format: WireFormat, *, with_tree: bool) -> None:
        member = self.anyone(who)
        if member.group.is_active:
            proposals = self.proposals(member, kinds, self.anyone(subject))
            self.history.build(member, proposals, wire_format, with_tree=with_tree)

    @precondition(lambda self: self.history.current())
    @rule(
        who=CHOICE, kinds=KINDS, subject=CHOICE, wire_format=WIRE_FORMATS, with_tree=st.booleans(), heard=st.booleans()
    )
    def commit(
        self, who: int, kinds: list[str], subject: int, wire_format: WireFormat, *, with_tree: bool, heard: bool
    ) -> None:
        """Build and send at once, by someone who has read everything; the others hear of it now or later."""
        current = self.history.current()
        member = current[who % len(current)]
        proposals = self.proposals(member, kinds, self.anyone(subject))
        self.history.build(member, proposals, wire_format, with_tree=with_tree)
        self.history.submit(member)
        if heard:
            self.all_catch_up()

    def proposals(self, member: Member, kinds: list[str], subject: Member) -> list[Proposal]:
        """Return what a member commits by value."""
        made: list[Proposal] = []
        leaf = subject.group.own_leaf_index
        if "add" in kinds and self.has_room():
            made.append(Add(self.history.newcomer()[1].key_package))
        if "remove" in kinds and leaf != member.group.own_leaf_index and member.group.tree.leaf(leaf) is not None:
            made.append(Remove(leaf))
        if "psk" in kinds:
            made.append(external_psk(self.history))
        # A newcomer has no key of an epoch before its own.
        if "resumption" in kinds and not self.history.offered and member.group.epoch == self.history.epoch:
            made.append(resumption_psk(self.history))
        return made

    @precondition(lambda self: any(member.pending for member in self.history.everyone))
    @rule(who=CHOICE)
    def submit(self, who: int) -> None:
        builders = [member for member in self.history.everyone if member.pending]
        self.history.submit(builders[who % len(builders)])

    @precondition(lambda self: len(self.history.members) < MOST)
    @rule()
    def come_from_outside(self) -> None:
        self.history.come_from_outside(self.history.newcomer()[0])

    @precondition(lambda self: any(member.deaf for member in self.history.everyone))
    @rule(who=CHOICE)
    def come_back(self, who: int) -> None:
        lost = [member for member in self.history.everyone if member.deaf]
        member = lost[who % len(lost)]
        self.history.come_from_outside(member.person, back=member)

    @rule(who=CHOICE, most=st.sampled_from([1, 2, 100]))
    def catch_up(self, who: int, most: int) -> None:
        self.history.catch_up(self.anyone(who), most)

    @rule()
    def all_catch_up(self) -> None:
        for member in self.history.everyone:
            self.history.catch_up(member, 100)

    @rule(who=CHOICE)
    def lose(self, who: int) -> None:
        member = self.anyone(who)
        if member.cursor < len(self.history.log):
            self.history.lose(member)

    # --- messages and programs

    @rule(who=CHOICE, data=st.binary(max_size=300))
    def say(self, who: int, data: bytes) -> None:
        if self.anyone(who).group.is_active:
            self.history.say(self.anyone(who), data)

    @precondition(lambda self: any(sent.unread for sent in self.history.sent))
    @rule(which=st.integers(0, 20), who=CHOICE)
    def deliver(self, which: int, who: int) -> None:
        waiting = [sent for sent in self.history.sent if sent.unread]
        sent = waiting[which % len(waiting)]
        reader = sent.unread[who % len(sent.unread)]
        if self.history.members.get(reader.name) is reader:
            self.history.deliver(sent, reader)
        else:
            sent.unread.remove(reader)

    @precondition(lambda self: any(sent.unread for sent in self.history.sent))
    @rule()
    def deliver_newest_first(self) -> None:
        for sent in reversed(self.history.sent):
            for reader in list(sent.unread):
                if self.history.members.get(reader.name) is reader:
                    self.history.deliver(sent, reader)

    @rule(who=CHOICE)
    def restart(self, who: int) -> None:
        self.history.restart(self.anyone(who))

    @invariant()
    def all_agree_and_no_outsider_reads(self) -> None:
        self.history.check()

    def teardown(self) -> None:
        if hasattr(self, "history"):
            self.history.settle()


GroupHistory.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestEveryHistoryLeavesItsMembersInAgreement = GroupHistory.TestCase


def test_all_that_can_happen_happens_in_one_history_by_hand():
    machine, public, private = GroupHistory(), WireFormat.PUBLIC_MESSAGE, WireFormat.PRIVATE_MESSAGE
    machine.found(seed=1, suite_id=1)
    history = machine.history
    for with_tree in (True, False, True):
        machine.commit(0, ["add", "psk"], 0, public, with_tree=with_tree, heard=True)
    machine.come_from_outside()
    machine.all_catch_up()
    assert len(history.current()) == 5
    # A race: both build on one epoch, the second to send drops what it has built and follows.
    machine.build(0, [], 0, private, with_tree=False)
    machine.build(1, [], 0, public, with_tree=False)
    machine.submit(1)
    machine.submit(0)
    machine.say(1, b"in the new epoch")
    machine.deliver_newest_first()
    machine.all_catch_up()
    assert len(history.current()) == 5
    assert [sent.unread for sent in history.sent] != [[]]
    # One misses a commit and comes back; another leaves by a proposal that is sealed; a third is removed.
    machine.commit(0, ["resumption"], 0, private, with_tree=False, heard=False)
    machine.lose(2)
    machine.restart(3)
    machine.all_catch_up()
    assert [member.deaf for member in history.everyone].count(True) == 1
    machine.come_back(0)
    machine.all_catch_up()
    machine.propose(4, "leave", 0, private)
    machine.propose(1, "update", 0, public)
    machine.propose(1, "add", 0, public)
    machine.all_catch_up()
    machine.commit(0, ["remove"], 3, public, with_tree=False, heard=True)
    assert len(history.out) == 2
    assert len(history.current()) == 4
    machine.deliver_newest_first()
    machine.all_agree_and_no_outsider_reads()
    machine.teardown()
    # What is unread was for one who is out.
    assert not [one for sent in history.sent for one in sent.unread if history.members.get(one.name) is one]


# --- planted faults ---------------------------------------------------------------------------------------------------


class KeepsOldPathKeys(History):
    """Members follow a commit and forget to put the path's keys in place of the old ones."""

    def keep(self, member: Member, after: Group) -> None:
        before = member.group._slow.epoch if member.person.held is not None else None
        if before is not None and before.private_keys.leaf_index == after.own_leaf_index:
            epoch = replace(after._slow.epoch, private_keys=before.private_keys)
            after = replace(after, _slow=replace(after._slow, epoch=epoch))
        super().keep(member, after)


class KeepsUsedKeys(History):
    """Members read a message and do not store that its key is spent."""

    def read(self, member: Member, message: bytes) -> bytes:
        before = member.group
        data = super().read(member, message)
        member.person.held = before
        return data


class RestoresOldState(History):
    """Programs begin again from what was stored an epoch ago."""

    def restart(self, member: Member) -> None:
        member.person.held = Group.load(member.states[-2 if len(member.states) > 1 else -1].rows())


class RemovesNobody(History):
    """The service takes who is removed to be gone; the committer commits no removal."""

    def build(
        self, member: Member, proposals: list[Proposal], wire_format: WireFormat, *, with_tree: bool = False
    ) -> None:
        kept: list[Proposal] = [one for one in proposals if not isinstance(one, Remove)]
        super().build(member, kept, wire_format, with_tree=with_tree)
        self.told = {one.removed for one in proposals if isinstance(one, Remove)}

    def present(self) -> set[str]:
        told: set[int] = getattr(self, "told", set())
        return super().present() - {
            member.leaf_node.credential.identity.decode()
            for member in self.server.members()
            if member.leaf_index in told
        }


@pytest.mark.parametrize("fault", [KeepsOldPathKeys, KeepsUsedKeys, RestoresOldState, RemovesNobody])
def test_a_member_with_a_planted_fault_makes_the_machine_fail(fault: type[History]):
    machine = type("FaultyHistory", (GroupHistory,), {"kind": fault})
    chosen = settings(
        GroupHistory.TestCase.settings,
        max_examples=200,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    with pytest.raises((AssertionError, MLSError, pytest.fail.Exception)):
        run_state_machine_as_test(machine, settings=chosen)
