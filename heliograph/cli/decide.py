"""`heliograph decide`: end a case, with measures or with the reason why there are none.

The measure is a flag of its own, so that no default ever blocks anything. Categories and keywords are those of the DSA
Transparency Database; their long names may be shortened (`scams-and-fraud`, `phishing`).
"""

from typing import Annotated

import typer

from heliograph.cli import device, names
from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError
from heliograph.cli.output import AsJson, Output
from heliograph.cli.text_input import text_or_input
from heliograph.client.client import Client
from heliograph.wire.moderation import Ground, Measure, MeasureKind

HELP = "Decide a case: block a channel, remove a post, or say why nothing is to be done."

MAX_FACTS_SIZE_BYTES = 20_000
GROUNDS = ("illegal-content", "incompatible-content")


def decide_command(
    context: typer.Context,
    case: Annotated[str, typer.Argument(metavar="CASE", help="The case's id.", callback=names.case)],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="One sentence that everyone may read.")],
    facts: Annotated[
        str, typer.Option(metavar="TEXT", help="What was found, for the affected alone; - is standard input.")
    ],
    ground: Annotated[str, typer.Option(metavar="|".join(GROUNDS), help="Against the law, or against the terms.")],
    ground_reference: Annotated[
        str, typer.Option(metavar="TEXT", help="The law, or the clause of the terms, and why it applies.")
    ],
    category: Annotated[str, typer.Option(metavar="NAME", help="Such as scams-and-fraud.")],
    block_channel: Annotated[bool, typer.Option("--block-channel", help="Nobody reads the channel any more.")] = False,
    remove_post: Annotated[bool, typer.Option("--remove-post", help="A tombstone takes the post's place.")] = False,
    no_action: Annotated[bool, typer.Option("--no-action", help="Nothing is to be done.")] = False,
    keyword: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Such as phishing; may be repeated.")
    ] = None,
    language: Annotated[str, typer.Option(metavar="TAG", help="The language of the reason and the facts.")] = "en",
    as_json: AsJson = False,
) -> None:
    """Send one decision."""
    chosen = measures(block_channel=block_channel, remove_post=remove_post, no_action=no_action)
    ground_word, long_category = checked_ground(ground), category_name(category)
    keywords = [keyword_name(one) for one in keyword or ()]
    found = text_or_input(facts, "facts", MAX_FACTS_SIZE_BYTES)

    async def act(client: Client) -> None:
        decided = await client.decide(
            case,
            chosen,
            ground=ground_word,
            ground_reference=ground_reference,
            category=long_category,
            reason=reason,
            facts=found,
            keywords=keywords,
            language=language,
        )
        kinds = [measure.kind for measure in chosen]
        Output(as_json=as_json).tell(
            "decided",
            f"decision {decided.decision} is in force ({', '.join(kinds) or 'no measure'}), "
            f"entry {decided.leaf_index} of the log",
            decision=decided.decision,
            leaf_index=decided.leaf_index,
            effective_at_ms=decided.effective_at_ms,
            measures=kinds,
        )

    device.run(context, act)


def measures(*, block_channel: bool, remove_post: bool, no_action: bool) -> list[Measure]:
    """Return the measures that the flags name.

    Raises:
        CommandError: no flag was given, or --no-action together with a measure.
    """
    wanted: dict[MeasureKind, bool] = {"block-channel": block_channel, "remove-post": remove_post}
    kinds: list[MeasureKind] = [kind for kind in wanted if wanted[kind]]
    if no_action == bool(kinds):
        raise CommandError(ExitCode.USAGE, "say --block-channel, --remove-post (or both), or else --no-action")
    return [Measure(kind) for kind in kinds]


def checked_ground(ground: str) -> Ground:
    """Return the ground; raises CommandError for another word."""
    if ground not in GROUNDS:
        raise CommandError(ExitCode.USAGE, f"--ground {ground}: say {' or '.join(GROUNDS)}")
    return ground


def category_name(text: str) -> str:
    """Return a category's name in the DSA Transparency Database; raises CommandError for what can be none."""
    return _long_name(text, "STATEMENT_CATEGORY_")


def keyword_name(text: str) -> str:
    """Return a keyword's name in the DSA Transparency Database; raises CommandError for what can be none."""
    return _long_name(text, "KEYWORD_")


def _long_name(text: str, prefix: str) -> str:
    rest = text.upper().replace("-", "_").removeprefix(prefix)
    if not rest.replace("_", "").isalpha() or not rest.isascii() or not 3 <= len(rest) <= 64:
        raise CommandError(ExitCode.USAGE, f"{text}: not a name of the DSA lists, such as scams-and-fraud or phishing")
    return prefix + rest
