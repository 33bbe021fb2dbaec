"""All sockets of one process: who reads which topic, and what happens to all of them.

A hint that brings entries is made into one frame, once, and written to every live reader of its topic. Readers that
are behind, or whose access may have changed, go through their pump (`pump.py`). Nothing here is the truth: a
process that dies loses its sockets, and their cursors bring them back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from aiohttp import web

from heliograph.server import peer
from heliograph.server.auth import Caller, EndedTest
from heliograph.server.bus.wakeups import Hints, Written
from heliograph.server.connection import Connection, SubmitHandler
from heliograph.server.context import Context
from heliograph.server.db.database import Transaction
from heliograph.server.pump import MAX_ENTRIES_SIZE_BYTES
from heliograph.server.sessions import read_session
from heliograph.server.tail import Tail
from heliograph.server.topics import write_acknowledgement
from heliograph.server.websocket import CloseCode, server_frame, upgrade_headers
from heliograph.wire.encoding import encode_msgpack
from heliograph.wire.events import Entries, Entry
from heliograph.wire.ids import DeviceId, TopicId
from heliograph.wire.operations import STREAM_PATH
from heliograph.wire.problems import Problem

SWEEP_EVERY_S = 1.0
ACKNOWLEDGE_EVERY_S = 0.5
READERS_PER_SLICE = 500
SESSIONS_PER_READ = 500
SharedFrame = tuple[int, int, bytes]
"""Entries `first` to `last` of a topic as one finished frame."""


class Streams:
    """The sockets of this process."""

    def __init__(self, context: Context, submit: SubmitHandler) -> None:
        limits = context.limits
        self.submit = submit
        self.tail = Tail(limits.tail_entries, limits.tail_topics, limits.tail_bytes)
        self.draining = False
        self._context = context
        self._loop = asyncio.get_running_loop()
        self.connections: dict[Connection, None] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._by_device: dict[DeviceId, int] = {}
        self._holding: list[Connection] = []
        self._readers: dict[TopicId, dict[Connection, None]] = {}
        self._acknowledged: dict[tuple[TopicId, DeviceId], int] = {}
        context.wakeups.listen(self.heard)
        context.sessions.on_end(self._end_sessions)

    def routes(self, context: Context) -> Sequence[web.RouteDef]:
        """Return the socket's address."""
        del context
        return [web.get(STREAM_PATH, self._serve, allow_head=False)]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        """Upgrade a request and serve the socket until it ends."""
        headers = upgrade_headers(request)
        if self.draining or len(self.connections) >= self._context.limits.sockets:
            raise Problem(
                "overloaded", "too many sockets: try again", retry_after_s=1 + self._context.random(1)[0] // 26
            )
        source = self._context.admission.source(peer.address(self._context, request), self._context.now_ms())
        self._context.admission.charge("source", source, self._context.now_ms())
        response = web.StreamResponse(status=101, headers=headers)
        response.force_close()
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            return response
        connection = Connection(self._context, self, transport, self._loop.time())
        self.connections[connection] = None
        self._empty.clear()
        self._context.metrics.sockets.set(len(self.connections))
        try:
            request.protocol.keep_alive(False)
            request.protocol.set_parser(connection.reader)  # type: ignore[arg-type]
            await connection.run()
        finally:
            self._leave(connection)
        return response

    # ------------------------------------------------------------------------------- what a connection asks of us

    def enter(self, connection: Connection, caller: Caller) -> None:
        """Count a socket for its device.

        Raises:
            Problem: `too-many-requests`.
        """
        count = self._by_device.get(caller.device, 0)
        if count >= self._context.limits.sockets_per_device:
            raise Problem("too-many-requests", "this device has its most sockets open")
        self._by_device[caller.device] = count + 1

    def _leave(self, connection: Connection) -> None:
        del self.connections[connection]
        if not self.connections:
            self._empty.set()
        self._context.metrics.sockets.set(len(self.connections))
        caller = connection.caller
        if caller is not None:
            self._by_device[caller.device] -= 1
            if not self._by_device[caller.device]:
                del self._by_device[caller.device]

    def join(self, connection: Connection, topic: TopicId) -> None:
        """Send hints of a topic to a connection."""
        self._readers.setdefault(topic, {})[connection] = None

    def part(self, connection: Connection, topic: TopicId) -> None:
        """Send no more of them."""
        readers = self._readers.get(topic)
        if readers is not None:
            readers.pop(connection, None)
            if not readers:
                del self._readers[topic]
                self.tail.drop(topic)

    def acknowledge(self, caller: Caller, topic: TopicId, seq: int) -> None:
        """Keep an acknowledgement with the next few; one that a crash loses is sent again."""
        key = (topic, caller.device)
        self._acknowledged[key] = max(seq, self._acknowledged.get(key, 0))

    def flush_soon(self, connection: Connection) -> None:
        """Let a connection write what it holds, at the end of this turn of the loop."""
        if not self._holding:
            self._loop.call_soon(self._flush)
        self._holding.append(connection)

    def _flush(self) -> None:
        holding, self._holding = self._holding, []
        for connection in holding:
            connection.flush()

    def relay(self, connection: Connection, topic: TopicId, frame: bytes) -> None:
        """Write a frame to the other live readers of a topic that can take it now."""
        for other in self._readers.get(topic, ()):
            if other is not connection and other.pump.is_live(topic):
                other.write_if_clear(frame)

    # -------------------------------------------------------------------------------------------------- hints

    def heard(self, hints: Hints) -> None:
        """Pass hints on to who reads the topics."""
        delivered = 0
        for topic, written in hints.items():
            readers = self._readers.get(topic)
            if written is None:
                self.tail.drop(topic)
                for connection in readers or ():
                    connection.pump.touch(topic)
            elif readers:
                self.tail.extend(topic, written)
                delivered += self._deliver(topic, _frames(topic, written), list(readers))
        self._context.metrics.delivered.inc(delivered)

    def _deliver(self, topic: TopicId, frames: list[SharedFrame], readers: list[Connection]) -> int:
        """Write shared frames to readers, a slice at a time, so that a large audience does not hold everyone up."""
        delivered = 0
        for first, last, frame in frames:
            for connection in readers[:READERS_PER_SLICE]:
                delivered += connection.pump.deliver(topic, first, last, frame)
        if len(readers) > READERS_PER_SLICE:
            self._loop.call_soon(self._deliver, topic, frames, readers[READERS_PER_SLICE:])
        return delivered

    # -------------------------------------------------------------------------------------------------- tasks

    async def run(self) -> None:
        """Sweep and save acknowledgements until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._every(SWEEP_EVERY_S, self._sweep))
            tasks.create_task(self._every(ACKNOWLEDGE_EVERY_S, self.save_acknowledgements))

    async def drain(self) -> None:
        """Take no new sockets, send all away, and wait until they are gone."""
        self.draining = True
        for number, connection in enumerate(list(self.connections)):
            connection.close(CloseCode.RESTART, "the server restarts: resume from your cursors")
            if number % 100 == 99:
                await asyncio.sleep(0)
        await self._empty.wait()
        await self.save_acknowledgements()

    async def save_acknowledgements(self) -> None:
        """Write the acknowledgements that came since the last time, in one act."""
        saved, self._acknowledged = self._acknowledged, {}
        if not saved:
            return

        def act(tx: Transaction) -> None:
            for (topic, device), seq in saved.items():
                write_acknowledgement(tx, topic, device, seq)

        await self._context.database.write(act)

    async def _every(self, period_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(period_s)
            await work()

    async def _sweep(self) -> None:
        """Ping the quiet, cut the dead and the stalled, and end what has run out of its session."""
        now_s, now_ms, limits = self._loop.time(), self._context.now_ms(), self._context.limits
        forgotten: list[Connection] = []
        for number, connection in enumerate(list(self.connections)):
            if now_s - connection.heard_at_s > limits.silent_for_s:
                connection.close(CloseCode.GOING_AWAY, "nothing was heard from you")
            elif connection.is_clear():
                connection.stalled_since_s = None
                if now_s - connection.pinged_at_s >= limits.ping_every_s:
                    connection.ping(now_s)
                    if not self._use_session(connection, now_ms):
                        forgotten.append(connection)
            elif connection.stalled_since_s is None:
                connection.stalled_since_s = now_s
            elif now_s - connection.stalled_since_s > limits.stalled_for_s:
                connection.close(CloseCode.TRY_LATER, "read faster, and resume from your cursor")
            if number % 1000 == 999:
                await asyncio.sleep(0)
        for begin in range(0, len(forgotten), SESSIONS_PER_READ):
            await self._look_up(forgotten[begin : begin + SESSIONS_PER_READ], now_ms)

    def _use_session(self, connection: Connection, now_ms: int) -> bool:
        """Let an open socket use its session, or end with it; return False where the session is not in memory."""
        if connection.caller is None:
            return True
        session = self._context.sessions.find(connection.caller.session)
        if session is None:
            return False
        if now_ms >= session.expires_at_ms or session.restriction is not None:
            connection.close(CloseCode.NOT_LOGGED_IN, "log in again")
        session.seen_at_ms = max(session.seen_at_ms, now_ms)
        return True

    async def _look_up(self, connections: Sequence[Connection], now_ms: int) -> None:
        """Ask the database about the sessions of open sockets that memory has let go of."""
        sessions, limits = self._context.sessions, self._context.limits
        generation = sessions.generation
        hashes = {one.caller.session for one in connections if one.caller is not None}
        found = await self._context.database.read(lambda reader: [read_session(reader, limits, one) for one in hashes])
        for session in found:
            if session is not None and not session.is_over(now_ms) and generation == sessions.generation:
                sessions.remember(session)
        standing = {one.caller.session for one in found if one is not None and not one.is_over(now_ms)}
        for connection in connections:
            if connection.caller is not None and connection.caller.session not in standing:
                connection.close(CloseCode.NOT_LOGGED_IN, "log in again")
            else:
                self._use_session(connection, now_ms)

    def _end_sessions(self, test: EndedTest) -> None:
        self._context.tickets.end(test)
        for connection in list(self.connections):
            if connection.caller is not None and test(connection.caller):
                connection.close(CloseCode.NOT_LOGGED_IN, "this session has ended")


def _frames(topic: TopicId, written: Sequence[Written]) -> list[SharedFrame]:
    """Return entries as finished frames of at most 64 KiB (an entry that is larger stands alone)."""
    if len(written) == 1:
        return [_frame(topic, [Entry(written[0][0], msgspec.Raw(written[0][1]))])]
    frames: list[SharedFrame] = []
    items: list[Entry] = []
    size_bytes = 0
    for seq, body in written:
        if items and size_bytes + len(body) > MAX_ENTRIES_SIZE_BYTES:
            frames.append(_frame(topic, items))
            items, size_bytes = [], 0
        items.append(Entry(seq, msgspec.Raw(body)))
        size_bytes += len(body) + 16
    frames.append(_frame(topic, items))
    return frames


def _frame(topic: TopicId, items: list[Entry]) -> SharedFrame:
    first = items[0].seq
    return first, items[-1].seq, server_frame(encode_msgpack(Entries(topic, first, items)))
