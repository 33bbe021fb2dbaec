"""Who is who: accounts proven from their ids, devices proven by their accounts, and one's own keys. Pure.

```
recovery code (128 random bits, shown once) --HKDF--> recovery key
account key, device key (random)
genesis AccountState, signed by all three --SHA-256--> account id
```

`validate_credential` is the one place that decides whether a leaf of a group is who it says it is. It runs at each
of the seven events of RFC 9420 §5.3.1: a key package received, a GroupInfo received from a Welcome, an Add, an Update,
a commit's own leaf, an external joiner, and a resumed group. It trusts no server: a chain of states is checked from the
hash that is the account's id.

A chain grows, and entries of a room are older than it. While a device catches up, it may meet the commit that added
a device which has left its account since; `catching_up` lets that pass, and `departed` finds such leaves so that
nothing is sent while they are there.
"""

import hashlib
import hmac
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from heliograph.mls.credential import Credential
from heliograph.mls.errors import VerificationError
from heliograph.mls.suite import Random, Secret, SignatureKeyPair, cipher_suite
from heliograph.wire.account_state import (
    HASH_SIZE_BYTES,
    MAX_CHAIN_LENGTH,
    AccountState,
    DeviceEntry,
    DeviceRole,
    SignedAccountState,
    Signer,
    sign_state,
    verify_chain,
    verify_genesis,
)
from heliograph.wire.ids import AccountId, DeviceId, Handle, device_id, device_uri, parse_device_uri, user_uri
from heliograph.wire.problems import Problem

SUITE_ID: Final = 1
RECOVERY_SECRET_SIZE_BYTES: Final = 16
RECOVERY_CODE_LENGTH: Final = 28

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CHECKSUM_BITS: Final = 12
_RECOVERY_KEY_LABEL: Final = "HG1 recovery signing key"


class CredentialError(VerificationError):
    """A device is not who it says it is."""


@dataclass(frozen=True, slots=True)
class KnownAccount:
    """An account whose chain was verified here: its states, genesis first. Never replaced by a shorter chain."""

    account: AccountId
    handle: Handle
    chain: tuple[SignedAccountState, ...]

    @property
    def state(self) -> AccountState:
        """Return the newest state."""
        return self.chain[-1].state

    def entry_at_any_time(self, device: DeviceId) -> DeviceEntry | None:
        """Return the newest entry that any state had for `device`."""
        found = (signed.state.device(device) for signed in reversed(self.chain))
        return next((entry for entry in found if entry is not None), None)


@dataclass(frozen=True, slots=True)
class Identity:
    """This device: where it is registered, and the private keys that it holds.

    `account_private_key` is absent on a limited device.
    """

    domain: str
    account: AccountId
    handle: Handle
    device: DeviceId
    device_private_key: Secret = field(repr=False)
    account_private_key: Secret | None = field(default=None, repr=False)

    @property
    def uri(self) -> str:
        """Return the device URI, the identity of this device's credential."""
        return device_uri(self.domain, self.account, self.device)

    @property
    def user_uri(self) -> str:
        """Return the account's user URI."""
        return user_uri(self.domain, self.account)

    @property
    def credential(self) -> Credential:
        """Return this device's MLS credential."""
        return Credential.basic(self.uri.encode())


@dataclass(frozen=True, slots=True)
class Founded:
    """A new account that no server knows yet. The recovery code is to be shown once and kept nowhere."""

    identity: Identity
    genesis: SignedAccountState
    recovery_code: str = field(repr=False)


def found_account(domain: str, handle: Handle, *, now_ms: int, random: Random) -> Founded:
    """Make a new account's keys and its genesis state, whose hash is the account's id."""
    suite = cipher_suite(SUITE_ID)
    account_keys, device_keys = suite.generate_signature_key(random), suite.generate_signature_key(random)
    recovery_secret = Secret(random(RECOVERY_SECRET_SIZE_BYTES))
    recovery_keys = recovery_key(recovery_secret)
    device = device_id(random(16))
    state = AccountState(
        seq=0,
        prev=bytes(HASH_SIZE_BYTES),
        account_key=account_keys.public,
        recovery_key=recovery_keys.public,
        devices=(DeviceEntry(device, device_keys.public, DeviceRole.FULL),),
        created_ms=now_ms,
        nonce=random(16),
    )
    own_keys = (account_keys.private, recovery_keys.private, device_keys.private)
    genesis = sign_state(state, Signer.ACCOUNT, account_keys.private, own_keys)
    account = verify_genesis(genesis)
    identity = Identity(domain, account, handle, device, device_keys.private, account_keys.private)
    return Founded(identity, genesis, recovery_code(recovery_secret))


