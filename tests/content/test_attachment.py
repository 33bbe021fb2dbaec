import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from heliograph.content.attachment import (
    MAX_PLAINTEXT_SIZE_BYTES,
    SealedAttachment,
    open_attachment,
    padded_size_bytes,
    seal_attachment,
)
from heliograph.content.message import ExternalPart
from heliograph.mls.errors import MLSError, UnsupportedError, ValidationError, VerificationError
from heliograph.mls.suite import Random
from tests.content.salamander import make_salamander

PLAINTEXT = b"a picture" * 50


@pytest.fixture
def sealed(seeded_random: Random) -> SealedAttachment:
    return seal_attachment(PLAINTEXT, seeded_random)


@pytest.fixture
def part(sealed: SealedAttachment) -> ExternalPart:
    return sealed.part("https://chat.example/b/1", "image/webp", filename="a.webp")


def test_an_attachment_opens_to_what_was_sealed(sealed: SealedAttachment, part: ExternalPart) -> None:
    assert open_attachment(part, sealed.plaintext_hash, sealed.ciphertext) == PLAINTEXT


def test_the_part_says_what_the_draft_wants(sealed: SealedAttachment, part: ExternalPart) -> None:
    assert (part.enc_alg, part.hash_alg, part.aad, part.size) == (1, 1, b"", len(PLAINTEXT))
    assert part.content_hash == hashlib.sha256(sealed.ciphertext).digest()


def test_each_attachment_has_a_key_of_its_own(seeded_random: Random) -> None:
    one, two = seal_attachment(PLAINTEXT, seeded_random), seal_attachment(PLAINTEXT, seeded_random)
    assert one.key != two.key
    assert one.ciphertext != two.ciphertext


@pytest.mark.parametrize(
    ("size", "padded"), [(1, 1), (2, 2), (9, 10), (100, 104), (256, 256), (1000, 1024), (8 << 20, 8 << 20)]
)
def test_padding_goes_to_the_padme_length(size: int, padded: int) -> None:
    assert padded_size_bytes(size) == padded


@given(size=st.integers(1, 1 << 23))
def test_padding_costs_at_most_twelve_percent_and_keeps_the_order(size: int) -> None:
    assert size <= padded_size_bytes(size) <= size * 1.12
    assert padded_size_bytes(size) <= padded_size_bytes(size + 1)


def test_sizes_that_are_close_look_the_same(seeded_random: Random) -> None:
    stored = {len(seal_attachment(bytes(size), seeded_random).ciphertext) for size in range(993, 1024)}
    assert len(stored) == 1


@pytest.mark.bad_input(93)
@pytest.mark.parametrize("size", [0, MAX_PLAINTEXT_SIZE_BYTES + 1])
def test_an_attachment_of_no_bytes_or_too_many_is_not_sealed(size: int, seeded_random: Random) -> None:
    with pytest.raises(ValidationError):
        seal_attachment(bytes(size), seeded_random)


@pytest.mark.bad_input(94)
def test_stored_bytes_that_changed_are_refused_before_they_are_opened(
    sealed: SealedAttachment, part: ExternalPart
) -> None:
    changed = bytes([sealed.ciphertext[0] ^ 1]) + sealed.ciphertext[1:]
    with pytest.raises(VerificationError, match="not those of the message"):
        open_attachment(part, sealed.plaintext_hash, changed)


@pytest.mark.parametrize("length", [0, 16, 100])
def test_stored_bytes_of_another_size_are_refused(sealed: SealedAttachment, part: ExternalPart, length: int) -> None:
    with pytest.raises(VerificationError, match="another size"):
        open_attachment(part, sealed.plaintext_hash, sealed.ciphertext[:length])


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"enc_alg": 2}, UnsupportedError),
        ({"enc_alg": 0}, UnsupportedError),
        ({"enc_alg": 0x8001}, UnsupportedError),
        ({"hash_alg": 2}, UnsupportedError),
        ({"key": bytes(15)}, ValidationError),
        ({"nonce": bytes(11)}, ValidationError),
        ({"aad": b"x"}, ValidationError),
        ({"content_hash": bytes(31)}, ValidationError),
        ({"size": 0}, ValidationError),
        ({"size": MAX_PLAINTEXT_SIZE_BYTES + 1}, ValidationError),
        ({"size": 2**64 - 1}, ValidationError),
        ({"key": bytes(16)}, VerificationError),
        ({"nonce": bytes(12)}, VerificationError),
        ({"content_hash": bytes(32)}, VerificationError),
        ({"size": len(PLAINTEXT) - 1}, VerificationError),
        ({"size": len(PLAINTEXT) + 1}, VerificationError),
        ({"size": 1}, VerificationError),
    ],
    ids=range(17),
)
def test_a_part_that_lies_about_any_field_does_not_open(
    sealed: SealedAttachment, part: ExternalPart, changes, error: type[MLSError]
) -> None:
    with pytest.raises(error):
        open_attachment(replace(part, **changes), sealed.plaintext_hash, sealed.ciphertext)


def test_padding_that_hides_something_is_refused(seeded_random: Random) -> None:
    key, nonce = seeded_random(16), seeded_random(12)
    ciphertext = AESGCM(key).encrypt(nonce, b"shown" * 20 + b"hide", b"")
    part = ExternalPart(
        content_type="text/plain",
        url="https://x",
        size=100,
        enc_alg=1,
        key=key,
        nonce=nonce,
        hash_alg=1,
        content_hash=hashlib.sha256(ciphertext).digest(),
    )
    with pytest.raises(VerificationError, match="padding"):
        open_attachment(part, hashlib.sha256(b"shown" * 20).digest(), ciphertext)


def test_a_salamander_opens_only_to_the_plaintext_that_the_message_committed_to(seeded_random: Random) -> None:
    key1, key2, nonce = seeded_random(16), seeded_random(16), seeded_random(12)
    ciphertext = make_salamander(key1, key2, nonce, b"harmless picture" * 3)
    first, second = (AESGCM(key).decrypt(nonce, ciphertext, b"") for key in (key1, key2))
    assert first.startswith(b"harmless picture")
    assert first != second
    shown = ExternalPart(
        content_type="image/webp",
        url="https://x",
        size=64,
        enc_alg=1,
        key=key1,
        nonce=nonce,
        hash_alg=1,
        content_hash=hashlib.sha256(ciphertext).digest(),
    )
    committed = hashlib.sha256(first).digest()
    assert open_attachment(shown, committed, ciphertext) == first
    with pytest.raises(VerificationError, match="other than the message committed to"):
        open_attachment(replace(shown, key=key2), committed, ciphertext)


def test_printing_a_sealed_attachment_shows_no_key(sealed: SealedAttachment) -> None:
    assert repr(sealed.key) not in repr(sealed)
