"""What a client tells, as lines for people and as objects for programs.

One function, because the order of its cases is the order in which a reader looks for them. Names that strangers chose
are printed as they are; `Output` writes out what could steer a terminal.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

import msgspec

from heliograph.cli.output import Output
from heliograph.client import told as t
from heliograph.client.client import Client

_NO_NAMES: Final[Mapping[str, str]] = MappingProxyType({})


def names_known(client: Client) -> dict[str, str]:
    """Return what this device calls the rooms, channels and people that it knows, by id.

    A name that two rooms share would mislead: such rooms go by their ids.
    """
    names: dict[str, str] = {}
    rooms = client.rooms()
    shared = Counter(room.name for room in rooms)
    for room in rooms:
        handles = {member.account: f"@{member.handle}" for member in client.members(room.room) if member.handle}
        names |= handles
        others = [handle for account, handle in handles.items() if account != client.identity.account]
        if room.direct and others:
            names[room.room] = f"[with {others[0]}]"
        elif room.name and shared[room.name] == 1:
            names[room.room] = f"[{room.name}]"
    return names | {channel: handle for channel, handle, _ in client.following()}


def tell(output: Output, told: t.AnyTold, names: Mapping[str, str] = _NO_NAMES) -> None:
    """Print one thing that happened."""
    members: dict[str, Any] = msgspec.to_builtins(told, builtin_types=(bytes,))
    kind = str(members.pop("kind"))
    # A line break in a stranger's text must not begin a line that looks like ours.
    output.tell(kind, sentence(told, names).replace("\n", "\n    "), **members)


def sentence(told: t.AnyTold, names: Mapping[str, str] = _NO_NAMES) -> str:
    """Return what happened as a line for people; what has no name in `names` is told by the start of its id."""

    def called(identifier: str) -> str:
        return names.get(identifier) or _short(identifier)

    match told:
        case t.RoomMessage():
            return f"{clock_time(told.accepted_at_ms)} {called(told.room)} {_message(told)}"
        case t.RoomJoined():
            again = "you are back in" if told.again else "you are in"
            kind = "a direct room" if told.direct else "a room"
            return f"{called(told.room)} {again} {kind}, {_count(told.members)}"
        case t.RoomNamed():
            topic = f" ({told.topic})" if told.topic else ""
            return f"{called(told.room)} is now called {told.name}{topic}"
        case t.MemberChanged():
            return f"{called(told.room)} {_membership(told, called)}"
        case t.RoomLeft():
            return f"{called(told.room)} you are no longer in this room"
        case t.PostReceived():
            edited = " (edited)" if told.version != told.post else ""
            place = f"{called(told.channel)}/{told.post}{edited}"
            return f"{clock_time(told.accepted_at_ms)} {place} [{told.language}] {told.body}"
        case t.PostRemoved():
            why = f": {told.reason}" if told.reason else ""
            decision = f" (decision {told.decision})" if told.decision else ""
            return f"{called(told.channel)}/{told.post} was removed by {told.by}{why}{decision}"
        case t.ChannelEnded():
            title = told.problem.title
            return f"{called(told.channel)} can be read no more: {title}{_reason(told.problem.reason)}"
        case t.StatementReceived():
            measures = ", ".join(measure.kind for measure in told.statement.measures) or "nothing to be done"
            return f"decision {told.statement.decision} affects you: {measures}{_reason(told.statement.reason)}"
        case t.OutcomeReceived():
            return f"your report {told.report} was decided: {told.outcome}"
        case t.DeviceListChanged():
            return f"{_who(told.handle, told.account)} {_devices(told)}"
        case t.ProtocolFault():
            return f"{called(told.topic)}/{told.seq} could not be verified and is not shown: {told.detail}"
        case t.EntriesMissed():
            return f"{called(told.topic)} entries {told.first} to {told.last} are missing: {told.why}"


def _message(told: t.RoomMessage) -> str:
    who = _who(told.handle, told.sender)
    match told.act:
        case "react":
            return f"{who} reacts {told.text}"
        case "edit":
            return f"{who} (edited): {told.text}"
        case "delete":
            return f"{who} deleted a message"
        case "say":
            return f"{who}: {told.text}"


def _membership(told: t.MemberChanged, called: Callable[[str], str]) -> str:
    parts: list[str] = []
    if told.joined:
        parts.append(f"joined: {', '.join(map(called, told.joined))}")
    if told.left:
        parts.append(f"left: {', '.join(map(called, told.left))}")
    if told.devices_added and not told.joined:
        parts.append(f"new devices: {', '.join(map(_short, told.devices_added))}")
    if told.devices_removed and not told.left:
        parts.append(f"devices gone: {', '.join(map(_short, told.devices_removed))}")
    return "; ".join(parts) or "renewed its keys"


def _devices(told: t.DeviceListChanged) -> str:
    parts: list[str] = []
    if told.added:
        parts.append(f"added {', '.join(map(_short, told.added))}")
    if told.removed:
        parts.append(f"removed {', '.join(map(_short, told.removed))}")
    how = " with the recovery code" if told.by_recovery else ""
    return f"changed the list of devices{how}: {'; '.join(parts) or 'new keys'}"


def _who(handle: str, account: str) -> str:
    return f"@{handle}" if handle else _short(account)


def _short(identifier: str) -> str:
    return identifier[:9]


def _reason(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def _count(members: Sequence[str]) -> str:
    return f"{len(members)} {'person' if len(members) == 1 else 'people'}"


def clock_time(at_ms: int) -> str:
    """Return a time of day in UTC."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%H:%M:%S}"
