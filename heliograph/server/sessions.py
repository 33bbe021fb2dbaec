"""Logging in and out: a challenge, a device's signature over it, a token.

A challenge carries its own proof of origin, so that asking for one costs the server no memory; that each opens one
session at most is a UNIQUE column. An unknown account gets the same answers as a known one.

```
challenge (32 bytes) = expires_at_ms (8) | random (8) | HMAC(lookup_key, "challenge" account device, the 16) (16)
```
"""

import hmac
import struct

from heliograph.mls.errors import MLSError
from heliograph.mls.suite import cipher_suite
from heliograph.server import restrictions
from heliograph.server.auth import Caller, OpenSession, hash_token, new_token
from heliograph.server.context import Context
from heliograph.server.db.database import Reader, Transaction
from heliograph.server.limits import Limits
from heliograph.wire.account_state import ED25519_SUITE
from heliograph.wire.accounts import (
    CHALLENGE_SIZE_BYTES,
    LOGIN_LABEL,
    LOGIN_PURPOSE,
    AccountRole,
    Challenge,
    CreateChallenge,
    CreateSession,
    Empty,
    RecoverChain,
    Session,
    StreamTicket,
    login_content,
)
from heliograph.wire.ids import AccountId, DeviceId
from heliograph.wire.problems import Problem

_HALF = CHALLENGE_SIZE_BYTES // 2
_STAND_IN_KEY = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
"""A valid public key whose signatures nobody will send: an unknown account costs as much time as a known one."""


async def create_challenge(context: Context, caller: Caller | None, request: CreateChallenge) -> Challenge:
    """Give 32 bytes to sign, whoever asks."""
    del caller
    expires_at_ms = context.now_ms() + context.limits.challenge_lives_s * 1000
    head = struct.pack(">Q", expires_at_ms) + context.random(8)
    return Challenge(head + _proof(context, head, request.account, request.device), expires_at_ms)


def _proof(context: Context, head: bytes, account: AccountId, device: DeviceId) -> bytes:
    content = b"challenge " + account.encode() + device.encode() + head
    return hmac.digest(context.secrets.lookup_key, content, "sha256")[:_HALF]


async def create_session(context: Context, caller: Caller | None, request: CreateSession) -> Session:
    """Log a device in by its signature over the challenge."""
    del caller
    now_ms = context.now_ms()
    device_key = await context.database.read(lambda reader: _device_key(reader, request.account, request.device))
    verify_signed_challenge(context, request, device_key, LOGIN_PURPOSE, now_ms)
    token = new_token(context.random)
    return await context.database.write(lambda tx: _open_session(tx, context, request, token, now_ms))


def _device_key(reader: Reader, account: AccountId, device: DeviceId) -> bytes | None:
    row = reader.one(
        "SELECT device_key FROM devices WHERE device = ? AND account = ? AND removed_at_ms IS NULL", device, account
    )
    return None if row is None else row[0]


def verify_signed_challenge(
    context: Context, request: CreateSession | RecoverChain, key: bytes | None, purpose: str, now_ms: int
) -> None:
    """Check that a challenge of ours was signed by a key (None: of nobody) for a purpose.

    Raises:
        Problem: `login-failed`.
    """
    head, proof = request.challenge[:_HALF], request.challenge[_HALF:]
    (expires_at_ms,) = struct.unpack(">Q", head[:8])
    ours = hmac.compare_digest(proof, _proof(context, head, request.account, request.device))
    content = login_content(context.domain, request.challenge, request.account, request.device, expires_at_ms, purpose)
    try:
        cipher_suite(ED25519_SUITE).verify_with_label(key or _STAND_IN_KEY, LOGIN_LABEL, content, request.signature)
    except MLSError:
        raise _login_failed() from None
    if key is None or not ours or now_ms >= expires_at_ms:
        raise _login_failed()


def _login_failed() -> Problem:
    return Problem("login-failed", "ask for a new challenge and sign it with this device's key")


def _open_session(tx: Transaction, context: Context, request: CreateSession, token: str, now_ms: int) -> Session:
    row = tx.one(
        "SELECT accounts.role FROM devices JOIN accounts ON accounts.account = devices.account"
        " WHERE devices.device = ? AND devices.account = ? AND devices.removed_at_ms IS NULL",
        *(request.device, request.account),
    )
    if row is None:
        raise _login_failed()
    role: AccountRole = row[0]
    expires_at_ms = now_ms + _lifetimes_ms(context.limits, role)[1]
    opened = tx.run(
        "INSERT INTO sessions"
        " (token_hash, account, device, created_at_ms, seen_at_ms, expires_at_ms, ended_at_ms, challenge)"
        " VALUES (?, ?, ?, ?, ?, ?, NULL, ?) ON CONFLICT DO NOTHING",
        *(hash_token(token), request.account, request.device, now_ms, now_ms, expires_at_ms, request.challenge),
    )
    if not opened:
        raise _login_failed()
    _end_oldest(tx, context, request.device, now_ms)
    return Session(token, expires_at_ms, role)


