"""External commits: what members refuse from an outsider, and an outsider from members."""

from dataclasses import replace

import pytest

from heliograph.mls.errors import (
    DecodeError,
    ValidationError,
    VerificationError,
)
from heliograph.mls.extension import Extension
from heliograph.mls.framing import MLSMessage
from heliograph.mls.group import (
    ReceivedCommit,
)
from heliograph.mls.group_info import GroupInfo
from heliograph.mls.leaf_node import Capabilities
from heliograph.mls.membership import join_external, propose_joining
from heliograph.mls.proposal import (
    Add,
    ExternalInit,
    ProposalOrRef,
    Remove,
)
from heliograph.mls.suite import Random
from heliograph.mls.tree_math import LeafIndex
from tests.mls.company import NOW_S, Company, Person
from tests.mls.forge import Forger, by_value, external_commit, without_length

# --- what members refuse ---------------------------------------------------------------------------------------------


def test_the_forger_makes_external_commits_that_are_accepted(ada: Person, ben: Person, joiner: Person):
    assert isinstance(ben.receive(external_commit(ada.group, joiner, by_value)), ReceivedCommit)


@pytest.mark.rule("RFC 9420 §12.2", "external-one-init")
def test_an_external_commit_without_external_init_is_refused(ada: Person, ben: Person, joiner: Person):
    with pytest.raises(ValidationError, match="ExternalInit"):
        ben.receive(external_commit(ada.group, joiner, lambda init: []))


@pytest.mark.rule("RFC 9420 §12.2", "external-one-init")
def test_an_external_commit_with_two_external_inits_is_refused(ada: Person, ben: Person, joiner: Person):
    with pytest.raises(ValidationError, match="ExternalInit"):
        ben.receive(external_commit(ada.group, joiner, lambda init: by_value(init, init)))


@pytest.mark.rule("RFC 9420 §12.4.3.2", "path-present")
def test_an_external_commit_without_a_path_is_refused(ada: Person, ben: Person, joiner: Person):
    with pytest.raises(ValidationError):
        ben.receive(external_commit(ada.group, joiner, by_value, with_path=False))


@pytest.mark.rule("RFC 9420 §12.2", "external-nothing-else")
def test_an_external_commit_that_adds_someone_else_is_refused(
    company: Company, ada: Person, ben: Person, joiner: Person
):
    ghost = Add(company.person("ghost").key_package().key_package)
    with pytest.raises(ValidationError, match="may not"):
        ben.receive(external_commit(ada.group, joiner, lambda init: by_value(init, ghost)))


@pytest.mark.rule("RFC 9420 §12.4.3.2", "no-references")
def test_an_external_commit_of_a_proposal_by_reference_is_refused(
    company: Company, ada: Person, ben: Person, joiner: Person
):
    company.propose(ada, Remove(company["cleo"].leaf))
    reference = ben.group.pending_proposals[0].reference
    with pytest.raises(ValidationError, match="by reference"):
        ben.receive(
            external_commit(ada.group, joiner, lambda init: [*by_value(init), ProposalOrRef(reference=reference)])
        )


@pytest.mark.rule("RFC 9420 §12.2", "resync-same-client")
def test_a_stranger_cannot_push_a_member_out_by_an_external_commit(
    company: Company, ada: Person, ben: Person, joiner: Person
):
    with pytest.raises(ValidationError, match="another client"):
        ben.receive(external_commit(ada.group, joiner, lambda init: by_value(init, Remove(company["cleo"].leaf))))


@pytest.mark.rule("RFC 9420 §7.3", "unique-signature-key")
def test_an_external_commit_with_a_members_signature_key_is_refused(company: Company, ada: Person, ben: Person):
    cleo = company["cleo"]
    with pytest.raises(ValidationError, match="signature_key"):
        ben.receive(external_commit(ada.group, cleo, by_value))


@pytest.mark.rule("RFC 9420 §8.3", "external-init-secret")
def test_an_external_init_with_another_secret_is_refused(ada: Person, ben: Person, joiner: Person):
    with pytest.raises(VerificationError, match="confirmation_tag"):
        ben.receive(external_commit(ada.group, joiner, lambda init: by_value(ExternalInit(bytes([9] + [0] * 31)))))


# --- what an outsider refuses -----------------------------------------------------------------------------------------


def enter(group_info: GroupInfo | bytes, tree: bytes, joiner: Person, *, resync_leaf: LeafIndex | None = None):
    return join_external(
        group_info if isinstance(group_info, bytes) else MLSMessage(group_info).encode(),
        tree,
        joiner.credential,
        joiner.signature_key.private,
        capabilities=joiner.capabilities,
        resync_leaf=resync_leaf,
        random=joiner.random,
        now_s=NOW_S,
    )


@pytest.mark.rule("RFC 9420 §12.4.3.2", "external-pub")
@pytest.mark.rule("hostile input", "external-pub-without-length")
def test_an_external_pub_without_its_length_is_refused(forger: Forger, ada: Person, joiner: Person):
    with pytest.raises((DecodeError, ValidationError)):
        enter(forger.group_info(change=without_length), ada.group.ratchet_tree(), joiner)


def test_what_is_no_group_info_lets_nobody_in(ada: Person, joiner: Person):
    commit = ada.commit().commit
    with pytest.raises(ValidationError, match="not a GroupInfo"):
        enter(commit, ada.group.ratchet_tree(), joiner)
    with pytest.raises(ValidationError, match="not a GroupInfo"):
        propose_joining(commit, joiner.key_package(), joiner.signature_key.private)


@pytest.mark.rule("RFC 9420 §12.4.3.2", "external-pub")
def test_a_group_info_without_external_pub_lets_nobody_in(forger: Forger, ada: Person, joiner: Person):
    closed = forger.group_info(change=lambda info: replace(info, extensions=()))
    with pytest.raises(ValidationError, match="external_pub"):
        enter(closed, ada.group.ratchet_tree(), joiner)


@pytest.mark.rule("RFC 9420 §12.4.3.2", "joiner-checks")
@pytest.mark.rule("RFC 9420 §12.4.3", "signature")
@pytest.mark.rule("hostile input", "group-info-of-another-signer")
def test_an_outsider_refuses_a_group_info_that_its_signer_did_not_sign(
    company: Company, forger: Forger, ada: Person, joiner: Person
):
    forged = forger.group_info(change=lambda info: replace(info, signer=company["cleo"].leaf))
    with pytest.raises(VerificationError, match="signature"):
        enter(forged, ada.group.ratchet_tree(), joiner)


@pytest.mark.rule("RFC 9420 §12.4.3.2", "joiner-checks")
@pytest.mark.rule("RFC 9420 §12.4.3.3", "tree-hash")
def test_an_outsider_refuses_another_tree(company: Company, ada: Person, joiner: Person):
    other = ada.group.tree.remove_leaf(company["cleo"].leaf).encode()
    with pytest.raises(VerificationError, match="tree hash"):
        enter(ada.group.group_info(), other, joiner)


@pytest.mark.rule("RFC 9420 §12.2", "resync-same-client")
def test_an_outsider_does_not_ask_for_another_clients_place(company: Company, ada: Person, joiner: Person):
    with pytest.raises(ValidationError, match="another client"):
        enter(ada.group.group_info(), ada.group.ratchet_tree(), joiner, resync_leaf=company["cleo"].leaf)


@pytest.mark.rule("RFC 9420 §7.3", "unique-signature-key")
def test_a_member_does_not_enter_twice(company: Company, ada: Person):
    with pytest.raises(ValidationError, match="signature_key"):
        enter(ada.group.group_info(), ada.group.ratchet_tree(), company["cleo"])


@pytest.mark.rule("RFC 9420 §7.3", "version-and-suite")
@pytest.mark.rule("RFC 9420 §7.3", "reads-all-credentials")
@pytest.mark.parametrize("capabilities", [Capabilities(cipher_suites=(2,)), Capabilities(credentials=(2,))])
def test_an_outsider_does_not_ask_to_enter_without_what_the_group_needs(
    capabilities: Capabilities, ada: Person, joiner: Person
):
    joiner.capabilities = capabilities
    with pytest.raises(ValidationError, match="support"):
        enter(ada.group.group_info(), ada.group.ratchet_tree(), joiner)


@pytest.mark.rule("RFC 9420 §11.1")
@pytest.mark.rule("RFC 9420 §12.4.3", "context-extensions-supported")
def test_an_outsider_does_not_enter_a_group_whose_extensions_it_does_not_support(seeded_random: Random):
    company = Company(
        "ada",
        random=seeded_random,
        capabilities=Capabilities(extensions=(0xF001,)),
        extensions=(Extension(0xF001, b""),),
    )
    finn = company.person("finn")
    finn.capabilities = Capabilities()
    group = company["ada"].group
    with pytest.raises(ValidationError, match="support"):
        enter(group.group_info(), group.ratchet_tree(), finn)
