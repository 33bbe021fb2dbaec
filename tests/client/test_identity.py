"""Accounts proven from their ids, recovery codes, and chains that a server cannot shorten."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.client.client import _Prepared
from heliograph.client.identity import (
    CredentialError,
    Founded,
    Identity,
    KnownAccount,
    departed,
    found_account,
    learn_account,
    read_recovery_code,
    recovery_code,
    recovery_key,
    validate_successor,
    without_device,
)
from heliograph.client.linking import accept_grant, grant_device, prepare_device
from heliograph.mls.credential import Credential
from heliograph.mls.suite import Random
from heliograph.wire.account_state import DeviceRole, SignedAccountState, verify_chain
from heliograph.wire.ids import Handle

DOMAIN = "example.org"


def founded_again(now_ms: int) -> Founded:
    """Return alice's account with her first device's keys: the same each time."""
    return found_account(DOMAIN, Handle("alice"), now_ms=now_ms, random=random.Random(1).randbytes)


def alice_identity(now_ms: int) -> Identity:
    """Return alice's first device."""
    return founded_again(now_ms).identity


@pytest.fixture
def known(now_ms: int) -> KnownAccount:
    """Return alice's account as others know it."""
    founded = founded_again(now_ms)
    return KnownAccount(founded.identity.account, Handle("alice"), (founded.genesis,))


def test_an_account_is_proven_from_its_id_alone(seeded_random: Random, now_ms: int) -> None:
    founded = found_account(DOMAIN, Handle("alice"), now_ms=now_ms, random=seeded_random)

    state = verify_chain(founded.identity.account, [founded.genesis])

    assert [entry.device for entry in state.devices] == [founded.identity.device]


def test_the_recovery_code_holds_the_recovery_key(seeded_random: Random, now_ms: int) -> None:
    founded = found_account(DOMAIN, Handle("alice"), now_ms=now_ms, random=seeded_random)

    secret = read_recovery_code(founded.recovery_code.lower().replace("-", " "))

    assert recovery_key(secret).public == founded.genesis.state.recovery_key


@given(st.binary(min_size=16, max_size=16))
def test_a_recovery_code_has_28_characters_and_reads_back(secret: bytes) -> None:
    code = recovery_code(secret)

    assert len(code.replace("-", "")) == 28
    assert read_recovery_code(code) == secret


@pytest.mark.parametrize("place", range(28))
def test_one_wrong_character_is_a_typing_mistake(place: int) -> None:
    plain = recovery_code(bytes(range(16))).replace("-", "")
    typed = plain[:place] + ("7" if plain[place] != "7" else "8") + plain[place + 1 :]

    with pytest.raises(CredentialError):
        read_recovery_code(typed)


@pytest.mark.parametrize("text", ["", "ABCD", "U" * 28, "0" * 27 + "\N{FULLWIDTH DIGIT ONE}", "0" * 29])
def test_what_is_no_recovery_code_is_refused(text: str) -> None:
    with pytest.raises(CredentialError):
        read_recovery_code(text)


def test_a_shorter_chain_than_was_seen_is_refused(known: KnownAccount, seeded_random: Random, now_ms: int) -> None:
    grown = with_second_device(known, seeded_random, now_ms)

    with pytest.raises(CredentialError, match="older"):
        learn_account(known.account, known.handle, [known.chain[0].encode()], grown)


def test_a_chain_that_parts_from_the_one_seen_is_refused(
    known: KnownAccount, seeded_random: Random, now_ms: int
) -> None:
    one, other = (with_second_device(known, seeded_random, now_ms) for _ in range(2))

    with pytest.raises(CredentialError, match="differs"):
        learn_account(known.account, known.handle, [state.encode() for state in other.chain], one)


def test_a_leaf_keeps_its_devices_credential() -> None:
    with pytest.raises(CredentialError):
        validate_successor(Credential.basic(b"mimi://x/d/a/b"), Credential.basic(b"mimi://x/d/a/c"))


