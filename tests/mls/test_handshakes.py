"""Handshakes as members may send them: sealed, from outside, with pre-shared keys, with the tree in band."""

from dataclasses import replace

import pytest

from heliograph.mls.credential import Credential
from heliograph.mls.errors import StateError, ValidationError, VerificationError
from heliograph.mls.extension import ExternalSender, ExternalSenders
from heliograph.mls.framing import MLSMessage, PrivateMessage, PublicMessage, WireFormat
from heliograph.mls.group import Group, ReceivedCommit
from heliograph.mls.membership import join, join_external, propose_from_outside, propose_joining
from heliograph.mls.proposal import Add, PreSharedKeyID, PreSharedKeyProposal, Proposal, Remove, Update
from heliograph.mls.proposal_rules import ProposalPolicy, ReceivedProposal
from heliograph.mls.successor import branch
from heliograph.mls.suite import Random
from tests.mls.company import LIFETIME, NOW_S, Company

PRIVATE = WireFormat.PRIVATE_MESSAGE
KEYS = {b"the key": b"shared before"}


@pytest.fixture
def three(seeded_random: Random) -> Company:
    return Company("ada", "ben", "cleo", random=seeded_random)


def deliver(company: Company, sender: str, message: bytes) -> None:
    for person in company.everyone:
        if person.name != sender:
            person.receive(message)


# --- sealed handshakes --------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §6.3")
def test_a_group_can_hide_all_its_handshakes_from_the_delivery_service(three: Company):
    ada, ben, cleo = three.everyone
    removal = Remove(cleo.leaf)
    ada.held, proposal = ada.group.propose(removal, random=three.random, now_s=NOW_S, wire_format=PRIVATE)
    ben.held, update = ben.group.update_leaf(random=three.random, now_s=NOW_S, wire_format=PRIVATE)
    deliver(three, "ada", proposal)
    deliver(three, "ben", update)
    pending = ada.commit(wire_format=PRIVATE)
    ada.held = pending.group_before
    deliver(three, "ada", pending.commit)
    ada.held = ada.group.take_up(pending.group)
    for message in (proposal, update, pending.commit):
        assert isinstance(MLSMessage.decode(message).body, PrivateMessage)
    assert not cleo.group.is_active
    assert ada.group.epoch_authenticator == ben.group.epoch_authenticator


@pytest.mark.rule("RFC 9420 §9.1")
def test_no_key_seals_two_handshakes_when_a_commit_is_given_up(three: Company):
    ada, ben, _ = three.everyone
    given_up = ada.commit(wire_format=PRIVATE)
    assert given_up.group_before is not None
    assert given_up.group_before.rows() != ada.group.rows()
    ada.held = given_up.group_before
    second = ada.commit(wire_format=PRIVATE)
    ben.follow(second.commit)
    with pytest.raises(StateError):
        ben.receive(given_up.commit)


def test_building_a_public_commit_changes_nothing(three: Company):
    assert three["ada"].commit().group_before is three["ada"].group


@pytest.mark.rule("RFC 9420 §6.1")
def test_a_signature_for_one_wire_format_does_not_hold_in_the_other(three: Company):
    ada, ben, _ = three.everyone
    body = MLSMessage.decode(ada.propose(Remove(ben.leaf))).body
    assert isinstance(body, PublicMessage)
    sealed = replace(body.authenticated_content(), wire_format=PRIVATE)
    _, message = ada.group._framed(sealed, three.random)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(VerificationError):
        ben.receive(message)


# --- from outside -------------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.1.8", "authorized")
def test_an_outsider_asks_to_be_added_and_a_member_lets_it_in(three: Company):
    dan = three.person("dan")
    bundle = dan.key_package()
    request = propose_joining(three["ben"].group.group_info(), bundle, dan.signature_key.private)
    deliver(three, "dan", request)
    pending = three.commit(three["cleo"])
    assert pending.welcome is not None
    dan.held = join(pending.welcome, pending.ratchet_tree, bundle, dan.signature_key.private, now_s=NOW_S)
    three.people["dan"] = dan
    three.check_agreement()


@pytest.mark.rule("RFC 9420 §12.1.8", "authorized")
def test_an_outsider_may_ask_for_nothing_but_to_be_added_itself(three: Company):
    dan, eve = three.person("dan"), three.person("eve")
    request = propose_joining(three["ben"].group.group_info(), dan.key_package(), eve.signature_key.private)
    with pytest.raises(VerificationError):
        three["ada"].receive(request)


@pytest.mark.rule("RFC 9420 §12.1.8.1", "signed-with-listed-key")
def test_a_listed_external_sender_proposes_and_another_is_refused(seeded_random: Random):
    keys = Company("desk", random=seeded_random)["desk"].signature_key
    desk = ExternalSenders((ExternalSender(keys.public, Credential.basic(b"the desk")),))
    company = Company("ada", "ben", "cleo", random=seeded_random, extensions=(desk.to_extension(),))
    info, cleo = company["ada"].group.group_info(), company["cleo"]

    def proposed(proposal: Proposal, sender_index: int = 0) -> bytes:
        return propose_from_outside(info, proposal, sender_index=sender_index, signature_private_key=keys.private)

    with pytest.raises(ValidationError, match="external_senders"):
        company["ada"].receive(proposed(Remove(cleo.leaf), 1))
    with pytest.raises(ValidationError, match="may not send this type"):
        proposed(Update(cleo.group.own_leaf))
    deliver(company, "desk", proposed(Remove(cleo.leaf)))
    deliver(company, "desk", proposed(Add(company.person("dan").key_package().key_package)))
    pending = company.commit(company["ben"])
    assert pending.welcome is not None
    assert not cleo.group.is_active


