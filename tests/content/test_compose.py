from dataclasses import replace

import pytest

from heliograph.content import cbor, compose
from heliograph.content.compose import Composer, RoomProfile, check_replacement
from heliograph.content.message import (
    TEXT_MARKDOWN,
    TEXT_PLAIN,
    Disposition,
    Expiration,
    MimiContent,
    MultiPart,
    NullPart,
    PartSemantics,
    SinglePart,
)
from heliograph.content.status import MessageStatus
from heliograph.mls.errors import MLSError, ValidationError
from heliograph.mls.suite import Random

ALICE, BOB, ROOM = "mimi://chat.example/u/alice", "mimi://chat.example/u/bob", "mimi://chat.example/r/1"


@pytest.fixture
def alice(seeded_random: Random) -> Composer:
    return Composer(ALICE, ROOM, seeded_random)


@pytest.fixture
def bob(seeded_random: Random) -> Composer:
    return Composer(BOB, ROOM, seeded_random)


def sent(content: MimiContent) -> MimiContent:
    """The message as another client reads it."""
    return MimiContent.decode(content.encode())


def test_a_text_names_its_sender_and_room_and_carries_a_fresh_salt(alice: Composer) -> None:
    first, second = sent(alice.text("hello", language="en")), sent(alice.text("hello", language="en"))
    assert (first.sender_uri, first.room_uri) == (ALICE, ROOM)
    assert first.body == SinglePart(TEXT_PLAIN, b"hello", Disposition.RENDER, "en")
    assert first.salt != second.salt
    assert first.message_id() != second.message_id()


def test_markdown_may_expire(alice: Composer) -> None:
    content = sent(alice.markdown("*soon gone*", expires=Expiration(relative=True, time=60)))
    assert content.body == SinglePart(TEXT_MARKDOWN, b"*soon gone*")
    assert content.expires == Expiration(relative=True, time=60)


@pytest.mark.rule("draft-ietf-mimi-content-08 §5.2")
def test_a_reply_names_the_version_it_answers(alice: Composer, bob: Composer) -> None:
    original = alice.text("hello")
    assert sent(bob.reply(original.message_id(), "hi")).in_reply_to == original.message_id()


@pytest.mark.rule("draft-ietf-mimi-content-08 §5.3")
def test_each_reaction_is_a_part_of_its_own(alice: Composer, bob: Composer) -> None:
    to = alice.text("hello").message_id()
    one, two = sent(bob.reaction(to, "\u2764")), sent(bob.reaction(to, "\u2764", "\U0001f389"))
    assert one.body == SinglePart(TEXT_PLAIN, "\u2764".encode(), Disposition.REACTION)
    assert isinstance(two.body, MultiPart)
    assert (two.body.disposition, two.body.part_semantics) == (Disposition.REACTION, PartSemantics.PROCESS_ALL)
    assert (one.in_reply_to, len(two.body.parts)) == (to, 2)


