"""`heliograph send`: say something in a room, once, and return when the server has taken it."""

from typing import Annotated

import typer

from heliograph.cli import device
from heliograph.cli.output import AsJson, Output
from heliograph.cli.text_input import text_or_input
from heliograph.client.client import Client

HELP = "Send a message to a room; without TEXT, or with -, it comes from standard input."

MAX_MESSAGE_SIZE_BYTES = 32 * 1024


def send_command(
    context: typer.Context,
    room: Annotated[
        str, typer.Argument(metavar="ROOM", help="The room: its name, its id, or @HANDLE for a direct room.")
    ],
    text: Annotated[str | None, typer.Argument(metavar="TEXT|-", help="What to say; - is standard input.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send one message."""
    words = text_or_input(text, "message", MAX_MESSAGE_SIZE_BYTES)

    async def act(client: Client) -> None:
        # A device that was away seals for the people who are there now, not for those who were there then.
        await device.catch_up(client)
        room_id = await device.room(client, room)
        sent = await client.send(room_id, words)
        Output(as_json=as_json).tell(
            "sent",
            f"sent as entry {sent.seq}",
            room=room_id,
            seq=sent.seq,
            message_id=sent.message_id,
            accepted_at_ms=sent.accepted_at_ms,
        )

    device.run(context, act)
