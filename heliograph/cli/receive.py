"""`heliograph receive`: print what has happened since the last time, and with `--follow` what happens from now on.

What is printed has been verified and saved before. Each thing leaves the list of news after it has been printed, so a
process that is killed may print its last line again at the next start, and never loses one.
"""

from typing import Annotated

import typer

from heliograph.cli import device
from heliograph.cli.output import AsJson, Output
from heliograph.cli.telling import names_known, tell
from heliograph.client.client import Client

HELP = "Print what came: messages, posts, members, decisions. With --follow, go on until interrupted."


def receive_command(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what there is to tell."""
    output = Output(as_json=as_json)

    async def act(client: Client) -> None:
        if not follow:
            await device.catch_up(client)
        async for told in client.receive(follow=follow):
            tell(output, told, {} if as_json else names_known(client))

    device.run(context, act, forever=follow)
