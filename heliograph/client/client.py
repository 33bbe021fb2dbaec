"""The SDK's face: one device of one account.

```python
client, recovery_code = await Client.register(home, "https://example.org", "alice")
async with client:
    room = await client.create_room("Harbour", ["bob"])
    await client.send(room, "The light is on.")
    async for told in client.receive():
        ...
```

`async with` starts two loops: the outbox, which does what this device has promised, and the sync, which keeps its
store up with the server. Everything survives the end of the process at any point; the next `Client.open` goes on.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from heliograph.client import linking
from heliograph.client.changes import AccountLearned, Change, IntentAdded, MetaSaved, TendRoom
from heliograph.client.device import Device, World, first_of
from heliograph.client.errors import NotPossible, StoreMissing
from heliograph.client.hidden import Hidden
from heliograph.client.home import discard_home
from heliograph.client.identity import (
    SUITE_ID,
    Identity,
    KnownAccount,
    Recovery,
    begin_recovery,
    found_account,
    recover_account,
    without_device,
)
from heliograph.client.publishing import Publishing
from heliograph.client.reviewing import Reviewing
from heliograph.client.store import Store
from heliograph.client.talking import Talking
from heliograph.client.told import AnyTold
from heliograph.client.transport import Transport
from heliograph.client.visitor import Visitor
from heliograph.mls.suite import Secret, cipher_suite
from heliograph.wire.account_state import DeviceEntry, DeviceRole, SignedAccountState
from heliograph.wire.accounts import (
    LOGIN_LABEL,
    RECOVERY_PURPOSE,
    AccountChain,
    AccountInfo,
    Challenge,
    CreateChallenge,
    Empty,
    PutAccountState,
    RecoverChain,
    Register,
    ResolvedHandle,
    ResolveHandle,
    ServerInfo,
    login_content,
)
from heliograph.wire.ids import AccountId, DeviceId, Handle
from heliograph.wire.problems import Problem

_TOLD_AT_ONCE: Final = 200
_STOPS_WITHIN_S: Final = 5.0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _pass_by(step: str) -> None:
    del step


DEFAULT_WORLD: Final = World(_now_ms, secrets.token_bytes, _pass_by)


class _Founding(Hidden, frozen=True):
    """A registration that the server may or may not have heard of yet."""

    server_url: str
    domain: str
    handle: str
    account: str
    device: str
    device_private_key: bytes
    account_private_key: bytes
    genesis: bytes
    recovery_code: str


class _Prepared(Hidden, frozen=True):
    """A device that waits for its grant."""

    server_url: str
    request: str
    device_private_key: bytes
    sealing_private_key: bytes


class Client(Talking, Publishing, Reviewing):
    """A registered device. Make one with `register`, `open` or `finish_device`, and use it in `async with`."""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self._stack = AsyncExitStack()
        self._loops: asyncio.Task[None] | None = None

    # ---------------------------------------------------------------------------------------- beginnings

    @classmethod
    async def open(cls, home: Path, *, world: World = DEFAULT_WORLD) -> Self:
        """Open a device's store.

        Raises:
            StoreMissing, StoreBusy, StoreDamaged: it cannot be opened.
            NotPossible: the device waits for its grant, or its registration was never answered.
        """
        store = await asyncio.to_thread(Store.open, home)
        try:
            return cls(Device.load(store, world))
        except BaseException:
            store.close()
            raise

    @classmethod
    async def register(
        cls,
        home: Path,
        server_url: str,
        handle: str,
        *,
        invitation: str | None = None,
        world: World = DEFAULT_WORLD,
    ) -> tuple[Self, str]:
        """Found an account and return its first device with the recovery code, which is to be shown once.

        Where an earlier try was never answered, this one goes on with the same keys.

        Raises:
            Problem: the server refused; nothing is left behind.
            Unreachable: there was no answer; call again.
        """
        async with Transport(server_url) as transport:
            server = await transport.call("get_server", Empty(), ServerInfo)
            store, founding = await asyncio.to_thread(_begin, home, transport.server_url, server, handle, world)
            try:
                request = Register(Handle(handle), founding.genesis, invitation)
                await transport.call("register", request, AccountInfo)
                world.reach("registered")
                await asyncio.to_thread(store.save, _founded(founding, server))
                return cls(Device.load(store, world)), founding.recovery_code
            except Problem:
                store.close()
                await asyncio.to_thread(discard_home, home)
                raise
            except BaseException:
                store.close()
                raise

    @classmethod
    async def prepare_device(
        cls, home: Path, server_url: str, account_or_handle: str, *, world: World = DEFAULT_WORLD
    ) -> str:
        """Make the keys of a new device of an account that exists, and return its request, which holds no secret."""
        async with Transport(server_url) as transport:
            account = await _find_account(transport, account_or_handle)
            prepared = linking.prepare_device(account, world.random)
            saved = _Prepared(
                transport.server_url,
                prepared.request.text(),
                bytes(prepared.device_private_key),
                bytes(prepared.sealing_private_key),
            )
        store = await asyncio.to_thread(Store.create, home)
        await asyncio.to_thread(store.save, (MetaSaved("prepared", msgspec.msgpack.encode(saved)),))
        store.close()
        return saved.request

    @classmethod
    async def finish_device(cls, home: Path, grant: str, *, world: World = DEFAULT_WORLD) -> Self:
        """Accept the grant: put the new state on the server, and return the device, which then joins its rooms.

        Raises:
            CredentialError: the grant is not for this device, or does not hold.
            Problem: `wrong-state`, the account has changed since: ask for another grant.
        """
        store = await asyncio.to_thread(Store.open, home)
        try:
            saved = store.meta("prepared")
            if saved is None:
                raise NotPossible("this device waits for no grant")
            prepared = msgspec.msgpack.decode(saved, type=_Prepared)
            granted = linking.accept_grant(
                grant,
                linking.PreparedDevice(
                    linking.DeviceRequest.read(prepared.request),
                    Secret(prepared.device_private_key),
                    Secret(prepared.sealing_private_key),
                ),
            )
            async with Transport(prepared.server_url) as transport:
                server = await transport.call("get_server", Empty(), ServerInfo)
                request = PutAccountState(granted.identity.account, granted.state)
                await transport.call("put_account_state", request, AccountChain)
            world.reach("state put")
            changes: list[Change] = [
                *Device.founding(prepared.server_url, granted.identity, server),
                AccountLearned(granted.known),
                MetaSaved("room_names", msgspec.msgpack.encode(granted.room_names)),
                MetaSaved("prepared", b""),
            ]
            await asyncio.to_thread(store.save, changes)
            return cls(Device.load(store, world))
        except BaseException:
            store.close()
            raise

    @classmethod
    async def recover(
        cls, home: Path, server_url: str, account_or_handle: str, recovery_code: str, *, world: World = DEFAULT_WORLD
    ) -> Self:
        """Bring an account back with its recovery code: all its devices are dropped, and this one is its first.

        The device joins the account's rooms by itself. The code stays valid.

        Raises:
            CredentialError: the code is mistyped, or not this account's.
            Problem: `login-failed`, there is no such account or it has another recovery key.
        """
        async with Transport(server_url) as transport:
            server = await transport.call("get_server", Empty(), ServerInfo)
            account = await _find_account(transport, account_or_handle)
            recovery = begin_recovery(account, recovery_code, world.random)
            chain = await _ask_for_chain(transport, server.domain, recovery)
            identity, known = recover_account(
                recovery, server.domain, chain.handle, chain.states, now_ms=world.now_ms(), random=world.random
            )
            store = await asyncio.to_thread(Store.create, home)
            try:
                request = PutAccountState(account, known.chain[-1].encode())
                await transport.call("put_account_state", request, AccountChain)
                changes = (*Device.founding(transport.server_url, identity, server), AccountLearned(known))
                await asyncio.to_thread(store.save, changes)
                return cls(Device.load(store, world))
            except BaseException:
                store.close()
                await asyncio.to_thread(discard_home, home)
                raise

    @staticmethod
    def anonymous(server_url: str) -> Visitor:
        """Return someone without an account, who reads and reports public things."""
        return Visitor(server_url)

    # ------------------------------------------------------------------------------------------- running

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._device.transport)
        await asyncio.to_thread(self._store.drop_oldest_told)
        self._loops = asyncio.ensure_future(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the loops and close the store; what is in the outbox stays there."""
        loops, self._loops = self._loops, None
        if loops is not None:
            loops.cancel()
            await asyncio.wait((loops,), timeout=_STOPS_WITHIN_S)
        await self._stack.aclose()
        await asyncio.to_thread(self._store.close)
        if loops is not None and loops.done() and not loops.cancelled() and (error := loops.exception()) is not None:
            raise error

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._outbox.run())
                tasks.create_task(self._sync.run())
        except BaseExceptionGroup as group:
            error = first_of(group)
            self._fail(error)
            raise error from None

    def _fail(self, error: BaseException) -> None:
        """A loop has died of a bug or of the disk: let no one wait for it."""
        self._device.ended = Problem("internal-error", f"the client has stopped: {type(error).__name__}: {error}")
        self._device.changed()
        self._outbox.abandon(self._device.ended)

    async def log_in(self) -> None:
        """Open a new session; done by itself whenever one is needed."""
        await self._device.log_in()

    async def log_out(self) -> None:
        """End this device's session on the server."""
        await self._call("end_session", Empty(), Empty)
        async with self._device.turn:
            await self._device.save((MetaSaved("session", b""),))
        self._device.transport.use_token(None)

    async def sync(self, within_s: float | None = 30) -> bool:
        """Wait until all that the server holds for this device is kept here, and key packages lie ready for others.

        Returns False when the time is over first.
        """
        return await self._device.until(lambda: self._sync.settled, within_s)

    async def flush(self, within_s: float | None = 30) -> bool:
        """Wait until the outbox is empty; False when time is over first."""
        return await self._device.until(lambda: not self._store.intents(), within_s)

    async def receive(self, *, follow: bool = True) -> AsyncGenerator[AnyTold]:
        """Yield what happens, oldest first, each once: also what came while nobody asked.

        A thing counts as told when the next one is asked for. Without `follow` it ends when nothing waits any more.

        Raises:
            Problem: the server has put this device out.
        """
        while True:
            waiting = self._store.waiting_told(_TOLD_AT_ONCE)
            for told_id, told in waiting:
                yield told
                self._store.taken((told_id,))
            if not waiting:
                if not follow:
                    return
                if self._device.ended is not None:
                    raise self._device.ended
                await self._device.until_change()

    # ------------------------------------------------------------------------------------------- devices

    def devices(self) -> list[DeviceEntry]:
        """Return the account's devices, as this device knows them."""
        known = self._store.accounts.get(self.identity.account)
        return [] if known is None else list(known.state.devices)

    async def add_device(self, request: str, role: DeviceRole = DeviceRole.FULL) -> str:
        """Sign a new device's request and return the grant, sealed to it.

        Raises:
            CredentialError: the request is not for this account, or this device may not add devices.
        """
        known = await self._device.learn(self.identity.account)
        names: dict[str, str] = {room.room: room.name for room in self._store.rooms() if room.name}
        world = self._device.world
        return linking.grant_device(
            request, role, self.identity, known, names, now_ms=world.now_ms(), random=world.random
        )

    async def remove_device(self, device: DeviceId) -> None:
        """Put a device out of the account, and out of every room that this device can reach."""
        identity, world = self.identity, self._device.world
        known = await self._device.learn(identity.account)
        state = without_device(known, identity, device, now_ms=world.now_ms(), random=world.random)
        await self._call("put_account_state", PutAccountState(identity.account, state), AccountChain)
        await self._device.learn(identity.account)
        await self.sync()  # it may have joined rooms of which this device has not heard yet
        rooms = [room.room for room in self._store.rooms() if (identity.account, device) in room.devices().values()]
        if rooms:
            await self._done(await self._promise(*(IntentAdded(room, TendRoom()) for room in rooms)))


