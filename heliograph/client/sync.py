"""Keeping up: the stream's frames go through the engine into the store, then they are told, then acknowledged.

```
connect -> hello with cursors -> frames: entries -> engine -> one transaction a frame -> tell -> acknowledge
   ^                                        \\-> Missing: chains or a tree are fetched, the entry is applied again
   +------- full jitter <------ broken
```

Entries of a topic are taken in order, n+1 after n. What comes twice is passed over; what comes too early (a topic that
is being subscribed to anew) is left, for it comes again.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from heliograph.client import engine
from heliograph.client.changes import (
    Change,
    ChangeDropped,
    ChannelUnfollowed,
    CreateGroup,
    CursorDropped,
    CursorMoved,
    IntentAdded,
    JoinFromOutside,
    LaneUnsealed,
    MetaSaved,
    RoomForgotten,
    RoomSaved,
    Tell,
)
from heliograph.client.device import Device, finished
from heliograph.client.errors import Unreachable
from heliograph.client.identity import CredentialError, KnownAccount
from heliograph.client.step import Facts, JoinOwnRooms, Missing, OfferKeyPackages, Step, Subscribe, Wish
from heliograph.client.told import ChannelEnded, EntriesMissed, RoomLeft
from heliograph.client.transport import Backoff, Stream
from heliograph.wire import events as e
from heliograph.wire.accounts import Empty
from heliograph.wire.ids import AccountId, ChannelId, RoomId, TopicId
from heliograph.wire.problems import Problem
from heliograph.wire.rooms import GetTree, Rooms, TreeReply

FINAL: Final = frozenset({"login-failed", "account-restricted"})
MAX_WISHES: Final = 256
JOIN_AFTER_S: Final = 30.0
PING_EVERY_S: Final = 20.0
SLEPT_AFTER_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class _Fetched:
    """What was fetched for one entry."""

    accounts: Mapping[AccountId, KnownAccount] = field(default_factory=dict[AccountId, KnownAccount])
    asked: frozenset[AccountId] = frozenset()
    trees: Mapping[bytes, bytes] = field(default_factory=dict[bytes, bytes])


@dataclass(slots=True)
class _Taken:
    """How far a run of entries was taken, and what it left to do."""

    count: int = 0
    last: int = 0
    missing: Missing | None = None
    wishes: list[Wish] = field(default_factory=list[Wish])
    lanes: set[str] = field(default_factory=set[str])


class Sync:
    """The loop that keeps a device's store up with its topics."""

    def __init__(self, device: Device, kick: Callable[[set[str]], None]) -> None:
        self._device = device
        self._kick = kick
        self._stream: Stream | None = None
        self._live: set[TopicId] = set()
        self._awaited: set[TopicId] = set()
        self._heard_at_ms = 0
        self._slept = False
        self._wishes: asyncio.Queue[Wish] = asyncio.Queue(MAX_WISHES)
        self._wishes_open = 0
        self.caught_up = False

    @property
    def settled(self) -> bool:
        """Tell whether everything is kept here, and what that asked for (key packages to offer, rooms to join) done."""
        return self.caught_up and not self._wishes_open

    async def run(self) -> None:
        """Keep up until cancelled; returns when the server has put this device out."""
        backoff = Backoff(self._device.world.random)
        async with asyncio.TaskGroup() as tasks:
            helpers = [tasks.create_task(self._work_wishes()), tasks.create_task(self._ping())]
            while self._device.ended is None:
                try:
                    await self._follow(backoff)
                except Problem as problem:
                    if problem.slug in FINAL:
                        self._device.ended = problem
                        self._device.changed()
                        break
                    await asyncio.sleep(backoff.next_s(problem.body.retry_after_s or 0))
                except Unreachable:
                    await asyncio.sleep(backoff.next_s())
                except CredentialError as error:
                    self._device.ended = Problem("login-failed", str(error))
                    self._device.changed()
                    break
            for helper in helpers:
                helper.cancel()

    async def _follow(self, backoff: Backoff) -> None:
        """Follow one socket until it breaks."""
        device = self._device
        await device.refresh_server()
        incarnation = (device.store.meta("incarnation") or b"").decode()
        cursors = dict(device.store.cursors)
        self._live, self._awaited = set(), set(cursors)
        async with device.transport.stream(incarnation, cursors) as stream:
            self._stream = stream
            self._heard_at_ms, self._slept = device.world.now_ms(), False
            try:
                await self._enter(stream, incarnation)
                while True:
                    await self._take(stream, await stream.receive())
                    backoff.reset()
            finally:
                self._stream = None
                self.caught_up = device.connected = False
                device.changed()

    async def _enter(self, stream: Stream, incarnation: str) -> None:
        ready = stream.ready
        if ready is not None and ready.incarnation != incarnation and not incarnation:
            async with self._device.turn:
                await self._device.save((MetaSaved("incarnation", ready.incarnation.encode()),))
        self._device.connected = ready is not None and ready.incarnation == (incarnation or ready.incarnation)
        self._device.changed()
        self._awaited.add(TopicId(self._device.identity.device))
        self._wish(OfferKeyPackages(last_resort=False))
        self._wish(JoinOwnRooms())

    # --------------------------------------------------------------------------------------------------- frames

    async def _take(self, stream: Stream, frame: e.ReceivedFrame) -> None:
        self._hear(frame)
        match frame:
            case e.ReceivedEntries():
                await self._take_entries(stream, TopicId(frame.topic), frame.items)
            case e.Head():
                await self._take_head(TopicId(frame.topic), frame.seq)
            case e.Gap():
                await self._take_gap(stream, TopicId(frame.topic), frame)
            case e.Ended():
                await self._take_end(TopicId(frame.topic), Problem.received(frame.problem))
            case e.Resync():
                await self._take_resync(frame)
            case _:
                return

    def _hear(self, frame: e.ReceivedFrame) -> None:
        """After a long silence (the machine slept) what comes is backlog, until the answer to a fresh ping."""
        now_ms = self._device.world.now_ms()
        if now_ms - self._heard_at_ms > SLEPT_AFTER_MS:
            self._slept = True
        if isinstance(frame, e.Pong):
            self._slept = False
        self._heard_at_ms = now_ms

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(PING_EVERY_S)
            if self._stream is not None:
                with suppress(Unreachable):
                    await self._stream.send(e.Ping())

    async def _take_entries(self, stream: Stream, topic: TopicId, items: Sequence[e.ReadEntry]) -> None:
        device, waiting, fetched = self._device, list(items), _Fetched()
        if topic in device.unfollowed:
            return
        if topic not in device.store.cursors and topic.startswith("c") and waiting:
            async with device.turn:
                await device.save((CursorMoved(topic, waiting[0].seq - 1),))
        while waiting:
            async with device.turn:
                taken = await finished(asyncio.to_thread(self._apply, topic, tuple(waiting), fetched))
                device.changed()
            for wish in taken.wishes:
                self._wish(wish)
            self._kick(taken.lanes)
            if taken.last and topic in device.store.cursors and not topic.startswith("c"):
                device.world.reach("entries saved")
                await stream.send(e.Ack(topic, taken.last))
            waiting = waiting[taken.count :]
            if taken.missing is None:
                break
            fetched = await self._fetch(taken.missing, _Fetched() if taken.count else fetched)

    def _apply(self, topic: TopicId, items: Sequence[e.ReadEntry], fetched: _Fetched) -> _Taken:
        """Apply entries in one transaction, up to the first that needs something fetched."""
        store, device, taken = self._device.store, self._device, _Taken()
        facts = Facts(
            device.identity,
            device.server.hub_signature_key,
            device.world.now_ms(),
            topic in self._live and not self._slept,
            fetched.accounts,
            fetched.asked,
            fetched.trees,
        )
        with store.together():
            for entry in items:
                cursor = store.cursors.get(topic, 0)
                if entry.seq > cursor + 1 and (topic in store.cursors or not topic.startswith("r")):
                    taken.wishes.append(Subscribe(topic, cursor))
                    return taken
                if entry.seq > cursor:
                    step = engine.apply(store, facts, topic, entry.seq, entry.event)
                    if isinstance(step, Missing):
                        taken.missing = step
                        return taken
                    self._keep(step, taken)
                    facts = replace(facts, fetched={}, asked=frozenset(), trees={})
                taken.count += 1
                taken.last = entry.seq
        return taken

    def _keep(self, step: Step, taken: _Taken) -> None:
        self._device.store.save(step.changes)
        taken.wishes += step.wishes
        taken.lanes |= {change.lane for change in step.changes if isinstance(change, IntentAdded)}

    async def _fetch(self, missing: Missing, before: _Fetched) -> _Fetched:
        """Fetch what an entry needs; what the server does not give counts as asked for."""
        device = self._device
        fetched = replace(before)
        if missing.accounts:
            found = await device.fetch_accounts(missing.accounts)
            fetched = replace(fetched, accounts={**fetched.accounts, **found}, asked=fetched.asked | missing.accounts)
        if missing.tree is not None:
            room, tree_hash = missing.tree
            try:
                reply = await device.transport.call("get_tree", GetTree(room, tree_hash), TreeReply)
                tree = reply.tree
            except Problem as problem:
                if problem.slug not in ("not-found", "not-allowed"):
                    raise
                tree = b""
            fetched = replace(fetched, trees={**fetched.trees, tree_hash: tree})
        return fetched

    async def _take_head(self, topic: TopicId, seq: int) -> None:
        device = self._device
        if topic.startswith("c") and topic not in device.store.cursors and topic not in device.unfollowed:
            async with device.turn:
                await device.save((CursorMoved(topic, seq),))
        self._live.add(topic)
        self._awaited.discard(topic)
        self.caught_up = not self._awaited
        device.changed()

    async def _take_gap(self, stream: Stream, topic: TopicId, gap: e.Gap) -> None:
        device = self._device
        if topic in device.unfollowed or (topic not in device.store.cursors and topic.startswith("r")):
            return
        async with device.turn:
            cursor = device.store.cursors.get(topic, 0)
            if gap.last <= cursor:
                return
            step = engine.apply_gap(device.store, topic, max(gap.first, cursor + 1), gap.last, gap.why)
            await device.save(step.changes)
        if not topic.startswith("c"):
            await stream.send(e.Ack(topic, gap.last))

    async def _take_end(self, topic: TopicId, problem: Problem) -> None:
        device = self._device
        changes: list[Change] = []
        if topic.startswith("c"):
            changes += [
                CursorDropped(topic),
                ChannelUnfollowed(ChannelId(topic)),
                Tell(ChannelEnded(ChannelId(topic), problem.body)),
            ]
        elif topic.startswith("r"):
            room = device.store.room(RoomId(topic))
            if room is not None and room.seq == 0 and problem.slug == "not-found":
                self._await_creation(topic)
            elif room is not None and problem.slug in ("not-allowed", "not-found"):
                changes += [RoomForgotten(room.room), Tell(RoomLeft(room.room, room.seq))]
        async with device.turn:
            await device.save(changes)
        self._awaited.discard(topic)
        self.caught_up = not self._awaited
        device.changed()

    def _await_creation(self, topic: TopicId) -> None:
        """A room made here, of which the server had not heard when this stream began: creating it subscribes to it,
        unless that happened before the stream was open.
        """
        intents = self._device.store.intents()
        created = all(saved.lane != topic or not isinstance(saved.intent, CreateGroup) for saved in intents)
        if created and topic in self._awaited:
            self._wish(Subscribe(topic, 0))

    async def _take_resync(self, frame: e.Resync) -> None:
        """The server lost its newest entries: step back to its heads, and join anew where the epochs are gone."""
        device = self._device
        changes: list[Change] = [MetaSaved("incarnation", frame.incarnation.encode())]
        lanes: set[str] = set()
        restored = (device.store.meta("incarnation") or b"").decode() != frame.incarnation
        for topic, cursor in device.store.cursors.items():
            head = frame.heads.get(topic, 0 if restored else cursor)
            if cursor <= head:
                if restored and topic.startswith("r"):
                    changes.append(IntentAdded(topic, JoinFromOutside(restored=True)))
                    lanes.add(topic)
                continue
            changes.append(Tell(EntriesMissed(topic, head + 1, cursor, "the server was restored from a backup")))
            room = device.store.room(RoomId(topic)) if topic.startswith("r") else None
            if room is None:
                changes.append(CursorMoved(topic, head))
                continue
            changes.append(RoomSaved(replace(room, seq=head, standing="restored")))
            changes += [ChangeDropped(room.room), LaneUnsealed(topic), IntentAdded(topic, JoinFromOutside())]
            lanes.add(topic)
        async with device.turn:
            await device.save(changes)
            device.connected = True
        device.changed()
        self._kick(lanes)

    # ---------------------------------------------------------------------------------------------------- wishes

    def subscribe(self, topic: TopicId, after: int) -> None:
        """Ask the open stream for a topic after an entry; where none is open, the next one will ask."""
        self._wish(Subscribe(topic, after))

    def _wish(self, wish: Wish) -> None:
        if not self._wishes.full():
            self._wishes.put_nowait(wish)
            self._wishes_open += 1

    async def _work_wishes(self) -> None:
        while True:
            wish = await self._wishes.get()
            try:
                match wish:
                    case Subscribe(topic, after):
                        await self._resubscribe(topic, after)
                    case OfferKeyPackages(last_resort):
                        await self._device.offer_key_packages(last_resort=last_resort)
                    case JoinOwnRooms():
                        await self._join_own_rooms()
            except (Unreachable, Problem):
                continue
            finally:
                self._wishes_open -= 1
                self._device.changed()

    async def _join_own_rooms(self) -> None:
        """Join from outside where the account takes part and no Welcome has come: it was added before this device
        had key packages to offer, or before this device was.
        """
        device = self._device
        if not await device.until(lambda: self.caught_up, JOIN_AFTER_S):
            return
        found = await device.transport.call("list_rooms", Empty(), Rooms)
        async with device.turn:
            known = {room.room for room in device.store.rooms()} | device.store.left_rooms()
            waiting = {saved.lane for saved in device.store.intents()}
            joins = [
                IntentAdded(one.room, JoinFromOutside())
                for one in found.rooms
                if one.room not in known and one.room not in waiting
            ]
            await device.save(joins)
        self._kick({join.lane for join in joins})

    async def _resubscribe(self, topic: TopicId, after: int) -> None:
        """Leave and enter anew: the server may carry the topic already, from another place."""
        stream = self._stream
        if stream is not None:
            self._live.discard(topic)
            await stream.send(e.Unsubscribe(topic))
            await stream.send(e.Subscribe(topic, after))
