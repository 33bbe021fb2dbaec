"""Reports: received from anyone, without delay, and never acted on by their number."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from cryptography.exceptions import InvalidTag

from heliograph.server.limits import Limits, Rate
from heliograph.server.moderation import reports
from heliograph.wire import channels as c
from heliograph.wire.ids import ChannelId, ReportId, channel_id, room_id
from heliograph.wire.moderation import CaseRequest, CaseView, GetReportStatus, ReportPrivate, ReportStatus
from heliograph.wire.problems import Problem
from tests.server.disclosed import new_conversation, report_privately
from tests.server.phones import new_phone
from tests.server.town import (
    VIOLENCE,
    browse,
    new_reviewer,
    open_cases,
    open_channel,
    publish,
    read_bodies,
    report,
    report_and_decide,
    ruling,
    signed_edit,
)
from tests.world import Person, World, generous_limits, world


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


@pytest.fixture
async def author(w: World) -> Person:
    return await w.register("olga")


@pytest.fixture
async def news(w: World, author: Person) -> ChannelId:
    channel = await open_channel(w, author)
    await publish(w, author, channel, "hello")
    return channel


@pytest.fixture
async def reviewer(w: World) -> Person:
    return await new_reviewer(w)


async def only_case(w: World, reviewer: Person) -> CaseView:
    (case,) = await open_cases(w, reviewer)
    return await w.call("get_case", CaseRequest(case.case), reviewer)


async def status(w: World, report_id: ReportId, receipt: str) -> ReportStatus:
    return await w.call("get_report_status", GetReportStatus(report_id, receipt))


async def refusal(w: World, channel: ChannelId, **fields: object) -> str:
    with pytest.raises(Problem) as refused:
        await report(w, None, channel, **fields)
    return refused.value.slug


# ------------------------------------------------------------------------------------------------------ public places


async def test_a_report_without_an_account_opens_a_case(w: World, news: ChannelId, reviewer: Person) -> None:
    receipt = await report(w, None, news, post=1, keyword="KEYWORD_COORDINATED_HARM", language="fa")
    case = await only_case(w, reviewer)
    (one,) = case.reports
    assert (case.subject.kind, case.subject.ref, case.state) == ("post", f"{news}/1", "new")
    assert (one.report, one.category, one.keyword, one.language) == (
        receipt.report,
        VIOLENCE,
        "KEYWORD_COORDINATED_HARM",
        "fa",
    )
    assert one.reporter is None


async def test_a_report_with_an_account_names_it_to_the_reviewer(
    w: World, author: Person, news: ChannelId, reviewer: Person
) -> None:
    reader = await w.register("rosa")
    await report(w, reader, news)
    (one,) = (await only_case(w, reviewer)).reports
    assert one.reporter == reader.account


async def test_a_report_says_that_it_is_made_in_good_faith(w: World, news: ChannelId) -> None:
    assert await refusal(w, news, good_faith=False) == "malformed"


@pytest.mark.parametrize(
    ("category", "keyword"),
    [("STATEMENT_CATEGORY_RUDENESS", None), (VIOLENCE, "KEYWORD_PHISHING"), ("violence", None)],
)
async def test_a_report_names_a_category_and_keyword_of_the_list(
    w: World, news: ChannelId, category: str, keyword: str | None
) -> None:
    assert await refusal(w, news, category=category, keyword=keyword) == "malformed"


@pytest.mark.bad_input(41)
async def test_a_report_with_a_nul_is_refused(w: World, news: ChannelId) -> None:
    assert await refusal(w, news, explanation="a\x00b") == "malformed"


@pytest.mark.bad_input(121)
async def test_an_explanation_has_an_end(w: World, news: ChannelId) -> None:
    assert await refusal(w, news, explanation="x" * 5001) == "malformed"
    assert await refusal(w, news, explanation="x" * 1_000_000) == "too-large"


async def test_what_does_not_exist_cannot_be_reported(w: World, news: ChannelId) -> None:
    assert await refusal(w, channel_id(secrets.token_bytes(16))) == "not-found"
    assert await refusal(w, news, post=99) == "not-found"


async def test_what_was_reported_is_kept_as_it_was_seen(
    w: World, author: Person, news: ChannelId, reviewer: Person
) -> None:
    before: c.PostView = await w.call("get_post", c.GetPost(news, 1))
    await report(w, None, news, post=1)
    await w.call("edit_post", signed_edit(w, author, news, 1, "I never said that"), author)
    case = await only_case(w, reviewer)
    assert msgspec.msgpack.decode(case.snapshot, type=c.PostView) == before


async def test_a_reported_channel_is_kept_with_its_title(
    w: World, author: Person, news: ChannelId, reviewer: Person
) -> None:
    await report(w, None, news)
    await w.call("update_channel", c.UpdateChannel(news, title="Harmless"), author)
    case = await only_case(w, reviewer)
    assert msgspec.msgpack.decode(case.snapshot, type=c.ChannelInfo).title == "News"


async def test_reports_about_one_subject_are_one_case_and_about_two_are_two(
    w: World, author: Person, news: ChannelId, reviewer: Person
) -> None:
    await publish(w, author, news, "second")
    for number in range(3):
        await report(w, None, news, post=1, explanation=f"reason {number}")
    await report(w, None, news, post=2)
    await report(w, None, news)
    assert [one.reports for one in await open_cases(w, reviewer)] == [3, 1, 1]


async def test_reports_that_come_at_once_open_one_case(w: World, news: ChannelId, reviewer: Person) -> None:
    await asyncio.gather(*(report(w, None, news, post=1, explanation=f"reason {n}") for n in range(20)))
    assert [one.reports for one in await open_cases(w, reviewer)] == [20]


@pytest.mark.bad_input(118)
async def test_a_replayed_report_is_the_same_report(w: World, news: ChannelId, reviewer: Person) -> None:
    receipts = [await report(w, None, news, post=1) for _ in range(5)]
    assert len(set(receipts)) == 1
    assert [one.reports for one in await open_cases(w, reviewer)] == [1]


async def test_who_reports_again_adds_to_the_report_that_stands(w: World, news: ChannelId, reviewer: Person) -> None:
    reader = await w.register("rosa")
    first = await report(w, reader, news, post=1, explanation="One reason.")
    second = await report(w, reader, news, post=1, explanation="Another reason.")
    (one,) = (await only_case(w, reviewer)).reports
    assert second == first
    assert one.explanation == "One reason.\n\nAnother reason."


async def test_one_account_cannot_fill_a_case_with_words(w: World, news: ChannelId) -> None:
    reader = await w.register("rosa")
    with pytest.raises(Problem) as refused:
        for number in range(10):
            await report(w, reader, news, post=1, explanation=f"{number}" * 5000)
    assert refused.value.slug == "too-many-requests"


@pytest.mark.bad_input(118)
async def test_a_thousand_reports_remove_nothing_by_themselves(w: World, news: ChannelId, reviewer: Person) -> None:
    for batch in range(20):
        await asyncio.gather(
            *(report(w, None, news, post=1, explanation=f"reason {batch}/{number}") for number in range(50))
        )
    assert await read_bodies(w, news) == ["hello"]
    assert (await browse(w, "/c/news/1")).status == 200
    assert [one.reports for one in await open_cases(w, reviewer)] == [1000]


async def test_a_case_of_many_reports_is_read_in_parts(w: World, news: ChannelId, reviewer: Person) -> None:
    for batch in range(5):
        await asyncio.gather(*(report(w, None, news, explanation=f"reason {batch}/{n}") for n in range(50)))
    (case,) = await open_cases(w, reviewer)
    first: CaseView = await w.call("get_case", CaseRequest(case.case), reviewer)
    rest: CaseView = await w.call("get_case", CaseRequest(case.case, after=len(first.reports)), reviewer)
    seen = {one.report for one in first.reports + rest.reports}
    assert first.reports_in_all == len(seen) == 250


async def test_a_source_that_reports_without_end_is_slowed_down(tmp_path: Path) -> None:
    limits = Limits(rates=msgspec.structs.replace(generous_limits().rates, report=Rate(3, 0.001)))
    async with world(tmp_path, limits=limits) as w:
        news = await open_channel(w, await w.register("olga"))
        with pytest.raises(Problem) as refused:
            for number in range(4):
                await report(w, None, news, explanation=f"reason {number}")
        assert refused.value.slug == "too-many-requests"
        assert refused.value.body.retry_after_s


async def test_a_decided_subject_that_is_reported_again_opens_a_new_case(
    w: World, news: ChannelId, reviewer: Person
) -> None:
    await report_and_decide(w, reviewer, news, post=1)
    await report(w, None, news, post=1, explanation="It has got worse.")
    assert [one.state for one in await open_cases(w, reviewer)] == ["new"]


# ----------------------------------------------------------------------------------------------- receipts, and contact


async def test_the_holder_of_the_receipt_learns_what_became_of_the_report(
    w: World, news: ChannelId, reviewer: Person
) -> None:
    receipt = await report(w, None, news, post=1)
    waiting = await status(w, receipt.report, receipt.receipt)
    decided = await w.call("decide", ruling((await open_cases(w, reviewer))[0].case, "remove-post"), reviewer)
    answered = await status(w, receipt.report, receipt.receipt)
    assert (waiting.state, waiting.outcome, waiting.decision) == ("received", "", None)
    assert (answered.state, answered.decision) == ("answered", decided.decision)
    assert answered.outcome == "The post was removed: It calls for violence against people"


async def test_without_the_receipt_nobody_learns_that_a_report_exists(w: World, news: ChannelId) -> None:
    receipt = await report(w, None, news)
    for named, secret in ((receipt.report, "x"), ("rp" + "a" * 26, receipt.receipt)):
        with pytest.raises(Problem) as refused:
            await status(w, ReportId(named), secret)
        assert refused.value.slug == "not-found"


async def test_a_receipt_is_kept_as_a_hash(w: World, news: ChannelId) -> None:
    receipt = await report(w, None, news)
    row = await w.context.database.read(lambda reader: reader.one("SELECT receipt_hash FROM reports"))
    assert row == (hashlib.sha256(receipt.receipt.encode()).digest(),)


async def test_name_and_email_are_kept_under_a_key_that_is_not_in_the_database(
    w: World, news: ChannelId, tmp_path: Path
) -> None:
    receipt = await report(w, None, news, name="Norma Canary", email="norma@canary.example")
    row = await w.context.database.read(lambda reader: reader.one("SELECT contact FROM reports"))
    assert row is not None
    assert reports.open_contact(w.context.secrets, receipt.report, row[0]) == ("Norma Canary", "norma@canary.example")
    files = [file for file in (tmp_path / "data").rglob("*") if file.is_file()]
    assert not [file for file in files if b"Canary" in file.read_bytes() or b"canary" in file.read_bytes()]


async def test_the_contact_of_one_report_does_not_open_under_another(w: World, news: ChannelId) -> None:
    await report(w, None, news, name="Norma")
    row = await w.context.database.read(lambda reader: reader.one("SELECT contact FROM reports"))
    assert row is not None
    with pytest.raises(InvalidTag):
        reports.open_contact(w.context.secrets, ReportId("rp" + "a" * 26), row[0])


async def test_a_report_without_name_and_email_keeps_nothing_of_them(w: World, news: ChannelId) -> None:
    await report(w, None, news)
    assert await w.context.database.read(lambda reader: reader.one("SELECT contact FROM reports")) == (None,)


async def test_no_reviewer_is_shown_name_or_email(w: World, news: ChannelId, reviewer: Person) -> None:
    await report(w, None, news, name="Norma", email="norma@example.org")
    assert "orma" not in repr(await only_case(w, reviewer))


# ------------------------------------------------------------------------------------------------------ private rooms


async def test_a_private_report_stays_sealed(w: World) -> None:
    talk, reviewer = await new_conversation(w), await new_reviewer(w)
    sealed = secrets.token_bytes(200)
    await report_privately(talk.other, talk.room, sealed)
    case = await only_case(w, reviewer)
    assert (case.subject.kind, case.subject.ref, case.snapshot) == ("room", talk.room, b"")
    assert [(one.sealed, one.explanation) for one in case.reports] == [(sealed, "")]


@pytest.mark.bad_input(118)
async def test_who_was_never_in_the_room_cannot_report_it(w: World) -> None:
    talk, stranger = await new_conversation(w), await new_phone(w, "stranger")
    with pytest.raises(Problem) as refused:
        await report_privately(stranger, talk.room)
    assert refused.value.slug == "not-found"


async def test_a_room_that_does_not_exist_cannot_be_told_from_one_that_is_not_ones_own(w: World) -> None:
    talk, stranger = await new_conversation(w), await new_phone(w, "stranger")
    details: set[str] = set()
    for room in (talk.room, room_id(secrets.token_bytes(16))):
        with pytest.raises(Problem) as refused:
            await report_privately(stranger, room)
        details.add(str(refused.value))
    assert len(details) == 1


async def test_a_sealed_report_that_is_sent_again_is_one_report(w: World) -> None:
    talk, reviewer = await new_conversation(w), await new_reviewer(w)
    first = await report_privately(talk.other, talk.room, b"s" * 100)
    again = await report_privately(talk.other, talk.room, b"s" * 100)
    assert again == first
    assert [one.reports for one in await open_cases(w, reviewer)] == [1]


async def test_several_messages_of_a_room_can_be_reported_one_by_one_but_not_without_end(w: World) -> None:
    talk, reviewer = await new_conversation(w), await new_reviewer(w)
    for number in range(reports.MAX_SEALED_REPORTS):
        await report_privately(talk.other, talk.room, bytes([number]) * 100)
    assert [one.reports for one in await open_cases(w, reviewer)] == [reports.MAX_SEALED_REPORTS]
    with pytest.raises(Problem) as refused:
        await report_privately(talk.other, talk.room, b"x" * 100)
    assert refused.value.slug == "too-many-requests"


@pytest.mark.bad_input(59)
async def test_a_sealed_report_has_a_largest_size(w: World) -> None:
    talk = await new_conversation(w)
    await report_privately(talk.other, talk.room, bytes(1024 * 1024))
    with pytest.raises(Problem) as refused:
        await talk.other.ask("report_private", ReportPrivate(talk.room, bytes(1024 * 1024 + 1)))
    assert refused.value.slug == "malformed"
