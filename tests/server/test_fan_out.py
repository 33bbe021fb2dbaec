"""Fan-out: what many read is made into a frame once."""

from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from heliograph.server import log, stream
from heliograph.wire.encoding import encode_msgpack
from heliograph.wire.events import Entries, Head, OutcomeEvent, ReceivedEntries
from heliograph.wire.ids import TopicId
from tests.world import world

SOCKETS = 8


async def test_an_entry_is_encoded_once_however_many_sockets_it_goes_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[msgspec.Struct] = []

    def encode_and_count(frame: msgspec.Struct) -> bytes:
        encoded.append(frame)
        return encode_msgpack(frame)

    async with world(tmp_path) as w, AsyncExitStack() as stack:
        alice = await w.register("alice")
        topic = TopicId(alice.device)
        sockets = [await stack.enter_async_context(w.stream(alice)) for _ in range(SOCKETS)]
        for socket in sockets:
            await socket.until(Head)
        monkeypatch.setattr(stream, "encode_msgpack", encode_and_count)
        event = OutcomeEvent("rp" + "a" * 26, "no-action", w.clock())
        await w.context.database.write(lambda tx: log.append(tx, topic, event))
        received = [await socket.until(ReceivedEntries) for socket in sockets]

    assert received == [received[0]] * SOCKETS
    assert len([frame for frame in encoded if isinstance(frame, Entries)]) == 1
