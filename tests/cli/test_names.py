import pytest

from heliograph.cli import names
from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError
from heliograph.cli.names import NamedRoom
from heliograph.wire.ids import AccountId, RoomId

ACCOUNT = AccountId("a" + "q" * 52)
LAMPS = NamedRoom(RoomId("r" + "a" * 26), "Lamp night", "")
LAMPS_TOO = NamedRoom(RoomId("r" + "b" * 26), "Lamp night", "")
WITH_BOB = NamedRoom(RoomId("rc" + "c" * 25), "", "bob")


@pytest.mark.parametrize("text", ["alice", "@alice"])
def test_a_handle_is_a_handle_with_or_without_its_sign(text: str) -> None:
    assert names.account_or_handle(text, "here.example") == "alice"


@pytest.mark.parametrize("text", [ACCOUNT, f"mimi://here.example/u/{ACCOUNT[1:]}"])
def test_an_account_s_id_and_its_uri_name_the_account(text: str) -> None:
    assert names.account_or_handle(text, "here.example") == ACCOUNT


@pytest.mark.bad_input(145)
def test_an_account_of_another_server_is_refused_with_both_names() -> None:
    with pytest.raises(CommandError, match=r"there\.example.*here\.example") as refusal:
        names.account_or_handle(f"mimi://there.example/u/{ACCOUNT[1:]}", "here.example")
    assert refusal.value.code == ExitCode.USAGE


@pytest.mark.bad_input(145)
@pytest.mark.parametrize("imitation", ["аlice", "ａｌｉｃｅ", "alice\u200b", "ad\u202emin", "ﬁona", "ıris"])
def test_a_handle_with_letters_that_look_like_others_asks_for_the_id(imitation: str) -> None:
    with pytest.raises(CommandError, match="Give the id instead") as refusal:
        names.account_or_handle(imitation, "here.example")
    assert refusal.value.code == ExitCode.USAGE


@pytest.mark.parametrize("text", ["", "@", "al", "Alice", "alice__b", "1alice", "alice!", "a" * 33])
def test_what_can_be_no_handle_is_refused_as_usage(text: str) -> None:
    with pytest.raises(CommandError, match="not a handle"):
        names.account_or_handle(text, "here.example")


@pytest.mark.parametrize(
    ("text", "meant"), [("Lamp night", LAMPS), ("lamp NIGHT", LAMPS), ("raaaa", LAMPS), ("@bob", WITH_BOB)]
)
def test_a_room_is_named_by_name_start_of_its_id_or_the_other_s_handle(text: str, meant: NamedRoom) -> None:
    assert names.room(text, [LAMPS, WITH_BOB]) == meant.room


def test_a_name_of_two_rooms_lists_both_ids_and_chooses_none() -> None:
    with pytest.raises(CommandError, match=f"{LAMPS.room}, {LAMPS_TOO.room}"):
        names.room("Lamp night", [LAMPS, LAMPS_TOO, WITH_BOB])


def test_an_id_wins_over_a_room_that_is_called_like_it() -> None:
    imitation = NamedRoom(LAMPS_TOO.room, LAMPS.room, "")
    assert names.room(LAMPS.room, [LAMPS, imitation]) == LAMPS.room


@pytest.mark.parametrize("text", ["", "Cake", "raaa", "@erin", "r?"])
def test_a_name_of_no_room_is_not_found(text: str) -> None:
    with pytest.raises(CommandError) as refusal:
        names.room(text, [LAMPS, WITH_BOB])
    assert refusal.value.code == ExitCode.NOT_FOUND


def test_a_post_is_its_channel_and_its_number() -> None:
    assert names.channel_and_post("bridge_news/12") == ("bridge_news", 12)


@pytest.mark.parametrize("text", ["bridge_news", "bridge_news/", "bridge_news/0", "bridge_news/-1", "a/b/1", "/1"])
def test_what_names_no_post_is_refused_as_usage(text: str) -> None:
    with pytest.raises(CommandError, match="CHANNEL/NUMBER"):
        names.channel_and_post(text)


@pytest.mark.parametrize("text", ["cs123", "", "dc" + "a" * 26, "cs" + "a" * 26 + "\n"])
def test_what_is_no_case_is_refused_in_words(text: str) -> None:
    with pytest.raises(CommandError, match="heliograph case list"):
        names.case(text)


def test_an_id_of_a_case_or_a_decision_passes() -> None:
    identifier = "a" * 26
    assert names.case("cs" + identifier) == "cs" + identifier
    assert names.decision("dc" + identifier) == "dc" + identifier
