import pytest

from heliograph.mls.errors import DecodeError
from heliograph.mls.safe_aad import SafeAAD, SafeAADItem

TWO = SafeAAD((SafeAADItem(1, b"one"), SafeAADItem(0x0020, b"two")))


@pytest.mark.rule("draft-ietf-mls-extensions-10 §4.9")
def test_items_come_back_as_they_were() -> None:
    assert TWO.encode() == b"\x0c\x00\x01\x03one\x00\x20\x03two"
    assert SafeAAD.decode(TWO.encode()) == TWO
    assert SafeAAD.decode(b"\x00") == SafeAAD(())


def test_an_item_is_found_by_its_component() -> None:
    assert TWO.find(0x0020) == b"two"
    assert TWO.find(2) is None


@pytest.mark.rule("draft-ietf-mls-extensions-10 §4.9")
@pytest.mark.parametrize("items", [(2, 1), (1, 1), (1, 3, 2)])
def test_items_out_of_order_or_twice_are_refused(items: tuple[int, ...]) -> None:
    encoded = b"".join(SafeAADItem(number, b"").encode() for number in items)
    with pytest.raises(DecodeError, match="sorted"):
        SafeAAD.decode(bytes([len(encoded)]) + encoded)
    with pytest.raises(ValueError, match="sorted"):
        SafeAAD(tuple(SafeAADItem(number, b"") for number in items)).encode()


@pytest.mark.bad_input(62)
def test_every_truncation_is_refused() -> None:
    for length in range(len(TWO.encode())):
        with pytest.raises(DecodeError):
            SafeAAD.decode(TWO.encode()[:length])
