"""Update paths: everyone below the committer's ancestors learns its secrets, and no one else."""

from dataclasses import replace
from typing import Any

import pytest

from heliograph.mls import tree_math, treekem
from heliograph.mls.commit import UpdatePath
from heliograph.mls.errors import StateError, ValidationError, VerificationError
from heliograph.mls.group_context import GroupContext
from heliograph.mls.leaf_node import LeafNodeSource
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import CipherSuite, Random, Secret, cipher_suite
from heliograph.mls.tree_math import LeafIndex, NodeIndex
from heliograph.mls.treekem import PrivateKeys
from heliograph.mls.update_path import merge_update_path
from tests import vectors


def private_keys_of(suite: CipherSuite, tree: RatchetTree, leaf: dict[str, Any]) -> PrivateKeys:
    own = LeafIndex(leaf["index"])
    keys = {tree_math.leaf_to_node(own): Secret(bytes.fromhex(leaf["encryption_priv"]))}
    for step in leaf["path_secrets"]:
        node_secret = suite.derive_secret(bytes.fromhex(step["path_secret"]), "node")
        private, public = suite.derive_key_pair(node_secret)
        assert public == tree.public_key(NodeIndex(step["node"]))
        keys[NodeIndex(step["node"])] = private
    return PrivateKeys(own, keys)


def context_of(case: dict[str, Any], tree_hash: bytes) -> GroupContext:
    return GroupContext(
        version=1,
        cipher_suite=case["cipher_suite"],
        group_id=bytes.fromhex(case["group_id"]),
        epoch=case["epoch"],
        tree_hash=tree_hash,
        confirmed_transcript_hash=bytes.fromhex(case["confirmed_transcript_hash"]),
    )


def merged(suite: CipherSuite, tree: RatchetTree, sender: LeafIndex, path: UpdatePath, group_id: bytes):
    leaf = path.leaf_node
    if suite.id in leaf.capabilities.cipher_suites:
        return merge_update_path(suite, tree, sender, path, group_id=group_id, extensions=(), added=())
    # The vectors' leaves of suite 7 do not name their own suite, which is refused; the rest of the merge is held here.
    with pytest.raises(ValidationError, match="does not support the cipher suite"):
        merge_update_path(suite, tree, sender, path, group_id=group_id, extensions=(), added=())
    after, parent_hash = tree.merge_path(suite, sender, [node.encryption_key for node in path.nodes])
    assert leaf.parent_hash == parent_hash
    leaf.verify_signature(suite, group_id, sender)
    return after.set_leaf(sender, leaf)


@pytest.mark.rule("RFC 9420 §7.5")
@pytest.mark.rule("RFC 9420 §7.6")
def test_every_member_of_the_vectors_learns_the_commit_secret_of_every_path():
    for case in vectors.cases("mls/treekem.json", vectors.SUITES):
        suite = cipher_suite(case["cipher_suite"])
        tree = RatchetTree.decode(bytes.fromhex(case["ratchet_tree"]))
        members = [private_keys_of(suite, tree, leaf) for leaf in case["leaves_private"]]
        group_id = bytes.fromhex(case["group_id"])
        for update in case["update_paths"]:
            sender = LeafIndex(update["sender"])
            path = UpdatePath.decode(bytes.fromhex(update["update_path"]))
            after = merged(suite, tree, sender, path, group_id)
            assert after.tree_hash(suite) == bytes.fromhex(update["tree_hash_after"])
            context = context_of(case, after.tree_hash(suite)).encode()
            for member in members:
                if member.leaf_index == sender:
                    continue
                keys, commit_secret = treekem.open_path(suite, after, member, sender, path, context, ())
                assert commit_secret == bytes.fromhex(update["commit_secret"])
                above = tree_math.common_ancestor(
                    tree_math.leaf_to_node(sender), tree_math.leaf_to_node(member.leaf_index)
                )
                path_secret = bytes.fromhex(update["path_secrets"][member.leaf_index])
                steps, _ = treekem.derive_path(suite, [above], path_secret)
                assert keys.keys[above] == steps[0].private_key


