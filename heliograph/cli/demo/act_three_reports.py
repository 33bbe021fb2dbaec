"""Act three: a private message and three posts are reported, and a forged report is refused.

Carol discloses a threat to the desk, with two messages before it; the server stores sealed bytes. Bob is a liar with a
client of his own making: he takes a message that Alice really sent, with the server's true stamp on it, and puts other
words in its place. The desk's check finds both out from public keys alone, and the server agrees.
"""

from dataclasses import dataclass, replace

from heliograph.cli.demo import story
from heliograph.cli.demo.act_one_room import Said
from heliograph.cli.demo.act_two_channel import Broadcast
from heliograph.cli.demo.people import Person
from heliograph.cli.demo.stage import Stage
from heliograph.client.client import Client
from heliograph.client.decisions import JudgedItem, JudgedReport, build_report, seal_to_desk
from heliograph.client.reading import read_content
from heliograph.wire.accounts import Empty, ServerInfo
from heliograph.wire.ids import CaseId, ReportId
from heliograph.wire.moderation import CaseSummary, CaseView, EvidenceView, ReportPrivate, ReportReceipt
from heliograph.wire.problems import Problem

DISCLOSED_BEFORE = 2


@dataclass(frozen=True)
class Desk:
    """The reviewer, and the cases of the three posts in the order of the story."""

    reviewer: Person
    post_cases: tuple[CaseId, ...]
    reporters: tuple[Person, ...]


async def play(stage: Stage, said: Said, broadcast: Broadcast) -> Desk:
    """Play the act and return the desk."""
    narrator = stage.narrator
    reviewer = await _open_desk(stage)
    true_report = await _report_threat(stage, said)
    forged_report = await _report_forgery(stage, said)
    reporters = await _report_posts(stage, broadcast)

    cases = await reviewer.client.cases()
    narrator.check(
        sorted(one.subject.kind for one in cases) == ["post", "post", "post", "room"],
        "The reviewer's queue holds four cases: the room and three posts",
        str(cases),
    )
    room_case = await reviewer.client.case(next(one.case for one in cases if one.subject.kind == "room"))
    await _judge_truth(stage, reviewer, room_case, true_report.report)
    await _judge_forgery(stage, reviewer, room_case, forged_report.report)
    return Desk(reviewer, _in_story_order(cases, broadcast), reporters)


async def _open_desk(stage: Stage) -> Person:
    """Let the first administrator invite a reviewer, and the reviewer publish the desk's key."""
    administrator = await stage.register("ada", stage.server.first_invitation)
    invitation = await administrator.client.create_invitation("reviewer")
    reviewer = await stage.register("rosa", invitation)
    await reviewer.client.create_desk_key()
    stage.narrator.event("Ada, the administrator, invites Rosa as a reviewer; Rosa publishes the desk's key")
    return reviewer


async def _report_threat(stage: Stage, said: Said) -> ReportReceipt:
    carol = stage.people["carol"].client
    number = said.number_of(story.THREAT.lines[0][1])
    threat = next(one for one in carol.messages(said.room) if one.seq == number)
    receipt = await carol.report_messages(
        said.room,
        [threat.message_id],
        story.THREAT_CATEGORY,
        "She means it.",
        keyword=story.THREAT_KEYWORD,
        preceding=DISCLOSED_BEFORE,
    )
    stage.narrator.event("Carol reports Erin's threat: it and two messages before it, sealed to the desk")
    return receipt


