"""The secret tree: right keys, each once, and nothing kept that was used."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.mls.errors import StateError, ValidationError
from heliograph.mls.framing import ContentType
from heliograph.mls.secret_tree import MAX_SKIPPED_KEYS, MAX_STEPS, SecretTree
from heliograph.mls.suite import cipher_suite
from heliograph.mls.tree_math import LeafIndex
from tests import vectors

SUITE = cipher_suite(1)
SECRET = b"\x2a" * 32
LEAF = LeafIndex(2)
APPLICATION = ContentType.APPLICATION
HANDSHAKE = ContentType.COMMIT


def tree(leaf_count: int = 8) -> SecretTree:
    return SecretTree.create(SUITE, 5, leaf_count, SECRET)


def take(secret_tree: SecretTree, *generations: int) -> SecretTree:
    for generation in generations:
        secret_tree, _ = secret_tree.take_key(LEAF, APPLICATION, generation)
    return secret_tree


@pytest.mark.rule("RFC 9420 §9")
def test_every_key_of_every_leaf_is_the_one_that_the_vectors_name():
    for case in vectors.cases("mls/secret-tree.json", vectors.SUITES):
        suite = cipher_suite(case["cipher_suite"])
        keys = SecretTree.create(suite, 0, len(case["leaves"]), bytes.fromhex(case["encryption_secret"]))
        for leaf, generations in enumerate(case["leaves"]):
            for want in generations:
                for kind, content_type in (("handshake", HANDSHAKE), ("application", APPLICATION)):
                    keys, got = keys.take_key(LeafIndex(leaf), content_type, want["generation"])
                    assert got.key == bytes.fromhex(want[f"{kind}_key"])
                    assert got.nonce == bytes.fromhex(want[f"{kind}_nonce"])


@pytest.mark.rule("RFC 9420 §9.1")
def test_sender_and_receiver_take_the_same_keys():
    sending = receiving = tree()
    for generation in range(5):
        sending, sent = sending.next_key(LEAF, APPLICATION)
        receiving, received = receiving.take_key(LEAF, APPLICATION, generation)
        assert sent == received
    assert sending.rows == receiving.rows


@pytest.mark.rule("RFC 9420 §9.2")
def test_a_key_can_be_taken_only_once():
    with pytest.raises(StateError):
        take(tree(), 0, 0)


@pytest.mark.rule("RFC 9420 §9.2")
def test_a_skipped_key_can_be_taken_once_and_late():
    late = take(tree(), 3, 1)
    with pytest.raises(StateError):
        take(late, 1)


@pytest.mark.rule("RFC 9420 §9.2")
def test_keys_come_in_any_order_the_same():
    in_order, _ = tree(), None
    keys = {}
    for generation in range(6):
        in_order, keys[generation] = in_order.take_key(LEAF, APPLICATION, generation)
    mixed = tree()
    for generation in (5, 0, 3, 1, 4, 2):
        mixed, taken = mixed.take_key(LEAF, APPLICATION, generation)
        assert taken == keys[generation]
    assert mixed.rows == in_order.rows


@pytest.mark.rule("RFC 9420 §9.1")
def test_a_jump_of_a_thousand_steps_is_taken_and_one_more_is_refused():
    take(tree(), MAX_STEPS - 1)
    with pytest.raises(ValidationError):
        take(tree(), MAX_STEPS)


@pytest.mark.rule("RFC 9420 §9.1")
def test_a_huge_generation_is_refused_before_any_work():
    with pytest.raises(ValidationError):
        take(tree(), 0xFFFFFFFF)


@pytest.mark.rule("RFC 9420 §9.2")
def test_only_the_newest_skipped_keys_are_kept():
    jumped = take(tree(), 100)
    take(jumped, 100 - MAX_SKIPPED_KEYS)
    with pytest.raises(StateError):
        take(jumped, 100 - MAX_SKIPPED_KEYS - 1)


@pytest.mark.rule("RFC 9420 §9.2")
def test_skipped_keys_are_limited_over_all_jumps_together():
    jumped = take(tree(), 40, 80)
    take(jumped, 80 - MAX_SKIPPED_KEYS)
    with pytest.raises(StateError):
        take(jumped, 80 - MAX_SKIPPED_KEYS - 2)


@pytest.mark.rule("RFC 9420 §9.2")
def test_the_secrets_above_a_used_leaf_are_deleted():
    before = tree()
    after = take(before, 0)
    assert all(SECRET not in row for row in after.rows.values())
    used = set(after.rows)
    assert used == {f"secret_tree/5/{row}" for row in ("leaf_count", "leaf/2", "node/6", "node/1", "node/11")}


@pytest.mark.rule("RFC 9420 §9.2")
def test_the_ratchet_secret_behind_a_used_key_is_deleted():
    before = take(tree(), 0)
    after = take(before, 1)
    old_secret = before.rows["secret_tree/5/leaf/2"][4:36]
    assert all(old_secret not in row for row in after.rows.values())


@pytest.mark.rule("RFC 9420 §9.1")
def test_handshake_and_application_ratchets_do_not_share_keys():
    _, application = tree().next_key(LEAF, APPLICATION)
    _, handshake = tree().next_key(LEAF, HANDSHAKE)
    assert application.key != handshake.key


def test_a_leaf_outside_the_tree_is_refused():
    with pytest.raises(ValidationError):
        tree().take_key(LeafIndex(8), APPLICATION, 0)


def test_taking_a_key_leaves_the_old_tree_as_it_was():
    before = tree()
    rows = dict(before.rows)
    before.take_key(LEAF, APPLICATION, 7)
    assert before.rows == rows


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=40))
def test_whatever_the_order_a_key_is_given_once_and_is_always_the_same(requests: list[tuple[int, int]]):
    secret_tree = tree(4)
    taken: set[tuple[int, int]] = set()
    for leaf, generation in requests:
        _, reference = tree(4).take_key(LeafIndex(leaf), APPLICATION, generation)
        try:
            secret_tree, key = secret_tree.take_key(LeafIndex(leaf), APPLICATION, generation)
        except StateError:
            assert (leaf, generation) in taken
            continue
        assert key == reference
        assert (leaf, generation) not in taken
        taken.add((leaf, generation))
    assert {(leaf, generation) for leaf, generation in requests} == taken
