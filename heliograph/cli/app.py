"""`heliograph`: the commands, and the one place where an exception becomes a sentence and an exit code.

Commands raise; nothing here or in them prints a traceback for what a person can mend. What nobody foresaw does show
its traceback, because hiding it would hide the fault.
"""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import heliograph
from heliograph.cli import (
    account,
    admin,
    case,
    channel,
    decide,
    decision,
    exit_codes,
    receive,
    report,
    room,
    send,
    serve,
    verify,
)
from heliograph.cli.demo import command as demo
from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError
from heliograph.cli.output import complain
from heliograph.client import errors as client_errors
from heliograph.mls.errors import MLSError
from heliograph.wire.problems import Problem

_HELP = f"""Private conversations sealed end to end, public channels in the open, checkable moderation.

\b
Exit codes:
{exit_codes.table()}
"""


@contextmanager
def failures_become_exit_codes() -> Generator[None]:
    """Turn what went wrong into one sentence on standard error and `typer.Exit`."""
    try:
        yield
    except CommandError as error:
        complain(str(error))
        raise typer.Exit(error.code) from None
    except Problem as problem:
        complain(_sentence(problem))
        raise typer.Exit(exit_codes.of_problem(problem)) from None
    except MLSError as error:
        complain(f"a sealed message does not hold: {error}")
        raise typer.Exit(ExitCode.NOT_VERIFIED) from None
    except BrokenPipeError:
        # Python would complain once more when it closes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.PIPE_CLOSED) from None
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except client_errors.ClientError as error:
        complain(str(error))
        raise typer.Exit(exit_codes.of_client_error(error)) from None
    except ConnectionError as error:
        complain(f"the server cannot be reached: {error}")
        raise typer.Exit(ExitCode.TRY_AGAIN) from None


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        with failures_become_exit_codes():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def settings(
    context: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option(metavar="DIR", envvar="HELIOGRAPH_HOME", help="The folder of this device's keys and messages."),
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Keep the options that all commands share."""
    if version:
        print(heliograph.__version__)
        raise typer.Exit(ExitCode.OK)
    context.obj = home


def verify_proof(context: typer.Context) -> None:
    """Hand everything to the command that needs the standard library alone."""
    raise typer.Exit(verify.main(context.args))


app.command("send", help=send.HELP, short_help="Send a message to a room.")(send.send_command)
app.command("receive", help=receive.HELP, short_help="Print what came.")(receive.receive_command)
app.command("decide", help=decide.HELP, short_help="Decide a case, for reviewers.")(decide.decide_command)
app.command(
    "verify",
    help="Check a decision's proof, offline.",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(verify_proof)
app.command("demo", help=demo.HELP, short_help="Play the whole story with real keys and sockets.")(demo.demo_command)
app.command("serve", help=serve.HELP)(serve.serve_command)
app.add_typer(account.app, name="account")
app.add_typer(room.app, name="room")
app.add_typer(channel.app, name="channel")
app.add_typer(report.app, name="report")
app.add_typer(case.app, name="case")
app.add_typer(decision.app, name="decision")
app.add_typer(admin.app, name="admin")


def _sentence(problem: Problem) -> str:
    body = problem.body
    parts = [body.title]
    if body.reason:  # the detail of a restriction says the same again
        parts.append(f"reason: {body.reason}")
    elif body.detail:
        parts.append(body.detail)
    if body.decision:
        parts.append(f"decision {body.decision}")
    if body.retry_after_s is not None:
        parts.append(f"try again in {body.retry_after_s} s")
    return "; ".join(parts)


def main() -> None:
    """Run the command line."""
    app(prog_name="heliograph")


if __name__ == "__main__":
    main()
