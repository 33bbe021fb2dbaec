import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from heliograph.cli.demo import story
from heliograph.cli.exit_codes import ExitCode

ROOT = Path(__file__).resolve().parents[2]
FOLLOWERS = 20
DEVICES = {"alice", "alice_tablet", "bob", "carol", "carol_phone", "dana", "erin"}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Generator[list[dict[str, Any]]]:
    """Play the whole demo once, as a process, and give everything that it told."""
    keep = tmp_path_factory.mktemp("demo") / "kept"
    command = (sys.executable, "-m", "heliograph.cli.app", "demo", "--json", "--keep", str(keep))
    ran = subprocess.run(
        (*command, "--followers", str(FOLLOWERS)), cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert ran.returncode == ExitCode.OK, ran.stderr + ran.stdout[-2000:]
    yield [json.loads(line) for line in ran.stdout.splitlines()]


def _checks(played: list[dict[str, Any]], act: int) -> list[dict[str, Any]]:
    return [line for line in played if line["type"] == "check" and line["act"] == act]


def _member(played: list[dict[str, Any]], name: str) -> Any:
    (found,) = [line[name] for line in played if name in line]
    return found


def test_the_main_job_is_played_to_its_end_and_everything_comes_out_as_promised(played: list[dict[str, Any]]) -> None:
    assert (played[-1]["type"], played[-1]["ok"]) == ("demo", True)
    assert [line["act"] for line in played if line["type"] == "act-ended"] == [1, 2, 3, 4, 5]
    assert all(line["ok"] for line in played if line["type"] == "check")


def test_every_device_holds_what_was_said_while_it_was_in_the_room(played: list[dict[str, Any]]) -> None:
    held = _member(played, "held")
    assert held.keys() == DEVICES
    assert held["erin"] < held["bob"] or held["bob"] < held["alice"]
    assert held["alice"] == held["carol_phone"] == held["dana"] == _checks(played, 1)[-1]["messages"]


def test_a_killed_device_had_read_a_part_and_then_catches_up(played: list[dict[str, Any]]) -> None:
    assert 0 < _member(played, "printed") < _checks(played, 1)[-1]["messages"]


def test_every_follower_reads_every_post_of_twelve_languages(played: list[dict[str, Any]]) -> None:
    assert len({line.language for line in story.POSTS}) == 12
    assert _member(played, "reads") == FOLLOWERS * len(story.POSTS)


def test_a_forged_report_is_refused_by_the_desk_and_by_the_server(played: list[dict[str, Any]]) -> None:
    told = " ".join(line["text"] for line in _checks(played, 3))
    assert "all PROVEN" in told
    assert "FORGED" in told
    assert "invalid-evidence" in told


def test_followers_are_cut_within_a_second_and_every_route_is_closed(played: list[dict[str, Any]]) -> None:
    assert _member(played, "last_cut_after_s") <= 1.0
    assert len(_member(played, "operations")) >= 10


def test_an_outsider_verifies_the_proof_and_no_tampered_copy_passes(played: list[dict[str, Any]]) -> None:
    told = [line["text"] for line in _checks(played, 5)]
    assert any("verifies the decision's proof" in text for text in told)
    assert sum("is refused" in text for text in told) == 4
