"""Public channels: places that anyone may read, with roles for who may do more.

A role is a name for a set of rights, and code asks for the right. Whoever opens a channel owns it; a channel always
has an owner. Following is a row that only its own account reads; the count is public, the list is nobody's, not the
owner's either. What stands in a channel is in `posts.py`.
"""

import json
from typing import Final, Literal

from heliograph.server import log, restrictions
from heliograph.server.accounts import check_handle, find_account, take_handle
from heliograph.server.auth import Caller
from heliograph.server.context import Context
from heliograph.server.db.database import Reader, Row, Transaction
from heliograph.server.text import TextError, check_line, check_lines
from heliograph.wire.accounts import Empty
from heliograph.wire.channels import (
    ChannelInfo,
    ChannelRequest,
    ChannelRole,
    Channels,
    CreateChannel,
    ListChannels,
    SetChannelRole,
    UpdateChannel,
)
from heliograph.wire.ids import AccountId, ChannelId, DeviceId, TopicId, channel_topic
from heliograph.wire.problems import Problem

Right = Literal["post", "edit", "remove", "change", "appoint"]

RIGHTS: Final[dict[ChannelRole, frozenset[Right]]] = {
    "owner": frozenset({"post", "edit", "remove", "change", "appoint"}),
    "editor": frozenset({"post", "edit"}),
    "moderator": frozenset({"remove"}),
}

_COLUMNS: Final = """
    SELECT c.channel, c.handle, c.title, c.description, c.languages, c.created_at_ms, c.followers, t.head,
        (SELECT account FROM channel_roles WHERE channel = c.channel AND role = 'owner'
         ORDER BY given_at_ms, account LIMIT 1),
        (SELECT role FROM channel_roles WHERE channel = c.channel AND account = ?)
    FROM channels c JOIN topics t ON t.topic = c.channel
"""
_ONE: Final = _COLUMNS + " WHERE c.channel = ?"
_FOLLOWED: Final = _COLUMNS + " JOIN channel_followers f ON f.channel = c.channel WHERE f.account = ? ORDER BY c.handle"
_DIRECTORY: Final = (
    _COLUMNS + " LEFT JOIN restrictions r ON r.target = c.channel AND r.lifted_by IS NULL"
    " WHERE c.handle > ? AND r.target IS NULL ORDER BY c.handle LIMIT ?"
)


async def create_channel(context: Context, caller: Caller, request: CreateChannel) -> ChannelInfo:
    """Open a channel that the caller owns. The same request again is answered with the channel as it is.

    Raises:
        Problem: `invalid-handle`, `handle-taken`, `key-reused` (the id is another channel's), `malformed`,
            `not-allowed` (the account has opened as many channels as it may).
    """
    check_handle(request.handle)
    check_text(request.title, request.description)
    now_ms, most = context.now_ms(), context.limits.channels_per_account

    def act(tx: Transaction) -> ChannelInfo:
        there = tx.one("SELECT founder, handle FROM channels WHERE channel = ?", request.channel)
        if there is None:
            _open(tx, caller.account, request, now_ms, most)
        elif there != (caller.account, request.handle):
            raise Problem("key-reused", "this id belongs to another channel: make a new one")
        return info(tx, request.channel, caller.account)

    return await context.database.write(act)


async def list_channels(context: Context, caller: Caller | None, request: ListChannels) -> Channels:
    """Return a page of the directory, by handle. Blocked and limited channels are not in it."""
    del caller
    return Channels(await context.database.read(lambda reader: directory(reader, request.after, request.limit)))


async def get_channel(context: Context, caller: Caller | None, request: ChannelRequest) -> ChannelInfo:
    """Describe a channel, and the caller's own role in it.

    Raises:
        Problem: `not-found`, `channel-restricted`.
    """
    account = None if caller is None else caller.account

    def query(reader: Reader) -> ChannelInfo:
        require_open(reader, request.channel)
        return info(reader, request.channel, account)

    return await context.database.read(query)


