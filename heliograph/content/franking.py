"""The client's half of franking: committing to a message, and the checks before one is shown.

Theory of operation. `tag = HMAC-SHA256(salt, application_data)` commits the sender to every byte of the
message; it travels as authenticated data of the PrivateMessage, where the hub can see but not open it. The
hub stamps it with what the hub knows. A receiver shows a message only when all of that fits together,
because only then could the message be reported: nobody can send what cannot be proved.

The hub's half is in `heliograph.wire.frank`, which this package does not know. The stamp stays opaque here,
and the check of it is an argument: `heliograph.wire.frank.stamp_verifier(hub_public_key)` is one.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from heliograph.content.framing import decode_application_data, encode_application_data
from heliograph.content.message import SALT_SIZE_BYTES, ExternalPart, MimiContent
from heliograph.mls.errors import ValidationError, VerificationError

TAG_SIZE_BYTES: Final = 32
MAX_CLOCK_DIFFERENCE_MS: Final = 5 * 60 * 1000
MAX_FRANK_SIZE_BYTES: Final = 2048
MAX_NUMBER: Final = (1 << 63) - 1


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the hub said about a message: when it was accepted, its number in the room, its epoch, and the frank.

    `frank` is the hub's stamp as it is encoded for keeping (`wire.frank.encode_frank`).
    """

    accepted_at_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
    room_seq: Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
    epoch: Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
    frank: Annotated[bytes, msgspec.Meta(max_length=MAX_FRANK_SIZE_BYTES)]


VerifyStamp = Callable[[bytes, str, str, Envelope], None]
"""Check the hub's stamp on (tag, sender URI, room URI, envelope).

Raises VerificationError or DecodeError when it does not hold, UnsupportedError or StateError when it cannot be told.
"""


@dataclass(frozen=True, slots=True)
class Franked:
    """A message ready to be sealed: the bytes to encrypt and the tag to authenticate with them."""

    application_data: bytes
    tag: bytes


@dataclass(frozen=True, slots=True)
class Verified:
    """A received message that passed every check, its id and its tag."""

    content: MimiContent
    message_id: bytes
    tag: bytes


def franking_tag(salt: bytes, application_data: bytes) -> bytes:
    """Return the 32-byte tag over the whole of `application_data`, which holds the salt.

    Raises:
        ValidationError: the salt has another size than 16 bytes. HMAC pads shorter keys with zeros, so two salts of
            different sizes could give one tag.
    """
    if len(salt) != SALT_SIZE_BYTES:
        raise ValidationError("franking: a salt has 16 bytes")
    return hmac.digest(salt, application_data, "sha256")


def frank_message(content: MimiContent) -> Franked:
    """Return a message as it is sealed and tagged; raises what `MimiContent.encode` and `check_reportable` raise."""
    check_reportable(content)
    application_data = encode_application_data(content)
    return Franked(application_data, franking_tag(content.salt, application_data))


def check_reportable(content: MimiContent) -> None:
    """Refuse a message with a sealed attachment whose plaintext it does not commit to.

    Raises:
        ValidationError: it has one.
    """
    hashes = content.plaintext_hashes
    for index, part in enumerate(content.parts()):
        if isinstance(part, ExternalPart) and part.enc_alg and index not in hashes:
            raise ValidationError("franking: an attachment lacks the hash of its plaintext")


def verify_received(
    application_data: bytes,
    tag: bytes,
    envelope: Envelope,
    *,
    sender_uri: str,
    room_uri: str,
    after_room_seq: int,
    verify_stamp: VerifyStamp,
    arrived_at_ms: int | None = None,
) -> Verified:
    """Return an opened message after every check that must precede showing it.

    tag: from the authenticated data. sender_uri: the user of the sender's leaf credential. room_uri: this room.
    after_room_seq: the number of the last entry seen in the room. arrived_at_ms: the local time, for a message that
    came live; None for one read from the backlog.

    Raises:
        MLSError: the message could not be verified and must not be shown.
    """
    content = decode_application_data(application_data)
    if not hmac.compare_digest(franking_tag(content.salt, application_data), tag):
        raise VerificationError("franking: the tag is not that of the message")
    if content.sender_uri != sender_uri:
        raise VerificationError("franking: the message names another sender than its credential")
    if content.room_uri != room_uri:
        raise VerificationError("franking: the message names another room")
    check_reportable(content)
    content.check_expiry(envelope.accepted_at_ms // 1000)
    if envelope.room_seq <= after_room_seq:
        raise VerificationError("franking: the room's numbering does not increase")
    if arrived_at_ms is not None and abs(arrived_at_ms - envelope.accepted_at_ms) > MAX_CLOCK_DIFFERENCE_MS:
        raise VerificationError("franking: the time of acceptance is more than 5 minutes from now")
    verify_stamp(tag, sender_uri, room_uri, envelope)
    return Verified(content, content.message_id(), tag)
