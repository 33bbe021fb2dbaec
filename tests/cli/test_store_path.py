from pathlib import Path

import pytest

from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError
from heliograph.cli.store_path import MAX_SECRET_SIZE_BYTES, device_home, read_secret


def test_a_home_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    home = device_home(tmp_path / "with space" / "alice")
    assert home.stat().st_mode & 0o777 == 0o700


def test_a_home_that_other_users_may_enter_is_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "alice"
    open_to_all.mkdir()
    open_to_all.chmod(0o755)
    with pytest.raises(CommandError, match="open to other users"):
        device_home(open_to_all)


def test_the_home_lies_where_the_user_keeps_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert device_home(None) == tmp_path / "heliograph"


def test_a_secret_is_the_one_line_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "invitation"
    file.write_text("q7kX\n", encoding="utf-8")
    assert read_secret(file) == "q7kX"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", ExitCode.USAGE),
        (b"  \n", ExitCode.USAGE),
        (b"\xff\xfe", ExitCode.USAGE),
        (b"a" * (MAX_SECRET_SIZE_BYTES + 1), ExitCode.USAGE),
    ],
)
def test_a_file_that_holds_no_secret_is_refused_by_name(tmp_path: Path, content: bytes, code: ExitCode) -> None:
    file = tmp_path / "invitation"
    file.write_bytes(content)
    with pytest.raises(CommandError, match="invitation") as refusal:
        read_secret(file)
    assert refusal.value.code == code
