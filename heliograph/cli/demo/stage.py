"""The stage of the demo: its folder, its server, its people, and how they get there."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from heliograph.cli.demo.narrator import Narrator
from heliograph.cli.demo.people import FrankClient, Person
from heliograph.cli.demo.server_process import ServerProcess


@dataclass
class Stage:
    """Where the demo plays. People enter by `register` and `second_device`, and leave with the stage."""

    narrator: Narrator
    folder: Path
    followers: int
    server: ServerProcess
    tasks: asyncio.TaskGroup
    doors: AsyncExitStack
    people: dict[str, Person] = field(default_factory=dict[str, Person])

    def home(self, name: str) -> Path:
        """Return the folder of a device."""
        return self.folder / "devices" / name

    async def register(self, handle: str, invitation: str | None = None) -> Person:
        """Found an account and let its first device enter."""
        client, _ = await FrankClient.register(self.home(handle), self.server.url, handle, invitation=invitation)
        return await self._enter(handle, client)

    async def second_device(self, first: Person, name: str) -> Person:
        """Let a new device of someone's account enter: request, grant, and the new device's own signature."""
        home = self.home(name)
        request = await FrankClient.prepare_device(home, self.server.url, first.client.identity.account)
        grant = await first.client.add_device(request)
        return await self._enter(name, await FrankClient.finish_device(home, grant))

    async def _enter(self, name: str, client: FrankClient) -> Person:
        await client.__aenter__()
        person = self.people[name] = Person(name, client, self.tasks)
        self.doors.push_async_callback(self.leave, name)
        self.narrator.require(await client.sync(), f"{name} is in touch with the server")
        return person

    async def leave(self, name: str) -> None:
        """Close a device, if it is still open: another process can have it then."""
        person = self.people.pop(name, None)
        if person is None:
            return
        person.listener.cancel()
        await asyncio.wait((person.listener,))
        await person.client.close()

    def faults(self) -> list[str]:
        """Return everything that any device could not verify."""
        return [fault for person in self.people.values() for fault in person.faults()]


@asynccontextmanager
async def open_stage(narrator: Narrator, folder: Path, followers: int) -> AsyncGenerator[Stage]:
    """Start the server and give the stage; close every device and stop the server at the end."""
    server = await ServerProcess.start(folder)
    try:
        async with asyncio.TaskGroup() as tasks, AsyncExitStack() as doors:
            yield Stage(narrator, folder, followers, server, tasks, doors)
    finally:
        await server.stop()
