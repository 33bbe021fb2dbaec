"""Cases: the queue, and evidence that the server verifies again before it believes it."""

import hashlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from heliograph.content.framing import decode_application_data
from heliograph.content.franking import franking_tag
from heliograph.content.report import VERIFIER, ReportItem
from heliograph.server.secrets import delete_hub_mac_key
from heliograph.wire import frank
from heliograph.wire.accounts import Empty, ServerInfo
from heliograph.wire.ids import CaseId, ChannelId, room_uri, user_uri
from heliograph.wire.moderation import (
    AttachEvidence,
    CaseRequest,
    CaseView,
    CheckFrank,
    EvidenceView,
    ListCases,
    PublishDeskKey,
)
from heliograph.wire.problems import Problem
from tests.server.disclosed import Conversation, new_conversation, report_privately, send_franked
from tests.server.town import new_reviewer, open_cases, open_channel, publish, report, ruling
from tests.world import Person, World, world


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


@pytest.fixture
async def reviewer(w: World) -> Person:
    return await new_reviewer(w)


def tag_of(item: ReportItem) -> bytes:
    """Return the tag that a recipient computes."""
    return franking_tag(decode_application_data(item.application_data).salt, item.application_data)


@dataclass
class Desk:
    """A reported room, one disclosed message of it, and the case."""

    w: World
    reviewer: Person
    talk: Conversation
    item: ReportItem
    case: CaseId

    async def attach(self, item: ReportItem | bytes) -> EvidenceView:
        data = item if isinstance(item, bytes) else item.encode()
        return await self.w.call("attach_evidence", AttachEvidence(self.case, data), self.reviewer)

    async def refusal(self, item: ReportItem | bytes) -> str:
        with pytest.raises(Problem) as refused:
            await self.attach(item)
        return refused.value.slug

    async def view(self) -> CaseView:
        return await self.w.call("get_case", CaseRequest(self.case), self.reviewer)


@pytest.fixture
async def desk(w: World, reviewer: Person) -> Desk:
    talk = await new_conversation(w)
    item = await send_franked(talk.one, talk.room, "something terrible")
    await report_privately(talk.other, talk.room)
    (case,) = await open_cases(w, reviewer)
    return Desk(w, reviewer, talk, item, case.case)


# --------------------------------------------------------------------------------------------------------- the queue


async def queue_of(w: World, count: int) -> ChannelId:
    author = await w.register("olga")
    news = await open_channel(w, author)
    for number in range(count):
        await report(w, None, news, post=await publish(w, author, news, f"post {number}"))
    return news


async def test_the_queue_is_read_page_by_page_oldest_first(w: World, reviewer: Person) -> None:
    news = await queue_of(w, 5)
    first = (await w.call("list_cases", ListCases(limit=3), reviewer)).cases
    second = (await w.call("list_cases", ListCases(limit=3, after=first[-1].case), reviewer)).cases
    assert [one.subject.ref for one in first + second] == [f"{news}/{number}" for number in range(1, 6)]


async def test_a_decided_case_leaves_the_queue(w: World, reviewer: Person) -> None:
    await queue_of(w, 2)
    first, second = await open_cases(w, reviewer)
    await w.call("decide", ruling(first.case), reviewer)
    seen = {
        state: [one.case for one in (await w.call("list_cases", ListCases(state), reviewer)).cases]
        for state in ("open", "decided", "all")
    }
    assert seen == {"open": [second.case], "decided": [first.case], "all": [first.case, second.case]}


@pytest.mark.parametrize("after", ["cs" + "a" * 26, "x", "1"])
async def test_a_cursor_that_names_no_case_is_refused(w: World, reviewer: Person, after: str) -> None:
    with pytest.raises(Problem) as refused:
        await w.call("list_cases", ListCases(after=after), reviewer)
    assert refused.value.slug == "not-found"


