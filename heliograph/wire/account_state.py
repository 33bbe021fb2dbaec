"""The account's chain of signed states: who may speak for an account, provable from its id alone.

```
genesis (seq 0) <- seq 1 <- seq 2 ...      each names the SHA-256 of the one before it
   |
   SHA-256 = the account id
```

A state lists the account key, the recovery key and the devices. The signer's key comes from the state before
(genesis signs itself); a key that a state brings in must sign too, so that nobody can bind a key he does not
hold. Only the recovery key may change the recovery key.

Encoding: TLS presentation language (RFC 9420 §2.1); signing: SignWithLabel (RFC 9420 §5.1.2) with the label
"HG1 AccountState", Ed25519.
"""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from heliograph.mls.codec import Reader, Struct, Writer
from heliograph.mls.errors import MLSError
from heliograph.mls.suite import cipher_suite
from heliograph.wire.ids import AccountId, DeviceId, account_id, device_id, id_bytes
from heliograph.wire.problems import Problem

STATE_LABEL: Final = "HG1 AccountState"
STATE_VERSION: Final = 1
MAX_DEVICES: Final = 10
MAX_CHAIN_LENGTH: Final = 10_000
KEY_SIZE_BYTES: Final = 32
HASH_SIZE_BYTES: Final = 32
NONCE_SIZE_BYTES: Final = 16
ED25519_SUITE: Final = 1


class DeviceRole(IntEnum):
    """What a device may do for its account: a full device holds the account key, a limited one does not."""

    FULL = 1
    LIMITED = 2


class Signer(IntEnum):
    """Which key of the state before signed this state."""

    ACCOUNT = 1
    RECOVERY = 2


