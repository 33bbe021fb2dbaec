"""Sealed messages: what the server checks without reading them, and the stamp that it puts on each.

```
submit_message   read the framing -> wait for the batch
finish           once a batch, for all its messages: key known? member now? epoch? -> number
                 -> one signature over all stamps (wire/frank.py) -> keys and entries
```

The sender is stamped from the session and stored nowhere. The server holds the ciphertext, its epoch, a 32-byte tag
that it cannot open, and its own stamp. Source: RFC 9420 §6.3; draft-ietf-mimi-protocol, message franking.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from heliograph.mls import codec
from heliograph.mls.errors import MLSError
from heliograph.mls.framing import ContentType, MLSMessage, PrivateMessage
from heliograph.mls.safe_aad import SafeAAD, SafeAADItem
from heliograph.server import franking_keys, log, submissions
from heliograph.server.auth import Caller
from heliograph.server.context import Context
from heliograph.server.db.database import Done, Reader, Transaction
from heliograph.server.db.many import select_rows
from heliograph.server.secrets import Secrets
from heliograph.server.submissions import First
from heliograph.wire import frank
from heliograph.wire.events import Event, MessageEvent, event_decoder
from heliograph.wire.frank import TAG_SIZE_BYTES, Frank, context_bytes
from heliograph.wire.ids import DeviceId, RoomId, TopicId, group_id, room_topic, room_uri, user_uri
from heliograph.wire.problems import Problem
from heliograph.wire.room_policy import FRANK_AAD
from heliograph.wire.rooms import SubmitMessage, Submitted

_EMPTY_ENDS_SIZE_BYTES = 2
"""The lengths of an empty encrypted_sender_data and ciphertext."""


@dataclass(slots=True)
class Incoming:
    """A message that waits for its batch, and then what became of it: refused, or numbered and stamped.

    `key_hash` and `digest` tell a retry (see `submissions.py`).
    """

    room: RoomId
    device: DeviceId
    room_uri: str
    sender_uri: str
    tag: bytes
    epoch: int
    ciphertext: bytes
    key_hash: bytes
    digest: bytes
    first: First | None = None
    frank: Frank | None = None
    refusal: Problem | None = None


async def submit_message(context: Context, caller: Caller, request: SubmitMessage) -> Submitted:
    """Take a sealed message: durable when this returns."""
    return _answer(await context.database.write(_deferred(_incoming(context, caller, request))))


def submit_then(context: Context, caller: Caller, request: SubmitMessage, done: Done[Submitted]) -> None:
    """Take a sealed message and call `done` once it is durable or was refused.

    Raises:
        Problem: it was refused at once; then `done` is not called.
    """

    def tell(message: Incoming | None, error: BaseException | None) -> None:
        if message is None:
            done(None, error)
        elif message.refusal is not None:
            done(None, message.refusal)
        else:
            done(_answer(message), None)

    context.database.write_then(_deferred(_incoming(context, caller, request)), tell)


def _deferred(message: Incoming) -> Callable[[Transaction], Incoming]:
    """Return the act that leaves a message to the end of its batch, where all are taken together."""

    def act(tx: Transaction) -> Incoming:
        tx.defer(message)
        return message

    return act


def _incoming(context: Context, caller: Caller, request: SubmitMessage) -> Incoming:
    """Check what a message shows of itself."""
    return Incoming(
        request.room,
        caller.device,
        room_uri(context.domain, request.room),
        user_uri(context.domain, caller.account),
        read_tag(request.room, request.epoch, request.ciphertext),
        request.epoch,
        request.ciphertext,
        submissions.key_hash(context.secrets.lookup_key, request.room, caller.device, request.key),
        hashlib.sha256(request.ciphertext).digest()[: submissions.HASH_SIZE_BYTES],
    )


def _answer(message: Incoming) -> Submitted:
    if message.refusal is not None:
        raise message.refusal
    first = message.first or First(0, 0)
    return Submitted(first.seq, first.accepted_at_ms, message.frank)


def finish_batch(secrets: Secrets, now_ms: Callable[[], int]) -> Callable[[Transaction, Sequence[object]], None]:
    """Return what finishes a batch: it takes the messages that the batch's acts deferred, each in its turn."""

    def finish(tx: Transaction, deferred: Sequence[object]) -> None:
        messages = [one for one in deferred if isinstance(one, Incoming)]
        if messages:
            _take(tx, secrets, messages, now_ms())

    return finish


