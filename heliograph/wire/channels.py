"""Public channels, as they travel, and the signatures that let a post be proven without the server.

A post is signed by its author's device as canonical MessagePack: map keys in the struct's order, shortest forms.
The signature is over exactly the bytes that are kept and shown, so readers and exports can check it for ever.
"""

from typing import Annotated, Final, Literal, TypeVar

import msgspec

from heliograph.mls.errors import MLSError
from heliograph.mls.suite import cipher_suite
from heliograph.wire.accounts import Wire
from heliograph.wire.encoding import decode_msgpack, encode_msgpack
from heliograph.wire.ids import (
    END,
    AccountId,
    AccountIdText,
    ChannelId,
    ChannelIdText,
    DecisionId,
    DeviceIdText,
    Handle,
    HandleText,
)
from heliograph.wire.problems import Problem
from heliograph.wire.rooms import IdempotencyKey, Seq

T = TypeVar("T")

POST_LABEL: Final = "HG1 ChannelPost"
EDIT_LABEL: Final = "HG1 ChannelEdit"
TOMBSTONE_LABEL: Final = "HG1 ChannelTombstone"
ED25519_SUITE: Final = 1

MAX_BODY_SIZE_BYTES: Final = 16 * 1024
MAX_ATTACHMENTS: Final = 10
MAX_SIGNED_SIZE_BYTES: Final = 24 * 1024

ChannelRole = Literal["owner", "editor", "moderator"]
ChannelState = Literal["open", "limited", "blocked"]
LanguageTag = Annotated[str, msgspec.Meta(pattern=f"^[a-z]{{2,3}}(-[A-Za-z0-9]{{2,8}})*{END}", max_length=35)]
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Description = Annotated[str, msgspec.Meta(max_length=1024)]
SignedBytes = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_SIGNED_SIZE_BYTES)]
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
Sha256 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Author(Wire, frozen=True):
    """Who signed: an account's device."""

    account: AccountIdText
    device: DeviceIdText


class PublicAttachment(Wire, frozen=True):
    """A public file of a post: where it is, and the SHA-256 (32 bytes) of what it must be."""

    url: Annotated[str, msgspec.Meta(max_length=512)]
    media_type: Annotated[str, msgspec.Meta(max_length=128)]
    size_bytes: Annotated[int, msgspec.Meta(ge=0, lt=2**40)]
    sha256: Sha256
    description: Annotated[str, msgspec.Meta(max_length=1024)] = ""


