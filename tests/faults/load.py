"""A load that outlives its server: people who send without pause, read everything, and write down what they saw.

Each person holds one stream, as a real client does: a message under way, sent again under the same key on the next
stream until it is answered, and a cursor from which the next stream resumes. What they saw is judged by `history.py`.

A room's first entry is the commit that added its people; it is not theirs to read, so seqs are counted from behind it.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from heliograph.client.errors import Unreachable
from heliograph.client.transport import Stream
from heliograph.wire.events import Accepted, CommitEvent, Ended, MessageEvent, ReceivedEntries, Refused, Submit
from heliograph.wire.ids import RoomId, TopicId, room_topic
from heliograph.wire.problems import Problem
from heliograph.wire.rooms import ReadTopic, SubmitCommit, Submitted
from tests.faults.history import Delivery, History, Send, Win
from tests.faults.people import Person, submission

MESSAGE_SIZE_BYTES = 240
EPOCH = 1
ADDED_SEQ = 1
PAUSE_S = 0.02
ANSWERED_WITHIN_S = 60
CAUGHT_UP_WITHIN_S = 20
PAGE = 500
RETRYABLE = ("overloaded", "internal-error", "too-many-requests")


@dataclass(slots=True)
class _UnderWay:
    message: Submit
    invoked_at: float


class Talker:
    """One person in one room."""

    def __init__(self, person: Person, room: RoomId, history: History) -> None:
        self.sent_again = 0
        self.connections = 0
        self.cursor = ADDED_SEQ
        self._person = person
        self.room = room
        self._history = history
        self._incarnation = ""
        self._request = 0
        self._under_way: _UnderWay | None = None
        self._stopping = False
        self.quiet = asyncio.Event()
        """Set once all that was sent has been answered and nothing more will be sent."""

    async def run(self) -> None:
        """Talk until cancelled, whatever happens to the server."""
        while True:
            try:
                cursors = {room_topic(self.room): self.cursor}
                async with self._person.transport.stream(self._incarnation, cursors) as stream:
                    self.connections += 1
                    await self._talk(stream)
            except Unreachable:
                await asyncio.sleep(PAUSE_S)
            except Problem as problem:
                if problem.slug not in RETRYABLE:
                    raise
                await asyncio.sleep(PAUSE_S)

    def stop(self) -> None:
        """Send nothing new; what is under way is sent until it is answered."""
        self._stopping = True
        if self._under_way is None:
            self.quiet.set()

    async def read_up_to(self, seq: int) -> None:
        """Wait until everything up to `seq` has been read."""
        while self.cursor < seq:
            await asyncio.sleep(PAUSE_S)

    async def _talk(self, stream: Stream) -> None:
        if stream.ready is not None:
            self._incarnation = stream.ready.incarnation
        await self._send(stream)
        while True:
            frame = await stream.receive()
            if isinstance(frame, Accepted):
                self._note_accepted(frame)
                await self._send(stream)
            elif isinstance(frame, ReceivedEntries):
                self._note_entries(frame)
            elif isinstance(frame, Refused):
                raise Problem.received(frame.problem)
            elif isinstance(frame, Ended):
                raise AssertionError(f"{frame.topic} has ended: {frame.problem}")

    async def _send(self, stream: Stream) -> None:
        if self._under_way is not None:
            self.sent_again += 1
        elif self._stopping:
            self.quiet.set()
            return
        else:
            self._request += 1
            message = submission(self.room, EPOCH, MESSAGE_SIZE_BYTES, self._request)
            self._under_way = _UnderWay(message, time.monotonic())
        await stream.send(self._under_way.message)

    def _note_accepted(self, frame: Accepted) -> None:
        under_way = self._under_way
        if under_way is None or frame.request != under_way.message.request:
            raise AssertionError("an answer to a question that was not asked")
        self._under_way = None
        body, seq = under_way.message.ciphertext, frame.seq - ADDED_SEQ
        self._history.sends.append(Send(self.room, body, under_way.invoked_at, seq, time.monotonic()))

    def _note_entries(self, frame: ReceivedEntries) -> None:
        if frame.topic != self.room:
            return  # their own mailbox
        reader = self._person.identity.device
        for entry in frame.items:
            body = entry_body(entry.event)
            self._history.deliveries.append(Delivery(reader, self.connections, self.room, entry.seq - ADDED_SEQ, body))
            self.cursor = entry.seq


class Committer:
    """One person who moves a room's group on, epoch by epoch, each commit sent again until it is answered."""

    def __init__(self, person: Person, room: RoomId, history: History) -> None:
        self._person = person
        self._room = room
        self._history = history

    async def run(self) -> None:
        """Commit until cancelled."""
        while True:
            await self.commit()

    async def commit(self) -> None:
        """Make one commit, and keep at it until the server has answered."""
        phone = self._person.phone
        pending = phone.build(self._room)
        request, sent = phone.submission(self._room, pending), Send(self._room, pending.commit, time.monotonic())
        try:
            answer = await self._submit(request)
            sent = replace(sent, seq=answer.seq - ADDED_SEQ, acknowledged_at=time.monotonic())
        finally:
            self._history.sends.append(sent)  # also without an answer: the server may have taken it
        phone.groups[self._room] = pending.group
        self._history.wins.append(Win(self._room, request.epoch, request.commit))

    async def catch_up(self) -> None:
        """Take in the room's log from where this person joined."""
        phone = self._person.phone
        for entry in await read_log(self._person, self._room):
            phone.groups[self._room], _ = phone.groups[self._room].receive(entry[1], now_s=phone.now_s())

    async def _submit(self, request: SubmitCommit) -> Submitted:
        while True:
            try:
                return await self._person.phone.ask("submit_commit", request)
            except Unreachable:
                await asyncio.sleep(PAUSE_S)
            except Problem as problem:
                if problem.slug not in RETRYABLE:
                    raise
                await asyncio.sleep(PAUSE_S)


