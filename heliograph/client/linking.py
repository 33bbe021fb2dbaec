"""Adding a device to an account: a request, a grant, and the new device's own signature. Pure.

```
new device                                   device that holds the account key
  prepare: device key, sealing key
  request {account, device, keys}   ------>    builds the next AccountState with the new device, signs it
  signs the state too, puts it      <------    grant {state, signature, account key, room names}, sealed to the request
  on the server
```

Both texts travel by any way that people have (a file, a cable, a pipe). The request holds no secret. The grant is
sealed by HPKE to the request's key, and is worth nothing without the new device's private key: a state that brings a
key in must be signed with that key.
"""

from dataclasses import dataclass, field
from typing import Final

import msgspec

from heliograph.client.hidden import Hidden
from heliograph.client.identity import SUITE_ID, CredentialError, Identity, KnownAccount, next_state
from heliograph.mls.codec import Reader, Writer
from heliograph.mls.errors import MLSError
from heliograph.mls.suite import HPKECiphertext, Random, Secret, SignatureKeyPair, cipher_suite
from heliograph.wire.account_state import (
    MAX_DEVICES,
    DeviceEntry,
    DeviceRole,
    SignedAccountState,
    Signer,
    sign_state,
    signature_for_new_key,
    verify_chain,
)
from heliograph.wire.encoding import base64url_bytes, base64url_text
from heliograph.wire.ids import AccountId, DeviceId, Handle, account_id, device_id, id_bytes
from heliograph.wire.problems import Problem

_REQUEST_PREFIX: Final = "heliograph-device-request:"
_GRANT_PREFIX: Final = "heliograph-device-grant:"
_GRANT_LABEL: Final = "HG1 DeviceGrant"
_VERSION: Final = 1
_MAX_TEXT_LENGTH: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """What a new device asks an older one to sign: its id, its Ed25519 key and an X25519 key to seal the grant to."""

    account: AccountId
    device: DeviceId
    device_key: bytes
    sealing_key: bytes

    def text(self) -> str:
        """Return the request as one line of text."""
        writer = Writer()
        writer.uint8(_VERSION)
        writer.raw(id_bytes(self.account))
        writer.raw(id_bytes(self.device))
        writer.opaque(self.device_key)
        writer.opaque(self.sealing_key)
        return _REQUEST_PREFIX + base64url_text(writer.getvalue())

    @classmethod
    def read(cls, text: str) -> "DeviceRequest":
        """Return the request of a line of text.

        Raises:
            CredentialError: it is none.
        """
        try:
            reader = Reader(_payload(text, _REQUEST_PREFIX))
            if reader.uint8() != _VERSION:
                raise CredentialError("the device request is of another version")
            request = cls(account_id(reader.raw(32)), device_id(reader.raw(16)), reader.opaque(), reader.opaque())
            reader.finish()
        except MLSError as error:
            raise CredentialError(f"the device request cannot be read: {error}") from None
        return request


@dataclass(frozen=True, slots=True)
class PreparedDevice:
    """A new device's keys, kept until the grant comes back."""

    request: DeviceRequest
    device_private_key: Secret = field(repr=False)
    sealing_private_key: Secret = field(repr=False)


class _Grant(Hidden, frozen=True):
    domain: str
    handle: str
    chain: tuple[bytes, ...]
    state: bytes
    account_private_key: bytes
    room_names: dict[str, str]


@dataclass(frozen=True, slots=True)
class Granted:
    """A grant accepted: who this device now is, the account's chain with the new state, and its rooms' names."""

    identity: Identity
    known: KnownAccount
    state: bytes
    room_names: dict[str, str]


def prepare_device(account: AccountId, random: Random) -> PreparedDevice:
    """Make the keys of a new device for an account that exists."""
    suite = cipher_suite(SUITE_ID)
    device_keys: SignatureKeyPair = suite.generate_signature_key(random)
    sealing_private_key, sealing_key = suite.derive_key_pair(random(32))
    request = DeviceRequest(account, device_id(random(16)), device_keys.public, sealing_key)
    return PreparedDevice(request, device_keys.private, sealing_private_key)


