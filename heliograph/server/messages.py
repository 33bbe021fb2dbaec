"""Sealed messages: what the server checks without reading them, and the stamp that it puts on each.

```
submit_message   read the framing -> one act:  key known? member now? epoch? -> seq, key, deferred
finish           once a batch: one signature over all its stamps (wire/frank.py) -> the entries
```

The sender is stamped from the session and stored nowhere. The server holds the ciphertext, its epoch, a 32-byte tag
that it cannot open, and its own stamp. Source: RFC 9420 §6.3; draft-ietf-mimi-protocol, message franking.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from heliograph.mls import codec
from heliograph.mls.errors import MLSError
from heliograph.mls.framing import ContentType, MLSMessage, PrivateMessage
from heliograph.mls.safe_aad import SafeAAD, SafeAADItem
from heliograph.server import franking_keys, log, rooms, submissions
from heliograph.server.auth import Caller
from heliograph.server.context import Context
from heliograph.server.db.database import Done, Reader, Transaction
from heliograph.server.secrets import Secrets
from heliograph.server.submissions import First
from heliograph.wire import frank
from heliograph.wire.events import MessageEvent, event_decoder
from heliograph.wire.frank import TAG_SIZE_BYTES, Frank, context_bytes
from heliograph.wire.ids import RoomId, group_id, room_topic, room_uri, user_uri
from heliograph.wire.problems import Problem
from heliograph.wire.room_policy import FRANK_AAD
from heliograph.wire.rooms import SubmitMessage, Submitted

_EMPTY_ENDS_SIZE_BYTES = 2
"""The lengths of an empty encrypted_sender_data and ciphertext."""

@dataclass(slots=True)
class Unstamped:
    """A message that has its place and waits for its stamp; `is_new` unless its entry has been written before."""

    room: RoomId
    room_uri: str
    sender_uri: str
    tag: bytes
    epoch: int
    ciphertext: bytes
    first: First
    is_new: bool = True
    frank: Frank | None = None


async def submit_message(context: Context, caller: Caller, request: SubmitMessage) -> Submitted:
    """Take a sealed message: durable when this returns."""
    return _submitted(await context.database.write(_take(context, caller, request)))


def submit_then(context: Context, caller: Caller, request: SubmitMessage, done: Done[Submitted]) -> None:
    """Take a sealed message and call `done` once it is durable or was refused.

    Raises:
        Problem: it was refused at once; then `done` is not called.
    """

    def tell(message: Unstamped | None, error: BaseException | None) -> None:
        done(None if message is None else _submitted(message), error)

    context.database.write_then(_take(context, caller, request), tell)


def _submitted(message: Unstamped) -> Submitted:
    return Submitted(message.first.seq, message.first.accepted_at_ms, message.frank)


def _take(context: Context, caller: Caller, request: SubmitMessage) -> Callable[[Transaction], Unstamped]:
    """Check what a message shows of itself, and return the act that takes it."""
    tag = read_tag(request.room, request.epoch, request.ciphertext)
    hashed_key = submissions.key_hash(context.secrets.lookup_key, request.room, caller.device, request.key)
    digest = hashlib.sha256(request.ciphertext).digest()[: submissions.HASH_SIZE_BYTES]

    def act(tx: Transaction) -> Unstamped:
        first = submissions.find(tx, request.room, hashed_key, digest)
        message = Unstamped(
            request.room,
            room_uri(context.domain, request.room),
            user_uri(context.domain, caller.account),
            tag,
            request.epoch,
            request.ciphertext,
            first or First(0, 0),
        )
        if first is not None:
            return _repeat(tx, message)
        rooms.require_participant_device(tx, caller.account, caller.device, request.room)
        _check_epoch(tx, request.room, request.epoch)
        message.first = First(log.reserve(tx, room_topic(request.room)), context.now_ms())
        submissions.remember(tx, request.room, hashed_key, digest, message.first)
        tx.defer(message)
        return message

    return act


def stamp_batch(secrets: Secrets) -> Callable[[Transaction, Sequence[object]], None]:
    """Return what finishes a batch: it stamps the messages that the batch's acts deferred, and writes their entries."""

    def finish(tx: Transaction, deferred: Sequence[object]) -> None:
        messages = [one for one in deferred if isinstance(one, Unstamped)]
        if messages:
            _stamp(tx, secrets, messages)

    return finish


