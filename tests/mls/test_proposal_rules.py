"""The rules about proposals and lists of them: each has a test in which exactly that rule is broken."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from heliograph.mls.errors import (
    DecodeError,
    MLSError,
    StateError,
    UnsupportedError,
    ValidationError,
    VerificationError,
)
from heliograph.mls.extension import Extension, ExtensionType, RequiredCapabilities
from heliograph.mls.framing import Sender, SenderType
from heliograph.mls.leaf_node import Capabilities, Credential, LeafNode, LeafNodeSource, Lifetime
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
    ResumptionPSKUsage,
    UnknownProposal,
    Update,
)
from heliograph.mls.proposal_rules import (
    DEFAULT_POLICY,
    Applied,
    ProposalPolicy,
    ReceivedProposal,
    SentProposal,
    apply,
    check_resync,
    resolve,
)
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import Random, cipher_suite
from heliograph.mls.tree_math import LeafIndex
from tests.mls import honest
from tests.mls.honest import DAY_S, NOW_S

SUITE = cipher_suite(1)
EVERYTHING = ProposalPolicy(member=frozenset(ProposalType) | {0xF001}, external=frozenset(ProposalType))
NONCE = b"\1" * 32


@pytest.fixture
def members(seeded_random: Random) -> list[honest.Client]:
    return honest.clients(8, seeded_random)


@pytest.fixture
def tree(members: list[honest.Client]) -> RatchetTree:
    return honest.tree_of(members[:5])


def by(sender: int, proposal: Proposal) -> SentProposal:
    return SentProposal(proposal, Sender.member(LeafIndex(sender)))


def applied(
    tree: RatchetTree,
    *proposals: SentProposal | Proposal,
    committer: int | None = 0,
    policy: ProposalPolicy = DEFAULT_POLICY,
    extensions: Sequence[Extension] = (),
) -> Applied:
    """Apply proposals in a commit; those without a sender are the committer's own, by value."""
    is_external = committer is None
    own = Sender(SenderType.NEW_MEMBER_COMMIT) if is_external else Sender.member(LeafIndex(committer or 0))
    sent = [p if isinstance(p, SentProposal) else SentProposal(p, own) for p in proposals]
    return apply(
        SUITE,
        honest.context_of(SUITE, tree, extensions),
        tree,
        sent,
        committer=None if is_external else LeafIndex(committer or 0),
        now_s=NOW_S,
        policy=policy,
    )


def refuse(
    fault: str,
    tree: RatchetTree,
    *proposals: SentProposal | Proposal,
    error: type[MLSError] = ValidationError,
    **options: Any,
) -> None:
    with pytest.raises(error, match=fault):
        applied(tree, *proposals, **options)


def remove(leaf_index: int) -> Remove:
    return Remove(LeafIndex(leaf_index))


# --- what is right -------------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.3", "order")
def test_a_list_is_applied_and_says_whom_it_changed(members: list[honest.Client], tree: RatchetTree):
    update, add = members[1].update(1), honest.add_of(members[5])
    result = applied(tree, add, by(1, Update(update)), remove(3))
    assert [(m.leaf_index, m.leaf_node) for m in result.added] == [(3, add.key_package.leaf_node)]
    assert [(m.leaf_index, m.leaf_node) for m in result.updated] == [(1, update)]
    assert [(m.leaf_index, m.leaf_node) for m in result.removed] == [(3, tree.leaf(LeafIndex(3)))]
    assert result.newcomers == ((3, add.key_package),)
    assert result.path_required
    assert result.tree.leaf(LeafIndex(3)) == add.key_package.leaf_node
    assert result.external_init is None


@pytest.mark.rule("RFC 9420 §12.4", "others-need-no-path")
@pytest.mark.rule("RFC 9420 §12.4.1", "path-where-needed")
def test_only_adds_and_psks_need_no_path(members: list[honest.Client], tree: RatchetTree):
    psk = PreSharedKeyProposal(PreSharedKeyID(PSKType.EXTERNAL, NONCE, b"id"))
    assert not applied(tree, honest.add_of(members[5])).path_required
    assert not applied(tree, psk, policy=EVERYTHING).path_required
    assert applied(tree).path_required
    assert applied(tree, remove(1)).path_required
    assert applied(tree, by(1, Update(members[1].update(1)))).path_required
    assert applied(tree, GroupContextExtensions(())).path_required
    assert applied(tree, ExternalInit(honest.KEM_OUTPUT), committer=None).path_required


