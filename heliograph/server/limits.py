"""The page of limits: every rate, size and count that bounds what a stranger can cost.

A rate is a token bucket: `burst` tokens, refilled at `per_s` a second, one taken by each call. Who pays is the
device of the session, or the source's network prefix where there is none; a `claim` also counts against its target
(see `key_packages`). Wire sizes that clients must know as well stand in `wire/`.

A TOML file overrides any of them by name: `[rates.send]` with `burst` and `per_s`, the others at the top.
"""

import math
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1, le=2**40)]


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token bucket."""

    burst: Annotated[float, msgspec.Meta(ge=1, le=1e9)]
    per_s: Annotated[float, msgspec.Meta(gt=0, le=1e9)]


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """A bucket for each name in the column `limit` of `wire/operations.py`, and the socket's own."""

    read: Rate = Rate(300, 30)
    register: Rate = Rate(30, 1 / 10)
    account: Rate = Rate(30, 1)
    invite: Rate = Rate(20, 1 / 60)
    login: Rate = Rate(60, 1)
    stream: Rate = Rate(20, 1)
    key_packages: Rate = Rate(10, 1 / 10)
    claim: Rate = Rate(60, 1)
    commits: Rate = Rate(20, 0.5)
    send: Rate = Rate(60, 2)
    channel: Rate = Rate(10, 1 / 60)
    post: Rate = Rate(20, 1 / 5)
    report: Rate = Rate(10, 1 / 60)
    decide: Rate = Rate(60, 1)
    source: Rate = Rate(600, 60)
    """Every request of one network prefix that brings no session, or one that is over."""
    registrations: Rate = Rate(500, 0.2)
    """Registrations of the whole server; `register` counts those of one network prefix."""
    states: Rate = Rate(20, 1 / 60)
    """New states of one account: each tells the devices of everyone who shares a room with it."""
    claim_target: Rate = Rate(20, 1 / 60)
    """Claims by one account of the key packages of one other."""
    frames: Rate = Rate(200, 40)
    """Frames on one socket, of any kind but sends."""
    frame_bytes: Rate = Rate(4 * 1024 * 1024, 256 * 1024)
    """Bytes on one socket."""
    typing: Rate = Rate(5, 1)


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every limit of one server."""

    rates: Rates = Rates()

    # Sockets
    sockets: Count = 20_000
    sockets_per_device: Count = 10
    subscriptions_per_socket: Count = 4000
    hello_within_s: Count = 5
    ping_every_s: Count = 25
    silent_for_s: Count = 60
    """A socket from which nothing came for so long, not even a pong, is dead."""
    rows_per_read: Count = 500
    send_buffer_soft_bytes: Count = 256 * 1024
    """The pump stops above it and goes on when the reader has caught up."""
    send_buffer_hard_bytes: Count = 1024 * 1024
    """A reader that lets it grow to this is cut off."""
    stalled_for_s: Count = 60
    """A reader that takes nothing for so long is cut off."""
    tail_entries: Count = 64
    tail_topics: Count = 4096
    tail_bytes: Count = 64 * 1024 * 1024

    # HTTP
    header_bytes: Count = 16 * 1024
    headers: Count = 64
    head_within_s: Count = 10
    """A connection on which no whole request head came for so long is closed; it is also how long one may idle."""
    request_within_s: Count = 30
    """A body that has not come by then is given up."""
    requests_in_flight: Count = 1024
    bodies_bytes: Count = 256 * 1024 * 1024
    """Bodies in memory at once, of all requests together."""
    waiting_bodies_per_payer: Count = 128
    """Requests of one payer whose bodies have not come whole."""

    # Storage
    waiting_writes: Count = 10_000
    acts_per_commit: Count = 256
    readers: Count = 2

    # Sessions
    challenge_lives_s: Count = 60
    ticket_lives_s: Count = 30
    session_idle_s: Count = 30 * 86400
    session_lives_s: Count = 180 * 86400
    administrator_idle_s: Count = 30 * 60
    administrator_lives_s: Count = 8 * 3600
    cached_sessions: Count = 100_000
    sessions_per_device: Count = 20

    # Accounts
    open_invitations_per_account: Count = 50
    first_invitation_lives_s: Count = 7 * 86400

    # Channels
    channels_per_account: Count = 100
    channels_followed: Count = 1000

    # Key packages and consent
    key_packages_per_device: Count = 100
    """One-time packages of one device and cipher suite."""
    key_packages_low: Count = 20
    """A device is told when fewer are left."""
    claims_per_account_and_hour: Count = 1000
    """One-time packages that all others together may take of one account."""
    contact_tokens_per_account: Count = 50

    # Rooms
    rooms_per_account: Count = 2000
    proposals_per_epoch: Count = 256
    direct_room_waits_s: Count = 600
    """So long a direct room that its peer was not added to holds the pair's place against another."""
    message_lives_s: Count = 30 * 86400
    handshake_lives_s: Count = 90 * 86400
    welcome_lives_s: Count = 31 * 86400
    last_resort_welcome_lives_s: Count = 91 * 86400
    mailbox_lives_s: Count = 91 * 86400


