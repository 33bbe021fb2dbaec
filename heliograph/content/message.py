"""The MIMI content format (draft-ietf-mimi-content-08): one message, and the parts of its body.

Theory of operation. A message is a CBOR array of seven, its body a part that may hold further parts.
`decode` takes only the deterministic encoding and checks every limit that needs no clock, so a decoded
message encodes to the bytes it came from, and its id and franking tag can be computed from either.
`check_expiry` holds the one limit that needs the time.

Heliograph's profile of the format: `senderUri` and `roomUri` are required, and the private extension -2
holds the SHA-256 of each attachment's plaintext by part index, so that a report can prove what an
attachment contained.

Parts are numbered depth first from 0, the body itself; `cid:N@local.invalid` in a text refers to part N.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, TypeAlias

from heliograph.content import cbor
from heliograph.mls.errors import DecodeError, ValidationError

MEDIA_TYPE: Final = "application/mimi-content"
TEXT_PLAIN: Final = "text/plain;charset=utf-8"
TEXT_MARKDOWN: Final = "text/markdown;variant=GFM-MIMI"

SALT_SIZE_BYTES: Final = 16
MESSAGE_ID_SIZE_BYTES: Final = 32
MAX_CONTENT_SIZE_BYTES: Final = 40 * 1024
MAX_TOPIC_SIZE_BYTES: Final = 4096
MAX_PARTS: Final = 64
MAX_PART_DEPTH: Final = 4
MAX_EXTENSIONS: Final = 32
MAX_EXTENSION_SIZE_BYTES: Final = 4095
MAX_EXTENSION_DEPTH: Final = 4
MAX_EXTENSION_NAME_BYTES: Final = 255
MAX_URI_SIZE_BYTES: Final = 1024
MAX_TEXT_SIZE_BYTES: Final = 4096
ONE_YEAR_S: Final = 365 * 24 * 3600

SENDER_URI: Final = 1
ROOM_URI: Final = 2
PLAINTEXT_HASHES: Final = -2

_SHA256: Final = 0x01
_UINT8, _UINT16, _UINT32, _UINT64 = 8, 16, 32, 64

Extensions: TypeAlias = Mapping[int | str, cbor.Value]


class Disposition(IntEnum):
    """What a part is meant for. Source: draft-ietf-mimi-content-08 §8.2.2."""

    UNSPECIFIED = 0
    RENDER = 1
    REACTION = 2
    PROFILE = 3
    INLINE = 4
    ICON = 5
    ATTACHMENT = 6
    SESSION = 7
    PREVIEW = 8


class Cardinality(IntEnum):
    """The kind of a part. Source: draft-ietf-mimi-content-08 §4.4."""

    NULL = 0
    SINGLE = 1
    EXTERNAL = 2
    MULTI = 3


class PartSemantics(IntEnum):
    """How the parts of a MultiPart belong together. Source: draft-ietf-mimi-content-08 §4.4."""

    CHOOSE_ONE = 0
    SINGLE_UNIT = 1
    PROCESS_ALL = 2


@dataclass(frozen=True, slots=True)
class NullPart:
    """Nothing more: the body of a deletion. `disposition` is 0 to 255; unknown ones count as render."""

    disposition: int = Disposition.RENDER
    language: str = ""


@dataclass(frozen=True, slots=True)
class SinglePart:
    """Content in the message itself, of an IANA media type."""

    content_type: str
    content: bytes = field(repr=False)
    disposition: int = Disposition.RENDER
    language: str = ""


@dataclass(frozen=True, slots=True)
class ExternalPart:
    """Content at a URL: `size` and `expires` are 0 where unknown or never, `enc_alg` and `hash_alg` where none."""

    content_type: str
    url: str
    expires: int = 0
    size: int = 0
    enc_alg: int = 0
    key: bytes = field(default=b"", repr=False)
    nonce: bytes = field(default=b"", repr=False)
    aad: bytes = field(default=b"", repr=False)
    hash_alg: int = 0
    content_hash: bytes = b""
    description: str = ""
    filename: str = ""
    disposition: int = Disposition.ATTACHMENT
    language: str = ""


@dataclass(frozen=True, slots=True)
class MultiPart:
    """Two or more parts that belong together as `part_semantics` says."""

    part_semantics: PartSemantics
    parts: "tuple[NestedPart, ...]"
    disposition: int = Disposition.RENDER
    language: str = ""


NestedPart: TypeAlias = NullPart | SinglePart | ExternalPart | MultiPart


@dataclass(frozen=True, slots=True)
class Expiration:
    """When receivers delete: seconds after reading if `relative`, else seconds since 1970 UTC."""

    relative: bool
    time: int


@dataclass(frozen=True, slots=True)
class MimiContent:
    """One message: a 16-byte random salt, how it relates to others (32-byte message ids), extensions, and its body."""

    salt: bytes = field(repr=False)
    body: NestedPart
    extensions: Extensions
    replaces: bytes | None = None
    topic_id: bytes = b""
    expires: Expiration | None = None
    in_reply_to: bytes | None = None

    def encode(self) -> bytes:
        """Return the deterministic encoding.

        Raises:
            DecodeError, ValidationError: a field is outside what `decode` accepts.
        """
        try:
            data = cbor.encode(_message_value(self))
        except ValueError as error:
            raise ValidationError(f"message: {error}") from None
        if self.decode(data) != self:
            raise ValidationError("message: a field holds another type than its own")
        return data

    @classmethod
    def decode(cls, data: bytes) -> "MimiContent":
        """Return the message that `data` encodes.

        Raises:
            DecodeError: not a message in its deterministic encoding.
            ValidationError: beyond a limit of §6.3 or §9.1 of the draft, or without sender or room URI.
        """
        if len(data) > MAX_CONTENT_SIZE_BYTES:
            raise ValidationError("message: larger than 40 KiB")
        return _read_message(cbor.decode(data))

    @property
    def sender_uri(self) -> str:
        """Return the user URI that the message names as its sender."""
        return str(self.extensions[SENDER_URI])

    @property
    def room_uri(self) -> str:
        """Return the URI of the room that the message names."""
        return str(self.extensions[ROOM_URI])

    @property
    def plaintext_hashes(self) -> dict[int, bytes]:
        """Return the SHA-256 of each attachment's plaintext, by part index."""
        return read_plaintext_hashes(self.extensions)

    def message_id(self) -> bytes:
        """Return the 32-byte message id. Source: draft-ietf-mimi-content-08 §3.3."""
        return message_id(self.encode(), self.salt, self.sender_uri, self.room_uri)

    def parts(self) -> "Iterator[NestedPart]":
        """Yield the body and all parts below it, in the order of their part index."""
        yield from walk(self.body)

    def check_expiry(self, now_s: int) -> None:
        """Refuse an expiry more than a year away from `now_s`, the time at which the message was accepted.

        Raises:
            ValidationError: it is.

        Source: draft-ietf-mimi-content-08 §9.1.
        """
        if self.expires is None:
            return
        away_s = self.expires.time if self.expires.relative else self.expires.time - now_s
        if abs(away_s) > ONE_YEAR_S:
            raise ValidationError("message: expires more than a year from now")