@pytest.mark.rule("RFC 9420 §12.1.7", "whole-list-replaced")
@pytest.mark.rule("RFC 9420 §12.3", "new-extensions-hold-for-the-list")
def test_new_extensions_replace_the_old_ones_and_hold_for_the_same_commits_adds(
    members: list[honest.Client], tree: RatchetTree
):
    old = Extension(ExtensionType.APPLICATION_ID, b"old")
    new = RequiredCapabilities(credential_types=(1,)).to_extension()
    result = applied(tree, GroupContextExtensions((new,)), extensions=[old])
    assert result.extensions == (new,)
    assert applied(tree, remove(1), extensions=[old]).extensions == (old,)
    capable = RequiredCapabilities(credential_types=(1, 2)).to_extension()
    refuse(
        "credential type that the group requires",
        tree,
        GroupContextExtensions((capable,)),
        honest.add_of(members[5]),
    )


# --- resolve -------------------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.4", "known-references")
def test_references_are_looked_up_with_their_own_senders():
    received = ReceivedProposal(b"ref", remove(2), Sender.member(LeafIndex(4)))
    commit = honest.commit_of([remove(1)], [b"ref"])
    committer = Sender.member(LeafIndex(0))
    assert resolve(commit, {b"ref": received}, committer) == (by(0, remove(1)), by(4, remove(2)))
    with pytest.raises(StateError, match="not received"):
        resolve(commit, {}, committer)


def test_a_proposal_is_not_named_twice():
    received = ReceivedProposal(b"ref", remove(2), Sender.member(LeafIndex(4)))
    with pytest.raises(ValidationError, match="twice"):
        resolve(honest.commit_of(references=[b"ref", b"ref"]), {b"ref": received}, Sender.member(LeafIndex(0)))


@pytest.mark.rule("RFC 9420 §12.4.3.2", "no-references")
def test_an_external_commit_names_no_proposal_by_reference():
    received = ReceivedProposal(b"ref", remove(2), Sender.member(LeafIndex(4)))
    with pytest.raises(ValidationError, match="by reference"):
        resolve(
            honest.commit_of(references=[b"ref"]),
            {b"ref": received},
            Sender(SenderType.NEW_MEMBER_COMMIT),
        )


# --- one proposal --------------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.1.1", "key-package-valid")
@pytest.mark.rule("RFC 9420 §12.2", "each-proposal-valid")
def test_an_add_of_an_invalid_key_package_is_refused(members: list[honest.Client], tree: RatchetTree):
    expired = members[5].bundle(lifetime=Lifetime(NOW_S - DAY_S, NOW_S - 1)).key_package
    refuse("has ended", tree, Add(expired))
    unsigned = replace(honest.add_of(members[5]).key_package, signature=bytes(64))
    refuse("signature", tree, Add(unsigned), error=VerificationError)
    foreign = honest.Client.named("p256", members[0].random, 2).bundle().key_package
    refuse("another cipher suite", tree, Add(foreign))


@pytest.mark.rule("RFC 9420 §12.1.2", "leaf-valid")
@pytest.mark.rule("RFC 9420 §7.3", "source-update")
@pytest.mark.rule("RFC 9420 §7.3", "update-new-key")
def test_an_update_replaces_the_key_and_says_that_it_is_one(members: list[honest.Client], tree: RatchetTree):
    bob = members[1]
    old = tree.leaf(LeafIndex(1))
    assert old is not None
    kept = bob.update(1, lambda leaf: replace(leaf, encryption_key=old.encryption_key))
    refuse("keeps the encryption_key", tree, by(1, Update(kept)))
    refuse("leaf_node_source is not update", tree, by(1, Update(bob.bundle().key_package.leaf_node)))
    as_commit = bob.update(1, lambda leaf: replace(leaf, leaf_node_source=LeafNodeSource.COMMIT, parent_hash=b""))
    refuse("leaf_node_source is not update", tree, by(1, Update(as_commit)))


@pytest.mark.rule("RFC 9420 §12.1.2", "leaf-valid")
@pytest.mark.rule("RFC 9420 §7.3", "signature")
def test_an_update_is_signed_for_its_group_and_the_senders_place(members: list[honest.Client], tree: RatchetTree):
    elsewhere = members[1].update(1, group_id=b"another group")
    for update in (elsewhere, members[1].update(2), replace(members[1].update(1), signature=bytes(64))):
        refuse("signature", tree, by(1, Update(update)), error=VerificationError)


