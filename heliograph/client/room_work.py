"""How each intent about a room is done: the steps between the store and the server, each safe to stop at.

A commit is built on what the store holds, saved as pending, and sent; it comes into force when the stream brings it
back, so that the room's entries are worked in their own order. When another commit has won the epoch, the stream
brings that one, the pending change is dropped, and what was wanted is compared with the new state and built again.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from heliograph.client.changes import (
    Act,
    ChangeMembers,
    CiphertextMade,
    CreateGroup,
    IntentAdded,
    IntentDone,
    IntentSealed,
    JoinFromOutside,
    MessageAccepted,
    MessageSaved,
    RoomForgotten,
    RoomSaved,
    SendContent,
    StoredMessage,
    Tell,
)
from heliograph.client.commit_work import CommitWork
from heliograph.client.device import Device
from heliograph.client.errors import NotPossible
from heliograph.client.room import (
    SUITE_ID,
    Accounts,
    Room,
    seal_message,
    uri_of,
)
from heliograph.client.room_commits import (
    Wanted,
    check_key_package,
    leavers,
    propose_leaving,
    stale_leaves,
)
from heliograph.client.store import SavedIntent
from heliograph.client.told import RoomLeft
from heliograph.content.compose import Composer, RoomProfile
from heliograph.content.framing import decode_application_data
from heliograph.content.franking import Envelope, Franked, frank_message, franking_tag
from heliograph.content.message import MimiContent
from heliograph.mls.errors import DecodeError
from heliograph.mls.framing import MLSMessage
from heliograph.mls.key_package import KeyPackage
from heliograph.wire.accounts import ClaimedKeyPackages, ClaimKeyPackages
from heliograph.wire.frank import encode_frank
from heliograph.wire.ids import AccountId, RoomId, TopicId, room_uri
from heliograph.wire.problems import Problem
from heliograph.wire.room_policy import Role
from heliograph.wire.rooms import (
    CreateRoom,
    RoomInfo,
    SubmitMessage,
    SubmitProposal,
    Submitted,
)

_READ_WITHIN_S: Final = 30.0
_OUTRUN: Final = ("wrong-epoch", "epoch-too-old")


class RoomWork(CommitWork):
    """Work on the intents of one device's rooms."""

    def __init__(self, device: Device, subscribe: Callable[[TopicId, int], None]) -> None:
        super().__init__(device, subscribe)
        self._claimed: dict[int, dict[AccountId, list[KeyPackage]]] = {}

    def composer(self, room: RoomId) -> Composer:
        """Return what composes this device's messages to a room."""
        device = self._device
        uri = room_uri(device.identity.domain, room)
        return Composer(device.identity.user_uri, uri, device.world.random)

    def prepared(self, room: RoomId, content: MimiContent, act: Act, text: str) -> tuple[StoredMessage, Franked]:
        """Return a message of ours as it is stored, and as it is sealed."""
        franked = frank_message(content)
        identity = self._device.identity
        message = StoredMessage(
            room=room,
            message_id=content.message_id(),
            sender=identity.account,
            device=identity.device,
            act=act,
            text=text,
            application_data=franked.application_data,
            state="waiting",
            created_at_ms=self._device.world.now_ms(),
            in_reply_to=content.in_reply_to,
            replaces=content.replaces,
        )
        return message, franked

    def needs_tending(self, room: Room) -> bool:
        """Tell whether something must be committed before anything is sent."""
        due = room.leaf_is_due(self._device.world.now_ms())
        return due or bool(room.group.pending_proposals) or bool(stale_leaves(room, self._device.store.accounts))

    def sealed(self, room: Room, message_id: bytes, franked: Franked) -> tuple[Room, CiphertextMade, SubmitMessage]:
        """Seal a message in the present epoch; all three results are saved together, before anything is sent."""
        after, ciphertext = seal_message(room, franked, random=self._device.world.random)
        made = CiphertextMade(room.room, hashlib.sha256(ciphertext).digest(), message_id)
        key = self._device.world.random(16)
        return after, made, SubmitMessage(room.room, key, room.group.epoch, ciphertext)

    async def send(self, saved: SavedIntent, intent: SendContent) -> Submitted:
        """Send a message, sealing it again where its epoch has passed."""
        room_id, request = RoomId(saved.lane), saved.request
        while True:
            if not request:
                request = await self._seal_again(saved, room_id, intent.message_id)
            submit = msgspec.msgpack.decode(request, type=SubmitMessage)
            self._device.world.reach("message sealed")
            try:
                reply = await self._device.transport.call("submit_message", submit, Submitted)
                break
            except Problem as problem:
                if problem.slug not in _OUTRUN:
                    raise
                await self.catch_up(room_id, problem.body.epoch, submit.epoch)
                request = b""
        self._device.world.reach("message accepted")
        if reply.frank is None:
            raise Problem("internal-error", "the message was accepted without a stamp")
        envelope = Envelope(reply.accepted_at_ms, reply.seq, submit.epoch, encode_frank(reply.frank))
        async with self._device.turn:
            accepted = MessageAccepted(room_id, intent.message_id, envelope)
            await self._device.save((accepted, IntentDone(saved.intent_id)))
        return reply

    async def _seal_again(self, saved: SavedIntent, room_id: RoomId, message_id: bytes) -> bytes:
        await self._tended(room_id)
        async with self._device.turn:
            room = self.active(room_id)
            message = self._device.store.message(room_id, message_id)
            if message is None:
                raise NotPossible("the message to send is gone")
            content = decode_application_data(message.application_data)
            tag = franking_tag(content.salt, message.application_data)
            after, made, submit = self.sealed(room, message_id, Franked(message.application_data, tag))
            request = msgspec.msgpack.encode(submit)
            await self._device.save((RoomSaved(after), made, IntentSealed(saved.intent_id, request)))
        return request

    async def name_again(self, saved: SavedIntent) -> None:
        """Send the room's profile anew, as a message of its own."""
        room_id = RoomId(saved.lane)
        async with self._device.turn:
            room = self.active(room_id)
            if not room.name:
                await self._device.save((IntentDone(saved.intent_id),))
                return
            content = self.composer(room_id).room_profile(RoomProfile(room.name, room.topic))
            message, _ = self.prepared(room_id, content, "profile", "")
            intent = IntentAdded(room_id, SendContent(message.message_id))
            await self._device.save((MessageSaved(message), intent, IntentDone(saved.intent_id)))

    async def create(self, saved: SavedIntent, intent: CreateGroup) -> RoomInfo:
        """Tell the server of a new room."""
        room_id = RoomId(saved.lane)
        room = self.active(room_id)
        kind = "direct" if room.direct else "group"
        peer = None if intent.peer is None else AccountId(intent.peer)
        request = CreateRoom(room_id, kind, room.group.group_info(), room.group.ratchet_tree(), peer)
        if saved.request:
            request = msgspec.msgpack.decode(saved.request, type=CreateRoom)
        try:
            info = await self._device.transport.call("create_room", request, RoomInfo)
        except Problem as problem:
            if problem.slug in ("room-exists", "invalid-proposal", "not-allowed"):
                async with self._device.turn:
                    await self._device.save((RoomForgotten(room_id),))
            raise
        self._device.world.reach("room created")
        async with self._device.turn:
            await self._device.save((IntentDone(saved.intent_id),))
        self._subscribe(TopicId(room_id), 0)
        return info

    async def change_members(self, saved: SavedIntent, intent: ChangeMembers) -> None:
        """Bring people in and take people out, in one commit."""
        room_id = RoomId(saved.lane)
        add, remove = [AccountId(one) for one in intent.add], [AccountId(one) for one in intent.remove]
        for account in add:
            if self._lacks_devices(self.active(room_id), account):
                await self._claim(saved.intent_id, room_id, account, intent.contact_tokens.get(account))
        packages = self._claimed.get(saved.intent_id, {})

        def wanted(room: Room) -> Wanted | None:
            present, standing = room.policy.present(), set(room.uris())
            joining = [account for account in add if account not in present and account in packages]
            adding = [
                one
                for account in add
                if account in present or account in joining
                for one in packages.get(account, ())
                if uri_of(one.leaf_node) not in standing
            ]
            leaving = [account for account in remove if account in room.policy.participants]
            if not joining and not adding and not leaving:
                return None
            stale = stale_leaves(room, self._device.store.accounts)
            gone = {*leaving, *self._may_drop(room)}
            return Wanted(add=adding, join=joining, leave=gone, remove_leaves=stale)

        await self.committed(room_id, wanted)
        self._claimed.pop(saved.intent_id, None)
        async with self._device.turn:
            await self._device.save((IntentDone(saved.intent_id),))

    def _lacks_devices(self, room: Room, account: AccountId) -> bool:
        """Tell whether an account, or one of the devices that are known of it, is missing in a room."""
        known = self._device.store.accounts.get(account)
        if account not in room.policy.present() or known is None:
            return True
        standing = {device for _, device in room.devices().values()}
        return any(entry.device not in standing for entry in known.state.devices)

    async def _claim(self, intent_id: int, room_id: RoomId, account: AccountId, contact_token: str | None) -> None:
        """Take a key package of each device of an account, checked against the account's chain."""
        packages = self._claimed.setdefault(intent_id, {})
        if account in packages:
            return
        device = self._device
        known = await device.learn(account)
        request = ClaimKeyPackages(account, SUITE_ID, contact_token)
        claimed = await device.transport.call("claim_key_packages", request, ClaimedKeyPackages)
        policy, accounts = self.active(room_id).policy, Accounts({account: known}, frozenset({account}))
        found: list[KeyPackage] = []
        for one in claimed.key_packages:
            body = MLSMessage.decode(one.key_package).body
            if not isinstance(body, KeyPackage):
                raise DecodeError("the server gave something else than a key package")
            if known.state.device(one.device) is None or one.device == device.identity.device:
                continue
            check_key_package(body, account, one.device, policy, accounts, device.world.now_s)
            found.append(body)
        if not found and account != device.identity.account:
            raise NotPossible("none of this person's devices can be added now: it must be online once first")
        packages[account] = found

    async def tend(self, saved: SavedIntent) -> None:
        """Commit what the room waits for."""
        room_id = RoomId(saved.lane)
        await self._tended(room_id)
        async with self._device.turn:
            await self._device.save((IntentDone(saved.intent_id),))

    async def _tended(self, room_id: RoomId) -> None:
        room = self._device.store.room(room_id)
        if room is not None and room.standing in ("lost", "restored"):
            await self.rejoin(room_id)

        def wanted(room: Room) -> Wanted | None:
            stale = stale_leaves(room, self._device.store.accounts)
            due = room.leaf_is_due(self._device.world.now_ms())
            if not stale and not room.group.pending_proposals and not due:
                return None
            return Wanted(leave=self._may_drop(room), remove_leaves=stale)

        await self.committed(room_id, wanted)

    def _may_drop(self, room: Room) -> frozenset[AccountId]:
        """Return who has asked to leave, where this device's account may take people off the list."""
        own = self._device.identity.account
        return leavers(room) - {own} if room.policy.role(own) >= Role.ADMIN and not room.direct else frozenset()

    async def leave(self, saved: SavedIntent) -> None:
        """Propose to take this account's devices out; whoever is there commits it. The last owner hands over first."""
        device, room_id = self._device, RoomId(saved.lane)
        account = device.identity.account

        def handed_over(room: Room) -> Wanted | None:
            owners = [one for one, role in room.policy.participants.items() if role is Role.OWNER]
            heirs = [one for one, _ in room.devices().values() if one != account]
            return Wanted(roles={heirs[0]: Role.OWNER}) if owners == [account] and heirs and not room.direct else None

        requests = saved.request
        while True:
            if not requests:
                await self.committed(room_id, handed_over)
                async with device.turn:
                    room = self.active(room_id)
                    after, proposals = propose_leaving(
                        room, account, random=device.world.random, now_s=device.world.now_s
                    )
                    made = [
                        SubmitProposal(room_id, device.world.random(16), room.group.epoch, one) for one in proposals
                    ]
                    requests = msgspec.msgpack.encode(made)
                    await device.save((RoomSaved(after), IntentSealed(saved.intent_id, requests)))
            if await self._propose_all(room_id, msgspec.msgpack.decode(requests, type=list[SubmitProposal])):
                break
            requests = b""
        room = device.store.room(room_id)
        alone = room is not None and {one for one, _ in room.devices().values()} == {account}
        gone = (RoomForgotten(room_id), Tell(RoomLeft(room_id, room.seq, account))) if room and alone else ()
        async with device.turn:
            await device.save((IntentDone(saved.intent_id), *gone))

    async def _propose_all(self, room_id: RoomId, requests: Sequence[SubmitProposal]) -> bool:
        for request in requests:
            try:
                await self._device.transport.call("submit_proposal", request, Submitted)
            except Problem as problem:
                if problem.slug != "wrong-epoch":
                    raise
                await self.catch_up(room_id, problem.body.epoch, request.epoch)
                return self._device.store.room(room_id) is None
        return True

    def _has_read(self, room_id: RoomId, seq: int) -> bool:
        room = self._device.store.room(room_id)
        return room is None or room.standing != "active" or room.seq >= seq

    async def join_from_outside(self, saved: SavedIntent, intent: JoinFromOutside) -> None:
        """Join a room that this account takes part in, or come back to one that this device has lost."""
        device, room_id = self._device, RoomId(saved.lane)
        await device.until(lambda: self._has_read(room_id, intent.after), _READ_WITHIN_S)
        room = device.store.room(room_id)
        try:
            if intent.restored and room is not None and room.standing == "active":
                await self.compare_past(room)
            room = device.store.room(room_id)
            if room is None or room.standing != "active":
                await self.rejoin(room_id)
        except Problem as problem:
            if problem.slug in ("not-found", "not-allowed"):
                gone = (RoomForgotten(room_id), Tell(RoomLeft(room_id, 0)))
                async with device.turn:
                    await device.save(gone if room is not None else ())
            raise
        async with device.turn:
            await device.save((IntentDone(saved.intent_id),))
