"""Reports of private messages: what a recipient discloses, sealed to the desk, and the desk's check of it.

Theory of operation. A report carries messages as their sender sealed them (`application_data`) and what the
hub said about each (`Envelope`). That is enough to check, with the hub's public key and nothing else, who
sent what to which room, when, and in which order. The result for each item is

    PROVEN     the hub accepted exactly this message from exactly this account
    UNPROVEN   it may be true; nothing proves it (no stamp, an unknown key, a key that the hub has deleted)
    FORGED     it contradicts itself or the hub's stamp

An attachment has a verdict of its own. Otherwise a sender who commits to a wrong hash, or a reporter who
encloses a wrong file, could spoil the proof of the words beside it.

Encoding: MessagePack, map keys in the order of the struct, shortest forms; only that encoding is accepted.
Sealing: EncryptWithLabel of cipher suite 1 (X25519), label "HG1 Report", context the room's URI.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from heliograph.content.attachment import open_attachment
from heliograph.content.framing import MAX_APPLICATION_DATA_SIZE_BYTES, decode_application_data
from heliograph.content.franking import Envelope, VerifyStamp, franking_tag
from heliograph.content.message import MAX_PARTS, MAX_URI_SIZE_BYTES, ExternalPart, MimiContent
from heliograph.mls.errors import (
    DecodeError,
    MLSError,
    StateError,
    UnsupportedError,
    ValidationError,
    VerificationError,
)
from heliograph.mls.suite import HPKECiphertext, cipher_suite

VERSION: Final = 1
VERIFIER: Final = "heliograph-report-1"
LABEL: Final = "HG1 Report"
MAX_ITEMS: Final = 50
MAX_NOTE_LENGTH: Final = 5000
MAX_REPORT_SIZE_BYTES: Final = 1024 * 1024 - 128

_SUITE: Final = 1
_Uri = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_URI_SIZE_BYTES)]
_T = TypeVar("_T")


class ReportAttachment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The stored bytes of one attachment, by the index of its part. Optional: the desk can fetch them by URL."""

    part_index: Annotated[int, msgspec.Meta(ge=0, lt=MAX_PARTS)]
    ciphertext: bytes


class ReportItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One disclosed message: the bytes its sender sealed, and what the hub said about them."""

    application_data: Annotated[bytes, msgspec.Meta(max_length=MAX_APPLICATION_DATA_SIZE_BYTES)]
    envelope: Envelope
    attachments: Annotated[tuple[ReportAttachment, ...], msgspec.Meta(max_length=MAX_PARTS)] = ()

    def encode(self) -> bytes:
        """Return the item as it is attached to a case as evidence."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> "ReportItem":
        """Return an item that was attached to a case; raises DecodeError."""
        return _decode(data, _item_decoder)


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A report of messages in one room against one account, by URI; items in the order of the room.

    `context_mode` tells whether the reporter disclosed the chosen message alone or with those before it.
    """

    v: Literal[1]
    room: _Uri
    accused: _Uri
    reporter: _Uri
    category: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    keyword: Annotated[str, msgspec.Meta(max_length=80)]
    note: Annotated[str, msgspec.Meta(max_length=MAX_NOTE_LENGTH)]
    language: Annotated[str, msgspec.Meta(max_length=35)]
    context_mode: Literal["chosen", "preceding"]
    items: Annotated[tuple[ReportItem, ...], msgspec.Meta(min_length=1, max_length=MAX_ITEMS)]

    def encode(self) -> bytes:
        """Return the report as it is sealed; raises ValidationError for one that `decode` would refuse."""
        data = msgspec.msgpack.encode(self)
        try:
            Report.decode(data)
        except DecodeError as error:
            raise ValidationError(str(error)) from None
        return data

    @classmethod
    def decode(cls, data: bytes) -> "Report":
        """Return the report that `data` encodes.

        Raises:
            DecodeError: not a report in its one encoding.
            ValidationError: too large, or its items are not in the order of the room.
        """
        if len(data) > MAX_REPORT_SIZE_BYTES:
            raise ValidationError("report: larger than 1 MiB")
        report = _decode(data, _report_decoder)
        numbers = [item.envelope.room_seq for item in report.items]
        if any(one >= two for one, two in pairwise(numbers)):
            raise ValidationError("report: its items are not in the order of the room, each once")
        return report


class Verdict(StrEnum):
    """What the check of an item came to."""

    PROVEN = "proven"
    UNPROVEN = "unproven"
    FORGED = "forged"


@dataclass(frozen=True, slots=True)
class AttachmentCheck:
    """The verdict on one enclosed attachment; `plaintext` only where it is proven."""

    part_index: int
    verdict: Verdict
    reason: str
    plaintext: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ItemCheck:
    """The verdict on one item, why, and what it binds; `content` and `tag` are absent where nothing could be read."""

    verdict: Verdict
    reason: str
    item_sha256: bytes
    envelope: Envelope
    content: MimiContent | None = None
    tag: bytes = b""
    attachments: tuple[AttachmentCheck, ...] = ()
    verifier: str = VERIFIER

    def with_mac(self, answer: Literal["valid", "invalid", "key-deleted"]) -> "ItemCheck":
        """Return this check after the hub said whether the frank's MAC is its own.

        A deleted key takes the proof back, by design: the hub stands by its stamps for the report window only.
        """
        if self.verdict is not Verdict.PROVEN or answer == "valid":
            return self
        if answer == "key-deleted":
            reason = "The hub has deleted the key of this message, so it no longer vouches for it."
            return replace(self, verdict=Verdict.UNPROVEN, reason=reason)
        return replace(self, verdict=Verdict.FORGED, reason="The hub says that the stamp's MAC is not its own.")


@dataclass(frozen=True, slots=True)
class ReportCheck:
    """A whole report, checked: its items, the entries left out before each, and how many prove the accusation.

    `not_shown[i]` counts the room's entries between item i - 1 and item i (0 for the first). `against_accused`
    counts the proven items that the accused sent.
    """

    items: tuple[ItemCheck, ...]
    not_shown: tuple[int, ...]
    against_accused: int


def seal_report(report: Report, desk_public_key: bytes) -> bytes:
    """Return a report that only the desk can open; raises ValidationError, or DecodeError for an unusable key."""
    suite = cipher_suite(_SUITE)
    sealed = suite.encrypt_with_label(desk_public_key, LABEL, report.room.encode(), report.encode())
    return sealed.encode()


def open_report(sealed: bytes, desk_private_key: bytes, room_uri: str) -> Report:
    """Return the report that was sealed to the desk for this room.

    Raises:
        DecodeError, ValidationError: not a sealed report.
        VerificationError: sealed to another key or for another room, or changed on the way.
    """
    suite = cipher_suite(_SUITE)
    ciphertext = HPKECiphertext.decode(sealed)
    report = Report.decode(suite.decrypt_with_label(desk_private_key, LABEL, room_uri.encode(), ciphertext))
    if report.room != room_uri:
        raise VerificationError("report: it is about another room than the one it was sent for")
    return report


def check_item(item: ReportItem, room_uri: str, verify_stamp: VerifyStamp) -> ItemCheck:
    """Return the verdict on one item, from public keys alone; never raises for what the item holds."""
    check = ItemCheck(Verdict.PROVEN, "", hashlib.sha256(item.encode()).digest(), item.envelope)
    try:
        content = decode_application_data(item.application_data)
    except UnsupportedError:
        return replace(check, verdict=Verdict.UNPROVEN, reason="The message is of a kind not known here.")
    except MLSError as error:
        return replace(check, verdict=Verdict.FORGED, reason=f"The message cannot be read: {error}.")
    tag = franking_tag(content.salt, item.application_data)
    verdict, reason = _check_stamp(content, tag, item.envelope, room_uri, verify_stamp)
    attachments = tuple(_check_attachment(content, one) for one in item.attachments)
    return replace(check, verdict=verdict, reason=reason, content=content, tag=tag, attachments=attachments)


def check_report(report: Report, verify_stamp: VerifyStamp) -> ReportCheck:
    """Return the verdicts on all items of a report, with the gaps between them."""
    items = tuple(check_item(item, report.room, verify_stamp) for item in report.items)
    proven = [item.content for item in items if item.verdict is Verdict.PROVEN]
    against = sum(content is not None and content.sender_uri == report.accused for content in proven)
    return ReportCheck(items, gaps([item.envelope.room_seq for item in report.items]), against)


def gaps(room_seqs: Sequence[int]) -> tuple[int, ...]:
    """Return, for each of some increasing entry numbers, how many entries lie between it and the one before."""
    return tuple(
        0 if before is None else seq - before - 1
        for before, seq in zip([None, *room_seqs[:-1]], room_seqs, strict=True)
    )


def _check_stamp(
    content: MimiContent, tag: bytes, envelope: Envelope, room_uri: str, verify_stamp: VerifyStamp
) -> tuple[Verdict, str]:
    if content.room_uri != room_uri:
        return Verdict.FORGED, "The message was written in another room than the report names."
    if not envelope.frank:
        return Verdict.UNPROVEN, "The message carries no stamp of the hub."
    try:
        verify_stamp(tag, content.sender_uri, room_uri, envelope)
    except (UnsupportedError, StateError):
        return Verdict.UNPROVEN, "The stamp is of a key or kind that is not known here."
    except MLSError:
        return Verdict.FORGED, "The hub did not accept this message from this sender at that time and place."
    return Verdict.PROVEN, "The hub accepted exactly this message from this sender."


def _check_attachment(content: MimiContent, enclosed: ReportAttachment) -> AttachmentCheck:
    index = enclosed.part_index
    part = dict(enumerate(content.parts())).get(index)
    if not isinstance(part, ExternalPart):
        return AttachmentCheck(index, Verdict.FORGED, "The message has no attachment at this place.")
    plaintext_hash = content.plaintext_hashes.get(index)
    if plaintext_hash is None:
        return AttachmentCheck(index, Verdict.UNPROVEN, "The message does not commit to what it contains.")
    try:
        plaintext = open_attachment(part, plaintext_hash, enclosed.ciphertext)
    except UnsupportedError:
        return AttachmentCheck(index, Verdict.UNPROVEN, "It is sealed in a way that is not known here.")
    except MLSError as error:
        return AttachmentCheck(index, Verdict.FORGED, f"It is not what the message refers to: {error}.")
    return AttachmentCheck(index, Verdict.PROVEN, "It is what the message refers to.", plaintext)


def _decode(data: bytes, decoder: "msgspec.msgpack.Decoder[_T]") -> _T:
    try:
        value = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"report: {str(error)[:200]}") from None
    if msgspec.msgpack.encode(value) != data:
        raise DecodeError("report: not in its one encoding")
    return value


_item_decoder = msgspec.msgpack.Decoder(ReportItem)
_report_decoder = msgspec.msgpack.Decoder(Report)
