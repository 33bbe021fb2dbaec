import hmac
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from heliograph.content import franking
from heliograph.content.attachment import seal_attachment
from heliograph.content.compose import Composer
from heliograph.content.framing import encode_application_data
from heliograph.content.franking import Envelope, Franked, Verified, frank_message, franking_tag, verify_received
from heliograph.content.message import Expiration, ExternalPart, MimiContent, SinglePart
from heliograph.mls.errors import MLSError, UnsupportedError, ValidationError, VerificationError
from heliograph.mls.suite import Random
from tests.content.hub import ALICE, BOB, NOW_MS, OTHER_ROOM, ROOM, Acceptance, Hub

HUB = Hub()


@pytest.fixture
def alice(seeded_random: Random) -> Composer:
    return Composer(ALICE, ROOM, seeded_random)


def receive(sent: Franked, envelope: Envelope, **changes) -> Verified:
    """Receive as a member of ROOM does whose MLS says that ALICE sent it, live, after entry 6."""
    arguments: dict[str, Any] = {
        "tag": sent.tag,
        "sender_uri": ALICE,
        "room_uri": ROOM,
        "after_room_seq": 6,
        "verify_stamp": HUB.verifier(),
        "arrived_at_ms": NOW_MS + 1000,
        **changes,
    }
    return verify_received(sent.application_data, envelope=envelope, **arguments)


def accepted(sent: Franked, **knowledge) -> Envelope:
    return HUB.accept(Acceptance(sent.tag, **knowledge))[0]


def test_the_tag_is_the_hmac_of_all_that_is_sealed_under_the_salt(alice: Composer) -> None:
    content = alice.text("hello")
    sent = frank_message(content)
    assert sent.application_data == encode_application_data(content)
    assert sent.tag == hmac.digest(content.salt, sent.application_data, "sha256")


@pytest.mark.parametrize("size", [0, 15, 17, 32, 64])
def test_a_salt_of_any_other_size_is_refused(size: int) -> None:
    with pytest.raises(ValidationError, match="16 bytes"):
        franking_tag(bytes(size), b"data")


def test_salts_that_hmac_would_pad_to_one_key_do_not_give_one_tag() -> None:
    # HMAC pads a key with zeros: without the rule on sizes these two would be one tag.
    assert hmac.digest(b"k" * 15, b"x", "sha256") == hmac.digest(b"k" * 15 + b"\x00", b"x", "sha256")
    with pytest.raises(ValidationError):
        franking_tag(b"k" * 15, b"x")


def test_a_message_that_fits_its_stamp_is_shown(alice: Composer) -> None:
    content = alice.text("hello")
    sent = frank_message(content)
    received = receive(sent, accepted(sent))
    assert received == Verified(content, content.message_id(), sent.tag)


def test_a_message_from_the_backlog_is_shown_however_old(alice: Composer) -> None:
    sent = frank_message(alice.text("hello"))
    assert receive(sent, accepted(sent, accepted_at_ms=5), arrived_at_ms=None).content.sender_uri == ALICE


def test_a_wrong_tag_is_not_rendered(alice: Composer) -> None:
    sent, other = frank_message(alice.text("what was sealed")), frank_message(alice.text("what was tagged"))
    with pytest.raises(VerificationError, match="tag is not that of the message"):
        receive(sent, accepted(other), tag=other.tag)


def test_a_message_that_names_another_sender_than_its_credential_is_not_rendered(alice: Composer) -> None:
    sent = frank_message(alice.text("hello"))
    with pytest.raises(VerificationError, match="another sender"):
        receive(sent, accepted(sent), sender_uri=BOB)


def test_a_message_for_another_room_is_not_rendered(seeded_random: Random) -> None:
    sent = frank_message(Composer(ALICE, OTHER_ROOM, seeded_random).text("hello"))
    with pytest.raises(VerificationError, match="another room"):
        receive(sent, accepted(sent))


@pytest.mark.parametrize(
    "knowledge", [{"sender_uri": BOB}, {"room_uri": OTHER_ROOM}], ids=lambda change: next(iter(change))
)
def test_a_stamp_for_another_sender_or_room_is_not_enough(alice: Composer, knowledge) -> None:
    sent = frank_message(alice.text("hello"))
    with pytest.raises(VerificationError):
        receive(sent, accepted(sent, **knowledge))


