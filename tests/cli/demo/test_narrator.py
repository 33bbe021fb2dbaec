import json

import pytest

from heliograph.cli.demo.narrator import Narrator, WrongOutcome
from heliograph.cli.output import Output


def _told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_check_that_holds_is_told_with_its_act_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    narrator = Narrator(Output(as_json=True))
    with narrator.act(3, "Reports"):
        narrator.check(True, "it holds", number=7)
    told = _told(capsys)
    assert [line["type"] for line in told] == ["act", "check", "act-ended"]
    assert (told[1]["act"], told[1]["ok"], told[1]["number"], narrator.checks) == (3, True, 7, 1)


@pytest.mark.parametrize("way", ["check", "require"])
def test_the_first_wrong_outcome_is_told_and_ends_the_demo(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    narrator = Narrator(Output(as_json=True))
    with pytest.raises(WrongOutcome, match="the channel is blocked"), narrator.act(4, "A decision"):
        getattr(narrator, way)(False, "the channel is blocked")
    assert [line["ok"] for line in _told(capsys) if line["type"] == "check"] == [False]
    assert narrator.checks == 0


def test_what_people_say_cannot_steer_the_terminal_of_whoever_watches(capsys: pytest.CaptureFixture[str]) -> None:
    Narrator(Output(as_json=False)).quote("eve", "[bold]\x1b[2J[/bold]")
    assert capsys.readouterr().out.strip() == "eve: [bold]\\u001b[2J[/bold]"


def test_the_end_says_how_many_checks_held(capsys: pytest.CaptureFixture[str]) -> None:
    narrator = Narrator(Output(as_json=False))
    narrator.require(True, "it holds")
    narrator.end(ok=True)
    assert "1 checks" in capsys.readouterr().out
