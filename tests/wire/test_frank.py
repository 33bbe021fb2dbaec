from dataclasses import replace
from itertools import permutations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.mls.errors import DecodeError, UnsupportedError
from heliograph.mls.suite import cipher_suite
from heliograph.wire import frank
from heliograph.wire.frank import Frank, FrankError
from tests.content.hub import ALICE, BOB, NOW_MS, OTHER_ROOM, ROOM, Acceptance, Hub

HUB = Hub()
TAGS = [bytes([number]) * 32 for number in range(1, 40)]
ONE = Acceptance(TAGS[0])


def batch(count: int) -> tuple[list[Acceptance], list[Frank]]:
    accepted = [Acceptance(TAGS[number], room_seq=number) for number in range(count)]
    return accepted, HUB.franks(*accepted)


def test_the_context_is_the_hub_s_knowledge_in_tls_form() -> None:
    context = frank.context_bytes("mimi://a", "mimi://b", 1, 2, 3, b"k")
    assert context == b"\x08mimi://a\x08mimi://b" + b"".join(n.to_bytes(8) for n in (1, 2, 3)) + b"\x01k"


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 13, 31])
def test_every_message_of_a_batch_verifies_by_the_public_key_alone(count: int) -> None:
    accepted, franks = batch(count)
    for one, stamp in zip(accepted, franks, strict=True):
        frank.verify_frank(HUB.public_key, one.tag, HUB.context(one), stamp)
        frank.verify_mac(HUB.hub_key, one.tag, HUB.context(one), stamp.mac)


def test_a_batch_has_one_signature() -> None:
    assert len({stamp.signature for stamp in batch(31)[1]}) == 1


def test_an_empty_batch_has_no_franks() -> None:
    assert HUB.franks() == []


def test_the_signature_is_over_root_suite_and_kid_under_its_label() -> None:
    stamp = HUB.franks(ONE)[0]
    leaf = b"\x00" + ONE.tag + stamp.mac + HUB.context(ONE)
    signed = cipher_suite(1).hash(leaf) + b"\x00\x01" + HUB.kid
    cipher_suite(1).verify_with_label(HUB.public_key, "ReportableFrankTBS", signed, stamp.signature)


