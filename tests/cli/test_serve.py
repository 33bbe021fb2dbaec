import socket
import subprocess
from pathlib import Path

import pytest

from heliograph.cli.exit_codes import ExitCode
from tests.cli.served import HELIOGRAPH, ROOT, WITHIN_S, served


def _refused(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*HELIOGRAPH, "serve", *arguments),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_S,
    )


def test_a_new_server_announces_its_address_and_an_invitation_until_there_is_an_administrator(tmp_path: Path) -> None:
    with served(tmp_path / "data") as first:
        assert first["url"].startswith("http://127.0.0.1:")
    with served(tmp_path / "data") as second:
        assert second["first_invitation"] not in (None, first["first_invitation"])


@pytest.mark.bad_input(130)
def test_a_second_server_on_the_same_data_is_refused_as_busy(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with served(data):
        told = _refused("--data", str(data), "--listen", "127.0.0.1:0")
    assert (told.returncode, told.stdout) == (ExitCode.BUSY, "")
    assert "another server is running" in told.stderr


def test_an_address_in_use_is_refused_by_name(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        told = _refused("--data", str(tmp_path / "data"), "--listen", place)
    assert told.returncode == ExitCode.BUSY
    assert place in told.stderr
    assert "Traceback" not in told.stderr


def test_a_server_keeps_the_domain_of_its_first_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with served(data, "--domain", "one.example"):
        pass
    told = _refused("--data", str(data), "--listen", "127.0.0.1:0", "--domain", "two.example")
    assert told.returncode == ExitCode.USAGE
    assert "one.example" in told.stderr


@pytest.mark.bad_input(126)
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with served(data):
        pass
    secret = next((data / "secrets").iterdir())
    secret.chmod(0o644)
    told = _refused("--data", str(data), "--listen", "127.0.0.1:0")
    assert told.returncode == ExitCode.REFUSED
    assert secret.name in told.stderr


@pytest.mark.bad_input(125)
@pytest.mark.parametrize("line", ["sokets = 5", "sockets = -1", "sockets = 'many'", "sockets = 1e400", "sockets ="])
def test_a_limits_file_with_a_wrong_line_stops_the_start(line: str, tmp_path: Path) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text(line + "\n", encoding="utf-8")
    told = _refused("--data", str(tmp_path / "data"), "--listen", "127.0.0.1:0", "--limits", str(limits))
    assert told.returncode == ExitCode.USAGE
    assert "limits.toml" in told.stderr
