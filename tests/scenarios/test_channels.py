"""Channels: posts that anyone can read and nobody can forge, and who follows them."""

import hashlib
import sqlite3
from pathlib import Path

import pytest

from heliograph.client.client import Client
from heliograph.client.told import PostReceived, PostRemoved
from heliograph.server import log
from heliograph.server.data_directory import DATABASE_NAME
from heliograph.wire.problems import Problem
from tests.scenarios.people import people


async def test_followers_hear_posts_edits_and_deletions(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        channel = await alice.create_channel("harbour_news", "Harbour news", languages=["en", "de"])
        await alice.post("harbour_news", "before")
        await bob.follow("harbour_news")

        posted = await alice.post("harbour_news", "The light is on.", language="en")
        heard = await p.hears(bob, PostReceived, channel=channel)
        assert posted is not None
        await alice.edit_post("harbour_news", posted.seq, "The light is out.")
        edited = await p.hears(bob, PostReceived, channel=channel)
        await alice.delete_post("harbour_news", posted.seq)
        removed = await p.hears(bob, PostRemoved, channel=channel)

        assert (heard.body, heard.author, heard.post) == ("The light is on.", alice.identity.account, posted.seq)
        assert (edited.body, edited.post) == ("The light is out.", posted.seq)
        assert (removed.by, removed.post) == ("author", posted.seq)


async def test_a_visitor_without_an_account_reads_verified_posts(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice = await p.register("alice")
        await alice.create_channel("harbour_news", "Harbour news")
        for number in range(3):
            await alice.post("harbour_news", f"post {number}")

        async with Client.anonymous(p.server.url) as visitor:
            posts = await visitor.read_posts("harbour_news")

        assert [one.body for one in posts] == ["post 0", "post 1", "post 2"]
        assert {one.handle for one in posts} == {"alice"}
        assert not any(one.fault for one in posts)


async def test_a_follower_who_was_away_reads_on_from_the_last_post(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await alice.create_channel("harbour_news", "Harbour news")
        await bob.follow("harbour_news")
        await p.stop(bob)
        for number in range(3):
            await alice.post("harbour_news", f"post {number}")

        bob = await p.reopen("bob")

        assert [(await p.hears(bob, PostReceived)).body for _ in range(3)] == ["post 0", "post 1", "post 2"]


async def test_only_those_with_a_role_post(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await alice.create_channel("harbour_news", "Harbour news")

        with pytest.raises(Problem) as refused:
            await bob.post("harbour_news", "mine now")
        await alice.set_channel_role("harbour_news", "bob", "editor")
        await bob.post("harbour_news", "as an editor")

        assert refused.value.slug == "not-allowed"
        assert [one.handle for one in await alice.read_posts("harbour_news")] == ["bob"]


async def test_a_post_that_the_server_changed_is_not_shown(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await alice.create_channel("harbour_news", "Harbour news")
        await alice.post("harbour_news", "The light is on.")
        change_stored_posts(p.server.context.config.data, b"The light is on.", b"The light is no.")

        (post,) = await bob.read_posts("harbour_news")

        assert (post.body, bool(post.fault)) == ("", True)


def change_stored_posts(data: Path, before: bytes, after: bytes) -> None:
    """Play the evil server: write other words into the stored entries, with digests that fit."""
    with sqlite3.connect(data / DATABASE_NAME) as database:
        rows = database.execute("SELECT topic, seq, body FROM entries").fetchall()
        for topic, seq, body in rows:
            if before in body:
                changed = body.replace(before, after)
                digest = hashlib.sha256(changed).digest()[: log.DIGEST_SIZE_BYTES]
                database.execute(
                    "UPDATE entries SET body = ?, digest = ? WHERE topic = ? AND seq = ?", (changed, digest, topic, seq)
                )
    database.close()