@pytest.mark.parametrize(
    "operation",
    ["list_cases", "get_case", "attach_evidence", "check_frank", "decide", "publish_desk_key"],
)
async def test_the_desk_is_closed_to_everyone_else(desk: Desk, operation: str) -> None:
    requests = {
        "list_cases": ListCases(),
        "get_case": CaseRequest(desk.case),
        "attach_evidence": AttachEvidence(desk.case, desk.item.encode()),
        "check_frank": CheckFrank(bytes(32), b"x", b"k", bytes(32)),
        "decide": ruling(desk.case),
        "publish_desk_key": PublishDeskKey(bytes(32)),
    }
    for token, expected in ((None, "not-logged-in"), (desk.talk.one.token, "not-allowed")):
        with pytest.raises(Problem) as refused:
            await desk.w.call(operation, requests[operation], token)
        assert refused.value.slug == expected


async def test_a_case_tells_what_happened_to_it(desk: Desk) -> None:
    await desk.attach(desk.item)
    await desk.w.call("decide", ruling(desk.case), desk.reviewer)
    view = await desk.view()
    assert [event.act for event in view.events] == ["case-opened", "report-received", "evidence-attached", "decided"]
    assert [event.actor for event in view.events[2:]] == [desk.reviewer.account] * 2
    assert view.state == "decided"


# ----------------------------------------------------------------------------------------------------------- evidence


async def test_a_message_that_was_really_sent_is_proven(desk: Desk) -> None:
    evidence = await desk.attach(desk.item)
    assert evidence == EvidenceView(
        sha256=hashlib.sha256(desk.item.encode()).digest(),
        verdict="proven",
        kid=frank.decode_frank(desk.item.envelope.frank).kid,
        room_seq=desk.item.envelope.room_seq,
        sender=user_uri(desk.w.context.domain, desk.talk.one.account),
        verifier=VERIFIER,
    )
    assert (await desk.view()).evidence == [evidence]


async def test_evidence_that_is_attached_twice_is_kept_once(desk: Desk) -> None:
    assert await desk.attach(desk.item) == await desk.attach(desk.item)
    assert len((await desk.view()).evidence) == 1


async def test_what_the_message_said_is_not_kept(desk: Desk, tmp_path: Path) -> None:
    await desk.attach(desk.item)
    files = [file for file in (tmp_path / "data").rglob("*") if file.is_file()]
    assert not [file.name for file in files if b"something terrible" in file.read_bytes()]


def forgeries(item: ReportItem, other: ReportItem) -> dict[str, ReportItem]:
    """Return items that differ from the truth in one point each."""
    envelope, stamp = item.envelope, frank.decode_frank(item.envelope.frank)

    def stamped(**changes: object) -> ReportItem:
        return replace(item, envelope=replace(envelope, frank=frank.encode_frank(replace(stamp, **changes))))

    return {
        "content": replace(item, application_data=item.application_data.replace(b"terrible", b"horrible")),
        "time": replace(item, envelope=replace(envelope, accepted_at_ms=envelope.accepted_at_ms + 1)),
        "number": replace(item, envelope=replace(envelope, room_seq=envelope.room_seq + 1)),
        "epoch": replace(item, envelope=replace(envelope, epoch=envelope.epoch + 1)),
        "mac": stamped(mac=bytes(32)),
        "signature": stamped(signature=bytes(64)),
        "kid": stamped(kid=b"another"),
        "swapped": replace(item, envelope=other.envelope),
    }


@pytest.mark.bad_input(118)
@pytest.mark.parametrize("change", ["content", "time", "number", "epoch", "mac", "signature", "kid", "swapped"])
async def test_a_forged_message_is_refused_and_the_case_keeps_that_it_was_offered(desk: Desk, change: str) -> None:
    other = await send_franked(desk.talk.one, desk.talk.room, "something else")
    forged = forgeries(desk.item, other)[change]
    assert await desk.refusal(forged) == "invalid-evidence"
    view = await desk.view()
    assert view.evidence == []
    assert view.events[-1].act == "evidence-refused"
    assert view.events[-1].detail == f"forged {hashlib.sha256(forged.encode()).hexdigest()}"