def next_state(
    newest: SignedAccountState, *, devices: tuple[DeviceEntry, ...], now_ms: int, random: Random
) -> AccountState:
    """Return the unsigned state that follows `newest` with these devices and the same keys."""
    return replace(
        newest.state,
        seq=newest.state.seq + 1,
        prev=newest.hash(),
        devices=devices,
        created_ms=now_ms,
        nonce=random(16),
    )


def without_device(known: KnownAccount, identity: Identity, device: DeviceId, *, now_ms: int, random: Random) -> bytes:
    """Return the signed state in which `device` has left the account.

    Raises:
        CredentialError: this device does not hold the account's key, or the account has no such device.
    """
    if identity.account_private_key is None:
        raise CredentialError("a limited device cannot change its account's devices")
    if known.state.device(device) is None:
        raise CredentialError("the account has no such device")
    devices = tuple(entry for entry in known.state.devices if entry.device != device)
    state = next_state(known.chain[-1], devices=devices, now_ms=now_ms, random=random)
    return sign_state(state, Signer.ACCOUNT, identity.account_private_key, ()).encode()


@dataclass(frozen=True, slots=True)
class Recovery:
    """A device that brings an account back: its keys, and the recovery key of the code that was typed in."""

    account: AccountId
    device: DeviceId
    recovery_private_key: Secret = field(repr=False)
    device_keys: SignatureKeyPair = field(repr=False)
    account_keys: SignatureKeyPair = field(repr=False)


def begin_recovery(account: AccountId, code: str, random: Random) -> Recovery:
    """Make the keys of a recovered account's first device; raises CredentialError for a mistyped code."""
    suite = cipher_suite(SUITE_ID)
    return Recovery(
        account,
        device_id(random(16)),
        recovery_key(read_recovery_code(code)).private,
        suite.generate_signature_key(random),
        suite.generate_signature_key(random),
    )


def recover_account(
    recovery: Recovery, domain: str, handle: Handle, states: Sequence[bytes], *, now_ms: int, random: Random
) -> tuple[Identity, KnownAccount]:
    """Return the recovered device, and the chain with the state that drops all others and changes the account key.

    Raises:
        CredentialError: the chain does not hold, or the code is not this account's.
    """
    before = learn_account(recovery.account, handle, states, None)
    if cipher_suite(SUITE_ID).signature_public_key(recovery.recovery_private_key) != before.state.recovery_key:
        raise CredentialError("the recovery code is not this account's")
    devices = (DeviceEntry(recovery.device, recovery.device_keys.public, DeviceRole.FULL),)
    state = next_state(before.chain[-1], devices=devices, now_ms=now_ms, random=random)
    state = replace(state, account_key=recovery.account_keys.public)
    own_keys = (recovery.account_keys.private, recovery.device_keys.private)
    signed = sign_state(state, Signer.RECOVERY, recovery.recovery_private_key, own_keys)
    chain = (*before.chain, signed)
    verify_chain(recovery.account, chain)
    identity = Identity(
        domain,
        recovery.account,
        handle,
        recovery.device,
        recovery.device_keys.private,
        recovery.account_keys.private,
    )
    return identity, KnownAccount(recovery.account, handle, chain)


def learn_account(
    account: AccountId, handle: Handle, states: Sequence[bytes], known: KnownAccount | None
) -> KnownAccount:
    """Verify a chain as a server gave it, against what this device has seen before.

    Raises:
        CredentialError: it does not verify, is older than what was seen, or parts from it.
    """
    if len(states) > MAX_CHAIN_LENGTH:
        raise CredentialError("the account's chain is longer than any chain may be")
    try:
        chain = tuple(SignedAccountState.decode(state) for state in states)
        verify_chain(account, chain)
    except Problem as problem:
        raise CredentialError(f"the account's chain does not hold: {problem.body.detail}") from None
    if known is not None and chain[: len(known.chain)] != known.chain:
        raise CredentialError("the account's chain is older than, or differs from, the one that was seen before")
    return KnownAccount(account, handle, chain)


