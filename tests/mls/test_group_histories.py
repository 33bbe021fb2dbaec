"""Whatever happens, in whatever order: the members of a group agree, and nobody else reads along.

Hypothesis plays histories of a small group. After each step all members hold the same epoch, and a message that any of
them seals is read by all others and by no one who is out.
"""

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from heliograph.mls.errors import MLSError
from heliograph.mls.framing import MLSMessage, PrivateMessage
from heliograph.mls.group import Group
from heliograph.mls.proposal import Add, Remove
from tests.mls.company import Company, Person

MOST = 6


class GroupHistory(RuleBasedStateMachine):
    """Up to six members who add, remove, update, rejoin, send, lose and reorder messages, and restart."""

    def __init__(self) -> None:
        super().__init__()
        self.names = 0
        self.known: dict[str, Person] = {}
        self.in_flight: list[tuple[bytes, bytes, Person, dict[str, Person]]] = []

    @initialize(seed=st.integers(0, 2**32))
    def found(self, seed: int) -> None:
        self.company = Company("founder", random=random.Random(seed).randbytes)

    def anyone(self, choice: int) -> Person:
        return self.company.everyone[choice % len(self.company.everyone)]

    def newcomer(self) -> Person:
        self.names += 1
        return self.company.person(f"member {self.names}")

    @precondition(lambda self: len(self.company.people) < MOST)
    @rule(adder=st.integers(0, 5))
    def add(self, adder: int) -> None:
        self.company.add(self.anyone(adder), self.newcomer())

    @precondition(lambda self: len(self.company.people) < MOST)
    @rule(helper=st.integers(0, 5))
    def join_from_outside(self, helper: int) -> None:
        self.company.join_from_outside(self.newcomer(), self.anyone(helper))

    @precondition(lambda self: len(self.company.people) > 1)
    @rule(lost=st.integers(0, 5), step=st.integers(1, 4))
    def come_back(self, lost: int, step: int) -> None:
        member = self.anyone(lost)
        helper = next(person for person in self.company.everyone if person is not member)
        self.in_flight = [flight for flight in self.in_flight if flight[2] is not member]
        for *_, readers in self.in_flight:
            readers.pop(member.name, None)
        self.company.join_from_outside(member, helper, resync_leaf=member.leaf)

    @precondition(lambda self: len(self.company.people) > 1)
    @rule(remover=st.integers(0, 5), offset=st.integers(1, 5))
    def remove(self, remover: int, offset: int) -> None:
        one, other = self.anyone(remover), self.anyone(remover + offset)
        if one is not other:
            self.company.remove(one, other)

    @rule(committer=st.integers(0, 5))
    def commit(self, committer: int) -> None:
        self.company.commit(self.anyone(committer))

    @rule(proposer=st.integers(0, 5), kind=st.sampled_from(["update", "remove", "add"]), subject=st.integers(0, 5))
    def propose(self, proposer: int, kind: str, subject: int) -> None:
        who = self.anyone(proposer)
        if kind == "update":
            self.company.propose(who)
        elif kind == "remove":
            self.company.propose(who, Remove(self.anyone(subject).leaf))
        else:
            self.company.propose(who, Add(self.newcomer().key_package().key_package))

    @rule(speaker=st.integers(0, 5), data=st.binary(max_size=300))
    def say(self, speaker: int, data: bytes) -> None:
        who = self.anyone(speaker)
        readers = {person.name: person for person in self.company.everyone if person is not who}
        self.in_flight.append((data, who.seal(data), who, readers))

    @precondition(lambda self: bool(self.in_flight))
    @rule(which=st.integers(0, 20))
    def deliver(self, which: int) -> None:
        data, message, _, readers = self.in_flight.pop(which % len(self.in_flight))
        for person in readers.values():
            sent_in = message_epoch(message)
            if person.group.epoch - sent_in <= 2:
                assert person.read(message) == data
                with pytest.raises(MLSError):
                    person.receive(message)

    @rule(who=st.integers(0, 5))
    def restart(self, who: int) -> None:
        person = self.anyone(who)
        person.held = Group.load(person.group.rows())

    @invariant()
    def all_agree_and_no_outsider_reads(self) -> None:
        first, *others = self.company.everyone
        self.known.update(self.company.people)
        outsiders = [person for name, person in self.known.items() if name not in self.company.people]
        for person in others:
            assert person.group.epoch_authenticator == first.group.epoch_authenticator
            assert person.group.tree == first.group.tree
        message = first.seal(b"members only")
        for person in others:
            assert person.read(message) == b"members only"
        for outsider in outsiders[-3:]:
            with pytest.raises(MLSError):
                outsider.receive(message)


def message_epoch(message: bytes) -> int:
    body = MLSMessage.decode(message).body
    assert isinstance(body, PrivateMessage)
    return body.epoch


GroupHistory.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestEveryHistoryLeavesItsMembersInAgreement = GroupHistory.TestCase