async def test_the_hub_does_not_stand_by_a_stamp_that_only_its_signature_covers(desk: Desk) -> None:
    """Whoever holds the signature key alone cannot make evidence: the MAC key is another one."""
    stamp = frank.decode_frank(desk.item.envelope.frank)
    key = desk.w.context.secrets.hub_signature_key
    uri = room_uri(desk.w.context.domain, desk.talk.room)
    sender = user_uri(desk.w.context.domain, desk.talk.one.account)
    context = frank.stamped_context(stamp, sender, uri, desk.item.envelope)
    tag = tag_of(desk.item)
    (made,) = frank.stamp_batch(secrets.token_bytes(32), key, stamp.kid, [(tag, context)])
    forged = replace(desk.item, envelope=replace(desk.item.envelope, frank=frank.encode_frank(made)))
    assert await desk.refusal(forged) == "invalid-evidence"


async def test_a_message_of_another_room_is_no_evidence(desk: Desk) -> None:
    room = await desk.talk.one.create_room()
    item = await send_franked(desk.talk.one, room, "elsewhere")
    assert await desk.refusal(item) == "invalid-evidence"


@pytest.mark.bad_input(61)
@pytest.mark.parametrize("data", [b"\x00", b"\xc1", b"x" * 1000])
async def test_bytes_that_are_no_message_are_refused(desk: Desk, data: bytes) -> None:
    assert await desk.refusal(data) == "invalid-evidence"


@pytest.mark.bad_input(62)
async def test_no_beginning_of_an_item_is_taken_for_it(desk: Desk) -> None:
    data = desk.item.encode()
    for size in range(1, len(data), 29):
        assert await desk.refusal(data[:size]) == "invalid-evidence"


async def test_a_public_case_takes_no_such_evidence(desk: Desk) -> None:
    news = await queue_of(desk.w, 1)
    case = (await open_cases(desk.w, desk.reviewer))[-1]
    assert case.subject.ref == f"{news}/1"
    with pytest.raises(Problem) as refused:
        await desk.w.call("attach_evidence", AttachEvidence(case.case, desk.item.encode()), desk.reviewer)
    assert refused.value.slug == "invalid-evidence"


async def test_once_the_hub_has_deleted_its_key_a_message_is_unproven_and_not_forged(desk: Desk) -> None:
    kid = frank.decode_frank(desk.item.envelope.frank).kid.decode()
    delete_hub_mac_key(desk.w.context.secrets, kid)
    assert (await desk.attach(desk.item)).verdict == "unproven"


async def test_the_hub_says_whether_a_mac_is_its_own(desk: Desk) -> None:
    stamp = frank.decode_frank(desk.item.envelope.frank)
    sender = user_uri(desk.w.context.domain, desk.talk.one.account)
    context = frank.stamped_context(stamp, sender, room_uri(desk.w.context.domain, desk.talk.room), desk.item.envelope)
    asked = CheckFrank(tag_of(desk.item), context, stamp.kid, stamp.mac)
    answers = [
        (await desk.w.call("check_frank", one, desk.reviewer)).result
        for one in (asked, replace(asked, mac=bytes(32)), replace(asked, kid=b"\xff\x00"))
    ]
    assert answers == ["valid", "invalid", "key-deleted"]


# ------------------------------------------------------------------------------------------------------ the desk's key


async def test_the_newest_desk_key_is_what_clients_seal_reports_to(w: World, reviewer: Person) -> None:
    before: ServerInfo = await w.call("get_server", Empty())
    for key in (b"1" * 32, b"2" * 32):
        await w.call("publish_desk_key", PublishDeskKey(key), reviewer)
    after: ServerInfo = await w.call("get_server", Empty())
    assert (before.desk_key, after.desk_key) == (None, b"2" * 32)
