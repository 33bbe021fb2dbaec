"""Path secrets sealed to many: a table says the same as the ciphertexts one by one, and nothing else is a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.mls.codec import Reader, Writer
from heliograph.mls.commit import UpdatePathNode
from heliograph.mls.errors import DecodeError, MLSError
from heliograph.mls.sealed_secrets import SealedSecrets, of_each_length, read_sealed_secrets
from heliograph.mls.suite import HPKECiphertext
from tests.mls.forge import flipped

LENGTHS = st.sampled_from([0, 1, 32, 48, 63, 64, 200, 1120])


def vector(ciphertexts: tuple[HPKECiphertext, ...]) -> bytes:
    writer = Writer()
    writer.vector(ciphertexts)
    return writer.getvalue()


def read(data: bytes) -> object:
    reader = Reader(data)
    found = read_sealed_secrets(reader)
    reader.finish()
    return found


def one_by_one(data: bytes) -> tuple[HPKECiphertext, ...]:
    reader = Reader(data)
    found = reader.vector(HPKECiphertext.read)
    reader.finish()
    return found


@given(LENGTHS, LENGTHS, st.integers(0, 6), st.data())
def test_ciphertexts_of_equal_lengths_read_as_they_were_written(
    first: int, second: int, count: int, data: st.DataObject
):
    kem_output, ciphertext = st.binary(min_size=first, max_size=first), st.binary(min_size=second, max_size=second)
    written = tuple(HPKECiphertext(data.draw(kem_output), data.draw(ciphertext)) for _ in range(count))
    found = read(vector(written))
    assert found == written
    assert hash(found) == hash(written)
    assert isinstance(found, SealedSecrets) == (count > 1)
    assert UpdatePathNode.decode(UpdatePathNode(b"key", written).encode()).encrypted_path_secret == written


@given(st.lists(st.builds(HPKECiphertext, st.binary(max_size=3), st.binary(max_size=3)), max_size=5).map(tuple))
def test_ciphertexts_of_any_lengths_read_as_they_were_written(written: tuple[HPKECiphertext, ...]):
    assert read(vector(written)) == written


@given(st.integers(2, 5), st.integers(0, 10_000), st.integers(1, 255))
def test_a_spoiled_table_is_read_or_refused_like_a_vector_of_single_ciphertexts(count: int, place: int, bits: int):
    genuine = vector((HPKECiphertext(bytes(32), bytes(48)),) * count)
    spoiled = bytearray(genuine)
    spoiled[place % len(genuine)] ^= bits
    try:
        expected = one_by_one(bytes(spoiled))
    except MLSError:
        with pytest.raises(DecodeError):
            read(bytes(spoiled))
    else:
        assert read(bytes(spoiled)) == expected


def test_a_row_of_another_length_is_seen_among_all_lengths():
    odd = (HPKECiphertext(bytes(32), bytes(48)),) * 3 + (HPKECiphertext(bytes(31), bytes(49)),)
    found = read_sealed_secrets(Reader(vector(odd)))
    assert of_each_length(found) == odd


def test_rows_are_taken_out_like_those_of_a_tuple():
    rows = tuple(HPKECiphertext(bytes((i,)) * 32, bytes(48)) for i in range(5))
    table = read_sealed_secrets(Reader(vector(rows)))
    assert (table[0], table[-1], table[1:3], table[::-2]) == (rows[0], rows[-1], rows[1:3], rows[::-2])
    assert (list(table), len(table), repr(table)) == (list(rows), 5, repr(rows))
    assert table == read_sealed_secrets(Reader(vector(rows)))
    assert table != read_sealed_secrets(Reader(flipped(vector(rows))))
    with pytest.raises(IndexError):
        table[5]
