"""The client's face for private rooms: rooms, people, messages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from heliograph.client.changes import (
    Act,
    Change,
    ChangeMembers,
    CreateGroup,
    IntentAdded,
    JoinFromOutside,
    LeaveRoom,
    MessageSaved,
    NameRoom,
    RoomSaved,
    SendContent,
    StoredMessage,
    TendRoom,
)
from heliograph.client.decisions import PRECEDING, build_report, seal_to_desk, with_preceding
from heliograph.client.errors import NotPossible
from heliograph.client.room import Room, create_room
from heliograph.client.running import Running
from heliograph.content.compose import Composer, RoomProfile
from heliograph.content.framing import decode_application_data
from heliograph.content.message import TEXT_MARKDOWN, MimiContent, SinglePart
from heliograph.wire.accounts import AccountRequest, ContactToken, CreateContactToken, Empty
from heliograph.wire.ids import AccountId, RoomId, room_id
from heliograph.wire.moderation import GetReportStatus, ReportPrivate, ReportReceipt, ReportStatus
from heliograph.wire.problems import Problem
from heliograph.wire.room_policy import Role
from heliograph.wire.rooms import Submitted

_HISTORY_FOR_REPORTS: Final = 5000
_INVITED_WITHIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class RoomSummary:
    """A room as a person sees it. `name` is empty while it is unknown, and in direct rooms."""

    room: RoomId
    direct: bool
    name: str
    topic: str
    members: int
    epoch: int
    standing: str


@dataclass(frozen=True, slots=True)
class MemberSummary:
    """Someone who takes part in a room, with the devices that stand in it."""

    account: AccountId
    handle: str
    role: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message of ours: durable here; `seq` and `accepted_at_ms` are 0 until the server has taken it."""

    room: RoomId
    message_id: bytes
    seq: int = 0
    accepted_at_ms: int = 0