# --- pre-shared keys ----------------------------------------------------------------------------------------------


def psk(random: Random) -> PreSharedKeyID:
    return PreSharedKeyID.external(b"the key", random(32))


@pytest.mark.rule("RFC 9420 §12.4.2", "psks-available")
def test_who_lacks_a_pre_shared_key_does_not_follow_and_keeps_its_state(three: Company):
    ada, ben, cleo = three.everyone
    pending = ada.commit([PreSharedKeyProposal(psk(three.random))], psks=KEYS)
    ben.receive(pending.commit, psks=KEYS)
    with pytest.raises(StateError, match="missing"):
        cleo.receive(pending.commit)
    with pytest.raises(VerificationError):
        cleo.receive(pending.commit, psks={b"the key": b"a guess"})
    cleo.receive(pending.commit, psks=KEYS)
    assert cleo.group.epoch_authenticator == ben.group.epoch_authenticator


def test_a_proposed_key_that_the_committer_lacks_blocks_nobody(three: Company):
    three.propose(three["ada"], PreSharedKeyProposal(psk(three.random)))
    three.commit(three["ben"])
    three.check_agreement()


@pytest.mark.rule("RFC 9420 §12.2", "external-psks")
def test_an_outsider_may_mix_in_a_key_that_the_members_hold(three: Company):
    ada, dan = three["ada"], three.person("dan")
    pending = join_external(
        ada.group.group_info(with_tree=True),
        None,
        dan.credential,
        dan.signature_key.private,
        capabilities=dan.capabilities,
        psk_ids=[psk(three.random)],
        psks=KEYS,
        random=three.random,
        now_s=NOW_S,
    )
    assert pending.group_before is None
    received = ada.receive(pending.commit, psks=KEYS)
    assert isinstance(received, ReceivedCommit)
    assert received.external
    assert ada.group.epoch_authenticator == pending.group.epoch_authenticator


# --- the tree in band ---------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.4.3.3", "extended")
def test_a_welcome_may_carry_the_tree_itself(three: Company):
    dan = three.person("dan")
    bundle = dan.key_package()
    pending = three["ada"].commit([Add(bundle.key_package)], with_tree=True)
    assert pending.welcome is not None
    joined = join(pending.welcome, None, bundle, dan.signature_key.private, now_s=NOW_S)
    assert joined.epoch_authenticator == pending.group.epoch_authenticator
    assert len(pending.group_info) > len(pending.ratchet_tree)


def test_a_sealed_update_is_saved_with_its_keys(three: Company):
    ada, ben, _ = three.everyone
    ada.held, update = ada.group.update_leaf(random=three.random, now_s=NOW_S, wire_format=PRIVATE)
    deliver(three, "ada", update)
    ada.held = Group.load(ada.group.rows())
    assert isinstance(ada.group.pending_proposals[0], ReceivedProposal)
    three.commit(ben)
    three.check_agreement()


def test_a_lifetime_counts_for_requests_too(three: Company):
    dan = three.person("dan")
    bundle = dan.key_package(lifetime=replace(LIFETIME, not_after=NOW_S - 1, not_before=NOW_S - 9))
    request = propose_joining(three["ben"].group.group_info(), bundle, dan.signature_key.private)
    with pytest.raises(ValidationError, match="lifetime has ended"):
        three["ada"].receive(request)


@pytest.mark.rule("RFC 9420 §7.2")
def test_the_longest_lifetime_of_a_key_package_is_the_policy_s_to_say(three: Company):
    dan = three.person("dan")
    bundle = dan.key_package(lifetime=replace(LIFETIME, not_before=0, not_after=(1 << 64) - 1))
    with pytest.raises(ValidationError, match="longer than the limit"):
        three["ada"].commit([Add(bundle.key_package)])
    pending = three["ada"].commit([Add(bundle.key_package)], policy=ProposalPolicy(lifetime_limit_s=1 << 64))
    assert pending.welcome is not None
    with pytest.raises(ValidationError, match="longer than the limit"):
        join(pending.welcome, pending.ratchet_tree, bundle, dan.signature_key.private, now_s=NOW_S)
    joined = join(
        pending.welcome,
        pending.ratchet_tree,
        bundle,
        dan.signature_key.private,
        now_s=NOW_S,
        lifetime_limit_s=1 << 64,
    )
    assert joined.epoch_authenticator == pending.group.epoch_authenticator


@pytest.mark.rule("RFC 9420 §12.4", "commit-before-data")
def test_application_data_waits_until_the_proposals_that_one_has_seen_are_committed(three: Company):
    ada, ben = three["ada"], three["ben"]
    three.propose(ben)
    with pytest.raises(StateError, match="wait for a commit"):
        ada.group.seal(b"hello", random=three.random)
    ada.group.seal(b"it cannot wait", random=three.random, before_commit=True)
    three.commit(ada)
    ada.held, message = ada.group.seal(b"hello", random=three.random)
    assert ben.read(message) == b"hello"


@pytest.mark.rule("RFC 9420 §11.3")
def test_a_branch_has_a_name_of_its_own(three: Company):
    ada, ben = three["ada"], three["ben"]
    with pytest.raises(ValidationError, match="has the group_id"):
        branch(
            ada.group,
            ada.group.group_id,
            [ben.key_package().key_package],
            ada.credential,
            three.suite.generate_signature_key(three.random).private,
            lifetime=LIFETIME,
            capabilities=ada.capabilities,
            random=three.random,
            now_s=NOW_S,
        )
