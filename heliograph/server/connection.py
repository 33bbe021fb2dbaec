"""One socket: frames come in one by one, entries go out by a pump that holds cursors and no messages.

```
hints -> dirty topics -> pump -> tail or database -> transport       while the socket's buffer is small
frames -> hello | ack | subscribe | unsubscribe | typing | ping | submit
```

A topic is *live* when everything up to its head has been written; then an entry just committed is written at once,
as the frame that all readers share (`deliver`). Otherwise it is *dirty*, and the pump reads on from the cursor. So a
slow reader holds one bounded buffer, and what it has not read costs nothing.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import structlog

from heliograph.server import log
from heliograph.server.access import Span, own_topics, readable_heads, readable_span
from heliograph.server.auth import Caller
from heliograph.server.context import Context
from heliograph.server.db.database import Done, Reader
from heliograph.server.limits import Bucket
from heliograph.server.tail import Tail
from heliograph.server.websocket import (
    CloseCode,
    FrameError,
    FrameReader,
    Opcode,
    check_close_payload,
    close_frame,
    server_frame,
)
from heliograph.wire.encoding import decode_msgpack, encode_msgpack
from heliograph.wire.events import (
    MAX_FIRST_FRAME_SIZE_BYTES,
    MAX_FRAME_SIZE_BYTES,
    Accepted,
    Ack,
    Ended,
    Entries,
    Entry,
    Gap,
    Head,
    Hello,
    Ping,
    Pong,
    Ready,
    Refused,
    Resync,
    Submit,
    Subscribe,
    Typing,
    Unsubscribe,
    client_frame_decoder,
)
from heliograph.wire.ids import TopicId
from heliograph.wire.problems import Problem
from heliograph.wire.rooms import SubmitMessage, Submitted

MAX_ENTRIES_SIZE_BYTES = MAX_FRAME_SIZE_BYTES - 256
MAX_SUBMITS_IN_FLIGHT = 64
MAX_BACKOFF_S = 0.25
MAX_IGNORED_FRAMES = 64
LINGER_S = 1.0
"""How long a closed socket waits for the peer's close frame, so that the peer gets to see why it was closed."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("heliograph.stream")
_PING = server_frame(b"", Opcode.PING)
_PONG = server_frame(encode_msgpack(Pong()))

SubmitHandler = Callable[[Context, Caller, SubmitMessage, Done[Submitted]], None]
"""Takes a message; a Problem that is found at once is raised, any later one is told."""


@dataclass(slots=True)
class Subscription:
    """Where a socket stands in a topic. `last` is set once the reader has left: nothing follows it."""

    topic: TopicId
    cursor: int
    last: int | None = None
    live: bool = False
    dirty: bool = True
    ask_access: bool = False


class Registry(Protocol):
    """What a connection needs of the stream that it belongs to (`stream.Streams`)."""

    tail: Tail
    submit: SubmitHandler

    def enter(self, connection: "Connection", caller: Caller) -> None:
        """Count a socket for its device."""
        ...

    def join(self, connection: "Connection", topic: TopicId) -> None:
        """Send hints of a topic to a connection."""
        ...

    def part(self, connection: "Connection", topic: TopicId) -> None:
        """Send no more of them."""
        ...

    def acknowledge(self, caller: Caller, topic: TopicId, seq: int) -> None:
        """Keep an acknowledgement with the next few."""
        ...

    def relay(self, connection: "Connection", topic: TopicId, frame: bytes) -> None:
        """Write a frame to the other live readers of a topic, and keep it nowhere."""
        ...