def grant_device(
    text: str,
    role: DeviceRole,
    identity: Identity,
    known: KnownAccount,
    room_names: dict[str, str],
    *,
    now_ms: int,
    random: Random,
) -> str:
    """Sign a device's request and return the grant as one line of text.

    Raises:
        CredentialError: the request is for another account, or this device may not add devices.
    """
    request = DeviceRequest.read(text)
    if request.account != identity.account:
        raise CredentialError("the request is for another account")
    if identity.account_private_key is None:
        raise CredentialError("a limited device cannot add devices")
    if known.entry_at_any_time(request.device) is not None or len(known.state.devices) >= MAX_DEVICES:
        raise CredentialError(f"the device stands in the account already, or {MAX_DEVICES} others do")
    devices = (*known.state.devices, DeviceEntry(request.device, request.device_key, role))
    state = next_state(known.chain[-1], devices=devices, now_ms=now_ms, random=random)
    grant = _Grant(
        domain=identity.domain,
        handle=identity.handle,
        chain=tuple(signed.encode() for signed in known.chain),
        state=sign_state(state, Signer.ACCOUNT, identity.account_private_key, ()).encode(),
        account_private_key=bytes(identity.account_private_key) if role is DeviceRole.FULL else b"",
        room_names=room_names,
    )
    suite = cipher_suite(SUITE_ID)
    sealed = suite.encrypt_with_label(
        request.sealing_key, _GRANT_LABEL, request.text().encode(), msgspec.msgpack.encode(grant)
    )
    return _GRANT_PREFIX + base64url_text(sealed.encode())


def accept_grant(text: str, prepared: PreparedDevice) -> Granted:
    """Open a grant, sign the state that it brings, and check the account's whole chain.

    Raises:
        CredentialError: the grant is not for this device, or does not hold.
    """
    suite, request = cipher_suite(SUITE_ID), prepared.request
    try:
        sealed = HPKECiphertext.decode(_payload(text, _GRANT_PREFIX))
        plain = suite.decrypt_with_label(prepared.sealing_private_key, _GRANT_LABEL, request.text().encode(), sealed)
        grant = msgspec.msgpack.decode(plain, type=_Grant)
        chain = tuple(SignedAccountState.decode(state) for state in grant.chain)
        offered = SignedAccountState.decode(grant.state)
        own = signature_for_new_key(offered.state, prepared.device_private_key)
        signed = SignedAccountState(offered.state, offered.signer, offered.signature, (own,))
        verify_chain(request.account, (*chain, signed))
    except (MLSError, Problem, msgspec.DecodeError) as error:
        raise CredentialError(f"the grant does not hold: {error}") from None
    entry = signed.state.device(request.device)
    if entry is None or entry.device_key != request.device_key:
        raise CredentialError("the grant is not for this device")
    account_key = Secret(grant.account_private_key) if grant.account_private_key else None
    if account_key is not None and suite.signature_public_key(account_key) != signed.state.account_key:
        raise CredentialError("the grant holds another key than the account's")
    handle = Handle(grant.handle)
    identity = Identity(grant.domain, request.account, handle, request.device, prepared.device_private_key, account_key)
    known = KnownAccount(request.account, handle, (*chain, signed))
    return Granted(identity, known, signed.encode(), grant.room_names)


def _payload(text: str, prefix: str) -> bytes:
    plain = text.strip()
    if not plain.startswith(prefix) or len(plain) > _MAX_TEXT_LENGTH:
        raise CredentialError(f"the text does not begin with {prefix}")
    try:
        return base64url_bytes(plain.removeprefix(prefix))
    except ValueError:
        raise CredentialError("the text is cut off or changed") from None
