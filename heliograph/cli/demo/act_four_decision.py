"""Act four: the reviewer decides, the channel is blocked, and every way to it is closed.

The measured time runs from the moment at which the decision is sent until the last follower's device has been told that
the channel can be read no more. Then every operation of the contract that could answer `channel-restricted` is called,
and every page of the channel is fetched: each must answer 451 with the public reason.
"""

import time
from typing import Final

import aiohttp

from heliograph.cli.demo import story
from heliograph.cli.demo.act_five_proof import Proof
from heliograph.cli.demo.act_three_reports import Desk
from heliograph.cli.demo.act_two_channel import Broadcast
from heliograph.cli.demo.people import Person
from heliograph.cli.demo.stage import Stage
from heliograph.client.channel import build_deletion, build_edit, build_post
from heliograph.client.told import ChannelEnded, OutcomeReceived, StatementReceived
from heliograph.mls.suite import Random
from heliograph.wire.accounts import ResolveHandle, Wire
from heliograph.wire.channels import (
    ChannelRequest,
    GetPost,
    ReadPosts,
    SetChannelRole,
    SubmitSigned,
    UpdateChannel,
    decode_post,
)
from heliograph.wire.ids import CaseId, Handle, TopicId
from heliograph.wire.moderation import Decided, Measure, MeasureKind, ReportPublic
from heliograph.wire.operations import OPERATIONS
from heliograph.wire.problems import Problem
from heliograph.wire.rooms import ReadTopic

CUT_WITHIN_S: Final = 1.0
RESTRICTED: Final = 451


async def play(stage: Stage, broadcast: Broadcast, desk: Desk, random: Random) -> Proof:
    """Play the act and return what an outsider needs in order to check the decision."""
    narrator = stage.narrator
    sent_s = time.monotonic()
    decided = await _decide(desk.reviewer, desk.post_cases[0], "block-channel")
    narrator.event(f"Rosa decides: the channel is blocked. “{story.REASON}”", decision=decided.decision)
    await _check_cut(stage, broadcast, decided, sent_s)
    await _check_told(stage, broadcast, desk, decided)
    await _check_operations(stage, broadcast, random)
    await _check_pages(stage, broadcast)
    for case in desk.post_cases[1:]:
        await _decide(desk.reviewer, case, "remove-post")
    left = [one.subject.kind for one in await desk.reviewer.client.cases()]
    narrator.check(
        left == ["room"], "Rosa removes the two other posts as well; the case about the room stays open", str(left)
    )
    bundle = await broadcast.owner.client.decision_proof(decided.decision)
    narrator.event("Vera, who may object, keeps the proof that the decision stands in the public log")
    subject = (await broadcast.owner.client.statement(decided.decision)).subject.ref
    return Proof(bundle, await _log_key(stage), decided.decision, subject)


async def _decide(reviewer: Person, case: CaseId, measure: MeasureKind) -> Decided:
    return await reviewer.client.decide(
        case,
        [Measure(measure)],
        ground=story.GROUND,
        ground_reference=story.GROUND_REFERENCE,
        category=story.FRAUD_CATEGORY,
        reason=story.REASON,
        facts=story.FACTS,
        keywords=[story.FRAUD_KEYWORD],
    )


