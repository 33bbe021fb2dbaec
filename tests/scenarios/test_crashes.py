"""A device stops dead at every step there is, is opened again, and what it promised happens exactly once."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heliograph.client.client import Client
from heliograph.client.told import ProtocolFault, RoomJoined, RoomMessage
from heliograph.wire.ids import RoomId
from heliograph.wire.problems import Problem
from tests.scenarios.people import People, people


class Crash(BaseException):
    """The process is gone."""


def crash_at(step: str, times: int = 1) -> Callable[[str], None]:
    """Return what lets the device die at the `times`-th `step`."""
    left = times

    def reach(reached: str) -> None:
        nonlocal left
        if reached == step:
            left -= 1
            if not left:
                raise Crash(step)

    return reach


async def died(client: Client) -> None:
    """Wait until the device is dead, and let go of its store as the kernel would."""
    loops = client._loops
    assert loops is not None
    await asyncio.wait((loops,), timeout=10)
    assert loops.done()
    with pytest.raises(Crash):
        await client.close()


async def two_in_a_room(p: People) -> tuple[Client, Client, RoomId]:
    """Return alice and bob, and the room that they share."""
    alice, bob = await p.register("alice"), await p.register("bob")
    await p.acquainted(alice, bob)
    room = await alice.create_room("Harbour", ["bob"])
    await p.hears(bob, RoomJoined, room=room)
    return alice, bob, room


@pytest.mark.parametrize("step", ["message sealed", "message accepted"])
async def test_a_message_is_delivered_once_when_its_sender_dies(step: str, tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob, room = await two_in_a_room(p)
        await p.stop(alice)
        alice = await p.reopen("alice", crash_at(step))

        with pytest.raises(Problem):
            await alice.send(room, "once")
        await died(alice)
        alice = await p.reopen("alice")
        assert await alice.flush(10)
        await alice.send(room, "and on")
        await p.reads(bob, "and on")

        assert [one.text for one in bob.messages(room)] == ["once", "and on"]
        assert [(one.text, one.state) for one in alice.messages(room)] == [("once", "sent"), ("and on", "sent")]


@pytest.mark.parametrize("step", ["commit saved", "commit accepted"])
async def test_people_are_added_once_when_the_committer_dies(step: str, tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob, room = await two_in_a_room(p)
        carol = await p.register("carol")
        await p.acquainted(alice, carol)
        await p.stop(alice)
        alice = await p.reopen("alice", crash_at(step))

        with pytest.raises(Problem):
            await alice.add_people(room, ["carol"])
        await died(alice)
        alice = await p.reopen("alice")
        assert await alice.flush(10)
        await p.hears(carol, RoomJoined, room=room)
        await carol.send(room, "thank you")

        await p.reads(alice, "thank you")
        await p.reads(bob, "thank you")


async def test_a_pending_commit_that_was_outrun_while_dead_is_built_again(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob, room = await two_in_a_room(p)
        carol = await p.register("carol")
        await p.acquainted(alice, carol)
        await p.stop(alice)
        alice = await p.reopen("alice", crash_at("commit saved"))
        with pytest.raises(Problem):
            await alice.add_people(room, ["carol"])
        await died(alice)

        await bob.refresh_room(room)
        alice = await p.reopen("alice")
        assert await alice.flush(10)
        await p.hears(carol, RoomJoined, room=room)
        await carol.send(room, "thank you")

        await p.reads(alice, "thank you")


async def test_a_room_is_created_once_when_its_creator_dies(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)
        await p.stop(alice)
        alice = await p.reopen("alice", crash_at("room created"))

        with pytest.raises(Problem):
            await alice.create_room("Harbour", ["bob"])
        await died(alice)
        alice = await p.reopen("alice")
        assert await alice.flush(10)
        joined = await p.hears(bob, RoomJoined)
        await alice.send(joined.room, "here we are")

        await p.reads(bob, "here we are")
        assert [one.name for one in alice.rooms()] == ["Harbour"]


async def test_a_message_is_told_once_when_its_receiver_dies(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob, room = await two_in_a_room(p)
        await p.stop(bob)
        bob = await p.reopen("bob", crash_at("entries saved", times=2))
        for number in range(4):
            await alice.send(room, f"number {number}")
        await died(bob)

        bob = await p.reopen("bob")
        told = [(await p.hears(bob, RoomMessage)).text for _ in range(4)]

        assert told == [f"number {number}" for number in range(4)]
        assert [one.text for one in bob.messages(room)] == told


async def test_key_packages_are_never_published_without_their_private_keys(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice = await p.register("alice")
        bob, _ = await Client.register(
            p.home("bob"), p.server.url, "bob", world=p.surroundings(crash_at("key packages saved"))
        )
        await bob.__aenter__()
        await died(bob)

        bob = await p.reopen("bob")
        await p.acquainted(alice, bob)
        room = await alice.create_room("Harbour", ["bob"])

        await p.hears(bob, RoomJoined, room=room)


async def test_a_registration_without_an_answer_is_finished_with_the_same_keys(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        with pytest.raises(Crash):
            await Client.register(p.home("eve"), p.server.url, "eve", world=p.surroundings(crash_at("registered")))

        eve = await p.register("eve")

        assert eve.identity.handle == "eve"
        assert len(eve.devices()) == 1


async def test_a_device_that_dies_while_it_joins_from_outside_joins_all_the_same(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob, room = await two_in_a_room(p)
        home = p.home("tablet")
        request = await Client.prepare_device(home, p.server.url, "alice", world=p.surroundings())
        grant = await alice.add_device(request)
        tablet = await Client.finish_device(home, grant, world=p.surroundings(crash_at("commit accepted")))
        await tablet.__aenter__()
        await died(tablet)

        tablet = await p.reopen("tablet")
        await p.hears(tablet, RoomJoined, room=room)
        await bob.send(room, "to the tablet")

        await p.reads(tablet, "to the tablet")


async def test_kill_9_at_any_moment_loses_and_repeats_nothing(tmp_path: Path) -> None:
    async with people(tmp_path) as p:
        alice, bob, room = await two_in_a_room(p)
        await p.stop(alice)
        texts = [str(number) for number in range(200)]
        for progress in (3, 11, 1, 30, 7, 19):
            await run_sender(p.home("alice"), room, len(texts), kill_after=progress)
        await run_sender(p.home("alice"), room, len(texts), kill_after=None)

        heard: list[str] = []
        async with asyncio.timeout(30):
            async for told in bob.receive():
                assert not isinstance(told, ProtocolFault), told
                if isinstance(told, RoomMessage):
                    heard.append(told.text)
                    if told.text == texts[-1]:
                        break

        assert heard == texts


async def run_sender(home: Path, room: RoomId, count: int, *, kill_after: int | None) -> None:
    """Run a sender in a process of its own; kill it some moment after it has said so many lines, or let it finish."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.scenarios.sender", str(home), room, str(count), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        if kill_after is None:
            await process.communicate()
            assert process.returncode == 0
            return
        for _ in range(kill_after):
            assert await process.stdout.readline()
        await asyncio.sleep(random.random() * 0.02)
        os.kill(process.pid, signal.SIGKILL)
        await process.communicate()
        assert process.returncode == -signal.SIGKILL
