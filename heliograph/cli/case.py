"""`heliograph case`: what reviewers work on, and the proofs of what they decided.

A report of private messages is opened here, on the reviewer's device, with the desk's key. Each disclosed message gets
its verdict before anything else is shown: PROVEN, UNPROVEN or FORGED. Words whose origin nobody can prove are shown
too, because a reviewer must judge; but they never look like proven ones.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from heliograph.cli import device
from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError
from heliograph.cli.output import AsJson, Output, note
from heliograph.client.client import Client
from heliograph.wire.ids import CaseId, DecisionId, ReportId
from heliograph.wire.moderation import CaseView

app = typer.Typer(no_args_is_help=True, help="Work on reports, for reviewers; and fetch the proof of a decision.")

CaseArgument = Annotated[str, typer.Argument(metavar="CASE", help="The case's id.")]
STATES = ("open", "decided", "all")


@app.command("list", help="List cases, oldest first.")
def list_cases(
    context: typer.Context,
    state: Annotated[str, typer.Option(metavar="|".join(STATES), help="Which cases.")] = "open",
    as_json: AsJson = False,
) -> None:
    """Print the queue."""
    if state not in STATES:
        raise CommandError(ExitCode.USAGE, f"--state {state}: say {', '.join(STATES)}")
    output = Output(as_json=as_json)

    async def act(client: Client) -> None:
        cases = await client.cases(state)
        columns = ("case", "state", "reports", "category", "kind", "subject", "opened_at_ms")
        output.table(
            "case",
            columns,
            [
                (one.case, one.state, one.reports, one.category, one.subject.kind, one.subject.ref, one.opened_at_ms)
                for one in cases
            ],
        )

    device.run(context, act)


@app.command("show", help="Show a case: subject, reports, evidence, decisions, and what happened to it.")
def show_case(context: typer.Context, case: CaseArgument, as_json: AsJson = False) -> None:
    """Print one case."""
    output = Output(as_json=as_json)

    async def act(client: Client) -> None:
        view = await client.case(CaseId(case))
        members: dict[str, Any] = {name: getattr(view, name) for name in view.__struct_fields__}
        output.tell("case", case_text(view), **device.plain(members))

    device.run(context, act)


@app.command("open", help="Open a sealed report of a case and judge what it discloses.")
def open_report(
    context: typer.Context,
    case: CaseArgument,
    report: Annotated[str | None, typer.Option(help="Which report, where a case has several.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the verdict on each disclosed message."""
    output = Output(as_json=as_json)

    async def act(client: Client) -> None:
        view = await client.case(CaseId(case))
        chosen = sealed_report(view, report)
        opened = await client.open_report(view, chosen)
        for item in opened.items:
            output.tell("item", device.item_text(item), **device.item_members(item))

    device.run(context, act)
