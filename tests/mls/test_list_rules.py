"""RFC 9420 §12.2, rule by rule: commits of lists that break one, made with real keys (`forge.py`).

`test_proposal_rules` holds the rules themselves to the same; here a member and a public group follow the whole commit.
"""

from collections.abc import Callable, Sequence

import pytest

from heliograph.mls.errors import UnsupportedError
from heliograph.mls.leaf_node import Capabilities
from heliograph.mls.proposal import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    Proposal,
    ReInit,
    Remove,
    UnknownProposal,
)
from heliograph.mls.suite import Random
from tests.mls.company import Company, Person
from tests.mls.followers import Followers
from tests.mls.forge import KEYS, NONCE, Forger, add, by_value, external_commit, fresh_update, psk


def proposed(followers: Followers, sender: Person, committer: Person, proposal: Proposal) -> bytes:
    """Let a member propose; return the reference by which the committer and the followers know it."""
    forger = Forger(sender.group, sender.random)
    message = forger.public(forger.signed(proposal))
    if committer is not sender:
        committer.receive(message)
    return followers.hear(message)[0]


# --- the list (§12.2) -------------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.2", "no-update-by-committer")
@pytest.mark.rule("hostile input", "update-by-committer")
def test_a_commit_of_the_committers_own_update_is_refused(company: Company, ada: Person, followers: Followers):
    own, other = fresh_update(ada), fresh_update(company["cleo"])
    by_cleo = proposed(followers, company["cleo"], ada, other)
    by_ada = proposed(followers, ada, ada, own)
    forger = Forger(ada.group, company.random)
    honest = forger.commit(references=[by_cleo])
    followers.refuse(forger.commit([own]), "Update by the committer", honest=honest)
    followers.refuse(forger.commit(references=[by_ada]), "Update by the committer", honest=honest)


@pytest.mark.rule("RFC 9420 §12.2", "no-removal-of-committer")
@pytest.mark.rule("hostile input", "remove-of-self")
def test_a_commit_that_puts_its_committer_out_is_refused(
    company: Company, ada: Person, ben: Person, followers: Followers
):
    own, other = Remove(ada.leaf), Remove(company["cleo"].leaf)
    by_dan = proposed(followers, company["dan"], ada, own)
    forger = Forger(ada.group, company.random)
    honest = forger.commit([other])
    followers.refuse(forger.commit([own]), "removes the committer", honest=honest)
    followers.refuse(forger.commit(references=[by_dan]), "removes the committer", honest=honest)


@pytest.mark.rule("RFC 9420 §12.2", "one-change-for-a-leaf")
@pytest.mark.rule("hostile input", "two-proposals-for-one-leaf")
def test_a_commit_with_two_changes_of_one_leaf_is_refused(company: Company, ada: Person, followers: Followers):
    cleo = company["cleo"]
    one, two = (proposed(followers, cleo, ada, fresh_update(cleo)) for _ in range(2))
    forger, remove = Forger(ada.group, company.random), Remove(cleo.leaf)
    honest = [forger.commit(references=[one]), forger.commit(references=[two]), forger.commit([remove])]
    for spoiled in (
        forger.commit(references=[one, two]),
        forger.commit([remove], references=[one]),
        forger.commit([remove, remove]),
    ):
        followers.refuse(spoiled, "same leaf twice", honest=honest)


@pytest.mark.rule("RFC 9420 §12.2", "no-client-twice")
def test_a_commit_that_adds_a_client_twice_is_refused(company: Company, forger: Forger, followers: Followers):
    finn = company.person("finn")
    one, two = (Add(finn.key_package().key_package) for _ in range(2))
    honest = forger.commit([one, add(company, "gil")])
    followers.refuse(forger.commit([one, two]), "same client twice", honest=honest)


@pytest.mark.rule("RFC 9420 §12.2", "no-client-already-in")
def test_a_member_is_added_again_only_by_the_commit_that_removes_it(
    company: Company, forger: Forger, followers: Followers
):
    cleo = company["cleo"]
    again = Add(cleo.key_package().key_package)
    honest = forger.commit([again, Remove(cleo.leaf)])
    followers.refuse(forger.commit([again]), "already in the group", honest=honest)
    other = forger.commit([again, Remove(company["dan"].leaf)])
    followers.refuse(other, "already in the group", honest=honest)


@pytest.mark.rule("RFC 9420 §12.2", "no-psk-twice")
def test_a_commit_names_a_pre_shared_key_once(forger: Forger, followers: Followers):
    key = KEYS[b"the key"]
    honest = forger.commit([psk(), psk(nonce=NONCE[::-1])], psks=[key, key])
    followers.refuse(forger.commit([psk(), psk()], psks=[key, key]), "twice", honest=honest, psks=KEYS)


@pytest.mark.rule("RFC 9420 §12.2", "extensions-once")
def test_a_commit_replaces_the_extensions_once(forger: Forger, followers: Followers):
    nothing = GroupContextExtensions(())
    honest = forger.commit([nothing])
    followers.refuse(forger.commit([nothing, nothing]), "several GroupContextExtensions", honest=honest)


