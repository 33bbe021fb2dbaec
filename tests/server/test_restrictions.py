"""The one gate: from the decision's commit on, every route to a blocked channel answers 451 and says why."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from heliograph.server import restrictions
from heliograph.server.db.database import Transaction
from heliograph.wire import channels as c
from heliograph.wire.accounts import Empty
from heliograph.wire.events import Ended, Subscribe
from heliograph.wire.ids import ChannelId, channel_topic
from heliograph.wire.moderation import Decided, ReportPublic
from heliograph.wire.operations import OPERATIONS
from heliograph.wire.problems import Problem
from heliograph.wire.rooms import ReadTopic
from tests.server.town import (
    VIOLENCE,
    browse,
    new_reviewer,
    open_channel,
    publish,
    report_and_decide,
    signed_deletion,
    signed_edit,
    signed_post,
)
from tests.world import Person, World, world

REASON = "It calls for violence against people"
REFUSED = (
    "get_channel",
    "update_channel",
    "set_channel_role",
    "submit_post",
    "edit_post",
    "delete_post",
    "read_posts",
    "get_post",
    "follow",
    "report_public",
    "read_topic",
)
STILL_ALLOWED = ("unfollow",)


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


class Square:
    """A channel with one post and a follower, and a reviewer who can block it."""

    def __init__(self, w: World, owner: Person, follower: Person, reviewer: Person, channel: ChannelId) -> None:
        self.w, self.owner, self.follower, self.reviewer, self.channel = w, owner, follower, reviewer, channel

    async def block(self) -> Decided:
        return await report_and_decide(self.w, self.reviewer, self.channel, "block-channel")

    def requests(self) -> dict[str, tuple[msgspec.Struct, Person | None]]:
        """Return one sound request, with its caller, for each operation that touches a channel."""
        w, owner, channel = self.w, self.owner, self.channel
        named = c.ChannelRequest(channel)
        return {
            "get_channel": (named, None),
            "update_channel": (c.UpdateChannel(channel, title="Other"), owner),
            "set_channel_role": (c.SetChannelRole(channel, self.follower.account, "editor"), owner),
            "submit_post": (signed_post(w, owner, channel), owner),
            "edit_post": (signed_edit(w, owner, channel, 1), owner),
            "delete_post": (signed_deletion(w, owner, channel, 1), owner),
            "read_posts": (c.ReadPosts(channel), None),
            "get_post": (c.GetPost(channel, 1), None),
            "follow": (named, self.follower),
            "unfollow": (named, self.follower),
            "report_public": (ReportPublic(channel, VIOLENCE, "again", True, post=1), None),
            "read_topic": (ReadTopic(channel_topic(channel)), None),
        }


@pytest.fixture
async def square(w: World) -> Square:
    owner, follower = await w.register("olga"), await w.register("fred")
    channel = await open_channel(w, owner)
    await publish(w, owner, channel, "hello")
    await w.call("follow", c.ChannelRequest(channel), follower)
    return Square(w, owner, follower, await new_reviewer(w), channel)


def test_every_operation_that_names_a_channel_is_tried() -> None:
    named_in_path = {name for name, operation in OPERATIONS.items() if "{channel}" in operation.path}
    assert named_in_path <= {*REFUSED, *STILL_ALLOWED}


@pytest.mark.parametrize("operation", REFUSED)
async def test_an_operation_on_a_blocked_channel_answers_451_with_reason_date_decision_and_appeal(
    square: Square, operation: str
) -> None:
    request, who = square.requests()[operation]
    decided = await square.block()
    with pytest.raises(Problem) as refused:
        await square.w.call(operation, request, who)
    body = refused.value.body
    assert (body.type, body.status) == ("channel-restricted", 451)
    assert (body.reason, body.decision, body.decided_at_ms) == (REASON, decided.decision, square.w.clock())
    assert body.appeal == restrictions.APPEAL


async def test_what_is_tried_works_before_the_block(square: Square) -> None:
    requests = square.requests()
    assert set(requests) == {*REFUSED, *STILL_ALLOWED}
    for operation in sorted(requests, key=lambda name: name == "delete_post"):
        request, who = requests[operation]
        await square.w.call(operation, request, who)


@pytest.mark.parametrize("path", ["/c/news", "/c/news/1", "/c/news/report", "/c/news/1/report"])
async def test_a_page_of_a_blocked_channel_answers_451_with_the_reason(square: Square, path: str) -> None:
    assert (await browse(square.w, path)).status == 200
    decided = await square.block()
    answer = await browse(square.w, path)
    assert answer.status == 451
    assert REASON in answer.text
    assert decided.decision in answer.text
    assert "hello" not in answer.text


async def test_a_blocked_channel_is_not_in_the_directory(square: Square) -> None:
    await square.block()
    directory = await square.w.call("list_channels", c.ListChannels())
    home = await browse(square.w, "/")
    assert directory.channels == []
    assert "/c/news" not in home.text


async def test_a_follower_is_told_that_the_channel_is_blocked_and_nothing_of_what_it_said(square: Square) -> None:
    await square.block()
    (channel,) = (await square.w.call("list_following", Empty(), square.follower)).channels
    assert (channel.handle, channel.state, channel.title, channel.description) == ("news", "blocked", "", "")


async def test_a_follower_can_leave_a_blocked_channel(square: Square) -> None:
    await square.block()
    await square.w.call("unfollow", c.ChannelRequest(square.channel), square.follower)
    assert (await square.w.call("list_following", Empty(), square.follower)).channels == []


async def test_connected_followers_are_cut_within_a_second(square: Square) -> None:
    async with square.w.stream(square.follower) as stream:
        await square.block()
        ended = await stream.until(Ended, topic=square.channel, within_s=1)
        assert (ended.problem.type, ended.problem.reason) == ("channel-restricted", REASON)


async def test_a_blocked_channel_cannot_be_subscribed_to(square: Square) -> None:
    decided = await square.block()
    async with square.w.stream(square.follower) as stream:
        await stream.send(Subscribe(channel_topic(square.channel), 0))
        ended = await stream.until(Ended, topic=square.channel)
        assert ended.problem.decision == decided.decision


async def test_an_unrestricted_channel_is_open_and_a_blocked_one_says_so(square: Square) -> None:
    database = square.w.context.database
    before = await database.read(lambda reader: restrictions.channel_state(reader, square.channel))
    await square.block()
    after = await database.read(lambda reader: restrictions.channel_state(reader, square.channel))
    assert (before, after) == ("open", "blocked")


async def test_a_lifted_restriction_restricts_nothing(square: Square) -> None:
    decided = await square.block()

    def lift(tx: Transaction) -> None:
        tx.run("UPDATE restrictions SET lifted_by = ? WHERE target = ?", decided.decision, square.channel)

    await square.w.context.database.write(lift)
    assert (await square.w.call("get_channel", c.ChannelRequest(square.channel))).state == "open"


async def test_a_suspended_account_is_refused_under_the_decision(square: Square) -> None:
    decided = await square.block()

    def suspend(tx: Transaction) -> None:
        tx.run(
            "INSERT INTO restrictions (target, kind, decision, from_ms) VALUES (?, 'suspend-account', ?, 1)",
            *(square.owner.account, decided.decision),
        )

    await square.w.context.database.write(suspend)
    with pytest.raises(Problem) as refused:
        await square.w.context.database.read(lambda reader: restrictions.require_account(reader, square.owner.account))
    assert (refused.value.slug, refused.value.body.decision) == ("account-restricted", decided.decision)


async def test_another_channel_of_the_same_owner_stays_open(square: Square) -> None:
    other = await open_channel(square.w, square.owner, "garden", "Garden")
    await square.block()
    await publish(square.w, square.owner, other, secrets.token_hex(4))
    assert (await square.w.call("get_channel", c.ChannelRequest(other))).state == "open"
