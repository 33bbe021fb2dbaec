"""The server's half of RFC 6455, strict: what a browser or our SDK never sends ends the connection.

aiohttp answers the HTTP request and owns the TCP connection; from the upgrade on it hands every byte to a
`FrameReader` (`RequestHandler.set_parser`). Its own WebSocket reader accepts unmasked frames and endless floods of
fragments, wakes a task for each message, and its writer builds each frame anew for every receiver; so both halves
are here. No extension is ever negotiated: a compressed frame does not exist.

```
 0                   1                   2                   3
|F|RSV|opcode |M| length 7    | length 16 or 64, if 126 or 127  | masking key 32 | payload ...
```
"""

import base64
import binascii
import hashlib
from collections.abc import Callable
from enum import IntEnum
from typing import Final

from aiohttp import hdrs, web

from heliograph.wire.problems import Problem

MAX_FRAGMENTS: Final = 64
MAX_CONTROL_SIZE_BYTES: Final = 125
_WHOLE_BINARY: Final = 0x82
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Opcode(IntEnum):
    """Frame opcodes. Source: RFC 6455 §11.8."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class CloseCode(IntEnum):
    """Why a socket ends. Source: RFC 6455 §7.4.1; those from 4000 are ours, after HTTP's."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    ABNORMAL = 1006
    """Never sent: the connection was gone."""
    INVALID_DATA = 1007
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    RESTART = 1012
    TRY_LATER = 1013
    BAD_HELLO = 4400
    NOT_LOGGED_IN = 4401
    NO_HELLO = 4408
    TOO_MANY = 4429


class FrameError(Exception):
    """The peer broke the protocol; the connection ends with `code`."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        self.code = code
        super().__init__(reason)


def upgrade_headers(request: web.BaseRequest) -> dict[str, str]:
    """Check a handshake and return the headers of its 101 answer.

    Raises:
        Problem: `malformed`. Source: RFC 6455 §4.2.1.
    """
    headers = request.headers
    if request.rel_url.raw_query_string:
        raise Problem("malformed", "the stream takes no query: the ticket goes into the first frame")
    if headers.get(hdrs.UPGRADE, "").strip().lower() != "websocket":
        raise Problem("malformed", "this address speaks WebSocket alone")
    if "upgrade" not in [part.strip().lower() for part in headers.get(hdrs.CONNECTION, "").split(",")]:
        raise Problem("malformed", "a handshake says Connection: upgrade")
    if headers.getall(hdrs.SEC_WEBSOCKET_VERSION, []) != ["13"]:
        raise Problem("malformed", "this server speaks WebSocket version 13")
    keys = headers.getall(hdrs.SEC_WEBSOCKET_KEY, [])
    try:
        nonce = base64.b64decode(keys[0], validate=True) if len(keys) == 1 else b""
    except binascii.Error:
        nonce = b""
    if len(nonce) != 16:
        raise Problem("malformed", "a handshake has one key of 16 bytes")
    accept = base64.b64encode(hashlib.sha1(keys[0].encode() + _GUID).digest())  # noqa: S324
    return {hdrs.UPGRADE: "websocket", hdrs.CONNECTION: "upgrade", hdrs.SEC_WEBSOCKET_ACCEPT: accept.decode()}


def server_frame(payload: bytes, opcode: Opcode = Opcode.BINARY) -> bytes:
    """Return a whole unmasked frame: built once, it can be written to any number of sockets."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2) + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a close frame."""
    return server_frame(code.to_bytes(2) + reason.encode()[: MAX_CONTROL_SIZE_BYTES - 2], Opcode.CLOSE)