class Talking(Running):
    """Private rooms."""

    # ------------------------------------------------------------------------------------------- consent

    async def grant_consent(self, handle: str) -> None:
        """Let someone start conversations with this account."""
        account = await self._device.resolve(handle)
        await self._call("grant_consent", AccountRequest(account), Empty)

    async def withdraw_consent(self, handle: str) -> None:
        """Take consent back."""
        account = await self._device.resolve(handle)
        await self._call("withdraw_consent", AccountRequest(account), Empty)

    async def create_contact_token(self, expires_in_s: int = 30 * 86400) -> str:
        """Return a secret that lets who holds it start conversations with this account."""
        return (await self._call("create_contact_token", CreateContactToken(expires_in_s), ContactToken)).token

    # --------------------------------------------------------------------------------------------- rooms

    async def create_room(
        self, name: str, members: Sequence[str] = (), *, contact_tokens: Mapping[str, str] | None = None
    ) -> RoomId:
        """Create a group room with people (handles or account ids) and return its id.

        Raises:
            Problem: `no-consent`, somebody has not agreed; the room then stands without them.
        """
        accounts = await self._resolve_all(members)
        room = self._new_room(direct=False)
        content = self._composer(room.room).room_profile(RoomProfile(name))
        message, _ = self._rooms.prepared(room.room, content, "profile", "")
        tokens = await self._tokens(contact_tokens or {})
        add: list[str] = [self.identity.account, *accounts]
        intents = await self._promise(
            RoomSaved(replace(room, name=name)),
            MessageSaved(message),
            IntentAdded(room.room, CreateGroup()),
            IntentAdded(room.room, ChangeMembers(add=add, contact_tokens=tokens)),
            IntentAdded(room.room, SendContent(message.message_id)),
        )
        await self._done(intents)
        return room.room

    async def create_direct_room(self, handle: str, *, contact_token: str | None = None) -> RoomId:
        """Return the room of two with someone, which is created if this device knows of none.

        Raises:
            Problem: `no-consent`; `room-exists`, the two have a room that this device has not joined yet.
        """
        peer = await self._device.resolve(handle)
        if peer == self.identity.account:
            raise NotPossible("a direct room is with somebody else")
        known = self._direct_room(peer)
        if known is not None and peer in known.policy.participants:
            return known.room
        room = known or replace(self._new_room(direct=True), peer=peer)
        tokens = {str(peer): contact_token} if contact_token else {}
        add = ChangeMembers(add=[self.identity.account, peer], contact_tokens=tokens)
        steps: list[Change] = [IntentAdded(room.room, add)]
        if known is None:
            steps = [RoomSaved(room), IntentAdded(room.room, CreateGroup(peer=peer)), *steps]
        try:
            await self._done(await self._promise(*steps))
        except Problem as problem:
            if problem.slug != "room-exists":
                raise
            return await self._room_of_the_pair(peer)
        return room.room

    def _direct_room(self, peer: AccountId) -> Room | None:
        for known in self._store.rooms():
            if known.direct and known.standing == "active" and peer in (*known.policy.participants, known.peer):
                return known
        return None

    async def _room_of_the_pair(self, peer: AccountId) -> RoomId:
        """The other one was faster: the invitation is on its way."""
        if not await self._device.until(lambda: self._direct_room(peer) is not None, _INVITED_WITHIN_S):
            raise Problem("room-exists", "these two have a room that this device has not been invited to yet")
        found = self._direct_room(peer)
        if found is None:
            raise NotPossible("the room is gone again")
        return found.room

    def _new_room(self, *, direct: bool) -> Room:
        world = self._device.world
        return create_room(
            self.identity,
            room_id(world.random(16)),
            direct=direct,
            franking_key=self._device.server.hub_signature_key,
            now_s=world.now_s,
            random=world.random,
        )

    async def add_people(
        self, room: RoomId, people: Sequence[str], *, contact_tokens: Mapping[str, str] | None = None
    ) -> None:
        """Bring people with all their devices into a room.

        Raises:
            Problem: `no-consent`, `not-allowed`.
        """
        self._require(room)
        add: list[str] = list(await self._resolve_all(people))
        change = ChangeMembers(add=add, contact_tokens=await self._tokens(contact_tokens or {}))
        await self._done(await self._promise(IntentAdded(room, change), IntentAdded(room, NameRoom())))

    async def remove_people(self, room: RoomId, people: Sequence[str]) -> None:
        """Take people with all their devices out of a room.

        Raises:
            Problem: `not-allowed`.
        """
        self._require(room)
        remove: list[str] = list(await self._resolve_all(people))
        await self._done(await self._promise(IntentAdded(room, ChangeMembers(remove=remove))))

    async def leave_room(self, room: RoomId) -> None:
        """Propose to take this account out of a room; any member commits it."""
        self._require(room)
        await self._done(await self._promise(IntentAdded(room, LeaveRoom())))

    async def rename_room(self, room: RoomId, name: str, topic: str = "") -> None:
        """Give a room a name and topic, sealed: the server learns neither. For admins and owners."""
        known = self._require(room)
        if not known.direct and known.policy.role(self.identity.account) < Role.ADMIN:
            raise NotPossible("only admins and owners may name a room")
        content = self._composer(room).room_profile(RoomProfile(name, topic))
        await self._send_content(room, content, "profile", "", wait=True, naming=(name, topic))

    async def refresh_room(self, room: RoomId) -> None:
        """Give this device a fresh leaf in a room, which heals it after a compromise."""
        async with self._device.turn:
            known = self._require(room)
            await self._device.save((RoomSaved(replace(known, leaf_at_ms=0)),))
        await self._done(await self._promise(IntentAdded(room, TendRoom())))

    async def rejoin_room(self, room: RoomId) -> None:
        """Join a room of this account from outside, such as one that this device has lost."""
        await self._done(await self._promise(IntentAdded(room, JoinFromOutside())))

    def rooms(self) -> list[RoomSummary]:
        """Return the rooms that this device is in."""
        return [
            RoomSummary(
                one.room,
                one.direct,
                one.name,
                one.topic,
                len(one.policy.present()),
                one.group.epoch,
                one.standing,
            )
            for one in self._store.rooms()
        ]

    def members(self, room: RoomId) -> list[MemberSummary]:
        """Return who takes part in a room."""
        known, accounts = self._require(room), self._store.accounts
        devices = known.devices().values()
        return [
            MemberSummary(
                account,
                accounts[account].handle if account in accounts else "",
                known.policy.role(account).name.lower(),
                tuple(device for owner, device in devices if owner == account),
            )
            for account in sorted(known.policy.present())
        ]

    def _require(self, room: RoomId) -> Room:
        known = self._store.room(room)
        if known is None:
            raise NotPossible("this device is not in the room")
        return known

    # ------------------------------------------------------------------------------------------ messages

    async def send(self, room: RoomId, text: str, *, reply_to: bytes | None = None, wait: bool = True) -> SentMessage:
        """Send a text (Markdown) to a room. It is durable before anything is sent.

        wait: until the server has taken it; otherwise the outbox goes on by itself, also after a restart.
        """
        composer = self._composer(room)
        content = composer.markdown(text) if reply_to is None else composer.reply(reply_to, text)
        return await self._send_content(room, content, "say", text, wait=wait)

    async def react(self, room: RoomId, message_id: bytes, emoji: str, *, wait: bool = True) -> SentMessage:
        """React to a message with an emoji."""
        content = self._composer(room).reaction(message_id, emoji)
        return await self._send_content(room, content, "react", emoji, wait=wait)

    async def edit(self, room: RoomId, message_id: bytes, text: str, *, wait: bool = True) -> SentMessage:
        """Replace the text of a message of one's own, named by its first version."""
        body = SinglePart(TEXT_MARKDOWN, text.encode())
        content = self._composer(room).edit(self._original(room, message_id), body)
        return await self._send_content(room, content, "edit", text, wait=wait)

    async def delete(self, room: RoomId, message_id: bytes, *, wait: bool = True) -> SentMessage:
        """Delete a message, named by its first version."""
        content = self._composer(room).delete(self._original(room, message_id))
        return await self._send_content(room, content, "delete", "", wait=wait)

    def messages(self, room: RoomId, limit: int = 100, *, before_seq: int | None = None) -> list[StoredMessage]:
        """Return the newest messages of a room, oldest first; those still waiting come last."""
        found = self._store.messages(room, limit, before_seq)
        return [message for message in found if message.act not in ("profile", "receipt")]

    def _composer(self, room: RoomId) -> Composer:
        return self._rooms.composer(room)

    def _original(self, room: RoomId, message_id: bytes) -> MimiContent:
        message = self._store.message(room, message_id)
        if message is None:
            raise NotPossible("this device does not have that message")
        return decode_application_data(message.application_data)

    async def _send_content(
        self,
        room_id: RoomId,
        content: MimiContent,
        act: Act,
        text: str,
        *,
        wait: bool,
        naming: tuple[str, str] | None = None,
    ) -> SentMessage:
        """Seal at once where the room is ready, so that ratchet, message and outbox row are one transaction."""
        message, franked = self._rooms.prepared(room_id, content, act, text)
        async with self._device.turn:
            room = self._require(room_id)
            if naming is not None:
                room = replace(room, name=naming[0], topic=naming[1])
            intent = SendContent(message.message_id)
            if room.standing == "active" and not self._rooms.needs_tending(room):
                after, made, submit = self._rooms.sealed(room, message.message_id, franked)
                request = msgspec.msgpack.encode(submit)
                changes = (RoomSaved(after), MessageSaved(message), made, IntentAdded(room_id, intent, request))
            else:
                changes = (RoomSaved(room), MessageSaved(message), IntentAdded(room_id, intent))
            added = await self._device.save(changes)
            answer = self._outbox.expect(added[0])
        self._outbox.kick((room_id,))
        if not wait:
            return SentMessage(room_id, message.message_id)
        (reply,) = await self._done([answer])
        if not isinstance(reply, Submitted):
            raise NotPossible("the message was not accepted")
        return SentMessage(room_id, message.message_id, reply.seq, reply.accepted_at_ms)

    # ------------------------------------------------------------------------------------------- reports

    async def report_messages(
        self,
        room: RoomId,
        message_ids: Sequence[bytes],
        category: str,
        note: str = "",
        *,
        keyword: str = "",
        language: str = "en",
        preceding: int = PRECEDING,
    ) -> ReportReceipt:
        """Report messages of a room: they and up to `preceding` before each are disclosed, sealed to the desk.

        Raises:
            NotPossible: the server has no desk yet, or a message is not in this device's history.
        """
        await self._device.refresh_server()
        desk_key = self._device.server.desk_key
        if desk_key is None:
            raise NotPossible("this server has no desk that reports could be sealed to")
        chosen = [self._store.message(room, one) for one in message_ids]
        history = self._store.messages(room, _HISTORY_FOR_REPORTS)
        disclosed = with_preceding(history, message_ids, preceding)
        accused = {one.sender for one in chosen if one is not None}
        if len(accused) != 1:
            raise NotPossible("a report is about messages of one person")
        report = build_report(
            self.identity,
            room,
            disclosed,
            accused.pop(),
            category=category,
            note=note,
            keyword=keyword,
            language=language,
            alone=preceding == 0,
        )
        request = ReportPrivate(room, seal_to_desk(report, desk_key))
        return await self._call("report_private", request, ReportReceipt)

    async def report_status(self, receipt: ReportReceipt) -> ReportStatus:
        """Return what became of a report."""
        return await self._call("get_report_status", GetReportStatus(receipt.report, receipt.receipt), ReportStatus)