@pytest.mark.rule("RFC 9420 §12.2", "reinit-alone")
def test_a_commit_of_a_reinit_covers_nothing_else(company: Company, forger: Forger, followers: Followers):
    reinit = ReInit(b"new", 1, 1)
    honest = [forger.commit([reinit]), forger.commit([reinit], with_path=False)]
    for other in (psk(), add(company, "finn"), Remove(company["cleo"].leaf), reinit):
        spoiled = forger.commit([reinit, other], psks=[KEYS[b"the key"]])
        followers.refuse(spoiled, "ReInit together", honest=honest, psks=KEYS)


@pytest.mark.rule("RFC 9420 §12.2", "no-external-init")
def test_a_commit_of_a_member_holds_no_external_init(company: Company, forger: Forger, followers: Followers):
    spoiled = forger.commit([ExternalInit(bytes([9]) + bytes(31))])
    followers.refuse(spoiled, "ExternalInit", honest=forger.commit())


@pytest.mark.rule("RFC 9420 §12.2", "types-supported")
@pytest.mark.rule("RFC 9420 §13.2", "supported-by-all")
@pytest.mark.rule("hostile input", "unknown-critical-proposal")
@pytest.mark.parametrize("proposal_type", [0x0008, 0x0A0A, 0xF00D])
def test_a_commit_of_a_proposal_that_a_member_does_not_know_is_refused(
    proposal_type: int, forger: Forger, followers: Followers
):
    spoiled = forger.commit([UnknownProposal(proposal_type, b"?")])
    followers.refuse(spoiled, "does not support", honest=forger.commit())


@pytest.mark.rule("RFC 9420 §12.2", "types-supported")
def test_a_proposal_that_all_members_claim_to_know_is_still_not_passed_over(seeded_random: Random):
    company = Company("ada", "ben", random=seeded_random, capabilities=Capabilities(proposals=(0xF00D,)))
    forger, followers = Forger(company["ada"].group, company.random), Followers.of(company["ben"])
    spoiled = forger.commit([UnknownProposal(0xF00D, b"?")])
    followers.refuse(spoiled, "0xf00d", UnsupportedError, honest=forger.commit())


# --- the list of an external commit -----------------------------------------------------------------------------------


Build = Callable[[ExternalInit], Sequence[Proposal]]


def entering(group: Person, joiner: Person, build: Build, **options: object) -> bytes:
    proposals: Callable[[ExternalInit], object] = lambda init: by_value(*build(init))  # noqa: E731
    return external_commit(group.group, joiner, proposals, **options)  # pyright: ignore[reportArgumentType]


@pytest.mark.rule("RFC 9420 §12.2", "external-one-init")
@pytest.mark.rule("hostile input", "external-commit-without-external-init")
def test_an_external_commit_without_one_external_init_is_refused_by_all(
    ada: Person, joiner: Person, followers: Followers
):
    honest = entering(ada, joiner, lambda init: [init])
    for build in (lambda init: [], lambda init: [init, init]):
        followers.refuse(entering(ada, joiner, build), "exactly one ExternalInit", honest=honest)


@pytest.mark.rule("RFC 9420 §12.2", "external-one-remove")
def test_an_external_commit_removes_one_leaf_at_most(company: Company, ada: Person, followers: Followers):
    # Cleo comes back in her own place; dan she cannot take along.
    cleo, dan = company["cleo"], company["dan"]
    honest = entering(ada, cleo, lambda init: [init, Remove(cleo.leaf)])
    spoiled = entering(ada, cleo, lambda init: [init, Remove(cleo.leaf), Remove(dan.leaf)])
    followers.refuse(spoiled, "several Removes", honest=honest)


@pytest.mark.rule("RFC 9420 §12.2", "resync-same-client")
def test_an_external_commit_removes_nobody_but_the_joiners_old_self(
    company: Company, ada: Person, joiner: Person, followers: Followers
):
    cleo = company["cleo"]
    spoiled = entering(ada, joiner, lambda init: [init, Remove(cleo.leaf)])
    honest = entering(ada, cleo, lambda init: [init, Remove(cleo.leaf)])
    followers.refuse(spoiled, "another client", honest=honest)


@pytest.mark.rule("RFC 9420 §12.2", "external-nothing-else")
def test_an_external_commit_holds_no_proposal_of_another_type(
    company: Company, ada: Person, joiner: Person, followers: Followers
):
    honest = entering(ada, joiner, lambda init: [init])
    for other in (
        add(company, "ghost"),
        fresh_update(company["cleo"]),
        GroupContextExtensions(()),
        ReInit(b"new", 1, 1),
        UnknownProposal(0xF001, b""),
    ):
        spoiled = entering(ada, joiner, lambda init, other=other: [init, other])
        followers.refuse(spoiled, "that it may not", honest=honest)


@pytest.mark.rule("RFC 9420 §12.2", "external-psks")
def test_an_external_commit_names_a_pre_shared_key_once(ada: Person, joiner: Person, followers: Followers):
    spoiled = entering(ada, joiner, lambda init: [init, psk(), psk()], psks=[KEYS[b"the key"]] * 2)
    honest = entering(ada, joiner, lambda init: [init, psk()], psks=[KEYS[b"the key"]])
    followers.refuse(spoiled, "twice", honest=honest, psks=KEYS)