def _end_oldest(tx: Transaction, context: Context, device: DeviceId, now_ms: int) -> None:
    """Keep a device's open sessions few."""
    open_sessions = tx.all(
        "SELECT token_hash FROM sessions WHERE device = ? AND ended_at_ms IS NULL ORDER BY created_at_ms, token_hash",
        device,
    )
    for (token_hash,) in open_sessions[: -context.limits.sessions_per_device]:
        _end(tx, context, token_hash, now_ms)


def _end(tx: Transaction, context: Context, token_hash: bytes, now_ms: int) -> None:
    tx.run("UPDATE sessions SET ended_at_ms = ? WHERE token_hash = ?", now_ms, token_hash)
    tx.after_commit(lambda: context.sessions.end_session(token_hash))


def _lifetimes_ms(limits: Limits, role: AccountRole) -> tuple[int, int]:
    """Return how long a session may idle, and how long it lives."""
    if role == "administrator":
        return limits.administrator_idle_s * 1000, limits.administrator_lives_s * 1000
    return limits.session_idle_s * 1000, limits.session_lives_s * 1000


async def end_session(context: Context, caller: Caller, request: Empty) -> Empty:
    """End the caller's session and its sockets."""
    del request
    now_ms = context.now_ms()
    await context.database.write(lambda tx: _end(tx, context, caller.session, now_ms))
    return Empty()


async def create_stream_ticket(context: Context, caller: Caller, request: Empty) -> StreamTicket:
    """Make a one-time ticket for the socket's first frame."""
    del request
    token = new_token(context.random)
    expires_at_ms = context.now_ms() + context.limits.ticket_lives_s * 1000
    context.tickets.make(caller, token, expires_at_ms)
    return StreamTicket(token, expires_at_ms)


async def authenticate(context: Context, token: str) -> OpenSession:
    """Return the open session of a bearer token.

    Raises:
        Problem: `not-logged-in`.
    """
    token_hash = hash_token(token)
    session = context.sessions.find(token_hash)
    if session is None:
        generation = context.sessions.generation
        session = await context.database.read(lambda reader: read_session(reader, context.limits, token_hash))
        if session is not None and generation == context.sessions.generation:
            context.sessions.remember(session)
    now_ms = context.now_ms()
    if session is None or session.is_over(now_ms):
        raise Problem("not-logged-in", "log in again")
    session.seen_at_ms = max(session.seen_at_ms, now_ms)
    return session


def read_session(reader: Reader, limits: Limits, token_hash: bytes) -> OpenSession | None:
    """Return a session that has not been ended, as the database has it; its time may be up."""
    row = reader.one(
        "SELECT sessions.account, sessions.device, accounts.role, seen_at_ms, sessions.created_at_ms, expires_at_ms"
        " FROM sessions JOIN accounts ON accounts.account = sessions.account"
        " WHERE token_hash = ? AND ended_at_ms IS NULL",
        token_hash,
    )
    if row is None:
        return None
    account, device, role, seen_at_ms, created_at_ms, expires_at_ms = row
    idle_ms, lives_ms = _lifetimes_ms(limits, role)
    restriction = None
    try:
        restrictions.require_account(reader, account)
    except Problem as problem:
        restriction = problem
    return OpenSession(
        caller=Caller(account, device, role, token_hash),
        seen_at_ms=seen_at_ms,
        idle_ms=idle_ms,
        expires_at_ms=min(expires_at_ms, created_at_ms + lives_ms),
        seen_saved_at_ms=seen_at_ms,
        restriction=restriction,
    )


async def save_seen(context: Context) -> None:
    """Write down when sessions were last used, and delete those that are long over."""
    now_ms = context.now_ms()
    used = [one for one in context.sessions.each() if one.seen_at_ms > one.seen_saved_at_ms]

    def act(tx: Transaction) -> None:
        for one in used:
            tx.run(
                "UPDATE sessions SET seen_at_ms = ? WHERE token_hash = ? AND seen_at_ms < ?",
                *(one.seen_at_ms, one.caller.session, one.seen_at_ms),
            )
        kept_from_ms = now_ms - context.limits.challenge_lives_s * 2000
        tx.run("DELETE FROM sessions WHERE ended_at_ms < ? OR expires_at_ms < ?", kept_from_ms, kept_from_ms)

    await context.database.write(act)
    for one in used:
        one.seen_saved_at_ms = one.seen_at_ms