class FrameReader:
    """Cuts the peer's bytes into frames and tells `received` of each whole message and control frame.

    What it holds is bounded by `max_message_bytes` and one TCP read. `failed` hears of the first broken rule, after
    which nothing more is read. While `paused`, complete frames wait.
    """

    def __init__(
        self,
        received: Callable[[Opcode, bytes], None],
        failed: Callable[[FrameError], None],
        ended: Callable[[], None],
        max_message_bytes: int,
    ) -> None:
        self.max_message_bytes = max_message_bytes
        self.paused = False
        self._received = received
        self._failed = failed
        self._ended = ended
        self._buffer = b""
        self._message: list[bytes] = []
        self._message_bytes = 0
        self._message_opcode: Opcode | None = None
        self._stopped = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take what came from the peer (aiohttp's protocol calls this)."""
        if not self._stopped:
            self._buffer = self._buffer + data if self._buffer else bytes(data)
            self._read()
        return False, b""

    def feed_eof(self) -> None:
        """Hear that the connection is gone (aiohttp's protocol calls this)."""
        self.stop()
        self._ended()

    def resume(self) -> None:
        """Go on after a pause."""
        self.paused = False
        self._read()

    def stop(self) -> None:
        """Read nothing more."""
        self._stopped = True
        self._buffer = b""
        self._message = []

    def _read(self) -> None:
        buffer, position = self._buffer, 0
        try:
            while not self.paused and not self._stopped:
                consumed = self._read_frame(buffer, position)
                if not consumed:
                    break
                position += consumed
        except FrameError as error:
            self.stop()
            self._failed(error)
        if not self._stopped:
            self._buffer = buffer[position:] if position else buffer

    def _read_frame(self, buffer: bytes, position: int) -> int:
        """Read the frame at `position` and return its size, or 0 while it is incomplete."""
        available = len(buffer) - position
        if available < 2:
            return 0
        first, second = buffer[position], buffer[position + 1]
        if second < 0x80:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "client frames are masked")
        length = second & 0x7F
        whole = first == _WHOLE_BINARY and self._message_opcode is None  # nearly all frames: no more to check
        opcode = Opcode.BINARY if whole else self._check_head(first, length)
        head = 2
        if length >= 126:
            head = 4 if length == 126 else 10
            if available < head:
                return 0
            length = int.from_bytes(buffer[position + 2 : position + head])
            if length < (126 if head == 4 else 65536):
                raise FrameError(CloseCode.PROTOCOL_ERROR, "lengths are written in their shortest form")
        if length + self._message_bytes > self.max_message_bytes and opcode < Opcode.CLOSE:
            raise FrameError(CloseCode.TOO_BIG, f"a message has at most {self.max_message_bytes} bytes")
        start = position + head + 4
        end = start + length
        if len(buffer) < end:
            return 0
        payload = _unmask(buffer[start:end], buffer[start - 4 : start])
        if whole:
            self._received(opcode, payload)
        else:
            self._take(first, opcode, payload)
        return end - position

    def _check_head(self, first: int, length: int) -> Opcode:
        """Check what the first two bytes can tell. Source: RFC 6455 §5.2, §5.4, §5.5."""
        if first & 0x70:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "no extension was agreed")
        try:
            opcode = Opcode(first & 0x0F)
        except ValueError:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "the opcode is reserved") from None
        if opcode >= Opcode.CLOSE:
            if not first & 0x80 or length > MAX_CONTROL_SIZE_BYTES:
                raise FrameError(CloseCode.PROTOCOL_ERROR, "control frames are whole and small")
        elif (opcode is Opcode.CONTINUATION) is (self._message_opcode is None):
            raise FrameError(CloseCode.PROTOCOL_ERROR, "fragments follow their beginning, and nothing else does")
        return opcode

    def _take(self, first: int, opcode: Opcode, payload: bytes) -> None:
        if opcode >= Opcode.CLOSE or (first & 0x80 and self._message_opcode is None):
            self._received(opcode, payload)
            return
        if self._message_opcode is None:
            self._message_opcode = opcode
        self._message.append(payload)
        self._message_bytes += len(payload)
        if len(self._message) > MAX_FRAGMENTS:
            raise FrameError(CloseCode.TOO_BIG, f"a message has at most {MAX_FRAGMENTS} fragments")
        if first & 0x80:
            whole, opcode = b"".join(self._message), self._message_opcode
            self._message, self._message_bytes, self._message_opcode = [], 0, None
            self._received(opcode, whole)


def check_close_payload(payload: bytes) -> int:
    """Return the peer's close code, or 1000 where it gave none.

    Raises:
        FrameError: the payload is not a valid close. Source: RFC 6455 §5.5.1, §7.4.
    """
    if not payload:
        return CloseCode.NORMAL
    code = int.from_bytes(payload[:2]) if len(payload) >= 2 else 0
    known = 1000 <= code <= 1014 and code not in (1004, 1005, 1006)
    if not known and not 3000 <= code <= 4999:
        raise FrameError(CloseCode.PROTOCOL_ERROR, "there is no such close code")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise FrameError(CloseCode.INVALID_DATA, "a close reason is UTF-8") from None
    return code


def _unmask(masked: bytes, key: bytes) -> bytes:
    """Undo the mask with one XOR over the whole payload. Source: RFC 6455 §5.3."""
    size = len(masked)
    if not size:
        return b""
    repeated = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(masked) ^ int.from_bytes(repeated)).to_bytes(size)