class Post(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an author signs: GitHub-flavoured markdown without raw HTML, at most 16 KiB of UTF-8.

    All fields are always written, in this order: that makes the encoding canonical.
    """

    channel: ChannelIdText
    key: IdempotencyKey
    created_at_ms: Seq
    language: LanguageTag
    body: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_BODY_SIZE_BYTES)]
    attachments: Annotated[tuple[PublicAttachment, ...], msgspec.Meta(max_length=MAX_ATTACHMENTS)]
    reply_to: Seq | None
    signed_by: Author


class Edit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an author signs in order to replace a post: the post's id (its first seq) and the new version."""

    of: Seq
    post: Post


class Deletion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an author signs in order to delete a post."""

    channel: ChannelIdText
    of: Seq
    key: IdempotencyKey
    created_at_ms: Seq
    signed_by: Author


class CreateChannel(Wire, frozen=True):
    """Open a channel; the caller becomes its owner. The client chooses the id's random bits."""

    channel: ChannelIdText
    handle: HandleText
    title: Title
    description: Description = ""
    languages: Annotated[tuple[LanguageTag, ...], msgspec.Meta(max_length=20)] = ()


class UpdateChannel(Wire, frozen=True):
    """Change a channel's title, description or languages; what is absent stays."""

    channel: ChannelIdText
    title: Title | None = None
    description: Description | None = None
    languages: Annotated[list[LanguageTag], msgspec.Meta(max_length=20)] | None = None


class SetChannelRole(Wire, frozen=True):
    """Give an account a role in a channel, or take it away (`role` absent)."""

    channel: ChannelIdText
    account: AccountIdText
    role: ChannelRole | None = None


class ChannelRequest(Wire, frozen=True):
    """Name one channel."""

    channel: ChannelIdText


class ChannelInfo(Wire, frozen=True):
    """A channel as anyone sees it. `followers` is a count; the list is nobody's to read."""

    channel: ChannelIdText
    handle: Handle
    title: str
    description: str
    languages: list[str]
    owner: AccountId
    created_at_ms: int
    head_seq: int
    followers: int
    state: ChannelState = "open"
    own_role: ChannelRole | None = None


class ListChannels(Wire, frozen=True):
    """Page through the directory, by handle."""

    after: Annotated[str, msgspec.Meta(max_length=32)] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 50


class Channels(Wire, frozen=True):
    """A page of channels."""

    channels: list[ChannelInfo]


class SubmitSigned(Wire, frozen=True):
    """Publish signed bytes: a `Post`, an `Edit` or a `Deletion` (each by its own operation), and the signature."""

    channel: ChannelIdText
    signed: SignedBytes
    signature: Signature


class Published(Wire, frozen=True):
    """The acknowledgement: the entry's number in the channel. It is durable."""

    seq: int
    accepted_at_ms: int


class ReadPosts(Wire, frozen=True):
    """Read a channel's posts in their newest version: those after `after`, or the newest before `before`."""

    channel: ChannelIdText
    after: Seq | None = None
    before: Seq | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 50


class Tombstone(Wire, frozen=True):
    """Why a post is gone: its author deleted it, someone with that right in the channel did, or a decision removed it
    for a public reason.
    """

    by: Literal["author", "channel", "moderation"]
    at_ms: int
    decision: DecisionId | None = None
    reason: str = ""


class PostView(Wire, frozen=True):
    """A post as readers get it: its id, its newest version as signed bytes, and the signature; or its tombstone.

    `version` is the seq of the entry that holds this version; it equals `id` until an edit.
    """

    id: int
    version: int
    accepted_at_ms: int
    signed: bytes = b""
    signature: bytes = b""
    tombstone: Tombstone | None = None


class PostPage(Wire, frozen=True):
    """A page of posts, oldest first, and the channel's newest seq."""

    posts: list[PostView]
    head_seq: int


class GetPost(Wire, frozen=True):
    """Name one post by its id."""

    channel: ChannelIdText
    post: Seq


_post_decoder = msgspec.msgpack.Decoder(Post)
_edit_decoder = msgspec.msgpack.Decoder(Edit)
_deletion_decoder = msgspec.msgpack.Decoder(Deletion)


def sign(label: str, content: bytes, device_private_key: bytes) -> bytes:
    """Return the Ed25519 signature (64 bytes) of signed bytes under one of the three labels."""
    return cipher_suite(ED25519_SUITE).sign_with_label(device_private_key, label, content)


def verify(label: str, content: bytes, signature: bytes, device_key: bytes) -> None:
    """Check a signature over signed bytes.

    Raises:
        Problem: `invalid-post`.
    """
    try:
        cipher_suite(ED25519_SUITE).verify_with_label(device_key, label, content, signature)
    except MLSError:
        raise Problem("invalid-post", "the signature does not verify under the author's device key") from None


def decode_post(signed: bytes) -> Post:
    """Read signed bytes as a post; they must be canonical.

    Raises:
        Problem: `malformed` or `invalid-post`.
    """
    return _canonical(signed, _post_decoder)


def decode_edit(signed: bytes) -> Edit:
    """Read signed bytes as an edit; they must be canonical.

    Raises:
        Problem: `malformed` or `invalid-post`.
    """
    return _canonical(signed, _edit_decoder)


def decode_deletion(signed: bytes) -> Deletion:
    """Read signed bytes as a deletion; they must be canonical.

    Raises:
        Problem: `malformed` or `invalid-post`.
    """
    return _canonical(signed, _deletion_decoder)


def newest_post(view: PostView) -> Post | None:
    """Return the post that a view holds, whether first version or edit; None for a tombstone.

    Raises:
        Problem: `malformed` or `invalid-post`.
    """
    if view.tombstone is not None:
        return None
    return decode_post(view.signed) if view.version == view.id else decode_edit(view.signed).post


def post_subject(channel: ChannelId, seq: int) -> str:
    """Return the name of a post as a subject of moderation."""
    return f"{channel}/{seq}"


def _canonical(signed: bytes, decoder: "msgspec.msgpack.Decoder[T]") -> T:
    value = decode_msgpack(signed, decoder)
    if encode_msgpack(value) != signed:
        raise Problem("invalid-post", "the signed bytes are not in their canonical form")
    return value