class Connection:
    """One WebSocket from its handshake to its end."""

    def __init__(self, context: Context, registry: Registry, transport: asyncio.Transport, now_s: float) -> None:
        self.caller: Caller | None = None
        self.heard_at_s = now_s
        self.pinged_at_s = now_s
        self.stalled_since_s: float | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.close_code: int | None = None
        self.reader = FrameReader(self._received, self._broken, self._gone, MAX_FIRST_FRAME_SIZE_BYTES)
        self._context = context
        self._registry = registry
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._subscriptions: dict[TopicId, Subscription] = {}
        self._wake = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._submits = 0
        self._ignored = 0
        self._soft_bytes = context.limits.send_buffer_soft_bytes
        self._hard_bytes = context.limits.send_buffer_hard_bytes
        rates, now_ms = context.limits.rates, context.now_ms()
        self._frames = Bucket(rates.frames, now_ms)
        self._bytes = Bucket(rates.frame_bytes, now_ms)

    async def run(self) -> None:
        """Serve the socket until it ends. Every task of it ends with it."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            pump = tasks.create_task(self._guard(self._pump()))
            hello = self._loop.call_later(self._context.limits.hello_within_s, self._expect_hello)
            try:
                await asyncio.shield(self.closed)
            finally:
                hello.cancel()
                pump.cancel()
                for topic in tuple(self._subscriptions):
                    self._unsubscribe(topic)

    # ------------------------------------------------------------------------------------------------- going out

    def write(self, frame: bytes) -> None:
        """Write a whole frame; who lets the buffer grow to the hard limit is cut off."""
        if self.close_code is not None or self._transport.is_closing():
            return
        self._transport.write(frame)
        if self._transport.get_write_buffer_size() >= self._hard_bytes:
            self.close(CloseCode.TRY_LATER, "read faster, and resume from your cursor")

    def deliver(self, topic: TopicId, first: int, last: int, frame: bytes) -> int:
        """Write entries just committed, if the socket stands right before them; else leave them to the pump.

        Returns how many entries were written.
        """
        subscription = self._subscriptions.get(topic)
        if subscription is None or subscription.cursor >= last:
            return 0
        if subscription.live and subscription.cursor == first - 1 and self.is_clear():
            subscription.cursor = last
            self._transport.write(frame)
            return last - first + 1
        self._mark(subscription)
        return 0

    def touch(self, topic: TopicId) -> None:
        """Look at a topic anew: access may have changed, entries may have gone."""
        subscription = self._subscriptions.get(topic)
        if subscription is not None:
            subscription.ask_access = True
            self._mark(subscription)

    def is_clear(self) -> bool:
        """Tell whether the socket takes more now."""
        return (
            self.close_code is None
            and not self._transport.is_closing()
            and self._transport.get_write_buffer_size() < self._soft_bytes
        )

    def is_live(self, topic: TopicId) -> bool:
        """Tell whether the socket has everything of a topic."""
        subscription = self._subscriptions.get(topic)
        return subscription is not None and subscription.live

    def ping(self, now_s: float) -> None:
        """Ask the peer for a sign of life."""
        self.pinged_at_s = now_s
        self.write(_PING)

    def close(self, code: int, reason: str = "") -> None:
        """Say why and end the socket. A peer that does not read is not waited for."""
        if self.close_code is not None:
            return
        self.close_code = code
        self._wake.set()
        self._context.metrics.sockets_closed.labels(code).inc()
        if self._transport.is_closing() or self._transport.get_write_buffer_size() >= self._soft_bytes:
            self._hang_up()
        else:
            self._transport.write(close_frame(code, reason))
            self._loop.call_later(LINGER_S, self._hang_up)

    def _hang_up(self) -> None:
        """End the connection: at once for the peer, and soon for one that does not read what is left."""
        self.reader.stop()
        if not self._transport.is_closing():
            self._transport.close()
            self._loop.call_later(LINGER_S, self._transport.abort)
        if not self.closed.done():
            self.closed.set_result(None)

    def _wait_for_close(self, opcode: Opcode) -> None:
        """After our close frame only the peer's matters, and a flood before it does not."""
        self._ignored += 1
        if opcode is Opcode.CLOSE:
            self._hang_up()
        elif self._ignored > MAX_IGNORED_FRAMES:
            self.reader.stop()

    def _mark(self, subscription: Subscription) -> None:
        subscription.live = False
        subscription.dirty = True
        self._wake.set()

    def _send(self, frame: Any) -> None:
        self.write(server_frame(encode_msgpack(frame)))

    async def _pump(self) -> None:
        """Bring dirty topics up to their heads, in turn, a frame at a time."""
        while self.close_code is None:
            await self._wake.wait()
            self._wake.clear()
            dirty = [one for one in self._subscriptions.values() if one.dirty]
            while dirty and self.close_code is None:
                await self._until_clear()
                dirty = [one for one in dirty if await self._advance(one)]

    async def _until_clear(self) -> None:
        wait_s = 0.005
        while not self.is_clear() and self.close_code is None:
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, MAX_BACKOFF_S)

    async def _advance(self, one: Subscription) -> bool:
        """Write one frame of what a topic still holds; return whether there is more."""
        if self._subscriptions.get(one.topic) is not one or not one.dirty:
            return False
        one.dirty = False
        entries = None if one.ask_access else self._registry.tail.after(one.topic, one.cursor, MAX_ENTRIES_SIZE_BYTES)
        if entries is None:
            entries = await self._read(one)
            if entries is None or self._subscriptions.get(one.topic) is not one:
                return False
        if entries:
            self._send_entries(one, entries)
            one.dirty = True
            return True
        if one.last is not None and one.cursor >= one.last:
            self._end(one, Problem("not-allowed", "this device is no longer in the room"))
        elif not one.dirty:
            one.live = True
            self._send(Head(one.topic, one.cursor))
        return one.dirty

    def _send_entries(self, one: Subscription, entries: list[Entry]) -> None:
        """Write entries that follow the cursor; where numbers are missing, say so first."""
        if entries[0].seq != one.cursor + 1:
            self._send(Gap(one.topic, one.cursor + 1, entries[0].seq - 1, "removed"))
        run = 1
        while run < len(entries) and entries[run].seq == entries[run - 1].seq + 1:
            run += 1
        self._send(Entries(one.topic, entries[0].seq, entries[:run]))
        one.cursor = entries[run - 1].seq
        self._context.metrics.delivered.inc(run)

    async def _read(self, one: Subscription) -> list[Entry] | None:
        """Read on from the cursor; None if the topic is over for this socket."""
        limits, caller, cursor = self._context.limits, self.caller, one.cursor

        def query(reader: Reader) -> tuple[Span, int, list[Entry]]:
            span = readable_span(reader, caller, one.topic)
            floor = max(log.floor(reader, one.topic), span.after)
            after = max(cursor, floor)
            return span, floor, log.read(reader, one.topic, after, limits.rows_per_read, MAX_ENTRIES_SIZE_BYTES)

        one.ask_access = False
        try:
            span, floor, entries = await self._context.database.read(query)
        except Problem as problem:
            self._end(one, problem)
            return None
        one.last = span.last
        if one.cursor < floor:
            why = "not-allowed" if floor == span.after else "expired"
            self._send(Gap(one.topic, one.cursor + 1, floor, why))
            one.cursor = floor
        return entries if span.last is None else [entry for entry in entries if entry.seq <= span.last]

    # -------------------------------------------------------------------------------------------------- coming in

    def _received(self, opcode: Opcode, payload: bytes) -> None:
        """Take one message or control frame, synchronously: its order is the order of the wire."""
        if self.close_code is not None:
            self._wait_for_close(opcode)
            return
        self.heard_at_s = self._loop.time()
        now_ms = self._context.now_ms()
        if opcode is Opcode.BINARY and self.caller is not None:
            frame = self._decode(payload)
            if isinstance(frame, Submit):
                self._take_submit(frame, len(payload), now_ms)
                return
        else:
            frame = None
        if self._frames.take(now_ms) or self._bytes.take(now_ms, len(payload)):
            self.close(CloseCode.TOO_MANY, "too many frames")
        elif opcode is Opcode.PING:
            self.write(server_frame(payload, Opcode.PONG))
        elif opcode is Opcode.CLOSE:
            code = check_close_payload(payload)
            self.close(code)
            self._hang_up()
        elif opcode is Opcode.TEXT:
            raise FrameError(CloseCode.UNSUPPORTED_DATA, "frames are MessagePack in binary")
        elif opcode is Opcode.BINARY:
            self._take_first(payload) if self.caller is None else self._take(frame, now_ms)

    def _broken(self, error: FrameError) -> None:
        self.close(error.code, str(error))

    def _gone(self) -> None:
        if self.close_code is None:
            self.close_code = CloseCode.ABNORMAL
            self._wake.set()
            self._context.metrics.sockets_closed.labels(self.close_code).inc()
        if not self.closed.done():
            self.closed.set_result(None)

    def _expect_hello(self) -> None:
        if self.caller is None:
            self.close(CloseCode.NO_HELLO, "the first frame did not come in time")

    def _decode(self, payload: bytes) -> Any:
        try:
            return decode_msgpack(payload, client_frame_decoder)
        except Problem as problem:
            return problem

    def _take_first(self, payload: bytes) -> None:
        frame = self._decode(payload)
        if not isinstance(frame, Hello):
            self.close(CloseCode.BAD_HELLO, "the first frame is a hello")
            return
        try:
            caller = self._context.tickets.use(frame.ticket, self._context.now_ms())
            self._registry.enter(self, caller)
        except Problem as problem:
            refused = CloseCode.NOT_LOGGED_IN if problem.slug == "ticket-refused" else CloseCode.TOO_MANY
            self.close(refused, problem.body.detail)
            return
        self.caller = caller
        self.reader.max_message_bytes = MAX_FRAME_SIZE_BYTES
        self._send(Ready(self._context.incarnation, caller.account, caller.device))
        self._spawn(self._begin(caller, frame))

    def _take(self, frame: Any, now_ms: int) -> None:
        match frame:
            case Ack():
                self._take_ack(frame)
            case Subscribe():
                self._spawn(self._subscribe(frame))
            case Unsubscribe():
                self._unsubscribe(frame.topic)
            case Typing():
                self._take_typing(frame, now_ms)
            case Ping():
                self.write(_PONG)
            case Problem():
                self._send(Refused(None, frame.body))
            case _:
                self._send(Refused(None, Problem("malformed", "hello comes first, and once").body))

    def _take_ack(self, frame: Ack) -> None:
        subscription = self._subscriptions.get(frame.topic)
        if subscription is None or self.caller is None or frame.seq > subscription.cursor:
            self._send(Refused(None, Problem("malformed", "this entry was never delivered here").body))
        else:
            self._registry.acknowledge(self.caller, frame.topic, frame.seq)

    def _take_typing(self, frame: Typing, now_ms: int) -> None:
        topic, caller = TopicId(frame.topic), self.caller
        if caller is None or not self.is_live(topic):
            self._send(Refused(None, Problem("not-found", "you do not follow this room here").body))
            return
        try:
            self._context.admission.charge("typing", caller.device, now_ms)
        except Problem:
            return  # a sign of typing that is lost harms nobody
        self._registry.relay(self, topic, server_frame(encode_msgpack(frame)))

    def _take_submit(self, frame: Submit, size_bytes: int, now_ms: int) -> None:
        caller = self.caller
        if caller is None:
            return
        if self._bytes.take(now_ms, size_bytes):
            self.close(CloseCode.TOO_MANY, "too many bytes")
            return
        self._submits += 1
        if self._submits >= MAX_SUBMITS_IN_FLIGHT and not self.reader.paused:
            self.reader.paused = True
            self._transport.pause_reading()
        answer = partial(self._answer, frame.request)
        try:
            self._context.admission.charge("send", caller.device, now_ms)
            message = SubmitMessage(frame.room, frame.key, frame.epoch, frame.ciphertext)
            self._registry.submit(self._context, caller, message, answer)
        except Exception as error:
            self._loop.call_soon(answer, None, error)  # not now: the reader is in the middle of its buffer

    def _answer(self, request: int, done: Submitted | None, error: BaseException | None) -> None:
        """Tell how a submit ended; no task waits for it."""
        if done is not None and done.frank is not None:
            self._send(Accepted(request, done.seq, done.accepted_at_ms, done.frank))
        else:
            self._refuse(request, error)
        self._submits -= 1
        if self.reader.paused and self._submits < MAX_SUBMITS_IN_FLIGHT // 2:
            self.reader.resume()
            if not self.reader.paused and not self._transport.is_closing():
                self._transport.resume_reading()

    def _refuse(self, request: int, error: BaseException | None) -> None:
        if not isinstance(error, Problem):
            _log.error("submit failed", error=type(error).__name__, exc_info=error)
            error = Problem("internal-error")
        self._context.metrics.problems.labels(error.slug).inc()
        self._send(Refused(request, error.body))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._tasks is None or self.close_code is not None:
            work.close()
        else:
            self._tasks.create_task(self._guard(work))

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Let a failure end this socket and nothing else: its cursors bring it back."""
        try:
            await work
        except Problem as problem:
            self.close(CloseCode.TRY_LATER, problem.body.title)
        except Exception as error:
            _log.exception("socket failed", error=type(error).__name__)
            self.close(CloseCode.INTERNAL_ERROR, "the server failed: resume from your cursors")

    # ---------------------------------------------------------------------------------------------- subscriptions

    async def _begin(self, caller: Caller, hello: Hello) -> None:
        """Subscribe to what the device may read, each topic from its cursor."""
        restored = hello.incarnation not in ("", self._context.incarnation)
        named = dict(hello.cursors)

        def query(reader: Reader) -> dict[TopicId, tuple[int, int] | Problem]:
            return readable_heads(reader, caller, dict.fromkeys([*own_topics(reader, caller), *named]))

        found = await self._context.database.read(query)
        heads = {topic: one for topic, one in found.items() if not isinstance(one, Problem)}
        future = {topic for topic, seq in named.items() if topic in heads and seq > heads[topic][1]}
        if restored or future:
            told = heads if restored else sorted(future)
            self._send(Resync(self._context.incarnation, {str(topic): heads[topic][1] for topic in told}))
        for topic, one in found.items():
            if isinstance(one, Problem):
                self._send(Ended(topic, one.body))
            else:
                floor, head = one
                start = head if topic[0] == "c" else floor
                self._add(topic, min(named.get(topic, start), head))

    async def _subscribe(self, frame: Subscribe) -> None:
        topic, caller = frame.topic, self.caller
        if caller is None:
            return
        found = (await self._context.database.read(lambda reader: readable_heads(reader, caller, [topic])))[topic]
        if isinstance(found, Problem):
            self._send(Ended(topic, found.body))
            return
        floor, head = found
        start = head if topic[0] == "c" else floor
        if frame.after is not None and frame.after > head:
            self._send(Resync(self._context.incarnation, {str(topic): head}))
        known = self._subscriptions.get(topic)
        if known is None:
            self._add(topic, start if frame.after is None else min(frame.after, head))
        elif frame.after is not None:
            known.cursor = max(known.cursor, min(frame.after, head))

    def _add(self, topic: TopicId, cursor: int) -> None:
        if topic in self._subscriptions or self.close_code is not None:
            return
        if len(self._subscriptions) >= self._context.limits.subscriptions_per_socket:
            self._send(Ended(topic, Problem("too-many-requests", "this socket carries its most topics").body))
            return
        self._subscriptions[topic] = Subscription(topic, cursor, ask_access=True)
        self._registry.join(self, topic)
        self._wake.set()

    def _unsubscribe(self, topic: TopicId) -> None:
        if self._subscriptions.pop(topic, None) is not None:
            self._registry.part(self, topic)

    def _end(self, one: Subscription, problem: Problem) -> None:
        if self._subscriptions.get(one.topic) is one:
            self._unsubscribe(one.topic)
            self._send(Ended(one.topic, problem.body))
