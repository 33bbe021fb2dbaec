"""The ratchet tree: official operations and validations, values that never change, and every unsound tree refused."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.mls import tree_math
from heliograph.mls.codec import Writer
from heliograph.mls.errors import DecodeError, ValidationError, VerificationError
from heliograph.mls.extension import Extension, RequiredCapabilities
from heliograph.mls.group_context import GroupContext
from heliograph.mls.leaf_node import Capabilities, Credential, LeafNode, Lifetime
from heliograph.mls.parent_node import ParentNode, parent_hash
from heliograph.mls.proposal import Add, Remove, Update, decode_proposal
from heliograph.mls.ratchet_tree import MAX_LEAVES, RatchetTree
from heliograph.mls.suite import Random, cipher_suite
from heliograph.mls.tree_math import LeafIndex, NodeIndex
from tests import vectors
from tests.mls import honest
from tests.mls.honest import NOW_S

SUITE = cipher_suite(1)


# --- the official vectors -----------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §7.7")
@pytest.mark.rule("RFC 9420 §12.1.1", "unmerged-above")
@pytest.mark.rule("RFC 9420 §12.1.3", "tree-cut-back")
def test_official_operations_lead_to_the_official_trees():
    for case in vectors.cases("mls/tree-operations.json", vectors.SUITES):
        suite = cipher_suite(case["cipher_suite"])
        tree = RatchetTree.decode(bytes.fromhex(case["tree_before"]))
        assert tree.tree_hash(suite).hex() == case["tree_hash_before"]
        proposal = decode_proposal(bytes.fromhex(case["proposal"]))
        if isinstance(proposal, Add):
            tree, _ = tree.add_leaf(proposal.key_package.leaf_node)
        elif isinstance(proposal, Update):
            tree = tree.update_leaf(LeafIndex(case["proposal_sender"]), proposal.leaf_node)
        else:
            assert isinstance(proposal, Remove)
            tree = tree.remove_leaf(proposal.removed)
        assert tree.encode().hex() == case["tree_after"]
        assert tree.tree_hash(suite).hex() == case["tree_hash_after"]


@pytest.mark.rule("RFC 9420 §7.8")
@pytest.mark.rule("RFC 9420 §7.9.2")
@pytest.mark.rule("RFC 9420 §4.1.1")
def test_official_trees_are_valid_with_the_official_hashes_and_resolutions():
    for case in vectors.cases("mls/tree-validation.json", vectors.SUITES):
        suite = cipher_suite(case["cipher_suite"])
        tree = RatchetTree.decode(bytes.fromhex(case["tree"]))
        nodes = [NodeIndex(i) for i in range(len(case["tree_hashes"]))]
        assert tree.encode().hex() == case["tree"]
        assert [tree.tree_hash(suite, node).hex() for node in nodes] == case["tree_hashes"]
        assert [list(tree.resolution(node)) for node in nodes] == case["resolutions"]
        group_id = bytes.fromhex(case["group_id"])
        tree.validate(suite, GroupContext(1, suite.id, group_id, 0, tree.tree_hash(suite), b""), now_s=None)


@pytest.mark.rule("RFC 9420 §7.9.2")
def test_an_official_tree_with_any_one_parent_key_changed_is_not_parent_hash_valid():
    spoiled = 0
    for case in vectors.cases("mls/tree-validation.json", (1,)):
        tree = RatchetTree.decode(bytes.fromhex(case["tree"]))
        for i in range(1, len(case["tree_hashes"]), 2):
            parent_node = tree.parent(NodeIndex(i))
            if parent_node is not None and spoiled < 40:
                other = replace(parent_node, encryption_key=b"\x09" * 32)
                refuse(changed(tree, i, other), "parent-hash", group_id=bytes.fromhex(case["group_id"]))
                spoiled += 1
    assert spoiled == 40


# --- helpers ------------------------------------------------------------------------------------------------------


def changed(tree: RatchetTree, node: int, value: LeafNode | ParentNode | None) -> RatchetTree:
    """Return the tree with another node in one place, as a liar would send it."""
    nodes = tree.nodes()
    nodes[node] = value
    return RatchetTree(nodes)


def check(tree: RatchetTree, group_id: bytes = honest.GROUP_ID, **context: object) -> None:
    described = GroupContext(1, SUITE.id, group_id, 3, tree.tree_hash(SUITE), b"")
    tree.validate(SUITE, replace(described, **context), now_s=NOW_S)


def refuse(
    tree: RatchetTree,
    fault: str,
    error: type[Exception] = ValidationError,
    *,
    group_id: bytes = honest.GROUP_ID,
    **context: object,
) -> None:
    with pytest.raises(error, match=fault):
        check(tree, group_id, **context)


def after_path(
    members: Mapping[int, honest.Client] | Sequence[honest.Client], sender: int, tree: RatchetTree
) -> RatchetTree:
    """Return the tree after an empty commit of one member."""
    path = honest.update_path(members[sender], sender, tree)
    merged, _ = tree.merge_path(SUITE, LeafIndex(sender), [node.encryption_key for node in path.nodes])
    return merged.set_leaf(LeafIndex(sender), path.leaf_node)


@pytest.fixture
def members(seeded_random: Random) -> list[honest.Client]:
    return honest.clients(9, seeded_random)


@pytest.fixture
def tree(members: list[honest.Client]) -> RatchetTree:
    """A tree of eight with paths of members 1 and 6, and a ninth member unmerged after them."""
    tree = honest.tree_of(members[:7])
    tree = after_path(members, 6, after_path(members, 1, tree))
    tree, _ = tree.add_leaf(members[7].bundle().key_package.leaf_node)
    return tree


# --- the shape ----------------------------------------------------------------------------------------------------


@pytest.mark.rule("RFC 9420 §12.1.3", "tree-cut-back")
def test_a_tree_grows_by_doubling_and_is_cut_back_when_its_right_half_is_empty(members: list[honest.Client]):
    tree = honest.tree_of(members[:5])
    assert tree.leaf_count == 8
    assert len(tree.members()) == 5
    assert tree.remove_leaf(LeafIndex(4)).leaf_count == 4
    assert tree.remove_leaf(LeafIndex(3)).leaf_count == 8


@pytest.mark.rule("RFC 9420 §12.1.1", "leftmost-leaf")
@pytest.mark.rule("RFC 9420 §12.1.1", "unmerged-above")
def test_a_new_leaf_goes_to_the_leftmost_blank_place_and_is_unmerged_above(
    members: list[honest.Client], tree: RatchetTree
):
    parents = [tree.parent(NodeIndex(node)) for node in (7, 11, 13)]
    assert [None if found is None else found.unmerged_leaves for found in parents] == [(7,), (7,), None]
    smaller = tree.remove_leaf(LeafIndex(2)).remove_leaf(LeafIndex(4))
    _, place = smaller.add_leaf(members[8].bundle().key_package.leaf_node)
    assert place == 2


@pytest.mark.rule("RFC 9420 §12.3", "order")
@pytest.mark.rule("RFC 9420 §12.3", "adds-in-order")
def test_many_changes_at_once_are_made_in_the_order_of_the_rfc(members: list[honest.Client], tree: RatchetTree):
    update = members[3].update(3)
    leaf = members[8].bundle().key_package.leaf_node
    other = honest.add_of(members[2]).key_package.leaf_node
    together, places = tree.apply(
        updated={LeafIndex(3): update}, removed=[LeafIndex(2), LeafIndex(7)], added=[leaf, other]
    )
    one_by_one = tree.update_leaf(LeafIndex(3), update).remove_leaf(LeafIndex(2)).remove_leaf(LeafIndex(7))
    one_by_one, first = one_by_one.add_leaf(leaf)
    one_by_one, second = one_by_one.add_leaf(other)
    assert together == one_by_one
    assert places == (first, second) == (2, 7)


def test_a_leaf_that_is_not_there_cannot_be_changed(members: list[honest.Client], tree: RatchetTree):
    smaller = tree.remove_leaf(LeafIndex(2))
    for index in (2, 8, 2**32 - 1):
        assert smaller.leaf(LeafIndex(index)) is None
        with pytest.raises(ValidationError, match="blank"):
            smaller.remove_leaf(LeafIndex(index))
        with pytest.raises(ValidationError, match="blank"):
            smaller.update_leaf(LeafIndex(index), members[2].update(2))


def test_an_operation_leaves_the_old_tree_whole(members: list[honest.Client], tree: RatchetTree):
    encoded, root = tree.encode(), tree.tree_hash(SUITE)
    for operation in (
        lambda: tree.add_leaf(members[8].bundle().key_package.leaf_node)[0],
        lambda: tree.update_leaf(LeafIndex(1), members[1].update(1)),
        lambda: tree.remove_leaf(LeafIndex(7)),
        lambda: after_path(members, 4, tree),
        lambda: tree.reserve_leaf()[0],
    ):
        operation().tree_hash(SUITE)
        assert tree.encode() == encoded
        assert tree.tree_hash(SUITE) == root == RatchetTree.decode(encoded).tree_hash(SUITE)


def test_every_operation_forgets_exactly_the_hashes_that_it_changes(members: list[honest.Client], tree: RatchetTree):
    tree.tree_hash(SUITE)
    after = after_path(members, 4, tree)
    shared = {i for i in range(15) if after._root.at(NodeIndex(i)) is tree._root.at(NodeIndex(i))}
    assert shared == set(range(15)) - {7, 8, 9, 11}
    assert all(after._root.at(NodeIndex(i))._hash is not None for i in shared)
    fresh = RatchetTree.decode(after.encode())
    assert [after.tree_hash(SUITE, NodeIndex(i)) for i in range(15)] == [
        fresh.tree_hash(SUITE, NodeIndex(i)) for i in range(15)
    ]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "update", "remove", "path"]), st.integers(0, 30)), max_size=20))
def test_a_tree_after_any_operations_is_the_one_that_its_encoding_gives(steps: list[tuple[str, int]]):
    clients = iter(honest.clients(len(steps) + 1, random.Random(len(steps)).randbytes))
    tree = RatchetTree.of_leaf(next(clients).bundle().key_package.leaf_node)
    tree.check_unique_keys()  # from here on, the keys are counted by what changes
    for operation, number in steps:
        leaf_index = tree.members()[number % len(tree.members())].leaf_index
        if operation == "add":
            tree, _ = tree.add_leaf(next(clients).bundle().key_package.leaf_node)
        elif operation == "update":
            tree = tree.update_leaf(leaf_index, next(clients).update(leaf_index))
        elif operation == "path":
            tree = after_path({leaf_index: next(clients)}, leaf_index, tree)
        elif len(tree.members()) > 1:
            tree = tree.remove_leaf(leaf_index)
        fresh = RatchetTree.decode(tree.encode())
        assert tree == fresh
        assert tree.tree_hash(SUITE) == fresh.tree_hash(SUITE)
        assert len(tree.members()) == sum(node is not None for node in tree.nodes()[::2])
        for i, node in enumerate(tree.nodes()):
            index = NodeIndex(i)
            assert tree.resolution(index) == fresh.resolution(index)
            assert len(tree.resolution(index)) == tree.resolution_size(index)
            assert node is None or tree.has_encryption_key(node.encryption_key)
        tree.check_unique_keys()
        tree.check_capabilities(())


def test_keys_that_have_left_a_tree_may_come_again(members: list[honest.Client], tree: RatchetTree):
    tree.check_unique_keys()
    gone = tree.leaf(LeafIndex(7))
    assert gone is not None
    without = tree.remove_leaf(LeafIndex(7))
    assert not without.has_encryption_key(gone.encryption_key)
    assert not without.has_signature_key(gone.signature_key)
    again, _ = without.add_leaf(gone)
    again.check_unique_keys()
    twice, _ = again.add_leaf(gone)
    with pytest.raises(ValidationError, match="same encryption_key"):
        twice.check_unique_keys()


@pytest.mark.rule("RFC 9420 §4.1.2")
def test_the_filtered_direct_path_leaves_out_nodes_beside_nobody(members: list[honest.Client]):
    tree = honest.tree_of(members[:5])
    assert tree.filtered_direct_path(LeafIndex(4)) == ((7, 3),)
    assert tree.filtered_direct_path(LeafIndex(0)) == ((1, 2), (3, 5), (7, 11))
    assert honest.tree_of(members[:1]).filtered_direct_path(LeafIndex(0)) == ()


@pytest.mark.rule("RFC 9420 §7.5")
def test_a_path_of_another_length_cannot_be_merged(members: list[honest.Client], tree: RatchetTree):
    keys = [members[0].fresh_key() for _ in range(4)]
    for wrong in (keys[:2], keys):
        with pytest.raises(ValidationError, match="filtered direct path"):
            tree.merge_path(SUITE, LeafIndex(0), wrong)


def test_a_blank_node_has_no_public_key(tree: RatchetTree):
    with pytest.raises(ValidationError, match="blank"):
        tree.public_key(NodeIndex(5))


# --- the encoding -------------------------------------------------------------------------------------------------


def vector_of(*nodes: bytes) -> bytes:
    writer = Writer()
    writer.opaque(b"".join(nodes))
    return writer.getvalue()


def node_bytes(value: LeafNode | ParentNode | None) -> bytes:
    if value is None:
        return b"\0"
    return (b"\1\1" if isinstance(value, LeafNode) else b"\1\2") + value.encode()


@pytest.mark.rule("RFC 9420 §12.4.3.3", "last-node-in-use")
def test_a_tree_that_ends_with_a_blank_node_or_is_empty_is_refused(members: list[honest.Client]):
    leaf = node_bytes(members[0].bundle().key_package.leaf_node)
    assert RatchetTree.decode(vector_of(leaf)).leaf_count == 1
    for nodes in ((), (leaf, b"\0"), (leaf, b"\0", b"\0"), (b"\0",)):
        with pytest.raises(DecodeError, match="does not end with a node in use"):
            RatchetTree.decode(vector_of(*nodes))


def test_a_leaf_in_a_parents_place_is_refused_and_the_reverse(members: list[honest.Client]):
    leaf = node_bytes(members[0].bundle().key_package.leaf_node)
    parent_node = node_bytes(ParentNode(b"\x09" * 32))
    for nodes in ((leaf, leaf), (parent_node,), (leaf, b"\0", parent_node)):
        with pytest.raises(DecodeError, match="place"):
            RatchetTree.decode(vector_of(*nodes))


@pytest.mark.rule("RFC 9420 §12.4.3.3", "extended")
def test_a_tree_is_extended_with_blanks_to_the_next_full_size(members: list[honest.Client]):
    tree = honest.tree_of(members[:5])
    assert RatchetTree.decode(tree.encode()) == tree
    assert RatchetTree.decode(tree.encode()).leaf_count == 8


@pytest.mark.bad_input(76)
def test_a_tree_has_a_largest_size(members: list[honest.Client]):
    leaf = members[0].bundle().key_package.leaf_node
    with pytest.raises(DecodeError, match="more leaves"):
        RatchetTree.decode(vector_of(b"\0" * (2 * MAX_LEAVES), node_bytes(leaf)))
    # The surplus is not even read: what stands in it is no node.
    with pytest.raises(DecodeError, match="more leaves"):
        RatchetTree.decode(vector_of(b"\0" * (2 * MAX_LEAVES - 1), b"\xff" * 1000))
    full = RatchetTree([leaf] * (2 * MAX_LEAVES - 1))
    with pytest.raises(ValidationError, match="as many leaves"):
        full.add_leaf(leaf)


# --- validation ---------------------------------------------------------------------------------------------------


def test_an_honest_tree_is_valid(tree: RatchetTree):
    check(tree)
    check(RatchetTree.decode(tree.encode()))


@pytest.mark.rule("RFC 9420 §12.4.3.1", "tree-hash")
def test_a_tree_with_another_hash_than_the_context_says_is_refused(tree: RatchetTree):
    refuse(tree, "tree hash", VerificationError, tree_hash=bytes(32))


@pytest.mark.rule("RFC 9420 §12.4.3.1", "unmerged-leaves")
@pytest.mark.rule("RFC 9420 §7.1")
@pytest.mark.parametrize(
    ("node", "leaves", "fault"),
    [
        (11, (7, 8), "not a descendant"),
        (3, (7,), "not a descendant"),
        (11, (7, 2**32 - 1), "not a descendant"),
        (7, (4, 7), "missing in a node between"),
        (11, (), "missing in a node between"),
        (7, (7, 7), "increasing order"),
        (11, (7, 4), "increasing order"),
    ],
)
def test_unmerged_leaves_are_sorted_descendants_known_to_all_between(
    tree: RatchetTree, node: int, leaves: tuple[int, ...], fault: str
):
    parent_node = tree.parent(NodeIndex(node))
    assert parent_node is not None
    spoiled = replace(parent_node, unmerged_leaves=tuple(map(LeafIndex, leaves)))
    refuse(changed(tree, node, spoiled), fault)


@pytest.mark.rule("RFC 9420 §12.4.3.1", "unmerged-leaves")
def test_an_unmerged_leaf_is_in_use(tree: RatchetTree):
    refuse(changed(tree, 14, None), "unmerged leaf is blank")


@pytest.mark.rule("RFC 9420 §7.9.2")
@pytest.mark.parametrize("node", [1, 3, 7, 11])
@pytest.mark.parametrize("field", ["encryption_key", "parent_hash"])
def test_a_parent_node_that_no_member_vouches_for_is_refused(tree: RatchetTree, node: int, field: str):
    parent_node = tree.parent(NodeIndex(node))
    assert parent_node is not None
    refuse(changed(tree, node, replace(parent_node, **{field: b"\x09" * 32})), "parent-hash")


@pytest.mark.rule("RFC 9420 §7.9.2")
def test_a_parent_node_put_above_members_who_never_made_it_is_refused(tree: RatchetTree):
    assert tree.is_blank(NodeIndex(5))
    refuse(changed(tree, 5, ParentNode(b"\x09" * 32)), "parent-hash")


@pytest.mark.rule("RFC 9420 §7.7")
@pytest.mark.rule("RFC 9420 §7.9.2")
@pytest.mark.parametrize("width", [2, 4])
def test_a_parent_node_above_an_empty_half_is_refused_even_when_its_maker_signed_for_it(
    width: int, members: list[honest.Client]
):
    # Such a tree is wider than its leaves need, so whoever saves it after the root is blanked would save another.
    nodes = [member.bundle().key_package.leaf_node for member in members[: width // 2]]
    wide = RatchetTree([node for leaf in (*nodes, *[None] * len(nodes)) for node in (leaf, None)][:-1])
    unmerged = tuple(map(LeafIndex, range(1, len(nodes))))
    top = ParentNode(members[0].fresh_key(), unmerged_leaves=unmerged)
    carried = parent_hash(SUITE, top, wide.tree_hash(SUITE, tree_math.right(tree_math.root(width))))
    signed = honest.resigned(members[0], honest.update_path(members[0], 0, wide).leaf_node, 0, parent_hash=carried)
    refuse(changed(wide.set_leaf(LeafIndex(0), signed), tree_math.root(width), top), "empty subtree")


@pytest.mark.rule("RFC 9420 §7.1")
def test_a_parent_key_that_is_no_key_is_refused_even_when_its_maker_signed_for_it(members: list[honest.Client]):
    tree = honest.tree_of(members[:2])
    spoiled, parent_hash = tree.merge_path(SUITE, LeafIndex(0), [bytes(32)])
    honest_leaf = honest.update_path(members[0], 0, tree).leaf_node
    leaf = honest.resigned(members[0], honest_leaf, 0, parent_hash=parent_hash)
    refuse(spoiled.set_leaf(LeafIndex(0), leaf), "encryption_key is not of the cipher suite")


@pytest.mark.rule("RFC 9420 §7.9")
def test_a_leaf_added_under_the_sibling_does_not_break_the_parent_hash(members: list[honest.Client], tree: RatchetTree):
    smaller = after_path(members, 1, tree.remove_leaf(LeafIndex(7)))
    larger, _ = smaller.add_leaf(members[8].bundle().key_package.leaf_node)
    check(larger)


@pytest.mark.rule("RFC 9420 §7.3", "unique-encryption-key")
@pytest.mark.rule("RFC 9420 §12.4.3.1", "parent-keys-unique")
def test_no_two_nodes_share_an_encryption_key(members: list[honest.Client], tree: RatchetTree):
    copied = honest.resigned(members[2], members[2].update(2), 2, encryption_key=tree.public_key(NodeIndex(0)))
    refuse(changed(tree, 4, copied), "same encryption_key")
    beneath = honest.resigned(members[7], members[7].update(7), 7, encryption_key=tree.public_key(NodeIndex(3)))
    refuse(changed(tree, 14, beneath), "same encryption_key")


@pytest.mark.rule("RFC 9420 §7.3", "unique-signature-key")
def test_no_two_leaves_share_a_signature_key(members: list[honest.Client], tree: RatchetTree):
    refuse(changed(tree, 14, members[0].update(7)), "same signature_key")


@pytest.mark.rule("RFC 9420 §7.3", "signature")
def test_every_leaf_is_signed_for_its_group_and_place(members: list[honest.Client], tree: RatchetTree):
    refuse(tree, "signature", VerificationError, group_id=b"another group")
    moved = members[7].update(6)
    refuse(changed(tree, 14, moved), "signature", VerificationError)


@pytest.mark.rule("RFC 9420 §7.3", "version-and-suite")
@pytest.mark.rule("RFC 9420 §7.3", "own-extensions-listed")
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda leaf: replace(leaf, capabilities=Capabilities(cipher_suites=(2,))), "cipher suite"),
        (lambda leaf: replace(leaf, extensions=(Extension(0xF001, b""),)), "do not list"),
        (lambda leaf: replace(leaf, encryption_key=bytes(32)), "encryption_key"),
    ],
)
@pytest.mark.rule("RFC 9420 §12.4.3.1", "leaves-valid")
def test_every_leaf_of_a_tree_keeps_the_rules_for_leaves(
    members: list[honest.Client], tree: RatchetTree, change: Callable[[LeafNode], LeafNode], fault: str
):
    refuse(changed(tree, 14, members[7].update(7, change)), fault)


@pytest.mark.rule("RFC 9420 §7.3", "credential-read-by-all")
@pytest.mark.rule("RFC 9420 §13.3")
def test_every_member_reads_every_credential(members: list[honest.Client], tree: RatchetTree):
    def foreign(leaf: LeafNode) -> LeafNode:
        both = Capabilities(credentials=(1, 0xF001))
        return replace(leaf, credential=Credential(0xF001, b"new"), capabilities=both)

    refuse(changed(tree, 14, members[7].update(7, foreign)), "credential type in use")


@pytest.mark.rule("RFC 9420 §13.4")
@pytest.mark.rule("RFC 9420 §11.1")
def test_every_member_supports_what_the_group_context_asks_for(tree: RatchetTree):
    refuse(tree, "extension of the group context", extensions=(Extension(0xF001, b""),))
    required = RequiredCapabilities(proposal_types=(0xF001,))
    refuse(tree, "proposal type", extensions=(required.to_extension(),))
    check(tree, extensions=(RequiredCapabilities((1,), (1,), (1,)).to_extension(),))


@pytest.mark.rule("RFC 9420 §7.3", "lifetime-received")
def test_a_member_may_stay_longer_than_its_key_package_lived_but_not_come_from_the_future(
    members: list[honest.Client],
):
    def with_lifetime(lifetime: Lifetime) -> RatchetTree:
        return RatchetTree.of_leaf(members[0].bundle(lifetime=lifetime).key_package.leaf_node)

    check(with_lifetime(Lifetime(NOW_S - 100 * honest.DAY_S, NOW_S - 70 * honest.DAY_S)))
    refuse(with_lifetime(Lifetime(NOW_S + 10, NOW_S + 20)), "not begun")
    refuse(with_lifetime(Lifetime(NOW_S - 10, NOW_S + 92 * honest.DAY_S)), "longer than the limit")


def test_a_tree_says_how_large_it_is(tree: RatchetTree):
    assert repr(tree) == "RatchetTree(8 members, 8 leaves)"
    assert hash(tree) == hash(RatchetTree.decode(tree.encode()))
