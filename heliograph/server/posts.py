"""Posts of public channels: signed by their author, one entry each whatever the audience.

```
posts (channel, post)          one row a post: where its newest version is, or why it is gone
   |  version
entries (topic = channel, seq) the signed bytes, once: stream, pages and API read the same entry
```

A post's id is the seq of its first entry. An edit is a new entry; so is a removal, and that one takes the bodies of
all the post's versions out. The server keeps and gives out exactly the bytes that were signed.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from heliograph.server import log
from heliograph.server.auth import Caller
from heliograph.server.channels import require_device_key, require_open, require_right
from heliograph.server.context import Context
from heliograph.server.db.database import Reader, Row, Transaction
from heliograph.server.text import TextError, check_body, check_lines
from heliograph.wire.channels import (
    EDIT_LABEL,
    MAX_BODY_SIZE_BYTES,
    POST_LABEL,
    TOMBSTONE_LABEL,
    Author,
    GetPost,
    Post,
    PostPage,
    PostView,
    Published,
    ReadPosts,
    SubmitSigned,
    Tombstone,
    decode_deletion,
    decode_edit,
    decode_post,
    verify,
)
from heliograph.wire.events import EditEvent, PostEvent, TombstoneEvent, event_decoder
from heliograph.wire.ids import AccountId, ChannelId, channel_topic
from heliograph.wire.problems import Problem

CLOCK_DIFFERENCE_MS: Final = 10 * 60 * 1000
"""How far the time that an author signed may be from the server's."""

EARLIER_VERSIONS: Final = 20
"""How many of a post's versions before the newest a page shows."""

_ADDRESS: Final = re.compile("https://[!-~]+", re.ASCII)
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+", re.ASCII)
_BEYOND_ALL: Final = 2**53
_VIEW_COLUMNS: Final = """
    SELECT p.post, p.version, p.accepted_at_ms, p.tombstone_by, p.tombstone_at_ms, p.decision, coalesce(d.reason, '')
    FROM posts p LEFT JOIN decisions d ON d.decision = p.decision
"""
_ONE: Final = _VIEW_COLUMNS + " WHERE p.channel = ? AND p.post = ?"
_AFTER: Final = _VIEW_COLUMNS + " WHERE p.channel = ? AND p.post > ? AND p.post < ? ORDER BY p.post LIMIT ?"
_BEFORE: Final = _VIEW_COLUMNS + " WHERE p.channel = ? AND p.post < ? ORDER BY p.post DESC LIMIT ?"


_Publish = Callable[[Transaction, int], int]
"""Write what was submitted at the time given (ms) and return its entry's seq."""


@dataclass(frozen=True, slots=True)
class _Signed:
    """A submission, parsed: what its signature is over, and what all three kinds say."""

    label: str
    request: SubmitSigned
    channel: ChannelId
    key: bytes
    created_at_ms: int
    author: Author

    @property
    def digest(self) -> bytes:
        """What tells whether the same key was used for the same thing."""
        return hashlib.sha256(self.label.encode() + b"\x00" + self.request.signed).digest()


async def submit_post(context: Context, caller: Caller, request: SubmitSigned) -> Published:
    """Publish a signed post; the same key with the same bytes is answered as the first time.

    Raises:
        Problem: `not-found`, `channel-restricted`, `not-allowed`, `invalid-post`, `key-reused`.
    """
    post = decode_post(request.signed)
    signed = _Signed(POST_LABEL, request, post.channel, post.key, post.created_at_ms, post.signed_by)
    _check_post(post)

    def publish(tx: Transaction, now_ms: int) -> int:
        require_right(tx, post.channel, caller.account, "post")
        if post.reply_to is not None and _post_row(tx, post.channel, post.reply_to) is None:
            raise Problem("invalid-post", "the post that it replies to does not exist")
        event = PostEvent(request.signed, request.signature, now_ms)
        seq = log.append(tx, channel_topic(post.channel), event)
        tx.run(
            "INSERT INTO posts (channel, post, version, author, accepted_at_ms) VALUES (?, ?, ?, ?, ?)",
            *(post.channel, seq, seq, caller.account, now_ms),
        )
        _add_version(tx, post.channel, seq, seq)
        return seq

    return await _submit(context, caller, signed, publish)