def test_a_removed_device_is_found_among_the_leaves(known: KnownAccount, seeded_random: Random, now_ms: int) -> None:
    identity = alice_identity(now_ms)
    grown = with_second_device(known, seeded_random, now_ms)
    device = grown.state.devices[1].device
    state = without_device(grown, identity, device, now_ms=now_ms, random=seeded_random)
    shrunk = replace(grown, chain=(*grown.chain, SignedAccountState.decode(state)))
    uris = [f"mimi://{DOMAIN}/d/{known.account[1:]}/{entry.device[1:]}" for entry in grown.state.devices]

    assert departed(uris, [shrunk]) == (uris[1],)


def test_a_grant_is_worth_nothing_without_the_new_devices_key(
    known: KnownAccount, seeded_random: Random, now_ms: int
) -> None:
    identity = alice_identity(now_ms)
    prepared = prepare_device(known.account, seeded_random)
    grant = grant_device(
        prepared.request.text(), DeviceRole.FULL, identity, known, {}, now_ms=now_ms, random=seeded_random
    )
    thief = prepare_device(known.account, seeded_random)

    with pytest.raises(CredentialError):
        accept_grant(grant, thief)


def test_a_limited_device_gets_no_account_key(known: KnownAccount, seeded_random: Random, now_ms: int) -> None:
    prepared = prepare_device(known.account, seeded_random)
    grant = grant_device(
        prepared.request.text(),
        DeviceRole.LIMITED,
        alice_identity(now_ms),
        known,
        {},
        now_ms=now_ms,
        random=seeded_random,
    )

    granted = accept_grant(grant, prepared)

    assert granted.identity.account_private_key is None
    with pytest.raises(CredentialError, match="limited"):
        grant_device(
            prepare_device(known.account, seeded_random).request.text(),
            DeviceRole.FULL,
            granted.identity,
            granted.known,
            {},
            now_ms=now_ms,
            random=seeded_random,
        )


@pytest.mark.parametrize("change", ["cut", "flipped", "another prefix", "padded"])
def test_a_grant_that_was_damaged_on_the_way_is_refused(
    change: str, known: KnownAccount, seeded_random: Random, now_ms: int
) -> None:
    prepared = prepare_device(known.account, seeded_random)
    grant = grant_device(
        prepared.request.text(),
        DeviceRole.FULL,
        alice_identity(now_ms),
        known,
        {},
        now_ms=now_ms,
        random=seeded_random,
    )
    damaged = {
        "cut": grant[:-8],
        "flipped": grant[:-8] + ("A" if grant[-8] != "A" else "B") + grant[-7:],
        "another prefix": "x" + grant,
        "padded": grant + "==",
    }[change]

    with pytest.raises(CredentialError):
        accept_grant(damaged, prepared)


def test_secrets_are_in_no_repr(known: KnownAccount, seeded_random: Random, now_ms: int) -> None:
    founded = found_account(DOMAIN, Handle("alice"), now_ms=now_ms, random=seeded_random)
    prepared = prepare_device(known.account, seeded_random)
    shown = repr((founded, prepared))

    for secret in (founded.identity.device_private_key, prepared.device_private_key, prepared.sealing_private_key):
        assert secret.hex() not in shown
        assert repr(bytes(secret)) not in shown
    assert founded.recovery_code not in shown


def test_what_is_saved_with_private_keys_shows_none() -> None:
    saved = _Prepared("https://example.org", "request", b"private key", b"another key")

    assert repr(saved) == "<_Prepared>"


def with_second_device(known: KnownAccount, source: Random, now_ms: int) -> KnownAccount:
    """Return the account after another device was added."""
    prepared = prepare_device(known.account, source)
    grant = grant_device(
        prepared.request.text(), DeviceRole.FULL, alice_identity(now_ms), known, {}, now_ms=now_ms, random=source
    )
    return accept_grant(grant, prepared).known
