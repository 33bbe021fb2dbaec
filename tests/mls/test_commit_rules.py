"""RFC 9420 §12.4, rule by rule: commits that break one, made with real keys (`forge.py`).

What only a holder of the group's secrets can see, the public group lets pass: there `without_secrets` is False.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from heliograph.mls.commit import UpdatePath
from heliograph.mls.errors import MLSError, StateError, ValidationError, VerificationError
from heliograph.mls.framing import (
    FramedContent,
    MLSMessage,
    PublicMessage,
    Sender,
    SenderData,
    SenderType,
    WireFormat,
)
from heliograph.mls.group_context import GroupContext
from heliograph.mls.leaf_node import LeafNode
from heliograph.mls.membership import join_external
from heliograph.mls.proposal import ExternalInit, GroupContextExtensions, Proposal, ProposalOrRef, ReInit, Remove
from heliograph.mls.suite import Random
from heliograph.mls.tree_math import LeafIndex
from tests.mls.company import NOW_S, Company, Person
from tests.mls.followers import Followers
from tests.mls.forge import KEYS, Forger, add, by_value, external_commit, flipped, fresh_update, psk

Keys = Sequence[bytes]


# --- whether there is a path (§12.4) ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "proposals",
    [
        pytest.param(lambda company: [], marks=pytest.mark.rule("RFC 9420 §12.4", "empty-needs-path")),
        pytest.param(
            lambda company: [Remove(company["cleo"].leaf)],
            marks=pytest.mark.rule("RFC 9420 §12.4", "remove-needs-path"),
        ),
        pytest.param(
            lambda company: [GroupContextExtensions(())],
            marks=pytest.mark.rule("RFC 9420 §12.4", "extensions-need-path"),
        ),
        pytest.param(
            lambda company: [add(company, "finn"), Remove(company["cleo"].leaf)],
            marks=pytest.mark.rule("RFC 9420 §12.4", "remove-needs-path"),
        ),
    ],
    ids=["nothing", "a removal", "extensions", "an addition beside a removal"],
)
@pytest.mark.rule("RFC 9420 §12.4.2", "path-populated")
def test_a_commit_that_needs_a_path_and_has_none_is_refused(
    proposals: Callable[[Company], list[Proposal]], company: Company, forger: Forger, followers: Followers
):
    listed = proposals(company)
    spoiled = forger.commit(listed, with_path=False)
    followers.refuse(spoiled, "path", honest=forger.commit(listed))


@pytest.mark.rule("RFC 9420 §12.4", "update-needs-path")
def test_a_commit_of_an_update_without_a_path_is_refused(company: Company, ada: Person, followers: Followers):
    cleo = Forger(company["cleo"].group, company.random)
    message = cleo.public(cleo.signed(fresh_update(company["cleo"])))
    ada.receive(message)
    references, forger = followers.hear(message), Forger(ada.group, company.random)
    spoiled = forger.commit(references=references, with_path=False)
    followers.refuse(spoiled, "path", honest=forger.commit(references=references))


@pytest.mark.rule("RFC 9420 §12.4", "external-init-needs-path")
@pytest.mark.rule("RFC 9420 §12.4.3.2", "path-present")
@pytest.mark.rule("hostile input", "external-commit-without-path")
def test_an_external_commit_without_a_path_is_refused_by_all(ada: Person, joiner: Person, followers: Followers):
    spoiled = external_commit(ada.group, joiner, by_value, with_path=False)
    followers.refuse(spoiled, "path|signed", honest=external_commit(ada.group, joiner, by_value))


@pytest.mark.rule("RFC 9420 §12.4", "others-need-no-path")
def test_additions_keys_and_a_reinit_may_be_committed_without_a_path(
    company: Company, forger: Forger, followers: Followers
):
    for proposals in ([add(company, "finn")], [psk()], [ReInit(b"new", 1, 1)], [add(company, "gil"), psk()]):
        followers.accept(forger.commit(proposals, with_path=False, psks=[KEYS[b"the key"]]), psks=KEYS)


@pytest.mark.rule("RFC 9420 §12.4", "omissions-tolerated")
def test_a_commit_need_not_cover_all_that_was_proposed(company: Company, forger: Forger, followers: Followers):
    references = followers.hear(
        forger.public(forger.signed(Remove(company["cleo"].leaf))), forger.public(forger.signed(psk()))
    )
    assert len(references) == 2
    followers.accept(forger.commit())


# --- whose commit it is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-1, 1])
@pytest.mark.rule("RFC 9420 §12.4.2", "epoch")
def test_a_commit_for_another_epoch_is_refused_though_all_else_is_right(
    step: int, forger: Forger, followers: Followers
):
    honest = forger.commit()
    body = MLSMessage.decode(honest).body
    assert isinstance(body, PublicMessage)
    content = body.content.content

    def moved(framed: FramedContent) -> FramedContent:
        return replace(framed, epoch=framed.epoch + step)

    signed = forger.signed(content, change=moved)
    spoiled = forger.public(replace(signed, auth=replace(signed.auth, confirmation_tag=body.auth.confirmation_tag)))
    followers.refuse(spoiled, "epoch|ahead", StateError, honest=honest)


@pytest.mark.rule("RFC 9420 §12.4.2", "membership-tag")
@pytest.mark.rule("RFC 9420 §6.2", "membership-tag")
def test_a_commit_with_a_wrong_membership_tag_is_refused(forger: Forger, followers: Followers):
    spoiled = forger.commit(membership_key=bytes(32))
    followers.refuse(spoiled, "MAC", VerificationError, honest=forger.commit(), without_secrets=False)


@pytest.mark.rule("RFC 9420 §12.4.2", "signature")
@pytest.mark.rule("RFC 9420 §6.1", "signature")
def test_a_commit_that_another_member_signed_is_refused_by_all(company: Company, forger: Forger, followers: Followers):
    honest = forger.commit()
    body = MLSMessage.decode(honest).body
    assert isinstance(body, PublicMessage)
    signed = forger.signed(body.content.content, signing_key=company["cleo"].signature_key.private)
    spoiled = forger.public(replace(signed, auth=replace(signed.auth, confirmation_tag=body.auth.confirmation_tag)))
    followers.refuse(spoiled, "signature", VerificationError, honest=honest)


@pytest.mark.rule("RFC 9420 §12.4.2", "psks-available")
@pytest.mark.rule("RFC 9420 §8.4", "never-invented")
@pytest.mark.rule("hostile input", "missing-psk")
def test_a_commit_with_a_key_that_is_missing_or_another_is_refused(forger: Forger, followers: Followers):
    commit = forger.commit([psk()], psks=[KEYS[b"the key"]])
    before = followers.member.group
    for psks, fault, error in (
        (None, "missing", StateError),
        ({}, "missing", StateError),
        ({b"the key": b"another"}, "confirmation_tag", VerificationError),
        ({b"the key": b""}, "confirmation_tag", VerificationError),
    ):
        with pytest.raises(error, match=fault):
            followers.member.receive(commit, psks=psks)
        assert followers.member.group is before
    followers.accept(commit, psks=KEYS)


@pytest.mark.parametrize(
    ("change", "error", "fault"),
    [
        (lambda data: replace(data, generation=data.generation + 1), VerificationError, "AEAD"),
        (lambda data: replace(data, generation=1 << 31), ValidationError, "ahead"),
        (lambda data: replace(data, leaf_index=LeafIndex(3)), VerificationError, "AEAD"),
        (lambda data: replace(data, leaf_index=LeafIndex(7)), ValidationError, "not in the tree|not a member"),
        (lambda data: replace(data, reuse_guard=flipped(data.reuse_guard)), VerificationError, "AEAD"),
    ],
    ids=["another generation", "one far ahead", "another member", "nobody", "another guard"],
)
@pytest.mark.rule("RFC 9420 §12.4.2", "private-opens")
@pytest.mark.rule("RFC 9420 §6.3.2")
def test_a_sealed_commit_whose_sender_data_are_not_true_does_not_open(
    change: Callable[[SenderData], SenderData],
    error: type[MLSError],
    fault: str,
    forger: Forger,
    ben: Person,
):
    before = ben.group
    spoiled = forger.commit(wire_format=WireFormat.PRIVATE_MESSAGE, sender_data=change)
    with pytest.raises(error, match=fault):
        ben.receive(spoiled)
    assert ben.group is before
    ben.follow(forger.commit(wire_format=WireFormat.PRIVATE_MESSAGE))


# --- the path (§12.4.2) -----------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.4.2", "new-encryption-key")
def test_a_path_whose_leaf_keeps_its_key_is_refused_by_all(forger: Forger, followers: Followers):
    kept = forger.group.own_leaf.encryption_key
    spoiled = forger.commit(leaf=lambda leaf: replace(leaf, encryption_key=kept))
    followers.refuse(spoiled, "in use", honest=forger.commit())


def with_key(at: int, key: bytes) -> Callable[[Keys], Keys]:
    return lambda keys: [*keys[:at], key, *keys[at + 1 :]]


@pytest.mark.parametrize("at", [0, -1])
@pytest.mark.parametrize("owner", ["the root", "another leaf", "the committer's leaf", "a parent beside the path"])
@pytest.mark.rule("RFC 9420 §12.4.2", "keys-not-in-tree")
@pytest.mark.rule("RFC 9420 §16.7", "encryption-keys")
def test_a_path_with_a_key_of_the_tree_is_refused_by_all(
    at: int, owner: str, company: Company, forger: Forger, followers: Followers
):
    tree = forger.group.tree
    beside = tree.filtered_direct_path(company["dan"].leaf)[0][0]
    taken = {
        "the root": tree.public_key(tree.filtered_direct_path(LeafIndex(0))[-1][0]),
        "another leaf": company["dan"].group.own_leaf.encryption_key,
        "the committer's leaf": forger.group.own_leaf.encryption_key,
        "a parent beside the path": tree.public_key(beside),
    }[owner]
    at %= len(tree.filtered_direct_path(forger.group.own_leaf_index))
    spoiled = forger.commit(path_keys=with_key(at, taken))
    followers.refuse(spoiled, "in use", honest=forger.commit())


@pytest.mark.rule("RFC 9420 §12.4.2", "keys-not-in-tree")
def test_a_path_with_one_key_twice_or_with_a_newcomers_key_is_refused(
    company: Company, forger: Forger, followers: Followers
):
    finn = add(company, "finn")
    spoiled = forger.commit(path_keys=lambda keys: [keys[0]] * len(keys))
    followers.refuse(spoiled, "in use", honest=forger.commit())
    spoiled = forger.commit([finn], path_keys=with_key(0, finn.key_package.leaf_node.encryption_key))
    followers.refuse(spoiled, "in use", honest=forger.commit([finn]))


@pytest.mark.parametrize("key", [b"", bytes(32), bytes(31)])
@pytest.mark.rule("RFC 9420 §7.6", "keys-of-suite")
def test_a_path_with_a_key_that_is_none_is_refused_by_all(key: bytes, forger: Forger, followers: Followers):
    def spoil(path: UpdatePath) -> UpdatePath:
        return replace(path, nodes=(replace(path.nodes[0], encryption_key=key), *path.nodes[1:]))

    followers.refuse(forger.commit(path=spoil), "of the cipher suite", honest=forger.commit())


def longer(path: UpdatePath) -> UpdatePath:
    another = replace(path.nodes[0], encryption_key=bytes([9]) + bytes(31))
    return replace(path, nodes=(*path.nodes, another))


def with_ciphertexts(change: Callable[[Sequence[object]], Sequence[object]]) -> Callable[[UpdatePath], UpdatePath]:
    def spoil(path: UpdatePath) -> UpdatePath:
        sealed = change(tuple(path.nodes[-1].encrypted_path_secret))
        return replace(path, nodes=(*path.nodes[:-1], replace(path.nodes[-1], encrypted_path_secret=sealed)))  # pyright: ignore[reportArgumentType]

    return spoil


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        pytest.param(
            lambda path: replace(path, nodes=path.nodes[:-1]),
            "filtered direct path",
            marks=pytest.mark.rule("RFC 9420 §7.6", "one-node-each"),
        ),
        pytest.param(longer, "filtered direct path", marks=pytest.mark.rule("RFC 9420 §7.6", "one-node-each")),
        pytest.param(
            with_ciphertexts(lambda sealed: sealed[:-1]),
            "ciphertext",
            marks=pytest.mark.rule("RFC 9420 §7.6", "one-ciphertext-each"),
        ),
        pytest.param(
            with_ciphertexts(lambda sealed: (*sealed, *sealed)),
            "ciphertext",
            marks=pytest.mark.rule("RFC 9420 §7.6", "one-ciphertext-each"),
        ),
    ],
    ids=["a node too few", "a node too many", "a ciphertext too few", "a ciphertext too many"],
)
@pytest.mark.rule("hostile input", "ciphertext-count")
def test_a_path_of_another_form_than_the_tree_is_refused_by_all(
    path: Callable[[UpdatePath], UpdatePath], fault: str, forger: Forger, followers: Followers
):
    followers.refuse(forger.commit(path=path), fault, honest=forger.commit())


@pytest.mark.rule("RFC 9420 §7.6", "one-ciphertext-each")
@pytest.mark.rule("hostile input", "ciphertext-count")
def test_below_a_blank_node_each_member_has_a_ciphertext_and_a_newcomer_none(
    company: Company, ada: Person, ben: Person
):
    # Removing cleo and adding others leaves the node above dan blank: the path is sealed to leaves there.
    company.add(ada, company.person("finn"), company.person("gil"))
    company.remove(ben, company["gil"])
    followers, forger = Followers.of(ben), Forger(ada.group, company.random)
    newcomer = add(company, "hal")
    honest = forger.commit([newcomer])
    for change in (lambda sealed: sealed[:-1], lambda sealed: (*sealed, sealed[0])):
        followers.refuse(forger.commit([newcomer], path=with_ciphertexts(change)), "ciphertext", honest=honest)


@pytest.mark.rule("RFC 9420 §12.4.2", "leaf-valid")
@pytest.mark.rule("hostile input", "leaf-not-signed-anew")
def test_a_path_whose_leaf_is_the_old_one_or_bears_its_signature_is_refused(
    company: Company, ada: Person, followers: Followers
):
    old, forger = ada.group.own_leaf, Forger(ada.group, company.random)
    changes: list[Callable[[LeafNode], LeafNode]] = [
        lambda leaf: replace(leaf, signature=old.signature),
        lambda leaf: replace(old, encryption_key=leaf.encryption_key, parent_hash=leaf.parent_hash),
    ]
    for change in changes:
        spoiled = forger.commit(leaf_after_signing=change)
        followers.refuse(spoiled, "signature", VerificationError, honest=forger.commit())
    followers.refuse(forger.commit(leaf_after_signing=lambda leaf: old), "in use", honest=forger.commit())


@pytest.mark.parametrize("parent_hash", [b"", bytes(32), flipped])
@pytest.mark.rule("RFC 9420 §7.9.2", "committers-leaf")
@pytest.mark.rule("RFC 9420 §7.5", "parent-hash")
@pytest.mark.rule("hostile input", "parent-hash-mismatch")
def test_a_path_with_another_parent_hash_is_refused_by_all(
    parent_hash: bytes | Callable[[bytes], bytes], forger: Forger, followers: Followers
):
    def spoil(leaf: LeafNode) -> LeafNode:
        spoiled = parent_hash if isinstance(parent_hash, bytes) else parent_hash(leaf.parent_hash or b"")
        return replace(leaf, parent_hash=spoiled)

    followers.refuse(forger.commit(leaf=spoil), "parent_hash", VerificationError, honest=forger.commit())


@pytest.mark.rule("RFC 9420 §7.5", "derived-keys-match")
@pytest.mark.rule("RFC 9420 §12.4.2", "path-secret-opens")
@pytest.mark.rule("RFC 9420 §16.12", "mismatch-noticed")
def test_a_path_secret_that_gives_other_keys_than_the_path_is_refused(forger: Forger, followers: Followers):
    spoiled = forger.commit(first_path_secret=flipped)
    followers.refuse(spoiled, "public key", VerificationError, honest=forger.commit(), without_secrets=False)


@pytest.mark.parametrize(
    "context",
    [
        lambda context: replace(context, epoch=context.epoch - 1),
        lambda context: replace(context, tree_hash=flipped(context.tree_hash)),
        lambda context: replace(context, confirmed_transcript_hash=flipped(context.confirmed_transcript_hash)),
        lambda context: replace(context, group_id=b"another group"),
    ],
    ids=["the old epoch", "another tree", "another transcript", "another group"],
)
@pytest.mark.rule("RFC 9420 §12.4.2", "provisional-context")
@pytest.mark.rule("RFC 9420 §7.6", "sealed-under-context")
def test_a_path_secret_that_was_sealed_for_another_context_does_not_open(
    context: Callable[[GroupContext], GroupContext], forger: Forger, followers: Followers
):
    spoiled = forger.commit(path_context=context)
    followers.refuse(spoiled, "HPKE decryption", VerificationError, honest=forger.commit(), without_secrets=False)


@pytest.mark.parametrize("tag", [flipped, lambda tag: bytes(len(tag)), lambda tag: tag[:-1], lambda tag: b""])
@pytest.mark.rule("RFC 9420 §12.4.2", "confirmation-tag")
@pytest.mark.rule("hostile input", "bad-confirmation-tag")
def test_a_commit_with_a_wrong_confirmation_tag_is_refused(
    tag: Callable[[bytes], bytes], company: Company, forger: Forger, followers: Followers
):
    spoiled = forger.commit([Remove(company["cleo"].leaf)], tag=tag)
    honest = forger.commit([Remove(company["cleo"].leaf)])
    followers.refuse(spoiled, "confirmation_tag", VerificationError, honest=honest, without_secrets=False)


# --- external commits (§12.4.3.2, §8.3) -------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.4.3.2", "leftmost-leaf")
@pytest.mark.rule("RFC 9420 §12.4.2", "external-place")
@pytest.mark.rule("RFC 9420 §12.4.1", "external-place")
def test_a_joiner_that_takes_another_leaf_than_the_leftmost_is_refused(company: Company, ada: Person, joiner: Person):
    company.add(ada, company.person("eve"), company.person("gil"))
    company.remove(ada, company["dan"])
    followers, honest = Followers.of(company["ben"]), external_commit(ada.group, joiner, by_value)
    for place in (6, 7):
        spoiled = external_commit(ada.group, joiner, by_value, place=LeafIndex(place))
        # The path of another place has another length, or a leaf that is signed for another place.
        followers.refuse(spoiled, "path|hash", honest=honest)


@pytest.mark.rule("RFC 9420 §12.4.3.2", "no-references")
def test_a_joiner_that_names_a_proposal_by_reference_is_refused_by_all(
    company: Company, forger: Forger, ada: Person, joiner: Person, followers: Followers
):
    (reference,) = followers.hear(forger.public(forger.signed(psk())))
    spoiled = external_commit(ada.group, joiner, lambda init: [*by_value(init), ProposalOrRef(reference=reference)])
    followers.refuse(spoiled, "by reference", honest=external_commit(ada.group, joiner, by_value))


@pytest.mark.rule("RFC 9420 §12.4.3.2", "signed-by-joiner")
@pytest.mark.rule("RFC 9420 §6.1", "new-member-commit-key")
def test_an_external_commit_that_the_joiners_key_did_not_sign_is_refused(
    ada: Person, ben: Person, joiner: Person, followers: Followers
):
    spoiled = external_commit(ada.group, joiner, by_value, signing_key=ben.signature_key.private)
    followers.refuse(spoiled, "signature", VerificationError, honest=external_commit(ada.group, joiner, by_value))


@pytest.mark.rule("RFC 9420 §8.3", "external-init-secret")
@pytest.mark.rule("RFC 9420 §12.4.3.2", "external-init-secret")
@pytest.mark.rule("RFC 9420 §12.3", "external-init-used")
def test_a_joiner_with_another_init_secret_than_it_sent_is_refused(ada: Person, joiner: Person, followers: Followers):
    spoiled = external_commit(ada.group, joiner, lambda init: by_value(ExternalInit(bytes([9]) + bytes(31))))
    honest = external_commit(ada.group, joiner, by_value)
    followers.refuse(spoiled, "confirmation_tag", VerificationError, honest=honest, without_secrets=False)


@pytest.mark.parametrize("kem_output", [b"", bytes(32), bytes([9]) + bytes(30), bytes([9]) + bytes(32)])
@pytest.mark.rule("RFC 9420 §8.3", "kem-output-of-suite")
def test_a_kem_output_that_nobody_can_open_is_refused_by_all(
    kem_output: bytes, ada: Person, joiner: Person, followers: Followers
):
    spoiled = external_commit(ada.group, joiner, lambda init: by_value(ExternalInit(kem_output)))
    followers.refuse(spoiled, "kem_output", honest=external_commit(ada.group, joiner, by_value))


@pytest.mark.rule("RFC 9420 §12.4.3.2", "sender-type")
@pytest.mark.rule("RFC 9420 §6.1", "new-member-commit-is-commit")
def test_a_joiner_sends_nothing_but_a_commit_and_a_proposer_no_commit(
    forger: Forger, ada: Person, joiner: Person, followers: Followers
):
    honest = external_commit(ada.group, joiner, by_value)
    body = MLSMessage.decode(honest).body
    assert isinstance(body, PublicMessage)
    for sender_type, content in (
        (SenderType.NEW_MEMBER_COMMIT, psk()),
        (SenderType.NEW_MEMBER_PROPOSAL, body.content.content),
    ):
        signed = forger.signed(content, sender=Sender(sender_type), signing_key=joiner.signature_key.private)
        tag = body.auth.confirmation_tag if sender_type is SenderType.NEW_MEMBER_PROPOSAL else None
        spoiled = forger.public(replace(signed, auth=replace(signed.auth, confirmation_tag=tag)))
        followers.refuse(spoiled, "commits only|proposals only", honest=honest)


@pytest.mark.rule("RFC 9420 §12.2", "resync-same-client")
def test_who_comes_back_in_its_own_place_keeps_its_name(company: Company, ada: Person, followers: Followers):
    cleo = company["cleo"]

    def enter(name: bytes) -> bytes:
        return external_commit(
            ada.group,
            cleo,
            lambda init: by_value(init, Remove(cleo.leaf)),
            leaf=lambda leaf: replace(leaf, credential=replace(leaf.credential, content=name)),
        )

    followers.refuse(enter(b"mallory"), "another client", honest=enter(b"cleo"))


@pytest.mark.rule("RFC 9420 §12.2", "resync-new-key")
def test_who_comes_back_in_its_own_place_brings_a_new_key(company: Company, ada: Person, joiner: Person):
    # A joiner whose randomness repeats itself draws the same keys again.
    entered = join_external(
        ada.group.group_info(),
        ada.group.ratchet_tree(),
        joiner.credential,
        joiner.signature_key.private,
        capabilities=joiner.capabilities,
        random=bytes,
        now_s=NOW_S,
    )
    company.accept(joiner, entered)
    company.people[joiner.name] = joiner

    def back(random: Random) -> bytes:
        joiner.random = random
        return external_commit(ada.group, joiner, lambda init: by_value(init, Remove(joiner.leaf)))

    honest, spoiled = back(company.random), back(bytes)
    Followers.of(company["ben"]).refuse(spoiled, "keeps the encryption_key", honest=honest)


def test_nothing_of_this_would_be_refused_without_its_fault(forger: Forger, followers: Followers, company: Company):
    with pytest.raises(ValidationError):
        followers.refuse(forger.commit([Remove(LeafIndex(77))]), "blank", honest=forger.commit([Remove(LeafIndex(77))]))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        followers.refuse(forger.commit(), "any words", honest=forger.commit())
