"""Rates: everyone pays for themselves, and nobody is remembered by address."""

import secrets

import pytest

from heliograph.server import admission
from heliograph.server.admission import DAY_MS, Admission
from heliograph.server.limits import Rate, Rates
from heliograph.wire.problems import Problem


def gate(**rates: Rate) -> Admission:
    return Admission(Rates(**rates), secrets.token_bytes)


def test_one_payer_does_not_pay_for_another() -> None:
    door = gate(send=Rate(1, 0.1))
    door.charge("send", "alice", 0)
    door.charge("send", "bob", 0)
    with pytest.raises(Problem, match="too-many-requests") as caught:
        door.charge("send", "alice", 0)
    assert caught.value.body.retry_after_s == 10
    door.charge("send", "alice", 10_000)


def test_a_rate_is_named_as_in_the_table_of_operations() -> None:
    assert gate(key_packages=Rate(7, 1)).rate("key-packages") == Rate(7, 1)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.99", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8::1", "2001:db8:0:ff::2", True),
        ("2001:db8::1", "2001:db8:0:100::1", False),
        ("::ffff:192.0.2.1", "192.0.2.7", True),
        ("fe80::1%eth0", "fe80::2", True),
        (None, "not an address", True),
    ],
)
def test_a_source_is_its_network(one: str | None, other: str | None, same: bool) -> None:
    door = gate()
    assert (door.source(one, 0) == door.source(other, 0)) is same


def test_a_source_has_another_name_tomorrow() -> None:
    door = gate()
    today = door.source("192.0.2.1", 0)
    assert door.source("192.0.2.1", DAY_MS - 1) == today
    assert door.source("192.0.2.1", DAY_MS) != today


def test_what_it_remembers_is_bounded_and_who_owes_is_kept_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "CAPACITY", 100)
    door = gate(send=Rate(1, 0.001), read=Rate(1, 1000))
    door.charge("send", "debtor", 0)
    for number in range(1000):
        door.charge("read", f"reader {number}", number * 10)
    assert len(door._buckets) <= 100
    with pytest.raises(Problem, match="too-many-requests"):
        door.charge("send", "debtor", 10_000)
