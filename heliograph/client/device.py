"""An open device: its store, its server, and the turn that keeps its steps apart.

Everything that moves the device's state takes the turn, works on values, and saves before it lets go; nothing on the
network is waited for while the turn is held. Whoever waits for something to have happened waits for `until`, which
looks again after every save.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import msgspec

from heliograph.client.changes import AccountLearned, Change, KeyPackagesMade, KeyPackagesOutlived, MetaSaved
from heliograph.client.errors import NotPossible
from heliograph.client.hidden import Hidden
from heliograph.client.identity import CredentialError, Identity, KnownAccount, learn_account
from heliograph.client.room import (
    CAPABILITIES,
    LAST_RESORT_LIFETIME_S,
    SUITE_ID,
    lifetime,
)
from heliograph.client.store import Store
from heliograph.client.transport import Transport
from heliograph.mls.extension import Extension, ExtensionType
from heliograph.mls.framing import MLSMessage
from heliograph.mls.key_package import KeyPackageBundle, create_key_package
from heliograph.mls.suite import Random, Secret, cipher_suite
from heliograph.wire.accounts import (
    LOGIN_LABEL,
    AccountChain,
    AccountRequest,
    Challenge,
    CreateChallenge,
    CreateSession,
    Empty,
    KeyPackageCount,
    PublishKeyPackages,
    ResolvedHandle,
    ResolveHandle,
    ServerInfo,
    Session,
    login_content,
)
from heliograph.wire.ids import AccountId, DeviceId, Handle, TopicId
from heliograph.wire.problems import Problem

KEY_PACKAGES_OFFERED: Final = 50
KEY_PACKAGES_LEAST: Final = 20
ONE_TIME_KEPT_MS: Final = 62 * 86_400_000  # a lifetime of 30 days, then 31 days in which a Welcome waits
LAST_RESORT_KEPT_MS: Final = 182 * 86_400_000
_LOOKUPS_AT_ONCE: Final = 8
Reach = Callable[[str], None]
T = TypeVar("T")


class _SavedIdentity(Hidden, frozen=True):
    server_url: str
    domain: str
    account: str
    handle: str
    device: str
    device_private_key: bytes
    account_private_key: bytes


@dataclass(frozen=True, slots=True)
class World:
    """What comes from outside: the time, randomness, and `reach`, which is told each step before it is taken.

    Tests let `reach` raise, so that a device stops dead at a named step.
    """

    now_ms: Callable[[], int]
    random: Random
    reach: Reach

    @property
    def now_s(self) -> int:
        """Return the time in seconds since 1970 UTC."""
        return self.now_ms() // 1000


class Device:
    """A device that is registered, with its store open."""

    def __init__(self, store: Store, server_url: str, identity: Identity, server: ServerInfo, world: World) -> None:
        self.store = store
        self.identity = identity
        self.server = server
        self.world = world
        self.turn = asyncio.Lock()
        self.ended: Problem | None = None
        # Channels that were left while the stream runs: what is still on its way of them is passed over.
        self.unfollowed: set[TopicId] = set()
        self.connected = False
        self.transport = Transport(server_url, log_in=self._log_in, incarnation=self._incarnation)
        self._changed = asyncio.Event()
        saved = store.meta("session")
        if saved is not None:
            self.transport.use_token(saved.decode())

    def _incarnation(self) -> str:
        return (self.store.meta("incarnation") or b"").decode()

    @classmethod
    def load(cls, store: Store, world: World) -> "Device":
        """Return the device whose identity stands in a store; raises NotPossible where none does yet."""
        identity, server = store.meta("identity"), store.meta("server")
        if identity is None or server is None:
            raise NotPossible("this device waits for its grant: finish adding it first")
        saved = msgspec.msgpack.decode(identity, type=_SavedIdentity)
        own = Identity(
            saved.domain,
            AccountId(saved.account),
            Handle(saved.handle),
            DeviceId(saved.device),
            Secret(saved.device_private_key),
            Secret(saved.account_private_key) if saved.account_private_key else None,
        )
        return cls(store, saved.server_url, own, msgspec.msgpack.decode(server, type=ServerInfo), world)

    @staticmethod
    def founding(server_url: str, identity: Identity, server: ServerInfo) -> tuple[Change, ...]:
        """Return what makes a store that of this device."""
        saved = _SavedIdentity(
            server_url,
            identity.domain,
            identity.account,
            identity.handle,
            identity.device,
            bytes(identity.device_private_key),
            bytes(identity.account_private_key or b""),
        )
        return (
            MetaSaved("identity", msgspec.msgpack.encode(saved)),
            MetaSaved("server", msgspec.msgpack.encode(server)),
        )

    # -------------------------------------------------------------------------------------------------- saving

    async def save(self, changes: Iterable[Change]) -> list[int]:
        """Save changes in one transaction; the caller holds the turn. Returns the ids of added intents."""
        kept = tuple(changes)
        added = await finished(asyncio.to_thread(self.store.save, kept))
        self.changed()
        return added

    def changed(self) -> None:
        """Let everyone who waits look again."""
        event, self._changed = self._changed, asyncio.Event()
        event.set()

    async def until(self, holds: Callable[[], bool], within_s: float | None = None) -> bool:
        """Wait until `holds` is true; return False when the time is over first.

        Raises:
            Problem: the server has put this device out.
        """
        try:
            async with asyncio.timeout(within_s):
                while not holds():
                    if self.ended is not None:
                        raise self.ended
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def until_change(self) -> None:
        """Wait for the next save."""
        await self._changed.wait()

    # ------------------------------------------------------------------------------------------------- sessions

    async def _log_in(self) -> str:
        identity, transport = self.identity, self.transport
        request = CreateChallenge(identity.account, identity.device)
        given = await transport.call("create_challenge", request, Challenge)
        content = login_content(
            identity.domain, given.challenge, identity.account, identity.device, given.expires_at_ms
        )
        signature = cipher_suite(SUITE_ID).sign_with_label(identity.device_private_key, LOGIN_LABEL, content)
        session = await transport.call(
            "create_session",
            CreateSession(identity.account, identity.device, given.challenge, signature),
            Session,
        )
        await finished(asyncio.to_thread(self.store.save, (MetaSaved("session", session.token.encode()),)))
        return session.token

    async def log_in(self) -> None:
        """Open a new session."""
        self.transport.use_token(await self._log_in())

    async def refresh_server(self) -> None:
        """Learn anew what the server says of itself; its domain and franking key must stay.

        Raises:
            CredentialError: it is another server than the one that this device is registered at.
        """
        server = await self.transport.call("get_server", Empty(), ServerInfo)
        if server.domain != self.server.domain:
            raise CredentialError("another server answers at this address")
        if server != self.server:
            self.server = server
            async with self.turn:
                await self.save((MetaSaved("server", msgspec.msgpack.encode(server)),))

    # ------------------------------------------------------------------------------------------------- accounts

    async def resolve(self, handle_or_account: str) -> AccountId:
        """Return the account of a handle; an account id stands for itself."""
        if handle_or_account.startswith("a") and len(handle_or_account) == 53:
            return AccountId(handle_or_account)
        handle = Handle(handle_or_account.removeprefix("@"))
        known = next((one for one in self.store.accounts.values() if one.handle == handle), None)
        if known is not None:
            return known.account
        found = await self.transport.call("resolve_handle", ResolveHandle(handle), ResolvedHandle)
        if found.account is None:
            raise NotPossible(f"{handle} is a channel, not a person")
        return found.account

    async def fetch_accounts(self, accounts: Collection[AccountId]) -> dict[AccountId, KnownAccount]:
        """Return the verified chains of accounts as the server has them now; those that do not hold are left out.

        Raises:
            Unreachable, Problem: the server could not be asked.
        """
        gate = asyncio.Semaphore(_LOOKUPS_AT_ONCE)
        found: dict[AccountId, KnownAccount] = {}

        async def fetch(account: AccountId) -> None:
            async with gate:
                try:
                    chain = await self.transport.call("get_account_chain", AccountRequest(account), AccountChain)
                    known = self.store.accounts.get(account)
                    found[account] = learn_account(account, chain.handle, chain.states, known)
                except CredentialError:
                    return
                except Problem as problem:
                    if problem.slug != "not-found":
                        raise

        await together([fetch(account) for account in accounts])
        return found

    async def learn(self, account: AccountId) -> KnownAccount:
        """Fetch an account's chain anew, keep it, and return it.

        Raises:
            CredentialError: it does not hold, or there is no such account.
        """
        found = await self.fetch_accounts((account,))
        if account not in found:
            raise CredentialError("the account's chain does not hold, or there is no such account")
        async with self.turn:
            await self.save((AccountLearned(found[account]),))
        return found[account]

    # --------------------------------------------------------------------------------------------- key packages

    async def offer_key_packages(self, *, last_resort: bool = False) -> None:
        """Publish key packages if few are left, and a new one of last resort if there is none or it was used.

        Their private keys are saved before the server hears of them.
        """
        count = await self.transport.call("count_key_packages", Empty(), KeyPackageCount)
        wanted = KEY_PACKAGES_OFFERED - count.one_time if count.one_time < KEY_PACKAGES_LEAST else 0
        last = last_resort or not count.last_resort
        if not wanted and not last:
            return
        bundles = await asyncio.to_thread(self._make_key_packages, wanted, last)
        async with self.turn:
            now_ms = self.world.now_ms()
            outlived = KeyPackagesOutlived(now_ms - ONE_TIME_KEPT_MS, now_ms - LAST_RESORT_KEPT_MS)
            await self.save((outlived, KeyPackagesMade(bundles, now_ms)))
        self.world.reach("key packages saved")
        messages = [MLSMessage(bundle.key_package).encode() for bundle in bundles]
        request = PublishKeyPackages(tuple(messages[:wanted]), messages[-1] if last else None)
        await self.transport.call("publish_key_packages", request, KeyPackageCount)

    def _make_key_packages(self, count: int, last_resort: bool) -> tuple[KeyPackageBundle, ...]:
        suite, identity, now_s = cipher_suite(SUITE_ID), self.identity, self.world.now_s

        def make(length_s: int | None, extensions: Sequence[Extension]) -> KeyPackageBundle:
            return create_key_package(
                suite,
                identity.credential,
                identity.device_private_key,
                lifetime=lifetime(now_s) if length_s is None else lifetime(now_s, length_s),
                capabilities=CAPABILITIES,
                extensions=extensions,
                random=self.world.random,
            )

        made = [make(None, ()) for _ in range(count)]
        if last_resort:
            made.append(make(LAST_RESORT_LIFETIME_S, (Extension(ExtensionType.LAST_RESORT, b""),)))
        return tuple(made)


async def together(works: Sequence[Awaitable[None]]) -> None:
    """Wait for all; the first failure ends the others and is raised as it is."""

    async def one(work: Awaitable[None]) -> None:
        await work

    try:
        async with asyncio.TaskGroup() as tasks:
            for work in works:
                tasks.create_task(one(work))
    except BaseExceptionGroup as group:
        raise first_of(group) from None


def first_of(group: BaseException) -> BaseException:
    """Return the first real error in a group of groups, or the error itself."""
    found: Any = group
    while isinstance(found, BaseExceptionGroup):
        found = cast("Any", found).exceptions[0]
    return cast("BaseException", found)


async def finished(work: Coroutine[Any, Any, T]) -> T:
    """Wait for a write to end even when the waiter is cancelled: a transaction is never left to run alone."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise
