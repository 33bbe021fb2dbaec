import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.content import cbor
from heliograph.content.status import MessageStatus, decode_statuses, encode_statuses
from heliograph.mls.errors import DecodeError, MLSError, ValidationError

IDS = st.binary(min_size=32, max_size=32)
ONE = bytes(range(32))


@given(statuses=st.dictionaries(IDS, st.sampled_from(MessageStatus), min_size=1, max_size=10))
def test_a_receipt_is_read_as_it_was_written(statuses: dict[bytes, MessageStatus]) -> None:
    assert decode_statuses(encode_statuses(statuses)) == statuses


@pytest.mark.rule("draft-mahy-mimi-message-status-01")
def test_a_receipt_is_an_array_of_pairs() -> None:
    assert encode_statuses({ONE: MessageStatus.READ}) == b"\x81\x82\x58\x20" + ONE + b"\x02"


def test_a_status_that_is_unknown_here_is_left_out() -> None:
    assert decode_statuses(cbor.encode(((ONE, 99), (bytes(32), 1)))) == {bytes(32): MessageStatus.DELIVERED}


@pytest.mark.parametrize(
    "value",
    [0, {}, (0,), ((ONE,),), ((ONE, 1, 1),), ((ONE[:31], 1),), (("id", 1),), ((ONE, True),), ((ONE, 256),),
     ((ONE, -1),), ((ONE, 1), (ONE, 2)), ((ONE, (((),),)),)],
    ids=range(12),
)  # fmt: skip
@pytest.mark.bad_input(45)
def test_what_is_no_receipt_is_refused(value: cbor.Value) -> None:
    with pytest.raises(DecodeError):
        decode_statuses(cbor.encode(value))


@pytest.mark.bad_input(59)
@pytest.mark.parametrize(("count", "allowed"), [(255, True), (256, True), (257, False), (0, False)])
def test_a_receipt_is_about_at_most_256_messages(count: int, allowed: bool) -> None:
    statuses = {number.to_bytes(32): MessageStatus.READ for number in range(count)}
    if allowed:
        assert len(decode_statuses(encode_statuses(statuses))) == count
    else:
        with pytest.raises(ValidationError):
            encode_statuses(statuses)


def test_a_receipt_about_too_many_messages_is_not_read() -> None:
    with pytest.raises(MLSError, match="256"):
        decode_statuses(cbor.encode(tuple((number.to_bytes(32), 1) for number in range(257))))
