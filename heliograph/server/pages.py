"""Public channels as plain pages: read by anyone, with any browser, without an account and without scripts.

```
/                         what this server is, and the directory
/c/<handle>               a channel, newest posts first            ?before=<post>
/c/<handle>/<post>        one post, its earlier versions, or its tombstone
/c/<handle>[/<post>]/report    the report form --> a receipt
/reports/status           what became of a report
```

A page reads the same rows and entries as the API and asks the same gate, so a blocked channel answers 451 here from
the same moment. Each page names its machine-readable twin. Nothing here sets a cookie, so there is nothing that another
site could make a browser send along.
"""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from aiohttp import hdrs, web
from jinja2 import Environment, PackageLoader, StrictUndefined

from heliograph.server import channels, peer, posts
from heliograph.server.context import Context
from heliograph.server.db.database import Reader
from heliograph.server.http import problem_response, read_body
from heliograph.server.markdown import render
from heliograph.server.restrictions import APPEAL
from heliograph.wire.channels import ChannelInfo, PostView, PublicAttachment, ReadPosts, Tombstone, newest_post
from heliograph.wire.encoding import convert
from heliograph.wire.ids import HANDLE_PATTERN
from heliograph.wire.moderation import (
    MAX_EXPLANATION_LENGTH,
    GetReportStatus,
    ReportPublic,
    ReportReceipt,
    ReportStatus,
)
from heliograph.wire.problems import Problem

POSTS_A_PAGE: Final = 20
CHANNELS_A_PAGE: Final = 50
MAX_FORM_SIZE_BYTES: Final = 64 * 1024
MAX_FORM_FIELDS: Final = 16

_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    # The form must say where it comes from: its Origin is checked.
    "Referrer-Policy": "same-origin",
}
_REPORT_FIELDS: Final = frozenset({"category", "explanation", "good_faith", "name", "email"})
_POST: Final = re.compile("[1-9][0-9]{0,15}", re.ASCII)
_LANGUAGE: Final = re.compile("[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})?", re.ASCII)

