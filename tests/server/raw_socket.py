"""A client that speaks bytes: for what no library would send."""

import asyncio
import base64
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from heliograph.wire.encoding import encode_msgpack
from heliograph.wire.events import Hello, Ready, server_frame_decoder
from heliograph.wire.operations import STREAM_PATH
from tests.world import LoggedIn, World


class RawSocket:
    """A TCP connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes; a peer that has hung up is no error here."""
        self.writer.write(data)
        try:
            await self.writer.drain()
        except ConnectionError:
            return

    async def head(self, within_s: float = 5) -> tuple[int, str]:
        """Read a response head and return its status and text."""
        async with asyncio.timeout(within_s):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        return int(text.split(" ", 2)[1]), text

    async def frame(self, within_s: float = 5) -> tuple[int, bytes]:
        """Read a frame and return its opcode and payload."""
        async with asyncio.timeout(within_s):
            first, second = await self.reader.readexactly(2)
            size = second
            if second >= 126:
                size = int.from_bytes(await self.reader.readexactly(2 if second == 126 else 8))
            return first & 0x0F, await self.reader.readexactly(size)

    async def close_code(self, within_s: float = 5) -> int | None:
        """Read to the end and return the code of the close frame, None where there was none."""
        try:
            while True:
                opcode, payload = await self.frame(within_s)
                if opcode == 8:
                    return int.from_bytes(payload[:2])
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def is_closed(self, within_s: float) -> bool:
        """Tell whether the server hangs up in time."""
        try:
            async with asyncio.timeout(within_s):
                while await self.reader.read(65536):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True


@asynccontextmanager
async def connect(w: World) -> AsyncGenerator[RawSocket]:
    """Open a TCP connection."""
    parts = urlsplit(w.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield RawSocket(reader, writer)
    finally:
        writer.close()


def handshake(extra: str = "", path: str = STREAM_PATH, key: str | None = None) -> bytes:
    """Return an opening handshake; `extra` are more header lines."""
    nonce = key or base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
    ).encode()


@asynccontextmanager
async def upgraded(w: World, extra: str = "") -> AsyncGenerator[RawSocket]:
    """Open a socket and leave its first frame to the test."""
    async with connect(w) as raw:
        await raw.send(handshake(extra))
        status, head = await raw.head()
        assert status == 101, head
        yield raw


@asynccontextmanager
async def greeted(w: World, who: LoggedIn) -> AsyncGenerator[RawSocket]:
    """Open a socket that has said hello."""
    ticket = await w.ticket(who)
    async with upgraded(w) as raw:
        await raw.send(client_frame(encode_msgpack(Hello(ticket))))
        opcode, payload = await raw.frame()
        assert opcode == 2 and isinstance(server_frame_decoder.decode(payload), Ready)
        yield raw


def client_frame(
    payload: bytes = b"", opcode: int = 2, *, fin: bool = True, rsv: int = 0, masked: bool = True
) -> bytes:
    """Return a frame as a client sends it, or should not."""
    size = len(payload)
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    mask_bit = 0x80 if masked else 0
    if size < 126:
        head = bytes((first, mask_bit | size))
    elif size < 65536:
        head = bytes((first, mask_bit | 126)) + size.to_bytes(2)
    else:
        head = bytes((first, mask_bit | 127)) + size.to_bytes(8)
    if not masked:
        return head + payload
    key = os.urandom(4)
    repeated = (key * (size // 4 + 1))[:size]
    return head + key + bytes(a ^ b for a, b in zip(payload, repeated, strict=True))
