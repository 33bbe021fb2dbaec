"""One server, in this process, on a real socket and a real database; and people who speak to it without the SDK.

```python
async with world(tmp_path) as w:
    alice = await w.register("alice")
    async with w.stream(alice) as stream:
        entries = await stream.until(ReceivedEntries)
```

Its clock moves only when a test moves it (`w.clock.advance_ms`); everything else is as in production.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, TypeVar

import aiohttp
import msgspec

from heliograph.mls.suite import cipher_suite
from heliograph.server.app import Server, open_server
from heliograph.server.config import Config, Registration
from heliograph.server.context import Context
from heliograph.server.limits import Limits, Rate, Rates
from heliograph.server.logs import configure_logs
from heliograph.wire.account_state import (
    ED25519_SUITE,
    AccountState,
    DeviceEntry,
    DeviceRole,
    SignedAccountState,
    Signer,
    sign_state,
    signature_for_new_key,
)
from heliograph.wire.accounts import (
    LOGIN_LABEL,
    AccountInfo,
    Challenge,
    CreateChallenge,
    CreateInvitation,
    CreateSession,
    Empty,
    Invitation,
    PutAccountState,
    Register,
    Session,
    StreamTicket,
    login_content,
)
from heliograph.wire.encoding import decode_json, encode_json, encode_msgpack
from heliograph.wire.events import Hello, Ready, server_frame_decoder
from heliograph.wire.ids import AccountId, DeviceId, Handle, TopicId, account_id, device_id
from heliograph.wire.openapi import path_fields
from heliograph.wire.operations import OPERATIONS, STREAM_PATH
from heliograph.wire.problems import Problem, ProblemBody

T = TypeVar("T")
START_MS = 1_790_000_000_000
GENEROUS = Rate(1e6, 1e6)


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: int = START_MS

    def __call__(self) -> int:
        return self.now

    def advance_ms(self, span_ms: int) -> None:
        """Let time pass."""
        self.now += span_ms


class LoggedIn(Protocol):
    """Anything that holds a session's token."""

    token: str


@dataclass
class Person:
    """An account with one device, and the keys of both."""

    handle: Handle
    account: AccountId
    device: DeviceId
    device_key: bytes
    account_key: bytes
    recovery_key: bytes
    state: SignedAccountState
    token: str = ""
    devices: "list[Person]" = field(default_factory=list)