@pytest.mark.rule("RFC 9420 §12.1.2", "sender-is-member")
def test_an_update_comes_from_a_member(members: list[honest.Client], tree: RatchetTree):
    outside = SentProposal(Update(members[1].update(1)), Sender.external(0))
    refuse("not sent by a member", tree, outside, policy=EVERYTHING)
    refuse("blank leaf", tree, by(7, Update(members[7].update(7))))


@pytest.mark.rule("RFC 9420 §12.1.3", "leaf-in-use")
def test_a_remove_names_a_leaf_in_use(tree: RatchetTree):
    for index in (5, 8, 2**32 - 1):
        refuse("blank leaf", tree, remove(index))


@pytest.mark.rule("RFC 9420 §12.1.4", "no-reinit-usage")
@pytest.mark.rule("RFC 9420 §12.1.4", "no-branch-usage")
@pytest.mark.rule("RFC 9420 §12.1.4", "nonce-length")
@pytest.mark.parametrize(
    ("psk", "fault"),
    [
        (PreSharedKeyID(PSKType.RESUMPTION, NONCE, usage=ResumptionPSKUsage.REINIT), "reinit key outside"),
        (PreSharedKeyID(PSKType.RESUMPTION, NONCE, usage=ResumptionPSKUsage.BRANCH), "branch key outside"),
        (PreSharedKeyID(PSKType.EXTERNAL, NONCE[:-1], b"id"), "psk_nonce"),
    ],
)
def test_a_psk_proposal_is_for_this_place_with_a_full_nonce(tree: RatchetTree, psk: PreSharedKeyID, fault: str):
    refuse(fault, tree, PreSharedKeyProposal(psk), policy=EVERYTHING)


@pytest.mark.rule("RFC 9420 §12.1.5", "version")
def test_a_reinit_does_not_go_back_to_an_older_version(tree: RatchetTree):
    refuse("older version", tree, ReInit(b"new", 0, 1), policy=EVERYTHING)


@pytest.mark.rule("RFC 9420 §12.1.7", "readable")
@pytest.mark.rule("RFC 9420 §12.1.7", "required-capabilities")
@pytest.mark.rule("RFC 9420 §11.1")
def test_new_extensions_are_distinct_readable_and_supported_by_all(tree: RatchetTree):
    one = Extension(ExtensionType.APPLICATION_ID, b"")
    refuse("same type", tree, GroupContextExtensions((one, one)))
    refuse("extension of the group context", tree, GroupContextExtensions((Extension(0xF001, b""),)))
    required = RequiredCapabilities(extension_types=(0xF001,)).to_extension()
    refuse("extension that the group requires", tree, GroupContextExtensions((required,)))
    for kind in (ExtensionType.REQUIRED_CAPABILITIES, ExtensionType.EXTERNAL_SENDERS):
        garbled = GroupContextExtensions((Extension(kind, b"\x07x"),))
        refuse("ends early|longer than", tree, garbled, error=DecodeError)


@pytest.mark.rule("RFC 9420 §12.1.7", "required-capabilities")
def test_a_requirement_may_come_with_the_removal_of_who_cannot_meet_it(members: list[honest.Client]):
    able = replace(honest.CAPABILITIES, extensions=(0xF001,))
    tree = RatchetTree.of_leaf(members[0].bundle(capabilities=able).key_package.leaf_node)
    tree, _ = tree.add_leaf(members[1].bundle().key_package.leaf_node)
    required = GroupContextExtensions((RequiredCapabilities(extension_types=(0xF001,)).to_extension(),))
    refuse("extension that the group requires", tree, required)
    assert applied(tree, required, remove(1)).extensions == required.extensions


# --- the list ------------------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.2", "no-update-by-committer")
def test_the_committer_does_not_commit_its_own_update(members: list[honest.Client], tree: RatchetTree):
    refuse("Update by the committer", tree, Update(members[0].update(0)))
    refuse("Update by the committer", tree, by(3, Update(members[3].update(3))), committer=3)


@pytest.mark.rule("RFC 9420 §12.2", "no-removal-of-committer")
def test_the_committer_is_not_removed_by_its_own_commit(tree: RatchetTree):
    refuse("removes the committer", tree, remove(0))
    refuse("removes the committer", tree, by(3, remove(0)))


@pytest.mark.rule("RFC 9420 §12.2", "one-change-for-a-leaf")
def test_a_leaf_is_changed_or_removed_once(members: list[honest.Client], tree: RatchetTree):
    one, two = by(1, Update(members[1].update(1))), by(1, Update(members[1].update(1)))
    refuse("same leaf twice", tree, one, two)
    refuse("same leaf twice", tree, one, remove(1))
    refuse("same leaf twice", tree, remove(1), by(2, remove(1)))