@pytest.mark.parametrize(
    "change",
    [
        {"tag": TAGS[5]},
        {"sender_uri": BOB},
        {"room_uri": OTHER_ROOM},
        {"accepted_at_ms": NOW_MS + 1},
        {"room_seq": 8},
        {"epoch": 4},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_tag_sender_room_time_number_or_epoch_fails(change) -> None:
    stamp, changed = HUB.franks(ONE)[0], replace(ONE, **change)
    with pytest.raises(FrankError):
        frank.verify_frank(HUB.public_key, changed.tag, HUB.context(changed), stamp)
    with pytest.raises(FrankError):
        frank.verify_mac(HUB.hub_key, changed.tag, HUB.context(changed), stamp.mac)


@pytest.mark.parametrize(
    "change",
    [
        {"mac": bytes(32)},
        {"kid": b"2026-08"},
        {"signature": bytes(64)},
        {"signature": b""},
        {"leaf_index": 1},
        {"leaf_index": 4},
        {"leaf_count": 4},
        {"leaf_count": 1},
        {"path": ()},
        {"path": (bytes(32),) * 3},
        {"path": (bytes(32),) * 16},
    ],
    ids=range(11),
)
def test_a_changed_frank_fails(change) -> None:
    accepted, franks = batch(5)
    changed = msgspec.structs.replace(franks[0], **change)
    with pytest.raises(FrankError):
        frank.verify_frank(HUB.public_key, accepted[0].tag, HUB.context(accepted[0]), changed)


def test_franks_swapped_between_two_messages_of_one_sender_fail() -> None:
    accepted, franks = batch(4)
    for one, two in permutations(range(4), 2):
        with pytest.raises(FrankError):
            frank.verify_frank(HUB.public_key, accepted[one].tag, HUB.context(accepted[one]), franks[two])


def test_a_time_and_frank_swapped_together_between_two_messages_fail() -> None:
    # The attack on the draft: a relay swaps the pairs (time, frank) of two messages; the draft's signature covers
    # both but not the tag, so the receiver accepts, and the hub later denies the report.
    early, late = Acceptance(TAGS[0], room_seq=1), Acceptance(TAGS[1], room_seq=2, accepted_at_ms=NOW_MS + 60_000)
    stamp_of_late = HUB.franks(early, late)[1]
    with pytest.raises(FrankError):
        frank.verify_frank(HUB.public_key, early.tag, HUB.context(late), stamp_of_late)


def test_an_inner_node_of_a_batch_cannot_be_passed_off_as_a_message() -> None:
    _, franks = batch(4)
    sibling_leaf, uncle = franks[0].path
    forged = msgspec.structs.replace(franks[0], leaf_count=2, path=(uncle,), mac=sibling_leaf)
    with pytest.raises(FrankError):
        frank.verify_frank(HUB.public_key, sibling_leaf, b"", forged)


def test_another_hub_s_key_does_not_verify() -> None:
    stranger = Hub(signature_private_key=b"x" * 32)
    with pytest.raises(FrankError):
        frank.verify_frank(stranger.public_key, ONE.tag, HUB.context(ONE), HUB.franks(ONE)[0])


def test_a_suite_that_is_unknown_here_can_neither_be_proved_nor_refuted() -> None:
    stamp = msgspec.structs.replace(HUB.franks(ONE)[0], suite=0xF04F)
    with pytest.raises(UnsupportedError):
        frank.verify_frank(HUB.public_key, ONE.tag, HUB.context(ONE), stamp)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_tag_has_thirty_two_bytes(size: int) -> None:
    stamp = HUB.franks(ONE)[0]
    with pytest.raises(FrankError, match="32 bytes"):
        frank.verify_frank(HUB.public_key, bytes(size), HUB.context(ONE), stamp)
    with pytest.raises(FrankError, match="32 bytes"):
        frank.verify_mac(HUB.hub_key, bytes(size), HUB.context(ONE), stamp.mac)
    with pytest.raises(ValueError, match="32 bytes"):
        HUB.franks(Acceptance(bytes(size)))


@pytest.mark.parametrize(("hub_key", "kid"), [(bytes(31), b"k"), (bytes(32), b""), (bytes(32), bytes(33))])
def test_keys_of_a_wrong_size_stamp_nothing(hub_key: bytes, kid: bytes) -> None:
    with pytest.raises(ValueError, match="32"):
        frank.stamp_batch(hub_key, b"s" * 32, kid, [(TAGS[0], b"")])


@given(count=st.integers(1, 24), index=st.integers(0, 23))
def test_a_frank_is_kept_and_read_again(count: int, index: int) -> None:
    stamp = batch(count)[1][index % count]
    assert frank.decode_frank(frank.encode_frank(stamp)) == stamp


def frank_bytes(**changes: object) -> bytes:
    """A sound frank's encoding with fields changed, added or (given ...) left out."""
    members = {**msgspec.to_builtins(HUB.franks(ONE)[0], builtin_types=(bytes,)), **changes}
    return msgspec.msgpack.encode({name: value for name, value in members.items() if value is not ...})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc0",
        frank_bytes() + b"\xc0",
        frank_bytes()[:-1],
        frank_bytes(mac=bytes(31)),
        frank_bytes(mac="text"),
        frank_bytes(mac=...),
        frank_bytes(more=1),
        frank_bytes(suite=-1),
        frank_bytes(suite=1 << 16),
        frank_bytes(kid=b""),
        frank_bytes(kid=bytes(33)),
        frank_bytes(signature=bytes(129)),
        frank_bytes(leaf_index=-1),
        frank_bytes(leaf_index=1 << 16),
        frank_bytes(leaf_count=0),
        frank_bytes(leaf_count=(1 << 16) + 1),
        frank_bytes(path=[bytes(31)]),
        frank_bytes(path=[bytes(32)] * 17),
        frank_bytes(path=...),
        frank_bytes(mac=..., suite=...),
        frank_bytes().replace(b"\xa5suite\x01", b"\xa5suite\xcc\x01"),
        frank_bytes().replace(b"\xa5suite", b"\xa5suit\xff"),
        b"\x91" * 10_000 + b"\xc0",
    ],
    ids=range(24),
)
@pytest.mark.bad_input(118)
def test_what_is_no_frank_in_its_one_encoding_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        frank.decode_frank(data)


@pytest.mark.rule("draft-ietf-mls-extensions-10 §4.9")
def test_the_tag_travels_as_the_safe_aad_item_of_its_component() -> None:
    authenticated_data = frank.frank_aad(TAGS[0])
    assert authenticated_data == b"\x23\x00\x20\x20" + TAGS[0]
    assert frank.tag_in(authenticated_data) == TAGS[0]


@pytest.mark.parametrize(
    "authenticated_data",
    [
        b"",
        b"\x00",
        b"\x22\x00\x20\x1f" + bytes(31),
        b"\x23\x00\x21\x20" + bytes(32),
        b"\x23\x00\x20\x20" + bytes(32) + b"\x00",
        b"\x40\x23\x00\x20\x20" + bytes(32),
        b"\x40\x46" + (b"\x00\x20\x20" + bytes(32)) * 2,
        b"\x26\x00\x21\x00" + b"\x00\x20\x20" + bytes(32),
        b"\x23\x00\x20\x20" + bytes(31),
        b"{}",
    ],
    ids=range(10),
)
@pytest.mark.bad_input(82)
def test_authenticated_data_without_a_sound_tag_is_refused(authenticated_data: bytes) -> None:
    with pytest.raises(DecodeError):
        frank.tag_in(authenticated_data)


def test_a_verifier_judges_an_envelope_as_it_travels() -> None:
    envelope = HUB.accept(ONE)[0]
    HUB.verifier()(ONE.tag, ALICE, ROOM, envelope)
    with pytest.raises(FrankError):
        HUB.verifier()(ONE.tag, BOB, ROOM, envelope)
    with pytest.raises(DecodeError):
        HUB.verifier()(ONE.tag, ALICE, ROOM, msgspec.structs.replace(envelope, frank=b"\xc0"))
