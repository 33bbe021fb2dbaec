"""Accounts: a handle and a chain of signed states. No phone number, no e-mail address.

Handles of accounts and channels are one namespace. Who may register is the operator's choice: with an invitation
(single use, kept as a hash), or anyone. The first administrator comes by an invitation that the server itself
makes for as long as it has none.
"""

from heliograph.server import restrictions
from heliograph.server.auth import Caller, hash_token, new_token
from heliograph.server.context import Context
from heliograph.server.db.database import Reader, Transaction
from heliograph.server.devices import add_devices
from heliograph.wire.account_state import SignedAccountState, verify_genesis
from heliograph.wire.accounts import (
    AccountInfo,
    AccountRole,
    CreateInvitation,
    Invitation,
    Register,
    ResolvedHandle,
    ResolveHandle,
    SetRole,
)
from heliograph.wire.ids import AccountId, ChannelId, Handle
from heliograph.wire.problems import Problem

_RESERVED = """
    abuse account admin administrator anonymous api appeal appeals channel channels deleted everyone heliograph help
    here hub legal log moderation moderator moderators nobody null official owner postmaster privacy report reports
    reviewer root room rooms security server service staff status superuser support sysadmin system trust undefined
    webmaster
"""
RESERVED_HANDLES = frozenset(_RESERVED.split())
_LOOKALIKES = (str.maketrans("013457", "oleast"), str.maketrans("013457", "oieast"))


def check_handle(handle: Handle) -> None:
    """Refuse a handle that would let its holder speak for the server.

    Raises:
        Problem: `invalid-handle`.
    """
    plain = handle.replace("_", "")
    if plain in RESERVED_HANDLES or any(plain.translate(table) in RESERVED_HANDLES for table in _LOOKALIKES):
        raise Problem("invalid-handle", "this name is kept for the server: choose another")


def take_handle(tx: Transaction, handle: Handle, holder: str, now_ms: int) -> None:
    """Give a handle to an account or channel, for ever.

    Raises:
        Problem: `handle-taken`.
    """
    taken = tx.run(
        "INSERT INTO handles (handle, holder, taken_at_ms) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        *(handle, holder, now_ms),
    )
    if not taken:
        raise Problem("handle-taken", "choose another handle")


async def register(context: Context, caller: Caller | None, request: Register) -> AccountInfo:
    """Found an account; the same request again gives the first answer.

    The genesis state of an account that has posted is public, so whoever sends it again is told no role but the one
    that the invitation gave.
    """
    del caller
    check_handle(request.handle)
    signed = SignedAccountState.decode(request.state)
    account = verify_genesis(signed)
    now_ms = context.now_ms()
    await context.database.read(lambda reader: _require_welcome(reader, context, request, account, now_ms))
    context.admission.charge("registrations", "server", now_ms)

    def act(tx: Transaction) -> AccountInfo:
        known = find_account(tx, account)
        if known is not None:
            if known.handle != request.handle:
                raise Problem("handle-taken", f"this account is registered as {known.handle}")
            return AccountInfo(account, known.handle, _invited_role(tx, request.invitation, account))
        role, invited_by = _use_invitation(tx, context, request.invitation, account, now_ms)
        take_handle(tx, request.handle, account, now_ms)
        tx.run(
            "INSERT INTO accounts (account, handle, role, state_seq, invited_by, created_at_ms)"
            " VALUES (?, ?, ?, 0, ?, ?)",
            *(account, request.handle, role, invited_by, now_ms),
        )
        tx.run(
            "INSERT INTO account_states (account, seq, state, accepted_at_ms) VALUES (?, 0, ?, ?)",
            *(account, request.state, now_ms),
        )
        add_devices(tx, account, signed.state.devices, now_ms)
        return AccountInfo(account, request.handle, role)

    return await context.database.write(act)


def _require_welcome(reader: Reader, context: Context, request: Register, account: AccountId, now_ms: int) -> None:
    """Refuse who could not register anyway, before that counts against the registrations of the whole server."""
    if find_account(reader, account) is None and (request.invitation or context.config.registration != "open"):
        _find_invitation(reader, request.invitation, now_ms)


def _invited_role(reader: Reader, invitation: str | None, account: AccountId) -> AccountRole:
    """Return the role that an invitation gave to the account that used it."""
    row = None
    if invitation is not None:
        sql = "SELECT role FROM invitations WHERE token_hash = ? AND used_by = ?"
        row = reader.one(sql, hash_token(invitation), account)
    return "member" if row is None else row[0]


