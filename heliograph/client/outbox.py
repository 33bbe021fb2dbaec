"""Durable intents, done in order: what this device has promised to say to the server, until there is an answer.

```
caller --save--> outbox row --lane worker--> request made and saved --> network --> answer, row deleted
                                                   ^                       |
                                                   +---- no answer: the same bytes again, under the same key
```

An intent and everything that it needs (an advanced ratchet, a message) are saved before the network hears of it, and
so is the exact request; after a crash the worker finds the row and goes on where it stood. A room is a lane: its
intents are done one after the other. Lanes do not wait for each other.

Nothing goes out before the stream has said that the server is the one whose past we know: a server that was restored
from a backup would take a message for an epoch that only bears the same number.

What the server refuses for good ends the intent; what it cannot do now (no network, too many requests, an overloaded
server) is tried again, with full jitter.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

import msgspec

from heliograph.client.changes import (
    CallOnce,
    Change,
    ChangeMembers,
    CreateGroup,
    IntentDone,
    JoinFromOutside,
    LeaveRoom,
    MessageRefused,
    NameRoom,
    SendContent,
    TendRoom,
)
from heliograph.client.device import Device
from heliograph.client.errors import ClientError, Unreachable
from heliograph.client.room_work import RoomWork
from heliograph.client.store import SavedIntent
from heliograph.client.transport import Backoff
from heliograph.mls.errors import MLSError
from heliograph.wire.ids import RoomId
from heliograph.wire.operations import OPERATIONS
from heliograph.wire.problems import Problem

RETRIED: Final = frozenset(
    {
        "too-many-requests",
        "overloaded",
        "internal-error",
        "storage-full",
        "not-logged-in",
        "incarnation-changed",
    }
)
MAX_LANES_AT_ONCE: Final = 64

Answer = asyncio.Future[msgspec.Struct | None]
"""The reply to an intent, or why it was refused."""


class Outbox:
    """The workers of all lanes."""

    def __init__(self, device: Device, rooms: RoomWork) -> None:
        self._device = device
        self._rooms = rooms
        self._waiting: dict[int, Answer] = {}
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._kicked: set[str] = set()
        self._kick = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled; begins with what an earlier run has left."""
        self.kick(saved.lane for saved in self._device.store.intents())
        gate = asyncio.Semaphore(MAX_LANES_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._kick.wait()
                self._kick.clear()
                for lane in self._kicked - self._lanes.keys():
                    self._lanes[lane] = tasks.create_task(self._work(lane, gate))
                self._kicked.clear()

    def kick(self, lanes: Iterable[str]) -> None:
        """Say that lanes have something to do."""
        self._kicked.update(lanes)
        self._kick.set()

    def expect(self, intent_id: int) -> "Answer":
        """Return what will hold the answer to an intent; asked for before its lane is kicked, it cannot be missed."""
        return self._waiting.setdefault(intent_id, asyncio.get_running_loop().create_future())

    def abandon(self, error: Exception) -> None:
        """Let no one wait any longer: the workers have ended."""
        for answer in self._waiting.values():
            _settle(answer, error)
        self._waiting.clear()

    async def _work(self, lane: str, gate: asyncio.Semaphore) -> None:
        backoff = Backoff(self._device.world.random)
        try:
            while self._device.store.next_intent(lane) is not None:
                await self._device.until(lambda: self._device.connected or self._device.ended is not None)
                if self._device.ended is not None:
                    self.abandon(self._device.ended)
                    return
                async with gate:
                    # Asked for only now: while this waited, a restored server may have put another intent first.
                    saved = self._device.store.next_intent(lane)
                    wait_s = 0.0 if saved is None else await self._try(saved, backoff)
                if wait_s:
                    await asyncio.sleep(wait_s)
        finally:
            del self._lanes[lane]

    async def _try(self, saved: SavedIntent, backoff: Backoff) -> float:
        """Try an intent once; return how long to wait before the next try, 0 where it is over."""
        try:
            reply = await self._do(saved)
        except Problem as problem:
            if problem.slug in RETRIED:
                return backoff.next_s(problem.body.retry_after_s or 0)
            await self._refuse(saved, problem)
        except Unreachable:
            return backoff.next_s()
        except (ClientError, MLSError) as error:
            await self._refuse(saved, error)
        else:
            _settle(self._waiting.pop(saved.intent_id, None), reply)
        backoff.reset()
        return 0

    async def _refuse(self, saved: SavedIntent, error: Exception) -> None:
        changes: list[Change] = [IntentDone(saved.intent_id)]
        if isinstance(saved.intent, SendContent):
            changes.append(MessageRefused(RoomId(saved.lane), saved.intent.message_id))
        async with self._device.turn:
            await self._device.save(changes)
        _settle(self._waiting.pop(saved.intent_id, None), error)

    async def _do(self, saved: SavedIntent) -> msgspec.Struct | None:
        rooms, intent = self._rooms, saved.intent
        match intent:
            case SendContent():
                return await rooms.send(saved, intent)
            case CreateGroup():
                return await rooms.create(saved, intent)
            case ChangeMembers():
                return await rooms.change_members(saved, intent)
            case TendRoom():
                return await rooms.tend(saved)
            case LeaveRoom():
                return await rooms.leave(saved)
            case JoinFromOutside():
                return await rooms.join_from_outside(saved, intent)
            case NameRoom():
                return await rooms.name_again(saved)
            case CallOnce():
                return await self._call(saved, intent)

    async def _call(self, saved: SavedIntent, intent: CallOnce) -> msgspec.Struct:
        operation = OPERATIONS[intent.operation]
        request = msgspec.msgpack.decode(intent.request, type=operation.request)
        reply = await self._device.transport.call(operation.name, request, operation.reply)
        async with self._device.turn:
            await self._device.save((IntentDone(saved.intent_id),))
        return reply


def _settle(answer: Answer | None, outcome: msgspec.Struct | Exception | None) -> None:
    if answer is None or answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
        answer.exception()  # whoever does not wait for the answer has not forgotten to look
    else:
        answer.set_result(outcome)
