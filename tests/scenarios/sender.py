"""A device that sends numbers to a room, on from the last that stands in its store: `sender HOME ROOM COUNT`."""

import asyncio
import secrets
import sys
from pathlib import Path

from heliograph.client.client import Client
from heliograph.client.device import World
from heliograph.wire.ids import RoomId
from tests.scenarios.people import pass_by
from tests.world import START_MS


async def run(home: Path, room: RoomId, count: int) -> None:
    """Send what is missing, and wait until all is accepted."""
    async with await Client.open(home, world=World(lambda: START_MS, secrets.token_bytes, pass_by)) as client:
        for number in range(len(client.messages(room, 1000)), count):
            await client.send(room, str(number), wait=number % 3 == 0)
            print(number, flush=True)
        assert await client.flush(30)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), RoomId(sys.argv[2]), int(sys.argv[3])))