async def update_channel(context: Context, caller: Caller, request: UpdateChannel) -> ChannelInfo:
    """Change a channel's title, description or languages; what is absent stays.

    Raises:
        Problem: `not-found`, `channel-restricted`, `not-allowed`, `malformed`.
    """
    check_text(request.title, request.description)
    languages = None if request.languages is None else json.dumps(list(request.languages))

    def act(tx: Transaction) -> ChannelInfo:
        require_open(tx, request.channel)
        require_right(tx, request.channel, caller.account, "change")
        tx.run(
            "UPDATE channels SET title = coalesce(?, title), description = coalesce(?, description),"
            " languages = coalesce(?, languages) WHERE channel = ?",
            *(request.title, request.description, languages, request.channel),
        )
        return info(tx, request.channel, caller.account)

    return await context.database.write(act)


async def set_channel_role(context: Context, caller: Caller, request: SetChannelRole) -> Empty:
    """Give an account a role, or take it away. Owners do that; anyone may lay down a role of their own.

    Raises:
        Problem: `not-found` (channel or account), `channel-restricted`, `not-allowed` (also for the last owner).
    """
    now_ms = context.now_ms()

    def act(tx: Transaction) -> Empty:
        require_open(tx, request.channel)
        if request.account != caller.account or request.role is not None:
            require_right(tx, request.channel, caller.account, "appoint")
        if find_account(tx, request.account) is None:
            raise Problem("not-found", "there is no such account")
        if request.role is None:
            tx.run(
                "DELETE FROM channel_roles WHERE channel = ? AND account = ?",
                *(request.channel, request.account),
            )
        else:
            _give_role(tx, request.channel, request.account, request.role, now_ms)
        if not owners(tx, request.channel):
            raise Problem("not-allowed", "a channel keeps at least one owner: make someone else owner first")
        return Empty()

    return await context.database.write(act)


async def follow(context: Context, caller: Caller, request: ChannelRequest) -> Empty:
    """Follow a channel; following it twice is following it.

    Raises:
        Problem: `not-found`, `channel-restricted`, `not-allowed` (the account follows as many as it may).
    """
    now_ms, most = context.now_ms(), context.limits.channels_followed

    def act(tx: Transaction) -> Empty:
        require_open(tx, request.channel)
        added = tx.run(
            "INSERT INTO channel_followers (account, channel, since_ms) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            *(caller.account, request.channel, now_ms),
        )
        if added:
            if _count(tx, "SELECT count(*) FROM channel_followers WHERE account = ?", caller.account) > most:
                raise Problem("not-allowed", f"an account follows at most {most} channels")
            tx.run("UPDATE channels SET followers = followers + 1 WHERE channel = ?", request.channel)
        return Empty()

    return await context.database.write(act)


async def unfollow(context: Context, caller: Caller, request: ChannelRequest) -> Empty:
    """Follow a channel no more; a blocked one can be left too."""

    def act(tx: Transaction) -> Empty:
        gone = tx.run(
            "DELETE FROM channel_followers WHERE account = ? AND channel = ?",
            *(caller.account, request.channel),
        )
        if gone:
            tx.run("UPDATE channels SET followers = followers - 1 WHERE channel = ?", request.channel)
        return Empty()

    return await context.database.write(act)


async def list_following(context: Context, caller: Caller, request: Empty) -> Channels:
    """List what the caller follows, by handle. Of a blocked channel only the handle and the state are told."""
    del request

    def query(reader: Reader) -> Channels:
        rows = reader.all(_FOLLOWED, caller.account, caller.account)
        return Channels([_info(reader, row) for row in rows])

    return await context.database.read(query)


def followed_topics(reader: Reader, account: AccountId) -> list[TopicId]:
    """Return the topics of the channels that an account follows."""
    rows = reader.all("SELECT channel FROM channel_followers WHERE account = ? ORDER BY channel", account)
    return [TopicId(channel) for (channel,) in rows]


def require_open(reader: Reader, channel: ChannelId) -> None:
    """Refuse where there is no such channel, or it is blocked.

    Raises:
        Problem: `not-found`, `channel-restricted`.
    """
    if reader.one("SELECT channel FROM channels WHERE channel = ?", channel) is None:
        raise Problem("not-found", "there is no such channel")
    restrictions.require_channel(reader, channel)


def require_right(reader: Reader, channel: ChannelId, account: AccountId, right: Right) -> None:
    """Refuse where the account's role in the channel does not give this right.

    Raises:
        Problem: `not-allowed`.
    """
    row = reader.one("SELECT role FROM channel_roles WHERE channel = ? AND account = ?", channel, account)
    role: ChannelRole | None = None if row is None else row[0]
    if role is None or right not in RIGHTS[role]:
        able = " or ".join(name for name, rights in RIGHTS.items() if right in rights)
        raise Problem("not-allowed", f"this needs a role in the channel: {able}")


