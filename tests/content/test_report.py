import hashlib
import socket
from dataclasses import replace

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from heliograph.content import report
from heliograph.content.attachment import SealedAttachment, seal_attachment
from heliograph.content.compose import Composer
from heliograph.content.framing import encode_application_data
from heliograph.content.franking import Franked, frank_message, franking_tag
from heliograph.content.message import ExternalPart, MimiContent, MultiPart, PartSemantics, SinglePart
from heliograph.content.report import (
    AttachmentCheck,
    ItemCheck,
    Report,
    ReportAttachment,
    ReportItem,
    Verdict,
    check_item,
    check_report,
    gaps,
    open_report,
    seal_report,
)
from heliograph.mls.errors import DecodeError, MLSError, UnsupportedError, ValidationError, VerificationError
from heliograph.mls.suite import Random, cipher_suite
from heliograph.wire.frank import FrankError, decode_frank, stamped_context, verify_mac
from tests.content.hub import ALICE, BOB, OTHER_ROOM, ROOM, Acceptance, Hub
from tests.content.salamander import make_salamander

HUB = Hub()
DESK_PRIVATE, DESK_PUBLIC = cipher_suite(1).derive_key_pair(b"the desk's key, kept by moderators")


@pytest.fixture
def alice(seeded_random: Random) -> Composer:
    return Composer(ALICE, ROOM, seeded_random)


def item_of(sent: Franked, *attachments: ReportAttachment, room_seq: int = 7, **knowledge) -> ReportItem:
    envelope = HUB.accept(Acceptance(sent.tag, room_seq=room_seq, **knowledge))[0]
    return ReportItem(sent.application_data, envelope, attachments)


def report_of(*items: ReportItem, **changes) -> Report:
    sound = Report(
        v=1,
        room=ROOM,
        accused=ALICE,
        reporter=BOB,
        category="STATEMENT_CATEGORY_CYBER_VIOLENCE",
        keyword="KEYWORD_CYBER_HARASSMENT",
        note="He wrote this to me.",
        language="en",
        context_mode="chosen",
        items=items,
    )
    return msgspec.structs.replace(sound, **changes)


def judge(item: ReportItem) -> ItemCheck:
    return check_item(item, ROOM, HUB.verifier())


def test_a_message_that_the_hub_accepted_is_proven_with_all_that_it_binds(alice: Composer) -> None:
    content = alice.text("I know where you live")
    item = item_of(frank_message(content))
    check = judge(item)
    assert (check.verdict, check.content, check.envelope) == (Verdict.PROVEN, content, item.envelope)
    assert check.item_sha256 == hashlib.sha256(item.encode()).digest()
    assert check.verifier == report.VERIFIER


