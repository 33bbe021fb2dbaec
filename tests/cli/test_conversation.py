import subprocess
from pathlib import Path

import pytest

from heliograph.cli import device
from heliograph.cli.exit_codes import ExitCode
from tests.cli.served import HELIOGRAPH, ROOT, Town, served, town

__all__ = ["town"]


@pytest.fixture(scope="module")
def people(town: Town) -> Town:
    """Alice, who may write to Bob, and the two in a room."""
    for handle in ("alice", "bob"):
        town.newcomer(handle)
    assert town.run("bob", "account", "allow", "alice").code == ExitCode.OK
    town.json("alice", "room", "create", "Lamp night", "bob").one()
    return town


def test_a_new_account_prints_who_it_is_and_its_recovery_code_once(town: Town) -> None:
    founded = town.newcomer("olga")
    shown = town.json("olga", "account", "show").one()

    assert (founded["handle"], founded["domain"], len(founded["recovery_code"])) == ("olga", "town.example", 34)
    assert {name: founded[name] for name in ("account", "device")} == {
        name: shown[name] for name in ("account", "device")
    }
    assert "recovery_code" not in shown


def test_a_lost_account_comes_back_with_its_recovery_code_alone(town: Town) -> None:
    founded = town.newcomer("wanda")
    back = town.json("wanda_again", "account", "recover", "wanda", "--code-file", "-", given=founded["recovery_code"])
    devices = town.json("wanda_again", "account", "devices").lines

    assert back.one()["account"] == founded["account"]
    assert [one["device"] for one in devices] == [back.one()["device"]]
    assert town.run("wanda", "account", "devices").code == ExitCode.NO_ACCOUNT


def test_another_recovery_code_brings_no_account_back(town: Town) -> None:
    town.newcomer("sven")
    other = town.newcomer("tina")["recovery_code"]
    refused = town.run("tom", "account", "recover", "sven", "--code-file", "-", given=other)
    assert refused.code == ExitCode.NO_ACCOUNT
    assert town.run("tom", "account", "show").code == ExitCode.NO_ACCOUNT


def test_a_home_holds_one_device(town: Town) -> None:
    town.newcomer("petra")
    again = town.run("petra", "account", "create", "petra_two")
    assert again.code == ExitCode.NO_ACCOUNT
    assert "choose another place" in again.err


def test_a_handle_that_is_taken_leaves_no_half_device_behind(people: Town) -> None:
    refused = people.run("thief", "account", "create", "alice")
    assert (refused.code, "handle" in refused.err) == (ExitCode.REFUSED, True)
    people.newcomer("thief")


def test_what_one_sends_the_other_receives_once(people: Town) -> None:
    people.json("bob", "receive")
    people.json("alice", "send", "Lamp night", "Who brings the oil?").one()

    came = [line for line in people.json("bob", "receive").lines if line["type"] == "message"]
    again = people.json("bob", "receive").lines

    assert [(line["handle"], line["text"]) for line in came] == [("alice", "Who brings the oil?")]
    assert again == []


def test_people_read_the_name_of_the_room(people: Town) -> None:
    people.run("bob", "receive")
    people.json("alice", "send", "Lamp night", "At nine.").one()
    assert "[Lamp night] @alice: At nine." in people.run("bob", "receive").out


def test_a_message_can_come_through_a_pipe_in_many_lines(people: Town) -> None:
    people.json("alice", "send", "Lamp night", given="one\ntwo\n").one()
    history = people.json("alice", "room", "history", "Lamp night").lines
    assert history[-1]["text"] == "one\ntwo"


def test_history_is_the_same_on_both_sides(people: Town) -> None:
    people.json("bob", "send", "Lamp night", "I do.").one()
    alice, bob = (people.json(who, "room", "history", "lamp night").lines for who in ("alice", "bob"))
    assert [(line["seq"], line["text"]) for line in alice] == [(line["seq"], line["text"]) for line in bob]
    assert [line["seq"] for line in alice] == sorted({line["seq"] for line in alice})


def test_a_second_device_joins_its_account_s_rooms_by_three_commands_in_pipes(people: Town) -> None:
    request = people.run("bob_phone", "account", "prepare-device", "bob").out
    grant = people.run("bob", "account", "add-device", "-", given=request).out
    finished = people.json("bob_phone", "account", "finish-device", given=grant).one()
    room = people.json("bob_phone", "room", "list").lines

    assert finished["handle"] == "bob"
    assert [(one["name"], one["members"]) for one in room] == [("Lamp night", 2)]
    devices = people.json("bob", "account", "devices").lines
    assert {line["device"] for line in devices} == {finished["device"], *(_own(devices))}


