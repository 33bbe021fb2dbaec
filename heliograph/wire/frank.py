"""The hub's stamp on a sealed message: what it says, how a batch is stamped, how anyone checks it.

Theory of operation. The sender commits to a message by a 32-byte tag that the hub can see but not open. At
acceptance the hub adds what only it knows, the *context* (who sent it by the session, where, when, in which
order), and stamps both twice:

    ctx  = vec(sender_uri) || vec(room_uri) || u64 accepted_at_ms || u64 room_seq || u64 epoch || vec(kid)
    mac  = HMAC-SHA256(hub_key[kid], tag || ctx)              for the hub itself, until it deletes that key
    root = Merkle root (RFC 9162 §2.1) over the leaves tag || mac || ctx of one commit batch
    sig  = SignWithLabel(hub_sign, "ReportableFrankTBS", root || u16 suite || kid)       for everyone else

A batch costs one signature; each message carries it with its own path to the root. The leaf holds the tag,
so two stamps cannot be swapped between messages, and a holder of the public key alone can check content.

Franks travel without the sender: receivers know it once they have decrypted.
"""

import hmac
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Final, Protocol

import msgspec

from heliograph.mls.codec import Writer
from heliograph.mls.errors import DecodeError, VerificationError
from heliograph.mls.safe_aad import SafeAAD, SafeAADItem
from heliograph.mls.suite import cipher_suite
from heliograph.tlog import merkle
from heliograph.tlog.errors import ProofError

TAG_SIZE_BYTES: Final = 32
HUB_KEY_SIZE_BYTES: Final = 32
MAX_KID_SIZE_BYTES: Final = 32
MAX_BATCH: Final = 1 << 16
SUITE: Final = 1
LABEL: Final = "ReportableFrankTBS"
FRANK_AAD: Final = 0x0020

_MAX_PATH: Final = 16
Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class FrankError(VerificationError):
    """A frank does not hold for this tag and context."""


class Frank(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message's stamp: the hub's MAC and key id, the batch's signature, and the way from this leaf to its root."""

    mac: Hash
    suite: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
    kid: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_KID_SIZE_BYTES)]
    signature: Annotated[bytes, msgspec.Meta(max_length=128)]
    leaf_index: Annotated[int, msgspec.Meta(ge=0, lt=MAX_BATCH)]
    leaf_count: Annotated[int, msgspec.Meta(ge=1, le=MAX_BATCH)]
    path: Annotated[tuple[Hash, ...], msgspec.Meta(max_length=_MAX_PATH)] = ()


class Envelope(Protocol):
    """What the hub said about a message, with its frank encoded (`heliograph.content.franking.Envelope`)."""

    @property
    def accepted_at_ms(self) -> int: ...

    @property
    def room_seq(self) -> int: ...

    @property
    def epoch(self) -> int: ...

    @property
    def frank(self) -> bytes: ...


def frank_aad(tag: bytes) -> bytes:
    """Return the `authenticated_data` of a message with this franking tag.

    Source: draft-ietf-mimi-protocol-06, Message Franking; component `frank_aad` (0x0020).
    """
    return SafeAAD((SafeAADItem(FRANK_AAD, tag),)).encode()


def tag_in(authenticated_data: bytes) -> bytes:
    """Return the 32-byte franking tag in a message's `authenticated_data`.

    Raises:
        DecodeError: there is none, or something else than SafeAAD.
    """
    tag = SafeAAD.decode(authenticated_data).find(FRANK_AAD)
    if tag is None or len(tag) != TAG_SIZE_BYTES:
        raise DecodeError("the authenticated data holds no franking tag of 32 bytes")
    return tag


def context_bytes(sender_uri: str, room_uri: str, accepted_at_ms: int, room_seq: int, epoch: int, kid: bytes) -> bytes:
    """Return what the hub knows of a message, as it is stamped; vectors have RFC 9420 §2.1.2 lengths."""
    numbers = struct.pack(">QQQ", accepted_at_ms, room_seq, epoch)
    return b"".join((_vector(sender_uri.encode()), _vector(room_uri.encode()), numbers, _vector(kid)))


def stamp_batch(
    hub_key: bytes, signature_private_key: bytes, kid: bytes, items: Sequence[tuple[bytes, bytes]]
) -> list[Frank]:
    """Return one frank for each (tag, context) of a batch, in order, all under one signature.

    hub_key: the 32-byte MAC key named `kid`. signature_private_key: Ed25519. A tag has 32 bytes; a context comes
    from `context_bytes` with the same kid.
    """
    _check_keys(hub_key, kid)
    if not items:
        return []
    if len(items) > MAX_BATCH or any(len(tag) != TAG_SIZE_BYTES for tag, _ in items):
        raise ValueError("a batch has at most 65536 items, each with a tag of 32 bytes")
    macs = _macs(hub_key, [tag + context for tag, context in items])
    leaves = [merkle.leaf_hash(tag + mac + context) for (tag, context), mac in zip(items, macs, strict=True)]
    levels = _levels(leaves)
    signed = _signed(levels[-1][0], SUITE, kid)
    signature = cipher_suite(SUITE).sign_with_label(signature_private_key, LABEL, signed)
    count = len(items)
    return [
        Frank(mac, SUITE, kid, signature, index, count, path)
        for index, (mac, path) in enumerate(zip(macs, _paths(levels), strict=True))
    ]