def message_id(message: bytes, salt: bytes, sender_uri: str, room_uri: str) -> bytes:
    """Return the id of an encoded message: 0x01 and the first 31 bytes of the hash.

    Source: draft-ietf-mimi-content-08 §3.3.
    """
    sender, room = sender_uri.encode(), room_uri.encode()
    digest = hashlib.sha256(len(sender).to_bytes(2) + sender + len(room).to_bytes(2) + room + message + salt).digest()
    return bytes([_SHA256]) + digest[: MESSAGE_ID_SIZE_BYTES - 1]


def walk(part: NestedPart) -> Iterator[NestedPart]:
    """Yield a part and all parts below it, depth first: the order of the part index."""
    yield part
    if isinstance(part, MultiPart):
        for one in part.parts:
            yield from walk(one)


def read_plaintext_hashes(extensions: Extensions) -> dict[int, bytes]:
    """Return extension -2 as a map from part index to SHA-256; raises ValidationError if it is none."""
    value = extensions.get(PLAINTEXT_HASHES, {})
    hashes: dict[int, bytes] = {}
    for index, digest in value.items() if isinstance(value, dict) else [(-1, b"")]:
        if not isinstance(index, int) or not 0 <= index < MAX_PARTS:
            raise ValidationError("message: the plaintext hashes are not a map by part index")
        if not isinstance(digest, bytes) or len(digest) != 32:
            raise ValidationError("message: a plaintext hash has another size than 32 bytes")
        hashes[index] = digest
    return hashes


