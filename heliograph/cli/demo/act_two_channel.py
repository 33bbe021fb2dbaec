"""Act two: a channel publishes posts in twelve languages, and its followers read them.

Every follower is an account with a device and a socket of its own, and believes a post only by the signature of its
author's device. Two more read without an account: one the JSON, one the plain page.
"""

import asyncio
import html
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from heliograph.cli.demo import story
from heliograph.cli.demo.people import Person
from heliograph.cli.demo.stage import Stage
from heliograph.client.client import Client
from heliograph.client.told import PostReceived
from heliograph.wire.ids import ChannelId

ARRIVALS_AT_ONCE: Final = 8
READ_WITHIN_S: Final = 60.0


@dataclass(frozen=True)
class Broadcast:
    """The channel: whose it is, who follows it, and the numbers of its posts, in the order of the story."""

    channel: ChannelId
    owner: Person
    followers: tuple[Person, ...]
    posts: tuple[int, ...]


async def play(stage: Stage) -> Broadcast:
    """Play the act and return the channel."""
    narrator = stage.narrator
    owner = await stage.register("vera")
    languages = tuple(line.language for line in story.POSTS)
    channel = await owner.client.create_channel(
        story.CHANNEL_HANDLE, story.CHANNEL_TITLE, description=story.CHANNEL_DESCRIPTION, languages=languages
    )
    followers = await _followers(stage)
    info = await owner.client.channel(channel)
    narrator.check(
        info.followers == stage.followers,
        f"{info.followers} people follow Vera's channel “{story.CHANNEL_TITLE}”, each with an account and a socket",
        f"the channel counts {info.followers} followers",
    )
    posts: list[int] = []
    sent_s = 0.0
    for line in story.POSTS:
        sent_s = time.monotonic()
        published = await owner.client.post(channel, line.body, language=line.language)
        narrator.require(published is not None, f"the post in {line.language} is published")
        posts.append(0 if published is None else published.seq)
        narrator.quote(f"{story.CHANNEL_HANDLE} [{line.language}]", line.body)
    await _all_read(stage, followers, channel, posts)
    last_s = max(at_s for one in followers for at_s, told in one.told if isinstance(told, PostReceived)) - sent_s
    narrator.check(
        not stage.faults(),
        f"All {len(followers)} followers have read all {len(posts)} posts, each post by its author's signature: "
        f"{len(followers) * len(posts)} signatures checked",
        "; ".join(stage.faults()[:5]),
        reads=len(followers) * len(posts),
    )
    narrator.event(
        f"The last reader had the last post {last_s:.2f} s after Vera sent it", last_reader_after_s=round(last_s, 3)
    )
    await _read_without_an_account(stage, channel)
    return Broadcast(channel, owner, followers, tuple(posts))


async def _followers(stage: Stage) -> tuple[Person, ...]:
    gate = asyncio.Semaphore(ARRIVALS_AT_ONCE)
    with stage.narrator.progress("followers found their accounts", stage.followers) as step:

        async def arrive(number: int) -> Person:
            async with gate:
                person = await stage.register(f"reader_{number:04}")
                await person.client.follow(story.CHANNEL_HANDLE)
                step.advance()
                return person

        return tuple(
            await _together([lambda number=number: arrive(number) for number in range(1, stage.followers + 1)])
        )


async def _together(works: "list[Callable[[], Coroutine[Any, Any, Person]]]") -> list[Person]:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(work()) for work in works]
    return [task.result() for task in running]


async def _all_read(stage: Stage, followers: tuple[Person, ...], channel: ChannelId, posts: list[int]) -> None:
    expected = [(post, line.language, line.body) for post, line in zip(posts, story.POSTS, strict=True)]

    def has_all(person: Person) -> bool:
        return len(person.all(PostReceived)) >= len(expected)

    with stage.narrator.progress("followers read", len(followers)) as step:

        async def wait(person: Person) -> None:
            await person.until(lambda: has_all(person), f"{len(expected)} posts came", READ_WITHIN_S)
            read = [
                (told.post, told.language, told.body) for told in person.all(PostReceived) if told.channel == channel
            ]
            stage.narrator.require(read == expected, f"{person.name} has read {read}, expected {expected}")
            step.advance()

        async with asyncio.TaskGroup() as tasks:
            for person in followers:
                tasks.create_task(wait(person))


async def _read_without_an_account(stage: Stage, channel: ChannelId) -> None:
    narrator, url = stage.narrator, stage.server.url
    async with Client.anonymous(url) as visitor:
        read = await visitor.read_posts(channel)
    narrator.check(
        [(one.language, one.body) for one in read] == [(line.language, line.body) for line in story.POSTS]
        and not any(one.fault for one in read),
        "A reader without an account gets the same posts as JSON, and checks the same signatures",
        str(read),
    )
    async with aiohttp.ClientSession() as http, http.get(f"{url}/c/{story.CHANNEL_HANDLE}") as answer:
        page = html.unescape(await answer.text())
    missing = [line.language for line in story.POSTS if line.body not in page]
    narrator.check(
        answer.status == 200 and not missing,
        f"A browser without scripts shows them as a page: {url}/c/{story.CHANNEL_HANDLE}",
        f"status {answer.status}, missing {missing}",
    )
