"""Reports disclose what was chosen, prove it, and cannot be made of anything else."""

from dataclasses import replace

import pytest

from heliograph.client.changes import StoredMessage
from heliograph.client.decisions import (
    DeskKey,
    build_report,
    create_desk_key,
    judge_report,
    mac_question,
    read_desk_key,
    seal_to_desk,
    with_items,
    with_preceding,
)
from heliograph.client.errors import NotPossible
from heliograph.client.identity import CredentialError
from heliograph.content.report import Verdict
from heliograph.mls.errors import MLSError
from heliograph.wire.frank import FrankError, verify_mac
from heliograph.wire.ids import RoomId, room_id
from tests.client.hub import DOMAIN, SUITE, Hub, Phone

HATE = "STATEMENT_CATEGORY_ILLEGAL_OR_HARMFUL_SPEECH"


@pytest.fixture
def hub() -> Hub:
    """Return a hub."""
    return Hub()


@pytest.fixture
def alice(hub: Hub) -> Phone:
    """Return who is accused."""
    return hub.phone("alice")


@pytest.fixture
def bob(hub: Hub) -> Phone:
    """Return who reports."""
    return hub.phone("bob")


@pytest.fixture
def room(hub: Hub, alice: Phone, bob: Phone) -> RoomId:
    """Return their room."""
    return hub.room_of(alice, bob)


@pytest.fixture
def desk(hub: Hub) -> DeskKey:
    """Return the reviewers' key."""
    return create_desk_key(hub.random)


def hear(hub: Hub, alice: Phone, bob: Phone, room: RoomId, *texts: str) -> list[StoredMessage]:
    """Let alice say things, and return them as bob has stored them."""
    for text in texts:
        bob.apply(room, *hub.say(alice, room, text))
    return sorted(bob.memory.messages.values(), key=lambda message: message.seq)


def sealed_report(bob: Phone, alice: Phone, room: RoomId, messages: list[StoredMessage], desk: DeskKey) -> bytes:
    """Return bob's report of alice's messages."""
    report = build_report(bob.identity, room, messages, alice.identity.account, category=HATE, note="She threatens me.")
    return seal_to_desk(report, desk.public)


def test_a_report_proves_who_said_what_in_which_order(
    hub: Hub, alice: Phone, bob: Phone, room: RoomId, desk: DeskKey
) -> None:
    heard = hear(hub, alice, bob, room, "one", "two", "three")

    sealed = sealed_report(bob, alice, room, [heard[0], heard[2]], desk)
    judged = judge_report(sealed, desk, DOMAIN, room, hub.franking_key)

    assert [item.check.verdict for item in judged.items] == [Verdict.PROVEN, Verdict.PROVEN]
    assert judged.not_shown == (0, 1)
    assert (judged.accused, judged.reporter) == (alice.identity.account, bob.identity.account)
    assert judged.against_accused == 2


def test_other_words_under_a_true_stamp_are_forged(
    hub: Hub, alice: Phone, bob: Phone, room: RoomId, desk: DeskKey
) -> None:
    (message,) = hear(hub, alice, bob, room, "good morning")
    lie = replace(message, application_data=message.application_data.replace(b"morning", b"hunting"))

    judged = judge_report(sealed_report(bob, alice, room, [lie], desk), desk, DOMAIN, room, hub.franking_key)

    assert [item.check.verdict for item in judged.items] == [Verdict.FORGED]
    assert judged.against_accused == 0


def test_a_report_opens_for_its_room_and_desk_alone(
    hub: Hub, alice: Phone, bob: Phone, room: RoomId, desk: DeskKey
) -> None:
    sealed = sealed_report(bob, alice, room, hear(hub, alice, bob, room, "x"), desk)

    with pytest.raises(MLSError):
        judge_report(sealed, desk, DOMAIN, room_id(bytes(16)), hub.franking_key)
    with pytest.raises(MLSError):
        judge_report(sealed, create_desk_key(hub.random), DOMAIN, room, hub.franking_key)


def test_under_another_hubs_key_nothing_is_proven(
    hub: Hub, alice: Phone, bob: Phone, room: RoomId, desk: DeskKey
) -> None:
    sealed = sealed_report(bob, alice, room, hear(hub, alice, bob, room, "x"), desk)
    other = SUITE.generate_signature_key(hub.random).public

    judged = judge_report(sealed, desk, DOMAIN, room, other)

    assert [item.check.verdict for item in judged.items] == [Verdict.FORGED]


def test_the_hub_can_answer_for_its_own_stamp(hub: Hub, alice: Phone, bob: Phone, room: RoomId, desk: DeskKey) -> None:
    sealed = sealed_report(bob, alice, room, hear(hub, alice, bob, room, "x"), desk)
    (item,) = judge_report(sealed, desk, DOMAIN, room, hub.franking_key).items

    question = mac_question(item.check, DOMAIN, room)

    assert question is not None
    verify_mac(hub.hub_key, question.tag, question.context, question.mac)
    with pytest.raises(FrankError):
        verify_mac(bytes(32), question.tag, question.context, question.mac)


def test_a_deleted_hub_key_takes_the_proof_back(
    hub: Hub, alice: Phone, bob: Phone, room: RoomId, desk: DeskKey
) -> None:
    sealed = sealed_report(bob, alice, room, hear(hub, alice, bob, room, "x"), desk)
    judged = judge_report(sealed, desk, DOMAIN, room, hub.franking_key)

    asked = [replace(item, check=item.check.with_mac("key-deleted")) for item in judged.items]

    assert with_items(judged, asked).against_accused == 0
    assert asked[0].check.verdict is Verdict.UNPROVEN


def test_what_stood_before_is_disclosed_with_the_chosen(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    history = hear(hub, alice, bob, room, *(f"number {number}" for number in range(9)))

    chosen = with_preceding(history, [history[7].message_id, history[2].message_id], 2)

    assert [one.text for one in chosen] == [f"number {number}" for number in (0, 1, 2, 5, 6, 7)]


def test_a_message_that_is_not_in_history_cannot_be_reported(hub: Hub, alice: Phone, bob: Phone, room: RoomId) -> None:
    history = hear(hub, alice, bob, room, "x")

    with pytest.raises(NotPossible):
        with_preceding(history, [bytes(32)], 5)
    with pytest.raises(NotPossible):
        with_preceding([replace(history[0], envelope=None)], [history[0].message_id], 5)


def test_a_desk_key_travels_as_one_line(desk: DeskKey) -> None:
    assert read_desk_key(desk.text() + "\n") == desk
    assert desk.private.hex() not in repr(desk)


@pytest.mark.parametrize(
    "text", ["", "heliograph-desk-key:", "heliograph-desk-key:AAAA", "x", "heliograph-desk-key:!!"]
)
def test_what_is_no_desk_key_is_refused(text: str) -> None:
    with pytest.raises(CredentialError):
        read_desk_key(text)
