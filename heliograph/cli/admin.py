"""`heliograph admin`: what an operator asks of an installation."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError
from heliograph.cli.output import AsJson, Output

app = typer.Typer(no_args_is_help=True, help="Look after a server.")


@app.command("limits", help="Print every limit, as a file that `serve --limits` takes.")
def print_limits(
    limits: Annotated[Path | None, typer.Option(help="A limits file: print what it leads to.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the limits in force."""
    from heliograph.server.limits import LimitsError, load_limits

    try:
        members: dict[str, Any] = msgspec.to_builtins(load_limits(limits))
    except LimitsError as error:
        raise CommandError(ExitCode.USAGE, str(error)) from None
    Output(as_json=as_json).tell("limits", _toml(members), **members)


def _toml(members: dict[str, Any]) -> str:
    rates: dict[str, dict[str, float]] = members["rates"]
    lines = [f"{name} = {value}" for name, value in members.items() if name != "rates"]
    for name, rate in rates.items():
        lines += ["", f"[rates.{name}]", *(f"{key} = {value!r}" for key, value in rate.items())]
    return "\n".join(lines)