def entry_body(event: object) -> bytes:
    """Return what was sent, as the log gives it back."""
    if isinstance(event, MessageEvent):
        return event.ciphertext
    if isinstance(event, CommitEvent):
        return event.commit
    raise AssertionError(f"nobody sent a {type(event).__name__}")


async def read_log(person: Person, room: RoomId) -> list[tuple[int, bytes]]:
    """Return a room's whole log behind its first entry, as a fresh reader finds it."""
    found: list[tuple[int, bytes]] = []
    while True:
        after = ADDED_SEQ + len(found)
        page = await person.phone.ask("read_topic", ReadTopic(TopicId(room), after, PAGE))
        found += [(entry.seq - ADDED_SEQ, entry_body(entry.event)) for entry in page.entries]
        if len(page.entries) < PAGE:
            return found


async def settle(talkers: Sequence[Talker], rooms: Sequence[tuple[Person, RoomId]], history: History) -> None:
    """Let everything under way be answered, note the final logs, and wait until everyone has read them."""
    for talker in talkers:
        talker.stop()
    async with asyncio.timeout(ANSWERED_WITHIN_S):
        await asyncio.gather(*(talker.quiet.wait() for talker in talkers))
    for person, room in rooms:
        history.final[room] = await read_log(person, room)
    heads = {room: ADDED_SEQ + len(history.final[room]) for _, room in rooms}
    with suppress(TimeoutError):  # the judge says who has not caught up
        async with asyncio.timeout(CAUGHT_UP_WITHIN_S):
            await asyncio.gather(*(talker.read_up_to(heads[talker.room]) for talker in talkers))


async def under_way(history: History, sends: int, wins: int = 0) -> None:
    """Wait until so many more sends and commits have been acknowledged: a fault is to hit a server at work."""
    sends, wins = sends + len(history.sends), wins + len(history.wins)
    async with asyncio.timeout(ANSWERED_WITHIN_S):
        while len(history.sends) < sends or len(history.wins) < wins:
            await asyncio.sleep(PAUSE_S)


def moments(seed: int, count: int, least_s: float, most_s: float) -> list[float]:
    """Return how long to wait before each of `count` faults."""
    chosen = random.Random(seed)
    return [chosen.uniform(least_s, most_s) for _ in range(count)]
