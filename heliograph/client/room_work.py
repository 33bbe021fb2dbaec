"""How each intent about a room is done: the steps between the store and the server, each safe to stop at.

A commit is built on what the store holds, saved as pending, and sent; it comes into force when the stream brings it
back, so that the room's entries are worked in their own order. When another commit has won the epoch, the stream
brings that one, the pending change is dropped, and what was wanted is compared with the new state and built again.
"""

import asyncio
import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from heliograph.client.changes import (
    AccountLearned,
    Act,
    ChangeDropped,
    ChangeMembers,
    ChangePending,
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
    TendRoom,
)
from heliograph.client.device import Device
from heliograph.client.errors import NotPossible
from heliograph.client.identity import KnownAccount
from heliograph.client.room import (
    SUITE_ID,
    Accounts,
    MissingAccounts,
    PendingChange,
    Room,
    join_from_outside,
    seal_message,
    uri_of,
)
from heliograph.client.room_commits import (
    Wanted,
    build_commit,
    check_key_package,
    leavers,
    propose_leaving,
    stale_leaves,
)
from heliograph.client.room_entries import take_up
from heliograph.client.step import Facts
from heliograph.client.store import SavedIntent
from heliograph.client.told import RoomLeft
from heliograph.client.transport import Backoff
from heliograph.content.compose import Composer, RoomProfile
from heliograph.content.framing import decode_application_data
from heliograph.content.franking import Envelope, Franked, frank_message, franking_tag
from heliograph.content.message import MimiContent
from heliograph.mls.errors import DecodeError
from heliograph.mls.framing import MLSMessage
from heliograph.mls.group_info import GroupInfo
from heliograph.mls.key_package import KeyPackage
from heliograph.mls.suite import HPKECiphertext, cipher_suite
from heliograph.wire.accounts import ClaimedKeyPackages, ClaimKeyPackages
from heliograph.wire.frank import encode_frank
from heliograph.wire.ids import AccountId, RoomId, TopicId, room_uri
from heliograph.wire.problems import Problem
from heliograph.wire.room_policy import Role
from heliograph.wire.rooms import (
    CreateRoom,
    GetGroupInfo,
    GetTree,
    RoomInfo,
    SealedGroupInfo,
    SubmitCommit,
    SubmitMessage,
    SubmitProposal,
    Submitted,
    TreeReply,
)

_GROUP_INFO_LABEL: Final = "HG1 GroupInfo"
_FOLLOWED_WITHIN_S: Final = 30.0
MAX_REJOINS: Final = 3
REJOIN_SPAN_MS: Final = 3_600_000
_OUTRUN: Final = ("wrong-epoch", "epoch-too-old")