async def _check_cut(stage: Stage, broadcast: Broadcast, decided: Decided, sent_s: float) -> None:
    """Wait until every follower is cut, and hold the time of the last against the promise."""
    narrator, cut_s = stage.narrator, list[float]()
    for person in broadcast.followers:
        await person.until(lambda person=person: bool(person.all(ChannelEnded)), "the channel has ended")
        ended = next((at_s, told) for at_s, told in person.told if isinstance(told, ChannelEnded))
        problem = ended[1].problem
        narrator.require(
            (problem.type, problem.reason, problem.decision) == ("channel-restricted", story.REASON, decided.decision),
            f"{person.name} is told why: {problem}",
        )
        cut_s.append(ended[0] - sent_s)
    middle_s, last_s = sorted(cut_s)[len(cut_s) // 2], max(cut_s)
    narrator.check(
        last_s <= CUT_WITHIN_S,
        f"All {len(cut_s)} connected followers are cut within a second of the decision, and told why: "
        f"the last after {last_s:.2f} s, half of them after {middle_s:.2f} s",
        f"the last after {last_s:.2f} s",
        last_cut_after_s=round(last_s, 3),
        median_cut_after_s=round(middle_s, 3),
    )


async def _check_told(stage: Stage, broadcast: Broadcast, desk: Desk, decided: Decided) -> None:
    """Check that the owner has the statement of reasons, and the first reporter the outcome."""
    owner, reporter = broadcast.owner, desk.reporters[0]
    await owner.until(lambda: bool(owner.all(StatementReceived)), "the statement of reasons came")
    statement = owner.all(StatementReceived)[0].statement
    stage.narrator.check(
        (statement.decision, statement.reason, statement.facts) == (decided.decision, story.REASON, story.FACTS)
        and bool(statement.redress),
        "Vera gets the statement of reasons: what, why, on which facts, and how to object",
        str(statement),
    )
    await reporter.until(lambda: bool(reporter.all(OutcomeReceived)), "the outcome of the report came")
    outcome = reporter.all(OutcomeReceived)[0]
    stage.narrator.check(
        outcome.decision == decided.decision, f"Who reported is told the outcome: {outcome.outcome}", str(outcome)
    )


async def _check_operations(stage: Stage, broadcast: Broadcast, random: Random) -> None:
    """Call every operation that can meet a blocked channel: all refuse with the same reason."""
    requests = _requests(broadcast, random)
    expected = {one.name for one in OPERATIONS.values() if "channel-restricted" in one.problems}
    stage.narrator.require(requests.keys() == expected, f"{sorted(requests)} are all of {sorted(expected)}")
    answers: dict[str, str] = {}
    for name, request in requests.items():
        try:
            await broadcast.owner.client.say(name, request)
        except Problem as problem:
            answers[name] = f"{problem.body.status} {problem.body.reason}"
        else:
            answers[name] = "200"
    stage.narrator.check(
        set(answers.values()) == {f"{RESTRICTED} {story.REASON}"},
        f"All {len(answers)} operations on the channel answer 451 with the public reason, to its owner as to anyone",
        str(answers),
        operations=sorted(answers),
    )


def _requests(broadcast: Broadcast, random: Random) -> dict[str, Wire]:
    """Return one well-formed request of the owner's for each operation that can meet a blocked channel."""
    identity, channel, post = broadcast.owner.client.identity, broadcast.channel, broadcast.posts[0]
    now_ms = time.time_ns() // 1_000_000
    signed: SubmitSigned = build_post(identity, channel, "Hello?", language="en", now_ms=now_ms, random=random)
    before = decode_post(signed.signed)
    return {
        "resolve_handle": ResolveHandle(Handle(story.CHANNEL_HANDLE)),
        "get_channel": ChannelRequest(channel),
        "update_channel": UpdateChannel(channel, title="Other news"),
        "set_channel_role": SetChannelRole(channel, broadcast.followers[0].client.identity.account, "editor"),
        "submit_post": signed,
        "edit_post": build_edit(identity, channel, post, before, "Hello again?", now_ms=now_ms, random=random),
        "delete_post": build_deletion(identity, channel, post, now_ms=now_ms, random=random),
        "read_posts": ReadPosts(channel),
        "get_post": GetPost(channel, post),
        "follow": ChannelRequest(channel),
        "read_topic": ReadTopic(TopicId(channel)),
        "report_public": ReportPublic(channel, story.FRAUD_CATEGORY, story.FRAUD_EXPLANATION, good_faith=True),
    }


async def _check_pages(stage: Stage, broadcast: Broadcast) -> None:
    """Fetch what a browser or a script without an account could: pages, JSON, and the raw entries."""
    channel, post = broadcast.channel, broadcast.posts[0]
    paths = (
        f"/c/{story.CHANNEL_HANDLE}",
        f"/c/{story.CHANNEL_HANDLE}/{post}",
        f"/v1/handles/{story.CHANNEL_HANDLE}",
        f"/v1/channels/{channel}",
        f"/v1/channels/{channel}/posts",
        f"/v1/channels/{channel}/posts/{post}",
        f"/v1/topics/{channel}/entries",
    )
    answers: dict[str, int] = {}
    async with aiohttp.ClientSession(stage.server.url) as http:
        for path in paths:
            async with http.get(path) as answer:
                told = await answer.text()
                answers[path] = answer.status if story.REASON in told else -answer.status
        async with http.get("/v1/channels") as answer:
            directory = await answer.text()
    stage.narrator.check(
        set(answers.values()) == {RESTRICTED} and channel not in directory,
        f"All {len(paths)} addresses that need no account answer 451 with the reason; the directory lists it no more",
        str(answers),
    )


async def _log_key(stage: Stage) -> str:
    """Return the log's key as anyone can read it while the server runs."""
    async with aiohttp.ClientSession(stage.server.url) as http, http.get("/.well-known/heliograph") as answer:
        return (await answer.json())["decisions_log"]