def validate_credential(
    uri: str,
    signature_key: bytes,
    *,
    domain: str,
    known: KnownAccount | None,
    participants: Collection[AccountId],
    catching_up: bool = False,
) -> DeviceEntry:
    """Decide whether a leaf with this identity and key is that device of that account, and may be here.

    known: the verified chain of the account that the URI names; None where it could not be learned.
    participants: the accounts whose devices may stand in the group.
    catching_up: accept a device that has left its account since the entry was written.

    Raises:
        CredentialError: it is not.

    Source: RFC 9420 §5.3.1.
    """
    try:
        uri_domain, account, device = parse_device_uri(uri)
    except ValueError:
        raise CredentialError("the credential is not a device URI") from None
    if uri_domain != domain:
        raise CredentialError("the credential names another server")
    if known is None or known.account != account:
        raise CredentialError("the account's chain is not known")
    entry = known.state.device(device)
    if entry is None and catching_up:
        entry = known.entry_at_any_time(device)
    if entry is None:
        raise CredentialError("the account has no such device")
    if not hmac.compare_digest(entry.device_key, signature_key):
        raise CredentialError("the leaf's key is not the device's key")
    if account not in participants:
        raise CredentialError("the account takes no part in the room")
    return entry


def validate_successor(before: Credential, after: Credential) -> None:
    """Check that a leaf's new credential names the same device as the one before it.

    Raises:
        CredentialError: it names another.

    Source: RFC 9420 §5.3.1.
    """
    if before != after:
        raise CredentialError("a leaf's credential stays that of its device")


def departed(uris: Iterable[str], accounts: "Iterable[KnownAccount]") -> tuple[str, ...]:
    """Return the device URIs whose device stands no more in its account's newest state."""
    states = {known.account: known.state for known in accounts}
    gone: list[str] = []
    for uri in uris:
        _, account, device = parse_device_uri(uri)
        state = states.get(account)
        if state is not None and state.device(device) is None:
            gone.append(uri)
    return tuple(gone)


def recovery_key(recovery_secret: bytes) -> SignatureKeyPair:
    """Return the recovery signing key of a code's 16 bytes: HKDF-SHA256, then an Ed25519 seed."""
    suite = cipher_suite(SUITE_ID)
    seed = suite.expand(suite.extract(b"", recovery_secret), _RECOVERY_KEY_LABEL.encode(), 32)
    return SignatureKeyPair(seed, suite.signature_public_key(seed))


def recovery_code(recovery_secret: bytes) -> str:
    """Return 16 secret bytes as 28 characters of Crockford's base32, in groups of four, checksum included."""
    if len(recovery_secret) != RECOVERY_SECRET_SIZE_BYTES:
        raise ValueError("a recovery secret has 16 bytes")
    value = int.from_bytes(recovery_secret) << _CHECKSUM_BITS | _checksum(recovery_secret)
    shifts = range(5 * (RECOVERY_CODE_LENGTH - 1), -1, -5)
    text = "".join(_CROCKFORD[value >> shift & 31] for shift in shifts)
    return "-".join(text[at : at + 4] for at in range(0, RECOVERY_CODE_LENGTH, 4))


def read_recovery_code(text: str) -> Secret:
    """Return the 16 secret bytes of a code as a person types it: any case, with or without dashes and spaces.

    Raises:
        CredentialError: it has another length or alphabet, or its checksum is wrong.
    """
    plain = text.upper().translate(str.maketrans({"-": None, " ": None, "O": "0", "I": "1", "L": "1"}))
    if len(plain) != RECOVERY_CODE_LENGTH or not set(plain) <= set(_CROCKFORD):
        raise CredentialError("a recovery code has 28 letters and digits")
    value = 0
    for character in plain:
        value = value << 5 | _CROCKFORD.index(character)
    secret = (value >> _CHECKSUM_BITS).to_bytes(RECOVERY_SECRET_SIZE_BYTES)
    if _checksum(secret) != value & (1 << _CHECKSUM_BITS) - 1:
        raise CredentialError("the recovery code has a typing mistake: its checksum is wrong")
    return Secret(secret)


def _checksum(recovery_secret: bytes) -> int:
    digest = hashlib.sha256(b"HG1 recovery code" + recovery_secret).digest()
    return int.from_bytes(digest[:2]) >> 16 - _CHECKSUM_BITS
