"""One socket, from its handshake to its end: what comes in, and when it is closed and why.

```
bytes -> FrameReader -> hello | ack | subscribe | unsubscribe | typing | ping | submit
                          |
                        pump (what goes out)
```

Frames are taken one by one, in the order of the wire. Whatever a peer does wrong ends its own socket alone, by a code
of `websocket.CloseCode`; its cursors bring it back.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

import structlog

from heliograph.server.access import own_topics, readable_heads
from heliograph.server.auth import Caller
from heliograph.server.context import Context
from heliograph.server.db.database import Done, Reader
from heliograph.server.limits import Bucket
from heliograph.server.logs import trace_of
from heliograph.server.pump import Pump
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

MAX_SUBMITS_IN_FLIGHT = 64
MAX_IGNORED_FRAMES = 64
LINGER_S = 1.0
"""How long a closed socket waits for the peer's close frame, so that the peer gets to see why it was closed."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("heliograph.stream")
_PING = server_frame(b"", Opcode.PING)
_PONG = server_frame(encode_msgpack(Pong()))

SubmitHandler = Callable[[Context, Caller, SubmitMessage, Done[Submitted]], None]
"""Takes a message; a Problem that is found at once is raised, any later one is told."""


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

    def flush_soon(self, connection: "Connection") -> None:
        """Let a connection write what it holds, at the end of this turn of the loop."""
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
        join, part = partial(registry.join, self), partial(registry.part, self)
        self.pump = Pump(context, registry.tail, self, join, part)
        self._tasks: asyncio.TaskGroup | None = None
        self._held = b""
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
            pump = tasks.create_task(self._guard(self.pump.run()))
            hello = self._loop.call_later(self._context.limits.hello_within_s, self._expect_hello)
            try:
                await asyncio.shield(self.closed)
            finally:
                hello.cancel()
                pump.cancel()
                self.pump.end()

    # ------------------------------------------------------------------------------------------------- going out

    def write(self, frame: bytes) -> None:
        """Write a whole frame; who lets the buffer grow to the hard limit is cut off."""
        if self.close_code is not None or self._transport.is_closing():
            return
        self._transport.write(self._with_held(frame))
        if self._transport.get_write_buffer_size() >= self._hard_bytes:
            self.close(CloseCode.TRY_LATER, "read faster, and resume from your cursor")

    def write_if_clear(self, frame: bytes) -> bool:
        """Write a finished frame and return True, or return False where the socket does not take more now."""
        clear = self.is_clear()
        if clear:
            self._transport.write(self._with_held(frame))
        return clear

    def hold(self, frame: bytes) -> None:
        """Write a finished frame with the next one of this turn of the loop: each write is a call to the system."""
        if not self._held:
            self._registry.flush_soon(self)
        self._held += frame

    def flush(self) -> None:
        """Write what is held."""
        if self._held:
            self.write(b"")

    def _with_held(self, frame: bytes) -> bytes:
        if not self._held:
            return frame
        held, self._held = self._held, b""
        return held + frame

    def is_clear(self) -> bool:
        """Tell whether the socket takes more now."""
        return (
            self.close_code is None
            and not self._transport.is_closing()
            and self._transport.get_write_buffer_size() < self._soft_bytes
        )

    def ping(self, now_s: float) -> None:
        """Ask the peer for a sign of life."""
        self.pinged_at_s = now_s
        self.write(_PING)

    def close(self, code: int, reason: str = "") -> None:
        """Say why and end the socket. A peer that does not read is not waited for."""
        if self.close_code is not None:
            return
        self.close_code = code
        self.pump.wake()
        self._context.metrics.sockets_closed.labels(code).inc()
        if self._transport.is_closing() or self._transport.get_write_buffer_size() >= self._soft_bytes:
            self._hang_up()
        else:
            self._transport.write(self._with_held(close_frame(code, reason)))
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

    def send(self, frame: Any) -> None:
        """Write one of the structs of `wire/events.py`."""
        self.write(server_frame(encode_msgpack(frame)))

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
            self.pump.wake()
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
        self.send(Ready(self._context.incarnation, caller.account, caller.device))
        self._spawn(self._begin(caller, frame))

    def _take(self, frame: Any, now_ms: int) -> None:
        match frame:
            case Ack():
                self._take_ack(frame)
            case Subscribe():
                self._spawn(self._subscribe(frame))
            case Unsubscribe():
                self.pump.unsubscribe(frame.topic)
            case Typing():
                self._take_typing(frame, now_ms)
            case Ping():
                self.write(_PONG)
            case Problem():
                self.send(Refused(None, frame.body))
            case _:
                self.send(Refused(None, Problem("malformed", "hello comes first, and once").body))

    def _take_ack(self, frame: Ack) -> None:
        cursor = self.pump.cursor(frame.topic)
        if cursor is None or self.caller is None or frame.seq > cursor:
            self.send(Refused(None, Problem("malformed", "this entry was never delivered here").body))
        else:
            self._registry.acknowledge(self.caller, frame.topic, frame.seq)

    def _take_typing(self, frame: Typing, now_ms: int) -> None:
        topic, caller = TopicId(frame.topic), self.caller
        if caller is None or not self.pump.is_live(topic):
            self.send(Refused(None, Problem("not-found", "you do not follow this room here").body))
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
            answer = Accepted(request, done.seq, done.accepted_at_ms, done.frank)
            self.hold(server_frame(encode_msgpack(answer)))
        else:
            self._refuse(request, error)
        self._submits -= 1
        if self.reader.paused and self._submits < MAX_SUBMITS_IN_FLIGHT // 2:
            self.reader.resume()
            if not self.reader.paused and not self._transport.is_closing():
                self._transport.resume_reading()

    def _refuse(self, request: int, error: BaseException | None) -> None:
        if not isinstance(error, Problem):
            _log.error("submit failed", error=type(error).__name__, exc_info=trace_of(error))
            error = Problem("internal-error")
        self._context.metrics.problems.labels(error.slug).inc()
        self.send(Refused(request, error.body))

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
            _log.error("socket failed", error=type(error).__name__, exc_info=trace_of(error))
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
            self.send(Resync(self._context.incarnation, {str(topic): heads[topic][1] for topic in told}))
        for topic, one in found.items():
            if isinstance(one, Problem):
                self.send(Ended(topic, one.body))
            else:
                floor, head = one
                start = head if topic[0] == "c" else floor
                self._start(topic, min(named.get(topic, start), head))

    async def _subscribe(self, frame: Subscribe) -> None:
        topic, caller = frame.topic, self.caller
        if caller is None:
            return
        found = (await self._context.database.read(lambda reader: readable_heads(reader, caller, [topic])))[topic]
        if isinstance(found, Problem):
            self.send(Ended(topic, found.body))
            return
        floor, head = found
        start = head if topic[0] == "c" else floor
        if frame.after is None and self.pump.cursor(topic) is not None:
            return
        if frame.after is not None and frame.after > head:
            self.send(Resync(self._context.incarnation, {str(topic): head}))
        self._start(topic, start if frame.after is None else min(frame.after, head))

    def _start(self, topic: TopicId, cursor: int) -> None:
        if self.close_code is None:
            self.pump.subscribe(topic, cursor)