def require_device_key(reader: Reader, account: AccountId, device: DeviceId) -> bytes:
    """Return the Ed25519 key of a device that stands in the account's newest state.

    Raises:
        Problem: `not-allowed`.
    """
    row = reader.one(
        "SELECT device_key FROM devices WHERE device = ? AND account = ? AND removed_at_ms IS NULL",
        *(device, account),
    )
    if row is None:
        raise Problem("not-allowed", "this device is not one of the account's any more")
    return row[0]


def owners(reader: Reader, channel: ChannelId) -> list[AccountId]:
    """Return who owns a channel, the longest-standing owner first."""
    rows = reader.all(
        "SELECT account FROM channel_roles WHERE channel = ? AND role = 'owner' ORDER BY given_at_ms, account",
        channel,
    )
    return [AccountId(account) for (account,) in rows]


def info(reader: Reader, channel: ChannelId, account: AccountId | None) -> ChannelInfo:
    """Return a channel as `account` sees it.

    Raises:
        Problem: `not-found`.
    """
    row = reader.one(_ONE, account, channel)
    if row is None:
        raise Problem("not-found", "there is no such channel")
    return _info(reader, row)


def find(reader: Reader, handle: str) -> ChannelId:
    """Return the channel of a handle; whether it may be read is another question.

    Raises:
        Problem: `not-found`.
    """
    row = reader.one("SELECT channel FROM channels WHERE handle = ?", handle)
    if row is None:
        raise Problem("not-found", "there is no such channel")
    return ChannelId(row[0])


def directory(reader: Reader, after: str, limit: int) -> list[ChannelInfo]:
    """Return open channels whose handle comes after `after`, by handle."""
    rows = reader.all(_DIRECTORY, None, after, limit)
    return [_info(reader, row) for row in rows]


def check_text(title: str | None, description: str | None) -> None:
    """Check what a channel says about itself.

    Raises:
        Problem: `malformed`, with what is wrong.
    """
    try:
        if title is not None:
            check_line(title)
    except TextError as error:
        raise Problem("malformed", f"the title cannot be used: {error}") from None
    try:
        if description is not None:
            check_lines(description)
    except TextError as error:
        raise Problem("malformed", f"the description cannot be used: {error}") from None


def _open(tx: Transaction, founder: AccountId, request: CreateChannel, now_ms: int, most: int) -> None:
    if _count(tx, "SELECT count(*) FROM channels WHERE founder = ?", founder) >= most:
        raise Problem("not-allowed", f"an account opens at most {most} channels")
    take_handle(tx, request.handle, request.channel, now_ms)
    tx.run(
        "INSERT INTO channels (channel, handle, title, description, languages, founder, followers, created_at_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
        *(request.channel, request.handle, request.title, request.description),
        *(json.dumps(list(request.languages)), founder, now_ms),
    )
    _give_role(tx, request.channel, founder, "owner", now_ms)
    log.create_topic(tx, channel_topic(request.channel), now_ms)


def _give_role(tx: Transaction, channel: ChannelId, account: AccountId, role: ChannelRole, now_ms: int) -> None:
    tx.run(
        "INSERT INTO channel_roles (channel, account, role, given_at_ms) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (channel, account) DO UPDATE SET role = excluded.role, given_at_ms = excluded.given_at_ms"
        " WHERE channel_roles.role <> excluded.role",
        *(channel, account, role, now_ms),
    )


def _count(reader: Reader, sql: str, account: AccountId) -> int:
    row = reader.one(sql, account)
    return 0 if row is None else row[0]


def _info(reader: Reader, row: Row) -> ChannelInfo:
    channel, handle, title, description, languages, created_at_ms, followers, head_seq, owner, own_role = row
    state = restrictions.channel_state(reader, channel)
    hidden = state == "blocked"
    return ChannelInfo(
        channel=channel,
        handle=handle,
        title="" if hidden else title,
        description="" if hidden else description,
        languages=[] if hidden else json.loads(languages),
        owner=owner,
        created_at_ms=created_at_ms,
        head_seq=head_seq,
        followers=followers,
        state=state,
        own_role=own_role,
    )
