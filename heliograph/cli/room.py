"""`heliograph room`: private rooms. Names of rooms are sealed like everything that is said in them."""

from pathlib import Path
from typing import Annotated

import typer

from heliograph.cli import device
from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError
from heliograph.cli.output import AsJson, Output
from heliograph.cli.store_path import read_secret
from heliograph.cli.telling import clock_time
from heliograph.client.changes import StoredMessage
from heliograph.client.client import Client

app = typer.Typer(no_args_is_help=True, help="Create rooms, bring people in and out, read.")

MAX_HISTORY = 10_000

RoomArgument = Annotated[
    str, typer.Argument(metavar="ROOM", help="Its name, its id or the start of it, or @HANDLE for a direct room.")
]
PeopleArgument = Annotated[list[str], typer.Argument(metavar="WHO", help="Handles or account ids.")]
ContactFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="A file with the secret that the person's `account invite` printed; - for input."
    ),
]


@app.command("create", help="Create a room, with people or without.")
def create_room(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called; the server does not learn it.")],
    who: Annotated[list[str] | None, typer.Argument(metavar="WHO", help="Handles or account ids.")] = None,
    contact_token_file: ContactFile = None,
    as_json: AsJson = False,
) -> None:
    """Create a group room."""
    people, secret = who or [], _contact(who or [], contact_token_file)

    async def act(client: Client) -> None:
        named = device.people(client, people)
        room = await client.create_room(name, named, contact_tokens=secret)
        members = [member.handle for member in client.members(room)]
        Output(as_json=as_json).tell("room", f"created {room}: {name}", room=room, name=name, members=members)

    device.run(context, act)


@app.command("direct", help="Open the room of two with someone.")
def create_direct_room(
    context: typer.Context,
    who: Annotated[str, typer.Argument(metavar="WHO", help="Handle or account id.")],
    contact_token_file: ContactFile = None,
    as_json: AsJson = False,
) -> None:
    """Create a direct room, or name the one that stands."""
    secret = None if contact_token_file is None else read_secret(contact_token_file)

    async def act(client: Client) -> None:
        room = await client.create_direct_room(device.person(client, who), contact_token=secret)
        Output(as_json=as_json).tell("room", f"you and {who}: {room}", room=room, direct=True)

    device.run(context, act)


@app.command("list", help="List the rooms that this device is in.")
def list_rooms(context: typer.Context, as_json: AsJson = False) -> None:
    """Print the rooms, after fetching what is new."""

    async def act(client: Client) -> None:
        await device.catch_up(client)
        rows = [
            (
                one.room,
                one.name or (f"@{device.peer_of(client, one.room)}" if one.direct else ""),
                "direct" if one.direct else "group",
                one.members,
                one.standing,
                one.topic,
            )
            for one in client.rooms()
        ]
        Output(as_json=as_json).table("room", ("room", "name", "kind", "members", "standing", "topic"), rows)

    device.run(context, act)


@app.command("members", help="List who takes part in a room, and from which devices.")
def list_members(context: typer.Context, room: RoomArgument, as_json: AsJson = False) -> None:
    """Print the members, after fetching what is new."""
    output = Output(as_json=as_json)

    async def act(client: Client) -> None:
        room_id = await device.room(client, room)
        await device.catch_up(client)
        members = client.members(room_id)
        if output.as_json:
            for one in members:
                output.tell(
                    "member", "", account=one.account, handle=one.handle, role=one.role, devices=list(one.devices)
                )
            return
        rows = [(f"@{one.handle}", one.role, len(one.devices), one.account) for one in members]
        output.table("member", ("handle", "role", "devices", "account"), rows)

    device.run(context, act)


@app.command("add", help="Bring people into a room, with all their devices.")
def add_people(
    context: typer.Context,
    room: RoomArgument,
    who: PeopleArgument,
    contact_token_file: ContactFile = None,
    as_json: AsJson = False,
) -> None:
    """Add people; they read what is said from now on."""
    secret = _contact(who, contact_token_file)

    async def act(client: Client) -> None:
        room_id = await device.room(client, room)
        named = device.people(client, who)
        await client.add_people(room_id, named, contact_tokens=secret)
        Output(as_json=as_json).tell("added", f"added {', '.join(named)}", room=room_id, who=named)

    device.run(context, act)


@app.command("remove", help="Take people out of a room, with all their devices.")
def remove_people(context: typer.Context, room: RoomArgument, who: PeopleArgument, as_json: AsJson = False) -> None:
    """Remove people; they read nothing that is said from now on."""

    async def act(client: Client) -> None:
        room_id = await device.room(client, room)
        named = device.people(client, who)
        await client.remove_people(room_id, named)
        Output(as_json=as_json).tell("removed", f"removed {', '.join(named)}", room=room_id, who=named)

    device.run(context, act)


@app.command("leave", help="Leave a room with all devices of the account.")
def leave_room(context: typer.Context, room: RoomArgument, as_json: AsJson = False) -> None:
    """Propose to leave; the next member who is there carries it out."""

    async def act(client: Client) -> None:
        room_id = await device.room(client, room)
        await client.leave_room(room_id)
        Output(as_json=as_json).tell("leaving", "you are out as soon as another member is online", room=room_id)

    device.run(context, act)


@app.command("rename", help="Give a room another name, and a topic if you like.")
def rename_room(
    context: typer.Context,
    room: RoomArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.")],
    topic: Annotated[str, typer.Option(metavar="TEXT", help="What it is about.")] = "",
    as_json: AsJson = False,
) -> None:
    """Rename a room."""

    async def act(client: Client) -> None:
        room_id = await device.room(client, room)
        await client.rename_room(room_id, name, topic)
        Output(as_json=as_json).tell("renamed", f"{room_id} is now called {name}", room=room_id, name=name, topic=topic)

    device.run(context, act)


@app.command("history", help="Print what was said in a room, oldest first.")
def print_history(
    context: typer.Context,
    room: RoomArgument,
    limit: Annotated[int, typer.Option(min=1, max=MAX_HISTORY, help="The newest so many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Print messages from this device's store, after fetching what is new."""
    output = Output(as_json=as_json)

    async def act(client: Client) -> None:
        room_id = await device.room(client, room)
        await device.catch_up(client)
        handles = {member.account: member.handle for member in client.members(room_id)}
        for message in client.messages(room_id, limit):
            _tell_message(output, message, handles.get(message.sender, ""))

    device.run(context, act)


def _tell_message(output: Output, message: StoredMessage, handle: str) -> None:
    acts = {"react": "reacts ", "edit": "(edited) ", "delete": "deleted a message"}
    who = f"@{handle}" if handle else message.sender[:9]
    when = clock_time(message.accepted_at_ms) if message.seq else message.state.ljust(8)
    words = f"{acts.get(message.act, '')}{message.text}".replace("\n", "\n    ")
    output.tell(
        "message",
        f"{message.seq:>5} {when} {who}: {words}",
        room=message.room,
        seq=message.seq,
        message_id=message.message_id,
        sender=message.sender,
        handle=handle,
        device=message.device,
        act=message.act,
        text=message.text,
        state=message.state,
        accepted_at_ms=message.accepted_at_ms,
        in_reply_to=message.in_reply_to,
        replaces=message.replaces,
    )


def _contact(who: list[str], contact_token_file: Path | None) -> dict[str, str]:
    if contact_token_file is None:
        return {}
    if len(who) != 1:
        raise CommandError(ExitCode.USAGE, "--contact-token-file goes with one person: the one who made the secret")
    return {who[0]: read_secret(contact_token_file)}
