"""Nothing private reaches the server: what people said and what they called their room is in none of its files."""

import base64
from contextlib import AsyncExitStack
from pathlib import Path

from heliograph.client.client import Client
from tests.faults.server_process import ServerProcess, generous_limits_file, serving

MESSAGES = 100
PRIVATE = "canary-of-the-lighthouse-keeper"
ROOM_NAME = "canary-in-the-name-of-a-room"
PUBLIC = "canary-that-everyone-may-hear"


def in_any_form(text: str) -> list[bytes]:
    """Return what to look for: the text as it is, and as the usual encodings would show its middle."""
    data = text.encode()
    in_base64 = [base64.b64encode(bytes(shift) + data)[4:-4] for shift in range(3)]
    return [data, text.encode("utf-16-le"), data.hex().encode(), data.hex().upper().encode(), *in_base64]


def files_with(server: ServerProcess, text: str) -> set[str]:
    """Return the names of the server's files that hold a text in any form."""
    files = [server.log, *(path for path in server.data.rglob("*") if path.is_file())]
    return {path.name for path in files if any(form in path.read_bytes() for form in in_any_form(text))}


async def new_client(stack: AsyncExitStack, folder: Path, url: str, handle: str) -> Client:
    client, _ = await Client.register(folder / handle, url, handle)
    started = await stack.enter_async_context(client)
    assert await started.sync()
    return started


async def test_what_people_say_and_their_rooms_name_are_in_no_file_of_the_server(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, limits_file=generous_limits_file(tmp_path))
    async with serving(server), AsyncExitStack() as stack:
        alice, bob = [await new_client(stack, tmp_path, server.url, handle) for handle in ("alice", "bob")]
        await bob.grant_consent("alice")
        await alice.create_channel("harbour_news", "Harbour news")
        await alice.post("harbour_news", PUBLIC)
        room = await alice.create_room(ROOM_NAME, ["bob"])
        for number in range(MESSAGES):
            await alice.send(room, f"{PRIVATE} {number}")
        assert await bob.sync()
        read = [message.text for message in bob.messages(room, MESSAGES + 1)]
        assert read == [f"{PRIVATE} {number}" for number in range(MESSAGES)]
        assert [known.name for known in bob.rooms()] == [ROOM_NAME]

        while_it_runs = files_with(server, PRIVATE) | files_with(server, ROOM_NAME)
        assert files_with(server, PUBLIC) > set()  # so the search does see what is there
        await server.stop()
        after_its_end = files_with(server, PRIVATE) | files_with(server, ROOM_NAME)
        assert files_with(server, PUBLIC) == {"heliograph.db"}

    assert while_it_runs == after_its_end == set()
