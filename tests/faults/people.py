"""People who put a load on a server: real accounts, sessions, rooms and groups, all over the contract.

Their messages are framed as RFC 9420 has it, of the size that is asked for, with random bytes where the ciphertext
stands: the server opens none, so it cannot tell the difference, and the load costs little to make.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec

from heliograph.client.identity import Founded, Identity, found_account
from heliograph.client.transport import Transport
from heliograph.mls.framing import ContentType, MLSMessage, PrivateMessage
from heliograph.wire.accounts import (
    LOGIN_LABEL,
    Challenge,
    CreateChallenge,
    CreateSession,
    Empty,
    Register,
    ServerInfo,
    Session,
    login_content,
)
from heliograph.wire.events import Submit
from heliograph.wire.frank import TAG_SIZE_BYTES, frank_aad
from heliograph.wire.ids import Handle, RoomId, group_id
from heliograph.wire.operations import OPERATIONS
from tests.faults.server_process import ServerProcess
from tests.server.phones import SUITE, Phone

SENDER_DATA_SIZE_BYTES = 28
IDEMPOTENCY_KEY_SIZE_BYTES = 16
JOINERS_AT_ONCE = 16


class Person:
    """An account with one device: `phone` knows its groups, `transport` holds its session."""

    def __init__(self, url: str, server: ServerInfo, handle: str) -> None:
        founded = found_account(server.domain, Handle(handle), now_ms=_now_ms(), random=secrets.token_bytes)
        self.identity: Identity = founded.identity
        self.transport = Transport(url, log_in=self._log_in)
        self.phone = _phone(founded, server, self._call)
        self._genesis = founded.genesis.encode()

    async def register(self) -> None:
        """Found the account."""
        await self._call("register", Register(self.identity.handle, self._genesis))

    async def _call(self, operation: str, request: msgspec.Struct, token: str | None = None) -> Any:
        del token  # the transport logs in by itself
        return await self.transport.call(operation, request, OPERATIONS[operation].reply)

    async def _log_in(self) -> str:
        account, device = self.identity.account, self.identity.device
        given: Challenge = await self._call("create_challenge", CreateChallenge(account, device))
        content = login_content(self.identity.domain, given.challenge, account, device, given.expires_at_ms)
        signature = SUITE.sign_with_label(self.identity.device_private_key, LOGIN_LABEL, content)
        session: Session = await self._call(
            "create_session", CreateSession(account, device, given.challenge, signature)
        )
        return session.token


@asynccontextmanager
async def people(process: ServerProcess, *handles: str) -> AsyncGenerator[list[Person]]:
    """Register people at a running server, and close their connections at the end."""
    async with AsyncExitStack() as stack:
        asking = await stack.enter_async_context(Transport(process.url))
        server = await asking.call("get_server", Empty(), ServerInfo)
        found = [Person(process.url, server, handle) for handle in handles]
        for person in found:
            await stack.enter_async_context(person.transport)
        await _few_at_a_time([person.register() for person in found])
        yield found


async def open_room(owner: Person, others: Sequence[Person]) -> RoomId:
    """Create a room and add people by one commit, its first entry; all of them read from its second."""
    await _few_at_a_time([_offer(other, owner) for other in others])
    room = await owner.phone.create_room()
    await owner.phone.add(room, *(other.phone for other in others))
    return room


async def _offer(person: Person, owner: Person) -> None:
    await person.phone.publish(1)
    await person.phone.consent(owner.phone)


def sealed(room: RoomId, epoch: int, size_bytes: int) -> bytes:
    """Return a message of a room's epoch, framed and tagged, `size_bytes` long, that nobody can open."""
    aad = frank_aad(secrets.token_bytes(TAG_SIZE_BYTES))
    sender_data = secrets.token_bytes(SENDER_DATA_SIZE_BYTES)

    def message(ciphertext: bytes) -> bytes:
        body = PrivateMessage(group_id(room), epoch, ContentType.APPLICATION, aad, sender_data, ciphertext)
        return MLSMessage(body).encode()

    framing_bytes = len(message(bytes(size_bytes // 2))) - size_bytes // 2
    made = message(secrets.token_bytes(size_bytes - framing_bytes))
    if len(made) != size_bytes:
        raise ValueError(f"a message of {size_bytes} bytes cannot be framed")
    return made


def submission(room: RoomId, epoch: int, size_bytes: int, request: int) -> Submit:
    """Return a fresh message as the socket carries it."""
    key = secrets.token_bytes(IDEMPOTENCY_KEY_SIZE_BYTES)
    return Submit(request, room, key, epoch, sealed(room, epoch, size_bytes))


def _phone(founded: Founded, server: ServerInfo, call: Any) -> Phone:
    identity = founded.identity
    return Phone(
        call=call,
        domain=server.domain,
        hub_key=server.hub_signature_key,
        account=identity.account,
        device=identity.device,
        device_key=identity.device_private_key,
        token="",
        now_s=lambda: _now_ms() // 1000,
        account_key=identity.account_private_key or b"",
        chain=[founded.genesis],
    )


async def _few_at_a_time(works: Sequence[Any]) -> None:
    gate = asyncio.Semaphore(JOINERS_AT_ONCE)

    async def one(work: Any) -> None:
        async with gate:
            await work

    async with asyncio.TaskGroup() as tasks:
        for work in works:
            tasks.create_task(one(work))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
