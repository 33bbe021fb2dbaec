import pytest

from heliograph.content.framing import (
    MAX_APPLICATION_DATA_SIZE_BYTES,
    decode_application_data,
    encode_application_data,
)
from heliograph.mls.codec import Writer
from heliograph.mls.errors import DecodeError, MLSError, UnsupportedError, ValidationError
from tests.content.test_message import HELLO

FRAMED = encode_application_data(HELLO)


def framed(media_type: bytes, parameters: bytes = b"") -> bytes:
    writer = Writer()
    writer.opaque(media_type)
    writer.opaque(parameters)
    writer.opaque(HELLO.encode())
    return writer.getvalue()


@pytest.mark.rule("draft-ietf-mls-extensions-10 §6.2.4")
def test_a_message_is_framed_by_an_empty_media_type_and_its_length() -> None:
    assert b"\x00\x00\x40" + bytes([len(HELLO.encode())]) + HELLO.encode() == FRAMED
    assert decode_application_data(FRAMED) == HELLO


def test_the_media_type_may_be_written_out() -> None:
    assert decode_application_data(framed(b"application/mimi-content")) == HELLO


@pytest.mark.parametrize(
    ("media_type", "parameters"), [(b"text/plain", b""), (b"application/mimi-content", b"\x01a\x01b"), (b"\xff", b"")]
)
def test_another_media_type_is_not_spoken_here(media_type: bytes, parameters: bytes) -> None:
    with pytest.raises(UnsupportedError):
        decode_application_data(framed(media_type, parameters))


@pytest.mark.bad_input(62)
def test_every_truncation_is_refused() -> None:
    for length in range(len(FRAMED)):
        with pytest.raises(MLSError):
            decode_application_data(FRAMED[:length])


@pytest.mark.bad_input(65)
@pytest.mark.parametrize("data", [b"\x40\x00\x00\x00", b"\xc0", b"\x00\x00\xbf\xff\xff\xff", FRAMED + b"\x00", b""])
def test_lengths_that_are_wrong_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_application_data(data)


@pytest.mark.bad_input(59)
def test_application_data_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValidationError):
        decode_application_data(bytes(MAX_APPLICATION_DATA_SIZE_BYTES + 1))