class Stream:
    """A socket past its handshake."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, frame: msgspec.Struct) -> None:
        """Send one frame."""
        await self.socket.send_bytes(encode_msgpack(frame))

    async def receive(self, within_s: float = 5) -> Any:
        """Return the next frame."""
        message = await self.socket.receive(within_s)
        assert message.type is aiohttp.WSMsgType.BINARY, (message, self.socket.close_code)
        return server_frame_decoder.decode(message.data)

    async def until(self, kind: type[T], topic: str | None = None, within_s: float = 5) -> T:
        """Return the next frame of a kind (and topic), passing over others."""
        async with asyncio.timeout(within_s):
            while True:
                frame = await self.receive(within_s)
                if isinstance(frame, kind) and topic in (None, getattr(frame, "topic", None)):
                    return frame

    async def ending(self, within_s: float = 5) -> int | None:
        """Read to the end and return the close code."""
        async with asyncio.timeout(within_s):
            while True:
                message = await self.socket.receive()
                if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING):
                    return self.socket.close_code


class World:
    """A running server and those who use it."""

    def __init__(self, server: Server, http: aiohttp.ClientSession, clock: Clock) -> None:
        self.server = server
        self.http = http
        self.clock = clock
        self.url = server.announcement.url
        self.first_invitation = server.announcement.first_invitation
        self._numbers = itertools.count(1)

    @property
    def context(self) -> Context:
        """The server's parts."""
        return self.server.context

    def random(self, size: int) -> bytes:
        """Return bytes that nobody has had before."""
        return self.context.random(size)

    async def call(self, name: str, request: msgspec.Struct, who: "LoggedIn | str | None" = None) -> Any:
        """Call an operation as a client would and return its reply.

        Raises:
            Problem: as the server answered.
        """
        operation = OPERATIONS[name]
        values: dict[str, Any] = msgspec.json.decode(encode_json(request))
        path = operation.path.format(**{key: values.pop(key) for key in path_fields(operation)})
        token = who if who is None or isinstance(who, str) else who.token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        bodyless = operation.method in ("GET", "DELETE")
        query = {key: str(value) for key, value in values.items()} if bodyless else None
        body = None if bodyless else BytesIO(msgspec.json.encode(values))
        if body is not None:
            headers["Content-Type"] = "application/json"
        async with self.http.request(
            operation.method, self.url + path, params=query, data=body, headers=headers
        ) as response:
            answer = await response.read()
            if response.status != 200:
                raise Problem.received(decode_json(answer, ProblemBody))
            return decode_json(answer, operation.reply)

    def new_person(self, handle: str) -> Person:
        """Return someone with fresh keys, not registered yet."""
        suite = cipher_suite(ED25519_SUITE)
        account_key, recovery_key, device_key = (suite.generate_signature_key(self.random) for _ in range(3))
        device = device_id(self.random(16))
        state = AccountState(
            seq=0,
            prev=bytes(32),
            account_key=account_key.public,
            recovery_key=recovery_key.public,
            devices=(DeviceEntry(device, device_key.public, DeviceRole.FULL),),
            created_ms=self.clock(),
            nonce=self.random(16),
        )
        keys = (account_key.private, recovery_key.private, device_key.private)
        signed = sign_state(state, Signer.ACCOUNT, account_key.private, keys)
        return Person(Handle(handle), account_id(signed.hash()), device, device_key.private, *keys[:2], state=signed)

    async def register(self, handle: str, invitation: str | None = None, *, login: bool = True) -> Person:
        """Register someone (an invitation is made where the server wants one) and log in."""
        person = self.new_person(handle)
        await self.call("register", Register(person.handle, person.state.encode(), invitation))
        if login:
            await self.login(person)
        return person

    async def administrator(self, handle: str = "ada") -> Person:
        """Register the first administrator by the server's invitation."""
        return await self.register(handle, self.first_invitation)

    async def reviewer(self, administrator: Person, handle: str = "rita") -> Person:
        """Register a reviewer."""
        made: Invitation = await self.call("create_invitation", CreateInvitation("reviewer"), administrator)
        return await self.register(handle, made.invitation)

    async def login(self, person: Person) -> str:
        """Log a device in and return its token."""
        person.token = (await self.open_session(person)).token
        return person.token

    async def open_session(self, person: Person) -> Session:
        """Log a device in."""
        given: Challenge = await self.call("create_challenge", CreateChallenge(person.account, person.device))
        signature = self.login_signature(person, given)
        request = CreateSession(person.account, person.device, given.challenge, signature)
        return await self.call("create_session", request)

    def login_signature(self, person: Person, given: Challenge, domain: str | None = None) -> bytes:
        """Return a device's signature over a challenge."""
        content = login_content(
            domain or self.context.domain, given.challenge, person.account, person.device, given.expires_at_ms
        )
        return cipher_suite(ED25519_SUITE).sign_with_label(person.device_key, LOGIN_LABEL, content)

    async def add_device(self, person: Person) -> Person:
        """Let another device into a person's account and log it in."""
        key = cipher_suite(ED25519_SUITE).generate_signature_key(self.random)
        entry = DeviceEntry(device_id(self.random(16)), key.public, DeviceRole.FULL)
        state = self.next_state(person, (*person.state.state.devices, entry))
        new_key_signature = signature_for_new_key(state, key.private)
        signed = sign_state(state, Signer.ACCOUNT, person.account_key, ())
        signed = SignedAccountState(state, signed.signer, signed.signature, (new_key_signature,))
        await self.call("put_account_state", PutAccountState(person.account, signed.encode()), person)
        person.state = signed
        second = Person(
            person.handle,
            person.account,
            entry.device,
            key.private,
            person.account_key,
            person.recovery_key,
            signed,
        )
        person.devices.append(second)
        await self.login(second)
        return second

    async def remove_device(self, person: Person, device: DeviceId) -> None:
        """Put a device out of a person's account."""
        kept = tuple(entry for entry in person.state.state.devices if entry.device != device)
        signed = sign_state(self.next_state(person, kept), Signer.ACCOUNT, person.account_key, ())
        await self.call("put_account_state", PutAccountState(person.account, signed.encode()), person)
        person.state = signed

    def next_state(self, person: Person, devices: tuple[DeviceEntry, ...]) -> AccountState:
        """Return the state that follows a person's newest, with these devices."""
        before = person.state
        return AccountState(
            seq=before.state.seq + 1,
            prev=before.hash(),
            account_key=before.state.account_key,
            recovery_key=before.state.recovery_key,
            devices=devices,
            created_ms=self.clock(),
            nonce=self.random(16),
        )

    async def ticket(self, who: "LoggedIn | str") -> str:
        """Return a fresh ticket for the socket."""
        made: StreamTicket = await self.call("create_stream_ticket", Empty(), who)
        return made.ticket

    @asynccontextmanager
    async def stream(
        self, who: "LoggedIn | str", cursors: dict[TopicId, int] | None = None, incarnation: str = ""
    ) -> AsyncGenerator[Stream]:
        """Open a socket, say hello and wait for `ready`."""
        ticket = await self.ticket(who)
        async with self.http.ws_connect(self.url + STREAM_PATH, max_msg_size=0) as socket:
            stream = Stream(socket)
            await stream.send(Hello(ticket, incarnation, cursors or {}))
            await stream.until(Ready)
            yield stream


def generous_limits(**changes: Any) -> Limits:
    """Return limits whose rates do not get into a test's way, with `changes`."""
    rates = Rates(**dict.fromkeys(Rates.__struct_fields__, GENEROUS))
    return msgspec.structs.replace(Limits(rates=rates), **changes)


@asynccontextmanager
async def world(
    tmp_path: Path,
    *,
    limits: Limits | None = None,
    registration: Registration = "open",
    clock: Clock | None = None,
    **options: Any,
) -> AsyncGenerator[World]:
    """Run a server on a free port for as long as the block lasts; `options` are fields of `Config`."""
    configure_logs()
    clock = clock or Clock()
    config = Config(data=tmp_path / "data", port=0, registration=registration, **options)
    async with (
        open_server(config, limits=limits or generous_limits(), now_ms=clock) as server,
        aiohttp.ClientSession() as http,
    ):
        yield World(server, http, clock)


__all__ = ["AccountInfo", "Clock", "Person", "Stream", "World", "generous_limits", "world"]
