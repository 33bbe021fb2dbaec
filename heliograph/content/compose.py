"""Making messages: the text, reply, reaction, edit, deletion, profile and receipt of MIMI content.

A `Composer` knows who speaks where and draws the salts. Each method returns a message that is not sent yet.

An edit or deletion names the *first* version of what it replaces and repeats that version's other fields; a
reply or reaction names the exact version that was seen. `check_replacement` is the receiver's half of that
rule.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from heliograph.content import cbor, status
from heliograph.content.message import (
    PLAINTEXT_HASHES,
    ROOM_URI,
    SALT_SIZE_BYTES,
    SENDER_URI,
    TEXT_MARKDOWN,
    TEXT_PLAIN,
    Disposition,
    Expiration,
    MimiContent,
    MultiPart,
    NestedPart,
    NullPart,
    PartSemantics,
    SinglePart,
)
from heliograph.content.status import MessageStatus
from heliograph.mls.errors import DecodeError, ValidationError
from heliograph.mls.suite import Random

ROOM_PROFILE: Final = "application/vnd.heliograph.room-profile+cbor"
MAX_ROOM_NAME_LENGTH: Final = 128
MAX_ROOM_TOPIC_LENGTH: Final = 1024
MAX_REACTION_SIZE_BYTES: Final = 64

_PROFILE_NAME, _PROFILE_TOPIC = 1, 2


@dataclass(frozen=True, slots=True)
class RoomProfile:
    """What a room is called and about; sealed, so the hub learns neither."""

    name: str
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Composer:
    """Compose the messages of one sender in one room; both URIs are written into every message."""

    sender_uri: str
    room_uri: str
    random: Random

    def message(
        self,
        body: NestedPart,
        *,
        in_reply_to: bytes | None = None,
        topic_id: bytes = b"",
        expires: Expiration | None = None,
        plaintext_hashes: Mapping[int, bytes] | None = None,
    ) -> MimiContent:
        """Return a message with any body; `plaintext_hashes` by part index is required for sealed attachments."""
        named: dict[int | str, cbor.Value] = {SENDER_URI: self.sender_uri, ROOM_URI: self.room_uri}
        return MimiContent(
            salt=self.random(SALT_SIZE_BYTES),
            body=body,
            extensions={**named, **_hash_extension(plaintext_hashes)},
            topic_id=topic_id,
            expires=expires,
            in_reply_to=in_reply_to,
        )

    def text(self, text: str, *, language: str = "", expires: Expiration | None = None) -> MimiContent:
        """Return a plain text message."""
        return self.message(SinglePart(TEXT_PLAIN, text.encode(), language=language), expires=expires)

    def markdown(self, text: str, *, language: str = "", expires: Expiration | None = None) -> MimiContent:
        """Return a message in the Markdown of MIMI (GFM-MIMI, no raw HTML)."""
        return self.message(SinglePart(TEXT_MARKDOWN, text.encode(), language=language), expires=expires)

    def reply(self, message_id: bytes, text: str, *, language: str = "") -> MimiContent:
        """Return a Markdown reply to the version of a message that has this id."""
        body = SinglePart(TEXT_MARKDOWN, text.encode(), language=language)
        return self.message(body, in_reply_to=message_id)

    def reaction(self, message_id: bytes, *emoji: str) -> MimiContent:
        """Return a reaction to the version of a message that has this id: one or more emoji, each its own part."""
        if not emoji or any(not 1 <= len(one.encode()) <= MAX_REACTION_SIZE_BYTES for one in emoji):
            raise ValidationError("reaction: each is one emoji of at most 64 bytes")
        parts = tuple(SinglePart(TEXT_PLAIN, one.encode(), Disposition.REACTION) for one in emoji)
        body = parts[0] if len(parts) == 1 else MultiPart(PartSemantics.PROCESS_ALL, parts, Disposition.REACTION)
        return self.message(body, in_reply_to=message_id)

    def edit(
        self, original: MimiContent, body: NestedPart, *, plaintext_hashes: Mapping[int, bytes] | None = None
    ) -> MimiContent:
        """Return a new body for a message, given its first version; the hashes are those of the new body."""
        return self._replacement(original, body, plaintext_hashes)

    def delete(self, original: MimiContent) -> MimiContent:
        """Return the deletion of a message or reaction, given its first version."""
        return self._replacement(original, NullPart(original.body.disposition), None)

    def room_profile(self, profile: RoomProfile) -> MimiContent:
        """Return the message that names the room and its topic."""
        if not 1 <= len(profile.name) <= MAX_ROOM_NAME_LENGTH or len(profile.topic) > MAX_ROOM_TOPIC_LENGTH:
            raise ValidationError("room profile: a name has 1 to 128 characters and a topic at most 1024")
        content = cbor.encode({_PROFILE_NAME: profile.name, _PROFILE_TOPIC: profile.topic})
        return self.message(SinglePart(ROOM_PROFILE, content, Disposition.PROFILE))

    def receipt(self, statuses: Mapping[bytes, MessageStatus]) -> MimiContent:
        """Return a receipt for up to 256 messages by their ids."""
        content = status.encode_statuses(statuses)
        return self.message(SinglePart(status.MEDIA_TYPE, content, Disposition.UNSPECIFIED))

    def _replacement(
        self, original: MimiContent, body: NestedPart, plaintext_hashes: Mapping[int, bytes] | None
    ) -> MimiContent:
        kept = {name: item for name, item in original.extensions.items() if name != PLAINTEXT_HASHES}
        return replace(
            original,
            salt=self.random(SALT_SIZE_BYTES),
            replaces=original.replaces or original.message_id(),
            body=body,
            extensions={**kept, SENDER_URI: self.sender_uri, **_hash_extension(plaintext_hashes)},
        )


def texts_of(content: MimiContent) -> Sequence[str]:
    """Return the plain and Markdown texts of a message in part order; bytes that are not UTF-8 are left out."""
    texts: list[str] = []
    for part in content.parts():
        if isinstance(part, SinglePart) and part.content_type in (TEXT_PLAIN, TEXT_MARKDOWN):
            try:
                texts.append(part.content.decode())
            except UnicodeDecodeError:
                continue
    return texts


def read_room_profile(content: MimiContent) -> RoomProfile:
    """Return the profile that a message carries.

    Raises:
        DecodeError, ValidationError: it carries none, or one beyond its limits.
    """
    body = content.body
    if not isinstance(body, SinglePart) or body.content_type != ROOM_PROFILE:
        raise DecodeError("room profile: the message carries none")
    value = cbor.decode(body.content, max_depth=2)
    if not isinstance(value, dict) or value.keys() != {_PROFILE_NAME, _PROFILE_TOPIC}:
        raise DecodeError("room profile: not a map of name and topic")
    name, topic = value[_PROFILE_NAME], value[_PROFILE_TOPIC]
    if not isinstance(name, str) or not isinstance(topic, str):
        raise DecodeError("room profile: name and topic are texts")
    if not 1 <= len(name) <= MAX_ROOM_NAME_LENGTH or len(topic) > MAX_ROOM_TOPIC_LENGTH:
        raise ValidationError("room profile: a name has 1 to 128 characters and a topic at most 1024")
    return RoomProfile(name, topic)


def read_receipt(content: MimiContent) -> dict[bytes, MessageStatus]:
    """Return the statuses that a message carries; raises DecodeError or ValidationError if it carries none."""
    body = content.body
    if not isinstance(body, SinglePart) or body.content_type != status.MEDIA_TYPE:
        raise DecodeError("receipt: the message carries none")
    return status.decode_statuses(body.content)


def check_replacement(original: MimiContent, replacement: MimiContent, *, may_delete: bool = False) -> None:
    """Check that an edit or deletion may replace the first version of a message.

    may_delete: the sender of the replacement holds the role that may delete what others wrote.

    Raises:
        ValidationError: it names another message, changes more than the body, or is not its sender's to make.

    Source: draft-ietf-mimi-content-08 §9.3.
    """
    if replacement.replaces != original.message_id():
        raise ValidationError("replacement: it names another message")
    if replacement.room_uri != original.room_uri:
        raise ValidationError("replacement: it names another room")
    is_deletion = isinstance(replacement.body, NullPart)
    if replacement.sender_uri != original.sender_uri and not (may_delete and is_deletion):
        raise ValidationError("replacement: it is by another sender than the message")
    for name in ("topic_id", "expires", "in_reply_to"):
        if getattr(replacement, name) != getattr(original, name):
            raise ValidationError(f"replacement: it changes the {name} of the message")


def _hash_extension(plaintext_hashes: Mapping[int, bytes] | None) -> dict[int | str, cbor.Value]:
    return {PLAINTEXT_HASHES: {**plaintext_hashes}} if plaintext_hashes else {}
