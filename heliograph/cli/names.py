"""How people name accounts, rooms and channels on the command line: by handle, by name, by id, by the start of an id.

An id is taken as it stands. A handle has one spelling: letters that only look like Latin ones are refused, and the
answer asks for the id, which cannot be imitated. A name of a room may belong to several rooms: then the answer lists
their ids, and nothing is done.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError
from heliograph.wire.ids import (
    ACCOUNT_PATTERN,
    CASE_PATTERN,
    CHANNEL_PATTERN,
    DECISION_PATTERN,
    HANDLE_PATTERN,
    ROOM_PATTERN,
    AccountId,
    ChannelId,
    Handle,
    RoomId,
    parse_user_uri,
)

SHORTEST_START_LENGTH: Final = 5

_ID_START = re.compile(r"[rc][a-z2-7]+")
_POST = re.compile(r"([^/]+)/([1-9][0-9]{0,15})")


class NamedRoom(NamedTuple):
    """A room as people could mean it: its id, its name, and for a direct room the other's handle."""

    room: RoomId
    name: str
    peer: str


def case(text: str) -> str:
    """Return the id of a case, which has no shorter name.

    Raises:
        CommandError: it is none.
    """
    return _whole_id(text, CASE_PATTERN, "a case (cs and 26 letters and digits); `heliograph case list` shows them")


def decision(text: str) -> str:
    """Return the id of a decision, which has no shorter name.

    Raises:
        CommandError: it is none.
    """
    return _whole_id(text, DECISION_PATTERN, "a decision (dc and 26 letters and digits); its statement names it")


def _whole_id(text: str, pattern: str, what: str) -> str:
    if not re.fullmatch(pattern, text):
        raise CommandError(ExitCode.USAGE, f"{text}: not the id of {what}")
    return text


def account_or_handle(text: str, domain: str) -> AccountId | Handle:
    """Return the account that an id or a user URI names, or else the handle, to be looked up.

    Raises:
        CommandError: it is neither, is of another server, or imitates a handle.
    """
    if re.fullmatch(ACCOUNT_PATTERN, text):
        return AccountId(text)
    if text.startswith("mimi://"):
        return _account_of_uri(text, domain)
    return handle(text)


def handle(text: str) -> Handle:
    """Return a handle, with or without the @ before it.

    Raises:
        CommandError: it cannot be one.
    """
    plain = text.removeprefix("@")
    if re.fullmatch(HANDLE_PATTERN, plain):
        return Handle(plain)
    if not plain.isascii():
        strange = next(one for one in plain if not one.isascii())
        raise CommandError(
            ExitCode.USAGE,
            f"{text}: a handle has no {strange} (U+{ord(strange):04X}), which may only look like another letter. "
            "Give the id instead; `heliograph account show` prints it on the other side.",
        )
    raise CommandError(
        ExitCode.USAGE,
        f"{text}: not a handle (3 to 32 small letters, digits and single underscores, a letter first) and not an id",
    )


def channel_or_handle(text: str) -> ChannelId | Handle:
    """Return the channel that an id names, or else the handle, to be looked up; raises CommandError."""
    return ChannelId(text) if re.fullmatch(CHANNEL_PATTERN, text) else handle(text)


def channel_and_post(text: str) -> tuple[str, int]:
    """Return the channel, as it was named, and the number of `CHANNEL/NUMBER`.

    Raises:
        CommandError: it has another form.
    """
    match = _POST.fullmatch(text)
    if match is None:
        raise CommandError(ExitCode.USAGE, f"{text}: name a post as CHANNEL/NUMBER, such as bridge_news/12")
    return match[1], int(match[2])


def room(text: str, rooms: Sequence[NamedRoom]) -> RoomId:
    """Return the one room that a text names: by id, name, start of the id, or @handle of a direct room's other side.

    Raises:
        CommandError: no room, or more than one, is called so.
    """
    if re.fullmatch(ROOM_PATTERN, text):
        return RoomId(text)
    found = [one for one in rooms if text and one.name == text]
    if not found and text.startswith("@"):
        found = [one for one in rooms if one.peer == text[1:]]
    if not found and text:
        found = [one for one in rooms if one.name.casefold() == text.casefold()]
    if not found and len(text) >= SHORTEST_START_LENGTH and _ID_START.fullmatch(text):
        found = [one for one in rooms if one.room.startswith(text)]
    if len(found) == 1:
        return found[0].room
    if not found:
        raise CommandError(ExitCode.NOT_FOUND, f"{text}: no room of yours is called so; see `heliograph room list`")
    ids = ", ".join(one.room for one in found)
    raise CommandError(ExitCode.USAGE, f"{text}: {len(found)} rooms are called so; name one by its id: {ids}")


def _account_of_uri(text: str, domain: str) -> AccountId:
    try:
        there, account = parse_user_uri(text)
    except ValueError:
        raise CommandError(ExitCode.USAGE, f"{text}: not a user URI (mimi://SERVER/u/ACCOUNT)") from None
    if there != domain:
        raise CommandError(
            ExitCode.USAGE, f"{text}: an account of {there}, and this device speaks to {domain} alone; nothing was done"
        )
    return account