class LimitsError(Exception):
    """The limits file cannot be used; the text names the key and the line."""


def load_limits(path: Path | None) -> Limits:
    """Return the limits, with what the TOML file at `path` overrides.

    Raises:
        LimitsError: a key is unknown or its value has the wrong type or size.
    """
    if path is None:
        return Limits()
    try:
        text = path.read_text(encoding="utf-8")
        found: dict[str, Any] = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LimitsError(f"{path}: {error}") from None
    try:
        return msgspec.convert(_merged(found), Limits)
    except msgspec.ValidationError as error:
        raise LimitsError(f"{path}{_line_of(text, str(error))}: {error}") from None


def _merged(found: dict[str, Any]) -> dict[str, Any]:
    """Let a rate that the file leaves half-said keep its other half."""
    rates = found.get("rates")
    if not isinstance(rates, dict):
        return found
    own: dict[str, Any] = msgspec.to_builtins(Rates())
    merged: dict[str, Any] = {}
    for name, rate in rates.items():  # pyright: ignore[reportUnknownVariableType]
        half = name in own and isinstance(rate, dict)
        merged[str(name)] = {**own[str(name)], **rate} if half else rate  # pyright: ignore[reportUnknownArgumentType]
    return {**found, "rates": merged}


def _line_of(text: str, sentence: str) -> str:
    """Return ":<line>" of the key that a validation error names, or nothing."""
    quoted = sentence.split("`")[1::2]
    path = [part for chunk in quoted if chunk.startswith("$") for part in chunk.split(".")[1:]]
    names = [*path, *(quoted[:1] if "unknown field" in sentence else [])]
    for name in reversed(names):
        for number, line in enumerate(text.splitlines(), start=1):
            head = line.split("#", 1)[0].split("=", 1)[0]
            if name in head.replace("[", " ").replace("]", " ").replace(".", " ").split():
                return f":{number}"
    return ""


class Bucket:
    """One token bucket. Time comes with each call, in milliseconds."""

    __slots__ = ("_at_ms", "_per_ms", "_size", "_tokens")

    def __init__(self, rate: Rate, now_ms: int) -> None:
        self._size = rate.burst
        self._per_ms = rate.per_s / 1000
        self._tokens = rate.burst
        self._at_ms = now_ms

    def take(self, now_ms: int, cost: float = 1) -> int:
        """Take `cost` tokens and return 0; or take nothing and return the seconds (>= 1) until they are there."""
        wait_s = self.wait_s(now_ms, cost)
        if not wait_s:
            self._tokens -= cost
        return wait_s

    def wait_s(self, now_ms: int, cost: float = 1) -> int:
        """Return 0 where `cost` tokens are there, else the seconds (>= 1) until they are."""
        if now_ms > self._at_ms:
            self._tokens = min(self._size, self._tokens + (now_ms - self._at_ms) * self._per_ms)
        self._at_ms = now_ms
        if self._tokens >= cost:
            return 0
        return max(1, math.ceil((cost - self._tokens) / self._per_ms / 1000))

    def full(self, now_ms: int) -> bool:
        """Tell whether the bucket has nothing to remember."""
        return self._tokens + (now_ms - self._at_ms) * self._per_ms >= self._size
