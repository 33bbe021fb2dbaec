"""The way to one server: every operation of the contract as a typed call, and the socket as a stream of frames.

A call either returns the reply struct, raises the server's `Problem`, or raises `Unreachable` when no whole answer
came. It never tries again by itself, with one exception: a session that has ended is opened anew, once. Who may
repeat what, and how long to wait, is for the caller to know (`outbox`, `sync`); `Backoff` says how long.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec

from heliograph.client.errors import Unreachable
from heliograph.mls.suite import Random
from heliograph.wire.accounts import Empty, StreamTicket
from heliograph.wire.encoding import decode_json, decode_msgpack, encode_json, encode_msgpack, json_value
from heliograph.wire.events import (
    ClientFrame,
    Hello,
    Ready,
    ReceivedFrame,
    Refused,
    Resync,
    server_frame_decoder,
)
from heliograph.wire.ids import TopicId
from heliograph.wire.operations import INCARNATION_HEADER, OPERATIONS, STREAM_PATH, Operation
from heliograph.wire.problems import Problem, ProblemBody

Reply = TypeVar("Reply", bound=msgspec.Struct)

CALL_TIMEOUT_S: Final = 60
MAX_REPLY_SIZE_BYTES: Final = 16 * 1024 * 1024
HEARTBEAT_S: Final = 20
MAX_LARGE_FRAME_SIZE_BYTES: Final = 2 * 1024 * 1024  # a frame of one large commit stands alone
_BODYLESS: Final = ("GET", "DELETE")
_LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")


class Backoff:
    """How long to wait before the next try: full jitter under a bound that doubles from 1 s to 60 s."""

    def __init__(self, random: Random, *, least_s: float = 1.0, most_s: float = 60.0) -> None:
        self._random = random
        self._least_s = least_s
        self._most_s = most_s
        self._tries = 0

    def reset(self) -> None:
        """Begin anew, after something worked."""
        self._tries = 0

    def next_s(self, at_least_s: float = 0.0) -> float:
        """Return the seconds to wait now; `at_least_s` is what the server asked for."""
        bound_s = min(self._most_s, self._least_s * 2**self._tries)
        self._tries = min(self._tries + 1, 16)
        return max(at_least_s, bound_s * int.from_bytes(self._random(4)) / 2**32)


class Transport:
    """Calls to one server. `log_in` is asked for a token when a call needs one and there is none that holds;
    `incarnation` for the server's past that this device knows, which every write to a room names.
    """

    def __init__(
        self,
        server_url: str,
        *,
        log_in: Callable[[], Awaitable[str]] | None = None,
        incarnation: Callable[[], str] = str,
    ) -> None:
        self.server_url = checked_url(server_url)
        self._log_in = log_in
        self._incarnation = incarnation
        self._token: str | None = None
        self._login_turn = asyncio.Lock()
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S, sock_connect=15)
        self._http = aiohttp.ClientSession(timeout=timeout, auto_decompress=False, trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def call(self, name: str, request: msgspec.Struct, reply: type[Reply]) -> Reply:
        """Call an operation by its name; `reply` is the operation's reply type.

        Raises:
            Problem: the server refused.
            Unreachable: no whole answer came; the server may have done it all the same.
        """
        operation = OPERATIONS[name]
        if operation.reply is not reply:
            raise TypeError(f"{name} replies with {operation.reply.__name__}")
        needs_token = operation.access != "anyone" and self._log_in is not None
        token = await self._current_token() if needs_token else None
        try:
            return await self._call_once(operation, request, reply, token)
        except Problem as problem:
            if problem.slug != "not-logged-in" or token is None:
                raise
        return await self._call_once(operation, request, reply, await self._current_token(instead_of=token))

    async def _call_once(
        self, operation: Operation, request: msgspec.Struct, reply: type[Reply], token: str | None
    ) -> Reply:
        url, body = self._encode(operation, request)
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        incarnation = self._incarnation()
        if incarnation and operation.method == "POST" and operation.path.startswith("/v1/rooms"):
            headers[INCARNATION_HEADER] = incarnation
        status, answer = await self._exchange(operation.method, url, body, headers)
        if 200 <= status < 300:
            return _read_reply(answer, reply)
        raise _read_problem(status, answer)

    async def _exchange(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        try:
            async with self._open_http().request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return response.status, await _read_bounded(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"no answer from {self.server_url}: {type(error).__name__}") from error

    def _open_http(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise Unreachable("the connection to the server has been closed")
        return self._http

    def _encode(self, operation: Operation, request: msgspec.Struct) -> tuple[str, bytes | None]:
        members = cast("dict[str, Any]", json_value(request))
        path = operation.path
        for field in [name for name in members if f"{{{name}}}" in path]:
            path = path.replace(f"{{{field}}}", quote(str(members.pop(field)), safe=""))
        url = self.server_url + path
        if operation.method not in _BODYLESS:
            return url, encode_json(members)
        query = "&".join(f"{name}={quote(_query_text(value), safe='')}" for name, value in members.items())
        return (f"{url}?{query}" if query else url), None

    async def _current_token(self, instead_of: str | None = None) -> str:
        """Return a token; all calls that find it ended together wait for one login."""
        async with self._login_turn:
            if self._token is None or self._token == instead_of:
                if self._log_in is None:
                    raise Problem("not-logged-in")
                self._token = await self._log_in()
            return self._token

    def use_token(self, token: str | None) -> None:
        """Use a session that was opened before."""
        self._token = token

    async def fetch(self, path: str) -> bytes:
        """Return what stands at a plain path, such as the checkpoint of the log of decisions.

        Raises:
            Problem, Unreachable: as `call`.
        """
        status, answer = await self._exchange("GET", self.server_url + path, None, {})
        if status == 200:
            return answer
        raise _read_problem(status, answer)

    @asynccontextmanager
    async def stream(self, incarnation: str, cursors: Mapping[TopicId, int]) -> AsyncGenerator["Stream"]:
        """Open the socket and say hello; leave the context to close it.

        Raises:
            Problem: the ticket or the hello was refused.
            Unreachable: it could not be opened.
        """
        ticket = await self.call("create_stream_ticket", Empty(), StreamTicket)
        url = "ws" + self.server_url.removeprefix("http") + STREAM_PATH
        try:
            async with self._open_http().ws_connect(
                url, heartbeat=HEARTBEAT_S, max_msg_size=MAX_LARGE_FRAME_SIZE_BYTES, compress=0, autoclose=True
            ) as socket:
                stream = Stream(socket)
                await stream.send(Hello(ticket.ticket, incarnation, dict(cursors)))
                await stream.wait_until_ready()
                yield stream
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"the stream could not be opened: {type(error).__name__}") from error


class Stream:
    """An open socket. `resync` is set where the server said at once that it has been restored from a backup."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.ready: Ready | None = None
        self.resync: Resync | None = None

    async def wait_until_ready(self) -> None:
        """Read the server's first frame."""
        frame = await self.receive()
        if isinstance(frame, Refused):
            raise Problem.received(frame.problem)
        if isinstance(frame, Resync):
            self.resync = frame
            frame = await self.receive()
        if not isinstance(frame, Ready):
            raise Unreachable("the stream began with another frame than ready")
        self.ready = frame

    async def receive(self) -> ReceivedFrame:
        """Return the next frame.

        Raises:
            Unreachable: the socket was closed, or spoke nonsense.
        """
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            try:
                return decode_msgpack(cast("bytes", message.data), server_frame_decoder)
            except Problem as problem:
                raise Unreachable(f"the server sent a frame that cannot be read: {problem.body.detail}") from None
        code = self._socket.close_code
        raise Unreachable(f"the stream has ended (close code {code})")

    async def send(self, frame: ClientFrame) -> None:
        """Send a frame; raises Unreachable when the socket is closed."""
        try:
            await self._socket.send_bytes(encode_msgpack(frame))
        except (aiohttp.ClientError, ConnectionError, RuntimeError) as error:
            raise Unreachable(f"the stream has ended: {type(error).__name__}") from error


