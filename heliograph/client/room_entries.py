"""What the entries of a room lead to: messages, proposals and commits of others, and one's own coming back. Pure."""

import hashlib
from dataclasses import replace

from heliograph.client import room as rooms
from heliograph.client import room_commits as commits
from heliograph.client.changes import (
    Change,
    ChangeDropped,
    ChangeMembers,
    CiphertextSeen,
    IntentAdded,
    JoinFromOutside,
    MessageAccepted,
    MessageSaved,
    NameRoom,
    RoomForgotten,
    RoomSaved,
    StoredMessage,
    Tell,
    TendRoom,
)
from heliograph.client.identity import CredentialError
from heliograph.client.reading import Reading, check_against_original, read_content
from heliograph.client.room import NotShown, OpenedMessage, PendingChange, Room
from heliograph.client.room_commits import SeenCommit
from heliograph.client.step import Facts, Step, Stored, Subscribe, accounts_of
from heliograph.client.told import MemberChanged, ProtocolFault, RoomJoined, RoomLeft, RoomMessage, RoomNamed, Told
from heliograph.mls.errors import MLSError, StateError
from heliograph.wire.events import AnyEvent, CommitEvent, MessageEvent, ProposalEvent
from heliograph.wire.ids import RoomId, TopicId
from heliograph.wire.problems import Problem
from heliograph.wire.room_policy import Role


def apply_to_room(stored: Stored, facts: Facts, room_id: RoomId, seq: int, event: AnyEvent) -> Step:
    """Return what a room's entry leads to.

    Raises:
        MissingAccounts: chains must be fetched first.
    """
    room, pending = stored.room(room_id), stored.pending(room_id)
    if isinstance(event, CommitEvent) and pending is not None and pending.commit == event.commit:
        return take_up(facts, room, pending, seq)
    if room is None or seq <= room.seq:
        return Step()
    if room.standing != "active":
        return Step((RoomSaved(replace(room, seq=seq)),))
    match event:
        case MessageEvent():
            return _apply_message(stored, facts, room, seq, event)
        case CommitEvent():
            return _apply_commit(stored, facts, room, seq, event)
        case ProposalEvent():
            return _apply_proposal(facts, room, seq, event)
        case _:
            return Step((RoomSaved(replace(room, seq=seq)),))


def take_up(facts: Facts, room: Room | None, pending: PendingChange, seq: int) -> Step:
    """Return the step that brings our own accepted commit into force."""
    after = replace(pending.room, seq=seq, standing="active")
    again = room is not None
    if room is not None:
        after = replace(after, name=room.name or after.name, topic=room.topic or after.topic)
        if not pending.external and room.group.epoch == pending.epoch:
            after = replace(after, group=room.group.take_up(after.group))
    changes: list[Change] = [RoomSaved(after), ChangeDropped(after.room)]
    identity = facts.identity
    if pending.external:
        members = sorted(after.policy.present())
        changes.append(Tell(RoomJoined(after.room, seq, after.direct, list(members), again)))
        return Step(tuple(changes), (Subscribe(TopicId(after.room), seq),))
    if room is not None:
        seen = commits.own_commit(room, after, identity.account, identity.device)
        changes += _tell_commit(after, seq, seen)
    return Step(tuple(changes))


def _apply_message(stored: Stored, facts: Facts, room: Room, seq: int, event: MessageEvent) -> Step:
    sha256 = hashlib.sha256(event.ciphertext).digest()
    own_id = stored.message_of_ciphertext(room.room, sha256)
    if own_id is not None:
        return _apply_own_message(stored, facts, room, seq, event, (sha256, own_id))
    if event.epoch > room.group.epoch:
        return _lose(room, seq, "commits are missing: the room is at a later epoch")
    arrived_at_ms = facts.now_ms if facts.live else None
    here, opened = rooms.open_message(room, seq, event, arrived_at_ms=arrived_at_ms)
    if isinstance(opened, NotShown):
        return Step((RoomSaved(here), Tell(ProtocolFault(room.room, seq, opened.detail))))
    try:
        if facts.live:
            _require_present(stored, facts, opened)
        message, told, named = _read_message(stored, facts, here, opened)
    except MLSError as error:
        return Step((RoomSaved(here), Tell(ProtocolFault(room.room, seq, str(error)))))
    changes: list[Change] = [RoomSaved(named), MessageSaved(message)]
    if told is not None:
        changes.append(Tell(told))
    return Step(tuple(changes))


def _apply_own_message(
    stored: Stored, facts: Facts, room: Room, seq: int, event: MessageEvent, own: tuple[bytes, bytes]
) -> Step:
    sha256, message_id = own
    here = replace(room, seq=seq)
    changes: list[Change] = [RoomSaved(here), CiphertextSeen(room.room, sha256)]
    message = stored.message(room.room, message_id)
    if message is None:
        return Step(tuple(changes))
    try:
        envelope = rooms.verify_own(room, seq, event, message.application_data)
    except MLSError as error:
        changes.append(Tell(ProtocolFault(room.room, seq, f"the server's stamp on our own message: {error}")))
        return Step(tuple(changes))
    changes.append(MessageAccepted(room.room, message_id, envelope))
    return Step(tuple(changes))


def _require_present(stored: Stored, facts: Facts, opened: OpenedMessage) -> None:
    known = {**stored.accounts, **facts.fetched}.get(opened.sender)
    if known is not None and known.state.device(opened.device) is None:
        raise CredentialError("the sender's device has left its account")