def _own(devices: list[dict[str, str]]) -> list[str]:
    return [line["device"] for line in devices if line["this_one"] == "yes"]


def test_a_removed_device_is_out_of_the_account_and_of_the_room(town: Town) -> None:
    town.newcomer("rita")
    room = town.json("rita", "room", "create", "Alone").one()["room"]
    request = town.run("rita_phone", "account", "prepare-device", "rita").out
    grant = town.run("rita", "account", "add-device", given=request).out
    phone = town.json("rita_phone", "account", "finish-device", given=grant).one()["device"]

    assert town.run("rita", "account", "remove-device", phone).code == ExitCode.OK

    members = town.json("rita", "room", "members", room).lines
    assert phone not in members[0]["devices"]
    assert town.run("rita_phone", "room", "list").code == ExitCode.NO_ACCOUNT


def test_a_contact_token_stands_in_for_consent_and_travels_in_a_file(people: Town, tmp_path: Path) -> None:
    people.newcomer("erin")
    secret = people.json("erin", "account", "invite").one()["contact_token"]
    refused = people.run("alice", "room", "add", "Lamp night", "erin")
    file = tmp_path / "from erin"
    file.write_text(secret + "\n", encoding="utf-8")
    added = people.run("alice", "room", "add", "Lamp night", "erin", "--contact-token-file", str(file))

    assert (refused.code, added.code) == (ExitCode.REFUSED, ExitCode.OK)
    seen = people.json("erin", "room", "members", "Lamp night")
    assert seen.code == ExitCode.OK, seen.err + people.run("erin", "receive").out
    handles = {line["handle"] for line in seen.lines}
    assert handles == {"alice", "bob", "erin"}


def test_a_removed_person_reads_no_more(people: Town) -> None:
    people.newcomer("frank")
    people.run("frank", "account", "allow", "alice")
    people.json("alice", "room", "create", "Brief", "frank").one()
    people.run("alice", "send", "Brief", "before")
    people.json("frank", "receive")
    assert people.run("alice", "room", "remove", "Brief", "frank").code == ExitCode.OK
    people.run("alice", "send", "Brief", "after")

    told = people.json("frank", "receive").lines

    assert [line["type"] for line in told] == ["room-left"]


def test_a_direct_room_is_named_by_the_other_s_handle(people: Town) -> None:
    people.json("alice", "room", "direct", "bob").one()
    people.json("alice", "send", "@bob", "just us").one()
    told = [line for line in people.json("bob", "receive").lines if line["type"] == "message"]
    assert told[-1]["text"] == "just us"


def test_a_renamed_room_has_its_new_name_on_both_sides(people: Town) -> None:
    people.newcomer("gina")
    people.run("gina", "account", "allow", "alice")
    people.json("alice", "room", "create", "Old name", "gina").one()
    people.run("alice", "room", "rename", "Old name", "New name", "--topic", "of things")
    names = {line["name"] for line in people.json("gina", "room", "list").lines}
    assert names == {"New name"}


def test_who_leaves_a_room_is_out_of_it(people: Town) -> None:
    people.newcomer("hanna")
    people.run("hanna", "account", "allow", "alice")
    people.json("alice", "room", "create", "Short", "hanna").one()
    people.json("hanna", "receive")
    assert people.run("hanna", "room", "leave", "Short").code == ExitCode.OK
    people.json("alice", "receive")
    members = {line["handle"] for line in people.json("alice", "room", "members", "Short").lines}
    assert members == {"alice"}


@pytest.mark.bad_input(145)
def test_a_handle_in_foreign_letters_asks_for_the_id_and_does_nothing(people: Town) -> None:
    refused = people.run("alice", "room", "add", "Lamp night", "еrin")  # the first letter is Cyrillic
    assert refused.code == ExitCode.USAGE
    assert "U+0435" in refused.err


@pytest.mark.bad_input(145)
def test_an_account_of_another_server_is_not_looked_up_here(people: Town) -> None:
    uri = "mimi://elsewhere.example/u/" + "b" * 52
    refused = people.run("alice", "room", "direct", uri)
    assert refused.code == ExitCode.USAGE
    assert "elsewhere.example" in refused.err


