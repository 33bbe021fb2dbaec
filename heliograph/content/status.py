"""Receipts: which messages were delivered, read or otherwise met (draft-mahy-mimi-message-status-01).

The content of one part of type `application/mimi-message-status`: a CBOR array of [message id, status]
pairs.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from heliograph.content import cbor
from heliograph.content.message import MESSAGE_ID_SIZE_BYTES
from heliograph.mls.errors import DecodeError, ValidationError

MEDIA_TYPE: Final = "application/mimi-message-status"
MAX_STATUSES: Final = 256


class MessageStatus(IntEnum):
    """What became of a message at the sender of the receipt."""

    UNREAD = 0
    DELIVERED = 1
    READ = 2
    EXPIRED = 3
    DELETED = 4
    HIDDEN = 5
    ERROR = 6


def encode_statuses(statuses: Mapping[bytes, MessageStatus]) -> bytes:
    """Return a receipt for 1 to 256 messages, by 32-byte message id."""
    if not 1 <= len(statuses) <= MAX_STATUSES:
        raise ValidationError("receipt: it is about none or more than 256 messages")
    if any(len(message_id) != MESSAGE_ID_SIZE_BYTES for message_id in statuses):
        raise ValidationError("receipt: a message id has 32 bytes")
    return cbor.encode(tuple((message_id, int(status)) for message_id, status in statuses.items()))


def decode_statuses(content: bytes) -> dict[bytes, MessageStatus]:
    """Return the statuses of a receipt by message id; statuses that are unknown here are left out.

    Raises:
        DecodeError: not a receipt, or one message in it twice.
        ValidationError: about more than 256 messages.
    """
    value = cbor.decode(content, max_depth=3)
    if not isinstance(value, tuple):
        raise DecodeError("receipt: not an array")
    if len(value) > MAX_STATUSES:
        raise ValidationError("receipt: it is about more than 256 messages")
    statuses: dict[bytes, int] = {}
    for pair in value:
        message_id, status = _pair(pair)
        if message_id in statuses:
            raise DecodeError("receipt: one message is in it twice")
        statuses[message_id] = status
    known = tuple(MessageStatus)
    return {message_id: MessageStatus(status) for message_id, status in statuses.items() if status in known}


def _pair(value: cbor.Value) -> tuple[bytes, int]:
    if not isinstance(value, tuple) or len(value) != 2:
        raise DecodeError("receipt: an item is not a message id and a status")
    message_id, status = value
    if not isinstance(message_id, bytes) or len(message_id) != MESSAGE_ID_SIZE_BYTES:
        raise DecodeError("receipt: a message id has another size than 32 bytes")
    if isinstance(status, bool) or not isinstance(status, int) or not 0 <= status <= 255:
        raise DecodeError("receipt: a status is not a number of 8 bits")
    return message_id, status
