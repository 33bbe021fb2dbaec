import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.content import cbor
from heliograph.content.cbor import Tag, Value
from heliograph.mls.errors import DecodeError

SCALARS = (
    st.integers(-(1 << 64), (1 << 64) - 1) | st.binary(max_size=40) | st.text(max_size=40) | st.booleans() | st.none()
)
KEYS = st.integers(-cbor.MAX_KEY_INTEGER, cbor.MAX_KEY_INTEGER) | st.text(max_size=10) | st.binary(max_size=10)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
        | inner.map(lambda value: Tag(32, value))
    ),
    max_leaves=12,
)


@given(value=VALUES)
def test_a_value_comes_back_as_it_was(value: Value) -> None:
    assert cbor.decode(cbor.encode(value)) == value


@given(data=st.binary(max_size=24))
def test_whatever_is_accepted_is_the_one_encoding_of_its_value(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except DecodeError:
        return
    assert cbor.encode(value) == data


@pytest.mark.rule("RFC 8949 Appendix A")
@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (255, "18ff"),
        (256, "190100"),
        (1000000, "1a000f4240"),
        (1000000000000, "1b000000e8d4a51000"),
        (18446744073709551615, "1bffffffffffffffff"),
        (-1, "20"),
        (-1000, "3903e7"),
        (-18446744073709551616, "3bffffffffffffffff"),
        (False, "f4"),
        (True, "f5"),
        (None, "f6"),
        (b"\x01\x02\x03\x04", "4401020304"),
        ("\u00fc", "62c3bc"),
        ((1, (2, 3), (4, 5)), "8301820203820405"),
        ({"a": 1, "b": (2, 3)}, "a26161016162820203"),
        (Tag(32, "http://www.example.com"), "d82076687474703a2f2f7777772e6578616d706c652e636f6d"),
    ],
    ids=repr,
)
def test_the_examples_of_the_standard_encode_as_it_shows(value: Value, encoded: str) -> None:
    assert cbor.encode(value).hex() == encoded
    assert cbor.decode(bytes.fromhex(encoded)) == value


@pytest.mark.rule("RFC 8949 §4.2.1")
def test_map_keys_are_sorted_by_their_bytes_and_not_by_their_length() -> None:
    # The example of §4.2.1; the older length-first order would put -1 before 100.
    mixed: Value = {"aa": 0, "z": 0, 100: 0, -1: 0, 10: 0, b"": 0}
    assert cbor.encode(mixed).hex() == "a60a001864002000400061" + "7a0062616100"


@pytest.mark.rule("draft-ietf-mimi-content-08 §6.1")
@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "ends early"),
        ("1817", "shortest"),
        ("190018", "shortest"),
        ("1a00000001", "shortest"),
        ("1b00000000ffffffff", "shortest"),
        ("3800", "shortest"),
        ("5801ff", "shortest"),
        ("780161", "shortest"),
        ("980100", "shortest"),
        ("b8010000", "shortest"),
        ("d9002000", "shortest"),
        ("5f4101ff", "indefinite"),
        ("7f6161ff", "indefinite"),
        ("9f00ff", "indefinite"),
        ("bf0000ff", "indefinite"),
        ("ff", "indefinite"),
        ("1c", "reserved"),
        ("a202000100", "out of order"),
        ("a201000100", "out of order"),
        ("a21864000a00", "out of order"),
        ("a1f500", "map key"),
        ("a1f600", "map key"),
        ("a1800000", "map key"),
        ("a11b002000000000000000", "2\\^53"),
        ("a13b001fffffffffffff00", "2\\^53"),
        ("f93c00", "floating"),
        ("fa3fc00000", "floating"),
        ("fb3ff8000000000000", "floating"),
        ("f820", "unassigned"),
        ("f7", "unassigned"),
        ("e0", "unassigned"),
        ("c074", "tag"),
        ("c24101", "tag"),
        ("d903e900", "tag"),
        ("61ff", "UTF-8"),
        ("63eda080", "UTF-8"),
        ("62c080", "UTF-8"),
        ("0000", "after the end"),
        ("4401", "ends early"),
        ("8201", "ends early"),
        ("a101", "ends early"),
        ("9bffffffffffffffff", "ends early"),
        ("5bffffffffffffffff", "ends early"),
        ("bb7fffffffffffffff", "ends early"),
    ],
)
def test_every_other_encoding_is_refused(data: str, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        cbor.decode(bytes.fromhex(data))


@pytest.mark.bad_input(67)
@pytest.mark.parametrize("opening", [b"\x81", b"\xa1\x00", b"\xd8\x20"])
def test_nesting_is_bounded_whatever_nests(opening: bytes) -> None:
    with pytest.raises(DecodeError, match="too deep"):
        cbor.decode(opening * 10_000 + b"\x00")


def test_the_depth_that_is_allowed_is_allowed() -> None:
    assert cbor.decode(b"\x81" * 3 + b"\x00", max_depth=3) == (((0,),),)
    with pytest.raises(DecodeError, match="too deep"):
        cbor.decode(b"\x81" * 4 + b"\x00", max_depth=3)


@pytest.mark.bad_input(62)
def test_every_truncation_of_a_value_is_refused() -> None:
    data = cbor.encode({1: "text", 2: (b"bytes", -5000, None), "x": Tag(32, "mimi://a")})
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            cbor.decode(data[:length])


@pytest.mark.parametrize(
    "value", [1 << 64, -(1 << 64) - 1, {True: 0}, {1 << 53: 0}, Tag(1, 0), "\ud800", Tag(32, "\ud800")], ids=repr
)
def test_what_the_subset_does_not_have_is_not_encoded(value: Value) -> None:
    with pytest.raises(ValueError):
        cbor.encode(value)


def test_a_value_nested_too_deep_is_not_encoded() -> None:
    value: Value = 0
    for _ in range(cbor.MAX_DEPTH + 1):
        value = (value,)
    with pytest.raises(ValueError, match="too deep"):
        cbor.encode(value)