def _take(tx: Transaction, secrets: Secrets, messages: Sequence[Incoming], now_ms: int) -> None:
    """Refuse, recognise or number each message; stamp all under one signature; write the new ones."""
    known = submissions.find_many(tx, [(one.room, one.key_hash) for one in messages])
    refusal_of = _standing(tx, messages)
    fresh: dict[tuple[RoomId, bytes], Incoming] = {}
    again: list[Incoming] = []
    for one in messages:
        one.first, one.frank, one.refusal = None, None, None
        key = (one.room, one.key_hash)
        digest, one.first = known.get(key, (b"", None))
        if key in fresh:
            digest = fresh[key].digest
        if key in known or key in fresh:
            if digest != one.digest:
                one.refusal = submissions.key_reused()
            else:
                again.append(one)
        else:
            one.refusal = refusal_of(one)
            if one.refusal is None:
                fresh[key] = one
    _number(tx, list(fresh.values()), now_ms)
    stored = [one for one in again if one.first is not None and not _found_stamp(tx, one)]
    _stamp(secrets, [*fresh.values(), *stored], now_ms)
    for one in again:
        if one.first is None:
            twin = fresh[one.room, one.key_hash]
            one.first, one.frank = twin.first, twin.frank
    _write(tx, list(fresh.values()))


def _standing(reader: Reader, messages: Sequence[Incoming]) -> Callable[[Incoming], Problem | None]:
    """Return what says why a message cannot be taken now, or None: its sender's membership and its epoch."""
    rooms_named = list({one.room: None for one in messages})
    epochs = {
        room: (present, oldest)
        for room, present, oldest in select_rows(
            reader, "SELECT room, epoch, oldest_epoch FROM rooms", "room = k.column1", [(room,) for room in rooms_named]
        )
    }
    members = {
        (room, device): left_seq
        for room, device, left_seq in select_rows(
            reader,
            "SELECT room, device, left_seq FROM room_devices",
            "room = k.column1 AND device = k.column2",
            list({(one.room, one.device): None for one in messages}),
        )
    }

    def refusal_of(one: Incoming) -> Problem | None:
        if (one.room, one.device) not in members:
            return Problem("not-found", "there is no such room, or this device has not joined it")
        if members[one.room, one.device] is not None:
            return Problem("not-allowed", "this device is no longer in the room")
        present, oldest = epochs[one.room]
        if one.epoch > present:
            return Problem("wrong-epoch", f"the room is at epoch {present}", epoch=present)
        if one.epoch < oldest:
            return Problem("epoch-too-old", f"the room is at epoch {present}: seal it again", epoch=present)
        return None

    return refusal_of


def _number(tx: Transaction, fresh: Sequence[Incoming], now_ms: int) -> None:
    counts = Counter(room_topic(one.room) for one in fresh)
    following = log.reserve_many(tx, counts)
    for one in fresh:
        topic = room_topic(one.room)
        one.first = First(following[topic], now_ms)
        following[topic] += 1


def _found_stamp(reader: Reader, one: Incoming) -> bool:
    """Give a retry its first stamp, if its entry still holds it."""
    seq = one.first.seq if one.first is not None else 0
    entries = log.read(reader, room_topic(one.room), seq - 1, 1, 0)
    event = event_decoder.decode(entries[0].body) if entries and entries[0].seq == seq else None
    if isinstance(event, MessageEvent):
        one.frank = event.frank
    return one.frank is not None


def _stamp(secrets: Secrets, messages: Sequence[Incoming], now_ms: int) -> None:
    """Stamp all under one signature; a retry whose entry is gone gets a new stamp of the same context."""
    if not messages:
        return
    kid, key = franking_keys.current_key(secrets, now_ms)
    items: list[tuple[bytes, bytes]] = []
    for one in messages:
        seq, accepted_at_ms = one.first or First(0, 0)
        items.append((one.tag, context_bytes(one.sender_uri, one.room_uri, accepted_at_ms, seq, one.epoch, kid)))
    franks = frank.stamp_batch(key, secrets.hub_signature_key, kid, items)
    for one, stamp in zip(messages, franks, strict=True):
        one.frank = stamp


def _write(tx: Transaction, fresh: Sequence[Incoming]) -> None:
    rows: list[tuple[RoomId, bytes, bytes, First]] = []
    entries: list[tuple[TopicId, int, Event]] = []
    for one in fresh:
        if one.first is not None and one.frank is not None:
            rows.append((one.room, one.key_hash, one.digest, one.first))
            event = MessageEvent(one.epoch, one.ciphertext, one.first.accepted_at_ms, one.frank)
            entries.append((room_topic(one.room), one.first.seq, event))
    submissions.remember_many(tx, rows)
    log.fill_many(tx, entries)


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


def _refusal(detail: str) -> Problem:
    return Problem("invalid-message", detail)
