"""RFC 9420 §12.1, rule by rule: proposals that break one, made with real keys (`forge.py`).

A rule that can be seen in the proposal alone is held when it comes, any other when it is committed.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from heliograph.mls.errors import DecodeError, StateError, ValidationError, VerificationError
from heliograph.mls.extension import Extension, ExternalSender, ExternalSenders, RequiredCapabilities
from heliograph.mls.framing import FramedContent, Sender, SenderType
from heliograph.mls.leaf_node import Capabilities
from heliograph.mls.proposal import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKeyID,
    PreSharedKeyProposal,
    Proposal,
    ReInit,
    Remove,
    ResumptionPSKUsage,
    UnknownProposal,
)
from heliograph.mls.suite import Random
from heliograph.mls.tree_math import LeafIndex
from tests.mls.company import Company, Person
from tests.mls.followers import Followers
from tests.mls.forge import KEYS, NONCE, Forger, add, flipped, fresh_update, psk

# --- proposals as messages (§12.1) ------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.1", "signature")
def test_a_proposal_that_its_sender_did_not_sign_is_refused(company: Company, forger: Forger, followers: Followers):
    remove = Remove(company["cleo"].leaf)
    spoiled = forger.public(forger.signed(remove, signing_key=company["cleo"].signature_key.private))
    honest = forger.public(forger.signed(remove))
    followers.refuse(spoiled, "signature", VerificationError, honest=honest)


@pytest.mark.parametrize("leaf_index", [2, 4, 0xFFFFFFFF])
@pytest.mark.rule("RFC 9420 §6.1", "sender-is-member")
def test_a_handshake_of_a_leaf_that_is_blank_or_nowhere_is_refused(
    leaf_index: int, company: Company, ada: Person, ben: Person
):
    # Cleo, who was at leaf 2, is told the membership key by a friend.
    cleo = company["cleo"]
    company.remove(ada, cleo)
    forger, followers = Forger(ada.group, company.random), Followers.of(ben)
    nobody, remove = Sender.member(LeafIndex(leaf_index)), Remove(company["dan"].leaf)
    spoiled = forger.public(forger.signed(remove, sender=nobody, signing_key=cleo.signature_key.private))
    followers.refuse(spoiled, "not a member|blank leaf", honest=forger.public(forger.signed(remove)))


@pytest.mark.parametrize("step", [-1, 1])
@pytest.mark.rule("RFC 9420 §12.1", "epoch")
def test_a_proposal_for_another_epoch_is_refused(step: int, company: Company, forger: Forger, followers: Followers):
    def moved(content: FramedContent) -> FramedContent:
        return replace(content, epoch=content.epoch + step)

    remove = Remove(company["cleo"].leaf)
    spoiled = forger.public(forger.signed(remove, change=moved))
    honest = forger.public(forger.signed(remove))
    followers.refuse(spoiled, "epoch|ahead", StateError, honest=honest)


@pytest.mark.rule("RFC 9420 §12.1", "kept-by-reference")
def test_a_commit_takes_up_a_proposal_by_the_hash_of_its_whole_message(
    company: Company, ada: Person, forger: Forger, followers: Followers
):
    (reference,) = followers.hear(forger.public(forger.signed(Remove(company["cleo"].leaf))))
    ada.propose(Remove(company["cleo"].leaf))
    forger = Forger(ada.group, company.random)
    spoiled = forger.commit(references=[flipped(reference)])
    followers.refuse(spoiled, "not received", StateError, honest=forger.commit(references=[reference]))


@pytest.mark.rule("RFC 9420 §12.1.1", "key-package-valid")
def test_an_add_of_an_invalid_key_package_is_not_even_kept(company: Company, forger: Forger, followers: Followers):
    good = add(company, "finn").key_package
    honest = forger.public(forger.signed(Add(good)))
    for bad, fault, error in (
        (replace(good, signature=flipped(good.signature)), "signature", VerificationError),
        (replace(good, cipher_suite=3), "cipher suite", ValidationError),
        (replace(good, version=2), "version", ValidationError),
        (replace(good, init_key=good.leaf_node.encryption_key), "one key", ValidationError),
        (replace(good, init_key=bytes(32)), "init_key", ValidationError),
    ):
        followers.refuse(forger.public(forger.signed(Add(bad))), fault, error, honest=honest)


def resigned_packages(company: Company) -> list[tuple[Add, str]]:
    """Return Adds of packages that are spoiled in one thing and signed again by their owner."""
    finn = company.person("finn")
    good, private = finn.key_package().key_package, finn.signature_key.private
    unlisted = (Extension(0xF001, b""),)
    changes: list[tuple[dict[str, object], str]] = [
        ({"cipher_suite": 3}, "cipher suite"),
        ({"version": 2}, "version"),
        ({"init_key": good.leaf_node.encryption_key}, "one key"),
        ({"init_key": bytes(32)}, "init_key"),
        ({"init_key": b""}, "init_key"),
        ({"extensions": unlisted}, "do not list"),
    ]
    return [
        (Add(replace(good, **change).sign(company.suite, private)), fault)  # pyright: ignore[reportArgumentType]
        for change, fault in changes
    ]


@pytest.mark.rule("RFC 9420 §10", "init-key-of-suite")
@pytest.mark.rule("RFC 9420 §10", "extensions-listed")
@pytest.mark.rule("RFC 9420 §10.1", "version-and-suite")
@pytest.mark.rule("RFC 9420 §10.1", "init-key-differs")
@pytest.mark.rule("RFC 9420 §10.1", "checked-in-adds")
@pytest.mark.rule("RFC 9420 §12.1.1", "key-package-valid")
@pytest.mark.rule("RFC 9420 §12.2", "each-proposal-valid")
def test_a_commit_of_an_add_whose_key_package_breaks_a_rule_is_refused(
    company: Company, forger: Forger, followers: Followers
):
    honest = forger.commit([add(company, "finn")])
    for bad, fault in resigned_packages(company):
        followers.refuse(forger.commit([bad]), fault, honest=honest)


@pytest.mark.rule("RFC 9420 §10", "signature")
@pytest.mark.rule("RFC 9420 §10.1", "signature")
def test_a_commit_of_an_add_that_another_key_signed_is_refused(
    company: Company, forger: Forger, followers: Followers, ben: Person
):
    good = add(company, "finn")
    bad = Add(good.key_package.sign(company.suite, ben.signature_key.private))
    followers.refuse(forger.commit([bad]), "signature", VerificationError, honest=forger.commit([good]))


@pytest.mark.parametrize("leaf_index", [4, 7, 1 << 20, 0xFFFFFFFF])
@pytest.mark.rule("RFC 9420 §12.1.3", "leaf-in-use")
def test_a_removal_of_nobody_is_refused(leaf_index: int, company: Company, forger: Forger, followers: Followers):
    nobody, somebody = Remove(LeafIndex(leaf_index)), Remove(company["cleo"].leaf)
    followers.refuse(forger.commit([nobody]), "blank leaf", honest=forger.commit([somebody]))
    message = forger.public(forger.signed(nobody))
    followers.refuse(message, "blank leaf", honest=forger.public(forger.signed(somebody)))


@pytest.mark.parametrize(
    ("usage", "fault"),
    [
        pytest.param(
            ResumptionPSKUsage.REINIT, "reinit key", marks=pytest.mark.rule("RFC 9420 §12.1.4", "no-reinit-usage")
        ),
        pytest.param(
            ResumptionPSKUsage.BRANCH, "branch key", marks=pytest.mark.rule("RFC 9420 §12.1.4", "no-branch-usage")
        ),
    ],
)
@pytest.mark.rule("RFC 9420 §11.2", "key-only-here")
@pytest.mark.rule("RFC 9420 §11.3", "key-only-here")
def test_a_commit_with_a_key_for_a_successor_or_branch_is_refused(
    usage: ResumptionPSKUsage, fault: str, ada: Person, forger: Forger, followers: Followers
):
    group = ada.group
    key = forger.epoch.secrets.resumption_psk

    def resuming(usage: ResumptionPSKUsage) -> PreSharedKeyProposal:
        return PreSharedKeyProposal(PreSharedKeyID.resumption(usage, group.group_id, group.epoch, NONCE))

    honest = forger.commit([resuming(ResumptionPSKUsage.APPLICATION)], psks=[key])
    followers.refuse(forger.commit([resuming(usage)], psks=[key]), fault, honest=honest)
    honest = forger.public(forger.signed(resuming(ResumptionPSKUsage.APPLICATION)))
    followers.refuse(forger.public(forger.signed(resuming(usage))), fault, honest=honest)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
@pytest.mark.rule("RFC 9420 §12.1.4", "nonce-length")
@pytest.mark.rule("RFC 9420 §8.4", "nonce-length")
def test_a_pre_shared_key_with_a_nonce_of_another_length_is_refused(length: int, forger: Forger, followers: Followers):
    keys, honest = [b"shared before"], forger.commit([psk()], psks=[b"shared before"])
    followers.refuse(forger.commit([psk(nonce=bytes(length))], psks=keys), "psk_nonce", honest=honest, psks=KEYS)


@pytest.mark.rule("RFC 9420 §12.1.4", "order")
@pytest.mark.rule("RFC 9420 §12.3", "psks-in-order")
@pytest.mark.rule("RFC 9420 §12.4.2", "psks-in-order")
def test_pre_shared_keys_that_were_mixed_in_another_order_are_refused(forger: Forger, followers: Followers):
    listed, keys = [psk(), psk(b"another")], [KEYS[b"the key"], KEYS[b"another"]]
    spoiled, honest = forger.commit(listed, psks=keys[::-1]), forger.commit(listed, psks=keys)
    followers.refuse(spoiled, "confirmation_tag", VerificationError, honest=honest, psks=KEYS, without_secrets=False)


@pytest.mark.rule("RFC 9420 §12.1.5", "version")
def test_a_reinit_to_an_older_version_is_refused(forger: Forger, followers: Followers):
    spoiled, honest = (forger.commit([ReInit(b"new", version, 1)], with_path=False) for version in (0, 1))
    followers.refuse(spoiled, "older version", honest=honest)


@pytest.mark.rule("RFC 9420 §12.1.6", "external-commits-only")
def test_an_external_init_is_not_proposed_by_a_member(company: Company, forger: Forger, followers: Followers):
    spoiled = forger.public(forger.signed(ExternalInit(bytes([9]) + bytes(31))))
    followers.refuse(spoiled, "outside an external commit", honest=forger.public(forger.signed(psk())))


ABLE = Capabilities(extensions=(0xF001,), proposals=(0xF002,), credentials=(1, 0xF003))


@pytest.mark.parametrize(
    ("required", "fault"),
    [
        (RequiredCapabilities((0xF001,)), "extension that the group requires"),
        (RequiredCapabilities((), (0xF002,)), "proposal type that the group requires"),
        (RequiredCapabilities((), (), (0xF003,)), "credential type that the group requires"),
    ],
)
@pytest.mark.rule("RFC 9420 §12.1.7", "required-capabilities")
@pytest.mark.rule("RFC 9420 §11.1", "supported-by-all")
@pytest.mark.rule("RFC 9420 §12.3", "new-extensions-hold-for-the-list")
def test_a_requirement_that_a_member_does_not_meet_is_refused(
    required: RequiredCapabilities, fault: str, seeded_random: Random
):
    # Finn cannot meet it: it is fine without him, and refused where the same commit adds him or leaves him in.
    company = Company("ada", "ben", "cleo", random=seeded_random, capabilities=ABLE)
    followers = Followers.of(company["ben"])
    forger = Forger(company["ada"].group, company.random)
    finn = company.person("finn")
    finn.capabilities = Capabilities()
    asked = GroupContextExtensions((required.to_extension(),))
    unable, able = Add(finn.key_package().key_package), add(company, "gil")
    followers.refuse(
        forger.commit([asked, unable]), fault, honest=[forger.commit([asked, able]), forger.commit([unable])]
    )
    company.add(company["ada"], finn)
    followers = Followers.of(company["ben"])
    forger = Forger(company["ada"].group, company.random)
    without_finn = forger.commit([asked, Remove(finn.leaf)])
    followers.refuse(forger.commit([asked]), fault, honest=without_finn)


@pytest.mark.rule("RFC 9420 §12.1.7", "readable")
@pytest.mark.rule("RFC 9420 §13.4", "one-of-each-type")
@pytest.mark.parametrize(
    ("extensions", "fault"),
    [
        ((Extension(3, b"\x07x"),), "ends early|longer than"),
        ((Extension(5, b"\x07x"),), "ends early|longer than"),
        ((Extension(0xF001, b""), Extension(0xF001, b"")), "same type"),
    ],
)
def test_a_group_context_that_nobody_can_read_is_refused(
    extensions: Sequence[Extension], fault: str, seeded_random: Random
):
    company = Company("ada", "ben", random=seeded_random, capabilities=ABLE)
    forger, followers = Forger(company["ada"].group, company.random), Followers.of(company["ben"])
    error = ValidationError if "same" in fault else DecodeError
    sound = (Extension(0xF001, b""),)
    honest = forger.commit([GroupContextExtensions(sound)])
    followers.refuse(forger.commit([GroupContextExtensions(tuple(extensions))]), fault, error, honest=honest)
    honest = forger.commit([ReInit(b"new", 1, 1, sound)])
    followers.refuse(forger.commit([ReInit(b"new", 1, 1, tuple(extensions))]), fault, error, honest=honest)


# --- proposals from outside (§12.1.8) ---------------------------------------------------------------------------------


@pytest.fixture
def hub(company: Company, ada: Person) -> Person:
    """A service that the group names as its external sender."""
    hub = company.person("hub")
    senders = ExternalSenders((ExternalSender(hub.signature_key.public, hub.credential),))
    company.commit(ada, GroupContextExtensions((senders.to_extension(),)))
    return hub


def from_outside(group: Forger, signer: Person, proposal: Proposal, sender: Sender) -> bytes:
    return group.public(group.signed(proposal, sender=sender, signing_key=signer.signature_key.private))


@pytest.mark.rule("RFC 9420 §12.1.8", "external-senders-present")
@pytest.mark.rule("RFC 9420 §12.1.8", "authorized")
@pytest.mark.rule("RFC 9420 §12.1.8.1", "signed-with-listed-key")
def test_an_external_proposal_of_someone_whom_the_group_does_not_name_is_refused(
    company: Company, ada: Person, ben: Person, hub: Person
):
    forger, followers = Forger(ada.group, company.random), Followers.of(ben)
    remove, outside = Remove(company["cleo"].leaf), Sender.external(0)
    honest = from_outside(forger, hub, remove, outside)
    unnamed = from_outside(forger, hub, remove, Sender.external(1))
    followers.refuse(unnamed, "external.senders", honest=honest)
    forged = from_outside(forger, company.person("someone"), remove, outside)
    followers.refuse(forged, "signature", VerificationError, honest=honest)
    company.commit(ben, GroupContextExtensions(()))
    closed = Forger(ada.group, company.random)
    ada_s_own = closed.public(closed.signed(remove))
    Followers.of(ben).refuse(from_outside(closed, hub, remove, outside), "external.senders", honest=ada_s_own)


@pytest.mark.rule("RFC 9420 §12.1.8", "types")
def test_an_external_sender_proposes_no_update_and_no_external_init(
    company: Company, ada: Person, ben: Person, hub: Person
):
    forger, followers, outside = Forger(ada.group, company.random), Followers.of(ben), Sender.external(0)
    honest = [
        from_outside(forger, hub, proposal, outside)
        for proposal in (
            add(company, "finn"),
            Remove(company["cleo"].leaf),
            psk(),
            ReInit(b"new", 1, 1),
            GroupContextExtensions(()),
        )
    ]
    for proposal in (fresh_update(company["cleo"]), ExternalInit(bytes([9]) + bytes(31)), UnknownProposal(0xF001, b"")):
        spoiled = from_outside(forger, hub, proposal, outside)
        followers.refuse(spoiled, "may not send this type", honest=honest)


@pytest.mark.rule("RFC 9420 §6.1", "new-member-proposal-is-add")
@pytest.mark.rule("RFC 9420 §12.1.8", "authorized")
def test_who_wants_to_be_added_asks_for_itself_and_for_nothing_else(
    company: Company, forger: Forger, followers: Followers
):
    finn, newcomer = company.person("finn"), Sender(SenderType.NEW_MEMBER_PROPOSAL)
    own = Add(finn.key_package().key_package)
    honest = from_outside(forger, finn, own, newcomer)
    removal = from_outside(forger, finn, Remove(company["cleo"].leaf), newcomer)
    followers.refuse(removal, "sends Add only", honest=honest)
    forged = from_outside(forger, company.person("someone"), own, newcomer)
    followers.refuse(forged, "signature", VerificationError, honest=honest)