async def edit_post(context: Context, caller: Caller, request: SubmitSigned) -> Published:
    """Replace a post by a new signed version; the earlier ones stay readable in the channel's log.

    Raises:
        Problem: as `submit_post`, and `post-removed`.
    """
    edit = decode_edit(request.signed)
    post = edit.post
    signed = _Signed(EDIT_LABEL, request, post.channel, post.key, post.created_at_ms, post.signed_by)
    _check_post(post)

    def publish(tx: Transaction, now_ms: int) -> int:
        require_right(tx, post.channel, caller.account, "edit")
        _require_standing(tx, post.channel, edit.of)
        event = EditEvent(edit.of, request.signed, request.signature, now_ms)
        seq = log.append(tx, channel_topic(post.channel), event)
        tx.run("UPDATE posts SET version = ? WHERE channel = ? AND post = ?", seq, post.channel, edit.of)
        _add_version(tx, post.channel, edit.of, seq)
        return seq

    return await _submit(context, caller, signed, publish)


async def delete_post(context: Context, caller: Caller, request: SubmitSigned) -> Published:
    """Delete a post: its author may, and who has the right to remove posts in the channel.

    Raises:
        Problem: as `edit_post`.
    """
    deletion = decode_deletion(request.signed)
    channel = deletion.channel
    signed = _Signed(TOMBSTONE_LABEL, request, channel, deletion.key, deletion.created_at_ms, deletion.signed_by)

    def publish(tx: Transaction, now_ms: int) -> int:
        author = _require_standing(tx, channel, deletion.of)
        if author != caller.account:
            require_right(tx, channel, caller.account, "remove")
        tombstone = Tombstone("author" if author == caller.account else "channel", now_ms)
        return bury(tx, channel, deletion.of, tombstone, request.signed, request.signature)

    return await _submit(context, caller, signed, publish)


async def read_posts(context: Context, caller: Caller | None, request: ReadPosts) -> PostPage:
    """Return a page of posts in their newest version, oldest first.

    Raises:
        Problem: `not-found`, `channel-restricted`.
    """
    del caller
    return await context.database.read(lambda reader: page(reader, request))


async def get_post(context: Context, caller: Caller | None, request: GetPost) -> PostView:
    """Return one post, or its tombstone.

    Raises:
        Problem: `not-found`, `channel-restricted`.
    """
    del caller
    return await context.database.read(lambda reader: view(reader, request.channel, request.post))


def page(reader: Reader, request: ReadPosts) -> PostPage:
    """Return a page of posts of a channel that may be read.

    Raises:
        Problem: `not-found`, `channel-restricted`.
    """
    channel = request.channel
    require_open(reader, channel)
    below = _BEYOND_ALL if request.before is None else request.before
    if request.after is not None:
        rows = reader.all(_AFTER, channel, request.after, below, request.limit)
    else:
        rows = reader.all(_BEFORE, channel, below, request.limit)[::-1]
    views = (_view(reader, channel, row) for row in rows)
    topic = channel_topic(channel)
    return PostPage([one for one in views if one is not None], log.heads(reader, [topic])[topic][1])


def view(reader: Reader, channel: ChannelId, post: int) -> PostView:
    """Return a post of a channel that may be read, or its tombstone.

    Raises:
        Problem: `not-found`, `channel-restricted`.
    """
    require_open(reader, channel)
    row = _post_row(reader, channel, post)
    found = None if row is None else _view(reader, channel, row)
    if found is None:
        raise Problem("not-found", "there is no such post in this channel")
    return found


def earlier_versions(reader: Reader, channel: ChannelId, post: int) -> list[PostView]:
    """Return the versions of a post before its newest one, oldest first; none of a post that is gone."""
    rows = reader.all(
        "SELECT v.version FROM post_versions v JOIN posts p ON p.channel = v.channel AND p.post = v.post"
        " WHERE v.channel = ? AND v.post = ? AND v.version < p.version AND p.tombstone_by IS NULL"
        " ORDER BY v.version DESC LIMIT ?",
        *(channel, post, EARLIER_VERSIONS),
    )
    views = (_version(reader, channel, post, version) for (version,) in reversed(rows))
    return [one for one in views if one is not None]


def author_of(reader: Reader, channel: ChannelId, post: int) -> AccountId | None:
    """Return whose device signed a post's first version."""
    row = reader.one("SELECT author FROM posts WHERE channel = ? AND post = ?", channel, post)
    return None if row is None else AccountId(row[0])


def bury(
    tx: Transaction, channel: ChannelId, post: int, tombstone: Tombstone, signed: bytes = b"", signature: bytes = b""
) -> int:
    """Put a tombstone in a post's place, take the bodies of all its versions out, and return the entry's seq."""
    topic = channel_topic(channel)
    for (version,) in tx.all("SELECT version FROM post_versions WHERE channel = ? AND post = ?", channel, post):
        log.erase(tx, topic, version, "removed")
    tx.run(
        "UPDATE posts SET tombstone_by = ?, tombstone_at_ms = ?, decision = ? WHERE channel = ? AND post = ?",
        *(tombstone.by, tombstone.at_ms, tombstone.decision, channel, post),
    )
    return log.append(tx, topic, TombstoneEvent(post, tombstone, signed, signature))


