"""`heliograph report`: complain about a post, a channel, or messages of a private room, and ask what became of it.

A report of private messages is sealed to the desk: it discloses the chosen messages, and a few before them, with the
proof of who sent them. Everything else in the room stays unread. Reports of public things need no account.
"""

import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from heliograph.cli import device
from heliograph.cli.decide import category_name, keyword_name
from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError
from heliograph.cli.output import AsJson, Output
from heliograph.cli.text_input import read_text_file, text_or_input
from heliograph.client.client import Client
from heliograph.client.visitor import Visitor
from heliograph.wire.ids import REPORT_PATTERN, ReportId, RoomId
from heliograph.wire.moderation import ReportReceipt

app = typer.Typer(no_args_is_help=True, help="Report something, and ask what became of it.")

MAX_EXPLANATION_SIZE_BYTES = 20_000

Category = Annotated[str, typer.Option(metavar="NAME", help="A category of the DSA lists, such as scams-and-fraud.")]
KeywordOption = Annotated[str | None, typer.Option(metavar="NAME", help="A keyword of the category, such as phishing.")]
Explanation = Annotated[
    str | None, typer.Argument(metavar="EXPLANATION|-", help="Why it should go; - is standard input.")
]
Language = Annotated[str, typer.Option(metavar="TAG", help="The language of the explanation.")]
WithoutAccount = Annotated[str | None, typer.Option("--server", metavar="URL", help="Report without an account.")]
GoodFaith = Annotated[
    bool, typer.Option("--good-faith", help="State that you believe in good faith that this report is right.")
]


@app.command("post", help="Report a post.")
def report_post(
    context: typer.Context,
    post: Annotated[str, typer.Argument(metavar="CHANNEL/NUMBER", help="The post, such as bridge_news/12.")],
    category: Category,
    explanation: Explanation = None,
    good_faith: GoodFaith = False,
    keyword: KeywordOption = None,
    language: Language = "en",
    server: WithoutAccount = None,
    as_json: AsJson = False,
) -> None:
    """Report one post."""
    channel, number = device.post(post)
    _report_public(context, channel, number, category, explanation, good_faith, keyword, language, server, as_json)


@app.command("channel", help="Report a channel as a whole.")
def report_channel(
    context: typer.Context,
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="Its handle or its id.")],
    category: Category,
    explanation: Explanation = None,
    good_faith: GoodFaith = False,
    keyword: KeywordOption = None,
    language: Language = "en",
    server: WithoutAccount = None,
    as_json: AsJson = False,
) -> None:
    """Report a channel."""
    named = device.channel(channel)
    _report_public(context, named, None, category, explanation, good_faith, keyword, language, server, as_json)


@app.command("messages", help="Report messages of a private room; they are sealed to the desk, with proof.")
def report_messages(
    context: typer.Context,
    room: Annotated[str, typer.Argument(metavar="ROOM", help="Its name or id.")],
    number: Annotated[list[int], typer.Argument(metavar="NUMBER", help="As `heliograph room history` prints them.")],
    category: Category,
    note: Annotated[str, typer.Option(metavar="TEXT", help="A word to the desk; - is standard input.")] = "",
    preceding: Annotated[int, typer.Option(min=0, max=20, help="So many messages before each go along.")] = 5,
    keyword: KeywordOption = None,
    language: Language = "en",
    as_json: AsJson = False,
) -> None:
    """Disclose chosen messages to the desk."""
    long_category = category_name(category)
    long_keyword = "" if keyword is None else keyword_name(keyword)
    said = text_or_input("-", "note", MAX_EXPLANATION_SIZE_BYTES) if note == "-" else note

    async def act(client: Client) -> None:
        room_id = await device.room(client, room)
        chosen = [message_of(client, room_id, one) for one in number]
        receipt = await client.report_messages(
            room_id,
            chosen,
            long_category,
            said,
            keyword=long_keyword,
            language=language,
            preceding=preceding,
        )
        _tell_receipt(as_json, receipt)

    device.run(context, act)


@app.command("status", help="Ask what became of a report.")
def report_status(
    context: typer.Context,
    receipt_file: Annotated[
        Path, typer.Argument(metavar="RECEIPT_FILE", help="What the report printed; - is standard input.")
    ] = Path("-"),
    server: WithoutAccount = None,
    as_json: AsJson = False,
) -> None:
    """Print the state of a report, and its outcome once there is one."""
    receipt = read_receipt(read_text_file(receipt_file, "receipt"))

    async def act(client: Client | Visitor) -> None:
        status = await client.report_status(receipt)
        decision = f" (decision {status.decision})" if status.decision else ""
        Output(as_json=as_json).tell(
            "report-status",
            f"{status.state}{f': {status.outcome}' if status.outcome else ''}{decision}",
            report=status.report,
            state=status.state,
            outcome=status.outcome,
            decision=status.decision,
        )

    device.read(context, server, act)


def message_of(client: Client, room: RoomId, number: int) -> bytes:
    """Return the id of the message that is entry `number` of a room.

    Raises:
        CommandError: this device has no such message.
    """
    found = client.messages(room, 1, before_seq=number + 1)
    if not found or found[-1].seq != number:
        raise CommandError(ExitCode.NOT_FOUND, f"{number}: this device has no message under this number")
    return found[-1].message_id


def read_receipt(text: str) -> ReportReceipt:
    """Return the receipt that a report printed, as text or as a JSON object.

    Raises:
        CommandError: it is none.
    """
    try:
        if text.lstrip().startswith("{"):
            members = json.loads(text)
            words = [str(members["report"]), str(members["receipt"])]
        else:
            words = [line.split()[-1] for line in text.splitlines() if line.strip()]
        receipt = ReportReceipt(ReportId(words[0]), words[1], 0)
        return msgspec.convert(msgspec.to_builtins(receipt), ReportReceipt)
    except (ValueError, KeyError, IndexError, TypeError, msgspec.ValidationError):
        raise CommandError(
            ExitCode.USAGE, f"not a receipt: it names a report ({REPORT_PATTERN}) and then its secret"
        ) from None


def _report_public(
    context: typer.Context,
    channel: str,
    post: int | None,
    category: str,
    explanation: str | None,
    good_faith: bool,
    keyword: str | None,
    language: str,
    server: str | None,
    as_json: bool,
) -> None:
    if not good_faith:
        raise CommandError(
            ExitCode.USAGE, "say --good-faith: a report states that you believe in good faith that it is right"
        )
    long_category = category_name(category)
    long_keyword = None if keyword is None else keyword_name(keyword)
    said = text_or_input(explanation, "explanation", MAX_EXPLANATION_SIZE_BYTES)

    async def act(client: Client | Visitor) -> None:
        receipt = await client.report_post(channel, post, long_category, said, keyword=long_keyword, language=language)
        _tell_receipt(as_json, receipt)

    device.read(context, server, act)


def _tell_receipt(as_json: bool, receipt: ReportReceipt) -> None:
    Output(as_json=as_json).tell(
        "report",
        f"report  {receipt.report}\nreceipt {receipt.receipt}",
        report=receipt.report,
        receipt=receipt.receipt,
        received_at_ms=receipt.received_at_ms,
    )