@pytest.mark.rule("RFC 9420 §7.4")
def test_a_path_of_ours_reaches_every_member_of_the_trees_of_the_vectors(seeded_random: Random):
    for case in vectors.cases("mls/treekem.json", vectors.SUITES):
        suite = cipher_suite(case["cipher_suite"])
        tree = RatchetTree.decode(bytes.fromhex(case["ratchet_tree"]))
        group_id = bytes.fromhex(case["group_id"])
        members = {leaf["index"]: private_keys_of(suite, tree, leaf) for leaf in case["leaves_private"]}
        first = case["leaves_private"][0]
        sender = LeafIndex(first["index"])
        after, path, commit_secret = made_path(
            suite, tree, sender, bytes.fromhex(first["signature_priv"]), case, seeded_random
        )
        assert merged(suite, tree, sender, path, group_id) == after
        context = context_of(case, after.tree_hash(suite)).encode()
        for index, member in members.items():
            if index != sender:
                _, opened = treekem.open_path(suite, after, member, sender, path, context, ())
                assert opened == commit_secret


def made_path(
    suite: CipherSuite,
    tree: RatchetTree,
    sender: LeafIndex,
    signature_private_key: bytes,
    case: dict[str, Any],
    random: Random,
) -> tuple[RatchetTree, UpdatePath, bytes]:
    _, public = suite.derive_key_pair(random(suite.hash_length))
    steps, commit_secret = treekem.create_path(suite, tree, sender, random)
    after, parent_hash = tree.merge_path(suite, sender, [step.public_key for step in steps])
    leaf = tree.leaf(sender)
    assert leaf is not None
    fresh = replace(
        leaf,
        encryption_key=public,
        leaf_node_source=LeafNodeSource.COMMIT,
        lifetime=None,
        parent_hash=parent_hash,
    ).sign(suite, signature_private_key, bytes.fromhex(case["group_id"]), sender)
    after = after.set_leaf(sender, fresh)
    context = context_of(case, after.tree_hash(suite)).encode()
    return after, UpdatePath(fresh, treekem.seal_path(suite, after, sender, steps, context, ())), commit_secret


@pytest.fixture
def official() -> dict[str, Any]:
    cases = vectors.load("mls/treekem.json")
    return next(case for case in cases if case["cipher_suite"] == 1 and len(case["leaves_private"]) > 4)