async def _report_forgery(stage: Stage, said: Said) -> ReportReceipt:
    """Let Bob claim that Alice said something else, under the stamp of what she really said."""
    bob, number = stage.people["bob"].client, said.number_of(story.TRUE_WORDS)
    true_message = next(one for one in bob.messages(said.room) if one.seq == number)
    forged_data = true_message.application_data.replace(story.TRUE_WORDS.encode(), story.FORGED_WORDS.encode())
    stage.narrator.require(forged_data != true_message.application_data, "Bob's forgery says something else")
    report = build_report(
        bob.identity,
        said.room,
        [replace(true_message, application_data=forged_data)],
        true_message.sender,
        category=story.THREAT_CATEGORY,
        note="Look what Alice wrote to me.",
        alone=True,
    )
    server = await bob.say("get_server", Empty())
    if not isinstance(server, ServerInfo) or server.desk_key is None:
        raise TypeError("the server names no desk key")
    receipt = await bob.say("report_private", ReportPrivate(said.room, seal_to_desk(report, server.desk_key)))
    if not isinstance(receipt, ReportReceipt):
        raise TypeError("the server gave no receipt")
    stage.narrator.event(f"Bob reports Alice, who really wrote “{story.TRUE_WORDS}”, for “{story.FORGED_WORDS}”")
    return receipt


async def _report_posts(stage: Stage, broadcast: Broadcast) -> tuple[Person, ...]:
    """Report the three fraudulent posts: two followers by their accounts, and one person without any."""
    frauds = _frauds(broadcast)
    reporters = broadcast.followers[:2]
    async with Client.anonymous(stage.server.url) as visitor:
        for reporter, post in zip((*(one.client for one in reporters), visitor), frauds, strict=True):
            await reporter.report_post(
                broadcast.channel,
                post,
                story.FRAUD_CATEGORY,
                story.FRAUD_EXPLANATION,
                keyword=story.FRAUD_KEYWORD,
            )
    stage.narrator.event("Two followers, and somebody without an account, report three posts that ask for PINs")
    return reporters


async def _judge_truth(stage: Stage, reviewer: Person, case: CaseView, report: ReportId) -> None:
    narrator = stage.narrator
    judged = await _open(reviewer, case, report)
    erin = stage.people["erin"].client.identity.account
    words = [_words(item) for item in judged.items]
    narrator.check(
        [item.check.verdict.value for item in judged.items] == ["proven"] * (DISCLOSED_BEFORE + 1)
        and words[-1] == story.THREAT.lines[0][1]
        and judged.accused == erin
        and judged.against_accused >= 1,
        f"Rosa opens Carol's report: {len(words)} messages, all PROVEN; the threat is Erin's",
        str([(item.check.verdict.value, item.check.reason) for item in judged.items]),
    )
    evidence: EvidenceView = await reviewer.client.attach_evidence(case.case, judged.items[-1])
    narrator.check(
        evidence.verdict == "proven", "The server verifies the threat again and keeps it as evidence: PROVEN"
    )


async def _judge_forgery(stage: Stage, reviewer: Person, case: CaseView, report: ReportId) -> None:
    narrator = stage.narrator
    judged = await _open(reviewer, case, report)
    item = judged.items[0]
    narrator.check(
        item.check.verdict.value == "forged" and judged.against_accused == 0,
        f"Rosa opens Bob's report: FORGED. {item.check.reason}",
        item.check.verdict.value,
    )
    try:
        await reviewer.client.attach_evidence(case.case, item)
    except Problem as problem:
        answer = problem.slug
    else:
        answer = "accepted"
    narrator.check(answer == "invalid-evidence", "The server refuses it as evidence, too: invalid-evidence", answer)


async def _open(reviewer: Person, case: CaseView, report: ReportId) -> JudgedReport:
    sealed = next(one for one in case.reports if one.report == report)
    return await reviewer.client.open_report(case, sealed)


def _words(item: JudgedItem) -> str:
    return "" if item.check.content is None else read_content(item.check.content).text


def _frauds(broadcast: Broadcast) -> list[int]:
    return [post for post, line in zip(broadcast.posts, story.POSTS, strict=True) if line.is_fraud]


def _in_story_order(cases: list[CaseSummary], broadcast: Broadcast) -> tuple[CaseId, ...]:
    by_post = {one.subject.ref: CaseId(one.case) for one in cases if one.subject.kind == "post"}
    return tuple(by_post[f"{broadcast.channel}/{post}"] for post in _frauds(broadcast))
