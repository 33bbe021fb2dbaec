"""Who is calling: open sessions in memory over sessions in the database, and their end within a second.

A token is 256 random bits, and the database holds its SHA-256. A session that was seen once stays in memory, so
that a request costs no read. What ends one (logout, a removed device, a restriction) says so here after its commit:
the session is forgotten and its sockets are told. The operations stand in `sessions.py`.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from heliograph.wire.accounts import AccountRole
from heliograph.wire.encoding import base64url_bytes, base64url_text
from heliograph.wire.ids import AccountId, DeviceId
from heliograph.wire.problems import Problem

TOKEN_SIZE_BYTES = 32


@dataclass(frozen=True, slots=True)
class Caller:
    """A device with an open session: `session` is the SHA-256 (32 bytes) of its token."""

    account: AccountId
    device: DeviceId
    role: AccountRole
    session: bytes


@dataclass(slots=True)
class OpenSession:
    """A session that was seen: when it was last used, and when it ends however much it is used.

    `restriction` is what the account is told at everything but reading why: it is suspended.
    """

    caller: Caller
    seen_at_ms: int
    idle_ms: int
    expires_at_ms: int
    seen_saved_at_ms: int
    restriction: Problem | None = None

    def is_over(self, now_ms: int) -> bool:
        """Tell whether its time is up."""
        return now_ms >= self.expires_at_ms or now_ms - self.seen_at_ms >= self.idle_ms


EndedTest = Callable[[Caller], bool]


class Sessions:
    """Sessions that were seen, by token hash. It may forget any of them; the database decides.

    `generation` grows with every end: who read a session from the database under an older one must read again.
    """

    def __init__(self, capacity: int) -> None:
        self.generation = 0
        self._capacity = capacity
        self._open: dict[bytes, OpenSession] = {}
        self._listeners: list[Callable[[EndedTest], None]] = []

    def find(self, token_hash: bytes) -> OpenSession | None:
        """Return the session of this token hash, if it was seen."""
        return self._open.get(token_hash)

    def remember(self, session: OpenSession) -> None:
        """Keep a session that the database has just confirmed; the oldest makes room."""
        while len(self._open) >= self._capacity:
            del self._open[next(iter(self._open))]
        self._open[session.caller.session] = session

    def each(self) -> Iterator[OpenSession]:
        """Return all that are remembered."""
        return iter(tuple(self._open.values()))

    def on_end(self, ended: Callable[[EndedTest], None]) -> None:
        """Call `ended` with a test of callers whenever sessions end, so that their sockets close."""
        self._listeners.append(ended)

    def forget_account(self, account: AccountId) -> None:
        """Read an account's sessions anew before the next use (its role or its restrictions changed)."""
        self.generation += 1
        for key in [key for key, one in self._open.items() if one.caller.account == account]:
            del self._open[key]

    def end_session(self, session: bytes) -> None:
        """End one session, after the commit that ended it."""
        self._end(lambda caller: caller.session == session)

    def end_device(self, device: DeviceId) -> None:
        """End all sessions of a device, after the commit that removed it."""
        self._end(lambda caller: caller.device == device)

    def _end(self, test: EndedTest) -> None:
        self.generation += 1
        for key in [key for key, one in self._open.items() if test(one.caller)]:
            del self._open[key]
        for ended in self._listeners:
            ended(test)


class Tickets:
    """One-time tickets for the socket, in memory: they live for seconds and a restart closes all sockets anyway."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._open: dict[bytes, tuple[Caller, int]] = {}

    def make(self, caller: Caller, token: str, expires_at_ms: int) -> None:
        """Keep a ticket until it is used or over; the oldest makes room."""
        while len(self._open) >= self._capacity:
            del self._open[next(iter(self._open))]
        self._open[hash_token(token)] = (caller, expires_at_ms)

    def use(self, token: str, now_ms: int) -> Caller:
        """Return whose ticket this is, once.

        Raises:
            Problem: `ticket-refused`.
        """
        caller, expires_at_ms = self._open.pop(hash_token(token), (None, 0))
        if caller is None or now_ms >= expires_at_ms:
            raise Problem("ticket-refused", "ask for a new ticket")
        return caller

    def end(self, test: EndedTest) -> None:
        """Take back the tickets of ended sessions."""
        for key in [key for key, (caller, _) in self._open.items() if test(caller)]:
            del self._open[key]


def new_token(random: Callable[[int], bytes]) -> str:
    """Return 256 random bits as text (43 characters)."""
    return base64url_text(random(TOKEN_SIZE_BYTES))


def hash_token(token: str) -> bytes:
    """Return what is kept of a token; text that is no token hashes to what no token has."""
    try:
        return hashlib.sha256(base64url_bytes(token)).digest()
    except ValueError:
        return b""