async def _find_account(transport: Transport, account_or_handle: str) -> AccountId:
    if account_or_handle.startswith("a") and len(account_or_handle) == 53:
        return AccountId(account_or_handle)
    request = ResolveHandle(Handle(account_or_handle.removeprefix("@")))
    found = await transport.call("resolve_handle", request, ResolvedHandle)
    if found.account is None:
        raise NotPossible(f"{account_or_handle} is a channel, not a person")
    return found.account


async def _ask_for_chain(transport: Transport, domain: str, recovery: Recovery) -> AccountChain:
    """Show the recovery key instead of a session, and get the chain to build on."""
    request = CreateChallenge(recovery.account, recovery.device)
    given = await transport.call("create_challenge", request, Challenge)
    content = login_content(
        domain, given.challenge, recovery.account, recovery.device, given.expires_at_ms, RECOVERY_PURPOSE
    )
    signature = cipher_suite(SUITE_ID).sign_with_label(recovery.recovery_private_key, LOGIN_LABEL, content)
    asked = RecoverChain(recovery.account, recovery.device, given.challenge, signature)
    return await transport.call("recover_chain", asked, AccountChain)


def _begin(home: Path, server_url: str, server: ServerInfo, handle: str, world: World) -> tuple[Store, _Founding]:
    """Make or open the home of a registration: its keys are saved before the server hears of them."""
    try:
        store = Store.create(home)
    except StoreMissing:
        store = Store.open(home)
        saved = store.meta("founding")
        founding = None if saved is None else msgspec.msgpack.decode(saved, type=_Founding)
        if founding is None or (founding.server_url, founding.handle) != (server_url, handle):
            store.close()
            raise
        return store, founding
    founded = found_account(server.domain, Handle(handle), now_ms=world.now_ms(), random=world.random)
    identity = founded.identity
    founding = _Founding(
        server_url,
        server.domain,
        handle,
        identity.account,
        identity.device,
        bytes(identity.device_private_key),
        bytes(identity.account_private_key or b""),
        founded.genesis.encode(),
        founded.recovery_code,
    )
    store.save((MetaSaved("founding", msgspec.msgpack.encode(founding)),))
    return store, founding


def _founded(founding: _Founding, server: ServerInfo) -> tuple[Change, ...]:
    identity = Identity(
        founding.domain,
        AccountId(founding.account),
        Handle(founding.handle),
        DeviceId(founding.device),
        Secret(founding.device_private_key),
        Secret(founding.account_private_key),
    )
    genesis = SignedAccountState.decode(founding.genesis)
    return (
        *Device.founding(founding.server_url, identity, server),
        AccountLearned(KnownAccount(identity.account, identity.handle, (genesis,))),
        MetaSaved("founding", b""),
    )