T = TypeVar("T")
Page = Callable[[Context, web.Request], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Desk:
    """What the pages know of moderation: its categories with their labels, and two doors."""

    categories: Sequence[tuple[str, str]]
    receive: Callable[[Context, ReportPublic], Awaitable[ReportReceipt]]
    status: Callable[[Context, GetReportStatus], Awaitable[ReportStatus]]


@dataclass(frozen=True, slots=True)
class ShownPost:
    """A post as a template shows it; `body` is markdown."""

    id: int
    accepted_at_ms: int
    edited: bool = False
    author: str = ""
    account: str = ""
    language: str = ""
    body: str = ""
    attachments: tuple[PublicAttachment, ...] = ()
    reply_to: int | None = None
    tombstone: Tombstone | None = None


def page_routes(desk: Desk) -> Callable[[Context], Sequence[web.RouteDef]]:
    """Return the routes of the pages; reports go to `desk`."""

    def routes(context: Context) -> Sequence[web.RouteDef]:
        report, send = _report_form(desk), _send_report(desk)
        return [
            web.get("/", _answers(context, "read", _home)),
            web.get("/c/{handle}", _answers(context, "read", _channel)),
            web.get("/c/{handle}/report", _answers(context, "read", report)),
            web.post("/c/{handle}/report", _answers(context, "report", send)),
            web.get("/c/{handle}/{post}", _answers(context, "read", _post)),
            web.get("/c/{handle}/{post}/report", _answers(context, "read", report)),
            web.post("/c/{handle}/{post}/report", _answers(context, "report", send)),
            web.get("/reports/status", _answers(context, "read", _status_form)),
            web.post("/reports/status", _answers(context, "read", _status(desk))),
            web.get(_STYLE_PATH, _style),
        ]

    return routes


def _answers(context: Context, limit: str, page: Page) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return the handler of a page: it pays, and what it refuses is a page too."""

    async def answer(request: web.Request) -> web.Response:
        try:
            now_ms = context.now_ms()
            source = context.admission.source(peer.address(context, request), now_ms)
            context.admission.charge("source", source, now_ms)
            context.admission.charge(limit, source, now_ms)
            return await page(context, request)
        except Problem as problem:
            context.metrics.problems.labels(problem.slug).inc()
            return _refusal(context, request, problem)

    answer.operation_name = "page"  # type: ignore[attr-defined]
    return answer


# ---------------------------------------------------------------------------------------------------------- reading


async def _home(context: Context, request: web.Request) -> web.Response:
    after = request.rel_url.query.get("after", "")[:32]
    found = await context.database.read(lambda reader: channels.directory(reader, after, CHANNELS_A_PAGE + 1))
    shown = found[:CHANNELS_A_PAGE]
    return _respond(
        context,
        request,
        "home.html",
        alternate="/v1/channels",
        channels=shown,
        after=after,
        next_after=shown[-1].handle if len(found) > len(shown) else "",
        registration=context.config.registration,
    )


async def _channel(context: Context, request: web.Request) -> web.Response:
    handle = _handle(request)
    before = _optional_post(request.rel_url.query.get("before"))

    def query(reader: Reader) -> tuple[ChannelInfo, list[ShownPost]]:
        channel = _open_channel(reader, handle)
        page = posts.page(reader, ReadPosts(channel.channel, before=before, limit=POSTS_A_PAGE + 1))
        return channel, [_shown(reader, channel, view) for view in page.posts]

    channel, found = await context.database.read(query)
    shown = found[-POSTS_A_PAGE:]
    await asyncio.to_thread(_render, shown)
    return _respond(
        context,
        request,
        "channel.html",
        alternate=f"/v1/channels/{channel.channel}",
        channel=channel,
        posts=shown[::-1],
        before=before,
        older=shown[0].id if len(found) > len(shown) else 0,
    )


async def _post(context: Context, request: web.Request) -> web.Response:
    handle, post = _handle(request), _post_id(request)

    def query(reader: Reader) -> tuple[ChannelInfo, ShownPost, list[ShownPost]]:
        channel = _open_channel(reader, handle)
        one = _shown(reader, channel, posts.view(reader, channel.channel, post))
        earlier = posts.earlier_versions(reader, channel.channel, post)
        return channel, one, [_shown(reader, channel, view) for view in earlier]

    channel, one, earlier = await context.database.read(query)
    await asyncio.to_thread(_render, [one, *earlier])
    alternate = f"/v1/channels/{channel.channel}/posts/{post}"
    return _respond(
        context,
        request,
        "post.html",
        status=200 if one.tombstone is None else 410,
        alternate=alternate,
        channel=channel,
        one=one,
        earlier=earlier,
    )


def _open_channel(reader: Reader, handle: str) -> ChannelInfo:
    channel = channels.find(reader, handle)
    channels.require_open(reader, channel)
    return channels.info(reader, channel, None)


def _render(shown: Sequence[ShownPost]) -> None:
    """Render bodies ahead, on a thread of no importance: the templates then find them in the renderer's cache."""
    for one in shown:
        render(one.body)


def _shown(reader: Reader, channel: ChannelInfo, view: PostView) -> ShownPost:
    post = newest_post(view)
    if post is None:
        return ShownPost(view.id, view.accepted_at_ms, tombstone=view.tombstone)
    account = post.signed_by.account
    row = reader.one("SELECT handle FROM accounts WHERE account = ?", account)
    return ShownPost(
        id=view.id,
        accepted_at_ms=view.accepted_at_ms,
        edited=view.version != view.id,
        author=channel.handle if row is None else row[0],
        account=account,
        language=post.language,
        body=post.body,
        attachments=post.attachments,
        reply_to=post.reply_to,
    )


# -------------------------------------------------------------------------------------------------------- reporting


def _report_form(desk: Desk) -> Page:
    async def page(context: Context, request: web.Request) -> web.Response:
        return await _form(desk, context, request, {})

    return page


async def _form(
    desk: Desk, context: Context, request: web.Request, values: Mapping[str, str], error: Problem | None = None
) -> web.Response:
    """Show the form, with what was filled in and what was wrong with it."""
    channel, post = await _subject(context, request)
    return _respond(
        context,
        request,
        "report.html",
        status=200 if error is None else error.body.status,
        channel=channel,
        what="this channel" if post is None else f"post {post}",
        action=request.rel_url.path,
        categories=desk.categories,
        values={name: values.get(name, "") for name in ("category", "explanation", "name", "email")},
        error="" if error is None else error.body.detail,
        max_explanation=MAX_EXPLANATION_LENGTH,
    )


def _send_report(desk: Desk) -> Page:
    async def page(context: Context, request: web.Request) -> web.Response:
        channel, post = await _subject(context, request)
        values = await _read_form(context, request)
        try:
            report = _report(channel, post, values, request)
            receipt = await desk.receive(context, report)
        except Problem as problem:
            if problem.slug != "malformed":
                raise
            return await _form(desk, context, request, values, problem)
        return _respond(context, request, "receipt.html", status=201, receipt=receipt)

    return page


async def _subject(context: Context, request: web.Request) -> tuple[ChannelInfo, int | None]:
    """Return what is reported, if it can be read."""
    handle = _handle(request)
    post = _post_id(request) if "post" in request.match_info else None

    def query(reader: Reader) -> ChannelInfo:
        channel = _open_channel(reader, handle)
        if post is not None and posts.view(reader, channel.channel, post).tombstone is not None:
            raise Problem("post-removed", "this post is gone already: its tombstone says why")
        return channel

    return await context.database.read(query), post


def _report(channel: ChannelInfo, post: int | None, values: Mapping[str, str], request: web.Request) -> ReportPublic:
    if values.keys() - _REPORT_FIELDS:
        raise Problem("malformed", "the form has no such field")
    if not values.get("category"):
        raise Problem("malformed", "choose what it is about")
    if not values.get("explanation", "").strip():
        raise Problem("malformed", "say why you think that it is illegal or breaks the rules")
    if values.get("good_faith") != "true":
        raise Problem("malformed", "confirm that you believe in good faith that what you say is accurate and complete")
    # A browser sends every line end as CR LF, and counts it as one character.
    explanation = values["explanation"].replace("\r\n", "\n")
    fields = {**values, "explanation": explanation, "good_faith": True, "language": _language(request)}
    return _convert({**fields, "channel": channel.channel, "post": post}, ReportPublic)


async def _status_form(context: Context, request: web.Request) -> web.Response:
    return _respond(context, request, "status.html", status_of=None, error="", appeal=APPEAL)


def _status(desk: Desk) -> Page:
    async def page(context: Context, request: web.Request) -> web.Response:
        values = await _read_form(context, request)
        try:
            found = await desk.status(context, _convert(dict(values), GetReportStatus))
        except Problem as problem:
            if problem.slug not in ("malformed", "not-found"):
                raise
            words = "No report is known under this receipt: check that both lines are complete."
            return _respond(
                context, request, "status.html", status=problem.body.status, status_of=None, error=words, appeal=APPEAL
            )
        return _respond(context, request, "status.html", status_of=found, error="", appeal=APPEAL)

    return page


async def _read_form(context: Context, request: web.Request) -> dict[str, str]:
    if request.content_type != "application/x-www-form-urlencoded":
        raise Problem("unsupported-media-type", "send the form as application/x-www-form-urlencoded")
    body = await read_body(context, request, MAX_FORM_SIZE_BYTES)
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=MAX_FORM_FIELDS,
        )
    except ValueError:
        raise Problem("malformed", "the form could not be read") from None
    values = dict(pairs)
    if len(values) != len(pairs):
        raise Problem("malformed", "a field of the form stands twice")
    return values