@pytest.mark.parametrize(
    "change", [{"accepted_at_ms": NOW_MS + 1}, {"room_seq": 8}, {"epoch": 4}], ids=lambda change: next(iter(change))
)
def test_an_envelope_that_was_changed_on_the_way_is_not_enough(alice: Composer, change) -> None:
    sent = frank_message(alice.text("hello"))
    with pytest.raises(VerificationError):
        receive(sent, msgspec.structs.replace(accepted(sent), **change))


@pytest.mark.parametrize("content_change", [{"salt": b"z" * 16}, {"body": SinglePart("text/plain", b"other")}])
def test_a_changed_salt_or_body_has_another_tag(alice: Composer, content_change) -> None:
    content = alice.text("hello")
    changed = frank_message(replace(content, **content_change))
    assert changed.tag != frank_message(content).tag
    with pytest.raises(VerificationError):
        receive(changed, accepted(frank_message(content)))


def test_stamps_swapped_between_two_messages_are_noticed(alice: Composer) -> None:
    first, second = frank_message(alice.text("one")), frank_message(alice.text("two"))
    envelopes = HUB.accept(Acceptance(first.tag, room_seq=7), Acceptance(second.tag, room_seq=8))
    receive(first, envelopes[0])
    receive(second, envelopes[1])
    for sent, envelope in ((first, envelopes[1]), (second, envelopes[0])):
        with pytest.raises(VerificationError):
            receive(sent, envelope)


def test_the_numbering_of_a_room_must_increase(alice: Composer) -> None:
    sent = frank_message(alice.text("hello"))
    for after in (7, 8):
        with pytest.raises(VerificationError, match="does not increase"):
            receive(sent, accepted(sent), after_room_seq=after)


@pytest.mark.parametrize(("late_ms", "shown"), [(300_000, True), (300_001, False), (-300_000, True), (-300_001, False)])
def test_a_live_message_was_accepted_within_five_minutes(alice: Composer, late_ms: int, shown: bool) -> None:
    sent = frank_message(alice.text("hello"))
    if shown:
        receive(sent, accepted(sent), arrived_at_ms=NOW_MS + late_ms)
    else:
        with pytest.raises(VerificationError, match="5 minutes"):
            receive(sent, accepted(sent), arrived_at_ms=NOW_MS + late_ms)


def test_an_absurd_expiry_is_not_rendered(alice: Composer) -> None:
    sent = frank_message(alice.text("hello", expires=Expiration(relative=False, time=5)))
    with pytest.raises(ValidationError, match="a year"):
        receive(sent, accepted(sent))


def test_a_stamp_of_an_unknown_kind_is_not_rendered(alice: Composer) -> None:
    def cannot_tell(*_: object) -> None:
        raise UnsupportedError("a suite of the future")

    sent = frank_message(alice.text("hello"))
    with pytest.raises(MLSError):
        receive(sent, accepted(sent), verify_stamp=cannot_tell)


@pytest.mark.bad_input(82)
@pytest.mark.parametrize("application_data", [b"", b"{}", b"hello", b"\x00\x00\x01\x80"])
def test_what_is_no_message_is_not_rendered(alice: Composer, application_data: bytes) -> None:
    sent = frank_message(alice.text("hello"))
    with pytest.raises(MLSError):
        receive(Franked(application_data, sent.tag), accepted(sent))


def sealed_attachment_message(alice: Composer, random: Random, hashed: bool) -> MimiContent:
    sealed = seal_attachment(b"picture" * 9, random)
    part = sealed.part("https://chat.example/b/1", "image/webp")
    return alice.message(part, plaintext_hashes={0: sealed.plaintext_hash} if hashed else None)


def test_an_attachment_whose_plaintext_nobody_could_prove_is_neither_sent_nor_shown(
    alice: Composer, seeded_random: Random
) -> None:
    frank_message(sealed_attachment_message(alice, seeded_random, hashed=True))
    content = sealed_attachment_message(alice, seeded_random, hashed=False)
    with pytest.raises(ValidationError, match="hash of its plaintext"):
        frank_message(content)
    data = encode_application_data(content)
    forced = Franked(data, franking_tag(content.salt, data))
    with pytest.raises(ValidationError, match="hash of its plaintext"):
        receive(forced, accepted(forced))


def test_a_link_that_is_not_sealed_needs_no_hash(alice: Composer) -> None:
    sent = frank_message(alice.message(ExternalPart("", "https://chat.example/join/1")))
    receive(sent, accepted(sent))


def test_the_hub_learns_thirty_two_bytes_that_say_nothing(alice: Composer) -> None:
    one, two = frank_message(alice.text("same words")), frank_message(alice.text("same words"))
    assert len(one.tag) == franking.TAG_SIZE_BYTES
    assert one.tag != two.tag
