import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.content import cbor, message
from heliograph.content.message import (
    Cardinality,
    Disposition,
    Expiration,
    ExternalPart,
    MimiContent,
    MultiPart,
    NestedPart,
    NullPart,
    PartSemantics,
    SinglePart,
)
from heliograph.mls.errors import DecodeError, MLSError, ValidationError
from tests.vectors import load, paths

SENDER, ROOM = "mimi://chat.example/u/alice", "mimi://chat.example/r/1"
URIS: dict[int | str, cbor.Value] = {1: SENDER, 2: ROOM}
HELLO = MimiContent(salt=b"\x11" * 16, body=SinglePart("text/plain;charset=utf-8", b"hi"), extensions=URIS)
EXAMPLES = [path for path in paths("mimi-content") if path.endswith(".cbor") and "implied" not in path]


def value_of(content: MimiContent) -> list[cbor.Value]:
    value = cbor.decode(content.encode())
    assert isinstance(value, tuple)
    return list(value)


def with_field(index: int, item: cbor.Value) -> bytes:
    """HELLO with one of its seven fields set to anything, encoded."""
    value = value_of(HELLO)
    value[index] = item
    return cbor.encode(tuple(value))


def nested(depth: int) -> NestedPart:
    part: NestedPart = SinglePart("text/plain", b"leaf")
    for _ in range(depth - 1):
        part = MultiPart(PartSemantics.PROCESS_ALL, (part, NullPart()))
    return part


def documented_id(edn: bytes) -> str:
    halves = re.findall(r"#\s+(?:message ID = h')?\s*([0-9a-f]{32})'?", edn.decode())
    return "".join(halves[:2])


@pytest.mark.rule("draft-ietf-mimi-content-08 §5")
@pytest.mark.parametrize("path", EXAMPLES)
def test_an_example_of_the_draft_encodes_to_the_same_bytes_and_has_its_id(path: str) -> None:
    encoded, notes = load(path), load(path.replace(".cbor", ".edn"))
    content = MimiContent.decode(encoded)
    assert content.encode() == encoded
    assert content.message_id().hex() == documented_id(notes)


@pytest.mark.rule("draft-ietf-mimi-content-08 §4.6")
@pytest.mark.parametrize("path", [path for path in paths("mimi-content") if path.endswith("implied-original.cbor")])
def test_the_derived_values_of_the_draft_s_example_are_the_one_encoding(path: str) -> None:
    encoded = load(path)
    assert cbor.encode(cbor.decode(encoded)) == encoded


@pytest.mark.rule("draft-ietf-mimi-content-08 §3.3")
def test_the_vector_of_our_profile_has_its_bytes_and_id() -> None:
    profile_vector = bytes.fromhex(
        "8750" + "11" * 16 + "f640f6f6a201781b6d696d693a2f2f636861742e6578616d706c652f752f616c6963650278186d696d693a2f"
        "2f636861742e6578616d706c652f722f7231850160017818746578742f706c61696e3b636861727365743d7574662d38426869"
    )
    content = MimiContent.decode(profile_vector)
    assert content.encode() == profile_vector
    assert content.message_id().hex() == "012e28846687afb116bd6014479588386c51a36fd5073e7c33d08416ffbe971a"
    assert (content.sender_uri, content.room_uri) == (SENDER, "mimi://chat.example/r/r1")


TEXTS = st.text(max_size=12)
SINGLE = st.builds(SinglePart, TEXTS, st.binary(max_size=20), st.integers(0, 255), TEXTS)
EXTERNAL = st.builds(
    ExternalPart,
    content_type=TEXTS,
    url=TEXTS,
    expires=st.integers(0, 2**32 - 1),
    size=st.integers(0, 2**64 - 1),
    enc_alg=st.integers(0, 2**16 - 1),
    key=st.binary(max_size=16),
    nonce=st.binary(max_size=12),
    hash_alg=st.integers(0, 255),
    content_hash=st.binary(max_size=32),
    description=TEXTS,
    filename=TEXTS,
)
LEAVES = SINGLE | EXTERNAL | st.builds(NullPart, st.integers(0, 255), TEXTS)
BODIES = LEAVES | st.builds(
    MultiPart, st.sampled_from(PartSemantics), st.lists(LEAVES, min_size=2, max_size=3).map(tuple)
)
IDS = st.none() | st.binary(min_size=31, max_size=31).map(lambda rest: b"\x01" + rest)


@given(
    body=BODIES,
    replaces=IDS,
    in_reply_to=IDS,
    topic_id=st.binary(max_size=20),
    expires=st.none() | st.builds(Expiration, st.booleans(), st.integers(0, 2**32 - 1)),
    more=st.dictionaries(st.text(min_size=1, max_size=5) | st.integers(-9, -3), st.text(max_size=5), max_size=3),
)
def test_any_message_comes_back_as_it_was(body, replaces, in_reply_to, topic_id, expires, more) -> None:
    content = MimiContent(
        salt=bytes(16),
        body=body,
        extensions={**URIS, **more},
        replaces=replaces,
        topic_id=topic_id,
        expires=expires,
        in_reply_to=in_reply_to,
    )
    assert MimiContent.decode(content.encode()) == content