def _convert(value: Mapping[str, Any], kind: type[T]) -> T:
    try:
        return convert(value, kind)
    except msgspec.ValidationError as error:
        raise Problem("malformed", str(error)[:300]) from None


# ----------------------------------------------------------------------------------------------------------- answers


def _respond(
    context: Context,
    request: web.Request,
    template: str,
    *,
    status: int = 200,
    alternate: str = "",
    blocked_by: str = "",
    **values: Any,
) -> web.Response:
    canonical = _base_url(context, request) + request.rel_url.path
    text = _templates.get_template(template).render(
        domain=context.domain, style_path=_STYLE_PATH, canonical=canonical, alternate=alternate, **values
    )
    response = web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=_HEADERS)
    if status < 400:
        response.headers.add(hdrs.LINK, f'<{canonical}>; rel="canonical"')
    if alternate:
        response.headers.add(hdrs.LINK, f'<{alternate}>; rel="alternate"; type="application/json"')
    if blocked_by:
        response.headers.add(hdrs.LINK, f'<{blocked_by}>; rel="blocked-by"')
    return response


def _refusal(context: Context, request: web.Request, problem: Problem) -> web.Response:
    """Return a refusal as a page, or as JSON to who asks for that alone."""
    accept = ",".join(request.headers.getall(hdrs.ACCEPT, []))
    if "json" in accept and "text/html" not in accept:
        return problem_response(problem)
    body = problem.body
    response = _respond(
        context,
        request,
        "refusal.html",
        status=body.status,
        alternate=f"/v1/decisions/{body.decision}" if body.decision else "",
        # Source: RFC 7725 §4.
        blocked_by=_base_url(context, request) + "/" if body.status == 451 else "",
        problem=body,
    )
    if body.retry_after_s is not None:
        response.headers[hdrs.RETRY_AFTER] = str(body.retry_after_s)
    return response


