"""Pages: readable by anyone without an account and without scripts, and harmless whatever somebody posts."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from heliograph.server import pages
from heliograph.server.limits import Limits
from heliograph.server.markdown import render
from heliograph.wire import channels as c
from heliograph.wire.ids import ChannelId, Handle, channel_id
from tests.server.town import (
    VIOLENCE,
    Outline,
    browse,
    new_reviewer,
    open_cases,
    open_channel,
    publish,
    report_and_decide,
    ruling,
    signed_deletion,
    signed_edit,
)
from tests.world import Person, World, world

FORM = {"category": VIOLENCE, "explanation": "It calls for violence.", "good_faith": "true", "name": "", "email": ""}
ATTACKS = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "<style>*{display:none}</style>",
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt&colon;alert(1))",
    "[click](data:text/html;base64,PHNjcmlwdD4=)",
    "[click](vbscript:x)",
    "<javascript:alert(1)>",
    "[x](//evil.example)",
    "[x][r]\n\n[r]: javascript:alert(1)",
    "![x](https://evil.example/track.gif)",
    '[x](https://a.example/"onmouseover="alert(1))',
    '[x](https://a.example "title\\" onmouseover=alert(1)")',
    "`</code><script>alert(1)</script>`",
    "```\n</pre><script>alert(1)</script>\n```",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "|a|\n|:-:|\n|<svg onload=alert(1)>|",
    "<!--><script>alert(1)</script>",
    "\u202e<b>turned</b>",
]


@dataclass
class Square:
    """A channel that people read."""

    w: World
    owner: Person
    channel: ChannelId


@pytest.fixture
async def square(tmp_path: Path) -> AsyncIterator[Square]:
    async with world(tmp_path) as w:
        owner = await w.register("olga")
        yield Square(w, owner, await open_channel(w, owner))


async def post(square: Square, body: str) -> int:
    return await publish(square.w, square.owner, square.channel, body)


# ----------------------------------------------------------------------------------------------------------- reading


async def test_a_channel_is_a_page_that_shows_its_newest_posts_first(square: Square) -> None:
    for number in range(3):
        await post(square, f"post number {number}")
    page = await browse(square.w, "/c/news")
    places = [page.text.index(f"post number {number}") for number in (2, 1, 0)]
    assert page.status == 200
    assert places == sorted(places)


@pytest.mark.parametrize("path", ["/", "/c/news", "/c/news/1", "/c/news/1/report", "/reports/status", "/c/nothing"])
async def test_a_page_needs_no_script_and_fetches_nothing_from_elsewhere(square: Square, path: str) -> None:
    await post(square, "# Title\n\n![x](https://evil.example/a.png) and [a link](https://example.org/)")
    page = await browse(square.w, path)
    outline = Outline(page.text)
    assert outline.all("script") == outline.all("img") == outline.all("iframe") == outline.all("style") == []
    assert all(not name.startswith("on") and name != "style" for _, attrs in outline.tags for name in attrs)
    assert [one["href"] for one in outline.all("link") if one["rel"] == "stylesheet"] == [pages._STYLE_PATH]
    assert page.headers["Content-Security-Policy"] == (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    assert "Set-Cookie" not in page.headers


@pytest.mark.parametrize("path", ["/", "/c/news", "/c/news/1", "/c/news/1/report", "/reports/status", "/c/nothing"])
async def test_a_page_has_landmarks_one_first_heading_and_a_language(square: Square, path: str) -> None:
    await post(square, "# Title\n\n## Part")
    outline = Outline((await browse(square.w, path)).text)
    (html,) = outline.all("html")
    assert (html["lang"], html["dir"]) == ("en", "ltr")
    assert len(outline.all("main")) == len(outline.all("h1")) == 1
    assert outline.all("nav")
    assert outline.all("footer")
    assert any(meta.get("name") == "viewport" for meta in outline.all("meta"))
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1


async def test_every_field_of_the_form_has_a_label(square: Square) -> None:
    await post(square, "hello")
    outline = Outline((await browse(square.w, "/c/news/1/report")).text)
    labels = {label["for"] for label in outline.all("label")}
    fields = [*outline.all("input"), *outline.all("select"), *outline.all("textarea")]
    assert {field["id"] for field in fields} == labels


async def test_a_post_stands_in_its_own_language_and_direction(square: Square) -> None:
    await publish(square.w, square.owner, square.channel, "سلام دنیا", language="fa")
    outline = Outline((await browse(square.w, "/c/news/1")).text)
    (body,) = [attrs for attrs in outline.all("div") if attrs.get("class") == "body"]
    (paragraph,) = [attrs for attrs in outline.all("p") if attrs.get("dir") == "auto" and len(attrs) == 1]
    assert (body["lang"], body["dir"], paragraph["dir"]) == ("fa", "auto", "auto")


async def test_a_page_names_its_address_and_its_machine_readable_twin(square: Square) -> None:
    await post(square, "hello")
    page = await browse(square.w, "/c/news/1")
    twin = f"/v1/channels/{square.channel}/posts/1"
    assert page.links == [
        f'<{square.w.url}/c/news/1>; rel="canonical"',
        f'<{twin}>; rel="alternate"; type="application/json"',
    ]
    assert '"signed"' in (await browse(square.w, twin)).text


async def test_older_posts_are_one_link_away(square: Square) -> None:
    for number in range(pages.POSTS_A_PAGE + 1):
        await post(square, f"post-{number:03}.")
    newest = await browse(square.w, "/c/news")
    assert "post-000." not in newest.text
    assert 'href="/c/news?before=2"' in newest.text
    older = await browse(square.w, "/c/news?before=2")
    assert "post-000." in older.text
    assert "before=" not in older.text.replace("before=2", "")


async def test_an_edited_post_shows_its_newest_words_and_keeps_the_earlier_ones(square: Square) -> None:
    await post(square, "first words")
    await square.w.call("edit_post", signed_edit(square.w, square.owner, square.channel, 1, "new words"), square.owner)
    page = await browse(square.w, "/c/news/1")
    assert page.text.index("new words") < page.text.index("Earlier versions (1)") < page.text.index("first words")


async def test_a_deleted_post_is_a_tombstone_with_status_410(square: Square) -> None:
    await post(square, "never mind")
    request = signed_deletion(square.w, square.owner, square.channel, 1)
    await square.w.call("delete_post", request, square.owner)
    page = await browse(square.w, "/c/news/1")
    assert page.status == 410
    assert "The author deleted this post" in page.text
    assert "never mind" not in page.text + (await browse(square.w, "/c/news")).text


async def test_a_post_removed_by_decision_shows_reason_and_number(square: Square) -> None:
    await post(square, "terrible words")
    decided = await report_and_decide(square.w, await new_reviewer(square.w), square.channel, "remove-post", post=1)
    page = await browse(square.w, "/c/news/1")
    assert page.status == 410
    assert "It calls for violence against people" in page.text
    assert decided.decision in page.text
    assert "terrible words" not in page.text


async def test_a_blocked_page_says_who_blocked_it_and_where_the_decision_is(square: Square) -> None:
    decided = await report_and_decide(square.w, await new_reviewer(square.w), square.channel, "block-channel")
    page = await browse(square.w, "/c/news")
    assert page.status == 451
    assert f'<{square.w.url}/>; rel="blocked-by"' in page.links
    assert f'</v1/decisions/{decided.decision}>; rel="alternate"; type="application/json"' in page.links
    assert decided.decision in (await browse(square.w, f"/v1/decisions/{decided.decision}")).text


async def test_who_asks_for_json_alone_is_refused_in_json(square: Square) -> None:
    answer = await browse(square.w, "/c/nothing", Accept="application/json")
    assert (answer.status, answer.headers["Content-Type"]) == (404, "application/problem+json")


@pytest.mark.parametrize(
    "path", ["/c/NEWS", "/c/n", "/c/nothing", "/c/news/0", "/c/news/01", "/c/news/99", "/c/news/x"]
)
async def test_what_does_not_exist_is_a_page_with_status_404(square: Square, path: str) -> None:
    page = await browse(square.w, path)
    assert (page.status, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")


@pytest.mark.bad_input(48)
@pytest.mark.parametrize("before", ["-1", "0", "1e9", "9" * 40, "\u0661", ""])
async def test_a_wrong_cursor_shows_the_newest_posts(square: Square, before: str) -> None:
    await post(square, "hello")
    page = await browse(square.w, f"/c/news?before={before}")
    assert page.status == 200
    assert "hello" in page.text


async def test_the_style_is_served_for_ever_under_its_hash(square: Square) -> None:
    style = await browse(square.w, pages._STYLE_PATH)
    assert style.headers["Content-Type"] == "text/css; charset=utf-8"
    assert "immutable" in style.headers["Cache-Control"]
    assert "url(" not in style.text


async def test_a_server_with_a_name_in_the_world_gives_its_own_address(tmp_path: Path) -> None:
    async with world(tmp_path, domain="talk.example.org") as w:
        await open_channel(w, await w.register("olga"))
        page = await browse(w, "/c/news")
        assert '<https://talk.example.org/c/news>; rel="canonical"' in page.links


async def test_readers_are_slowed_down_when_they_ask_too_much(tmp_path: Path) -> None:
    async with world(tmp_path, limits=Limits()) as w:
        answers = await asyncio.gather(*(browse(w, "/reports/status") for _ in range(310)))
        slowed = [answer for answer in answers if answer.status == 429]
        assert slowed
        assert "Retry-After" in slowed[0].headers


# ------------------------------------------------------------------------------------------------ words of strangers


def assert_harmless(text: str) -> None:
    """Nothing that runs, nothing that is fetched, and links only to where a link may go."""
    outline = Outline(text)
    assert outline.all("script") == outline.all("img") == outline.all("svg") == outline.all("style") == []
    assert all(not name.startswith("on") and name != "style" for _, attrs in outline.tags for name in attrs)
    targets = [link["href"] or "" for link in outline.all("a")]
    assert all(re.match(r"(https?://|mailto:|/(?!/)|#)", target) for target in targets)


@pytest.mark.bad_input(110)
@pytest.mark.parametrize("body", ATTACKS)
def test_nothing_active_comes_out_of_a_body(body: str) -> None:
    assert_harmless(render(body))


@pytest.mark.bad_input(110)
async def test_a_post_cannot_put_anything_active_on_a_page(square: Square) -> None:
    for body in ATTACKS:
        await post(square, body)
    assert_harmless((await browse(square.w, "/c/news")).text)


@pytest.mark.bad_input(110)
async def test_titles_and_descriptions_are_text(square: Square) -> None:
    title, description = "<b>bold</b> \"quoted\" & 'more'", "</p><script>alert(1)</script>"
    request = c.CreateChannel(channel_id(secrets.token_bytes(16)), Handle("quotes"), title, description)
    await square.w.call("create_channel", request, square.owner)
    for path in ("/", "/c/quotes", "/c/quotes/report"):
        outline = Outline((await browse(square.w, path)).text)
        assert outline.all("script") == outline.all("b") == []


@pytest.mark.bad_input(110)
@pytest.mark.parametrize(
    "body",
    [
        ">" * 10_000,
        "*" * 10_000,
        "[" * 8_000,
        "![](" * 4_000,
        "> " * 8_000,
        "- " * 8_000,
        "`" * 16_000,
        "x" * 16_000,
        "a**b" * 4_000,
        "|a" * 5_000 + "\n" + "|-" * 3_000,
        "[a][b" * 3_000,
        "<" * 16_000,
        "&#x" * 5_000,
    ],
)
def test_nested_and_endless_markup_is_rendered_in_bounded_time_and_size(body: str) -> None:
    assert len(render(body)) < 20 * len(body) + 1000


def test_markdown_reads_as_markdown() -> None:
    html = render("# Big\n\n*soft* **loud** ~~gone~~ `code`\n\n1. one\n\n> said\n\n|a|\n|-|\n|b|")
    for tag in ("<h3", "<em>", "<strong>", "<s>", "<code>", "<ol>", "<blockquote>", "<table>"):
        assert tag in html


def test_a_link_says_that_a_stranger_wrote_it() -> None:
    assert render("[x](https://example.org/)") == (
        '<p dir="auto"><a href="https://example.org/" rel="nofollow ugc noopener noreferrer">x</a></p>\n'
    )


# --------------------------------------------------------------------------------------------------------- reporting


async def test_a_report_needs_no_account_and_no_script_and_its_outcome_can_be_asked_for(square: Square) -> None:
    w, reviewer = square.w, await new_reviewer(square.w)
    await post(square, "hello")
    sent = await browse(w, "/c/news/1/report", FORM, Accept_Language="fa-IR,fa;q=0.9")
    hidden = {one["name"] or "": one["value"] or "" for one in Outline(sent.text).all("input")}
    waiting = await browse(w, "/reports/status", hidden)
    (case,) = await open_cases(w, reviewer)
    await w.call("decide", ruling(case.case, "remove-post"), reviewer)
    answered = await browse(w, "/reports/status", hidden)
    assert (sent.status, waiting.status, answered.status) == (201, 200, 200)
    assert "has not been decided yet" in waiting.text
    assert "The post was removed: It calls for violence against people" in answered.text


async def test_a_channel_as_a_whole_can_be_reported_from_its_page(square: Square) -> None:
    assert (await browse(square.w, "/c/news/report", FORM)).status == 201
    (case,) = await open_cases(square.w, await new_reviewer(square.w))
    assert (case.subject.kind, case.subject.ref) == ("channel", square.channel)


@pytest.mark.parametrize("missing", ["category", "explanation", "good_faith"])
async def test_a_form_that_lacks_something_comes_back_as_it_was_filled_in(square: Square, missing: str) -> None:
    await post(square, "hello")
    form = {**FORM, "name": "Norma"} | {missing: ""}
    page = await browse(square.w, "/c/news/1/report", form)
    assert page.status == 400
    assert 'role="alert"' in page.text
    assert 'value="Norma"' in page.text
    assert await open_cases(square.w, await new_reviewer(square.w)) == []


@pytest.mark.bad_input(121)
async def test_a_report_of_a_megabyte_is_refused(square: Square) -> None:
    await post(square, "hello")
    page = await browse(square.w, "/c/news/1/report", FORM | {"explanation": "x" * 1_000_000})
    assert page.status == 413


@pytest.mark.bad_input(121)
async def test_a_report_with_markup_stays_text(square: Square) -> None:
    await post(square, "hello")
    page = await browse(square.w, "/c/news/1/report", FORM | {"category": "", "explanation": "</textarea><script>"})
    assert Outline(page.text).all("script") == []


@pytest.mark.bad_input(46)
@pytest.mark.parametrize("field", ["role", "channel", "post", "language"])
async def test_a_field_that_the_form_does_not_have_is_refused(square: Square, field: str) -> None:
    await post(square, "hello")
    assert (await browse(square.w, "/c/news/1/report", FORM | {field: "x"})).status == 400


@pytest.mark.bad_input(50)
async def test_a_form_in_another_encoding_is_refused(square: Square) -> None:
    await post(square, "hello")
    async with square.w.http.post(square.w.url + "/c/news/1/report", json=FORM) as response:
        assert response.status == 415


@pytest.mark.bad_input(123)
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
async def test_another_site_cannot_send_the_form(square: Square, origin: str) -> None:
    await post(square, "hello")
    assert (await browse(square.w, "/c/news/1/report", FORM, Origin=origin)).status == 403
    assert (await browse(square.w, "/c/news/1/report", FORM, Origin=square.w.url)).status == 201


async def test_a_receipt_of_another_report_tells_nothing(square: Square) -> None:
    await post(square, "hello")
    first = Outline((await browse(square.w, "/c/news/1/report", FORM)).text).all("input")
    hidden = {one["name"] or "": one["value"] or "" for one in first}
    page = await browse(square.w, "/reports/status", hidden | {"receipt": "A" * 43})
    assert page.status == 404
    assert "No report is known" in page.text


async def test_what_is_gone_cannot_be_reported_any_more(square: Square) -> None:
    await post(square, "hello")
    await square.w.call("delete_post", signed_deletion(square.w, square.owner, square.channel, 1), square.owner)
    assert (await browse(square.w, "/c/news/1/report", FORM)).status == 410


# ------------------------------------------------------------------------------------------------------------- looks


def colours(scheme: str) -> dict[str, str]:
    """Return the colours of the light or dark scheme."""
    style = pages._STYLE.decode()
    light, dark = style.split("prefers-color-scheme: dark", 1)
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", light if scheme == "light" else dark))


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("text", ["ink", "quiet", "link", "alert"])
@pytest.mark.parametrize("behind", ["paper", "shade"])
def test_text_has_enough_contrast_in_both_schemes(scheme: str, text: str, behind: str) -> None:
    found = colours(scheme)
    light, dark = sorted((luminance(found[text]), luminance(found[behind])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5