@pytest.mark.rule("RFC 9420 §12.2", "no-client-twice")
def test_a_client_is_added_once(members: list[honest.Client], tree: RatchetTree):
    refuse("same client twice", tree, honest.add_of(members[5]), honest.add_of(members[5]))


@pytest.mark.rule("RFC 9420 §12.2", "no-client-already-in")
def test_a_client_in_the_group_is_added_only_with_its_removal(members: list[honest.Client], tree: RatchetTree):
    refuse("already in the group", tree, honest.add_of(members[3]))
    assert applied(tree, honest.add_of(members[3]), remove(3)).added[0].leaf_index == 3


@pytest.mark.rule("RFC 9420 §12.2", "no-psk-twice")
def test_a_pre_shared_key_is_named_once(tree: RatchetTree):
    psk = PreSharedKeyProposal(PreSharedKeyID(PSKType.EXTERNAL, NONCE, b"id"))
    refuse("PreSharedKeyID twice", tree, psk, psk, policy=EVERYTHING)
    assert applied(tree, psk, policy=EVERYTHING).psks == (psk.psk,)


@pytest.mark.rule("RFC 9420 §12.2", "extensions-once")
def test_the_extensions_are_replaced_once(tree: RatchetTree):
    refuse("several GroupContextExtensions", tree, GroupContextExtensions(()), GroupContextExtensions(()))


@pytest.mark.rule("RFC 9420 §12.2", "reinit-alone")
def test_a_reinit_stands_alone(tree: RatchetTree):
    refuse("ReInit together", tree, ReInit(b"new", 1, 1), remove(1), policy=EVERYTHING)


@pytest.mark.rule("RFC 9420 §12.2", "no-external-init")
def test_a_member_does_not_commit_an_external_init(tree: RatchetTree):
    refuse("contains an ExternalInit", tree, ExternalInit(honest.KEM_OUTPUT))


@pytest.mark.rule("RFC 9420 §12.2", "types-supported")
@pytest.mark.rule("RFC 9420 §13.2")
def test_a_proposal_type_that_a_member_does_not_support_is_refused(members: list[honest.Client]):
    able = replace(honest.CAPABILITIES, proposals=(0xF001,))
    tree = RatchetTree.of_leaf(members[0].bundle(capabilities=able).key_package.leaf_node)
    mixed, _ = tree.add_leaf(members[1].bundle().key_package.leaf_node)
    unknown = UnknownProposal(0xF001, b"")
    refuse("a member does not support", mixed, unknown)
    refuse("type 0xf001 are not supported", mixed, unknown, remove(1), error=UnsupportedError)
    refuse("type 0xf001 are not supported", tree, unknown, error=UnsupportedError, policy=EVERYTHING)


@pytest.mark.rule("RFC 9420 §12.2", "tree-valid-after")
@pytest.mark.rule("RFC 9420 §7.3", "unique-encryption-key")
@pytest.mark.rule("RFC 9420 §7.3", "unique-signature-key")
def test_the_tree_that_follows_has_no_key_twice(members: list[honest.Client], tree: RatchetTree):
    taken = tree.leaf(LeafIndex(2))
    assert taken is not None

    def same_encryption_key(leaf: LeafNode) -> LeafNode:
        return replace(leaf, encryption_key=taken.encryption_key)

    def same_signature_key(leaf: LeafNode) -> LeafNode:
        return replace(leaf, signature_key=members[2].keys.public)

    refuse("same encryption_key", tree, by(1, Update(members[1].update(1, same_encryption_key))))
    stolen = replace(members[1], keys=members[2].keys).update(1, same_signature_key)
    refuse("same signature_key", tree, by(1, Update(stolen)))


@pytest.mark.rule("RFC 9420 §12.2", "tree-valid-after")
@pytest.mark.rule("RFC 9420 §13.3")
def test_the_tree_that_follows_has_only_credentials_that_all_can_read(members: list[honest.Client], tree: RatchetTree):
    newcomer = replace(members[5], credential=Credential(0xF001, b"new"))
    both = Capabilities(credentials=(1, 0xF001))
    refuse("credential type in use", tree, Add(newcomer.bundle(capabilities=both).key_package))


@pytest.mark.rule("RFC 9420 §13.4")
def test_a_newcomer_supports_the_extensions_of_the_group(members: list[honest.Client]):
    able = replace(honest.CAPABILITIES, extensions=(0xF001,))
    tree = RatchetTree.of_leaf(members[0].bundle(capabilities=able).key_package.leaf_node)
    used = [Extension(0xF001, b"")]
    refuse("extension of the group context", tree, honest.add_of(members[1]), extensions=used)
    capable = Add(members[1].bundle(capabilities=able).key_package)
    assert applied(tree, capable, extensions=used).added[0].leaf_index == 1


