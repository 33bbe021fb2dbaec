"""Posts: signed, published once, edited in the open, and really gone when they are gone."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from heliograph.wire import channels as c
from heliograph.wire.account_state import SignedAccountState, verify_chain
from heliograph.wire.accounts import AccountRequest
from heliograph.wire.encoding import encode_msgpack
from heliograph.wire.events import EditEvent, ErasedEvent, PostEvent, TombstoneEvent
from heliograph.wire.ids import ChannelId, channel_id, channel_topic
from heliograph.wire.problems import Problem
from heliograph.wire.rooms import ReadTopic
from tests.server.town import (
    open_channel,
    plain_post,
    publish,
    read_bodies,
    sign,
    signed_deletion,
    signed_edit,
    signed_post,
)
from tests.world import Person, World, world

TEN_MINUTES_MS = 600_000


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


@pytest.fixture
async def author(w: World) -> Person:
    return await w.register("olga")


@pytest.fixture
async def news(w: World, author: Person) -> ChannelId:
    return await open_channel(w, author)


async def submit(w: World, who: Person, request: c.SubmitSigned, operation: str = "submit_post") -> c.Published:
    return await w.call(operation, request, who)


async def refusal(w: World, who: Person, request: c.SubmitSigned, operation: str = "submit_post") -> str:
    """Return the type of the problem that a submission is answered with."""
    with pytest.raises(Problem) as refused:
        await w.call(operation, request, who)
    return refused.value.slug


async def events(w: World, channel: ChannelId) -> list[Any]:
    """Return what the channel's log says to anyone."""
    reply = await w.call("read_topic", ReadTopic(channel_topic(channel)))
    return [entry.event for entry in reply.entries]


# -------------------------------------------------------------------------------------------------------- publishing


async def test_a_post_can_be_proven_without_the_server(w: World, author: Person, news: ChannelId) -> None:
    post = await publish(w, author, news, "hello")
    view: c.PostView = await w.call("get_post", c.GetPost(news, post))
    chain = await w.call("get_account_chain", AccountRequest(author.account))
    state = verify_chain(author.account, [SignedAccountState.decode(one) for one in chain.states])
    entry = state.device(author.device)
    assert entry is not None
    c.verify(c.POST_LABEL, view.signed, view.signature, entry.device_key)
    assert c.decode_post(view.signed).body == "hello"


async def test_the_same_post_again_is_answered_as_the_first_time(w: World, author: Person, news: ChannelId) -> None:
    request = signed_post(w, author, news)
    first = await submit(w, author, request)
    w.clock.advance_ms(TEN_MINUTES_MS * 6)
    assert await submit(w, author, request) == first
    assert len(await events(w, news)) == 1


@pytest.mark.bad_input(57)
async def test_a_key_cannot_be_used_for_another_post(w: World, author: Person, news: ChannelId) -> None:
    key = secrets.token_bytes(16)
    await submit(w, author, signed_post(w, author, news, "one", key=key))
    assert await refusal(w, author, signed_post(w, author, news, "two", key=key)) == "key-reused"