@dataclass(frozen=True, slots=True)
class DeviceEntry(Struct):
    """One device in an account's state: its id, its Ed25519 key (32 bytes) and its role."""

    device: DeviceId
    device_key: bytes
    role: DeviceRole

    def write(self, writer: Writer) -> None:
        """Write the entry."""
        writer.raw(id_bytes(self.device))
        writer.opaque(self.device_key)
        writer.uint8(self.role)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read an entry."""
        device = device_id(reader.raw(16))
        key = reader.opaque()
        return cls(device, key, DeviceRole(reader.uint8()))


@dataclass(frozen=True, slots=True)
class AccountState:
    """One state of an account: `seq` counts from 0, `prev` is the SHA-256 of the signed state before."""

    seq: int
    prev: bytes
    account_key: bytes
    recovery_key: bytes
    devices: tuple[DeviceEntry, ...]
    created_ms: int
    nonce: bytes

    def encode(self) -> bytes:
        """Return the bytes that are signed."""
        writer = Writer()
        writer.uint16(STATE_VERSION)
        writer.uint32(self.seq)
        writer.raw(self.prev)
        writer.opaque(self.account_key)
        writer.opaque(self.recovery_key)
        writer.vector(self.devices)
        writer.uint64(self.created_ms)
        writer.raw(self.nonce)
        return writer.getvalue()

    def device(self, device: DeviceId) -> DeviceEntry | None:
        """Return the entry of `device`, if the account has it."""
        return next((entry for entry in self.devices if entry.device == device), None)


@dataclass(frozen=True, slots=True)
class SignedAccountState:
    """A state with its signatures: by the signer, then by each key that the state brings in (account, recovery,
    devices in order).
    """

    state: AccountState
    signer: Signer
    signature: bytes
    new_key_signatures: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the signed state as bytes."""
        writer = Writer()
        writer.raw(self.state.encode())
        writer.uint8(self.signer)
        writer.opaque(self.signature)
        inner = Writer()
        for signature in self.new_key_signatures:
            inner.opaque(signature)
        writer.opaque(inner.getvalue())
        return writer.getvalue()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a signed state from all of `data`.

        Raises:
            Problem: `invalid-account-state`, the bytes are not a well-formed state.
        """
        try:
            reader = Reader(data)
            signed = cls(_read_state(reader), Signer(reader.uint8()), reader.opaque(), _read_signatures(reader))
            reader.finish()
        except (MLSError, ValueError) as error:
            raise Problem("invalid-account-state", f"the state cannot be read: {error}") from None
        return signed

    def hash(self) -> bytes:
        """Return the SHA-256 (32 bytes) that the next state names as `prev`."""
        return hashlib.sha256(self.encode()).digest()


def _read_state(reader: Reader) -> AccountState:
    if reader.uint16() != STATE_VERSION:
        raise ValueError("the state's version is unknown")
    return AccountState(
        seq=reader.uint32(),
        prev=reader.raw(HASH_SIZE_BYTES),
        account_key=reader.opaque(),
        recovery_key=reader.opaque(),
        devices=reader.vector(DeviceEntry.read),
        created_ms=reader.uint64(),
        nonce=reader.raw(NONCE_SIZE_BYTES),
    )


def _read_signatures(reader: Reader) -> tuple[bytes, ...]:
    return reader.vector(Reader.opaque)


def new_keys(state: AccountState, before: AccountState | None) -> tuple[bytes, ...]:
    """Return the keys that `state` brings in: they must sign it, in this order."""
    known: set[bytes] = set() if before is None else {entry.device_key for entry in before.devices}
    keys: list[bytes] = []
    if before is None or state.account_key != before.account_key:
        keys.append(state.account_key)
    if before is None or state.recovery_key != before.recovery_key:
        keys.append(state.recovery_key)
    keys.extend(entry.device_key for entry in state.devices if entry.device_key not in known)
    return tuple(keys)


def sign_state(
    state: AccountState, signer: Signer, signer_private_key: bytes, new_private_keys: Sequence[bytes]
) -> SignedAccountState:
    """Return `state` signed; `new_private_keys` belong to `new_keys(state, before)`, in that order."""
    suite, content = cipher_suite(ED25519_SUITE), state.encode()
    return SignedAccountState(
        state,
        signer,
        suite.sign_with_label(signer_private_key, STATE_LABEL, content),
        tuple(suite.sign_with_label(private, STATE_LABEL, content) for private in new_private_keys),
    )


def signature_for_new_key(state: AccountState, private_key: bytes) -> bytes:
    """Return the signature by which a new device agrees to stand in `state`."""
    return cipher_suite(ED25519_SUITE).sign_with_label(private_key, STATE_LABEL, state.encode())


def verify_genesis(signed: SignedAccountState) -> AccountId:
    """Check a first state and return the account id that it founds.

    Raises:
        Problem: `invalid-account-state`.
    """
    state = signed.state
    _check_shape(state)
    if state.seq != 0 or state.prev != bytes(HASH_SIZE_BYTES):
        raise _refusal("a first state has seq 0 and no state before it")
    if signed.signer is not Signer.ACCOUNT:
        raise _refusal("a first state is signed by its own account key")
    if len(state.devices) != 1 or state.devices[0].role is not DeviceRole.FULL:
        raise _refusal("an account begins with one full device")
    _verify_signatures(signed, state.account_key, new_keys(state, None))
    return account_id(signed.hash())


def verify_successor(before: SignedAccountState, signed: SignedAccountState) -> None:
    """Check that `signed` continues the chain after `before`.

    Raises:
        Problem: `invalid-account-state`.
    """
    old, state = before.state, signed.state
    _check_shape(state)
    if state.seq != old.seq + 1 or state.prev != before.hash():
        raise _refusal("the state does not follow the newest one")
    by_recovery = signed.signer is Signer.RECOVERY
    if state.recovery_key != old.recovery_key and not by_recovery:
        raise _refusal("only the recovery key may change the recovery key")
    _check_devices_kept(old, state)
    signer_key = old.recovery_key if by_recovery else old.account_key
    _verify_signatures(signed, signer_key, new_keys(state, old))


def verify_chain(account: AccountId, chain: Sequence[SignedAccountState]) -> AccountState:
    """Check a whole chain against the account id and return the newest state.

    Raises:
        Problem: `invalid-account-state`.
    """
    if not chain:
        raise _refusal("the chain is empty")
    if verify_genesis(chain[0]) != account:
        raise _refusal("the chain does not begin with the state that the account id names")
    for before, signed in itertools.pairwise(chain):
        verify_successor(before, signed)
    return chain[-1].state


def _check_shape(state: AccountState) -> None:
    keys = [state.account_key, state.recovery_key, *(entry.device_key for entry in state.devices)]
    if any(len(key) != KEY_SIZE_BYTES for key in keys) or len(set(keys)) != len(keys):
        raise _refusal("every key has 32 bytes and stands once")
    if not 1 <= len(state.devices) <= MAX_DEVICES:
        raise _refusal(f"an account has 1 to {MAX_DEVICES} devices")
    if len({entry.device for entry in state.devices}) != len(state.devices):
        raise _refusal("a device stands once")
    if not any(entry.role is DeviceRole.FULL for entry in state.devices):
        raise _refusal("an account keeps at least one full device")


def _check_devices_kept(old: AccountState, state: AccountState) -> None:
    for entry in state.devices:
        before = old.device(entry.device)
        if before is not None and before.device_key != entry.device_key:
            raise _refusal("a device keeps its key; a new key is a new device")


def _verify_signatures(signed: SignedAccountState, signer_key: bytes, keys: tuple[bytes, ...]) -> None:
    if len(signed.new_key_signatures) != len(keys):
        raise _refusal(f"the state brings in {len(keys)} keys, and each must sign it once")
    suite, content = cipher_suite(ED25519_SUITE), signed.state.encode()
    try:
        suite.verify_with_label(signer_key, STATE_LABEL, content, signed.signature)
        for key, signature in zip(keys, signed.new_key_signatures, strict=True):
            suite.verify_with_label(key, STATE_LABEL, content, signature)
    except MLSError:
        raise _refusal("a signature does not verify") from None


def _refusal(detail: str) -> Problem:
    return Problem("invalid-account-state", detail)