@pytest.mark.rule("draft-ietf-mimi-content-08 §4.4")
def test_parts_are_numbered_depth_first() -> None:
    a, b, c = (SinglePart("text/plain", name) for name in (b"a", b"b", b"c"))
    inner = MultiPart(PartSemantics.CHOOSE_ONE, (a, b))
    body = MultiPart(PartSemantics.PROCESS_ALL, (inner, c))
    assert list(replace(HELLO, body=body).parts()) == [body, inner, a, b, c]


@pytest.mark.rule("draft-ietf-mimi-content-08 §6.3")
def test_parts_may_be_nested_four_deep_and_no_deeper() -> None:
    assert MimiContent.decode(replace(HELLO, body=nested(4)).encode()).body == nested(4)
    with pytest.raises(ValidationError, match="more than 4 deep"):
        replace(HELLO, body=nested(5)).encode()


@pytest.mark.rule("draft-ietf-mimi-content-08 §9.1")
@pytest.mark.parametrize(("count", "allowed"), [(63, True), (64, False), (1000, False)])
def test_a_message_has_at_most_sixty_four_parts(count: int, allowed: bool) -> None:
    content = replace(HELLO, body=MultiPart(PartSemantics.PROCESS_ALL, (NullPart(),) * count))
    if allowed:
        assert MimiContent.decode(content.encode()) == content
    else:
        with pytest.raises(ValidationError, match="more than 64 parts"):
            content.encode()


@pytest.mark.bad_input(59)
@pytest.mark.parametrize(("size", "allowed"), [(4095, True), (4096, True), (4097, False)])
def test_a_topic_has_at_most_4096_bytes(size: int, allowed: bool) -> None:
    content = replace(HELLO, topic_id=bytes(size))
    if allowed:
        assert len(MimiContent.decode(content.encode()).topic_id) == size
    else:
        with pytest.raises(ValidationError, match="topicId"):
            content.encode()


@pytest.mark.rule("draft-ietf-mimi-content-08 §9.1")
@pytest.mark.parametrize(
    ("expires", "allowed"),
    [
        (None, True),
        (Expiration(relative=True, time=0), True),
        (Expiration(relative=True, time=365 * 86400), True),
        (Expiration(relative=True, time=365 * 86400 + 1), False),
        (Expiration(relative=False, time=1_790_000_000 + 365 * 86400), True),
        (Expiration(relative=False, time=1_790_000_000 + 365 * 86400 + 1), False),
        (Expiration(relative=False, time=1_790_000_000 - 365 * 86400), True),
        (Expiration(relative=False, time=1_790_000_000 - 365 * 86400 - 1), False),
        (Expiration(relative=False, time=0), False),
    ],
)
def test_a_message_expires_within_a_year(expires: Expiration | None, allowed: bool, now_s: int) -> None:
    content = replace(HELLO, expires=expires)
    if allowed:
        content.check_expiry(now_s)
    else:
        with pytest.raises(ValidationError, match="more than a year"):
            content.check_expiry(now_s)


def test_an_unknown_disposition_is_kept() -> None:
    assert MimiContent.decode(replace(HELLO, body=NullPart(200)).encode()).body.disposition == 200