def read_tag(room: RoomId, epoch: int, message: bytes) -> bytes:
    """Return the franking tag (32 bytes) of a sealed application message of this room and epoch.

    The encoding is canonical, so what may come begins with exactly one head.

    Raises:
        Problem: `invalid-message`, it is something else.
    """
    head = _head(room, epoch)
    try:
        if not message.startswith(head):
            raise _explanation(room, epoch, message)
        reader = codec.Reader(message)
        reader.raw(len(head))
        tag = reader.raw(TAG_SIZE_BYTES)
        reader.opaque()  # encrypted_sender_data
        reader.opaque()  # ciphertext
        reader.finish()
    except MLSError as error:
        raise _refusal(f"not an MLSMessage: {error}") from None
    return tag


@lru_cache(maxsize=4096)
def _head(room: RoomId, epoch: int) -> bytes:
    """A message of this room and epoch up to its tag."""
    aad = SafeAAD((SafeAADItem(FRANK_AAD, bytes(TAG_SIZE_BYTES)),)).encode()
    empty = PrivateMessage(group_id(room), epoch, ContentType.APPLICATION, aad, b"", b"")
    return MLSMessage(empty).encode()[: -TAG_SIZE_BYTES - _EMPTY_ENDS_SIZE_BYTES]


def _explanation(room: RoomId, epoch: int, message: bytes) -> Problem:
    """Say what is wrong with a message that does not begin as it must."""
    body = MLSMessage.decode(message).body
    if not isinstance(body, PrivateMessage):
        return _refusal("only a PrivateMessage is sealed")
    if body.content_type is not ContentType.APPLICATION:
        return _refusal("handshakes are sent as PublicMessages, by their own operations")
    if body.group_id != group_id(room):
        return _refusal("the message is for another group")
    if body.epoch != epoch:
        return _refusal("the message is of another epoch than the request says")
    return _refusal("the authenticated_data must be exactly one frank_aad item of 32 bytes")


def _check_epoch(reader: Reader, room: RoomId, named: int) -> None:
    row = reader.one("SELECT epoch, oldest_epoch FROM rooms WHERE room = ?", room)
    if row is None:
        raise Problem("not-found", "there is no such room")
    present, oldest = row
    if named > present:
        raise Problem("wrong-epoch", f"the room is at epoch {present}", epoch=present)
    if named < oldest:
        raise Problem("epoch-too-old", f"the room is at epoch {present}: seal it again", epoch=present)


def _repeat(tx: Transaction, message: Unstamped) -> Unstamped:
    """Answer as at the first time; where the entry is gone, or not written yet, stamp the same context again."""
    message.is_new = False
    entries = log.read(tx, room_topic(message.room), message.first.seq - 1, 1, 0)
    event = event_decoder.decode(entries[0].body) if entries and entries[0].seq == message.first.seq else None
    if isinstance(event, MessageEvent):
        message.frank = event.frank
    else:
        tx.defer(message)
    return message


def _stamp(tx: Transaction, secrets: Secrets, messages: Sequence[Unstamped]) -> None:
    kid, key = franking_keys.current_key(secrets, messages[0].first.accepted_at_ms)
    items = [
        (
            one.tag,
            context_bytes(one.sender_uri, one.room_uri, one.first.accepted_at_ms, one.first.seq, one.epoch, kid),
        )
        for one in messages
    ]
    franks = frank.stamp_batch(key, secrets.hub_signature_key, kid, items)
    for one, stamp in zip(messages, franks, strict=True):
        one.frank = stamp
        if one.is_new:
            event = MessageEvent(one.epoch, one.ciphertext, one.first.accepted_at_ms, stamp)
            log.fill(tx, room_topic(one.room), one.first.seq, event)


def _refusal(detail: str) -> Problem:
    return Problem("invalid-message", detail)
