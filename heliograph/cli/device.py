"""How a command gets at this machine's device: open its store, do one thing, close it again.

Names of people, rooms and channels are looked up here as well, because that needs the open device.
"""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import typer

from heliograph.cli import names
from heliograph.cli.names import NamedRoom
from heliograph.cli.store_path import device_home
from heliograph.client.client import Client
from heliograph.wire.ids import AccountId, ChannelId, RoomId

Act = Callable[[Client], Coroutine[Any, Any, None]]


def run(context: typer.Context, act: Act) -> None:
    """Open this device, do `act` with it, and close it, whatever comes."""
    home = home_of(context)

    async def session() -> None:
        async with Client.open(home) as client:
            await act(client)

    asyncio.run(session())


def home_of(context: typer.Context) -> Path:
    """Return the folder of this device: the root option `--home`, or where a device lives by default."""
    chosen: Path | None = context.obj
    return device_home(chosen)
