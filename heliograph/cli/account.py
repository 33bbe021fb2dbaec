"""`heliograph account`: found an account, add and remove its devices, let people write to it.

Adding a device takes three commands on two machines; what travels between them is text, by file, cable or pipe:

    new device   heliograph account prepare-device alice --server URL > request
    old device   heliograph account add-device request > grant
    new device   heliograph account finish-device grant

The request holds no secret. The grant is sealed to the new device.
"""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from heliograph.cli import device, names
from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError
from heliograph.cli.output import AsJson, Output, note
from heliograph.cli.store_path import read_secret
from heliograph.cli.text_input import read_text_file
from heliograph.client.client import Client
from heliograph.wire.account_state import DeviceRole
from heliograph.wire.ids import DeviceId

app = typer.Typer(no_args_is_help=True, help="Found an account, add devices, choose who may write.")

ServerOption = Annotated[
    str, typer.Option(envvar="HELIOGRAPH_SERVER", metavar="URL", help="The server, such as https://example.org.")
]
LOCAL_SERVER = "http://127.0.0.1:8470"


@app.command("create", help="Found an account; its recovery code is shown once.")
def create_account(
    context: typer.Context,
    handle: Annotated[
        str, typer.Argument(metavar="HANDLE", help="How others find you: 3 to 32 of a-z, 0-9 and single _.")
    ],
    server: ServerOption = LOCAL_SERVER,
    invitation_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file that holds the invitation; - for standard input.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register, and show the recovery code."""
    home, chosen = device.home_of(context), names.handle(handle)
    invitation = None if invitation_file is None else read_secret(invitation_file)

    async def register() -> tuple[Client, str]:
        client, recovery_code = await Client.register(home, server, chosen, invitation=invitation)
        async with client:
            # Publishes key packages, so that others can write at once.
            await client.sync(device.SYNC_WITHIN_S)
        return client, recovery_code

    client, recovery_code = asyncio.run(register())
    identity = client.identity
    lines = (
        f"You are @{identity.handle} at {identity.domain}, account {identity.account}.",
        f"Recovery code: {recovery_code}",
        "Write the code down and keep it apart from this machine. It is shown once, and whoever holds it holds you.",
    )
    Output(as_json=as_json).tell(
        "account",
        "\n".join(lines),
        handle=identity.handle,
        account=identity.account,
        device=identity.device,
        domain=identity.domain,
        recovery_code=recovery_code,
    )


@app.command("recover", help="Bring an account back with its recovery code; all its other devices are put out.")
def recover_account(
    context: typer.Context,
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account to bring back: handle or id.")],
    code_file: Annotated[
        Path, typer.Option(metavar="FILE", help="A file that holds the recovery code; - for standard input.")
    ],
    server: ServerOption = LOCAL_SERVER,
    as_json: AsJson = False,
) -> None:
    """Make this device the account's first and only one; it joins the account's rooms by itself."""
    home, code = device.home_of(context), read_secret(code_file)

    async def recover() -> Client:
        client = await Client.recover(home, server, account.removeprefix("@"), code)
        async with client:
            await client.sync(device.SYNC_WITHIN_S)
        return client

    identity = asyncio.run(recover()).identity
    Output(as_json=as_json).tell(
        "account",
        f"You are @{identity.handle} again. Every other device of the account is out; the recovery code stays valid.",
        handle=identity.handle,
        account=identity.account,
        device=identity.device,
        domain=identity.domain,
    )


@app.command("show", help="Show who this device is.")
def show_account(context: typer.Context, as_json: AsJson = False) -> None:
    """Print this device's identity; needs no server."""

    async def show() -> None:
        client = await device.opened(device.home_of(context))
        identity = client.identity
        await client.close()
        Output(as_json=as_json).tell(
            "account",
            f"@{identity.handle} at {identity.domain}\naccount {identity.account}\ndevice  {identity.device}",
            handle=identity.handle,
            account=identity.account,
            device=identity.device,
            domain=identity.domain,
        )

    asyncio.run(show())


@app.command("prepare-device", help="On a new device: make its keys, and print the request for an older device.")
def prepare_device(
    context: typer.Context,
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Whose device it shall be: handle or account id.")],
    server: ServerOption = LOCAL_SERVER,
    as_json: AsJson = False,
) -> None:
    """Print the request; it holds no secret."""
    home = device.home_of(context)
    if account.startswith("mimi://"):
        raise CommandError(ExitCode.USAGE, f"{account}: give the handle or the account id")
    whose = names.account_or_handle(account, "")
    request = asyncio.run(Client.prepare_device(home, server, whose))
    Output(as_json=as_json).tell("device-request", request, request=request)
    note("Take this line to a device of the account: heliograph account add-device FILE")


@app.command("add-device", help="On a device of the account: sign a new device's request, and print the grant.")
def add_device(
    context: typer.Context,
    request_file: Annotated[Path, typer.Argument(metavar="REQUEST_FILE", help="- for standard input.")] = Path("-"),
    limited: Annotated[
        bool, typer.Option("--limited", help="The new device shall not be able to add or remove devices.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the grant, which is sealed to the new device."""
    request = read_text_file(request_file, "device request").strip()
    role = DeviceRole.LIMITED if limited else DeviceRole.FULL

    async def act(client: Client) -> None:
        grant = await client.add_device(request, role)
        Output(as_json=as_json).tell("device-grant", grant, grant=grant)
        note("Take this line back to the new device: heliograph account finish-device FILE")

    device.run(context, act)


@app.command("finish-device", help="On the new device: accept the grant and join the account's rooms.")
def finish_device(
    context: typer.Context,
    grant_file: Annotated[Path, typer.Argument(metavar="GRANT_FILE", help="- for standard input.")] = Path("-"),
    as_json: AsJson = False,
) -> None:
    """Accept the grant, and wait until the rooms are joined."""
    home, grant = device.home_of(context), read_text_file(grant_file, "grant").strip()

    async def finish() -> None:
        async with await Client.finish_device(home, grant) as client:
            await client.sync(device.SYNC_WITHIN_S)
            await client.flush(device.SYNC_WITHIN_S)
            identity, rooms = client.identity, client.rooms()
        Output(as_json=as_json).tell(
            "device",
            f"This is now a device of @{identity.handle}, in {len(rooms)} rooms: {identity.device}",
            handle=identity.handle,
            account=identity.account,
            device=identity.device,
            rooms=[one.room for one in rooms],
        )

    asyncio.run(finish())


@app.command("devices", help="List the account's devices.")
def list_devices(context: typer.Context, as_json: AsJson = False) -> None:
    """Print the device list, after fetching what is new."""

    async def act(client: Client) -> None:
        await device.catch_up(client)
        rows = [
            (entry.device, entry.role.name.lower(), "yes" if entry.device == client.identity.device else "no")
            for entry in client.devices()
        ]
        Output(as_json=as_json).table("device", ("device", "role", "this_one"), rows)

    device.run(context, act)


@app.command("remove-device", help="Put a device out of the account and out of every room.")
def remove_device(
    context: typer.Context,
    device_id: Annotated[str, typer.Argument(metavar="DEVICE", help="Its id; see `heliograph account devices`.")],
    as_json: AsJson = False,
) -> None:
    """Sign the state without the device, and take its leaves out."""

    async def act(client: Client) -> None:
        await client.remove_device(DeviceId(device_id))
        Output(as_json=as_json).tell("device-removed", f"removed {device_id}", device=device_id)

    device.run(context, act)


@app.command("allow", help="Let people start conversations with you.")
def allow_people(
    context: typer.Context,
    who: Annotated[list[str], typer.Argument(metavar="WHO", help="Handles or account ids.")],
    take_back: Annotated[bool, typer.Option("--take-back", help="Allow them no longer.")] = False,
    as_json: AsJson = False,
) -> None:
    """Grant consent, or withdraw it."""
    output = Output(as_json=as_json)

    async def act(client: Client) -> None:
        for one in device.people(client, who):
            if take_back:
                await client.withdraw_consent(one)
            else:
                await client.grant_consent(one)
            verb = "may no longer" if take_back else "may now"
            output.tell("consent", f"{one} {verb} start conversations with you", who=one, allowed=not take_back)

    device.run(context, act)


@app.command("invite", help="Print a secret for people whom you want to hear from: with it they can write to you.")
def create_contact_token(
    context: typer.Context,
    days: Annotated[int, typer.Option(min=1, max=90, help="How long it is good.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Print a contact token."""

    async def act(client: Client) -> None:
        secret = await client.create_contact_token(days * 86400)
        Output(as_json=as_json).tell("contact-token", secret, contact_token=secret, days=days)

    device.run(context, act)


@app.command("invitation", help="Print an invitation with which one newcomer can found an account here.")
def create_invitation(
    context: typer.Context,
    days: Annotated[int, typer.Option(min=1, max=30, help="How long it is good.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Print a single-use invitation."""

    async def act(client: Client) -> None:
        secret = await client.create_invitation("member", days * 86400)
        Output(as_json=as_json).tell("invitation", secret, invitation=secret, role="member", days=days)

    device.run(context, act)


@app.command("log-out", help="End this device's session; the next command opens a new one.")
def log_out(context: typer.Context, as_json: AsJson = False) -> None:
    """End the session on the server."""

    async def act(client: Client) -> None:
        await client.log_out()
        Output(as_json=as_json).tell("logged-out", "the session has ended")

    device.run(context, act)