def _message_value(message: MimiContent) -> cbor.Value:
    expires = message.expires
    extensions: dict[cbor.Key, cbor.Value] = {**message.extensions}
    return (
        message.salt,
        message.replaces,
        message.topic_id,
        None if expires is None else (expires.relative, expires.time),
        message.in_reply_to,
        extensions,
        _part_value(message.body),
    )


def _part_value(part: NestedPart) -> cbor.Value:
    head: tuple[cbor.Value, ...] = (int(part.disposition), part.language)
    match part:
        case NullPart():
            return (*head, int(Cardinality.NULL))
        case SinglePart():
            return (*head, int(Cardinality.SINGLE), part.content_type, part.content)
        case ExternalPart():
            return (
                *head,
                int(Cardinality.EXTERNAL),
                part.content_type,
                part.url,
                part.expires,
                part.size,
                part.enc_alg,
                part.key,
                part.nonce,
                part.aad,
                part.hash_alg,
                part.content_hash,
                part.description,
                part.filename,
            )
        case MultiPart():
            parts = tuple(_part_value(one) for one in part.parts)
            return (*head, int(Cardinality.MULTI), int(part.part_semantics), parts)


def _read_message(value: cbor.Value) -> MimiContent:
    if not isinstance(value, tuple) or len(value) != 7:
        raise DecodeError("message: not an array of seven")
    salt, replaces, topic_id, expires, in_reply_to, extensions, body = value
    topic = _bytes(topic_id, "topicId")
    if len(topic) > MAX_TOPIC_SIZE_BYTES:
        raise ValidationError("message: topicId is longer than 4096 bytes")
    message = MimiContent(
        salt=_sized(salt, SALT_SIZE_BYTES, "salt"),
        replaces=_message_id(replaces, "replaces"),
        topic_id=topic,
        expires=_expiration(expires),
        in_reply_to=_message_id(in_reply_to, "inReplyTo"),
        extensions=_extensions(extensions),
        body=_read_part(body, MAX_PART_DEPTH),
    )
    if sum(1 for _ in message.parts()) > MAX_PARTS:
        raise ValidationError(f"message: more than {MAX_PARTS} parts")
    return message


def _read_part(value: cbor.Value, depth_left: int) -> NestedPart:
    if depth_left == 0:
        raise ValidationError(f"message: parts are nested more than {MAX_PART_DEPTH} deep")
    if not isinstance(value, tuple) or len(value) < 3:
        raise DecodeError("message: a part is not an array")
    disposition, language = _uint(value[0], _UINT8, "disposition"), _text(value[1], "language")
    fields = value[3:]
    match _uint(value[2], _UINT8, "cardinality"), len(fields):
        case (Cardinality.NULL, 0):
            return NullPart(disposition, language)
        case (Cardinality.SINGLE, 2):
            content = _bytes(fields[1], "content")
            return SinglePart(_text(fields[0], "contentType"), content, disposition, language)
        case (Cardinality.EXTERNAL, 12):
            return _read_external(fields, disposition, language)
        case (Cardinality.MULTI, 2):
            return _read_multi(fields, disposition, language, depth_left)
        case _:
            raise DecodeError("message: a part of an unknown cardinality or with a wrong number of fields")


def _read_multi(fields: tuple[cbor.Value, ...], disposition: int, language: str, depth_left: int) -> MultiPart:
    semantics, parts = fields
    if isinstance(semantics, bool) or not isinstance(semantics, int) or semantics not in tuple(PartSemantics):
        raise ValidationError("message: unknown partSemantics")
    if not isinstance(parts, tuple) or len(parts) < 2:
        raise DecodeError("message: a MultiPart has fewer than two parts")
    if len(parts) > MAX_PARTS:
        raise ValidationError(f"message: more than {MAX_PARTS} parts")
    read = tuple(_read_part(one, depth_left - 1) for one in parts)
    return MultiPart(PartSemantics(semantics), read, disposition, language)


