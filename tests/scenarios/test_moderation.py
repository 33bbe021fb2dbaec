"""Reports and decisions: what was said is proven, what was decided can be checked by anyone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heliograph.client.client import Client
from heliograph.client.decisions import build_report, seal_to_desk
from heliograph.client.errors import NotPossible
from heliograph.client.told import ChannelEnded, OutcomeReceived, PostReceived, RoomJoined, StatementReceived
from heliograph.tlog.verify import verify_decision
from heliograph.wire.ids import RoomId
from heliograph.wire.moderation import Measure, ReportPrivate, ReportReceipt
from heliograph.wire.problems import Problem
from tests.scenarios.people import People, people

HATE = "STATEMENT_CATEGORY_ILLEGAL_OR_HARMFUL_SPEECH"
DECISION: dict[str, Any] = {
    "ground": "illegal-content",
    "ground_reference": "Section 130 of the criminal code",
    "category": HATE,
    "reason": "The channel calls for violence.",
    "facts": "Three posts call for violence against a group of people.",
}


async def with_reviewer(p: People) -> Client:
    """Return a reviewer whose desk key is published."""
    return (await with_desk(p))[1]


async def with_desk(p: People) -> tuple[Client, Client]:
    """Return the administrator, and a reviewer whose desk key is published."""
    ada = await p.register("ada", invitation=p.server.first_invitation)
    rita = await p.register("rita", invitation=await ada.create_invitation("reviewer"))
    await rita.create_desk_key()
    return ada, rita


async def test_a_reported_message_is_proven_with_what_stood_before_it(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        rita = await with_reviewer(p)
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)
        room = await alice.create_room("Harbour", ["bob"])
        await p.hears(bob, RoomJoined, room=room)
        for number in range(3):
            await bob.send(room, f"bob {number}")
        await alice.send(room, "threat")
        threat = await p.reads(bob, "threat")

        receipt = await bob.report_messages(room, [threat.message_id], HATE, "He threatens me.")
        (summary,) = await rita.cases()
        view = await rita.case(summary.case)
        judged = await rita.open_report(view, view.reports[0])
        evidence = await rita.attach_evidence(view.case, judged.items[-1])

        assert [item.check.verdict for item in judged.items] == ["proven"] * len(judged.items)
        assert judged.against_accused >= 1
        assert judged.accused == alice.identity.account
        assert judged.note == "He threatens me."
        assert evidence.verdict == "proven"
        assert (await bob.report_status(receipt)).state == "received"


async def test_a_forged_report_is_refused(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        rita = await with_reviewer(p)
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)
        room = await alice.create_room("Harbour", ["bob"])
        await p.hears(bob, RoomJoined, room=room)
        await alice.send(room, "good morning")
        harmless = await p.reads(bob, "good morning")
        await forge(p, bob, room, harmless.message_id)

        (summary,) = await rita.cases()
        view = await rita.case(summary.case)
        judged = await rita.open_report(view, view.reports[0])

        assert [item.check.verdict for item in judged.items] == ["forged"]
        assert judged.against_accused == 0
        with pytest.raises(Problem) as refused:
            await rita.attach_evidence(view.case, judged.items[0])
        assert refused.value.slug == "invalid-evidence"


async def forge(p: People, client: Client, room: RoomId, message_id: bytes) -> None:
    """Report other words than were said, under the stamp of what was."""
    message = client._store.message(room, message_id)
    assert message is not None
    data = message.application_data.replace(b"good morning", b"good hunting")
    lie = replace(message, application_data=data)
    report = build_report(client.identity, room, [lie], message.sender, category=HATE, note="", alone=True)
    await client._device.refresh_server()
    desk_key = client._device.server.desk_key
    assert desk_key is not None
    await client._call("report_private", ReportPrivate(room, seal_to_desk(report, desk_key)), ReportReceipt)


async def test_a_blocked_channel_is_gone_on_every_way_and_the_decision_is_provable(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        rita = await with_reviewer(p)
        alice, bob, carol = await p.register("alice"), await p.register("bob"), await p.register("carol")
        channel = await alice.create_channel("hate_news", "Hate")
        await bob.follow("hate_news")
        posted = await alice.post("hate_news", "Go and hurt them.")
        assert posted is not None
        await p.hears(bob, PostReceived, channel=channel)
        receipt = await carol.report_post("hate_news", posted.seq, HATE, "It calls for violence.")
        async with Client.anonymous(p.server.url) as visitor:
            await visitor.report_post("hate_news", None, HATE, "The whole channel does.")
        cases = {one.subject.kind: one for one in await rita.cases()}

        decided = await rita.decide(cases["channel"].case, [Measure("block-channel")], **DECISION)
        ended = await p.hears(bob, ChannelEnded, within_s=3, channel=channel)
        stated = await p.hears(alice, StatementReceived)
        with pytest.raises(Problem) as blocked:
            await carol.read_posts(channel)
        with pytest.raises(Problem) as refused:
            await alice.post(channel, "again")
        await rita.decide(cases["post"].case, [], **DECISION)
        outcome = await p.hears(carol, OutcomeReceived)

        assert (ended.problem.type, ended.problem.reason) == ("channel-restricted", DECISION["reason"])
        assert stated.statement.decision == decided.decision
        assert (blocked.value.slug, refused.value.slug) == ("channel-restricted", "channel-restricted")
        assert blocked.value.body.decision == decided.decision
        assert outcome.report == receipt.report
        bundle = await alice.decision_proof(decided.decision)
        assert verify_decision(bundle, [alice._device.server.decisions_log]).decision


async def test_who_has_no_desk_key_opens_no_report(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        ada, rita = await with_desk(p)

        with pytest.raises(NotPossible):
            ada.export_desk_key()
        await ada.import_desk_key(rita.export_desk_key())

        assert ada.export_desk_key() == rita.export_desk_key()
