"""What every part of the client's face stands on: the open device and its two loops."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from heliograph.client.changes import Change, IntentAdded
from heliograph.client.device import Device
from heliograph.client.identity import Identity
from heliograph.client.outbox import Answer, Outbox
from heliograph.client.room_work import RoomWork
from heliograph.client.store import Store
from heliograph.client.sync import Sync
from heliograph.wire.ids import AccountId, TopicId

Reply = TypeVar("Reply", bound=msgspec.Struct)


class Running:
    """An open device, its outbox and its sync."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._rooms = RoomWork(device, self._subscribe)
        self._outbox = Outbox(device, self._rooms)
        self._sync = Sync(device, self._outbox.kick)

    @property
    def identity(self) -> Identity:
        """Who this device is."""
        return self._device.identity

    @property
    def _store(self) -> Store:
        return self._device.store

    def _subscribe(self, topic: TopicId, after: int) -> None:
        self._sync.subscribe(topic, after)

    async def _call(self, name: str, request: msgspec.Struct, reply: type[Reply]) -> Reply:
        return await self._device.transport.call(name, request, reply)

    async def _promise(self, *changes: Change) -> list[Answer]:
        """Save changes among which are intents, and return what will hold their answers."""
        async with self._device.turn:
            answers = [self._outbox.expect(intent_id) for intent_id in await self._device.save(changes)]
        self._outbox.kick(change.lane for change in changes if isinstance(change, IntentAdded))
        return answers

    async def _done(self, answers: Sequence[Answer]) -> list[msgspec.Struct | None]:
        """Wait for intents in order; the first refusal is raised. Giving up waiting does not end an intent."""
        return [await asyncio.shield(answer) for answer in answers]

    async def _resolve_all(self, people: Sequence[str]) -> list[AccountId]:
        return [await self._device.resolve(one) for one in people]

    async def _tokens(self, contact_tokens: Mapping[str, str]) -> dict[str, str]:
        return {await self._device.resolve(who): token for who, token in contact_tokens.items()}
