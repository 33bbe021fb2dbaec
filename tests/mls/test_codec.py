"""The TLS presentation language: what is read back is what was written, and nothing else is read at all."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.mls.codec import MAX_DEPTH, MAX_VARINT, Reader, Writer
from heliograph.mls.errors import DecodeError
from heliograph.mls.extension import Extension
from heliograph.mls.framing import ContentType
from tests import vectors


def written(write: Callable[[Writer], None]) -> bytes:
    writer = Writer()
    write(writer)
    return writer.getvalue()


@pytest.mark.rule("RFC 9420 §2.1.2")
def test_official_length_headers_are_read_and_written():
    for case in vectors.cases("mls/deserialization.json"):
        header = bytes.fromhex(case["vlbytes_header"])
        assert Reader(header).varint() == case["length"]
        assert written(lambda writer, length=case["length"]: writer.varint(length)) == header


@given(st.integers(0, MAX_VARINT))
def test_every_length_has_one_header(length: int):
    header = written(lambda writer: writer.varint(length))
    reader = Reader(header)
    assert reader.varint() == length
    reader.finish()


@pytest.mark.bad_input(65)
@pytest.mark.rule("RFC 9420 §2.1.2")
@pytest.mark.parametrize("header", ["4000", "403f", "80000000", "80003fff", "8000003f"])
@pytest.mark.rule("hostile input", "non-minimal-varint")
def test_a_length_header_that_is_longer_than_need_be_is_refused(header: str):
    with pytest.raises(DecodeError, match="not minimal"):
        Reader(bytes.fromhex(header)).varint()


@pytest.mark.rule("RFC 9420 §2.1.2")
@pytest.mark.parametrize("header", ["c0", "ff", "c000000000000000"])
def test_a_length_header_with_the_reserved_prefix_is_refused(header: str):
    with pytest.raises(DecodeError, match="reserved"):
        Reader(bytes.fromhex(header)).varint()


@pytest.mark.parametrize("header", ["", "40", "80", "800000"])
def test_a_length_header_that_is_cut_off_is_refused(header: str):
    with pytest.raises(DecodeError, match="ends early"):
        Reader(bytes.fromhex(header)).varint()


def test_a_length_beyond_the_format_cannot_be_written():
    with pytest.raises(ValueError, match="2\\^30"):
        Writer().varint(MAX_VARINT + 1)


@pytest.mark.parametrize("claim", ["bfffffff", "80100000", "7fff"])
def test_a_claimed_length_that_is_not_there_is_refused_before_anything_is_made_of_it(claim: str):
    data = bytes.fromhex(claim) + b"short"
    with pytest.raises(DecodeError):
        Reader(data).opaque()
    with pytest.raises(DecodeError, match="longer than its input"):
        Reader(data).vector(Reader.uint8)


@given(st.lists(st.binary(max_size=100), max_size=20))
def test_a_vector_of_opaques_round_trips(values: list[bytes]):
    extensions = [Extension(i, value) for i, value in enumerate(values)]
    data = written(lambda writer: writer.vector(extensions))
    reader = Reader(data)
    assert list(reader.vector(Extension.read)) == extensions
    reader.finish()


@given(st.lists(st.integers(0, 65535)), st.lists(st.integers(0, 2**32 - 1)))
def test_vectors_of_numbers_round_trip(short: list[int], long: list[int]):
    def write(writer: Writer) -> None:
        writer.uint16_vector(short)
        writer.uint32_vector(long)

    reader = Reader(written(write))
    assert list(reader.uint16_vector()) == short
    assert list(reader.uint32_vector()) == long


def test_a_vector_of_numbers_with_a_part_of_one_is_refused():
    with pytest.raises(DecodeError, match="odd"):
        Reader(b"\x03abc").uint16_vector()
    with pytest.raises(DecodeError, match="multiple of 4"):
        Reader(b"\x06abcdef").uint32_vector()


def test_an_item_cannot_reach_beyond_its_vector():
    with pytest.raises(DecodeError, match="ends early"):
        Reader(b"\x03\x01\x02\x03\x04").vector(Reader.uint16)


def test_an_item_that_consumes_nothing_cannot_loop_for_ever():
    with pytest.raises(DecodeError, match="consumes nothing"):
        Reader(b"\x03abc").vector(lambda _: None)


@pytest.mark.rule("RFC 9420 §2.1.1")
def test_a_presence_byte_is_zero_or_one():
    assert Reader(b"\x00").optional(Reader.uint8) is None
    assert Reader(b"\x01\x07").optional(Reader.uint8) == 7
    with pytest.raises(DecodeError, match="presence"):
        Reader(b"\x02\x07").optional(Reader.uint8)


def test_a_number_that_no_enum_member_has_is_refused():
    assert Reader(b"\x02").enum8(ContentType) is ContentType.PROPOSAL
    for bad in (b"\x00", b"\x04", b"\xff"):
        with pytest.raises(DecodeError, match="ContentType"):
            Reader(bad).enum8(ContentType)


@pytest.mark.rule("hostile input", "trailing-bytes")
def test_trailing_bytes_are_refused():
    with pytest.raises(DecodeError, match="trailing"):
        Extension.decode(Extension(1, b"x").encode() + b"\0")


def nested(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        layer = Writer()
        layer.opaque(data)
        data = layer.getvalue()
    return data


def read_nested(reader: Reader) -> object:
    return reader.vector(read_nested)


@pytest.mark.bad_input(67)
@pytest.mark.rule("hostile input", "nested-depth")
def test_ten_thousand_nested_vectors_are_refused_without_exhausting_the_stack():
    assert read_nested(Reader(nested(MAX_DEPTH - 1))) is not None
    with pytest.raises(DecodeError, match="nested too deeply"):
        read_nested(Reader(nested(10_000)))