def verify_frank(hub_public_key: bytes, tag: bytes, context: bytes, frank: Frank) -> None:
    """Check by the hub's Ed25519 public key alone that it stamped this tag in this context.

    Raises:
        FrankError: it did not.
        UnsupportedError: the frank is of a cipher suite that is not known here.
    """
    if len(tag) != TAG_SIZE_BYTES:
        raise FrankError("a franking tag has 32 bytes")
    suite = cipher_suite(frank.suite)
    leaf = merkle.leaf_hash(tag + frank.mac + context)
    try:
        root = merkle.root_from_inclusion_proof(frank.leaf_index, frank.leaf_count, leaf, frank.path)
        signed = _signed(root, frank.suite, frank.kid)
        suite.verify_with_label(hub_public_key, LABEL, signed, frank.signature)
    except (ProofError, VerificationError) as error:
        raise FrankError("the hub's signature does not cover this message in this context") from error


def encode_frank(frank: Frank) -> bytes:
    """Return a frank as it is kept beside a message and enclosed in a report."""
    return msgspec.msgpack.encode(frank)


def decode_frank(data: bytes) -> Frank:
    """Return a kept frank; raises DecodeError for anything but its one encoding."""
    try:
        frank = _frank_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise DecodeError("not an encoded frank") from None
    if encode_frank(frank) != data:
        raise DecodeError("a frank that is not in its one encoding")
    return frank


def stamped_context(frank: Frank, sender_uri: str, room_uri: str, envelope: Envelope) -> bytes:
    """Return the context that a frank must have been made in, if these are its sender, room and envelope."""
    return context_bytes(sender_uri, room_uri, envelope.accepted_at_ms, envelope.room_seq, envelope.epoch, frank.kid)


def stamp_verifier(hub_public_key: bytes) -> Callable[[bytes, str, str, Envelope], None]:
    """Return the check of (tag, sender URI, room URI, envelope) under a hub's key.

    It is what `heliograph.content` asks for, and raises FrankError, DecodeError or UnsupportedError.
    """

    def verify_stamp(tag: bytes, sender_uri: str, room_uri: str, envelope: Envelope) -> None:
        frank = decode_frank(envelope.frank)
        verify_frank(hub_public_key, tag, stamped_context(frank, sender_uri, room_uri, envelope), frank)

    return verify_stamp


def verify_mac(hub_key: bytes, tag: bytes, context: bytes, mac: bytes) -> None:
    """Check the hub's own MAC over a tag and context; only the hub can, and only while it keeps the key.

    Raises:
        FrankError: it is not the MAC.
    """
    if len(tag) != TAG_SIZE_BYTES:
        raise FrankError("a franking tag has 32 bytes")
    if not hmac.compare_digest(hmac.digest(hub_key, tag + context, "sha256"), mac):
        raise FrankError("the hub's MAC does not cover this message in this context")


def _macs(hub_key: bytes, contents: Sequence[bytes]) -> list[bytes]:
    """HMAC-SHA256 of each, the key set up once."""
    keyed, macs = hmac.new(hub_key, digestmod="sha256"), list[bytes]()
    for content in contents:
        mac = keyed.copy()
        mac.update(content)
        macs.append(mac.digest())
    return macs


def _signed(root: bytes, suite: int, kid: bytes) -> bytes:
    return root + suite.to_bytes(2) + kid


def _levels(leaves: list[bytes]) -> list[list[bytes]]:
    """All rows of the tree; the odd last node of a row rises as it is, which gives the tree of RFC 9162."""
    levels = [leaves]
    while len(row := levels[-1]) > 1:
        above = [merkle.node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)]
        if len(row) & 1:
            above.append(row[-1])
        levels.append(above)
    return levels


def _paths(levels: list[list[bytes]]) -> list[tuple[bytes, ...]]:
    """The path of each leaf, nearest sibling first: from the root down, so that what leaves share is made once."""
    paths: list[tuple[bytes, ...]] = [()]
    for row in reversed(levels[:-1]):
        above, paths = paths, []
        for index in range(len(row)):
            sibling = index ^ 1
            path = above[index >> 1]
            paths.append((row[sibling], *path) if sibling < len(row) else path)
    return paths


@lru_cache(maxsize=4096)
def _vector(data: bytes) -> bytes:
    """The same few names come again and again. Source: RFC 9420 §2.1.2."""
    writer = Writer()
    writer.opaque(data)
    return writer.getvalue()


def _check_keys(hub_key: bytes, kid: bytes) -> None:
    if len(hub_key) != HUB_KEY_SIZE_BYTES or not 1 <= len(kid) <= MAX_KID_SIZE_BYTES:
        raise ValueError("a hub key has 32 bytes and a kid 1 to 32")


_frank_decoder = msgspec.msgpack.Decoder(Frank)
