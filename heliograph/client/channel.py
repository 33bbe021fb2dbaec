"""Public posts: built and signed here, and believed from others only by the signature of their author's device. Pure.

The signed bytes are exactly what is kept and shown. A reader checks them against the author's chain of states, in
which the device may by now have left the account: what it signed before stays its author's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from heliograph.client.identity import CredentialError, Identity, KnownAccount
from heliograph.mls.suite import Random
from heliograph.wire.channels import (
    EDIT_LABEL,
    POST_LABEL,
    TOMBSTONE_LABEL,
    Author,
    Deletion,
    Edit,
    Post,
    PostView,
    PublicAttachment,
    SubmitSigned,
    decode_deletion,
    decode_edit,
    decode_post,
    sign,
    verify,
)
from heliograph.wire.encoding import encode_msgpack
from heliograph.wire.ids import AccountId, ChannelId
from heliograph.wire.problems import Problem


@dataclass(frozen=True, slots=True)
class VerifiedPost:
    """A post whose signature holds: `post` is its id, `version` the entry that holds these words."""

    channel: ChannelId
    post: int
    version: int
    accepted_at_ms: int
    content: Post


def build_post(
    identity: Identity,
    channel: ChannelId,
    body: str,
    *,
    language: str,
    now_ms: int,
    random: Random,
    reply_to: int | None = None,
    attachments: Sequence[PublicAttachment] = (),
) -> SubmitSigned:
    """Return a signed post, ready to submit: GitHub-flavoured markdown without raw HTML."""
    post = _post(identity, channel, body, language, now_ms, random, reply_to, tuple(attachments))
    return _signed(identity, channel, POST_LABEL, encode_msgpack(post))


def build_edit(
    identity: Identity, channel: ChannelId, of: int, before: Post, body: str, *, now_ms: int, random: Random
) -> SubmitSigned:
    """Return a signed new version of post `of`, whose newest version is `before`."""
    post = _post(identity, channel, body, before.language, now_ms, random, before.reply_to, before.attachments)
    return _signed(identity, channel, EDIT_LABEL, encode_msgpack(Edit(of, post)))


def build_deletion(identity: Identity, channel: ChannelId, of: int, *, now_ms: int, random: Random) -> SubmitSigned:
    """Return the signed deletion of post `of`."""
    author = Author(identity.account, identity.device)
    deletion = Deletion(channel, of, random(16), now_ms, author)
    return _signed(identity, channel, TOMBSTONE_LABEL, encode_msgpack(deletion))


def author_of(signed: bytes, *, is_edit: bool) -> AccountId:
    """Return whose chain must be known before `verify_post` can judge; raises Problem for bytes that are no post."""
    post = decode_edit(signed).post if is_edit else decode_post(signed)
    return post.signed_by.account


def verify_post(channel: ChannelId, view: PostView, known: KnownAccount | None) -> VerifiedPost:
    """Check a post as a server gave it: the channel, the place, and the author's signature.

    known: the author's verified chain. A tombstone has no post to verify.

    Raises:
        Problem, CredentialError: it does not hold.
    """
    if view.version == view.id:
        post, label = decode_post(view.signed), POST_LABEL
    else:
        edit = decode_edit(view.signed)
        post, label = edit.post, EDIT_LABEL
        if edit.of != view.id:
            raise Problem("invalid-post", "the edit is of another post")
    if post.channel != channel:
        raise Problem("invalid-post", "the post was written for another channel")
    verify(label, view.signed, view.signature, _author_key(post.signed_by, known))
    return VerifiedPost(channel, view.id, view.version, view.accepted_at_ms, post)


def verify_deletion(channel: ChannelId, of: int, signed: bytes, signature: bytes, known: KnownAccount | None) -> None:
    """Check that whom the deletion names has signed it for this post.

    Raises:
        Problem, CredentialError: it does not hold.
    """
    deletion = decode_deletion(signed)
    if (deletion.channel, deletion.of) != (channel, of):
        raise Problem("invalid-post", "the deletion is of another post")
    verify(TOMBSTONE_LABEL, signed, signature, _author_key(deletion.signed_by, known))


def _author_key(author: Author, known: KnownAccount | None) -> bytes:
    if known is None or known.account != author.account:
        raise CredentialError("the author's chain is not known")
    entry = known.entry_at_any_time(author.device)
    if entry is None:
        raise CredentialError("the author's account has never had the device that signed")
    return entry.device_key


def _post(
    identity: Identity,
    channel: ChannelId,
    body: str,
    language: str,
    now_ms: int,
    random: Random,
    reply_to: int | None,
    attachments: tuple[PublicAttachment, ...],
) -> Post:
    author = Author(identity.account, identity.device)
    return Post(channel, random(16), now_ms, language, body, attachments, reply_to, author)


def _signed(identity: Identity, channel: ChannelId, label: str, signed: bytes) -> SubmitSigned:
    return SubmitSigned(channel, signed, sign(label, signed, identity.device_private_key))
