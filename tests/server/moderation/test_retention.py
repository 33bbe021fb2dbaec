"""What a decided case holds of people goes when nobody can object any more; what was decided stays."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heliograph.server.moderation import audit
from heliograph.server.moderation.retention import KEPT_AFTER_DECISION_MS, forget_decided
from heliograph.wire.ids import ChannelId
from heliograph.wire.moderation import CaseRequest, CaseView, DecisionRequest, ListCases
from tests.server.town import new_reviewer, open_cases, open_channel, publish, report, ruling
from tests.world import Person, World, world


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


async def decided_case(w: World, reviewer: Person) -> tuple[ChannelId, CaseView]:
    author = await w.register("olga")
    news = await open_channel(w, author)
    await report(w, None, news, post=await publish(w, author, news, "terrible words"), name="Norma")
    (case,) = await open_cases(w, reviewer)
    await w.call("decide", ruling(case.case, "remove-post"), reviewer)
    return news, await w.call("get_case", CaseRequest(case.case), reviewer)


async def contacts(w: World) -> list[tuple[bytes | None]]:
    return await w.context.database.read(lambda reader: reader.all("SELECT contact FROM reports"))


async def test_a_case_keeps_what_was_seen_for_as_long_as_an_objection_may_be_filed(w: World) -> None:
    reviewer = await new_reviewer(w)
    _, case = await decided_case(w, reviewer)
    w.clock.advance_ms(KEPT_AFTER_DECISION_MS - 1)
    await forget_decided(w.context)
    await w.login(reviewer)
    assert (await w.call("get_case", CaseRequest(case.case), reviewer)).snapshot == case.snapshot
    assert await contacts(w) != [(None,)]


async def test_after_that_the_words_and_the_contact_are_gone_and_the_decision_stays(w: World) -> None:
    reviewer = await new_reviewer(w)
    _, case = await decided_case(w, reviewer)
    w.clock.advance_ms(KEPT_AFTER_DECISION_MS + 1)
    await forget_decided(w.context)
    await w.login(reviewer)
    after: CaseView = await w.call("get_case", CaseRequest(case.case), reviewer)
    assert (after.snapshot, after.state, after.decisions) == (b"", "closed", case.decisions)
    assert await contacts(w) == [(None,)]
    await w.call("get_statement", DecisionRequest(case.decisions[0]), reviewer)
    await w.context.database.read(audit.verify_audit)


async def test_an_open_case_is_kept_however_old_it_is(w: World) -> None:
    reviewer = await new_reviewer(w)
    news = await open_channel(w, await w.register("olga"))
    await report(w, None, news, name="Norma")
    w.clock.advance_ms(10 * KEPT_AFTER_DECISION_MS)
    await forget_decided(w.context)
    await w.login(reviewer)
    (case,) = (await w.call("list_cases", ListCases(), reviewer)).cases
    assert (await w.call("get_case", CaseRequest(case.case), reviewer)).snapshot != b""
    assert await contacts(w) != [(None,)]