class RoomWork:
    """Work on the rooms of one device. `subscribe` asks the open stream for a topic after an entry."""

    def __init__(self, device: Device, subscribe: Callable[[TopicId, int], None]) -> None:
        self._device = device
        self._subscribe = subscribe
        self._rejoined_at_ms: dict[RoomId, list[int]] = {}
        self._claimed: dict[int, dict[AccountId, list[KeyPackage]]] = {}

    # ------------------------------------------------------------------------------------------------- messages

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
        return bool(room.group.pending_proposals) or bool(stale_leaves(room, self._device.store.accounts))

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
                await self._catch_up(room_id, problem.body.epoch, submit.epoch)
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
            room = self._active(room_id)
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
            room = self._active(room_id)
            if not room.name:
                await self._device.save((IntentDone(saved.intent_id),))
                return
            content = self.composer(room_id).room_profile(RoomProfile(room.name, room.topic))
            message, _ = self.prepared(room_id, content, "profile", "")
            intent = IntentAdded(room_id, SendContent(message.message_id))
            await self._device.save((MessageSaved(message), intent, IntentDone(saved.intent_id)))

    # -------------------------------------------------------------------------------------- creating and members

    async def create(self, saved: SavedIntent, intent: CreateGroup) -> RoomInfo:
        """Tell the server of a new room."""
        room_id = RoomId(saved.lane)
        room = self._active(room_id)
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
            if self._lacks_devices(self._active(room_id), account):
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
            return Wanted(add=adding, join=joining, leave=leaving, remove_leaves=stale)

        await self._committed(room_id, wanted)
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
        policy, accounts = self._active(room_id).policy, Accounts({account: known}, frozenset({account}))
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

    async def tend(self, saved: SavedIntent, intent: TendRoom) -> None:
        """Commit what the room waits for."""
        room_id = RoomId(saved.lane)
        await self._tended(room_id, update_leaf=intent.update_leaf)
        async with self._device.turn:
            await self._device.save((IntentDone(saved.intent_id),))

    async def _tended(self, room_id: RoomId, *, update_leaf: bool = False) -> None:
        room = self._device.store.room(room_id)
        if room is not None and room.standing in ("lost", "restored"):
            await self._rejoin(room_id)

        def wanted(room: Room) -> Wanted | None:
            stale = stale_leaves(room, self._device.store.accounts)
            if not stale and not room.group.pending_proposals and not (update_leaf and room.needs_leaf):
                return None
            return Wanted(leave=self._may_drop(room), remove_leaves=stale)

        await self._committed(room_id, wanted)

    def _may_drop(self, room: Room) -> frozenset[AccountId]:
        """Return who has asked to leave, where this device's account may take people off the list."""
        is_admin = room.policy.role(self._device.identity.account) >= Role.ADMIN
        return leavers(room) if is_admin and not room.direct else frozenset()

    async def _committed(self, room_id: RoomId, wanted: Callable[[Room], Wanted | None]) -> None:
        """Build, save and send commits until the room is as wanted.

        Raises:
            Problem, MLSError: it cannot become so.
        """
        device = self._device
        backoff = Backoff(device.world.random, least_s=0.05, most_s=5)
        while True:
            pending = device.store.pending(room_id)
            if pending is None:
                async with device.turn:
                    room = self._active(room_id)
                    change = wanted(room)
                    if change is None:
                        return
                    pending = build_commit(room, change, now_s=device.world.now_s, random=device.world.random)
                    await device.save((ChangePending(pending),))
            device.world.reach("commit saved")
            if not await self._submit_pending(room_id, pending):
                await asyncio.sleep(backoff.next_s())

    async def _submit_pending(self, room_id: RoomId, pending: PendingChange) -> bool:
        """Send a pending commit and wait until the stream has decided; return False where another has won."""
        device = self._device
        request = SubmitCommit(
            room=room_id,
            key=hashlib.sha256(pending.commit).digest()[:16],
            epoch=pending.epoch,
            commit=pending.commit,
            group_info=pending.group_info,
            tree=pending.tree,
            welcome=pending.welcome,
        )
        try:
            reply = await device.transport.call("submit_commit", request, Submitted)
        except Problem as problem:
            if problem.slug == "wrong-epoch":
                await self._drop_outrun(room_id, pending, problem.body.epoch)
                return False
            if problem.slug not in ("too-many-requests", "overloaded", "internal-error", "storage-full"):
                await self._drop(room_id, pending)
            raise
        device.world.reach("commit accepted")
        if pending.external:
            await self._take_up(room_id, pending, reply.seq)
        elif not await device.until(lambda: device.store.pending(room_id) is not pending, _FOLLOWED_WITHIN_S):
            raise Problem("overloaded", "the stream has not brought the commit yet")
        return True

    async def _take_up(self, room_id: RoomId, pending: PendingChange, seq: int) -> None:
        """A joiner from outside does not read its own commit: the reply brings it into force."""
        device = self._device
        async with device.turn:
            if device.store.pending(room_id) is pending:
                step = take_up(self._facts(), device.store.room(room_id), pending, seq)
                await device.save(step.changes)
        self._subscribe(TopicId(room_id), seq)

    def _facts(self) -> Facts:
        device = self._device
        return Facts(device.identity, device.server.hub_signature_key, device.world.now_ms(), live=True)

    async def _drop(self, room_id: RoomId, pending: PendingChange) -> None:
        async with self._device.turn:
            if self._device.store.pending(room_id) is pending:
                await self._device.save((ChangeDropped(room_id),))

    async def _drop_outrun(self, room_id: RoomId, pending: PendingChange, epoch: int | None) -> None:
        """Another commit came first: wait for the stream to bring it, then build anew."""
        if pending.external:
            await self._drop(room_id, pending)
            return
        device = self._device
        if not await device.until(lambda: device.store.pending(room_id) is not pending, _FOLLOWED_WITHIN_S):
            await self._drop(room_id, pending)
            await self._catch_up(room_id, epoch, pending.epoch)

    async def _catch_up(self, room_id: RoomId, epoch: int | None, behind: int) -> None:
        """Wait until the stream has brought the room past `behind`; where it does not, join again from outside."""
        device = self._device
        least = behind + 1 if epoch is None else max(epoch, behind + 1)

        def there() -> bool:
            room = device.store.room(room_id)
            return room is None or room.standing != "active" or room.group.epoch >= least

        if not await device.until(there, _FOLLOWED_WITHIN_S):
            await self._rejoin(room_id)

    # ------------------------------------------------------------------------------------- leaving, and from outside

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
                await self._committed(room_id, handed_over)
                async with device.turn:
                    room = self._active(room_id)
                    after, proposals = propose_leaving(room, account, now_s=device.world.now_s)
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
                await self._catch_up(room_id, problem.body.epoch, request.epoch)
                return self._device.store.room(room_id) is None
        return True

    async def join_from_outside(self, saved: SavedIntent, intent: JoinFromOutside) -> None:
        """Join a room that this account takes part in, or come back to one that this device has lost."""
        device, room_id = self._device, RoomId(saved.lane)
        room = device.store.room(room_id)
        try:
            if intent.restored and room is not None and room.standing == "active":
                await self._compare_past(room)
            room = device.store.room(room_id)
            if room is None or room.standing != "active":
                await self._rejoin(room_id)
        except Problem as problem:
            if problem.slug in ("not-found", "not-allowed"):
                gone = (RoomForgotten(room_id), Tell(RoomLeft(room_id, 0)))
                async with device.turn:
                    await device.save(gone if room is not None else ())
            raise
        async with device.turn:
            await device.save((IntentDone(saved.intent_id),))

    async def _compare_past(self, room: Room) -> None:
        """After a restore: a room whose epoch is not the one that we know by that number is joined again."""
        group_info, _ = await self._fetch_group_info(room.room)
        body = MLSMessage.decode(group_info).body
        if not isinstance(body, GroupInfo):
            raise DecodeError("the server gave something else than a GroupInfo")
        theirs, ours = body.group_context, room.group.group_context
        same = theirs.confirmed_transcript_hash == ours.confirmed_transcript_hash
        if theirs.epoch > ours.epoch or (theirs.epoch == ours.epoch and same):
            return
        async with self._device.turn:
            now = self._device.store.room(room.room)
            if now is not None:
                await self._device.save((RoomSaved(replace(now, standing="restored")), ChangeDropped(room.room)))

    async def _rejoin(self, room_id: RoomId) -> None:
        device = self._device
        self._count_rejoin(room_id)
        backoff = Backoff(device.world.random, least_s=0.05, most_s=5)
        fetched: dict[AccountId, KnownAccount] = {}
        while True:
            pending = device.store.pending(room_id)
            if pending is None or not pending.external:
                pending = await self._build_join(room_id, fetched)
                async with device.turn:
                    await device.save((ChangePending(pending),))
            device.world.reach("join saved")
            if await self._submit_pending(room_id, pending):
                return
            await asyncio.sleep(backoff.next_s())

    def _count_rejoin(self, room_id: RoomId) -> None:
        """Stop coming back to a room whose commits cannot be followed: its owner starts a new one.

        Source: RFC 9420 §16.12.
        """
        now_ms = self._device.world.now_ms()
        recent = [at_ms for at_ms in self._rejoined_at_ms.get(room_id, []) if now_ms - at_ms < REJOIN_SPAN_MS]
        if len(recent) >= MAX_REJOINS:
            raise NotPossible("this room could not be followed several times within an hour: start a new one")
        self._rejoined_at_ms[room_id] = [*recent, now_ms]

    async def _fetch_group_info(self, room_id: RoomId) -> tuple[bytes, bytes]:
        """Return the room's present GroupInfo (an MLSMessage), which was sealed to us, and its tree's hash."""
        device, suite = self._device, cipher_suite(SUITE_ID)
        private, public = suite.derive_key_pair(device.world.random(32))
        sealed = await device.transport.call("get_group_info", GetGroupInfo(room_id, public), SealedGroupInfo)
        group_info = suite.decrypt_with_label(
            private,
            _GROUP_INFO_LABEL,
            room_uri(device.identity.domain, room_id).encode(),
            HPKECiphertext(sealed.kem_output, sealed.ciphertext),
        )
        return group_info, sealed.tree_hash

    async def _build_join(self, room_id: RoomId, fetched: dict[AccountId, KnownAccount]) -> PendingChange:
        device = self._device
        group_info, tree_hash = await self._fetch_group_info(room_id)
        tree = (await device.transport.call("get_tree", GetTree(room_id, tree_hash), TreeReply)).tree
        room = device.store.room(room_id)
        asked: frozenset[AccountId] = frozenset(fetched)
        while True:
            try:
                pending = join_from_outside(
                    device.identity,
                    room_id,
                    group_info,
                    tree,
                    franking_key=device.server.hub_signature_key,
                    accounts=Accounts({**device.store.accounts, **fetched}, asked),
                    least_epoch=0 if room is None or room.standing == "restored" else room.group.epoch,
                    now_s=device.world.now_s,
                    random=device.world.random,
                )
                return replace(pending, room=replace(pending.room, name=self._known_name(room_id)))
            except MissingAccounts as missing:
                fetched.update(await self._fetch(missing.accounts))
                asked |= missing.accounts

    def _known_name(self, room_id: RoomId) -> str:
        """The name that the granting device gave a room, until its members say it again."""
        saved = self._device.store.meta("room_names")
        return "" if saved is None else msgspec.msgpack.decode(saved, type=dict[str, str]).get(room_id, "")

    async def _fetch(self, accounts: Collection[AccountId]) -> dict[AccountId, KnownAccount]:
        device = self._device
        found = await device.fetch_accounts(accounts)
        async with device.turn:
            await device.save([AccountLearned(known) for known in found.values()])
        return found

    # ---------------------------------------------------------------------------------------------------- shared

    def _active(self, room_id: RoomId) -> Room:
        room = self._device.store.room(room_id)
        if room is None or room.standing == "left":
            raise NotPossible("this device is not in the room")
        return room