class Opened:
    """One official update path, as the member after the sender sees it."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.suite = cipher_suite(1)
        self.group_id = bytes.fromhex(case["group_id"])
        self.tree = RatchetTree.decode(bytes.fromhex(case["ratchet_tree"]))
        update = case["update_paths"][0]
        self.sender = LeafIndex(update["sender"])
        self.path = UpdatePath.decode(bytes.fromhex(update["update_path"]))
        receiver = next(leaf for leaf in case["leaves_private"] if leaf["index"] != self.sender)
        self.member = private_keys_of(self.suite, self.tree, receiver)
        self.after = merged(self.suite, self.tree, self.sender, self.path, self.group_id)
        self.context = context_of(case, self.after.tree_hash(self.suite)).encode()

    def open(self, path: UpdatePath | None = None, context: bytes | None = None, member: PrivateKeys | None = None):
        return treekem.open_path(
            self.suite,
            self.after,
            member or self.member,
            self.sender,
            path or self.path,
            context or self.context,
            (),
        )

    def merge(self, path: UpdatePath) -> RatchetTree:
        return merged(self.suite, self.tree, self.sender, path, self.group_id)


@pytest.mark.rule("RFC 9420 §7.6")
def test_a_path_secret_opens_only_in_its_group_context(official: dict[str, Any]):
    it = Opened(official)
    with pytest.raises(VerificationError):
        it.open(context=it.context + b"x")


@pytest.mark.rule("RFC 9420 §7.5")
def test_a_secret_that_does_not_give_the_public_keys_of_the_tree_is_refused(official: dict[str, Any]):
    it = Opened(official)
    steps, _ = treekem.derive_path(it.suite, [step for step, _ in it.after.filtered_direct_path(it.sender)], b"x" * 32)
    with pytest.raises(VerificationError):
        treekem.check_path_keys(it.after, steps)


@pytest.mark.rule("RFC 9420 §7.5")
def test_a_member_without_keys_of_the_path_learns_nothing(official: dict[str, Any]):
    it = Opened(official)
    with pytest.raises(StateError):
        it.open(member=PrivateKeys(it.member.leaf_index, {}))


@pytest.mark.rule("RFC 9420 §12.4.2", "path-form")
def test_a_path_with_a_wrong_number_of_ciphertexts_is_refused(official: dict[str, Any]):
    it = Opened(official)
    first = it.path.nodes[0]
    more = replace(first, encrypted_path_secret=(*first.encrypted_path_secret, *first.encrypted_path_secret))
    with pytest.raises(ValidationError):
        it.merge(replace(it.path, nodes=(more, *it.path.nodes[1:])))


@pytest.mark.rule("RFC 9420 §12.4.2", "path-form")
def test_a_path_with_a_node_too_few_is_refused(official: dict[str, Any]):
    it = Opened(official)
    with pytest.raises(ValidationError):
        it.merge(replace(it.path, nodes=it.path.nodes[:-1]))


@pytest.mark.rule("RFC 9420 §12.4.2", "keys-not-in-tree")
def test_a_path_that_repeats_a_key_of_the_tree_is_refused(official: dict[str, Any]):
    it = Opened(official)
    used = it.tree.public_key(tree_math.leaf_to_node(it.member.leaf_index))
    first = replace(it.path.nodes[0], encryption_key=used)
    with pytest.raises(ValidationError):
        it.merge(replace(it.path, nodes=(first, *it.path.nodes[1:])))


@pytest.mark.rule("RFC 9420 §7.9.2")
def test_a_path_whose_leaf_has_another_parent_hash_is_refused(official: dict[str, Any]):
    it = Opened(official)
    with pytest.raises(VerificationError):
        it.merge(replace(it.path, leaf_node=replace(it.path.leaf_node, parent_hash=b"p" * 32)))


@pytest.mark.rule("RFC 9420 §7.3", "signature")
def test_a_path_whose_leaf_is_not_signed_anew_is_refused(official: dict[str, Any]):
    it = Opened(official)
    _, public = it.suite.derive_key_pair(b"another")
    with pytest.raises(VerificationError):
        it.merge(replace(it.path, leaf_node=replace(it.path.leaf_node, encryption_key=public)))


@pytest.mark.rule("RFC 9420 §12.4.2", "new-encryption-key")
def test_a_path_whose_leaf_keeps_its_key_is_refused(official: dict[str, Any]):
    it = Opened(official)
    before = it.tree.leaf(it.sender)
    assert before is not None
    with pytest.raises(ValidationError):
        it.merge(replace(it.path, leaf_node=replace(it.path.leaf_node, encryption_key=before.encryption_key)))


@pytest.mark.rule("RFC 9420 §9.2")
def test_keys_of_blanked_nodes_are_forgotten(official: dict[str, Any]):
    it = Opened(official)
    blanked = it.tree.remove_leaf(it.sender)
    kept = it.member.pruned(blanked)
    assert all(not blanked.is_blank(node) for node in kept.keys)
    assert tree_math.leaf_to_node(it.member.leaf_index) in kept.keys


def test_private_keys_survive_being_saved(official: dict[str, Any]):
    it = Opened(official)
    assert PrivateKeys.decode(it.member.encode()) == it.member
