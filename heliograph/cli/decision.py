"""`heliograph decision`: what was decided, why, and the proof that it stands in the public log."""

from typing import Annotated, Any

import msgspec
import typer

from heliograph.cli import device, names
from heliograph.cli.output import AsJson, Output
from heliograph.client.client import Client
from heliograph.client.visitor import Visitor

app = typer.Typer(no_args_is_help=True, help="Read decisions, their reasons, and their proofs.")

DecisionArgument = Annotated[
    str, typer.Argument(metavar="DECISION", help="The decision's id.", callback=names.decision)
]


@app.command("show", help="Show what anyone may know of a decision.")
def show_decision(
    context: typer.Context,
    decision: DecisionArgument,
    server: Annotated[str | None, typer.Option(metavar="URL", help="Ask there, without an account.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the public part."""

    async def act(client: Client | Visitor) -> None:
        told = await client.decision(decision)
        measures = ", ".join(one.kind for one in told.measures) or "no measure"
        members: dict[str, Any] = msgspec.to_builtins(told)
        place = f"{told.subject.kind} {told.subject.ref}".rstrip()
        text = f"{told.decision}: {measures} about {place}\n{told.reason}\nentry {told.leaf_index} of the log"
        Output(as_json=as_json).tell("decision", text, **members)

    device.read(context, server, act)


@app.command("statement", help="Show the statement of reasons of a decision that affects you.")
def show_statement(context: typer.Context, decision: DecisionArgument, as_json: AsJson = False) -> None:
    """Print the statement, with the way to object."""

    async def act(client: Client) -> None:
        told = await client.statement(decision)
        measures = ", ".join(one.kind for one in told.measures) or "no measure"
        members: dict[str, Any] = msgspec.to_builtins(told, builtin_types=(bytes,))
        text = (
            f"{told.decision}: {measures} about {told.subject.kind} {told.subject.ref}\n"
            f"reason  {told.reason}\nfacts   {told.facts}\n"
            f"ground  {told.ground}: {told.ground_reference}\nobject  {told.redress}"
        )
        Output(as_json=as_json).tell("statement", text, **members)

    device.run(context, act)


@app.command("proof", help="Print the proof of a decision, for `heliograph verify`. Keep it: nobody else has to.")
def print_proof(context: typer.Context, decision: DecisionArgument) -> None:
    """Print the bundle as it is, so that `> proof.json` keeps it."""

    async def act(client: Client) -> None:
        print(await client.decision_proof(decision))

    device.run(context, act)
