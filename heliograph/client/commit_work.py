r"""The way of a commit: built, saved, sent, and in force when the stream brings it back; or from outside, in one reply.

```
wanted? --build--> pending (saved) --submit--> accepted: the stream brings it, the pending room comes into force
   ^                                   \-> wrong-epoch: the stream brings the winner, pending is dropped --+
   +------------------------------------------------------------------------------------------------------+
```

A room that can be followed no more is joined again by an external commit, which needs nothing of the lost state.
"""

import asyncio
import hashlib
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

import msgspec

from heliograph.client.changes import (
    AccountLearned,
    ChangeDropped,
    ChangePending,
    LaneUnsealed,
    RoomSaved,
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
)
from heliograph.client.room_commits import Wanted, build_commit, leaving_uris
from heliograph.client.room_entries import take_up
from heliograph.client.step import Facts
from heliograph.client.transport import Backoff
from heliograph.mls.errors import DecodeError
from heliograph.mls.framing import MLSMessage
from heliograph.mls.group_info import GroupInfo
from heliograph.mls.suite import HPKECiphertext, cipher_suite
from heliograph.wire.ids import AccountId, RoomId, TopicId, room_uri
from heliograph.wire.problems import Problem
from heliograph.wire.rooms import (
    GetGroupInfo,
    GetTree,
    SealedGroupInfo,
    SubmitCommit,
    Submitted,
    TreeReply,
)

_GROUP_INFO_LABEL: Final = "HG1 GroupInfo"
_FOLLOWED_WITHIN_S: Final = 30.0
_LEAVE_SEEN_WITHIN_S: Final = 2.0
_RESTORED_WITHIN_S: Final = 5.0
MAX_REJOINS: Final = 3
REJOIN_SPAN_MS: Final = 3_600_000


class CommitWork:
    """Commits to the rooms of one device. `subscribe` asks the open stream for a topic after an entry."""

    def __init__(self, device: Device, subscribe: Callable[[TopicId, int], None]) -> None:
        self._device = device
        self._subscribe = subscribe
        self._rejoined_at_ms: dict[RoomId, list[int]] = {}

    def active(self, room_id: RoomId) -> Room:
        room = self._device.store.room(room_id)
        if room is None or room.standing == "left":
            raise NotPossible("this device is not in the room")
        return room

    async def committed(self, room_id: RoomId, wanted: Callable[[Room], Wanted | None]) -> None:
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
                    room = self.active(room_id)
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
            if problem.slug == "invalid-proposal" and await self._leave_came_between(room_id, pending):
                return False
            raise
        device.world.reach("commit accepted")
        if pending.external:
            await self._take_up(room_id, pending, reply.seq)
        elif not await device.until(lambda: device.store.pending(room_id) is not pending, _FOLLOWED_WITHIN_S):
            raise Problem("overloaded", "the stream has not brought the commit yet")
        return True

    async def _leave_came_between(self, room_id: RoomId, pending: PendingChange) -> bool:
        """Tell whether somebody proposed to leave while a commit was built that leaves them in."""
        if pending.external:
            return False
        device, kept = self._device, set(pending.room.uris())

        def came() -> bool:
            room = device.store.room(room_id)
            return room is None or room.group.epoch > pending.epoch or bool(leaving_uris(room) & kept)

        return await device.until(came, _LEAVE_SEEN_WITHIN_S)

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
            await self.catch_up(room_id, epoch, pending.epoch)

    async def catch_up(self, room_id: RoomId, epoch: int | None, behind: int) -> None:
        """Wait until the stream has brought the room past `behind`; where it does not, join again from outside."""
        device = self._device
        least = behind + 1 if epoch is None else max(epoch, behind + 1)

        def there() -> bool:
            room = device.store.room(room_id)
            return room is None or room.standing != "active" or room.group.epoch >= least

        if not await device.until(there, _FOLLOWED_WITHIN_S):
            await self.rejoin(room_id)

    async def rejoin(self, room_id: RoomId) -> None:
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

    async def compare_past(self, room: Room) -> None:
        """After a restore: a room that does not come to the epoch that the server knows is joined again."""
        device = self._device
        group_info, _ = await self._fetch_group_info(room.room)
        body = MLSMessage.decode(group_info).body
        if not isinstance(body, GroupInfo):
            raise DecodeError("the server gave something else than a GroupInfo")
        theirs = body.group_context

        def there() -> bool:
            now = device.store.room(room.room)
            return now is None or now.standing != "active" or now.group.epoch >= theirs.epoch

        arrived = await device.until(there, _RESTORED_WITHIN_S)
        async with device.turn:
            now = device.store.room(room.room)
            if now is None or now.standing != "active":
                return
            ours = now.group.group_context
            followed = ours.epoch > theirs.epoch and ours.epoch > room.group.epoch
            same = ours.confirmed_transcript_hash == theirs.confirmed_transcript_hash
            if not followed and not (arrived and same):
                lost = RoomSaved(replace(now, standing="restored"))
                await device.save((lost, ChangeDropped(room.room), LaneUnsealed(room.room)))