def checked_url(server_url: str) -> str:
    """Return a server's URL without a trailing slash; plain http is for this machine and tests alone.

    Raises:
        Unreachable: it is no such URL.
    """
    parts = urlsplit(server_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise Unreachable("a server's URL looks like https://example.org")
    if parts.scheme == "http" and parts.hostname not in _LOCAL_HOSTS:
        raise Unreachable("only a server on this machine is spoken to without TLS")
    return f"{parts.scheme}://{parts.netloc}"


def _query_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size_bytes = 0
    async for part in response.content.iter_any():
        size_bytes += len(part)
        if size_bytes > MAX_REPLY_SIZE_BYTES:
            raise Unreachable("the server's answer is larger than any should be")
        parts.append(part)
    return b"".join(parts)


def _read_reply(answer: bytes, reply: type[Reply]) -> Reply:
    try:
        return decode_json(answer, reply)
    except Problem as problem:
        raise Unreachable(f"the server's answer cannot be read: {problem.body.detail}") from None


def _read_problem(status: int, answer: bytes) -> Problem:
    try:
        return Problem.received(decode_json(answer, ProblemBody))
    except Problem:
        slug = "overloaded" if status in (502, 503, 504) else "internal-error"
        return Problem(slug, f"the answer had status {status} and no problem that can be read")