def _read_message(
    stored: Stored, facts: Facts, room: Room, opened: OpenedMessage
) -> tuple[StoredMessage, Told | None, Room]:
    verified, content = opened.verified, opened.verified.content
    if stored.message(room.room, verified.message_id) is not None:
        raise StateError("the message was received before: it is a repetition")
    reading = read_content(content)
    original = None if content.replaces is None else stored.message(room.room, content.replaces)
    may_delete = room.policy.role(opened.sender) >= Role.ADMIN
    check_against_original(content, original.application_data if original else None, may_delete=may_delete)
    message = StoredMessage(
        room=room.room,
        message_id=verified.message_id,
        sender=opened.sender,
        device=opened.device,
        act=reading.act,
        text=reading.text,
        application_data=opened.application_data,
        state="received",
        created_at_ms=facts.now_ms,
        seq=opened.envelope.room_seq,
        accepted_at_ms=opened.envelope.accepted_at_ms,
        envelope=opened.envelope,
        in_reply_to=content.in_reply_to,
        replaces=content.replaces,
    )
    if reading.profile is not None:
        return _named(room, message, reading)
    known = stored.accounts.get(opened.sender)
    return message, _told_message(message, reading, "" if known is None else known.handle), room


def _named(room: Room, message: StoredMessage, reading: Reading) -> tuple[StoredMessage, Told | None, Room]:
    """A profile names the room if an admin sent it, or if the room has had no name here yet."""
    profile = reading.profile
    if profile is None or (room.name and room.policy.role(message.sender) < Role.ADMIN):
        return message, None, room
    if (profile.name, profile.topic) == (room.name, room.topic):
        return message, None, room
    named = replace(room, name=profile.name, topic=profile.topic)
    return message, RoomNamed(room.room, message.seq, profile.name, profile.topic, message.sender), named


def _told_message(message: StoredMessage, reading: Reading, handle: str) -> RoomMessage | None:
    act = reading.told_act
    if act is None:
        return None
    return RoomMessage(
        room=message.room,
        seq=message.seq,
        message_id=message.message_id,
        sender=message.sender,
        handle=handle,
        device=message.device,
        text=message.text,
        accepted_at_ms=message.accepted_at_ms,
        act=act,
        in_reply_to=message.in_reply_to,
        replaces=message.replaces,
    )


def _apply_proposal(facts: Facts, room: Room, seq: int, event: ProposalEvent) -> Step:
    if event.epoch != room.group.epoch:
        return Step((RoomSaved(replace(room, seq=seq)),))
    try:
        here, _ = commits.receive_proposal(room, seq, event)
    except MLSError as error:
        fault = (RoomSaved(replace(room, seq=seq)), Tell(ProtocolFault(room.room, seq, str(error))))
        leaver = commits.spoilt_leave(room, event)
        if leaver is None or room.direct or leaver not in room.policy.present():
            return Step(fault)
        elected = commits.is_elected(room, facts.identity.account, {leaver}, least=Role.ADMIN)
        return Step((*fault, IntentAdded(room.room, ChangeMembers(remove=[leaver]))) if elected else fault)
    changes: list[Change] = [RoomSaved(here)]
    leaving = commits.leavers(here)
    if leaving and commits.is_elected(here, facts.identity.account, leaving):
        changes.append(IntentAdded(room.room, TendRoom()))
    return Step(tuple(changes))


def _apply_commit(stored: Stored, facts: Facts, room: Room, seq: int, event: CommitEvent) -> Step:
    if event.epoch < room.group.epoch:
        return Step((RoomSaved(replace(room, seq=seq)),))
    if event.epoch > room.group.epoch:
        return _lose(room, seq, "commits are missing: the room is at a later epoch")
    try:
        here, seen = commits.receive_commit(
            room, seq, event, accounts=accounts_of(stored, facts), catching_up=not facts.live
        )
    except (MLSError, Problem) as error:
        return _lose(room, seq, f"a commit does not hold: {error}")
    if seen.removed_self:
        return Step((RoomForgotten(room.room), Tell(RoomLeft(room.room, seq, seen.by))))
    changes: list[Change] = [RoomSaved(here), *_tell_commit(here, seq, seen)]
    if stored.pending(room.room) is not None:
        changes.append(ChangeDropped(room.room))
    changes += _follow_up(facts, room, here, seen)
    return Step(tuple(changes))


def _tell_commit(room: Room, seq: int, seen: SeenCommit) -> list[Change]:
    if not (seen.joined or seen.left or seen.added or seen.removed):
        return []
    return [
        Tell(
            MemberChanged(
                room=room.room,
                seq=seq,
                by=seen.by,
                joined=list(seen.joined),
                left=list(seen.left),
                devices_added=[device for _, device in seen.added],
                devices_removed=[device for _, device in seen.removed],
            )
        )
    ]


def _follow_up(facts: Facts, before: Room, after: Room, seen: SeenCommit) -> list[Change]:
    """What this device, if it is the elected one, owes the room after a commit."""
    own = facts.identity.account
    found: list[Change] = []
    if seen.external and after.name and commits.is_elected(after, own, (), skip=seen.added):
        found.append(IntentAdded(after.room, NameRoom()))
    standing = {account for account, _ in after.devices().values()}
    # A commit from outside ends the epoch in which somebody has proposed to leave, and cannot include that.
    left = (one for one in commits.leavers(before) if one != seen.by and (seen.external or one not in standing))
    gone = [one for one in left if one in after.policy.present()]
    skip = seen.added if seen.external else ()
    if gone and not after.direct and commits.is_elected(after, own, gone, least=Role.ADMIN, skip=skip):
        found.append(IntentAdded(after.room, ChangeMembers(remove=sorted(gone))))
    return found


def _lose(room: Room, seq: int, detail: str) -> Step:
    return Step(
        (
            RoomSaved(replace(room, seq=seq, standing="lost")),
            ChangeDropped(room.room),
            Tell(ProtocolFault(room.room, seq, detail)),
            IntentAdded(room.room, JoinFromOutside()),
        )
    )