@pytest.mark.bad_input(58)
async def test_of_two_devices_that_use_a_key_at_once_one_publishes(w: World, author: Person, news: ChannelId) -> None:
    other = await w.add_device(author)
    key = secrets.token_bytes(16)
    calls = [submit(w, who, signed_post(w, who, news, key=key)) for who in (author, other)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [one.slug for one in answers if isinstance(one, Problem)] == ["key-reused"]
    assert len(await events(w, news)) == 1


async def test_posts_come_in_order_and_by_page(w: World, author: Person, news: ChannelId) -> None:
    for number in range(5):
        await publish(w, author, news, f"post {number}")
    newest = await w.call("read_posts", c.ReadPosts(news, limit=2))
    older = await w.call("read_posts", c.ReadPosts(news, before=newest.posts[0].id, limit=2))
    later = await w.call("read_posts", c.ReadPosts(news, after=1, limit=2))
    assert [view.id for view in newest.posts] == [4, 5]
    assert [view.id for view in older.posts] == [2, 3]
    assert [view.id for view in later.posts] == [2, 3]
    assert newest.head_seq == 5


async def test_a_reply_names_a_post_that_exists(w: World, author: Person, news: ChannelId) -> None:
    post = await publish(w, author, news)
    await publish(w, author, news, "yes", reply_to=post)
    assert await refusal(w, author, signed_post(w, author, news, reply_to=99)) == "invalid-post"


@pytest.mark.parametrize(
    "body",
    [
        "سلام دنیا",
        "Привет, мир",
        "नमस्ते दुनिया",
        "你好，世界",
        "Selam dünya",
        "مرحبا بالعالم",
        "tab\tand\nline",
        "<b>plain text</b>",
    ],
)
async def test_words_of_any_language_are_kept_as_they_were_signed(
    w: World, author: Person, news: ChannelId, body: str
) -> None:
    await publish(w, author, news, body)
    assert await read_bodies(w, news) == [body]


# ------------------------------------------------------------------------------------------------- what is not taken


async def test_a_changed_byte_breaks_the_signature(w: World, author: Person, news: ChannelId) -> None:
    good = signed_post(w, author, news, "good")
    forged = c.SubmitSigned(news, good.signed.replace(b"good", b"evil"), good.signature)
    assert await refusal(w, author, forged) == "invalid-post"


async def test_a_post_signed_by_another_key_is_refused(w: World, author: Person, news: ChannelId) -> None:
    stranger = w.new_person("theo")
    post = plain_post(w, author, news)
    signed = sign(stranger, news, c.POST_LABEL, post)
    assert await refusal(w, author, signed) == "invalid-post"


async def test_a_signature_for_an_edit_is_none_for_a_post(w: World, author: Person, news: ChannelId) -> None:
    signed = sign(author, news, c.EDIT_LABEL, plain_post(w, author, news))
    assert await refusal(w, author, signed) == "invalid-post"


async def test_nobody_posts_in_anothers_name(w: World, author: Person, news: ChannelId) -> None:
    editor = await w.register("eddy")
    await w.call("set_channel_role", c.SetChannelRole(news, editor.account, "editor"), author)
    copied = signed_post(w, author, news)
    assert await refusal(w, editor, copied) == "invalid-post"


async def test_a_removed_device_posts_no_more(w: World, author: Person, news: ChannelId) -> None:
    lost = await w.add_device(author)
    await w.remove_device(author, lost.device)
    assert await refusal(w, lost, signed_post(w, lost, news)) == "not-logged-in"


async def test_only_canonical_bytes_are_taken(w: World, author: Person, news: ChannelId) -> None:
    post = plain_post(w, author, news)
    fields = {name: getattr(post, name) for name in reversed(post.__struct_fields__)}
    signed = encode_msgpack(fields)
    request = c.SubmitSigned(news, signed, c.sign(c.POST_LABEL, signed, author.device_key))
    assert await refusal(w, author, request) == "invalid-post"


@pytest.mark.bad_input(46)
async def test_an_unknown_field_in_the_signed_bytes_is_refused(w: World, author: Person, news: ChannelId) -> None:
    post = plain_post(w, author, news)
    fields = {name: getattr(post, name) for name in post.__struct_fields__} | {"pinned": True}
    signed = encode_msgpack(fields)
    request = c.SubmitSigned(news, signed, c.sign(c.POST_LABEL, signed, author.device_key))
    assert await refusal(w, author, request) == "malformed"


@pytest.mark.bad_input(61)
async def test_bytes_that_are_no_post_are_refused(w: World, author: Person, news: ChannelId) -> None:
    assert await refusal(w, author, c.SubmitSigned(news, b"\xc1", bytes(64))) == "malformed"


@pytest.mark.parametrize("offset_ms", [-TEN_MINUTES_MS - 1, TEN_MINUTES_MS + 1])
async def test_a_post_of_another_time_is_refused(w: World, author: Person, news: ChannelId, offset_ms: int) -> None:
    request = signed_post(w, author, news, created_at_ms=w.clock() + offset_ms)
    assert await refusal(w, author, request) == "invalid-post"


@pytest.mark.bad_input(59)
async def test_a_body_may_be_exactly_as_large_as_the_limit(w: World, author: Person, news: ChannelId) -> None:
    letter = "\u0633"  # two bytes in UTF-8
    await publish(w, author, news, letter * (c.MAX_BODY_SIZE_BYTES // 2))
    assert await refusal(w, author, signed_post(w, author, news, letter * (c.MAX_BODY_SIZE_BYTES // 2) + "x")) == (
        "invalid-post"
    )


@pytest.mark.bad_input(41)
@pytest.mark.parametrize("body", ["a\x00b", "\x1b[31mred", "\x7f", " \n\t ", ""])
async def test_a_body_without_words_or_with_control_characters_is_refused(
    w: World, author: Person, news: ChannelId, body: str
) -> None:
    post = plain_post(w, author, news, "x")
    fields = {name: getattr(post, name) for name in post.__struct_fields__} | {"body": body}
    signed = encode_msgpack(fields)
    request = c.SubmitSigned(news, signed, c.sign(c.POST_LABEL, signed, author.device_key))
    assert await refusal(w, author, request) in ("invalid-post", "malformed")


@pytest.mark.bad_input(110)
@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "http://example.org/a.png", "//example.org"]
)
async def test_an_attachment_is_behind_an_https_address(w: World, author: Person, news: ChannelId, url: str) -> None:
    attachment = c.PublicAttachment(url, "image/png", 5, bytes(32))
    assert await refusal(w, author, signed_post(w, author, news, attachments=(attachment,))) == "invalid-post"


@pytest.mark.bad_input(116)
async def test_a_post_for_another_channel_is_refused(w: World, author: Person, news: ChannelId) -> None:
    other = await open_channel(w, author, "other")
    request = signed_post(w, author, news)
    moved = c.SubmitSigned(other, request.signed, request.signature)
    assert await refusal(w, author, moved) == "invalid-post"


async def test_a_channel_that_does_not_exist_takes_no_post(w: World, author: Person) -> None:
    nowhere = channel_id(secrets.token_bytes(16))
    assert await refusal(w, author, signed_post(w, author, nowhere)) == "not-found"


# ----------------------------------------------------------------------------------------------- editing and deleting


async def test_an_edit_is_a_new_entry_and_the_old_version_stays_readable(
    w: World, author: Person, news: ChannelId
) -> None:
    post = await publish(w, author, news, "first")
    edit = await submit(w, author, signed_edit(w, author, news, post, "second"), "edit_post")
    view: c.PostView = await w.call("get_post", c.GetPost(news, post))
    first, second = await events(w, news)
    assert (view.id, view.version) == (post, edit.seq)
    assert await read_bodies(w, news) == ["second"]
    assert isinstance(first, PostEvent)
    assert c.decode_post(first.signed).body == "first"
    assert isinstance(second, EditEvent)
    assert second.of == post


async def test_an_editor_may_correct_a_post_under_their_own_signature(
    w: World, author: Person, news: ChannelId
) -> None:
    editor = await w.register("eddy")
    await w.call("set_channel_role", c.SetChannelRole(news, editor.account, "editor"), author)
    post = await publish(w, author, news, "typpo")
    await submit(w, editor, signed_edit(w, editor, news, post, "typo"), "edit_post")
    view: c.PostView = await w.call("get_post", c.GetPost(news, post))
    c.verify(c.EDIT_LABEL, view.signed, view.signature, editor.state.state.devices[0].device_key)


async def test_a_deleted_post_leaves_a_tombstone_and_no_body_of_any_version(
    w: World, author: Person, news: ChannelId
) -> None:
    post = await publish(w, author, news, "secret-one")
    await submit(w, author, signed_edit(w, author, news, post, "secret-two"), "edit_post")
    request = signed_deletion(w, author, news, post)
    await submit(w, author, request, "delete_post")
    view: c.PostView = await w.call("get_post", c.GetPost(news, post))
    tombstone = c.Tombstone("author", w.clock())
    assert view.tombstone == tombstone
    assert (view.signed, view.signature) == (b"", b"")
    one, two, three = await events(w, news)
    assert (one, two) == (ErasedEvent("removed"), ErasedEvent("removed"))
    assert three == TombstoneEvent(post, tombstone, request.signed, request.signature)


async def test_the_words_of_a_deleted_post_are_nowhere_on_the_disk(
    w: World, author: Person, news: ChannelId, tmp_path: Path
) -> None:
    canary = "canary" + secrets.token_hex(8)
    post = await publish(w, author, news, canary)
    await submit(w, author, signed_edit(w, author, news, post, f"{canary} again"), "edit_post")
    assert on_disk(tmp_path, canary)
    await submit(w, author, signed_deletion(w, author, news, post), "delete_post")
    await w.context.database.checkpoint()  # type: ignore[attr-defined]
    assert on_disk(tmp_path, canary) == []


def on_disk(folder: Path, text: str) -> list[str]:
    """Return the names of the files below `folder` that hold these words."""
    files = [Path(where) / name for where, _, names in os.walk(folder) for name in names]
    return [file.name for file in files if text.encode() in file.read_bytes()]


async def test_a_moderator_of_the_channel_removes_a_post_and_says_that_it_was_the_channel(
    w: World, author: Person, news: ChannelId
) -> None:
    moderator = await w.register("mona")
    await w.call("set_channel_role", c.SetChannelRole(news, moderator.account, "moderator"), author)
    post = await publish(w, author, news)
    await submit(w, moderator, signed_deletion(w, moderator, news, post), "delete_post")
    view: c.PostView = await w.call("get_post", c.GetPost(news, post))
    assert view.tombstone is not None
    assert view.tombstone.by == "channel"


async def test_an_editor_does_not_delete_what_others_wrote(w: World, author: Person, news: ChannelId) -> None:
    editor = await w.register("eddy")
    await w.call("set_channel_role", c.SetChannelRole(news, editor.account, "editor"), author)
    post = await publish(w, author, news)
    assert await refusal(w, editor, signed_deletion(w, editor, news, post), "delete_post") == "not-allowed"


async def test_who_lost_the_role_can_still_delete_their_own_post(w: World, author: Person, news: ChannelId) -> None:
    editor = await w.register("eddy")
    await w.call("set_channel_role", c.SetChannelRole(news, editor.account, "editor"), author)
    post = await publish(w, editor, news, "mine")
    await w.call("set_channel_role", c.SetChannelRole(news, editor.account, None), author)
    await submit(w, editor, signed_deletion(w, editor, news, post), "delete_post")
    assert await read_bodies(w, news) == []


async def test_what_is_gone_is_neither_edited_nor_deleted_again(w: World, author: Person, news: ChannelId) -> None:
    post = await publish(w, author, news)
    await submit(w, author, signed_deletion(w, author, news, post), "delete_post")
    assert await refusal(w, author, signed_edit(w, author, news, post), "edit_post") == "post-removed"
    assert await refusal(w, author, signed_deletion(w, author, news, post), "delete_post") == "post-removed"


@pytest.mark.bad_input(116)
async def test_a_post_of_another_channel_is_not_deleted_by_its_number(
    w: World, author: Person, news: ChannelId
) -> None:
    other = await open_channel(w, await w.register("omar"), "other")
    post = await publish(w, author, news)
    request = signed_deletion(w, author, other, post)
    assert await refusal(w, author, request, "delete_post") == "not-found"
    assert len(await read_bodies(w, news)) == 1


@pytest.mark.bad_input(116)
async def test_a_negative_number_is_no_post(w: World, author: Person, news: ChannelId) -> None:
    request = signed_deletion(w, author, news, -1)
    assert await refusal(w, author, request, "delete_post") == "malformed"


@pytest.mark.bad_input(117)
async def test_a_post_deleted_while_followers_read_reaches_each_as_post_or_as_erased(
    w: World, author: Person, news: ChannelId
) -> None:
    fan = await w.register("fanny")
    await w.call("follow", c.ChannelRequest(news), fan)
    async with w.stream(fan) as stream:
        posts = [await publish(w, author, news, f"post {number}") for number in range(10)]
        await asyncio.gather(
            *(submit(w, author, signed_deletion(w, author, news, post), "delete_post") for post in posts)
        )
        seen: dict[int, Any] = {}
        while len(seen) < 20:
            frame = await stream.receive()
            if getattr(frame, "topic", "") == news:
                seen.update({entry.seq: entry.event for entry in getattr(frame, "items", [])})
        assert sorted(seen) == list(range(1, 21))
        assert all(isinstance(seen[post], PostEvent | ErasedEvent) for post in posts)
        assert all(isinstance(seen[seq], TombstoneEvent) for seq in range(11, 21))
