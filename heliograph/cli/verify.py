"""`heliograph verify`: check a decision's proof, offline, with the standard library alone.

It also runs from an unpacked source tree with nothing installed:

    python3 -m heliograph.cli.verify proof.json

Exit codes: 0 the proof holds; 7 it does not; 5 there is no such file; 2 the command was not understood.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heliograph.tlog.errors import ProofError
from heliograph.tlog.verify import MAX_BUNDLE_SIZE_BYTES, VerifiedDecision, verify_decision

# The same numbers as in `cli.exit_codes`, which needs more than the standard library; a test compares them.
HOLDS, USAGE, NOT_FOUND, NOT_VERIFIED = 0, 2, 5, 7

_DESCRIPTION = """\
Check that a decision stands in a server's public log. Nothing is sent anywhere.

FILE is the proof that the server gave to whoever the decision affects ('-' for standard input). Give the log's
key with --key, as you learned it from the server's site, from a friend or from print: without it, the key
inside the file is used, which proves only that whoever holds that key signed the log."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the proof that the arguments name; print what it proves; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="heliograph verify",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="the proof, as JSON")
    parser.add_argument(
        "--key", action="append", default=[], metavar="VKEY", help="a log key that you trust; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    try:
        verified = verify_decision(_read(options.file), options.key)
    except ProofError as error:
        return _refuse(NOT_VERIFIED, str(error), as_json=options.json)
    except OSError as error:
        return _refuse(NOT_FOUND, f"{options.file}: {error.strerror}", as_json=options.json)
    print(json.dumps(_members(verified)) if options.json else _sentences(verified))
    return HOLDS


def _read(name: str) -> str:
    """Read at most one byte more than a proof may have, so that a large file costs nothing."""
    limit = MAX_BUNDLE_SIZE_BYTES + 1
    if name == "-":
        data = sys.stdin.buffer.read(limit)
    else:
        with Path(name).open("rb") as file:
            data = file.read(limit)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ProofError("The file is not UTF-8 text.") from None


def _refuse(code: int, sentence: str, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"type": "verified", "holds": False, "reason": sentence}))
    else:
        print(f"NOT VERIFIED. {_printable(sentence)}", file=sys.stderr)
    return code


def _members(verified: VerifiedDecision) -> dict[str, Any]:
    leaf = verified.leaf
    return {
        "type": "verified",
        "holds": True,
        "decision": verified.decision,
        "subject": verified.subject,
        "hour": leaf.hour,
        "measures": list(leaf.measures),
        "category": leaf.category,
        "ground": leaf.ground,
        "territory": list(leaf.territory),
        "log": verified.checkpoint.origin,
        "log_size": verified.checkpoint.size,
        "index": verified.index,
        "key": verified.verifier_key,
        "key_pinned": verified.pinned,
    }


def _sentences(verified: VerifiedDecision) -> str:
    leaf = verified.leaf
    origin = _printable(verified.checkpoint.origin)
    key = (
        "You gave this key, so the log is the one you mean."
        if verified.pinned
        else "This key came with the proof. Compare it with one from elsewhere, or give yours with --key."
    )
    return "\n".join(
        (
            "VERIFIED. This decision stands in the log.",
            f"  decision   {_printable(verified.decision)}",
            f"  about      {_printable(verified.subject)}",
            f"  measures   {', '.join(leaf.measures) or 'none'}",
            f"  where      {', '.join(leaf.territory) or 'everywhere'}",
            f"  ground     {leaf.ground}, {leaf.category}",
            f"  decided    {leaf.hour}:00 UTC, to the hour",
            f"  log        {origin}, entry {verified.index} of {verified.checkpoint.size}",
            f"  log key    {verified.verifier_key}",
            f"             {key}",
        )
    )


def _printable(text: str) -> str:
    """Whoever made the proof wrote these texts: what could steer a terminal is written out."""
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)


if __name__ == "__main__":
    sys.exit(main())
