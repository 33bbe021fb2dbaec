"""A group that is saved and loaded, and how little of it changes with a message."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from heliograph.mls.errors import StateError, UnsupportedError
from heliograph.mls.group import PAST_EPOCHS, Group, ReceivedApplication
from heliograph.mls.saved_state import VERSION, version_of
from heliograph.mls.secret_tree import MAX_SKIPPED_KEYS
from heliograph.mls.suite import Random
from tests.mls.company import NOW_S, Company
from tests.mls.forge import flipped

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


# --- rows that do not hold ----------------------------------------------------------------------------------------


@pytest.fixture
def lived(five: Company) -> Group:
    """A state with every kind of row in it."""
    for person in ("eve", "dan"):
        five.commit(five[person])
        five["cleo"].read(five["ada"].seal(b"read"))
    five.propose(five["cleo"])
    five.propose(five["ben"])
    return five["cleo"].group


def refuse(rows: dict[str, bytes], fault: str):
    with pytest.raises(StateError, match=fault):
        Group.load(rows)


def test_a_state_with_every_kind_of_row_is_what_the_next_tests_spoil(lived: Group):
    kinds = {"/".join(part for part in name.split("/") if not part.isdecimal()) for name in lived.rows()}
    assert kinds == {
        *("epoch", "tree", "past", "proposal", "secret_tree/leaf_count", "secret_tree/node", "secret_tree/leaf")
    }


def test_rows_with_a_damaged_byte_are_refused(lived: Group):
    rows = dict(lived.rows())
    for name, row in rows.items():
        # The first two bytes of the epoch's row are its version, which another test spoils.
        for position in (2, len(row) // 3, len(row) // 2, len(row) - 9, len(row) - 1):
            refuse({**rows, name: flipped(row, position)}, "damaged")


def test_rows_with_one_cut_short_or_empty_are_refused(lived: Group):
    rows = dict(lived.rows())
    for name, row in rows.items():
        for cut in (row[:-1], row + b"\0", row[:10]):
            refuse({**rows, name: cut}, "damaged")


def test_rows_with_one_missing_are_refused(lived: Group):
    rows = dict(lived.rows())
    last = max(name for name in rows if name.startswith("proposal/"))
    for name in rows.keys() - {last}:
        refuse({other: row for other, row in rows.items() if other != name}, "missing|not all there|do not belong")


def test_rows_under_each_others_names_are_refused(lived: Group):
    rows = dict(lived.rows())
    for one, other in pairwise(sorted(rows)):
        refuse({**rows, one: rows[other], other: rows[one]}, "damaged")


@pytest.mark.rule("RFC 9420 §9.2")
def test_rows_that_should_have_been_deleted_are_refused(two: Company):
    ada = two["ada"]
    before = ada.group.rows()
    ada.seal(b"spends the root of the secret tree")
    refuse({**before, **ada.group.rows()}, "twice")
    two.commit(two["ben"])
    refuse({**before, **ada.group.rows()}, "twice")
    for _ in range(PAST_EPOCHS + 1):
        two.commit(two["ben"])
    refuse({**before, **ada.group.rows()}, "do not belong")


def test_a_proposal_of_an_epoch_that_is_over_is_refused(two: Company):
    two.propose(two["ben"])
    stale = {name: row for name, row in two["ada"].group.rows().items() if name.startswith("proposal/")}
    two.commit(two["ada"])
    refuse({**two["ada"].group.rows(), **stale}, "another epoch")


def test_secrets_do_not_show_when_a_group_is_printed(two: Company):
    group = two["ada"].group
    shown = repr(group) + str(group)
    for row in group.rows().values():
        assert repr(bytes(row)) not in shown
    for secret in (two["ada"].signature_key.private, group.export("x", b"", 32), group.epoch_authenticator):
        assert repr(bytes(secret))[2:-1] not in shown


# --- what older programs have saved -------------------------------------------------------------------------------

VERSION_1 = json.loads((Path(__file__).parent / "saved" / "version_1.json").read_text())


@pytest.fixture
def old_rows() -> dict[str, bytes]:
    return {name: bytes.fromhex(row) for name, row in VERSION_1["rows"].items()}


def test_a_group_that_version_1_saved_goes_on_where_it_stopped(old_rows: dict[str, bytes]):
    group = Group.load(old_rows)
    assert group.epoch_authenticator.hex() == VERSION_1["epoch_authenticator"]
    assert group.reinit is None
    group, late = group.receive(bytes.fromhex(VERSION_1["late"]), now_s=NOW_S)
    assert isinstance(late, ReceivedApplication)
    assert late.application_data == b"late"
    group, message = group.receive(bytes.fromhex(VERSION_1["message"]), now_s=NOW_S)
    assert isinstance(message, ReceivedApplication)
    group, _ = group.receive(bytes.fromhex(VERSION_1["commit"]), now_s=NOW_S)
    assert Group.load(group.rows()).epoch == 4


def test_a_group_of_version_1_is_saved_in_the_present_version(old_rows: dict[str, bytes]):
    rows = Group.load(old_rows).rows()
    assert version_of(rows) == VERSION
    assert Group.load(rows).rows() == rows
    assert {name for name in rows if rows[name] != old_rows[name]} == {"epoch"}


@pytest.mark.parametrize("name", sorted(VERSION_1["rows"]))
def test_a_damaged_row_of_version_1_is_refused(old_rows: dict[str, bytes], name: str):
    with pytest.raises(StateError):
        Group.load({**old_rows, name: flipped(old_rows[name])})
    if not name.startswith("proposal"):  # version 1 did not count them
        with pytest.raises(StateError):
            Group.load({one: row for one, row in old_rows.items() if one != name})
    with pytest.raises(StateError):
        Group.load({**old_rows, f"{name}0": old_rows[name]})


def test_a_proposal_that_is_missing_among_the_saved_rows_is_noticed(two: Company):
    two.propose(two["ben"])
    rows = dict(two["ada"].group.rows())
    del rows["proposal/0000"]
    with pytest.raises(StateError, match="missing"):
        Group.load(rows)
