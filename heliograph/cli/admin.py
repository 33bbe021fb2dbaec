"""`heliograph admin`: what an operator asks of an installation."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from heliograph.cli import device
from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError
from heliograph.cli.output import AsJson, Output
from heliograph.cli.store_path import read_secret
from heliograph.client.client import Client

app = typer.Typer(no_args_is_help=True, help="Look after a server.")
desk_key = typer.Typer(no_args_is_help=True, help="The key that reports of private messages are sealed to.")
app.add_typer(desk_key, name="desk-key")

ROLES = ("member", "reviewer", "administrator")


@app.command("limits", help="Print every limit, as a file that `serve --limits` takes.")
def print_limits(
    limits: Annotated[Path | None, typer.Option(metavar="FILE", help="A limits file: print what it leads to.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the limits in force."""
    from heliograph.server.limits import LimitsError, load_limits

    try:
        members: dict[str, Any] = msgspec.to_builtins(load_limits(limits))
    except LimitsError as error:
        raise CommandError(ExitCode.USAGE, str(error)) from None
    Output(as_json=as_json).tell("limits", _toml(members), **members)


@app.command("invite", help="Print a single-use invitation, for a reviewer or administrator too.")
def create_invitation(
    context: typer.Context,
    role: Annotated[str, typer.Option(metavar="|".join(ROLES), help="What the newcomer will be.")] = "member",
    days: Annotated[int, typer.Option(min=1, max=30, help="How long it is good.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Print an invitation."""
    if role not in ROLES:
        raise CommandError(ExitCode.USAGE, f"--role {role}: say {', '.join(ROLES)}")

    async def act(client: Client) -> None:
        secret = await client.create_invitation(role, days * 86400)
        Output(as_json=as_json).tell("invitation", secret, invitation=secret, role=role, days=days)

    device.run(context, act)


@app.command("role", help="Give an account a role on this server.")
def set_role(
    context: typer.Context,
    who: Annotated[str, typer.Argument(metavar="WHO", help="Handle or account id.")],
    role: Annotated[str, typer.Argument(metavar="|".join(ROLES))],
    as_json: AsJson = False,
) -> None:
    """Set a role."""
    if role not in ROLES:
        raise CommandError(ExitCode.USAGE, f"{role}: say {', '.join(ROLES)}")

    async def act(client: Client) -> None:
        info = await client.set_role(device.person(client, who), role)
        Output(as_json=as_json).tell(
            "role", f"@{info.handle} is now {info.role}", account=info.account, handle=info.handle, role=info.role
        )

    device.run(context, act)


@desk_key.command("create", help="Make a new desk key, keep it on this device, and publish its public half.")
def create_desk_key(context: typer.Context, as_json: AsJson = False) -> None:
    """Create and publish; earlier reports stay sealed to the earlier key."""

    async def act(client: Client) -> None:
        await client.create_desk_key()
        Output(as_json=as_json).tell("desk-key", "from now on, reports of private messages are sealed to this desk")

    device.run(context, act)


@desk_key.command("export", help="Print the desk key, for another reviewer's device. It opens every private report.")
def export_desk_key(context: typer.Context, as_json: AsJson = False) -> None:
    """Print the private key."""

    async def act(client: Client) -> None:
        secret = client.export_desk_key()
        Output(as_json=as_json).tell("desk-key", secret, desk_key=secret)

    device.run(context, act)


@desk_key.command("import", help="Keep a desk key that another reviewer has exported.")
def import_desk_key(
    context: typer.Context,
    key_file: Annotated[Path, typer.Argument(metavar="KEY_FILE", help="- for standard input.")] = Path("-"),
    as_json: AsJson = False,
) -> None:
    """Keep the private key."""
    secret = read_secret(key_file)

    async def act(client: Client) -> None:
        await client.import_desk_key(secret)
        Output(as_json=as_json).tell("desk-key", "this device can open private reports now")

    device.run(context, act)


def _toml(members: dict[str, Any]) -> str:
    rates: dict[str, dict[str, float]] = members["rates"]
    lines = [f"{name} = {value}" for name, value in members.items() if name != "rates"]
    for name, rate in rates.items():
        lines += ["", f"[rates.{name}]", *(f"{key} = {value!r}" for key, value in rate.items())]
    return "\n".join(lines)
