import json

import pytest

from heliograph.cli.output import Output
from heliograph.cli.telling import sentence, tell
from heliograph.client import told as t
from heliograph.wire.ids import AccountId, ChannelId, DeviceId, RoomId
from heliograph.wire.problems import Problem

ROOM = RoomId("r" + "a" * 26)
CHANNEL = ChannelId("c" + "b" * 26)
ACCOUNT = AccountId("a" + "c" * 52)
DEVICE = DeviceId("d" + "e" * 26)
MESSAGE = t.RoomMessage(ROOM, 7, b"\x01" * 32, ACCOUNT, "alice", DEVICE, "hello", 3_661_000)


def test_a_message_is_one_line_with_time_room_and_sender() -> None:
    assert sentence(MESSAGE) == "01:01:01 raaaaaaaa @alice: hello"


def test_a_room_goes_by_its_name_where_the_device_knows_one() -> None:
    assert sentence(MESSAGE, {ROOM: "[Lamp night]"}) == "01:01:01 [Lamp night] @alice: hello"


def test_who_joins_goes_by_their_handle_where_the_device_knows_it() -> None:
    joined = t.MemberChanged(ROOM, 8, ACCOUNT, joined=[ACCOUNT])
    assert sentence(joined, {ACCOUNT: "@alice"}) == "raaaaaaaa joined: @alice"


def test_a_blocked_channel_is_told_with_the_public_reason() -> None:
    problem = Problem("channel-restricted", reason="fraud").body
    assert sentence(t.ChannelEnded(CHANNEL, problem)) == (
        "cbbbbbbbb can be read no more: The channel is blocked: fraud"
    )


def test_a_message_cannot_pretend_to_be_two(capsys: pytest.CaptureFixture[str]) -> None:
    forged = t.RoomMessage(ROOM, 7, b"\x01" * 32, ACCOUNT, "eve", DEVICE, "hi\n01:01:02 raaaaaaaa @alice: pay eve", 0)

    tell(Output(as_json=False), forged)

    assert [line[:4].isspace() for line in capsys.readouterr().out.splitlines()] == [False, True]


def test_a_program_gets_every_member_under_the_kind_of_what_happened(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell(Output(as_json=True), MESSAGE)

    told = json.loads(capsys.readouterr().out)
    assert (told["type"], told["room"], told["seq"], told["text"]) == ("message", ROOM, 7, "hello")
    assert told["message_id"] == "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"


@pytest.mark.parametrize("kind", t.Told.__subclasses__())
def test_everything_that_a_client_tells_has_a_sentence(kind: type[t.Told]) -> None:
    assert kind in t.AnyTold.__args__
