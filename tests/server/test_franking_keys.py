"""The hub's MAC keys: one a month, forgotten after a year, and whole whatever the clock does."""

import itertools
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from heliograph.server import franking_keys
from heliograph.server.secrets import Secrets, load_secrets

_numbers = itertools.count(1)


def random(size: int) -> bytes:
    return next(_numbers).to_bytes(size)


def ms(year: int, month: int) -> int:
    return int(datetime(year, month, 15, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    return load_secrets(tmp_path / "secrets", random, first_start=True)


def test_a_month_has_one_key(secrets: Secrets) -> None:
    franking_keys.rotate(secrets, ms(2026, 1), random)
    kid, key = franking_keys.current_key(secrets, ms(2026, 1))
    franking_keys.rotate(secrets, ms(2026, 1), random)
    assert franking_keys.current_key(secrets, ms(2026, 1)) == (kid, key)
    assert kid == b"2026-01"


def test_a_new_month_stamps_with_a_new_key_and_the_old_one_still_verifies(secrets: Secrets) -> None:
    franking_keys.rotate(secrets, ms(2026, 1), random)
    _, old = franking_keys.current_key(secrets, ms(2026, 1))
    franking_keys.rotate(secrets, ms(2026, 2), random)
    kid, new = franking_keys.current_key(secrets, ms(2026, 2))
    assert (kid, new != old) == (b"2026-02", True)
    assert franking_keys.find_key(secrets, b"2026-01") == old


def test_before_the_months_key_is_made_the_newest_one_stamps(secrets: Secrets) -> None:
    franking_keys.rotate(secrets, ms(2026, 1), random)
    assert franking_keys.current_key(secrets, ms(2026, 3))[0] == b"2026-01"


def test_after_thirteen_months_the_oldest_key_is_forgotten_on_disk_too(secrets: Secrets) -> None:
    for month in range(1, 13):
        franking_keys.rotate(secrets, ms(2026, month), random)
    for month in (1, 2):
        franking_keys.rotate(secrets, ms(2027, month), random)
    assert franking_keys.find_key(secrets, b"2026-01") is None
    assert franking_keys.find_key(secrets, b"2026-02") is not None
    names = {path.name for path in (secrets.directory / "hub-mac-keys").iterdir()}
    assert names == set(secrets.hub_mac_keys)


def test_a_clock_that_jumps_a_year_ahead_and_back_costs_no_keys(secrets: Secrets) -> None:
    for month in range(1, 7):
        franking_keys.rotate(secrets, ms(2026, month), random)
    for year in (2027, 2026):
        franking_keys.rotate(secrets, ms(year, 7), random)
    assert franking_keys.current_key(secrets, ms(2026, 7))[0] == b"2026-07"
    assert all(franking_keys.find_key(secrets, f"2026-0{month}".encode()) for month in range(1, 8))


def test_a_clock_before_all_keys_stamps_with_the_oldest(secrets: Secrets) -> None:
    franking_keys.rotate(secrets, ms(2026, 1), random)
    assert franking_keys.current_key(secrets, 0)[0] == b"2026-01"


def test_key_files_are_for_the_server_alone(secrets: Secrets) -> None:
    franking_keys.rotate(secrets, ms(2026, 1), random)
    mode = (secrets.directory / "hub-mac-keys" / "2026-01").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize("kid", [b"", b"2026-13", b"\xff", b"../hub-signature-key"])
def test_a_kid_that_never_was_has_no_key(secrets: Secrets, kid: bytes) -> None:
    franking_keys.rotate(secrets, ms(2026, 1), random)
    assert franking_keys.find_key(secrets, kid) is None


def test_without_any_key_nothing_is_stamped(secrets: Secrets) -> None:
    with pytest.raises(ValueError, match="no MAC key"):
        franking_keys.current_key(secrets, ms(2026, 1))
