"""A group that is saved and loaded, and how little of it changes with a message."""

import pytest

from heliograph.mls.errors import StateError, UnsupportedError
from heliograph.mls.group import Group
from heliograph.mls.secret_tree import MAX_SKIPPED_KEYS
from heliograph.mls.suite import Random
from tests.mls.company import Company

PRIVATE_EXTENSION = 0xF001
FIVE = ("ada", "ben", "cleo", "dan", "eve")


@pytest.fixture
def two(seeded_random: Random) -> Company:
    return Company("ada", "ben", random=seeded_random)


@pytest.fixture
def five(seeded_random: Random) -> Company:
    return Company(*FIVE, random=seeded_random)


# --- saved state --------------------------------------------------------------------------------------------------


def test_a_loaded_group_goes_on_where_the_saved_one_stopped(five: Company):
    five.commit(five["eve"])
    late = five["ben"].seal(b"late")
    five.commit(five["dan"])
    five.propose(five["cleo"])
    for person in five.everyone:
        person.held = Group.load(person.group.rows())
    assert five["ada"].read(late) == b"late"
    five.commit(five["ada"])
    five.check_agreement()


def test_a_loaded_group_gives_the_rows_it_was_loaded_from(five: Company):
    five.commit(five["eve"])
    five.propose(five["cleo"])
    rows = five["cleo"].group.rows()
    assert Group.load(rows).rows() == rows


def test_a_removed_members_state_can_be_saved(two: Company):
    ben = two["ben"]
    two.remove(two["ada"], ben)
    assert not Group.load(ben.group.rows()).is_active


def changed_bytes(before: Group, after: Group) -> int:
    old, new = before.rows(), after.rows()
    changed = sum(len(name) + len(row) for name, row in new.items() if old.get(name) != row)
    return changed + sum(len(name) for name in old if name not in new)


@pytest.mark.parametrize("lost", [0, 1, MAX_SKIPPED_KEYS, 500])
def test_a_message_changes_at_most_four_kib_of_rows(lost: int, seeded_random: Random):
    company = Company(*(f"member {number}" for number in range(70)), random=seeded_random, suite_id=3)
    ada, ben = company["member 0"], company["member 69"]
    for _ in range(lost):
        ada.held, _message = ada.group.seal(b"lost", random=seeded_random)
    sender, receiver = ada.group, ben.group
    message = ada.seal(b"hello")
    ben.receive(message)
    assert changed_bytes(sender, ada.group) <= 4096
    assert changed_bytes(receiver, ben.group) <= 4096


def test_rows_that_a_message_does_not_change_are_the_same_objects(two: Company):
    before = two["ada"].group.rows()
    two["ada"].seal(b"hello")
    after = two["ada"].group.rows()
    changed = {name for name in after if after[name] is not before.get(name)}
    assert all(name.startswith("secret_tree/") for name in changed)


def test_rows_of_another_version_are_refused(two: Company):
    rows = dict(two["ada"].group.rows())
    rows["epoch"] = b"\xff\xff" + rows["epoch"][2:]
    with pytest.raises(UnsupportedError):
        Group.load(rows)


@pytest.mark.parametrize("name", ["epoch", "tree/1", "secret_tree/1/leaf_count"])
def test_rows_with_one_missing_are_refused(name: str, two: Company):
    rows = dict(two["ada"].group.rows())
    del rows[name]
    with pytest.raises(StateError):
        Group.load(rows)


def test_secrets_do_not_show_when_a_group_is_printed(two: Company):
    group = two["ada"].group
    shown = repr(group) + str(group)
    for row in group.rows().values():
        assert repr(bytes(row)) not in shown
    for secret in (two["ada"].signature_key.private, group.export("x", b"", 32), group.epoch_authenticator):
        assert repr(bytes(secret))[2:-1] not in shown
