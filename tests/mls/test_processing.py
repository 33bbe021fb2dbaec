"""What a member refuses: each test breaks one rule with real keys, and the state stays as it was.

The messages come from `forge.py`. `Person.receive` holds that a refusal changes nothing; where it matters, the genuine
message is received afterwards.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from heliograph.mls import group as group_module
from heliograph.mls.errors import (
    DecodeError,
    MLSError,
    StateError,
    UnsupportedError,
    ValidationError,
    VerificationError,
)
from heliograph.mls.extension import Extension, ExternalSender, ExternalSenders
from heliograph.mls.framing import FramedContent, MLSMessage, PublicMessage, Sender, SenderType, WireFormat
from heliograph.mls.group import LeafChanges, ReceivedCommit, ReceivedProposal
from heliograph.mls.leaf_node import Capabilities, LeafNode, LeafNodeSource, Lifetime
from heliograph.mls.proposal import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKeyID,
    PreSharedKeyProposal,
    Proposal,
    ProposalType,
    PSKType,
    ReInit,
    Remove,
    UnknownProposal,
    Update,
)
from heliograph.mls.proposal_rules import ProposalPolicy
from heliograph.mls.suite import Secret
from heliograph.mls.tree_math import LeafIndex
from tests.mls.company import DAY_S, NOW_S, Company, Person
from tests.mls.forge import Forger, flipped

WITH_PSKS = ProposalPolicy(member=frozenset(ProposalType))


# --- application messages -----------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §6.1")
@pytest.mark.parametrize("signature", [b"", b"\0" * 64])
@pytest.mark.rule("hostile input", "unsigned-application-message")
def test_an_application_message_without_a_signature_is_refused(signature: bytes, forger: Forger, ben: Person):
    signed = forger.signed(b"who says this?", WireFormat.PRIVATE_MESSAGE)
    with pytest.raises(VerificationError, match="signature"):
        ben.receive(forger.private(signed, signature=signature))


@pytest.mark.rule("RFC 9420 §6.1")
def test_an_application_message_signed_by_another_member_is_refused(company: Company, forger: Forger, ben: Person):
    signed = forger.signed(b"x", WireFormat.PRIVATE_MESSAGE, signing_key=company["cleo"].signature_key.private)
    with pytest.raises(VerificationError, match="signature"):
        ben.receive(forger.private(signed))


@pytest.mark.rule("RFC 9420 §6.3.2")
def test_a_member_cannot_seal_in_the_name_of_another(company: Company, forger: Forger, ben: Person):
    cleo = Sender.member(company["cleo"].leaf)
    with pytest.raises(VerificationError, match="signature"):
        ben.receive(forger.private(forger.signed(b"x", WireFormat.PRIVATE_MESSAGE, sender=cleo)))


@pytest.mark.rule("RFC 9420 §6.1")
def test_an_application_message_signed_for_another_epoch_is_refused(company: Company, ada: Person, ben: Person):
    old = Forger(ada.group, company.random)
    company.commit(ben)
    new = Forger(ada.group, company.random)
    stale = old.signed(b"x", WireFormat.PRIVATE_MESSAGE)
    moved = replace(stale, content=replace(stale.content, epoch=ada.group.epoch))
    with pytest.raises(VerificationError, match="signature"):
        ben.receive(new.private(moved))


@pytest.mark.rule("RFC 9420 §6.3.2")
@pytest.mark.parametrize("leaf_index", [4, 1000, 0xFFFFFFFF])
def test_sender_data_that_name_no_leaf_are_refused(leaf_index: int, forger: Forger, ben: Person):
    message = forger.private(
        forger.signed(b"x", WireFormat.PRIVATE_MESSAGE),
        sender_data=lambda data: replace(data, leaf_index=LeafIndex(leaf_index)),
    )
    with pytest.raises(ValidationError, match="not in the tree"):
        ben.receive(message)


@pytest.mark.rule("RFC 9420 §6.3.2")
def test_sender_data_that_name_a_blank_leaf_are_refused(company: Company, ada: Person, ben: Person):
    gone = company["cleo"].leaf
    company.remove(ada, company["cleo"])
    forger = Forger(ada.group, company.random)
    message = forger.private(forger.signed(b"x", WireFormat.PRIVATE_MESSAGE, sender=Sender.member(gone)))
    with pytest.raises(ValidationError, match="not a member"):
        ben.receive(message)


@pytest.mark.rule("RFC 9420 §9.1")
def test_a_generation_far_ahead_is_refused(forger: Forger, ben: Person):
    message = forger.private(
        forger.signed(b"x", WireFormat.PRIVATE_MESSAGE), sender_data=lambda data: replace(data, generation=1 << 31)
    )
    with pytest.raises(ValidationError, match="ahead"):
        ben.receive(message)


@pytest.mark.rule("RFC 9420 §9.2")
@pytest.mark.rule("hostile input", "replayed-private-message")
def test_a_replayed_message_is_refused_after_saving_and_loading_too(ada: Person, ben: Person):
    message = ada.seal(b"pay once")
    ben.receive(message)
    ben.held = ben.group.load(ben.group.rows())
    with pytest.raises(StateError, match="replay"):
        ben.receive(message)


def test_a_garbled_message_does_not_use_up_the_key_of_the_genuine_one(ada: Person, ben: Person):
    message = ada.seal(b"genuine")
    for position in range(len(message) // 2, len(message), 29):
        with pytest.raises(MLSError):
            ben.receive(flipped(message, position))
    assert ben.read(message) == b"genuine"


@pytest.mark.rule("RFC 9420 §6.2")
def test_application_data_in_a_public_message_are_refused(forger: Forger, ben: Person):
    with pytest.raises(ValidationError, match="PublicMessage"):
        ben.receive(forger.public(forger.signed(b"in the open")))


def test_a_message_for_another_group_is_refused(forger: Forger, ben: Person):
    def moved(content: FramedContent) -> FramedContent:
        return replace(content, group_id=b"another")

    for wire_format, frame in (
        (WireFormat.PRIVATE_MESSAGE, forger.private),
        (WireFormat.PUBLIC_MESSAGE, forger.public),
    ):
        content = b"x" if wire_format is WireFormat.PRIVATE_MESSAGE else Remove(LeafIndex(2))
        with pytest.raises(StateError, match="another group"):
            ben.receive(frame(forger.signed(content, wire_format, change=moved)))


def test_a_message_of_an_epoch_to_come_is_refused(company: Company, ada: Person, ben: Person):
    ahead = ada.commit().group
    _, message = ahead.seal(b"x", random=company.random)
    with pytest.raises(StateError, match="still to come"):
        ben.receive(message)


@pytest.mark.parametrize("kind", ["welcome", "group_info", "key_package"])
def test_what_is_no_message_of_a_group_is_refused(kind: str, company: Company, ada: Person, ben: Person):
    cleo = company.person("cleo")
    package = cleo.key_package().key_package
    bodies = {
        "welcome": ada.commit([Add(package)]).welcome,
        "group_info": ada.group.group_info(),
        "key_package": MLSMessage(package).encode(),
    }
    message = bodies[kind]
    assert message is not None
    with pytest.raises(ValidationError, match="neither"):
        ben.receive(message)


@pytest.mark.parametrize("cut", [0, 1, 4, 20, -1])
def test_a_message_cut_short_is_refused(cut: int, ada: Person, ben: Person):
    with pytest.raises(DecodeError):
        ben.receive(ada.seal(b"x")[:cut])


@pytest.mark.rule("hostile input", "trailing-bytes")
def test_bytes_after_a_message_are_refused(ada: Person, ben: Person):
    with pytest.raises(DecodeError, match="trailing"):
        ben.receive(ada.seal(b"x") + b"\0")


# --- handshakes: who sends them -----------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §6.2")
def test_a_handshake_without_the_right_membership_tag_is_refused(forger: Forger, ben: Person):
    with pytest.raises(VerificationError, match="MAC"):
        ben.receive(forger.public(forger.signed(Remove(LeafIndex(2))), membership_key=b"\0" * 32))


@pytest.mark.rule("RFC 9420 §6.1")
def test_a_proposal_signed_by_another_member_is_refused(company: Company, forger: Forger, ben: Person):
    signed = forger.signed(Remove(LeafIndex(2)), signing_key=company["cleo"].signature_key.private)
    with pytest.raises(VerificationError, match="signature"):
        ben.receive(forger.public(signed))


@pytest.mark.rule("RFC 9420 §6.1")
def test_a_commit_signed_by_another_member_is_refused(company: Company, ada: Person, ben: Person):
    genuine = MLSMessage.decode(ada.commit().commit).body
    assert isinstance(genuine, PublicMessage)
    forger = Forger(ada.group, company.random)
    signed = forger.signed(genuine.content.content, signing_key=company["cleo"].signature_key.private)
    forged = replace(signed, auth=replace(signed.auth, confirmation_tag=genuine.auth.confirmation_tag))
    with pytest.raises(VerificationError, match="signature"):
        ben.receive(forger.public(forged))


@pytest.mark.rule("RFC 9420 §12.1.8", "external-senders-present")
def test_an_external_sender_that_the_group_does_not_name_is_refused(forger: Forger, ben: Person):
    signed = forger.signed(Remove(LeafIndex(2)), sender=Sender.external(0))
    with pytest.raises(ValidationError, match="external_senders"):
        ben.receive(forger.public(signed))


@pytest.mark.rule("RFC 9420 §12.1.8", "authorized")
def test_the_hub_may_propose_a_removal_that_a_member_commits(company: Company, ada: Person, ben: Person):
    hub = company.person("hub")
    senders = ExternalSenders((ExternalSender(hub.signature_key.public, hub.credential),))
    company.commit(ada, GroupContextExtensions((senders.to_extension(),)))
    forger = Forger(ada.group, company.random)
    cleo = company["cleo"]
    message = forger.public(
        forger.signed(Remove(cleo.leaf), sender=Sender.external(0), signing_key=hub.signature_key.private)
    )
    for person in company.everyone:
        assert isinstance(person.receive(message), ReceivedProposal)
    company.commit(ben)
    assert not cleo.group.is_active
    company.check_agreement()


@pytest.mark.rule("RFC 9420 §12.1.8", "types")
def test_the_hub_may_add_no_one_where_the_policy_says_so(company: Company, ada: Person, ben: Person):
    hub = company.person("hub")
    senders = ExternalSenders((ExternalSender(hub.signature_key.public, hub.credential),))
    company.commit(ada, GroupContextExtensions((senders.to_extension(),)))
    forger = Forger(ada.group, company.random)
    ghost = Add(company.person("ghost").key_package().key_package)
    message = forger.public(forger.signed(ghost, sender=Sender.external(0), signing_key=hub.signature_key.private))
    with pytest.raises(ValidationError, match="not permitted"):
        ben.receive(message, policy=ProposalPolicy(external=frozenset({ProposalType.REMOVE})))
    assert isinstance(ben.receive(message), ReceivedProposal)


@pytest.mark.rule("RFC 9420 §6")
def test_an_outsider_cannot_send_a_commit_as_a_proposer(forger: Forger, ben: Person):
    commit = MLSMessage.decode(forger.commit()).body
    assert isinstance(commit, PublicMessage)
    signed = forger.signed(commit.content.content, sender=Sender(SenderType.NEW_MEMBER_PROPOSAL))
    forged = replace(signed, auth=commit.auth)
    with pytest.raises(ValidationError, match="outsider sends proposals only"):
        ben.receive(forger.public(forged))


def test_an_epoch_holds_so_many_proposals_and_no_more(
    company: Company, ada: Person, ben: Person, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(group_module, "MAX_PENDING_PROPOSALS", 1)
    company.propose(ada)
    forger = Forger(ada.group, company.random)
    message = forger.public(forger.signed(Remove(company["cleo"].leaf)))
    with pytest.raises(StateError, match="as many proposals"):
        ben.receive(message)


@pytest.mark.rule("RFC 9420 §12.1.2", "keys-taken-up")
def test_ones_own_update_whose_keys_are_gone_is_not_kept(ada: Person):
    before = ada.group
    message = ada.update_leaf()
    ada.held = before
    with pytest.raises(StateError, match="keys are gone"):
        ada.receive(message)


# --- commits ------------------------------------------------------------------------------------------------------


def test_the_forger_makes_commits_that_are_accepted_when_nothing_is_spoiled(
    company: Company, forger: Forger, ben: Person
):
    finn = Add(company.person("finn").key_package().key_package)
    assert isinstance(ben.receive(forger.commit([finn, Remove(company["cleo"].leaf)])), ReceivedCommit)


@pytest.mark.rule("RFC 9420 §8.1")
@pytest.mark.parametrize("tag", [flipped, lambda tag: b"", lambda tag: tag[:16]])
@pytest.mark.rule("hostile input", "bad-confirmation-tag")
def test_a_wrong_confirmation_tag_leaves_the_state_untouched(
    tag: Callable[[bytes], bytes], company: Company, ada: Person, ben: Person, forger: Forger
):
    genuine = ada.commit()
    with pytest.raises(VerificationError, match="confirmation_tag"):
        ben.receive(forger.commit(tag=tag))
    company.accept(ada, genuine)
    company.check_agreement()


@pytest.mark.rule("hostile input", "garbage-before-commit")
def test_garbage_before_the_genuine_commit_does_not_block_it(company: Company, ada: Person, ben: Person):
    genuine = ada.commit()
    for garbage in (b"", genuine.commit[:-1], flipped(genuine.commit), flipped(genuine.commit, 90), b"\xff" * 500):
        with pytest.raises(MLSError):
            ben.receive(garbage)
    company.accept(ada, genuine)
    company.check_agreement()


def test_every_spoiled_byte_of_a_commit_is_noticed(ada: Person, ben: Person):
    genuine = ada.commit().commit
    for position in range(0, len(genuine), 13):
        with pytest.raises(MLSError):
            ben.receive(flipped(genuine, position))
    ben.receive(genuine)


@pytest.mark.rule("RFC 9420 §12.4.2", "epoch")
def test_a_commit_of_an_earlier_epoch_is_refused(company: Company, ada: Person, ben: Person):
    late = ada.commit()
    company.commit(ben)
    with pytest.raises(StateError, match="earlier epoch"):
        company["cleo"].receive(late.commit)


@pytest.mark.rule("RFC 9420 §12.4.2", "valid-list")
@pytest.mark.rule("RFC 9420 §12.4", "known-references")
def test_a_commit_of_a_proposal_that_was_not_received_is_refused(company: Company, ada: Person, ben: Person):
    ada.propose(Remove(company["cleo"].leaf))
    commit = ada.commit()
    with pytest.raises(StateError, match="not received"):
        ben.receive(commit.commit)


@pytest.mark.rule("RFC 9420 §12.2", "no-update-by-committer")
def test_an_update_by_the_committer_is_refused(company: Company, forger: Forger, ben: Person):
    _, public = company.suite.derive_key_pair(b"fresh")
    group = forger.group
    fresh = replace(group.own_leaf, encryption_key=public, leaf_node_source=LeafNodeSource.UPDATE, parent_hash=None)
    signed = fresh.sign(company.suite, forger.epoch.signature_private_key, group.group_id, group.own_leaf_index)
    with pytest.raises(ValidationError, match="Update by the committer"):
        ben.receive(forger.commit([Update(signed)]))


@pytest.mark.rule("RFC 9420 §12.2", "no-removal-of-committer")
def test_a_commit_that_removes_its_committer_is_refused(forger: Forger, ben: Person):
    with pytest.raises(ValidationError, match="removes the committer"):
        ben.receive(forger.commit([Remove(forger.group.own_leaf_index)]))


@pytest.mark.rule("RFC 9420 §12.2", "one-change-for-a-leaf")
def test_two_proposals_for_one_leaf_are_refused(company: Company, forger: Forger, ben: Person):
    twice = [Remove(company["cleo"].leaf)] * 2
    with pytest.raises(ValidationError, match="same leaf twice"):
        ben.receive(forger.commit(twice))


@pytest.mark.rule("RFC 9420 §12.2", "one-change-for-a-leaf")
def test_a_remove_and_an_update_of_one_leaf_are_refused_together(company: Company, ada: Person, ben: Person):
    cleo = company["cleo"]
    company.propose(cleo)
    reference = ben.group.pending_proposals[0].reference
    forger = Forger(ada.group, company.random)
    with pytest.raises(ValidationError, match="same leaf twice"):
        ben.receive(forger.commit([Remove(cleo.leaf)], references=[reference]))


@pytest.mark.rule("RFC 9420 §12.2", "no-client-twice")
def test_a_commit_that_adds_one_client_twice_is_refused(company: Company, forger: Forger, ben: Person):
    finn = company.person("finn")
    twice = [Add(finn.key_package().key_package) for _ in range(2)]
    with pytest.raises(ValidationError, match="same client twice"):
        ben.receive(forger.commit(twice))


@pytest.mark.rule("RFC 9420 §12.2", "no-client-already-in")
def test_a_commit_that_adds_a_member_is_refused(company: Company, forger: Forger, ben: Person):
    again = Add(company["cleo"].key_package().key_package)
    with pytest.raises(ValidationError, match="already in the group"):
        ben.receive(forger.commit([again]))


@pytest.mark.rule("RFC 9420 §10.1", "checked-in-adds")
@pytest.mark.parametrize(
    ("lifetime", "fault"),
    [
        (Lifetime(NOW_S - 2 * DAY_S, NOW_S - 1), "ended"),
        (Lifetime(NOW_S + 1, NOW_S + DAY_S), "begun"),
        (Lifetime(NOW_S - DAY_S, NOW_S + 40 * DAY_S), "limit"),
    ],
)
def test_a_commit_that_adds_a_stale_key_package_is_refused(
    lifetime: Lifetime, fault: str, company: Company, forger: Forger, ben: Person
):
    stale = company.person("finn").key_package(lifetime=lifetime).key_package
    with pytest.raises(ValidationError, match=fault):
        ben.receive(forger.commit([Add(stale)]))


@pytest.mark.rule("RFC 9420 §12.4", "remove-needs-path")
def test_a_commit_without_the_path_it_needs_is_refused(company: Company, forger: Forger, ben: Person):
    with pytest.raises(ValidationError, match="path"):
        ben.receive(forger.commit([Remove(company["cleo"].leaf)], with_path=False))


@pytest.mark.rule("RFC 9420 §13.2")
def test_a_commit_with_an_unknown_proposal_is_refused_by_its_number(forger: Forger, ben: Person):
    with pytest.raises((UnsupportedError, ValidationError), match="type"):
        ben.receive(forger.commit([UnknownProposal(0xF00D, b"?")]))


@pytest.mark.rule("RFC 9420 §12.2", "no-external-init")
def test_a_member_cannot_commit_an_external_init(forger: Forger, ben: Person):
    with pytest.raises(ValidationError, match="ExternalInit"):
        ben.receive(forger.commit([ExternalInit(b"k" * 32)]))


@pytest.mark.rule("RFC 9420 §12.1.6", "external-commits-only")
def test_a_member_cannot_propose_an_external_init(forger: Forger, ada: Person, ben: Person):
    init = ExternalInit(bytes([9]) + bytes(31))
    with pytest.raises(ValidationError, match="outside an external commit"):
        ben.receive(forger.public(forger.signed(init)))
    with pytest.raises(ValidationError, match="outside an external commit"):
        ada.propose(init)


@pytest.mark.rule("RFC 9420 §11.1")
def test_extensions_that_a_member_does_not_support_are_refused(forger: Forger, ada: Person, ben: Person):
    unknown = GroupContextExtensions((Extension(0xF00D, b""),))
    with pytest.raises(ValidationError, match="support"):
        ben.receive(forger.commit([unknown]))
    with pytest.raises(ValidationError, match="support"):
        ada.commit([unknown])


# --- paths --------------------------------------------------------------------------------------------------------


def another_key(leaf: LeafNode) -> LeafNode:
    return replace(leaf, encryption_key=bytes(range(32)))


@pytest.mark.rule("RFC 9420 §7.3", "signature")
def test_a_path_whose_leaf_was_not_signed_anew_is_refused(forger: Forger, ben: Person):
    with pytest.raises(VerificationError, match="signature"):
        ben.receive(forger.commit(leaf_after_signing=another_key))


@pytest.mark.rule("RFC 9420 §7.3", "signature")
def test_a_path_whose_leaf_is_signed_for_another_place_is_refused(company: Company, forger: Forger, ben: Person):
    def moved(leaf: LeafNode) -> LeafNode:
        key = forger.epoch.signature_private_key
        return leaf.sign(company.suite, key, forger.group.group_id, LeafIndex(forger.group.own_leaf_index + 1))

    with pytest.raises(VerificationError, match="signature"):
        ben.receive(forger.commit(leaf_after_signing=moved))


@pytest.mark.rule("RFC 9420 §7.9.2")
def test_a_path_with_a_wrong_parent_hash_is_refused(forger: Forger, ben: Person):
    with pytest.raises(VerificationError, match="parent_hash"):
        ben.receive(forger.commit(leaf=lambda leaf: replace(leaf, parent_hash=b"\0" * 32)))


@pytest.mark.rule("RFC 9420 §7.3", "source-commit")
def test_a_path_whose_leaf_says_it_is_an_update_is_refused(forger: Forger, ben: Person):
    with pytest.raises(ValidationError, match="leaf_node_source"):
        ben.receive(
            forger.commit(leaf=lambda leaf: replace(leaf, leaf_node_source=LeafNodeSource.UPDATE, parent_hash=None))
        )


@pytest.mark.rule("RFC 9420 §12.4.2", "new-encryption-key")
def test_a_path_whose_leaf_keeps_its_encryption_key_is_refused(forger: Forger, ben: Person):
    kept = forger.group.own_leaf.encryption_key
    with pytest.raises(ValidationError, match="in use"):
        ben.receive(forger.commit(leaf=lambda leaf: replace(leaf, encryption_key=kept)))


@pytest.mark.rule("RFC 9420 §12.4.2", "keys-not-in-tree")
def test_a_path_that_takes_another_members_encryption_key_is_refused(company: Company, forger: Forger, ben: Person):
    taken = company["cleo"].group.own_leaf.encryption_key
    with pytest.raises(ValidationError, match="in use"):
        ben.receive(forger.commit(leaf=lambda leaf: replace(leaf, encryption_key=taken)))


@pytest.mark.rule("RFC 9420 §7.3", "unique-signature-key")
def test_a_path_that_takes_another_members_signature_key_is_refused(company: Company, forger: Forger, ben: Person):
    taken = company["cleo"].group.own_leaf.signature_key
    with pytest.raises(ValidationError, match="signature_key"):
        ben.receive(forger.commit(leaf=lambda leaf: replace(leaf, signature_key=taken)))


@pytest.mark.rule("RFC 9420 §7.3", "version-and-suite")
def test_a_path_whose_leaf_no_longer_supports_the_suite_is_refused(forger: Forger, ben: Person):
    with pytest.raises(ValidationError, match="suite"):
        ben.receive(forger.commit(leaf=lambda leaf: replace(leaf, capabilities=Capabilities(cipher_suites=(2,)))))


@pytest.mark.rule("RFC 9420 §7.6")
@pytest.mark.rule("RFC 9420 §12.4.2", "path-form")
def test_a_path_with_a_ciphertext_too_many_is_refused(forger: Forger, ben: Person):
    def doubled(path: Any) -> Any:
        first = path.nodes[0]
        return replace(
            path,
            nodes=(replace(first, encrypted_path_secret=first.encrypted_path_secret * 2), *path.nodes[1:]),
        )

    with pytest.raises(ValidationError, match="ciphertext"):
        ben.receive(forger.commit(path=doubled))


@pytest.mark.rule("RFC 9420 §7.5")
@pytest.mark.rule("RFC 9420 §12.4.2", "path-secret-opens")
def test_a_path_secret_that_does_not_give_the_path_is_refused(forger: Forger, ben: Person):
    with pytest.raises(VerificationError, match="public key"):
        ben.receive(forger.commit(first_path_secret=flipped))


# --- what a policy may forbid -------------------------------------------------------------------------------------

PSK = PreSharedKeyProposal(PreSharedKeyID(PSKType.EXTERNAL, b"n" * 32, b"the key"))
NARROW = ProposalPolicy(member=frozenset({ProposalType.ADD, ProposalType.UPDATE, ProposalType.REMOVE}))


@pytest.mark.parametrize("proposal", [PSK, ReInit(b"another", 1, 1)])
def test_what_a_policy_does_not_permit_is_neither_proposed_nor_followed(
    proposal: Proposal, company: Company, forger: Forger, ada: Person, ben: Person
):
    message = forger.public(forger.signed(proposal))
    with pytest.raises(ValidationError, match="not permitted"):
        ben.receive(message, policy=NARROW)
    with pytest.raises(ValidationError, match="not permitted"):
        ada.group.propose(proposal, random=company.random, now_s=NOW_S, policy=NARROW)
    assert isinstance(ben.receive(message), ReceivedProposal)


@pytest.mark.rule("RFC 9420 §8.4")
@pytest.mark.rule("RFC 9420 §12.4.2", "psks-available")
def test_a_commit_that_needs_a_missing_pre_shared_key_fails(ada: Person, ben: Person):
    pending = ada.commit([PSK], policy=WITH_PSKS, psks={b"the key": b"shared before"})
    with pytest.raises(StateError, match="missing"):
        ben.receive(pending.commit, policy=WITH_PSKS)
    with pytest.raises(VerificationError, match="confirmation_tag"):
        ben.receive(pending.commit, policy=WITH_PSKS, psks={b"the key": b"another"})
    ben.receive(pending.commit, policy=WITH_PSKS, psks={b"the key": b"shared before"})
    assert ben.group.epoch_authenticator == pending.group.epoch_authenticator


# --- our own commits keep the rules -------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.2", "committer-checks-too")
@pytest.mark.rule("RFC 9420 §12.4", "valid-list")
@pytest.mark.rule("RFC 9420 §12.4.1", "list-verified")
def test_a_commit_that_others_would_refuse_is_not_made(company: Company, ada: Person):
    taken = company["cleo"].signature_key.private
    for proposals, fault in (
        ([Remove(ada.leaf)], "committer"),
        ([Remove(LeafIndex(77))], "blank"),
        ([Add(company["ben"].key_package().key_package)], "already"),
    ):
        with pytest.raises(ValidationError, match=fault):
            ada.commit(proposals)
    with pytest.raises(ValidationError, match="signature_key"):
        ada.commit(changes=LeafChanges(signature_private_key=Secret(taken)))
    with pytest.raises(ValidationError, match="credential"):
        ada.commit(changes=LeafChanges(capabilities=Capabilities(credentials=(2,))))
