"""Update paths: each rule of RFC 9420 §7.5, §7.6 and §12.4.2 that needs no secret, by the refusal of a commit."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from heliograph.mls.commit import Commit, UpdatePath
from heliograph.mls.errors import MLSError, ValidationError, VerificationError
from heliograph.mls.extension import Extension
from heliograph.mls.framing import MLSMessage, PublicMessage, Sender
from heliograph.mls.leaf_node import LeafNode, LeafNodeSource
from heliograph.mls.proposal import GroupContextExtensions, Remove
from heliograph.mls.public_group import PublicGroup
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import Random, cipher_suite
from heliograph.mls.tree_math import LeafIndex
from tests.mls import honest
from tests.mls.honest import NOW_S

SUITE = cipher_suite(1)


@pytest.fixture
def members(seeded_random: Random) -> list[honest.Client]:
    return honest.clients(8, seeded_random)


@pytest.fixture
def group(members: list[honest.Client]) -> PublicGroup:
    """A group of five after a commit by member 2."""
    group = honest.group_of(members[:5])
    return commit(group, honest.commit_message(members[2], 2, group))


def commit(group: PublicGroup, message: bytes) -> PublicGroup:
    return group.receive_commit(message, now_s=NOW_S)[0]


def refuse_commit(group: PublicGroup, message: bytes, fault: str, error: type[MLSError] = ValidationError) -> None:
    with pytest.raises(error, match=fault):
        group.receive_commit(message, now_s=NOW_S)


@pytest.mark.rule("RFC 9420 §12.4", "empty-needs-path")
@pytest.mark.rule("RFC 9420 §12.4", "remove-needs-path")
@pytest.mark.rule("RFC 9420 §12.4", "extensions-need-path")
@pytest.mark.rule("RFC 9420 §12.4.2", "path-populated")
def test_a_commit_that_needs_a_path_has_one(members: list[honest.Client], group: PublicGroup):
    for proposals in ([], [Remove(LeafIndex(4))], [GroupContextExtensions(())]):
        message = honest.commit_message(members[0], 0, group, proposals, with_path=False)
        refuse_commit(group, message, "lacks the path")


def with_leaf(change: Callable[[LeafNode], LeafNode]) -> Callable[[UpdatePath], UpdatePath]:
    return lambda path: replace(path, leaf_node=change(path.leaf_node))


@pytest.mark.rule("RFC 9420 §7.3", "signature")
@pytest.mark.rule("RFC 9420 §7.5")
def test_a_path_whose_leaf_was_not_signed_again_is_refused(members: list[honest.Client], group: PublicGroup):
    old = group.tree.leaf(LeafIndex(2))
    assert old is not None
    assert old.leaf_node_source is LeafNodeSource.COMMIT

    def keep_signature(leaf: LeafNode) -> LeafNode:
        return replace(leaf, signature=old.signature)

    message = honest.commit_message(members[2], 2, group, change_path=with_leaf(keep_signature))
    refuse_commit(group, message, "signature", VerificationError)
    message = honest.commit_message(members[2], 2, group, change_path=with_leaf(lambda _: old))
    refuse_commit(group, message, "already in the tree|in use")


@pytest.mark.rule("RFC 9420 §7.3", "source-commit")
def test_the_leaf_of_a_path_says_that_it_comes_from_a_commit(members: list[honest.Client], group: PublicGroup):
    def as_update(leaf: LeafNode) -> LeafNode:
        return replace(leaf, leaf_node_source=LeafNodeSource.UPDATE, parent_hash=None)

    message = honest.commit_message(members[0], 0, group, change_leaf=as_update)
    refuse_commit(group, message, "leaf_node_source is not commit")


@pytest.mark.rule("RFC 9420 §7.9.2")
@pytest.mark.rule("RFC 9420 §7.5")
@pytest.mark.parametrize("parent_hash", [b"", bytes(32)])
def test_a_path_whose_leaf_has_another_parent_hash_is_refused(
    members: list[honest.Client], group: PublicGroup, parent_hash: bytes
):
    message = honest.commit_message(
        members[0], 0, group, change_leaf=lambda leaf: replace(leaf, parent_hash=parent_hash)
    )
    with pytest.raises(MLSError, match="parent_hash"):
        group.receive_commit(message, now_s=NOW_S)


@pytest.mark.rule("RFC 9420 §7.6")
@pytest.mark.rule("RFC 9420 §12.4.2", "path-form")
def test_a_path_has_one_node_for_each_of_the_filtered_direct_path(members: list[honest.Client], group: PublicGroup):
    for change in (
        lambda path: replace(path, nodes=path.nodes[:-1]),
        lambda path: replace(path, nodes=()),
        lambda path: replace(path, nodes=(*path.nodes, replace(path.nodes[0], encryption_key=b"\x09" * 32))),
    ):
        message = honest.commit_message(members[0], 0, group, change_path=change)
        refuse_commit(group, message, "filtered direct path")


@pytest.mark.rule("RFC 9420 §7.6")
@pytest.mark.rule("RFC 9420 §12.4.2", "path-form")
def test_a_path_has_one_ciphertext_for_each_receiver_also_below_blank_nodes(
    members: list[honest.Client], group: PublicGroup
):
    def with_count(at: int, count: int) -> Callable[[UpdatePath], UpdatePath]:
        def change(path: UpdatePath) -> UpdatePath:
            nodes = list(path.nodes)
            nodes[at] = replace(nodes[at], encrypted_path_secret=tuple(nodes[at].encrypted_path_secret[:1]) * count)
            return replace(path, nodes=tuple(nodes))

        return change

    # Member 0's copath: leaf 1, then the parent of 2 and 3, then leaf 4 alone.
    for at, count in ((0, 0), (0, 2), (1, 0), (1, 2), (2, 0), (2, 3)):
        message = honest.commit_message(members[0], 0, group, change_path=with_count(at, count))
        refuse_commit(group, message, "ciphertext")
    blank = honest.group_of(members[:4])
    assert blank.tree.resolution(blank.tree.filtered_direct_path(LeafIndex(0))[1][1]) == (4, 6)
    for count in (0, 1, 3):
        message = honest.commit_message(members[0], 0, blank, change_path=with_count(1, count))
        refuse_commit(blank, message, "ciphertext")


@pytest.mark.rule("RFC 9420 §7.6")
@pytest.mark.parametrize(
    "spoiled", [{"kem_output": b""}, {"kem_output": bytes(33)}, {"ciphertext": b""}, {"ciphertext": bytes(47)}]
)
def test_a_ciphertext_that_its_one_receiver_could_not_open_is_refused_by_all(
    spoiled: dict[str, bytes], members: list[honest.Client], group: PublicGroup
):
    def change(path: UpdatePath) -> UpdatePath:
        last = path.nodes[-1]
        sealed = (replace(last.encrypted_path_secret[0], **spoiled), *last.encrypted_path_secret[1:])
        return replace(path, nodes=(*path.nodes[:-1], replace(last, encrypted_path_secret=sealed)))

    message = honest.commit_message(members[0], 0, group, change_path=change)
    refuse_commit(group, message, "no receiver could open")


@pytest.mark.rule("RFC 9420 §7.6")
def test_a_path_has_no_ciphertext_for_those_whom_the_commit_adds(members: list[honest.Client], group: PublicGroup):
    add = honest.add_of(members[5])
    message = honest.commit_message(members[0], 0, group, [add])
    body = MLSMessage.decode(message).body
    assert isinstance(body, PublicMessage)
    content = body.content.content
    assert isinstance(content, Commit)
    assert content.path is not None
    assert [len(node.encrypted_path_secret) for node in content.path.nodes] == [1, 1, 1]
    commit(group, message)


@pytest.mark.rule("RFC 9420 §12.4.2", "keys-not-in-tree")
def test_no_key_of_a_path_is_in_the_tree_or_in_the_path_twice(members: list[honest.Client], group: PublicGroup):
    other = group.tree.public_key(group.tree.filtered_direct_path(LeafIndex(2))[-1][0])
    own = group.tree.leaf(LeafIndex(0))
    assert own is not None

    def with_key(at: int, key: bytes) -> Callable[[UpdatePath], UpdatePath]:
        def change(path: UpdatePath) -> UpdatePath:
            nodes = list(path.nodes)
            nodes[at] = replace(nodes[at], encryption_key=key)
            return replace(path, nodes=tuple(nodes))

        return change

    for change in (
        with_key(0, other),
        with_key(2, own.encryption_key),
        lambda path: with_key(1, path.nodes[0].encryption_key)(path),
        lambda path: with_key(1, path.leaf_node.encryption_key)(path),
    ):
        refuse_commit(group, honest.commit_message(members[0], 0, group, change_path=change), "in use|twice|already")
    for bad in (bytes(32), b"", b"short"):
        message = honest.commit_message(members[0], 0, group, change_path=with_key(0, bad))
        refuse_commit(group, message, "of the cipher suite")


@pytest.mark.rule("RFC 9420 §12.4.2", "new-encryption-key")
def test_the_leaf_of_a_path_has_a_new_encryption_key(members: list[honest.Client], group: PublicGroup):
    own = group.tree.leaf(LeafIndex(0))
    assert own is not None
    message = honest.commit_message(
        members[0], 0, group, change_leaf=lambda leaf: replace(leaf, encryption_key=own.encryption_key)
    )
    refuse_commit(group, message, "in use|already")


@pytest.mark.rule("RFC 9420 §7.3", "unique-signature-key")
def test_a_committer_may_change_its_signature_key_but_not_to_another_members(
    members: list[honest.Client], group: PublicGroup
):
    def rekeyed(client: honest.Client) -> bytes:
        sender = Sender.member(LeafIndex(0))
        path = honest.update_path(replace(members[0], keys=client.keys), 0, group.tree)
        return honest.travelling(honest.framed(members[0], sender, group, Commit((), path)))

    after = commit(group, rekeyed(members[6]))
    assert after.tree.leaf(LeafIndex(0)).signature_key == members[6].keys.public  # pyright: ignore[reportOptionalMemberAccess]
    refuse_commit(group, rekeyed(members[1]), "signature_key of another member")


@pytest.mark.rule("RFC 9420 §7.3", "group-extensions")
def test_a_committers_new_leaf_still_supports_what_the_group_uses(members: list[honest.Client], group: PublicGroup):
    able = replace(honest.CAPABILITIES, extensions=(0xF001,))
    tree = RatchetTree.of_leaf(members[0].bundle(capabilities=able).key_package.leaf_node)
    context = honest.context_of(SUITE, tree, [Extension(0xF001, b"")])
    group = PublicGroup.open(honest.group_info(members[0], 0, context), tree, now_s=NOW_S)
    commit(
        group,
        honest.commit_message(members[0], 0, group, change_leaf=lambda leaf: replace(leaf, capabilities=able)),
    )
    refuse_commit(group, honest.commit_message(members[0], 0, group), "extension of the group context")
