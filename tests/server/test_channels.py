"""Channels: opening them, roles in them, following them, and what may stand in their names."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heliograph.server.channels import RIGHTS
from heliograph.wire import channels as c
from heliograph.wire.accounts import Empty, ResolveHandle
from heliograph.wire.ids import AccountId, ChannelId, Handle, channel_id
from heliograph.wire.problems import Problem
from tests.server.town import open_channel, publish, read_bodies, signed_post
from tests.world import Person, World, generous_limits, world


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


@pytest.fixture
async def owner(w: World) -> Person:
    return await w.register("olga")


@pytest.fixture
async def news(w: World, owner: Person) -> ChannelId:
    return await open_channel(w, owner)


def new_channel(handle: str = "news", title: str = "News", **fields: object) -> c.CreateChannel:
    return c.CreateChannel(channel_id(secrets.token_bytes(16)), Handle(handle), title, **fields)  # type: ignore[arg-type]


async def refusal(w: World, operation: str, request: object, who: Person | None) -> str:
    """Return the type of the problem that a call is answered with."""
    with pytest.raises(Problem) as refused:
        await w.call(operation, request, who)  # type: ignore[arg-type]
    return refused.value.slug


async def give(w: World, owner: Person, channel: ChannelId, who: Person, role: c.ChannelRole | None) -> None:
    await w.call("set_channel_role", c.SetChannelRole(channel, who.account, role), owner)


# ----------------------------------------------------------------------------------------------------------- opening


async def test_anyone_can_read_about_a_channel_without_an_account(w: World, owner: Person, news: ChannelId) -> None:
    info: c.ChannelInfo = await w.call("get_channel", c.ChannelRequest(news))
    assert (info.handle, info.title, info.description, info.languages) == ("news", "News", "What happens", ["en"])
    assert (info.owner, info.followers, info.head_seq, info.own_role) == (owner.account, 0, 0, None)


async def test_whoever_opens_a_channel_owns_it(w: World, owner: Person, news: ChannelId) -> None:
    assert (await w.call("get_channel", c.ChannelRequest(news), owner)).own_role == "owner"


async def test_opening_the_same_channel_again_is_answered_with_it(w: World, owner: Person) -> None:
    request = new_channel()
    first = await w.call("create_channel", request, owner)
    assert await w.call("create_channel", request, owner) == first


async def test_the_id_of_a_channel_cannot_be_taken_over(w: World, news: ChannelId) -> None:
    thief = await w.register("theo")
    request = c.CreateChannel(news, Handle("mine"), "Mine")
    assert await refusal(w, "create_channel", request, thief) == "key-reused"


async def test_channels_and_accounts_share_one_namespace(w: World, owner: Person) -> None:
    assert await refusal(w, "create_channel", new_channel(owner.handle), owner) == "handle-taken"


async def test_the_handle_of_a_channel_names_it(w: World, news: ChannelId) -> None:
    assert (await w.call("resolve_handle", ResolveHandle(Handle("news")))).channel == news


@pytest.mark.bad_input(113)
async def test_of_two_who_take_a_handle_at_once_one_gets_it(w: World, owner: Person) -> None:
    other = await w.register("omar")
    calls = [w.call("create_channel", new_channel("square"), who) for who in (owner, other)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Problem)]
    assert [problem.slug for problem in refused] == ["handle-taken"]


@pytest.mark.bad_input(105)
@pytest.mark.parametrize("handle", ["Admin", "\u0430dmin", "adm1n", "admin\u200b", "ad\u202emin", "moderat0r"])
async def test_a_handle_that_speaks_for_the_server_is_refused(w: World, owner: Person, handle: str) -> None:
    assert await refusal(w, "create_channel", new_channel(handle), owner) in ("malformed", "invalid-handle")


@pytest.mark.bad_input(106)
@pytest.mark.parametrize("handle", ["\uff41\uff4c\uff49\uff43\uff45", "\u0130stanbul", "stra\u00dfe", "\ufb01sh"])
async def test_a_handle_has_only_plain_letters(w: World, owner: Person, handle: str) -> None:
    assert await refusal(w, "create_channel", new_channel(handle), owner) == "malformed"


@pytest.mark.bad_input(107)
async def test_a_tower_of_marks_is_no_title(w: World, owner: Person) -> None:
    title = "a" + "\u0316" * 100
    assert await refusal(w, "create_channel", new_channel(title=title), owner) == "malformed"


@pytest.mark.bad_input(108)
@pytest.mark.parametrize("title", ["", "   ", "\u3000", "x" * 129])
async def test_a_title_is_neither_empty_nor_endless(w: World, owner: Person, title: str) -> None:
    assert await refusal(w, "create_channel", new_channel(title=title), owner) == "malformed"


@pytest.mark.bad_input(109)
@pytest.mark.parametrize(
    "character",
    ["\n", "\t", "\x00", "\x1b", "\x85", "\u2028", "\u202e", "\u2066", "\ufeff", "\ue000", "\uffff", "\u0378"],
)
async def test_a_title_has_no_character_that_moves_or_hides_others(w: World, owner: Person, character: str) -> None:
    assert await refusal(w, "create_channel", new_channel(title=f"a{character}b"), owner) == "malformed"


@pytest.mark.bad_input(109)
async def test_a_description_may_have_lines_but_no_direction_marks(w: World, owner: Person) -> None:
    await w.call("create_channel", new_channel(description="one\ntwo"), owner)
    request = new_channel("other", description="one\u202etwo")
    assert await refusal(w, "create_channel", request, owner) == "malformed"


@pytest.mark.parametrize(
    "title", ["X", "اخبار می\u200cخواهم", "हिन्दी समाचार", "新闻", "👩\u200d👩\u200d👧 family", "Tiếng Việt"]
)
async def test_titles_of_all_languages_are_welcome(w: World, owner: Person, title: str) -> None:
    assert (await w.call("create_channel", new_channel(title=title), owner)).title == title


async def test_an_account_opens_only_so_many_channels(tmp_path: Path) -> None:
    async with world(tmp_path, limits=generous_limits(channels_per_account=1)) as w:
        owner = await w.register("olga")
        await open_channel(w, owner)
        assert await refusal(w, "create_channel", new_channel("other"), owner) == "not-allowed"


async def test_the_directory_is_read_page_by_page(w: World, owner: Person) -> None:
    for handle in ("aaa", "bbb", "ccc"):
        await open_channel(w, owner, handle)
    first = await w.call("list_channels", c.ListChannels(limit=2))
    second = await w.call("list_channels", c.ListChannels(after=first.channels[-1].handle, limit=2))
    assert [one.handle for one in first.channels + second.channels] == ["aaa", "bbb", "ccc"]


async def test_an_owner_changes_what_a_channel_says_and_the_rest_stays(
    w: World, owner: Person, news: ChannelId
) -> None:
    info = await w.call("update_channel", c.UpdateChannel(news, title="Fresh", languages=["de", "fa"]), owner)
    assert (info.title, info.description, info.languages) == ("Fresh", "What happens", ["de", "fa"])


async def test_a_channel_that_does_not_exist_is_not_found(w: World) -> None:
    nowhere = channel_id(secrets.token_bytes(16))
    assert await refusal(w, "get_channel", c.ChannelRequest(nowhere), None) == "not-found"


# ------------------------------------------------------------------------------------------------------------- roles


@pytest.mark.parametrize("role", [None, "owner", "editor", "moderator"])
async def test_a_role_gives_exactly_its_rights(
    w: World, owner: Person, news: ChannelId, role: c.ChannelRole | None
) -> None:
    someone = await w.register("sam")
    await give(w, owner, news, someone, role)
    attempts = {
        "post": ("submit_post", signed_post(w, someone, news)),
        "change": ("update_channel", c.UpdateChannel(news, title="Mine")),
        "appoint": ("set_channel_role", c.SetChannelRole(news, someone.account, "owner")),
    }
    allowed: set[str] = set()
    for right, (operation, request) in attempts.items():
        try:
            await w.call(operation, request, someone)
        except Problem as problem:
            assert problem.slug == "not-allowed"
        else:
            allowed.add(right)
    assert allowed == (set() if role is None else RIGHTS[role] & set(attempts))


async def test_a_role_that_is_taken_away_gives_nothing_more(w: World, owner: Person, news: ChannelId) -> None:
    editor = await w.register("eddy")
    await give(w, owner, news, editor, "editor")
    await publish(w, editor, news, "mine")
    await give(w, owner, news, editor, None)
    assert await refusal(w, "submit_post", signed_post(w, editor, news), editor) == "not-allowed"
    assert await read_bodies(w, news) == ["mine"]


@pytest.mark.bad_input(114)
@pytest.mark.parametrize("role", [None, "editor", "moderator"])
async def test_the_last_owner_cannot_step_down(
    w: World, owner: Person, news: ChannelId, role: c.ChannelRole | None
) -> None:
    request = c.SetChannelRole(news, owner.account, role)
    assert await refusal(w, "set_channel_role", request, owner) == "not-allowed"
    assert (await w.call("get_channel", c.ChannelRequest(news), owner)).own_role == "owner"


@pytest.mark.bad_input(114)
async def test_a_moderator_cannot_act_on_an_owner_or_raise_himself(w: World, owner: Person, news: ChannelId) -> None:
    moderator = await w.register("mona")
    await give(w, owner, news, moderator, "moderator")
    on_owner = c.SetChannelRole(news, owner.account, None)
    on_self = c.SetChannelRole(news, moderator.account, "owner")
    assert await refusal(w, "set_channel_role", on_owner, moderator) == "not-allowed"
    assert await refusal(w, "set_channel_role", on_self, moderator) == "not-allowed"


async def test_an_owner_leaves_once_there_is_another(w: World, owner: Person, news: ChannelId) -> None:
    heir = await w.register("hera")
    await give(w, owner, news, heir, "owner")
    await give(w, owner, news, owner, None)
    assert (await w.call("get_channel", c.ChannelRequest(news))).owner == heir.account


async def test_anyone_can_lay_down_a_role(w: World, owner: Person, news: ChannelId) -> None:
    editor = await w.register("eddy")
    await give(w, owner, news, editor, "editor")
    await give(w, editor, news, editor, None)
    assert (await w.call("get_channel", c.ChannelRequest(news), editor)).own_role is None


async def test_a_role_needs_an_account_that_exists(w: World, owner: Person, news: ChannelId) -> None:
    nobody = AccountId("a" + "a" * 52)
    request = c.SetChannelRole(news, nobody, "editor")
    assert await refusal(w, "set_channel_role", request, owner) == "not-found"


# --------------------------------------------------------------------------------------------------------- following


async def test_following_is_counted_once_and_listed_to_the_follower_alone(w: World, news: ChannelId) -> None:
    fan = await w.register("fanny")
    for _ in range(2):
        await w.call("follow", c.ChannelRequest(news), fan)
    assert (await w.call("get_channel", c.ChannelRequest(news))).followers == 1
    assert [one.handle for one in (await w.call("list_following", Empty(), fan)).channels] == ["news"]


async def test_who_follows_no_more_is_not_counted(w: World, news: ChannelId) -> None:
    fan = await w.register("fanny")
    await w.call("follow", c.ChannelRequest(news), fan)
    for _ in range(2):
        await w.call("unfollow", c.ChannelRequest(news), fan)
    assert (await w.call("get_channel", c.ChannelRequest(news))).followers == 0


async def test_nothing_that_an_owner_can_ask_names_a_follower(w: World, owner: Person, news: ChannelId) -> None:
    fan = await w.register("fanny")
    await w.call("follow", c.ChannelRequest(news), fan)
    answers = [
        await w.call("get_channel", c.ChannelRequest(news), owner),
        await w.call("list_following", Empty(), owner),
        await w.call("read_posts", c.ReadPosts(news), owner),
    ]
    assert fan.account not in repr(answers)


async def test_an_account_follows_only_so_many_channels(tmp_path: Path) -> None:
    async with world(tmp_path, limits=generous_limits(channels_followed=1)) as w:
        owner = await w.register("olga")
        one, other = await open_channel(w, owner, "one"), await open_channel(w, owner, "other")
        await w.call("follow", c.ChannelRequest(one), owner)
        assert await refusal(w, "follow", c.ChannelRequest(other), owner) == "not-allowed"
        assert (await w.call("get_channel", c.ChannelRequest(other))).followers == 0


async def test_a_post_is_one_entry_whatever_the_audience(w: World, owner: Person, news: ChannelId) -> None:
    fans = [await w.register(f"fan{number}", login=number < 5) for number in range(20)]
    for fan in fans[:5]:
        await w.call("follow", c.ChannelRequest(news), fan)
    sql = "SELECT count(*) FROM entries"
    before = await w.context.database.read(lambda reader: reader.one(sql))
    await publish(w, owner, news)
    after = await w.context.database.read(lambda reader: reader.one(sql))
    assert before is not None
    assert after == (before[0] + 1,)
