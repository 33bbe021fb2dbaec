"""What a newcomer refuses: each test spoils one thing in a Welcome, a GroupInfo or a tree, with real keys."""

from dataclasses import replace

import pytest

from heliograph.mls.errors import (
    StateError,
    ValidationError,
    VerificationError,
)
from heliograph.mls.group_info import GroupInfo
from heliograph.mls.membership import join
from heliograph.mls.proposal import (
    Add,
    PreSharedKeyID,
    PreSharedKeyProposal,
    ProposalType,
    PSKType,
)
from heliograph.mls.proposal_rules import ProposalPolicy
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.tree_math import LeafIndex
from tests.mls.company import NOW_S, Company, Person
from tests.mls.forge import Forger, Invitation, flipped

WITH_PSKS = ProposalPolicy(member=frozenset(ProposalType))


PSK = PreSharedKeyProposal(PreSharedKeyID(PSKType.EXTERNAL, b"n" * 32, b"the key"))


def accept(invitation: Invitation, newcomer: Person, *, tree: RatchetTree | None = None):
    return join(
        invitation.welcome,
        (tree or invitation.tree).encode(),
        invitation.bundle,
        newcomer.signature_key.private,
        now_s=NOW_S,
    )


def test_the_forger_makes_welcomes_that_are_accepted(forger: Forger, ada: Person, joiner: Person):
    assert accept(forger.welcome(ada, joiner), joiner).epoch == ada.group.epoch + 1


@pytest.mark.rule("RFC 9420 §12.4.3.1", "signature")
@pytest.mark.rule("RFC 9420 §12.4.3", "signature")
@pytest.mark.rule("hostile input", "group-info-of-another-signer")
def test_a_group_info_signed_by_another_leaf_than_its_signer_is_refused(
    company: Company, forger: Forger, ada: Person, joiner: Person
):
    invitation = forger.welcome(ada, joiner, info=lambda info: replace(info, signer=company["cleo"].leaf))
    with pytest.raises(VerificationError, match="signature"):
        accept(invitation, joiner)


@pytest.mark.rule("RFC 9420 §12.4.3.1", "signer-in-use")
@pytest.mark.parametrize("signer", [5, 1 << 20])
def test_a_group_info_whose_signer_is_no_member_is_refused(signer: int, forger: Forger, ada: Person, joiner: Person):
    invitation = forger.welcome(ada, joiner, info=lambda info: replace(info, signer=LeafIndex(signer)))
    with pytest.raises(ValidationError, match="signer"):
        accept(invitation, joiner)


@pytest.mark.rule("RFC 9420 §12.4.3.1", "signature")
def test_a_group_info_changed_after_signing_is_refused(forger: Forger, ada: Person, joiner: Person):
    invitation = forger.welcome(ada, joiner, info_after_signing=lambda info: replace(info, confirmation_tag=b"x" * 32))
    with pytest.raises(VerificationError, match="signature"):
        accept(invitation, joiner)


@pytest.mark.rule("RFC 9420 §12.4.3.1", "confirmation-tag")
def test_a_welcome_with_a_wrong_confirmation_tag_is_refused(forger: Forger, ada: Person, joiner: Person):
    invitation = forger.welcome(ada, joiner, info=lambda info: replace(info, confirmation_tag=b"x" * 32))
    with pytest.raises(VerificationError, match="confirmation_tag"):
        accept(invitation, joiner)


@pytest.mark.rule("RFC 9420 §12.4.3.1", "path-secret-fits")
def test_a_welcome_with_a_wrong_path_secret_is_refused(forger: Forger, ada: Person, joiner: Person):
    with pytest.raises(VerificationError, match="public key"):
        accept(forger.welcome(ada, joiner, path_secret=flipped), joiner)


@pytest.mark.rule("RFC 9420 §12.4.3.1", "path-secret-fits")
def test_a_welcome_that_withholds_the_path_secret_is_refused(forger: Forger, ada: Person, joiner: Person):
    with pytest.raises(ValidationError, match="no path secret"):
        accept(forger.welcome(ada, joiner, with_path_secret=False), joiner)


@pytest.mark.rule("RFC 9420 §12.4.3.3", "tree-hash")
@pytest.mark.rule("RFC 9420 §12.4.3.1", "tree-hash")
def test_a_welcome_with_another_tree_is_refused(company: Company, forger: Forger, ada: Person, joiner: Person):
    invitation = forger.welcome(ada, joiner)
    with pytest.raises(VerificationError, match="tree hash"):
        accept(invitation, joiner, tree=invitation.tree.remove_leaf(company["cleo"].leaf))