@pytest.mark.parametrize("emoji", [(), ("",), ("x" * 65,), ("\u2764", "")])
def test_a_reaction_of_no_emoji_or_a_long_text_is_not_made(bob: Composer, emoji: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        bob.reaction(bytes([1]) * 32, *emoji)


@pytest.mark.rule("draft-ietf-mimi-content-08 §5.5")
def test_an_edit_replaces_the_first_version_and_repeats_its_other_fields(alice: Composer, bob: Composer) -> None:
    original = alice.reply(bob.text("?").message_id(), "rihgt")
    first_edit = sent(alice.edit(original, SinglePart(TEXT_MARKDOWN, b"right")))
    second_edit = sent(alice.edit(first_edit, SinglePart(TEXT_MARKDOWN, b"Right.")))
    for edit in (first_edit, second_edit):
        assert (edit.replaces, edit.in_reply_to) == (original.message_id(), original.in_reply_to)
        check_replacement(original, edit)


@pytest.mark.rule("draft-ietf-mimi-content-08 §5.6")
def test_a_deletion_has_an_empty_body(alice: Composer) -> None:
    original = alice.reaction(bytes([1]) * 32, "\u2764")
    deletion = sent(alice.delete(original))
    assert deletion.body == NullPart(Disposition.REACTION)
    check_replacement(original, deletion)


def test_an_edit_drops_the_hashes_of_attachments_that_are_gone(alice: Composer) -> None:
    original = alice.message(SinglePart(TEXT_PLAIN, b"x"), plaintext_hashes={0: bytes(32)})
    assert original.plaintext_hashes == {0: bytes(32)}
    assert sent(alice.edit(original, SinglePart(TEXT_PLAIN, b"y"))).plaintext_hashes == {}


@pytest.mark.rule("draft-ietf-mimi-content-08 §9.3")
def test_only_the_sender_edits_and_a_role_may_delete(alice: Composer, bob: Composer) -> None:
    original = alice.text("mine")
    with pytest.raises(ValidationError, match="another sender"):
        check_replacement(original, bob.edit(original, SinglePart(TEXT_PLAIN, b"his")), may_delete=True)
    with pytest.raises(ValidationError, match="another sender"):
        check_replacement(original, bob.delete(original))
    check_replacement(original, bob.delete(original), may_delete=True)


@pytest.mark.rule("draft-ietf-mimi-content-08 §9.3")
@pytest.mark.parametrize(
    "changes",
    [
        {"topic_id": b"elsewhere"},
        {"expires": Expiration(relative=True, time=1)},
        {"in_reply_to": b"\x01" * 32},
        {"replaces": b"\x01" * 32},
        {"replaces": None},
        {"extensions": {1: ALICE, 2: "mimi://chat.example/r/other"}},
    ],
)
def test_a_replacement_that_changes_more_than_the_body_is_refused(alice: Composer, changes) -> None:
    original = alice.text("mine")
    edit = alice.edit(original, SinglePart(TEXT_PLAIN, b"changed"))
    with pytest.raises(ValidationError):
        check_replacement(original, replace(edit, **changes))


def test_a_room_profile_is_read_as_it_was_written(alice: Composer) -> None:
    content = sent(alice.room_profile(RoomProfile("Choir", "Tuesdays at eight")))
    assert content.body.disposition == Disposition.PROFILE
    assert compose.read_room_profile(content) == RoomProfile("Choir", "Tuesdays at eight")


@pytest.mark.parametrize(
    "value",
    [{}, {1: "name"}, {1: "", 2: ""}, {1: b"name", 2: ""}, {1: "n" * 129, 2: ""}, {1: "n", 2: "t" * 1025},
     {1: "n", 2: "t", 3: 0}, (), 0],
    ids=range(9),
)  # fmt: skip
def test_a_room_profile_of_another_form_is_refused(alice: Composer, value: cbor.Value) -> None:
    body = SinglePart(compose.ROOM_PROFILE, cbor.encode(value), Disposition.PROFILE)
    with pytest.raises(MLSError):
        compose.read_room_profile(alice.message(body))


@pytest.mark.parametrize("profile", [RoomProfile(""), RoomProfile("x" * 129), RoomProfile("x", "y" * 1025)])
def test_a_room_profile_beyond_its_limits_is_not_made(alice: Composer, profile: RoomProfile) -> None:
    with pytest.raises(ValidationError):
        alice.room_profile(profile)


def test_a_receipt_tells_what_became_of_messages(alice: Composer, bob: Composer) -> None:
    read = {alice.text("hello").message_id(): MessageStatus.READ}
    assert compose.read_receipt(sent(bob.receipt(read))) == read


def test_a_text_is_neither_a_receipt_nor_a_profile(alice: Composer) -> None:
    with pytest.raises(MLSError):
        compose.read_receipt(alice.text("x"))
    with pytest.raises(MLSError):
        compose.read_room_profile(alice.text("x"))


def test_the_texts_of_a_message_are_those_that_can_be_read(alice: Composer) -> None:
    parts = (
        SinglePart(TEXT_PLAIN, b"one"),
        SinglePart("image/png", b"two"),
        SinglePart(TEXT_MARKDOWN, b"\xff"),
        SinglePart(TEXT_MARKDOWN, b"three"),
    )
    content = alice.message(MultiPart(PartSemantics.PROCESS_ALL, parts))
    assert compose.texts_of(content) == ["one", "three"]