def test_the_check_needs_neither_the_network_nor_the_hub_s_secret(
    alice: Composer, monkeypatch: pytest.MonkeyPatch
) -> None:
    item, public_key = item_of(frank_message(alice.text("hello"))), HUB.public_key

    def no_network(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", no_network)
    verifier_without_secrets = Hub(hub_key=bytes(32))
    assert verifier_without_secrets.public_key == public_key
    assert check_item(item, ROOM, verifier_without_secrets.verifier()).verdict is Verdict.PROVEN


@pytest.mark.bad_input(118)
@pytest.mark.parametrize(
    "content_change",
    [
        {"salt": b"z" * 16},
        {"body": SinglePart("text/plain;charset=utf-8", b"something worse")},
        {"extensions": {1: BOB, 2: ROOM}},
        {"extensions": {1: ALICE, 2: ROOM, -5: "more"}},
        {"topic_id": b"x"},
        {"in_reply_to": b"\x01" * 32},
        {"replaces": b"\x01" * 32},
    ],
    ids=range(7),
)
def test_any_change_to_the_message_is_a_forgery(alice: Composer, content_change) -> None:
    content = alice.text("hello")
    changed = encode_application_data(replace(content, **content_change))
    forged = msgspec.structs.replace(item_of(frank_message(content)), application_data=changed)
    assert judge(forged).verdict is Verdict.FORGED


@pytest.mark.bad_input(118)
@pytest.mark.parametrize("change", [{"accepted_at_ms": 1}, {"room_seq": 8}, {"epoch": 4}, {"frank": b"\xc0"}], ids=str)
def test_any_change_to_the_envelope_is_a_forgery(alice: Composer, change) -> None:
    item = item_of(frank_message(alice.text("hello")))
    forged = msgspec.structs.replace(item, envelope=msgspec.structs.replace(item.envelope, **change))
    assert judge(forged).verdict is Verdict.FORGED


@pytest.mark.bad_input(118)
@pytest.mark.parametrize("knowledge", [{"sender_uri": BOB}, {"room_uri": OTHER_ROOM}], ids=str)
def test_a_stamp_for_another_sender_or_room_is_a_forgery(alice: Composer, knowledge) -> None:
    assert judge(item_of(frank_message(alice.text("hello")), **knowledge)).verdict is Verdict.FORGED


def test_franks_swapped_between_two_messages_are_forgeries(alice: Composer) -> None:
    one, two = frank_message(alice.text("one")), frank_message(alice.text("two"))
    envelopes = HUB.accept(Acceptance(one.tag, room_seq=7), Acceptance(two.tag, room_seq=8))
    assert judge(ReportItem(one.application_data, envelopes[0])).verdict is Verdict.PROVEN
    assert judge(ReportItem(one.application_data, envelopes[1])).verdict is Verdict.FORGED
    assert judge(ReportItem(two.application_data, envelopes[0])).verdict is Verdict.FORGED


def test_a_message_of_another_room_does_not_pass_as_one_of_this(seeded_random: Random) -> None:
    sent = frank_message(Composer(ALICE, OTHER_ROOM, seeded_random).text("hello"))
    check = judge(item_of(sent, room_uri=OTHER_ROOM))
    assert check.verdict is Verdict.FORGED
    assert "another room" in check.reason


@pytest.mark.bad_input(118)
@pytest.mark.parametrize("application_data", [b"", b"{}", b"\x00\x00\x02\x80\x80"])
def test_what_is_no_message_is_a_forgery(alice: Composer, application_data: bytes) -> None:
    item = msgspec.structs.replace(item_of(frank_message(alice.text("x"))), application_data=application_data)
    check = judge(item)
    assert (check.verdict, check.content) == (Verdict.FORGED, None)


def test_a_message_without_a_stamp_is_a_claim_and_no_forgery(alice: Composer) -> None:
    item = item_of(frank_message(alice.text("hello")))
    bare = msgspec.structs.replace(item, envelope=msgspec.structs.replace(item.envelope, frank=b""))
    assert judge(bare).verdict is Verdict.UNPROVEN


def test_a_stamp_of_an_unknown_kind_is_a_claim_and_no_forgery(alice: Composer) -> None:
    def cannot_tell(*_: object) -> None:
        raise UnsupportedError("a suite of the future")

    check = check_item(item_of(frank_message(alice.text("hello"))), ROOM, cannot_tell)
    assert check.verdict is Verdict.UNPROVEN


def test_a_media_type_of_the_future_is_a_claim_and_no_forgery(alice: Composer) -> None:
    item = item_of(frank_message(alice.text("x")))
    future = msgspec.structs.replace(item, application_data=b"\x01x\x00\x00")
    assert judge(future).verdict is Verdict.UNPROVEN


def test_a_deleted_key_gives_unproven_and_not_forged(alice: Composer) -> None:
    check = judge(item_of(frank_message(alice.text("hello"))))
    assert check.with_mac("key-deleted").verdict is Verdict.UNPROVEN


def test_the_hub_s_answer_confirms_or_refutes_a_proof(alice: Composer) -> None:
    check = judge(item_of(frank_message(alice.text("hello"))))
    assert check.with_mac("valid") == check
    assert check.with_mac("invalid").verdict is Verdict.FORGED


@pytest.mark.parametrize("answer", ["valid", "invalid", "key-deleted"])
def test_the_hub_s_answer_proves_nothing_that_was_not_proven(alice: Composer, answer) -> None:
    forged = msgspec.structs.replace(item_of(frank_message(alice.text("x"))), application_data=b"")
    assert judge(forged).with_mac(answer).verdict is Verdict.FORGED


def test_the_hub_can_answer_from_what_a_check_holds(alice: Composer) -> None:
    check = judge(item_of(frank_message(alice.text("hello"))))
    stamp = decode_frank(check.envelope.frank)
    context = stamped_context(stamp, ALICE, ROOM, check.envelope)
    verify_mac(HUB.hub_key, check.tag, context, stamp.mac)
    with pytest.raises(FrankError):
        verify_mac(b"x" * 32, check.tag, context, stamp.mac)


def test_gaps_are_counted_between_what_was_disclosed() -> None:
    assert gaps([4]) == (0,)
    assert gaps([4, 5, 8, 20]) == (0, 0, 2, 11)


def test_a_report_says_what_was_left_out_and_what_is_proven_against_the_accused(seeded_random: Random) -> None:
    said = [
        frank_message(Composer(author, ROOM, seeded_random).text(text))
        for author, text in ((BOB, "hi"), (ALICE, "threat"), (ALICE, "worse"))
    ]
    items = [
        item_of(said[0], room_seq=3, sender_uri=BOB),
        item_of(said[1], room_seq=4),
        item_of(said[2], room_seq=9),
    ]
    forged = msgspec.structs.replace(items[2], application_data=b"")
    check = check_report(report_of(*items[:2], forged), HUB.verifier())
    assert [one.verdict for one in check.items] == [Verdict.PROVEN, Verdict.PROVEN, Verdict.FORGED]
    assert (check.not_shown, check.against_accused) == ((0, 0, 4), 1)


def test_a_true_message_of_someone_else_proves_nothing_against_the_accused(alice: Composer) -> None:
    accused_is_bob = report_of(item_of(frank_message(alice.text("hello"))), accused=BOB)
    check = check_report(accused_is_bob, HUB.verifier())
    assert (check.items[0].verdict, check.against_accused) == (Verdict.PROVEN, 0)


# Attachments


def with_attachment(alice: Composer, sealed: SealedAttachment) -> MimiContent:
    part = sealed.part("https://chat.example/b/1", "image/webp")
    body = MultiPart(PartSemantics.PROCESS_ALL, (SinglePart("text/plain;charset=utf-8", b"look"), part))
    return alice.message(body, plaintext_hashes={2: sealed.plaintext_hash})


def attachment_check(content: MimiContent, enclosed: ReportAttachment) -> tuple[Verdict, AttachmentCheck]:
    check = judge(item_of(frank_message(content), enclosed))
    return check.verdict, check.attachments[0]


def test_an_attachment_is_proven_by_its_stored_bytes(alice: Composer, seeded_random: Random) -> None:
    sealed = seal_attachment(b"a vile picture", seeded_random)
    verdict, attachment = attachment_check(with_attachment(alice, sealed), ReportAttachment(2, sealed.ciphertext))
    assert (verdict, attachment.verdict) == (Verdict.PROVEN, Verdict.PROVEN)
    assert attachment.plaintext == b"a vile picture"


def test_a_wrong_file_is_a_forgery_of_the_attachment_and_leaves_the_words_proven(
    alice: Composer, seeded_random: Random
) -> None:
    sealed, other = (seal_attachment(text, seeded_random) for text in (b"a vile picture", b"a fake picture"))
    content = with_attachment(alice, sealed)
    assert attachment_check(content, ReportAttachment(2, other.ciphertext)) == (
        Verdict.PROVEN,
        AttachmentCheck(
            2,
            Verdict.FORGED,
            "It is not what the message refers to: attachment: the stored bytes are not those of the message.",
        ),
    )


@pytest.mark.parametrize("index", [0, 1, 3, 63])
def test_an_attachment_at_a_place_that_has_none_is_a_forgery(
    alice: Composer, seeded_random: Random, index: int
) -> None:
    sealed = seal_attachment(b"a vile picture", seeded_random)
    _, attachment = attachment_check(with_attachment(alice, sealed), ReportAttachment(index, sealed.ciphertext))
    assert attachment.verdict is Verdict.FORGED


def test_the_second_opening_of_a_salamander_is_flagged(alice: Composer, seeded_random: Random) -> None:
    # One stored blob, two messages, two keys: what the desk is shown must be what the reporter saw.
    key1, key2, nonce = seeded_random(16), seeded_random(16), seeded_random(12)
    blob = make_salamander(key1, key2, nonce, b"harmless picture" * 3)
    opened = {key: AESGCM(key).decrypt(nonce, blob, b"") for key in (key1, key2)}

    def message_with(key: bytes, committed: bytes) -> MimiContent:
        part = ExternalPart(
            content_type="image/webp",
            url="https://chat.example/b/1",
            size=len(committed),
            enc_alg=1,
            key=key,
            nonce=nonce,
            hash_alg=1,
            content_hash=hashlib.sha256(blob).digest(),
        )
        return alice.message(part, plaintext_hashes={0: hashlib.sha256(committed).digest()})

    enclosed = ReportAttachment(0, blob)
    for key in (key1, key2):
        _, honest = attachment_check(message_with(key, opened[key]), enclosed)
        assert (honest.verdict, honest.plaintext) == (Verdict.PROVEN, opened[key])
    verdict, crossed = attachment_check(message_with(key2, opened[key1]), enclosed)
    assert (verdict, crossed.verdict, crossed.plaintext) == (Verdict.PROVEN, Verdict.FORGED, None)


def test_a_key_swapped_by_the_reporter_is_a_forgery_of_the_message(alice: Composer, seeded_random: Random) -> None:
    sealed = seal_attachment(b"a vile picture", seeded_random)
    content = with_attachment(alice, sealed)
    other_key = with_attachment(alice, replace(sealed, key=bytes(16)))
    item = item_of(frank_message(content), ReportAttachment(2, sealed.ciphertext))
    forged = msgspec.structs.replace(
        item, application_data=encode_application_data(replace(other_key, salt=content.salt))
    )
    assert judge(forged).verdict is Verdict.FORGED


def test_an_attachment_without_a_committed_plaintext_is_unproven(alice: Composer, seeded_random: Random) -> None:
    sealed = seal_attachment(b"picture", seeded_random)
    content = alice.message(sealed.part("https://chat.example/b/1", "image/webp"))
    data = encode_application_data(content)
    item = item_of(Franked(data, franking_tag(content.salt, data)), ReportAttachment(0, sealed.ciphertext))
    assert judge(item).attachments[0].verdict is Verdict.UNPROVEN


def test_an_attachment_sealed_in_an_unknown_way_is_unproven(alice: Composer) -> None:
    part = ExternalPart("video/mp4", "https://chat.example/b/1", size=9, enc_alg=0x8001, hash_alg=1)
    content = alice.message(part, plaintext_hashes={0: bytes(32)})
    verdict, attachment = attachment_check(content, ReportAttachment(0, b"x"))
    assert (verdict, attachment.verdict) == (Verdict.PROVEN, Verdict.UNPROVEN)


# Sealing and encoding


def test_only_the_desk_opens_a_report(alice: Composer) -> None:
    sound = report_of(item_of(frank_message(alice.text("a marked canary"))))
    sealed = seal_report(sound, DESK_PUBLIC)
    assert b"canary" not in sealed
    assert open_report(sealed, DESK_PRIVATE, ROOM) == sound
    stranger, _ = cipher_suite(1).derive_key_pair(b"somebody else's key of 32 bytes..")
    with pytest.raises(VerificationError):
        open_report(sealed, stranger, ROOM)


def test_a_report_is_opened_only_for_the_room_it_was_sealed_for(alice: Composer) -> None:
    sealed = seal_report(report_of(item_of(frank_message(alice.text("x")))), DESK_PUBLIC)
    with pytest.raises(VerificationError):
        open_report(sealed, DESK_PRIVATE, OTHER_ROOM)


def test_a_report_sealed_for_one_room_about_another_is_refused(alice: Composer) -> None:
    about_other = report_of(item_of(frank_message(alice.text("x"))), room=OTHER_ROOM)
    sealed = cipher_suite(1).encrypt_with_label(DESK_PUBLIC, "HG1 Report", ROOM.encode(), about_other.encode())
    with pytest.raises(VerificationError, match="another room"):
        open_report(sealed.encode(), DESK_PRIVATE, ROOM)


@pytest.mark.bad_input(63)
def test_a_changed_byte_anywhere_in_a_sealed_report_is_refused(alice: Composer) -> None:
    sealed = seal_report(report_of(item_of(frank_message(alice.text("x")))), DESK_PUBLIC)
    for position in range(0, len(sealed), 11):
        changed = sealed[:position] + bytes([sealed[position] ^ 1]) + sealed[position + 1 :]
        with pytest.raises(MLSError):
            open_report(changed, DESK_PRIVATE, ROOM)


@pytest.mark.bad_input(61)
@pytest.mark.parametrize("sealed", [b"", b"\x00\x00", b"\x20" + bytes(32) + b"\x00", bytes(64)])
def test_what_is_no_sealed_report_is_refused(sealed: bytes) -> None:
    with pytest.raises(MLSError):
        open_report(sealed, DESK_PRIVATE, ROOM)


@pytest.mark.bad_input(87)
@pytest.mark.parametrize("key", [bytes(32), bytes(31), b""])
def test_a_desk_key_that_cannot_work_is_refused(alice: Composer, key: bytes) -> None:
    with pytest.raises(MLSError):
        seal_report(report_of(item_of(frank_message(alice.text("x")))), key)


@given(note=st.text(max_size=40), count=st.integers(1, 4))
def test_a_report_comes_back_as_it_was(note: str, count: int) -> None:
    composer = Composer(ALICE, ROOM, lambda size: bytes([7]) * size)
    items = [item_of(frank_message(composer.text("x")), room_seq=number) for number in range(count)]
    sound = report_of(*items, note=note)
    assert Report.decode(sound.encode()) == sound
    assert ReportItem.decode(items[0].encode()) == items[0]


def test_items_out_of_order_or_twice_are_refused(alice: Composer) -> None:
    sent = frank_message(alice.text("x"))
    one, two = item_of(sent, room_seq=1), item_of(sent, room_seq=2)
    for items in ((two, one), (one, one)):
        with pytest.raises(ValidationError, match="order of the room"):
            report_of(*items).encode()


@pytest.mark.bad_input(59)
@pytest.mark.parametrize(("count", "allowed"), [(0, False), (1, True), (50, True), (51, False)])
def test_a_report_has_one_to_fifty_items(alice: Composer, count: int, allowed: bool) -> None:
    sent = frank_message(alice.text("x"))
    items = [item_of(sent, room_seq=number) for number in range(count)]
    if allowed:
        assert len(Report.decode(report_of(*items).encode()).items) == count
    else:
        with pytest.raises(ValidationError):
            report_of(*items).encode()


def test_a_report_larger_than_a_mebibyte_is_refused(alice: Composer) -> None:
    huge = item_of(frank_message(alice.text("x")), ReportAttachment(0, bytes(1024 * 1024)))
    with pytest.raises(ValidationError, match="1 MiB"):
        report_of(huge).encode()


def report_bytes(**changes: object) -> bytes:
    """A sound report's encoding with members changed, added or (given ...) left out."""
    composer = Composer(ALICE, ROOM, lambda size: bytes([7]) * size)
    sound = report_of(item_of(frank_message(composer.text("x"))))
    members = {**msgspec.to_builtins(sound, builtin_types=(bytes,)), **changes}
    return msgspec.msgpack.encode({name: value for name, value in members.items() if value is not ...})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc0",
        report_bytes()[:-1],
        report_bytes() + b"\xc0",
        report_bytes(v=2),
        report_bytes(v="1"),
        report_bytes(room=""),
        report_bytes(room="r" * 1025),
        report_bytes(accused=...),
        report_bytes(reporter=7),
        report_bytes(category=""),
        report_bytes(note="n" * 5001),
        report_bytes(language="l" * 36),
        report_bytes(context_mode="everything"),
        report_bytes(items=[]),
        report_bytes(items=[{}]),
        report_bytes(items={}),
        report_bytes(secret="x"),
        report_bytes(v=..., room=...),
        b"\x91" * 10_000 + b"\xc0",
        report_bytes().replace(b"\xa1v\x01", b"\xa1v\xcc\x01"),
        b"\xdf\xff\xff\xff\xff",
    ],
    ids=range(22),
)
@pytest.mark.bad_input(46)
def test_what_is_no_report_in_its_one_encoding_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        Report.decode(data)


@pytest.mark.bad_input(118)
def test_a_tampered_item_is_never_proven(alice: Composer) -> None:
    data = item_of(frank_message(alice.text("hello"))).encode()
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        try:
            item = ReportItem.decode(changed)
        except DecodeError:
            continue
        assert judge(item).verdict is not Verdict.PROVEN