async def _style(request: web.Request) -> web.Response:
    del request
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return web.Response(body=_STYLE, content_type="text/css", charset="utf-8", headers=headers)


def _base_url(context: Context, request: web.Request) -> str:
    """The domain is the server's name in the world; on a name without a dot it speaks plain HTTP where it listens."""
    return f"https://{context.domain}" if "." in context.domain else f"http://{request.host}"


def _handle(request: web.Request) -> str:
    handle = request.match_info["handle"]
    if re.fullmatch(HANDLE_PATTERN, handle) is None:
        raise Problem("not-found", "there is no such channel")
    return handle


def _post_id(request: web.Request) -> int:
    post = _optional_post(request.match_info["post"])
    if post is None:
        raise Problem("not-found", "there is no such post in this channel")
    return post


def _optional_post(text: str | None) -> int | None:
    return int(text) if text is not None and _POST.fullmatch(text) and int(text) < 2**53 else None


def _language(request: web.Request) -> str:
    """Return the language that the browser asks for first: most likely the one its reader writes."""
    first = request.headers.get(hdrs.ACCEPT_LANGUAGE, "").split(",")[0].split(";")[0].strip()
    return first if _LANGUAGE.fullmatch(first) else "en"


def _iso_time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _words_time(at_ms: int) -> str:
    moment = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _size(size_bytes: int) -> str:
    size, unit = float(size_bytes), "bytes"
    for larger in ("kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"


_templates = Environment(
    loader=PackageLoader("heliograph.server"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_templates.filters.update(iso_time=_iso_time, words_time=_words_time, size=_size, markdown=render)
_STYLE: Final = (Path(__file__).parent / "templates" / "style.css").read_bytes()
_STYLE_PATH: Final = f"/static/{hashlib.sha256(_STYLE).hexdigest()[:16]}.css"
