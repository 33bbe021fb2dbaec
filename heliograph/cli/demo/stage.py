"""The stage of the demo: its folder, its server, its people, and how they get there."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from heliograph.cli.demo.narrator import Narrator
from heliograph.cli.demo.people import Person
from heliograph.cli.demo.server_process import ServerProcess
from heliograph.client.client import Client

ARRIVALS_AT_ONCE: Final = 4


@dataclass
class Stage:
    """Where the demo plays. People enter by `register` and `second_device`, and leave with the stage."""

    narrator: Narrator
    folder: Path
    followers: int
    server: ServerProcess
    people: dict[str, Person] = field(default_factory=dict[str, Person])
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _listeners: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    def home(self, name: str) -> Path:
        """Return the folder of a device."""
        return self.folder / "devices" / name

    async def register(self, handle: str, invitation: str | None = None) -> Person:
        """Found an account and let its first device enter."""
        client, _ = await Client.register(self.home(handle), self.server.url, handle, invitation=invitation)
        return await self._enter(handle, client)

    async def second_device(self, first: Person, name: str) -> Person:
        """Let a new device of someone's account enter: request, grant, and the new device's own signature."""
        home = self.home(name)
        request = await Client.prepare_device(home, self.server.url, first.client.identity.account)
        return await self._enter(name, await Client.finish_device(home, await first.client.add_device(request)))

    async def _enter(self, name: str, client: Client) -> Person:
        await self._stack.enter_async_context(client)
        person = self.people[name] = Person(name, client)
        self._listeners.append(asyncio.create_task(person.listen(), name=f"listener of {name}"))
        self.narrator.require(await client.sync(), f"{name} is in touch with the server")
        return person

    async def together(self, works: "list[asyncio.Task[None]]") -> None:
        """Wait for works of many; the first failure ends the others."""
        try:
            await asyncio.gather(*works)
        finally:
            for work in works:
                work.cancel()

    def faults(self) -> list[str]:
        """Return everything that any device could not verify."""
        return [fault for person in self.people.values() for fault in person.faults()]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for listener in self._listeners:
            listener.cancel()
        await asyncio.gather(*self._listeners, return_exceptions=True)
        await self._stack.aclose()
        await self.server.stop()
