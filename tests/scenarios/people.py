"""People with devices, for stories: each device is a real client with a store of its own."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from heliograph.client.client import Client
from heliograph.client.device import World as Surroundings
from heliograph.client.told import AnyTold, RoomMessage
from tests.world import World, world

T = TypeVar("T", bound=AnyTold)


def pass_by(step: str) -> None:
    """Take every step."""
    del step


class People:
    """The devices of a story, by name, and the server between them."""

    def __init__(self, server: World, tmp_path: Path, stack: AsyncExitStack) -> None:
        self.server = server
        self._path = tmp_path
        self._stack = stack
        self._told: dict[Client, Any] = {}

    def surroundings(self, reach: Callable[[str], None] = pass_by) -> Surroundings:
        """Return the server's clock, and randomness."""
        return Surroundings(self.server.clock, self.server.random, reach)

    def home(self, name: str) -> Path:
        """Return where a device lives."""
        return self._path / "homes" / name

    async def register(self, handle: str, *, invitation: str | None = None) -> Client:
        """Register someone and start their device."""
        client, _ = await Client.register(
            self.home(handle), self.server.url, handle, invitation=invitation, world=self.surroundings()
        )
        return await self.start(client)

    async def start(self, client: Client) -> Client:
        """Start a device; it ends with the story at the latest."""
        await client.__aenter__()
        self._stack.push_async_callback(_close, client)
        assert await client.sync(10)
        return client

    async def reopen(self, name: str, reach: Callable[[str], None] = pass_by) -> Client:
        """Open a device that was closed or killed."""
        return await self.start(await Client.open(self.home(name), world=self.surroundings(reach)))

    async def stop(self, client: Client) -> None:
        """Stop a device in order."""
        self._told.pop(client, None)
        await client.close()

    async def second_device(self, client: Client, name: str) -> Client:
        """Add a device to an account and start it."""
        request = await Client.prepare_device(
            self.home(name), self.server.url, client.identity.handle, world=self.surroundings()
        )
        grant = await client.add_device(request)
        return await self.start(await Client.finish_device(self.home(name), grant, world=self.surroundings()))

    async def acquainted(self, *clients: Client) -> None:
        """Let everyone start conversations with everyone."""
        for one in clients:
            for other in clients:
                if one is not other:
                    await one.grant_consent(other.identity.handle)

    async def hears(self, client: Client, kind: type[T], within_s: float = 10, **members: object) -> T:
        """Return the next told thing of a kind with these members, passing over others."""
        if client not in self._told:
            self._told[client] = client.receive()
        async with asyncio.timeout(within_s):
            while True:
                told = await anext(self._told[client])
                if isinstance(told, kind) and all(getattr(told, name) == value for name, value in members.items()):
                    return told

    async def reads(self, client: Client, text: str, within_s: float = 10) -> RoomMessage:
        """Return the next message with this text."""
        return await self.hears(client, RoomMessage, within_s, text=text)


async def _close(client: Client) -> None:
    if client._loops is not None:
        await client.close()


@asynccontextmanager
async def people(tmp_path: Path, **options: Any) -> AsyncGenerator[People]:
    """Run a server for a story, and end every device with it."""
    async with world(tmp_path, **options) as server, AsyncExitStack() as stack:
        yield People(server, tmp_path, stack)
