"""A town around the public square: authors with channels, reporters, and reviewers, all over HTTP.

These are the acts that tests of channels, posts, pages and moderation share.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

from heliograph.wire import channels as c
from heliograph.wire.encoding import encode_msgpack
from heliograph.wire.ids import CaseId, ChannelId, Handle, channel_id
from heliograph.wire.moderation import (
    CaseSummary,
    Decide,
    Decided,
    ListCases,
    Measure,
    MeasureKind,
    ReportPublic,
    ReportReceipt,
)
from tests.world import Person, World

VIOLENCE = "STATEMENT_CATEGORY_VIOLENCE"


async def open_channel(w: World, owner: Person, handle: str = "news", title: str = "News") -> ChannelId:
    """Open a channel."""
    channel = channel_id(secrets.token_bytes(16))
    request = c.CreateChannel(channel, Handle(handle), title, "What happens", ("en",))
    await w.call("create_channel", request, owner)
    return channel


def plain_post(w: World, author: Person, channel: ChannelId, body: str = "hello", **changes: Any) -> c.Post:
    """Return a post that is not signed yet; `changes` replace fields."""
    fields: dict[str, Any] = {
        "channel": channel,
        "key": secrets.token_bytes(16),
        "created_at_ms": w.clock(),
        "language": "en",
        "body": body,
        "attachments": (),
        "reply_to": None,
        "signed_by": c.Author(author.account, author.device),
    }
    return c.Post(**(fields | changes))


def signed_post(w: World, author: Person, channel: ChannelId, body: str = "hello", **changes: Any) -> c.SubmitSigned:
    """Return a post, signed."""
    return sign(author, channel, c.POST_LABEL, plain_post(w, author, channel, body, **changes))


def signed_edit(
    w: World, author: Person, channel: ChannelId, of: int, body: str = "hello again", **changes: Any
) -> c.SubmitSigned:
    """Return an edit, signed."""
    return sign(author, channel, c.EDIT_LABEL, c.Edit(of, plain_post(w, author, channel, body, **changes)))


def signed_deletion(w: World, author: Person, channel: ChannelId, of: int, **changes: Any) -> c.SubmitSigned:
    """Return a deletion, signed."""
    fields: dict[str, Any] = {
        "channel": channel,
        "of": of,
        "key": secrets.token_bytes(16),
        "created_at_ms": w.clock(),
        "signed_by": c.Author(author.account, author.device),
    }
    return sign(author, channel, c.TOMBSTONE_LABEL, c.Deletion(**(fields | changes)))


def sign(author: Person, channel: ChannelId, label: str, content: c.Post | c.Edit | c.Deletion) -> c.SubmitSigned:
    """Return what is submitted: the canonical bytes and the author's signature."""
    signed = encode_msgpack(content)
    return c.SubmitSigned(channel, signed, c.sign(label, signed, author.device_key))


async def publish(w: World, author: Person, channel: ChannelId, body: str = "hello", **changes: Any) -> int:
    """Publish a post and return its id."""
    return (await w.call("submit_post", signed_post(w, author, channel, body, **changes), author)).seq


async def read_bodies(w: World, channel: ChannelId) -> list[str]:
    """Return the bodies of the posts that stand."""
    page: c.PostPage = await w.call("read_posts", c.ReadPosts(channel))
    return [post.body for view in page.posts if (post := c.newest_post(view)) is not None]


# ------------------------------------------------------------------------------------------------ reports, decisions


async def new_reviewer(w: World, handle: str = "rita") -> Person:
    """Register a reviewer."""
    return await become_reviewer(w, await w.register(handle))


async def become_reviewer(w: World, person: Person) -> Person:
    """Give someone the role of a reviewer."""
    sql = "UPDATE accounts SET role = 'reviewer' WHERE account = ?"
    await w.context.database.write(lambda tx: tx.run(sql, person.account))
    w.context.sessions.forget_account(person.account)
    return person


async def report(w: World, reporter: Person | None, channel: ChannelId, **fields: Any) -> ReportReceipt:
    """Report a channel or, with `post`, a post."""
    wanted: dict[str, Any] = {"category": VIOLENCE, "explanation": "It calls for violence.", "good_faith": True}
    return await w.call("report_public", ReportPublic(channel, **(wanted | fields)), reporter)


async def open_cases(w: World, reviewer: Person) -> list[CaseSummary]:
    """Return the open cases, oldest first."""
    return (await w.call("list_cases", ListCases(), reviewer)).cases


def ruling(case: CaseId, *kinds: MeasureKind, **changes: Any) -> Decide:
    """Return a decision to be made."""
    wanted: dict[str, Any] = {
        "measures": [Measure(kind) for kind in kinds],
        "ground": "illegal-content",
        "ground_reference": "Criminal Code, section 130",
        "category": VIOLENCE,
        "reason": "It calls for violence against people",
        "facts": "The post names a place and a time, and asks readers to bring weapons.",
    }
    return Decide(case, **(wanted | changes))


async def report_and_decide(
    w: World, reviewer: Person, channel: ChannelId, *kinds: MeasureKind, post: int | None = None
) -> Decided:
    """Report a channel or post without an account, and decide the case."""
    await report(w, None, channel, post=post)
    case = (await open_cases(w, reviewer))[-1].case
    return await w.call("decide", ruling(case, *kinds), reviewer)


# ------------------------------------------------------------------------------------------------------------ pages


@dataclass(frozen=True)
class Answer:
    """What a browser without scripts gets."""

    status: int
    headers: Mapping[str, str]
    links: Sequence[str]
    text: str


async def browse(w: World, path: str, form: Mapping[str, str] | None = None, **headers: str) -> Answer:
    """Get a page, or send a form to it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    method = "GET" if form is None else "POST"
    async with w.http.request(method, w.url + path, data=form, headers=named, allow_redirects=False) as response:
        links = response.headers.getall("Link", [])
        return Answer(response.status, response.headers, links, await response.text())


class Outline(HTMLParser):
    """Reads a page strictly: every element that is opened must be closed, in order."""

    VOID = frozenset({"meta", "link", "br", "input", "hr", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"</{tag}> closes nothing"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of every such element."""
        return [attrs for name, attrs in self.tags if name == tag]
