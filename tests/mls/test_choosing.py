"""Which waiting proposals a committer takes along: all that can stand together, whoever tries to stand in the way."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from heliograph.mls.credential import Credential
from heliograph.mls.extension import ExternalSender, ExternalSenders, RequiredCapabilities
from heliograph.mls.key_package import KeyPackage
from heliograph.mls.leaf_node import Capabilities
from heliograph.mls.proposal import (
    Add,
    GroupContextExtensions,
    PreSharedKeyID,
    PreSharedKeyProposal,
    Proposal,
    ReInit,
    Remove,
)
from heliograph.mls.suite import Random
from tests.mls.company import Company, Person

NEEDED = RequiredCapabilities(credential_types=(0xF001,)).to_extension()
ABLE = Capabilities(credentials=(1, 0xF001))


@pytest.fixture
def five(seeded_random: Random) -> Company:
    return Company("ada", "ben", "cleo", "dan", "eve", random=seeded_random, capabilities=ABLE, extensions=(NEEDED,))


def package(company: Company, name: str) -> KeyPackage:
    return company.person(name).key_package().key_package


def incapable(company: Company, name: str) -> Add:
    """Return an Add of someone who does not support what the group requires, which shows only among the others."""
    person = replace(company.person(name), capabilities=Capabilities(credentials=(1,)))
    return Add(person.key_package().key_package)


def propose_all(company: Company, proposer: str, proposals: Sequence[Proposal]) -> None:
    for proposal in proposals:
        company.propose(company[proposer], proposal)


def names(company: Company, person: Person) -> list[str]:
    return [member.leaf_node.credential.identity.decode() for member in person.group.members()]


def commit(company: Company, committer: str, *by_value: Proposal) -> list[str]:
    company.commit(company[committer], *by_value)
    return names(company, company[committer])


@pytest.mark.rule("RFC 9420 §12.2", "no-client-twice")
def test_of_two_additions_of_one_client_the_first_is_committed(five: Company):
    finn = package(five, "finn")
    propose_all(five, "ben", [Add(finn)])
    propose_all(five, "cleo", [Add(finn), Add(package(five, "gwen"))])
    assert commit(five, "ada")[5:] == ["finn", "gwen"]


@pytest.mark.rule("RFC 9420 §12.2", "remove-preferred")
def test_a_removal_goes_before_an_update_of_the_same_leaf(five: Company):
    five.propose(five["eve"])
    five.propose(five["ben"], Remove(five["eve"].leaf))
    assert "eve" not in commit(five, "ada")


def test_a_client_that_is_there_already_is_not_added_again(five: Company):
    eve = five["eve"].key_package().key_package
    five.propose(five["ben"], Add(eve))
    assert commit(five, "ada").count("eve") == 1


def test_a_client_comes_back_in_the_commit_that_removes_its_old_leaf(five: Company):
    eve = five["eve"].key_package().key_package
    five.propose(five["ben"], Add(eve))
    five.propose(five["ben"], Remove(five["eve"].leaf))
    assert commit(five, "ada").count("eve") == 1
    assert five["ada"].group.members()[4].leaf_node == eve.leaf_node


def test_of_two_changes_of_the_context_the_first_is_committed(five: Company, seeded_random: Random):
    key = five.suite.generate_signature_key(seeded_random).public
    first, second = (
        GroupContextExtensions((NEEDED, ExternalSenders((ExternalSender(key, Credential.basic(name)),)).to_extension()))
        for name in (b"first", b"second")
    )
    propose_all(five, "ben", [first, second])
    five.commit(five["ada"])
    assert five["ada"].group.group_context.extensions == first.extensions


def test_one_newcomer_who_lacks_what_the_group_requires_keeps_nobody_out(five: Company):
    propose_all(five, "ben", [Add(package(five, name)) for name in ("finn", "gwen")])
    propose_all(five, "cleo", [incapable(five, "mallory")])
    propose_all(five, "dan", [Add(package(five, "hugh"))])
    assert commit(five, "ada")[5:] == ["finn", "gwen", "hugh"]


def test_a_flood_of_bad_proposals_does_not_keep_a_committer_from_committing(five: Company):
    propose_all(five, "eve", [incapable(five, f"mallory {number}") for number in range(80)])
    assert commit(five, "ada", Add(package(five, "finn"))) == ["ada", "ben", "cleo", "dan", "eve", "finn"]


def test_a_committer_that_closes_the_group_takes_nothing_else_along(five: Company):
    five.propose(five["ben"], Remove(five["eve"].leaf))
    five.commit(five["ada"], ReInit(b"the next", 1, 1))
    assert five["ben"].group.reinit is not None
    assert "eve" in names(five, five["ben"])


def test_a_reinit_that_waits_alone_is_committed(five: Company):
    five.propose(five["ben"], ReInit(b"the next", 1, 1))
    five.commit(five["ada"])
    assert five["eve"].group.reinit == ReInit(b"the next", 1, 1)


def test_a_key_is_mixed_in_once_however_often_it_is_proposed(five: Company, seeded_random: Random):
    psk = PreSharedKeyID.external(b"the key", seeded_random(32))
    ada, ben = five["ada"], five["ben"]
    ada.held, message = ada.group.propose(PreSharedKeyProposal(psk), random=seeded_random, now_s=1_790_000_000)
    ben.receive(message)
    pending = ben.commit([PreSharedKeyProposal(psk)], psks={b"the key": b"secret"})
    ada.receive(pending.commit, psks={b"the key": b"secret"})
    assert ada.group.epoch_authenticator == pending.group.epoch_authenticator
