"""JSON and MessagePack: one struct, two encodings, and every unclear body refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.wire.encoding import base64url_bytes, base64url_text, decode_json, encode_json
from heliograph.wire.ids import room_id
from heliograph.wire.moderation import Measure
from heliograph.wire.problems import Problem
from heliograph.wire.rooms import ReadTopic, SubmitMessage

MESSAGE = SubmitMessage(room_id(bytes(16)), bytes(16), 3, b"\xff\xfe?")


def refused(body: bytes, kind: type = SubmitMessage) -> str:
    with pytest.raises(Problem) as caught:
        decode_json(body, kind)
    assert caught.value.slug == "malformed"
    return caught.value.body.detail


def test_bytes_travel_in_json_as_base64url_without_padding() -> None:
    assert b'"ciphertext":"__4_"' in encode_json(MESSAGE)


def test_a_struct_comes_back_from_json_as_it_went() -> None:
    assert decode_json(encode_json(MESSAGE), SubmitMessage) == MESSAGE


@given(st.binary(max_size=64))
def test_base64url_gives_back_every_byte_string(data: bytes) -> None:
    assert base64url_bytes(base64url_text(data)) == data


@pytest.mark.parametrize("text", ["_w=", "/w", "_x", "a", "é"])
def test_base64url_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="base64url"):
        base64url_bytes(text)


@pytest.mark.bad_input(46)
def test_an_unknown_field_is_refused_by_name() -> None:
    assert "colour" in refused(encode_json(MESSAGE)[:-1] + b',"colour":"red"}')


@pytest.mark.bad_input(47)
def test_a_field_that_only_the_server_sets_cannot_be_assigned() -> None:
    assert "role" in refused(encode_json(MESSAGE)[:-1] + b',"role":"admin"}')


@pytest.mark.bad_input(45)
@pytest.mark.parametrize("body", [b"[]", b'"text"', b"7", b'{"room":{"$ne":""}}'])
def test_a_value_of_another_kind_than_is_due_is_refused(body: bytes) -> None:
    refused(body)


@pytest.mark.bad_input(39)
@pytest.mark.parametrize("depth", [100, 900, 100_000])
def test_a_body_nested_too_deep_is_refused(depth: int) -> None:
    refused(b"[" * depth + b"]" * depth)


@pytest.mark.bad_input(43)
@pytest.mark.parametrize("number", [b"NaN", b"1e999", b"9" * 5000, b"18446744073709551616", b"-1", b"9007199254740993"])
def test_a_number_that_is_no_epoch_is_refused(number: bytes) -> None:
    refused(encode_json(MESSAGE).replace(b'"epoch":3', b'"epoch":' + number))


@pytest.mark.bad_input(44)
@pytest.mark.parametrize("body", [b"\xef\xbb\xbf{}", "{}".encode("utf-16"), "{}".encode("utf-32")])
def test_a_body_in_another_encoding_is_refused(body: bytes) -> None:
    refused(body)


@pytest.mark.bad_input(48)
@pytest.mark.parametrize("limit", [-1, 0, 10**9])
def test_a_page_size_outside_its_bounds_is_refused(limit: int) -> None:
    refused(b'{"topic":"' + room_id(bytes(16)).encode() + b'","limit":%d}' % limit, ReadTopic)


def test_a_field_of_the_path_may_not_stand_in_the_body_again() -> None:
    with pytest.raises(Problem, match="path"):
        decode_json(encode_json(MESSAGE), SubmitMessage, {"room": MESSAGE.room})


def test_lists_of_texts_stay_lists_of_texts() -> None:
    assert decode_json(b'{"kind":"block-channel","territory":["DE"]}', Measure).territory == ("DE",)
