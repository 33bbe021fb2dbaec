"""How a command gets at this machine's device: open its store, do one thing, close it again.

Names of people, rooms and channels are looked up here as well, because that needs the open device. A command that
waits for the server gives up after a while; what it had promised by then stands in the outbox, and goes out while any
later command runs.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

import typer

from heliograph.cli import names
from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError
from heliograph.cli.names import NamedRoom
from heliograph.cli.output import note
from heliograph.cli.store_path import device_home
from heliograph.client.client import Client
from heliograph.client.errors import StoreBusy
from heliograph.client.visitor import Visitor
from heliograph.wire.ids import RoomId

Act = Callable[[Client], Coroutine[Any, Any, None]]

PATIENCE_S: Final = 60
SYNC_WITHIN_S: Final = 10
BUSY_WITHIN_S: Final = 5
FLUSH_WITHIN_S: Final = 5


def run(context: typer.Context, act: Act, *, forever: bool = False) -> None:
    """Open this device, do `act` with it, and close it, whatever comes.

    forever: the act goes on until it is interrupted.

    Raises:
        CommandError: the server did not answer in time.
    """
    home, patience_s = home_of(context), None if forever else PATIENCE_S

    async def session() -> None:
        async with await opened(home) as client:
            try:
                async with asyncio.timeout(patience_s):
                    await act(client)
                    # What follows from it (telling a newcomer the room's name) is promised too, and soon done.
                    await client.flush(FLUSH_WITHIN_S)
            except TimeoutError:
                raise CommandError(
                    ExitCode.TRY_AGAIN,
                    f"no answer from the server in {patience_s} s; what was begun goes on with the next command",
                ) from None

    asyncio.run(session())


async def opened(home: Path) -> Client:
    """Open the device of a home; where another command has it open, wait a little for that one to end.

    Raises:
        StoreBusy: it did not end.
    """
    give_up_s = time.monotonic() + BUSY_WITHIN_S
    while True:
        try:
            return await Client.open(home)
        except StoreBusy:
            if time.monotonic() > give_up_s:
                raise
        await asyncio.sleep(0.1)


def home_of(context: typer.Context) -> Path:
    """Return the folder of this device: the root option `--home`, or where a device lives by default."""
    chosen: Path | None = context.obj
    return device_home(chosen)


async def catch_up(client: Client) -> None:
    """Fetch what is new; where the server cannot be reached, say that what follows may be old."""
    if not await client.sync(SYNC_WITHIN_S):
        note("The server cannot be reached: this is how things stood when it last could.")


async def room(client: Client, text: str) -> RoomId:
    """Return the room that a text names, among those that this device is in; raises CommandError."""
    try:
        return names.room(text, _named_rooms(client))
    except CommandError as refusal:
        if refusal.code is not ExitCode.NOT_FOUND:
            raise
    # Perhaps somebody has just brought this device in.
    await catch_up(client)
    return names.room(text, _named_rooms(client))


def _named_rooms(client: Client) -> list[NamedRoom]:
    return [NamedRoom(one.room, one.name, peer_of(client, one.room) if one.direct else "") for one in client.rooms()]


def peer_of(client: Client, room_id: RoomId) -> str:
    """Return the handle of the other side of a direct room, empty where nobody has joined yet."""
    others = [member.handle for member in client.members(room_id) if member.account != client.identity.account]
    return others[0] if others else ""


def person(client: Client, text: str) -> str:
    """Return the handle or account id that a text names, as the client takes it; raises CommandError."""
    return names.account_or_handle(text, client.identity.domain)


def people(client: Client, texts: Sequence[str]) -> list[str]:
    """Return several people as the client takes them; raises CommandError for the first that cannot be one."""
    return [person(client, text) for text in texts]


def channel(text: str) -> str:
    """Return the channel's handle or id, as the client takes it; raises CommandError."""
    return names.channel_or_handle(text)


def post(text: str) -> tuple[str, int]:
    """Return the channel and the number of a post; raises CommandError."""
    named, number = names.channel_and_post(text)
    return channel(named), number


def read(
    context: typer.Context, server: str | None, act: Callable[[Client | Visitor], Coroutine[Any, Any, None]]
) -> None:
    """Do what needs no account: with a server's address as a visitor, else with this device; raises CommandError."""
    if server is None:
        run(context, act)
        return

    async def visit() -> None:
        async with Client.anonymous(server) as visitor, asyncio.timeout(PATIENCE_S):
            await act(visitor)

    try:
        asyncio.run(visit())
    except TimeoutError:
        raise CommandError(ExitCode.TRY_AGAIN, f"no answer from {server} in {PATIENCE_S} s") from None
