"""Who may start a conversation with whom: consent, a shared room, or a contact token.

A consent is one row that holds nothing but a keyed hash of both accounts, so that a copy of the database is no list of
contacts. Every refusal is the same `no-consent`, for an account that does not exist too.
"""

import hmac

from heliograph.server import rooms
from heliograph.server.auth import Caller, hash_token, new_token
from heliograph.server.context import Context
from heliograph.server.db.database import Reader, Transaction
from heliograph.wire.accounts import AccountRequest, ContactToken, CreateContactToken, Empty
from heliograph.wire.ids import AccountId
from heliograph.wire.problems import Problem


async def grant_consent(context: Context, caller: Caller, request: AccountRequest) -> Empty:
    """Let `request.account` start conversations with the caller's account."""
    pair = _pair(context, caller.account, request.account)

    def act(tx: Transaction) -> None:
        if tx.one("SELECT 1 FROM accounts WHERE account = ?", request.account) is None:
            raise Problem("not-found", "there is no such account")
        tx.run("INSERT INTO consents (pair) VALUES (?) ON CONFLICT DO NOTHING", pair)

    await context.database.write(act)
    return Empty()


async def withdraw_consent(context: Context, caller: Caller, request: AccountRequest) -> Empty:
    """Take the caller's consent back; rooms that are shared already stay."""
    pair = _pair(context, caller.account, request.account)
    await context.database.write(lambda tx: tx.run("DELETE FROM consents WHERE pair = ?", pair))
    return Empty()


async def create_contact_token(context: Context, caller: Caller, request: CreateContactToken) -> ContactToken:
    """Make a token whose holders may start conversations with the caller's account; the oldest makes room."""
    token = new_token(context.random)
    now_ms = context.now_ms()
    expires_at_ms = now_ms + request.expires_in_s * 1000

    def act(tx: Transaction) -> None:
        tx.run("DELETE FROM contact_tokens WHERE account = ? AND expires_at_ms <= ?", caller.account, now_ms)
        tx.run(
            "DELETE FROM contact_tokens WHERE token_hash IN (SELECT token_hash FROM contact_tokens"
            " WHERE account = ? ORDER BY expires_at_ms DESC LIMIT 1000 OFFSET ?)",
            caller.account,
            context.limits.contact_tokens_per_account - 1,
        )
        tx.run(
            "INSERT INTO contact_tokens (token_hash, account, expires_at_ms) VALUES (?, ?, ?)",
            hash_token(token),
            caller.account,
            expires_at_ms,
        )

    await context.database.write(act)
    return ContactToken(token, expires_at_ms)


def require_consent(
    context: Context, reader: Reader, caller: AccountId, owner: AccountId, contact_token: str | None
) -> None:
    """Refuse unless `caller` may take key packages of `owner`.

    Raises:
        Problem: `no-consent`, whatever the reason.
    """
    if caller == owner:
        return
    if reader.one("SELECT 1 FROM consents WHERE pair = ?", _pair(context, owner, caller)) is not None:
        return
    if rooms.share_a_room(reader, caller, owner):
        return
    if contact_token is not None and _opens(reader, contact_token, owner, context.now_ms()):
        return
    raise Problem("no-consent", "ask them for a contact link, or to add you first")


def _opens(reader: Reader, contact_token: str, owner: AccountId, now_ms: int) -> bool:
    row = reader.one(
        "SELECT 1 FROM contact_tokens WHERE token_hash = ? AND account = ? AND expires_at_ms > ?",
        hash_token(contact_token),
        owner,
        now_ms,
    )
    return row is not None


def _pair(context: Context, owner: AccountId, peer: AccountId) -> bytes:
    return hmac.digest(context.secrets.lookup_key, f"consent {owner} {peer}".encode(), "sha256")