def _read_external(fields: tuple[cbor.Value, ...], disposition: int, language: str) -> ExternalPart:
    return ExternalPart(
        content_type=_text(fields[0], "contentType"),
        url=_text(fields[1], "url"),
        expires=_uint(fields[2], _UINT32, "expires"),
        size=_uint(fields[3], _UINT64, "size"),
        enc_alg=_uint(fields[4], _UINT16, "encAlg"),
        key=_bytes(fields[5], "key"),
        nonce=_bytes(fields[6], "nonce"),
        aad=_bytes(fields[7], "aad"),
        hash_alg=_uint(fields[8], _UINT8, "hashAlg"),
        content_hash=_bytes(fields[9], "contentHash"),
        description=_text(fields[10], "description"),
        filename=_text(fields[11], "filename"),
        disposition=disposition,
        language=language,
    )


def _expiration(value: cbor.Value) -> Expiration | None:
    if value is None:
        return None
    if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[0], bool):
        raise DecodeError("message: expires is neither null nor [relative, time]")
    return Expiration(value[0], _uint(value[1], _UINT32, "expires"))


def _extensions(value: cbor.Value) -> Extensions:
    if not isinstance(value, dict):
        raise DecodeError("message: the extensions are not a map")
    if len(value) > MAX_EXTENSIONS:
        raise ValidationError(f"message: more than {MAX_EXTENSIONS} extensions")
    extensions: dict[int | str, cbor.Value] = {}
    for name, item in value.items():
        if isinstance(name, bytes):
            raise DecodeError("message: an extension's key is neither a number nor a text")
        if isinstance(name, str) and not 1 <= len(name.encode()) <= MAX_EXTENSION_NAME_BYTES:
            raise ValidationError("message: an extension's name has more than 255 bytes, or none")
        if len(cbor.encode(item)) > MAX_EXTENSION_SIZE_BYTES:
            raise ValidationError("message: an extension is larger than 4095 bytes")
        # The map of extensions is the first level (§6.3).
        if _depth(item) > MAX_EXTENSION_DEPTH - 1:
            raise ValidationError("message: an extension is nested more than 4 deep")
        extensions[name] = item
    for required in (SENDER_URI, ROOM_URI):
        uri = extensions.get(required)
        if not isinstance(uri, str) or not 1 <= len(uri.encode()) <= MAX_URI_SIZE_BYTES:
            raise ValidationError("message: the URI of its sender or room is missing or no text of its size")
    read_plaintext_hashes(extensions)
    return extensions


def _depth(value: cbor.Value) -> int:
    match value:
        case tuple():
            return 1 + max((_depth(item) for item in value), default=0)
        case dict():
            return 1 + max((_depth(item) for item in value.values()), default=0)
        case cbor.Tag():
            return 1 + _depth(value.value)
        case _:
            return 0


def _message_id(value: cbor.Value, name: str) -> bytes | None:
    if value is None:
        return None
    identifier = _sized(value, MESSAGE_ID_SIZE_BYTES, name)
    if identifier[0] != _SHA256:
        raise ValidationError(f"message: {name} is made with an unknown hash algorithm")
    return identifier


def _sized(value: cbor.Value, size_bytes: int, name: str) -> bytes:
    data = _bytes(value, name)
    if len(data) != size_bytes:
        raise DecodeError(f"message: {name} has another size than {size_bytes} bytes")
    return data


def _bytes(value: cbor.Value, name: str) -> bytes:
    if not isinstance(value, bytes):
        raise DecodeError(f"message: {name} is not a byte string")
    return value


def _text(value: cbor.Value, name: str) -> str:
    if not isinstance(value, str):
        raise DecodeError(f"message: {name} is not a text")
    if len(value.encode()) > MAX_TEXT_SIZE_BYTES:
        raise ValidationError(f"message: {name} is longer than 4096 bytes")
    return value


def _uint(value: cbor.Value, bits: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << bits:
        raise DecodeError(f"message: {name} is not an unsigned number of {bits} bits")
    return value