@pytest.mark.rule("draft-ietf-mimi-content-08 §6.2")
@pytest.mark.parametrize(
    ("extensions", "why"),
    [
        ({1: SENDER}, "missing"),
        ({2: ROOM}, "missing"),
        ({1: "", 2: ROOM}, "missing"),
        ({1: 5, 2: ROOM}, "no text"),
        ({1: "m" * 1025, 2: ROOM}, "no text"),
        ({**URIS, "": 0}, "255 bytes, or none"),
        ({**URIS, "x" * 256: 0}, "255 bytes"),
        ({**URIS, "x": bytes(4096)}, "4095"),
        ({**URIS, "x": ((((),),),)}, "4 deep"),
        ({**URIS, "x": ((cbor.Tag(32, ()),),)}, "4 deep"),
        ({**URIS, **{f"x{n}": 0 for n in range(31)}}, "more than 32"),
        ({**URIS, -2: b"hash"}, "by part index"),
        ({**URIS, -2: {0: bytes(31)}}, "32 bytes"),
        ({**URIS, -2: {0: "text"}}, "32 bytes"),
        ({**URIS, -2: {64: bytes(32)}}, "by part index"),
        ({**URIS, -2: {-1: bytes(32)}}, "by part index"),
        ({**URIS, -2: {"0": bytes(32)}}, "by part index"),
    ],
    ids=range(17),
)
def test_extensions_beyond_the_rules_are_refused(extensions: dict[cbor.Key, cbor.Value], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        MimiContent.decode(with_field(5, extensions))


def test_the_example_of_a_deep_extension_is_allowed() -> None:
    deep: dict[cbor.Key, cbor.Value] = {**URIS, 256: ((b"\x12\x34", cbor.Tag(32, "http://example.com")), (b"\x34", 5))}
    assert MimiContent.decode(with_field(5, deep)).extensions[256] == deep[256]


@pytest.mark.parametrize(
    ("index", "item"),
    [
        (0, bytes(15)),
        (0, bytes(17)),
        (0, None),
        (0, "sixteen letters!"),
        (1, bytes(31)),
        (1, b"\x02" + bytes(31)),
        (1, "text"),
        (2, None),
        (2, "text"),
        (3, 5),
        (3, (True,)),
        (3, (1, 5)),
        (3, (True, -1)),
        (3, (True, 1 << 32)),
        (3, (True, False)),
        (4, b"\x02" + bytes(31)),
        (4, bytes(33)),
        (5, None),
        (5, ()),
        (5, {b"x": 0, **URIS}),
        (6, None),
        (6, ()),
        (6, (1, "")),
        (6, (1, "", 4)),
        (6, (1, "", 0, 0)),
        (6, (1, "", False)),
        (6, (256, "", 0)),
        (6, (-1, "", 0)),
        (6, (True, "", 0)),
        (6, (1, b"", 0)),
        (6, (1, "", 1, "text/plain")),
        (6, (1, "", 1, "text/plain", "text")),
        (6, (1, "", 1, b"text/plain", b"bytes")),
        (6, (1, "", 1, "x" * 4097, b"bytes")),
        (6, (1, "", 3, 3, ((1, "", 0), (1, "", 0)))),
        (6, (1, "", 3, True, ((1, "", 0), (1, "", 0)))),
        (6, (1, "", 3, 0, ((1, "", 0),))),
        (6, (1, "", 3, 0, ())),
        (6, (1, "", 3, 0, {})),
        (6, (1, "", 2, "", "", 1 << 32, 0, 0, b"", b"", b"", 0, b"", "", "")),
        (6, (1, "", 2, "", "", 0, 0, 1 << 16, b"", b"", b"", 0, b"", "", "")),
        (6, (1, "", 2, "", "", 0, 0, 0, b"", b"", b"", 256, b"", "", "")),
        (6, (1, "", 2, "", "", 0, 0, 0, b"", b"", b"", 0, b"", "")),
    ],
    ids=range(43),
)
@pytest.mark.bad_input(45)
def test_a_field_of_another_type_or_size_is_refused(index: int, item: cbor.Value) -> None:
    with pytest.raises(MLSError):
        MimiContent.decode(with_field(index, item))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x86" + b"\xf6" * 6, b"\x88" + b"\xf6" * 8, b"\xa0", b"\x00"])
@pytest.mark.bad_input(61)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        MimiContent.decode(data)


@pytest.mark.bad_input(64)
def test_a_trailing_byte_is_refused() -> None:
    with pytest.raises(DecodeError):
        MimiContent.decode(HELLO.encode() + b"\x00")


@pytest.mark.bad_input(62)
def test_every_truncation_is_refused() -> None:
    data = HELLO.encode()
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            MimiContent.decode(data[:length])


@pytest.mark.bad_input(63)
def test_a_flipped_byte_is_refused_or_gives_another_message_with_another_id() -> None:
    data, before = HELLO.encode(), HELLO.message_id()
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 0x01]) + data[position + 1 :]
        try:
            other = MimiContent.decode(changed)
        except MLSError:
            continue
        assert other.encode() == changed
        assert other.message_id() != before


@pytest.mark.bad_input(59)
def test_a_message_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(ValidationError, match="40 KiB"):
        MimiContent.decode(b"\x80" * (message.MAX_CONTENT_SIZE_BYTES + 1))


@pytest.mark.parametrize(
    "content",
    [
        replace(HELLO, salt=bytes(15)),
        replace(HELLO, body=NullPart(256)),
        replace(HELLO, body=SinglePart("\ud800", b"")),
        replace(HELLO, replaces=bytes(32)),
        replace(HELLO, extensions={}),
        replace(HELLO, body=ExternalPart("", "", size=-1)),
    ],
    ids=range(6),
)
def test_a_message_that_others_would_refuse_is_not_encoded(content: MimiContent) -> None:
    with pytest.raises(MLSError):
        content.encode()


def test_a_message_that_is_printed_shows_neither_content_nor_keys() -> None:
    part = ExternalPart("image/webp", "https://x", enc_alg=1, key=b"k" * 16, nonce=b"n" * 12)
    body = MultiPart(PartSemantics.PROCESS_ALL, (SinglePart("text/plain", b"secretwords"), part))
    shown = repr(replace(HELLO, body=body))
    assert not any(secret in shown for secret in ("secretwords", "k" * 16, "n" * 12, "\\x11\\x11"))


def test_the_numbers_are_those_of_the_draft() -> None:
    assert [*Disposition] == list(range(9))
    assert [*Cardinality] == list(range(4))
    assert [*PartSemantics] == list(range(3))
