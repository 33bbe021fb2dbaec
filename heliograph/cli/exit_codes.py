"""What a command's exit code means: one table, used by every command and shown by `heliograph --help`."""

from enum import IntEnum

from heliograph.client import errors as client_errors
from heliograph.wire.problems import Problem


class ExitCode(IntEnum):
    """The exit codes, in the order of the question "what do I do now?"."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_ACCOUNT = 3
    REFUSED = 4
    NOT_FOUND = 5
    RESTRICTED = 6
    NOT_VERIFIED = 7
    TRY_AGAIN = 8
    BUSY = 9
    INTERRUPTED = 130
    PIPE_CLOSED = 141


MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "failed for a reason that no other code names",
    ExitCode.USAGE: "the command was not understood; nothing was done",
    ExitCode.NO_ACCOUNT: "this device has no account, or its session has ended",
    ExitCode.REFUSED: "the server refused, and would again",
    ExitCode.NOT_FOUND: "there is no such account, room, channel, post, case or file",
    ExitCode.RESTRICTED: "moderation has restricted it",
    ExitCode.NOT_VERIFIED: "a proof, a signature or a sealed message does not hold",
    ExitCode.TRY_AGAIN: "the server cannot be reached or is overloaded; nothing is lost",
    ExitCode.BUSY: "another process uses this device's store, this server's data or its address",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.PIPE_CLOSED: "whoever read the results stopped reading",
}

_OF_PROBLEM = {
    "not-logged-in": ExitCode.NO_ACCOUNT,
    "login-failed": ExitCode.NO_ACCOUNT,
    "not-found": ExitCode.NOT_FOUND,
    "post-removed": ExitCode.RESTRICTED,
    "channel-restricted": ExitCode.RESTRICTED,
    "account-restricted": ExitCode.RESTRICTED,
    "invalid-evidence": ExitCode.NOT_VERIFIED,
    "too-many-requests": ExitCode.TRY_AGAIN,
    "overloaded": ExitCode.TRY_AGAIN,
    "storage-full": ExitCode.TRY_AGAIN,
    "internal-error": ExitCode.TRY_AGAIN,
}


_OF_CLIENT_ERROR: dict[type[client_errors.ClientError], ExitCode] = {
    client_errors.StoreBusy: ExitCode.BUSY,
    client_errors.StoreMissing: ExitCode.NO_ACCOUNT,
    client_errors.StoreDamaged: ExitCode.FAILED,
    client_errors.Unreachable: ExitCode.TRY_AGAIN,
    client_errors.NotPossible: ExitCode.REFUSED,
}


def of_client_error(error: client_errors.ClientError) -> ExitCode:
    """Return the exit code for what went wrong on this side."""
    return _OF_CLIENT_ERROR.get(type(error), ExitCode.FAILED)


def of_problem(problem: Problem) -> ExitCode:
    """Return the exit code for what a server answered."""
    return _OF_PROBLEM.get(problem.slug, ExitCode.REFUSED)


def table() -> str:
    """Return the table as text, one line a code."""
    return "\n".join(f"{code.value:>5}  {meaning}" for code, meaning in MEANINGS.items())
