"""The account's chain: only who holds the keys continues it, and nobody swaps the keys behind a known id."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from heliograph.mls.suite import SignatureKeyPair, cipher_suite
from heliograph.wire.account_state import (
    AccountState,
    DeviceEntry,
    DeviceRole,
    SignedAccountState,
    Signer,
    new_keys,
    sign_state,
    verify_chain,
    verify_genesis,
    verify_successor,
)
from heliograph.wire.ids import device_id
from heliograph.wire.problems import Problem

SUITE = cipher_suite(1)


def key(number: int) -> SignatureKeyPair:
    return SUITE.generate_signature_key(lambda size: bytes([number]) * size)


ACCOUNT, RECOVERY, PHONE, LAPTOP, NEW_ACCOUNT = (key(number) for number in range(1, 6))
BY_PUBLIC = {one.public: one.private for one in (ACCOUNT, RECOVERY, PHONE, LAPTOP, NEW_ACCOUNT)}


def entry(number: int, pair: SignatureKeyPair, role: DeviceRole = DeviceRole.FULL) -> DeviceEntry:
    return DeviceEntry(device_id(bytes([number]) * 16), pair.public, role)


GENESIS_STATE = AccountState(0, bytes(32), ACCOUNT.public, RECOVERY.public, (entry(1, PHONE),), 1000, bytes(16))


def signed(
    state: AccountState, before: AccountState | None, by: SignatureKeyPair, signer: Signer = Signer.ACCOUNT
) -> SignedAccountState:
    return sign_state(state, signer, by.private, [BY_PUBLIC[public] for public in new_keys(state, before)])


GENESIS = signed(GENESIS_STATE, None, ACCOUNT)
WITH_LAPTOP = replace(
    GENESIS_STATE, seq=1, prev=GENESIS.hash(), devices=(*GENESIS_STATE.devices, entry(2, LAPTOP, DeviceRole.LIMITED))
)
SECOND = signed(WITH_LAPTOP, GENESIS_STATE, ACCOUNT)


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(Problem) as caught:
        act()
    assert caught.value.slug == "invalid-account-state"
    return caught.value.body.detail


def test_a_chain_verifies_from_the_account_id_alone() -> None:
    assert verify_chain(verify_genesis(GENESIS), [GENESIS, SECOND]) == WITH_LAPTOP


def test_a_signed_state_comes_back_from_its_bytes() -> None:
    assert SignedAccountState.decode(SECOND.encode()) == SECOND


def test_another_genesis_cannot_stand_behind_a_known_id() -> None:
    other = signed(replace(GENESIS_STATE, nonce=b"x" * 16), None, ACCOUNT)
    assert "does not begin" in refused(lambda: verify_chain(verify_genesis(GENESIS), [other]))


def test_a_state_signed_by_a_stranger_is_refused() -> None:
    ghost = signed(WITH_LAPTOP, GENESIS_STATE, NEW_ACCOUNT)
    assert "signature" in refused(lambda: verify_successor(GENESIS, ghost))


def test_a_new_device_that_did_not_sign_is_refused() -> None:
    forged = replace(SECOND, new_key_signatures=(SECOND.signature,))
    assert "signature" in refused(lambda: verify_successor(GENESIS, forged))


def test_a_new_key_without_its_signature_is_refused() -> None:
    assert "must sign" in refused(lambda: verify_successor(GENESIS, replace(SECOND, new_key_signatures=())))


def test_a_state_that_skips_or_repeats_a_number_is_refused() -> None:
    for seq in (0, 2):
        state = signed(replace(WITH_LAPTOP, seq=seq), GENESIS_STATE, ACCOUNT)
        assert "does not follow" in refused(lambda state=state: verify_successor(GENESIS, state))


def test_a_state_that_names_another_one_before_it_is_refused() -> None:
    state = signed(replace(WITH_LAPTOP, prev=b"x" * 32), GENESIS_STATE, ACCOUNT)
    assert "does not follow" in refused(lambda: verify_successor(GENESIS, state))


def test_the_account_key_cannot_change_the_recovery_key() -> None:
    state = replace(WITH_LAPTOP, recovery_key=NEW_ACCOUNT.public)
    changed = signed(state, GENESIS_STATE, ACCOUNT)
    assert "recovery key" in refused(lambda: verify_successor(GENESIS, changed))


def test_the_recovery_key_replaces_the_account_key_and_all_devices() -> None:
    state = replace(WITH_LAPTOP, account_key=NEW_ACCOUNT.public, devices=(entry(2, LAPTOP),))
    verify_successor(GENESIS, signed(state, GENESIS_STATE, RECOVERY, Signer.RECOVERY))


def test_a_device_cannot_change_its_key() -> None:
    state = replace(WITH_LAPTOP, devices=(entry(1, LAPTOP),))
    assert "new device" in refused(lambda: verify_successor(GENESIS, signed(state, GENESIS_STATE, ACCOUNT)))


def test_an_account_keeps_at_least_one_full_device() -> None:
    state = replace(WITH_LAPTOP, devices=(entry(2, LAPTOP, DeviceRole.LIMITED),))
    assert "full device" in refused(lambda: verify_successor(GENESIS, signed(state, GENESIS_STATE, ACCOUNT)))


def test_every_truncation_of_a_state_is_refused() -> None:
    data = SECOND.encode()
    for length in range(len(data)):
        refused(lambda length=length: SignedAccountState.decode(data[:length]))


def test_no_flipped_byte_of_a_state_passes() -> None:
    data = SECOND.encode()
    for position in range(len(data)):
        flipped = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        refused(lambda flipped=flipped: verify_successor(GENESIS, SignedAccountState.decode(flipped)))