@pytest.mark.rule("RFC 9420 §12.4.3.3", "tree-hash")
def test_a_welcome_without_any_tree_is_refused(forger: Forger, ada: Person, joiner: Person):
    invitation = forger.welcome(ada, joiner)
    with pytest.raises(StateError, match="tree"):
        join(invitation.welcome, None, invitation.bundle, joiner.signature_key.private, now_s=NOW_S)


@pytest.mark.rule("RFC 9420 §12.4.3.1", "entry-for-us")
def test_a_welcome_for_another_key_package_is_refused(forger: Forger, ada: Person, joiner: Person):
    invitation = forger.welcome(ada, joiner)
    with pytest.raises(StateError, match="not for this key package"):
        accept(replace(invitation, bundle=joiner.key_package()), joiner)


@pytest.mark.rule("RFC 9420 §12.4.3.1", "welcome-suite")
def test_a_welcome_of_another_suite_than_the_key_package_is_refused(forger: Forger, ada: Person, joiner: Person):
    invitation = forger.welcome(ada, joiner, welcome=lambda welcome: replace(welcome, cipher_suite=3))
    with pytest.raises(ValidationError, match="another cipher suite"):
        accept(invitation, joiner)


@pytest.mark.rule("RFC 9420 §12.4.3.1", "group-info-suite")
@pytest.mark.parametrize("change", [{"cipher_suite": 3}, {"version": 2}])
def test_a_welcome_into_a_group_of_another_suite_or_version_is_refused(
    change: dict[str, int], forger: Forger, ada: Person, joiner: Person
):
    def moved(info: GroupInfo) -> GroupInfo:
        return replace(info, group_context=replace(info.group_context, **change))

    with pytest.raises(ValidationError, match="another version or cipher suite"):
        accept(forger.welcome(ada, joiner, info=moved), joiner)


@pytest.mark.rule("RFC 9420 §12.4.3.1", "own-leaf")
def test_a_welcome_into_a_tree_without_the_newcomer_is_refused(forger: Forger, ada: Person, joiner: Person):
    bundle = joiner.key_package()
    again = joiner.key_package().key_package.leaf_node

    def as_another(tree: RatchetTree) -> RatchetTree:
        return tree.set_leaf(LeafIndex(4), again)

    invitation = forger.welcome(ada, joiner, bundle=bundle, tree_before_path=as_another)
    with pytest.raises(ValidationError, match="does not hold the key package's leaf"):
        accept(invitation, joiner)
    assert accept(forger.welcome(ada, joiner, bundle=bundle), joiner).own_leaf_index == 4


@pytest.mark.rule("RFC 9420 §12.4.3.1", "secrets-open")
def test_a_welcome_that_was_tampered_with_does_not_open(forger: Forger, ada: Person, joiner: Person):
    invitation = forger.welcome(
        ada,
        joiner,
        welcome=lambda welcome: replace(welcome, encrypted_group_info=flipped(welcome.encrypted_group_info)),
    )
    with pytest.raises(VerificationError):
        accept(invitation, joiner)


def test_a_welcome_is_joined_with_the_key_packages_own_signature_key(
    company: Company, forger: Forger, ada: Person, joiner: Person
):
    with pytest.raises(StateError, match="signature key"):
        accept(forger.welcome(ada, joiner), company.person("someone else"))


@pytest.mark.parametrize("body", ["commit", "group_info"])
def test_only_a_welcome_is_a_welcome(body: str, ada: Person, joiner: Person):
    bundle = joiner.key_package()
    pending = ada.commit([Add(bundle.key_package)])
    message: bytes = getattr(pending, body)
    with pytest.raises(ValidationError, match="not a Welcome"):
        join(message, pending.ratchet_tree, bundle, joiner.signature_key.private, now_s=NOW_S)


@pytest.mark.rule("RFC 9420 §8.4")
@pytest.mark.rule("RFC 9420 §12.4.3.1", "psk-at-hand")
def test_a_welcome_that_needs_a_missing_pre_shared_key_fails(ada: Person, joiner: Person):
    bundle = joiner.key_package()
    pending = ada.commit([Add(bundle.key_package), PSK], policy=WITH_PSKS, psks={b"the key": b"shared before"})
    assert pending.welcome is not None
    with pytest.raises(StateError, match="missing"):
        join(pending.welcome, pending.ratchet_tree, bundle, joiner.signature_key.private, now_s=NOW_S)
    group = join(
        pending.welcome,
        pending.ratchet_tree,
        bundle,
        joiner.signature_key.private,
        now_s=NOW_S,
        psks={b"the key": b"shared before"},
    )
    assert group.epoch_authenticator == pending.group.epoch_authenticator