@pytest.mark.bad_input(144)
@pytest.mark.parametrize("option", ["--invitation", "--recovery-code", "--token", "--contact-token"])
def test_a_secret_in_an_argument_is_refused_before_anything_is_done(town: Town, option: str) -> None:
    refused = town.run("nobody", "account", "create", "nobody", option, "s3cret")
    assert refused.code == ExitCode.USAGE
    assert "s3cret" not in refused.out


@pytest.mark.bad_input(138)
@pytest.mark.parametrize("name", ["with space", "with\nnewline", "-leading"])
def test_a_home_may_lie_at_any_path(town: Town, name: str, tmp_path: Path) -> None:
    handle = f"walker_{abs(hash(name)) % 10_000}"
    founded = town.json(str(tmp_path / name), "account", "create", handle).one()
    assert founded["handle"] == handle


@pytest.mark.bad_input(142)
def test_a_closed_standard_input_sends_nothing(people: Town) -> None:
    before = people.json("alice", "room", "history", "Lamp night").lines
    refused = subprocess.run(
        (*HELIOGRAPH, "--home", str(people.home("alice")), "send", "Lamp night"),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (refused.returncode, "Traceback" in refused.stderr) == (ExitCode.USAGE, False)
    assert people.json("alice", "room", "history", "Lamp night").lines == before


def test_without_an_account_a_command_says_so(town: Town) -> None:
    refused = town.run("stranger", "room", "list")
    assert refused.code == ExitCode.NO_ACCOUNT
    assert "register" in refused.err


@pytest.mark.bad_input(143)
def test_two_commands_at_once_on_one_device_take_turns(people: Town) -> None:
    command = (*HELIOGRAPH, "--home", str(people.home("alice")), "send", "Lamp night")
    both = [subprocess.Popen((*command, f"at once {number}"), cwd=ROOT) for number in range(2)]
    assert [one.wait(30) for one in both] == [ExitCode.OK, ExitCode.OK]
    said = [line["text"] for line in people.json("bob", "room", "history", "Lamp night").lines]
    assert {"at once 0", "at once 1"} <= set(said)


def test_a_device_that_another_command_holds_for_long_is_busy(people: Town) -> None:
    command = (*HELIOGRAPH, "--home", str(people.home("bob")), "receive", "--follow", "--json")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        people.json("alice", "send", "Lamp night", "are you there?").one()
        follower.stdout.readline()
        refused = people.run("bob", "room", "list")
        follower.terminate()
    assert refused.code == ExitCode.BUSY


def test_what_was_said_can_be_read_while_the_server_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "SYNC_WITHIN_S", 0.5)
    monkeypatch.setattr(device, "PATIENCE_S", 1)
    with served(tmp_path / "server", "--registration", "open") as announced:
        away = Town(tmp_path, announced["url"], "")
        away.newcomer("alone")
        away.json("alone", "room", "create", "Diary").one()
        away.json("alone", "send", "Diary", "Dear diary").one()

    history = away.json("alone", "room", "history", "Diary")

    assert (history.code, [line["text"] for line in history.lines]) == (ExitCode.OK, ["Dear diary"])
    assert "cannot be reached" in history.err
    assert away.run("alone", "account", "show").code == ExitCode.OK
    assert away.run("other", "account", "create", "other").code == ExitCode.TRY_AGAIN
    assert away.run("other", "channel", "list", "--all", "--server", away.url).code == ExitCode.TRY_AGAIN


def test_what_is_said_while_the_server_is_away_goes_out_with_a_later_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path / "server", "--registration", "open") as announced:
        away = Town(tmp_path, announced["url"], "")
        away.newcomer("alone")
        away.json("alone", "room", "create", "Diary").one()
    with monkeypatch.context() as hasty:
        hasty.setattr(device, "SYNC_WITHIN_S", 0.5)
        hasty.setattr(device, "PATIENCE_S", 1.5)
        refused = away.run("alone", "send", "Diary", "later")
    port = away.url.rpartition(":")[2]
    with served(tmp_path / "server", "--registration", "open", "--listen", f"127.0.0.1:{port}"):
        away.run("alone", "receive")
        history = away.json("alone", "room", "history", "Diary").lines

    assert refused.code == ExitCode.TRY_AGAIN
    assert [(line["text"], line["state"]) for line in history] == [("later", "sent")]
