"""Accounts, sessions, invitations and consent, as they travel."""

import struct
from typing import Annotated, Final, Literal

import msgspec

from heliograph.mls.codec import Writer
from heliograph.wire.ids import AccountId, AccountIdText, DeviceId, DeviceIdText, Handle, HandleText, id_bytes

LOGIN_LABEL: Final = "HG1 Login"
LOGIN_PURPOSE: Final = "session"
RECOVERY_PURPOSE: Final = "recovery"
CHALLENGE_SIZE_BYTES: Final = 32
MAX_STATE_SIZE_BYTES: Final = 4096
MAX_KEY_PACKAGE_SIZE_BYTES: Final = 16384
MAX_KEY_PACKAGES: Final = 100

AccountRole = Literal["member", "reviewer", "administrator"]
StateBytes = Annotated[bytes, msgspec.Meta(max_length=MAX_STATE_SIZE_BYTES)]
KeyPackageBytes = Annotated[bytes, msgspec.Meta(max_length=MAX_KEY_PACKAGE_SIZE_BYTES)]
SecretText = Annotated[str, msgspec.Meta(max_length=128)]


class Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every struct of the contract shares: frozen, and unknown fields are refused."""


class Empty(Wire, frozen=True):
    """A request or reply that says nothing beyond its name."""


class ServerInfo(Wire, frozen=True):
    """What a client must know of a server before it speaks: `/.well-known/heliograph`.

    `hub_signature_key` (32 bytes) verifies franks; `desk_key` (32 bytes) is what reports of private messages are
    sealed to, absent until a reviewer's client has published one; `decisions_log` is the C2SP verifier key of the
    log of decisions.
    """

    domain: str
    version: str
    incarnation: str
    registration: Literal["invitation", "open"]
    hub_signature_key: bytes
    decisions_log: str
    desk_key: bytes | None = None


class Register(Wire, frozen=True):
    """Found an account: its handle, its genesis state, and an invitation where the server asks for one."""

    handle: HandleText
    state: StateBytes
    invitation: SecretText | None = None


class AccountInfo(Wire, frozen=True):
    """An account as others see it."""

    account: AccountIdText
    handle: Handle
    role: AccountRole = "member"


class ResolveHandle(Wire, frozen=True):
    """Ask which account or channel a handle names."""

    handle: HandleText


class ResolvedHandle(Wire, frozen=True):
    """What a handle names: an account or a channel."""

    handle: Handle
    account: AccountId | None = None
    channel: str | None = None


class AccountRequest(Wire, frozen=True):
    """Name one account."""

    account: AccountIdText


class AccountChain(Wire, frozen=True):
    """An account's signed states, genesis first."""

    account: AccountIdText
    handle: Handle
    states: list[StateBytes]


class PutAccountState(Wire, frozen=True):
    """Continue an account's chain by one state (compare-and-swap on its `seq`)."""

    account: AccountIdText
    state: StateBytes


class RecoverChain(Wire, frozen=True):
    """Ask for an account's chain with its recovery key, in order to build the state that brings it back.

    `device` is the new device's id, for which the challenge was made; the signature is over `login_content` with the
    purpose "recovery".
    """

    account: AccountIdText
    device: DeviceIdText
    challenge: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    signature: Annotated[bytes, msgspec.Meta(max_length=256)]


class SetRole(Wire, frozen=True):
    """Give an account a role on this server."""

    account: AccountIdText
    role: AccountRole


class CreateInvitation(Wire, frozen=True):
    """Make an invitation that one person can use once."""

    role: AccountRole = "member"
    expires_in_s: Annotated[int, msgspec.Meta(ge=60, le=30 * 86400)] = 7 * 86400


class Invitation(Wire, frozen=True):
    """A single-use invitation: a secret, shown once."""

    invitation: str
    expires_at_ms: int


class CreateChallenge(Wire, frozen=True):
    """Ask for something to sign, in order to log in."""

    account: AccountIdText
    device: DeviceIdText


class Challenge(Wire, frozen=True):
    """32 bytes to sign, once, before `expires_at_ms`."""

    challenge: bytes
    expires_at_ms: int


class CreateSession(Wire, frozen=True):
    """Log in: the device's signature over `login_content`."""

    account: AccountIdText
    device: DeviceIdText
    challenge: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    signature: Annotated[bytes, msgspec.Meta(max_length=256)]


class Session(Wire, frozen=True):
    """An open session: the bearer token, shown once."""

    token: str
    expires_at_ms: int
    role: AccountRole


class StreamTicket(Wire, frozen=True):
    """A one-time ticket for the socket's first frame."""

    ticket: str
    expires_at_ms: int


class ContactToken(Wire, frozen=True):
    """A secret that lets who holds it start conversations with the account that made it, until it expires."""

    token: str
    expires_at_ms: int


class CreateContactToken(Wire, frozen=True):
    """Make a contact token."""

    expires_in_s: Annotated[int, msgspec.Meta(ge=60, le=90 * 86400)] = 30 * 86400


class PublishKeyPackages(Wire, frozen=True):
    """Offer key packages of the caller's device: one-time ones, and perhaps a new last-resort one."""

    key_packages: Annotated[tuple[KeyPackageBytes, ...], msgspec.Meta(max_length=MAX_KEY_PACKAGES)] = ()
    last_resort: KeyPackageBytes | None = None


class KeyPackageCount(Wire, frozen=True):
    """How many one-time key packages the caller's device still has, and whether a last-resort one stands by."""

    one_time: int
    last_resort: bool


class ClaimKeyPackages(Wire, frozen=True):
    """Take one key package of each device of an account.

    Needs the account's consent, a shared room, or a contact token; every refusal is `no-consent`.
    """

    account: AccountIdText
    suite: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 1
    contact_token: SecretText | None = None


class ClaimedKeyPackage(Wire, frozen=True):
    """One claimed key package (an MLSMessage), which belongs to its taker alone unless it is the last resort."""

    device: DeviceIdText
    key_package: bytes
    last_resort: bool = False


class ClaimedKeyPackages(Wire, frozen=True):
    """One key package for each device that has any."""

    key_packages: list[ClaimedKeyPackage]


def login_content(
    domain: str,
    challenge: bytes,
    account: AccountId,
    device: DeviceId,
    expires_at_ms: int,
    purpose: str = LOGIN_PURPOSE,
) -> bytes:
    """Return the bytes that a device signs under `LOGIN_LABEL`: they name server, purpose, account and device, so
    that a signature given to one server or for one purpose is of no use for another.
    """
    writer = Writer()
    writer.opaque(domain.encode())
    writer.opaque(purpose.encode())
    writer.opaque(challenge)
    writer.opaque(id_bytes(account))
    writer.opaque(id_bytes(device))
    writer.raw(struct.pack(">Q", expires_at_ms))
    return writer.getvalue()