# --- external commits ----------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.2", "external-one-init")
def test_an_external_commit_has_exactly_one_external_init(tree: RatchetTree):
    init = ExternalInit(honest.KEM_OUTPUT)
    assert applied(tree, init, committer=None).external_init == init
    for wrong in ((), (remove(1),), (init, init)):
        refuse("exactly one ExternalInit", tree, *wrong, committer=None)


@pytest.mark.rule("RFC 9420 §8.3", "kem-output-of-suite")
@pytest.mark.parametrize("kem_output", [b"", bytes(32), honest.KEM_OUTPUT[:-1], honest.KEM_OUTPUT + b"\0"])
def test_an_external_init_that_no_member_could_open_is_refused_by_all(kem_output: bytes, tree: RatchetTree):
    refuse("kem_output", tree, ExternalInit(kem_output), committer=None)


@pytest.mark.rule("RFC 9420 §12.2", "external-one-remove")
@pytest.mark.rule("RFC 9420 §12.2", "external-nothing-else")
def test_an_external_commit_removes_at_most_one_leaf_and_does_nothing_else(
    members: list[honest.Client], tree: RatchetTree
):
    init = ExternalInit(honest.KEM_OUTPUT)
    assert applied(tree, init, remove(1), committer=None).removed[0].leaf_index == 1
    refuse("several Removes", tree, init, remove(1), remove(2), committer=None)
    for other in (
        honest.add_of(members[5]),
        Update(members[1].update(1)),
        GroupContextExtensions(()),
        ReInit(b"new", 1, 1),
        UnknownProposal(0xF001, b""),
    ):
        refuse("that it may not", tree, init, other, committer=None, policy=EVERYTHING)


@pytest.mark.rule("RFC 9420 §12.2", "resync-same-client")
@pytest.mark.rule("RFC 9420 §12.2", "resync-new-key")
def test_a_resync_takes_the_place_of_the_same_client_with_a_new_key(members: list[honest.Client], tree: RatchetTree):
    removed = tree.leaf(LeafIndex(1))
    assert removed is not None
    check_resync(removed, members[1].update(1))
    with pytest.raises(ValidationError, match="another client"):
        check_resync(removed, members[2].update(1))
    with pytest.raises(ValidationError, match="keeps the encryption_key"):
        check_resync(removed, removed)


# --- policy --------------------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.1.8", "types")
def test_an_external_sender_may_do_what_the_rfc_and_the_policy_permit(members: list[honest.Client], tree: RatchetTree):
    hub, add = Sender.external(0), honest.add_of(members[5])
    asking = Sender(SenderType.NEW_MEMBER_PROPOSAL)
    narrow = ProposalPolicy(external=frozenset({ProposalType.REMOVE}), new_member=frozenset())
    assert applied(tree, SentProposal(remove(1), hub), policy=narrow).removed[0].leaf_index == 1
    for sent in (SentProposal(add, hub), SentProposal(GroupContextExtensions(()), hub), SentProposal(add, asking)):
        refuse("not permitted", tree, sent, policy=narrow)
        assert applied(tree, sent).path_required == isinstance(sent.proposal, GroupContextExtensions)


def test_what_no_one_can_know_is_refused_by_its_number(members: list[honest.Client]):
    able = replace(honest.CAPABILITIES, proposals=(0xF001,))
    tree = RatchetTree.of_leaf(members[0].bundle(capabilities=able).key_package.leaf_node)
    refuse("type 0xf001 are not supported", tree, UnknownProposal(0xF001, b""), error=UnsupportedError)


def test_a_policy_may_forbid_what_the_rfc_allows(members: list[honest.Client], tree: RatchetTree):
    only_remove = ProposalPolicy(member=frozenset({ProposalType.REMOVE}))
    refuse("not permitted", tree, honest.add_of(members[5]), policy=only_remove)
    assert applied(tree, remove(1), policy=only_remove).removed


@pytest.mark.bad_input(76)
def test_a_commit_covers_a_bounded_number_of_proposals(tree: RatchetTree):
    many = [UnknownProposal(0xF001, i.to_bytes(2)) for i in range(10_000)]
    refuse("more proposals than it may", tree, *many)
    refuse("more proposals than it may", tree, remove(1), remove(2), policy=ProposalPolicy(commit_proposals_max=1))