def _check_post(post: Post) -> None:
    try:
        check_body(post.body, MAX_BODY_SIZE_BYTES)
    except TextError as error:
        raise Problem("invalid-post", f"the body cannot be published: {error}") from None
    for attachment in post.attachments:
        if _ADDRESS.fullmatch(attachment.url) is None:
            raise Problem("invalid-post", "an attachment is named by an https address")
        if _MEDIA_TYPE.fullmatch(attachment.media_type) is None:
            raise Problem("invalid-post", "an attachment's media_type is a type and a subtype, as in image/png")
        try:
            check_lines(attachment.description)
        except TextError as error:
            raise Problem("invalid-post", f"an attachment's description cannot be published: {error}") from None


def _check_submission(signed: _Signed, caller: Caller) -> None:
    if signed.channel != signed.request.channel:
        raise Problem("invalid-post", "the signed bytes are for another channel")
    if (signed.author.account, signed.author.device) != (caller.account, caller.device):
        raise Problem("invalid-post", "the signed bytes name another author than the session")


async def _submit(context: Context, caller: Caller, signed: _Signed, publish: _Publish) -> Published:
    _check_submission(signed, caller)
    request, channel = signed.request, signed.channel

    def verified(reader: Reader) -> None:
        require_open(reader, channel)
        device_key = require_device_key(reader, caller.account, caller.device)
        verify(signed.label, request.signed, request.signature, device_key)

    await context.database.read(verified)
    now_ms = context.now_ms()

    def act(tx: Transaction) -> Published:
        require_open(tx, channel)
        first = _first_answer(tx, signed, caller.account)
        if first is not None:
            return first
        if abs(now_ms - signed.created_at_ms) > CLOCK_DIFFERENCE_MS:
            raise Problem("invalid-post", "the time in the signed bytes is more than 10 minutes from the server's")
        seq = publish(tx, now_ms)
        tx.run(
            "INSERT INTO channel_requests (channel, account, key, digest, seq, accepted_at_ms)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            *(channel, caller.account, signed.key, signed.digest, seq, now_ms),
        )
        return Published(seq, now_ms)

    return await context.database.write(act)


def _first_answer(tx: Transaction, signed: _Signed, account: AccountId) -> Published | None:
    row = tx.one(
        "SELECT digest, seq, accepted_at_ms FROM channel_requests WHERE channel = ? AND account = ? AND key = ?",
        *(signed.channel, account, signed.key),
    )
    if row is None:
        return None
    digest, seq, accepted_at_ms = row
    if digest != signed.digest:
        raise Problem("key-reused", "this key was used for something else: take a new one")
    return Published(seq, accepted_at_ms)


def _require_standing(reader: Reader, channel: ChannelId, post: int) -> AccountId:
    """Return the author of a post that stands."""
    row = reader.one("SELECT author, tombstone_by FROM posts WHERE channel = ? AND post = ?", channel, post)
    if row is None:
        raise Problem("not-found", "there is no such post in this channel")
    if row[1] is not None:
        raise Problem("post-removed", "the post is gone: its tombstone says why")
    return AccountId(row[0])


def _add_version(tx: Transaction, channel: ChannelId, post: int, version: int) -> None:
    tx.run("INSERT INTO post_versions (channel, version, post) VALUES (?, ?, ?)", channel, version, post)


def _post_row(reader: Reader, channel: ChannelId, post: int) -> Row | None:
    return reader.one(_ONE, channel, post)


def _view(reader: Reader, channel: ChannelId, row: Row) -> PostView | None:
    """Return a row as readers get it; None where its entry can no longer be read from the disk."""
    post, version, accepted_at_ms, by, at_ms, decision, reason = row
    if by is not None:
        return PostView(post, version, accepted_at_ms, tombstone=Tombstone(by, at_ms, decision, reason))
    found = _version(reader, channel, post, version)
    return None if found is None else replace(found, accepted_at_ms=accepted_at_ms)


def _version(reader: Reader, channel: ChannelId, post: int, version: int) -> PostView | None:
    entries = log.read(reader, channel_topic(channel), version - 1, 1, 2**20)
    event = event_decoder.decode(entries[0].body) if entries and entries[0].seq == version else None
    if not isinstance(event, PostEvent | EditEvent):
        return None
    return PostView(post, version, event.accepted_at_ms, event.signed, event.signature)
