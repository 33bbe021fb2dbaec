"""A server that holds no secret follows real members through a long history, and agrees with them at every step."""

import random

import pytest

from heliograph.mls.errors import StateError
from heliograph.mls.framing import MLSMessage
from heliograph.mls.group import PendingCommit
from heliograph.mls.group_info import GroupInfo
from heliograph.mls.proposal import Remove
from heliograph.mls.public_group import PublicCommit, PublicGroup
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import Random
from tests.mls.company import NOW_S, Company, Person


class Follower:
    """The server's view of a company's group."""

    def __init__(self, company: Company) -> None:
        self.company = company
        founder = company.everyone[0].group
        info = MLSMessage.decode(founder.group_info()).body
        assert isinstance(info, GroupInfo)
        self.group = PublicGroup.open(info, RatchetTree.decode(founder.ratchet_tree()), now_s=NOW_S)

    def commit(self, pending: PendingCommit) -> PublicCommit:
        self.group, summary = self.group.receive_commit(pending.commit, now_s=NOW_S)
        self.group.check_group_info(pending.group_info, committer=summary.committer)
        self.agree()
        return summary

    def propose(self, message: bytes) -> None:
        self.group, _ = self.group.receive_proposal(message, now_s=NOW_S)

    def agree(self) -> None:
        self.group = PublicGroup.decode(self.group.encode())
        for person in self.company.everyone:
            assert person.group.group_context == self.group.group_context
            assert person.group.tree == self.group.tree
            assert [p.reference for p in person.group.pending_proposals] == list(self.group.proposals)
        assert {member.leaf_index for member in self.group.members()} == {
            person.leaf for person in self.company.everyone
        }


def step(company: Company, follower: Follower, chance: random.Random, newcomer: Person) -> None:
    people = company.everyone
    actor, other = chance.choice(people), chance.choice(people)
    act = chance.choice(["add", "add", "remove", "commit", "update", "leave", "join", "resync"])
    if act == "add" and len(people) < 9:
        summary = follower.commit(company.add(actor, newcomer))
        assert newcomer.leaf in [member.leaf_index for member in summary.added]
    elif act == "remove" and actor is not other:
        leaf = other.leaf
        summary = follower.commit(company.remove(actor, other))
        assert leaf in [member.leaf_index for member in summary.removed]
    elif act == "update":
        follower.propose(company.propose(actor))
    elif act == "leave" and len(people) > 2:
        follower.propose(company.propose(actor, Remove(actor.leaf)))
        follower.commit(company.commit(next(person for person in company.everyone if person is not actor)))
    elif act == "join" and len(people) < 9:
        summary = follower.commit(company.join_from_outside(newcomer, actor))
        assert summary.external
        assert summary.committer == newcomer.leaf
    elif act == "resync" and actor is not other:
        leaf = actor.leaf
        summary = follower.commit(company.join_from_outside(actor, other, resync_leaf=leaf))
        assert [member.leaf_index for member in summary.removed] == [leaf]
        assert [member.leaf_index for member in summary.added] == [actor.leaf]
    else:
        follower.commit(company.commit(actor))


@pytest.mark.rule("RFC 9420 §12.4.2", "new-epoch")
@pytest.mark.parametrize(("suite_id", "seed"), [(1, 1), (1, 2), (1, 3), (2, 4), (3, 5), (0xF04E, 6)])
def test_a_server_agrees_with_the_members_after_every_step(suite_id: int, seed: int):
    chance = random.Random(seed)
    company = Company("founder", random=chance.randbytes, suite_id=suite_id)
    follower = Follower(company)
    for number in range(40):
        step(company, follower, chance, company.person(f"newcomer {number}"))
        follower.agree()
    group = follower.group
    assert group.epoch >= 20
    group.tree.validate(company.suite, group.group_context, now_s=NOW_S)


def test_a_server_refuses_a_commit_that_came_too_late(seeded_random: Random):
    company = Company("ada", "ben", random=seeded_random)
    follower = Follower(company)
    late = company["ben"].commit()
    follower.commit(company.commit(company["ada"]))
    with pytest.raises(StateError, match="another epoch"):
        follower.group.receive_commit(late.commit, now_s=NOW_S)