def _use_invitation(
    tx: Transaction, context: Context, invitation: str | None, account: AccountId, now_ms: int
) -> tuple[AccountRole, str | None]:
    """Return the role that the invitation gives and who made it, and use it up."""
    if invitation is None and context.config.registration == "open":
        return "member", None
    role, made_by = _find_invitation(tx, invitation, now_ms)
    tx.run("UPDATE invitations SET used_by = ? WHERE token_hash = ?", account, hash_token(invitation or ""))
    return role, made_by


def _find_invitation(reader: Reader, invitation: str | None, now_ms: int) -> tuple[AccountRole, str | None]:
    """Return the role that an unused invitation gives, and who made it."""
    if invitation is None:
        raise Problem("invitation-refused", "this server asks for an invitation")
    row = reader.one(
        "SELECT role, made_by FROM invitations WHERE token_hash = ? AND used_by IS NULL AND expires_at_ms > ?",
        *(hash_token(invitation), now_ms),
    )
    if row is None:
        raise Problem("invitation-refused", "ask for a new invitation")
    return row[0], row[1]


def find_account(reader: Reader, account: AccountId) -> AccountInfo | None:
    """Return an account, if it is registered."""
    row = reader.one("SELECT handle, role FROM accounts WHERE account = ?", account)
    return None if row is None else AccountInfo(account, row[0], row[1])


async def resolve_handle(context: Context, caller: Caller | None, request: ResolveHandle) -> ResolvedHandle:
    """Tell which account or channel a handle names; a blocked channel is found by no name."""
    del caller

    def query(reader: Reader) -> ResolvedHandle:
        row = reader.one("SELECT holder FROM handles WHERE handle = ?", request.handle)
        if row is None:
            raise Problem("not-found", "nobody has this handle")
        holder: str = row[0]
        if holder.startswith("a"):
            return ResolvedHandle(request.handle, account=AccountId(holder))
        restrictions.require_channel(reader, ChannelId(holder))
        return ResolvedHandle(request.handle, channel=holder)

    return await context.database.read(query)


async def set_role(context: Context, caller: Caller, request: SetRole) -> AccountInfo:
    """Give an account a role; a server keeps at least one administrator."""
    del caller

    def act(tx: Transaction) -> AccountInfo:
        known = find_account(tx, request.account)
        if known is None:
            raise Problem("not-found", "there is no such account")
        tx.run("UPDATE accounts SET role = ? WHERE account = ?", request.role, request.account)
        if not _has_administrator(tx):
            raise Problem("not-allowed", "a server keeps an administrator: make another one first")
        tx.after_commit(lambda: context.sessions.forget_account(request.account))
        return AccountInfo(request.account, known.handle, request.role)

    return await context.database.write(act)


async def create_invitation(context: Context, caller: Caller, request: CreateInvitation) -> Invitation:
    """Make a single-use invitation."""
    if request.role != "member" and caller.role != "administrator":
        raise Problem("not-allowed", "only an administrator may invite reviewers and administrators")
    now_ms = context.now_ms()
    expires_at_ms = now_ms + request.expires_in_s * 1000
    token = new_token(context.random)

    def act(tx: Transaction) -> None:
        row = tx.one(
            "SELECT count(*) FROM invitations WHERE made_by = ? AND used_by IS NULL AND expires_at_ms > ?",
            *(caller.account, now_ms),
        )
        if row is not None and row[0] >= context.limits.open_invitations_per_account:
            raise Problem("too-many-requests", "you have many open invitations: wait until some are used or over")
        _insert_invitation(tx, token, request.role, caller.account, expires_at_ms)

    await context.database.write(act)
    return Invitation(token, expires_at_ms)


async def first_invitation(context: Context) -> str | None:
    """Return a fresh administrator's invitation while the server has no administrator; older ones end."""
    now_ms = context.now_ms()
    token = new_token(context.random)

    def act(tx: Transaction) -> str | None:
        if _has_administrator(tx):
            return None
        tx.run("DELETE FROM invitations WHERE made_by IS NULL AND used_by IS NULL")
        expires_at_ms = now_ms + context.limits.first_invitation_lives_s * 1000
        _insert_invitation(tx, token, "administrator", None, expires_at_ms)
        return token

    return await context.database.write(act)


def _insert_invitation(
    tx: Transaction, token: str, role: AccountRole, made_by: AccountId | None, expires_at_ms: int
) -> None:
    tx.run(
        "INSERT INTO invitations (token_hash, role, made_by, expires_at_ms, used_by) VALUES (?, ?, ?, ?, NULL)",
        *(hash_token(token), role, made_by, expires_at_ms),
    )


def _has_administrator(reader: Reader) -> bool:
    return reader.one("SELECT 1 FROM accounts WHERE role = 'administrator' LIMIT 1") is not None
