"""`heliograph case`: what reviewers work on.

A report of private messages is opened here, on the reviewer's device, with the desk's key. Each disclosed message is
printed behind its verdict: PROVEN, UNPROVEN or FORGED. Words whose origin nobody can prove are printed too, because a
reviewer must judge; they never look like proven ones.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer

from heliograph.cli import device, names
from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError
from heliograph.cli.output import AsJson, Output
from heliograph.client.client import Client
from heliograph.client.decisions import JudgedItem, JudgedReport
from heliograph.client.reading import read_content
from heliograph.mls.errors import MLSError
from heliograph.wire.ids import parse_user_uri
from heliograph.wire.moderation import CaseReport, CaseView

app = typer.Typer(no_args_is_help=True, help="Work on reports, for reviewers.")

CaseArgument = Annotated[str, typer.Argument(metavar="CASE", help="The case's id.", callback=names.case)]
ReportOption = Annotated[str | None, typer.Option("--report", help="Which report, where a case has several.")]
STATES = ("open", "decided", "all")


@app.command("list", help="List cases, oldest first.")
def list_cases(
    context: typer.Context,
    state: Annotated[str, typer.Option(metavar="|".join(STATES), help="Which cases.")] = "open",
    after: Annotated[str, typer.Option(metavar="CASE", help="Go on behind this one.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Print the queue."""
    if state not in STATES:
        raise CommandError(ExitCode.USAGE, f"--state {state}: say {', '.join(STATES)}")

    async def act(client: Client) -> None:
        rows = [
            (one.case, one.state, one.reports, one.category, one.subject.kind, one.subject.ref)
            for one in await client.cases(state, limit=limit, after=after)
        ]
        columns = ("case", "state", "reports", "category", "kind", "subject")
        Output(as_json=as_json).table("case", columns, rows)

    device.run(context, act)


@app.command("show", help="Show a case: its subject, reports, evidence, decisions, and what happened to it.")
def show_case(context: typer.Context, case: CaseArgument, as_json: AsJson = False) -> None:
    """Print one case."""

    async def act(client: Client) -> None:
        view = await client.case(case)
        members: dict[str, Any] = msgspec.to_builtins(view, builtin_types=(bytes,))
        Output(as_json=as_json).tell("case", case_text(view), **members)

    device.run(context, act)


@app.command("open", help="Open a sealed report, and judge every message that it discloses.")
def open_report(
    context: typer.Context, case: CaseArgument, report: ReportOption = None, as_json: AsJson = False
) -> None:
    """Print the report and the verdict on each item."""
    output = Output(as_json=as_json)

    async def act(client: Client) -> None:
        view = await client.case(case)
        chosen = sealed_report(view, report)
        judged = await client.open_report(view, chosen)
        output.tell(
            "report",
            f"{chosen.report}: {judged.category} {judged.keyword}\n{judged.note}".strip(),
            report=chosen.report,
            room=judged.room,
            accused=judged.accused,
            reporter=judged.reporter,
            category=judged.category,
            keyword=judged.keyword,
            note=judged.note,
            against_accused=judged.against_accused,
        )
        for number in range(len(judged.items)):
            _tell_item(output, judged, number)

    device.run(context, act)


@app.command("attach", help="Attach a disclosed message to its case; the server verifies it again.")
def attach_evidence(
    context: typer.Context,
    case: CaseArgument,
    item: Annotated[int, typer.Argument(metavar="ITEM", min=1, help="Its number in `heliograph case open`.")],
    report: ReportOption = None,
    as_json: AsJson = False,
) -> None:
    """Attach one item."""

    async def act(client: Client) -> None:
        view = await client.case(case)
        judged = await client.open_report(view, sealed_report(view, report))
        if item > len(judged.items):
            raise CommandError(ExitCode.NOT_FOUND, f"{item}: the report discloses {len(judged.items)} messages")
        evidence = await client.attach_evidence(case, judged.items[item - 1])
        members: dict[str, Any] = msgspec.to_builtins(evidence, builtin_types=(bytes,))
        Output(as_json=as_json).tell("evidence", f"attached: {evidence.verdict.upper()} {evidence.sender}", **members)

    device.run(context, act)


def sealed_report(view: CaseView, named: str | None) -> CaseReport:
    """Return the sealed report that is meant: the named one, or the only one.

    Raises:
        CommandError: there is none, or several and no name.
    """
    sealed = [one for one in view.reports if one.sealed is not None and named in (None, one.report)]
    if not sealed:
        raise CommandError(ExitCode.NOT_FOUND, "the case has no such sealed report")
    if len(sealed) > 1:
        ids = ", ".join(one.report for one in sealed)
        raise CommandError(ExitCode.USAGE, f"the case has {len(sealed)} sealed reports; name one with --report: {ids}")
    return sealed[0]


def words_of(item: JudgedItem) -> str:
    """Return what a disclosed message says, empty where it cannot be read."""
    if item.check.content is None:
        return ""
    try:
        return read_content(item.check.content).text
    except MLSError:
        return ""


def sender_of(item: JudgedItem) -> str | None:
    """Return the account that a disclosed message names as its sender."""
    try:
        return None if item.check.content is None else parse_user_uri(item.check.content.sender_uri)[1]
    except (MLSError, ValueError):
        return None


def case_text(view: CaseView) -> str:
    """Return a case as lines for people."""
    lines = [f"{view.case} {view.state}: {view.subject.kind} {view.subject.ref}", f"opened {_when(view.opened_at_ms)}"]
    for one in view.reports:
        who = one.reporter or "without an account"
        lines.append(f"report {one.report} {_when(one.received_at_ms)} {one.category} by {who}")
        lines.append(f"    {'sealed; see `heliograph case open`' if one.sealed is not None else one.explanation}")
    if len(view.reports) < view.reports_in_all:
        lines.append(f"    and {view.reports_in_all - len(view.reports)} more reports")
    lines += [f"evidence {one.verdict.upper()} {one.sender}, entry {one.room_seq}" for one in view.evidence]
    lines += [f"decision {one}" for one in view.decisions]
    lines += [f"{_when(one.at_ms)} {one.actor[:9] or 'server'} {one.act} {one.detail}".rstrip() for one in view.events]
    return "\n".join(lines)


def _tell_item(output: Output, judged: JudgedReport, number: int) -> None:
    item = judged.items[number]
    check, words, sender = item.check, words_of(item), sender_of(item)
    gap = judged.not_shown[number]
    before = f"      ... {gap} entries are not shown ...\n" if gap and number else ""
    said = words.replace("\n", "\n      ")
    output.tell(
        "item",
        f"{before}{number + 1:>3} {check.verdict.upper():8} {(sender or 'unknown')[:9]}: {said}\n      {check.reason}",
        item=number + 1,
        verdict=check.verdict.value,
        reason=check.reason,
        sender=sender,
        text=words,
        room_seq=check.envelope.room_seq,
        accepted_at_ms=check.envelope.accepted_at_ms,
        not_shown_before=gap,
        sha256=check.item_sha256,
    )


def _when(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
