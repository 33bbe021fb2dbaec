import json
import subprocess
import sys
from pathlib import Path

import pytest

from heliograph.cli import verify
from heliograph.cli.exit_codes import ExitCode
from tests.tlog.test_verify import VKEY, bundle

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    file = tmp_path / "proof with spaces.json"
    file.write_text(bundle(), encoding="utf-8")
    return file


def test_a_sound_proof_is_verified_and_told_in_sentences(proof: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([str(proof), "--key", VKEY]) == ExitCode.OK
    assert "VERIFIED. This decision stands in the log." in capsys.readouterr().out


def test_a_program_gets_one_object_that_says_whether_the_key_was_its_own(
    proof: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify.main([str(proof), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["holds"], told["decision"], told["index"], told["key_pinned"]) == (True, "dc1", 4, False)


def test_a_changed_proof_is_refused_with_the_code_for_not_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "proof.json"
    changed.write_text(bundle(subject="c2"), encoding="utf-8")

    assert verify.main([str(changed)]) == ExitCode.NOT_VERIFIED
    assert "NOT VERIFIED" in capsys.readouterr().err


def test_a_missing_file_has_a_code_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([str(tmp_path / "none.json")]) == ExitCode.NOT_FOUND
    assert "No such file" in capsys.readouterr().err


def test_the_codes_of_the_standalone_command_are_those_of_all_commands() -> None:
    standalone = (verify.HOLDS, verify.USAGE, verify.NOT_FOUND, verify.NOT_VERIFIED)
    assert standalone == (ExitCode.OK, ExitCode.USAGE, ExitCode.NOT_FOUND, ExitCode.NOT_VERIFIED)


def test_a_proof_is_verified_by_python_alone_with_no_package_installed(proof: Path) -> None:
    # -I -S: no site-packages, no environment, no user folder; the source tree is the only addition.
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    program += "from heliograph.cli import verify; sys.exit(verify.main())"
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(proof), "--key", VKEY],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "VERIFIED" in ran.stdout


@pytest.mark.bad_input(142)
def test_a_closed_standard_input_is_refused_as_a_proof() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "heliograph.cli.verify", "-"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (ran.returncode, ran.stdout) == (ExitCode.NOT_VERIFIED, "")
    assert "NOT VERIFIED" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.bad_input(138)
def test_a_path_that_begins_with_a_dash_is_a_path_after_two_dashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-proof.json").write_text(bundle(), encoding="utf-8")

    assert verify.main(["--key", VKEY, "--", "-proof.json"]) == ExitCode.OK


def test_a_proof_cannot_steer_the_terminal_that_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = tmp_path / "proof.json"
    hostile.write_text(bundle(**{"\x1b[2J": 1}), encoding="utf-8")

    verify.main([str(hostile)])

    assert "\x1b" not in "".join(capsys.readouterr())
