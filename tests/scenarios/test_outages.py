"""The server goes away, comes back, or comes back older than it was; devices lose nothing of theirs."""

import shutil
import socket
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from heliograph.client.told import RoomJoined, RoomMessage
from heliograph.server.app import Server, open_server
from heliograph.server.config import Config
from heliograph.server.data_directory import DATABASE_NAME
from tests.scenarios.people import People
from tests.world import Clock, World, generous_limits


def begin_incarnation(data: Path) -> None:
    """Do what a restore does: the server says that its past is another."""
    with sqlite3.connect(data / DATABASE_NAME) as database:
        database.execute("UPDATE server SET incarnation = 'restored'")
    database.close()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Outage:
    """A server that can be stopped and started at one address."""

    def __init__(self, data: Path, http: aiohttp.ClientSession) -> None:
        self.data = data
        self.clock = Clock()
        self._port = free_port()
        self._http = http
        self._stack = AsyncExitStack()
        self._server: Server | None = None

    async def start(self) -> World:
        """Start the server."""
        config = Config(data=self.data, port=self._port, registration="open")
        opened = open_server(config, limits=generous_limits(), now_ms=self.clock)
        self._server = await self._stack.enter_async_context(opened)
        return World(self._server, self._http, self.clock)

    async def stop(self) -> None:
        """Stop the server in order, quickly."""
        if self._server is not None:
            await self._server.drain()
        await self._stack.aclose()
        self._server = None


@asynccontextmanager
async def outage(tmp_path: Path) -> AsyncGenerator[tuple[Outage, People]]:
    """Run a server that the story stops and starts, and the people's devices."""
    async with aiohttp.ClientSession() as http, AsyncExitStack() as devices:
        server = Outage(tmp_path / "data", http)
        try:
            async with AsyncExitStack() as stack:
                yield server, People(await server.start(), tmp_path, stack)
        finally:
            await server.stop()
            await devices.aclose()


async def test_what_was_sent_while_the_server_was_away_arrives(tmp_path: Path) -> None:
    async with outage(tmp_path) as (server, p):
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)
        room = await alice.create_room("Harbour", ["bob"])
        await p.hears(bob, RoomJoined, room=room)

        await server.stop()
        for number in range(3):
            await alice.send(room, f"into the dark {number}", wait=False)
        await server.start()

        heard = [(await p.hears(bob, RoomMessage, within_s=60)).text for _ in range(3)]
        assert heard == [f"into the dark {number}" for number in range(3)]
        assert await alice.flush(10)


async def test_after_a_restore_from_an_older_backup_the_room_lives_on(tmp_path: Path) -> None:
    async with outage(tmp_path) as (server, p):
        alice, bob = await p.register("alice"), await p.register("bob")
        await p.acquainted(alice, bob)
        room = await alice.create_room("Harbour", ["bob"])
        await p.hears(bob, RoomJoined, room=room)
        await alice.send(room, "in the backup")
        await p.reads(bob, "in the backup")

        await server.stop()
        shutil.copytree(server.data, tmp_path / "backup")
        await server.start()
        await alice.send(room, "lost on the server")
        await p.reads(bob, "lost on the server", within_s=60)
        await bob.refresh_room(room)
        await server.stop()
        shutil.rmtree(server.data)
        shutil.copytree(tmp_path / "backup", server.data)
        begin_incarnation(server.data)
        await server.start()

        await p.hears(bob, RoomJoined, within_s=60, room=room, again=True)
        await alice.send(room, "and on")
        await p.reads(bob, "and on", within_s=60)

        assert [one.text for one in bob.messages(room)][:2] == ["in the backup", "lost on the server"]
