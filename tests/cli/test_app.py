import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from heliograph.cli.app import app, failures_become_exit_codes
from heliograph.cli.exit_codes import MEANINGS, ExitCode
from heliograph.cli.failure import CommandError
from heliograph.cli.serve import parse_listen
from heliograph.mls.errors import ValidationError
from heliograph.server.limits import Limits, load_limits
from heliograph.wire.problems import PROBLEMS, Problem

ROOT = Path(__file__).resolve().parents[2]
runner = CliRunner()


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*path, name))


COMMANDS = dict(_commands(typer.main.get_command(app)))


@pytest.mark.bad_input(137)
@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
    told = runner.invoke(app, [*path, "--help"], prog_name="heliograph")

    assert told.exit_code == 0
    assert "usage: heliograph" in (told.output + capfd.readouterr().out).lower()


@pytest.mark.bad_input(137)
@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_an_unknown_option_is_refused_as_usage_on_standard_error(path: tuple[str, ...]) -> None:
    told = runner.invoke(app, [*path, "--no-such-option"])

    assert (told.exit_code, told.stdout) == (ExitCode.USAGE, "")
    assert "--no-such-option" in told.stderr or "FILE" in told.stderr


@pytest.mark.bad_input(144)
def test_no_command_takes_a_secret_as_an_argument() -> None:
    secret_words = ("token", "secret", "password", "passphrase", "invitation", "recovery", "code", "private")
    taken = [
        f"{' '.join(path)} {name}"
        for path, command in COMMANDS.items()
        for parameter in command.params
        for name in (*parameter.opts, parameter.name)
        if any(word in name for word in secret_words) and not name.endswith(("-file", "_file"))
    ]

    assert taken == []


@pytest.mark.parametrize("slug", PROBLEMS)
def test_what_a_server_refuses_ends_in_a_sentence_and_a_code_of_the_table(
    slug: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, failures_become_exit_codes():
        raise Problem(slug, "because \x1b[31mof this")

    assert ExitCode(ended.value.exit_code) in MEANINGS
    assert capsys.readouterr().err == f"heliograph: {PROBLEMS[slug].title}; because \\u001b[31mof this\n"


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (CommandError(ExitCode.NO_ACCOUNT, "no account"), ExitCode.NO_ACCOUNT),
        (ValidationError("bad leaf"), ExitCode.NOT_VERIFIED),
        (ConnectionRefusedError("refused"), ExitCode.TRY_AGAIN),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
    ],
)
def test_each_way_to_fail_has_its_exit_code(raised: BaseException, code: ExitCode) -> None:
    with pytest.raises(typer.Exit) as ended, failures_become_exit_codes():
        raise raised

    assert ended.value.exit_code == code


@pytest.mark.bad_input(142)
def test_a_reader_that_stops_reading_ends_the_command_in_silence() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [sys.executable, "-m", "heliograph.cli.app", "admin", "limits"],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
        cwd=ROOT,
    )
    os.close(writer)

    assert (ran.returncode, ran.stderr) == (ExitCode.PIPE_CLOSED, b"")


@pytest.mark.bad_input(127)
@pytest.mark.parametrize("listen", ["0.0.0.0:8470", "[::]:8470", "192.0.2.1:80", "chat.example:443"])
def test_an_address_that_others_reach_needs_tls_in_front(listen: str) -> None:
    with pytest.raises(CommandError, match="--behind-proxy"):
        parse_listen(listen, behind_proxy=False)
    assert parse_listen(listen, behind_proxy=True)[1] == int(listen.rpartition(":")[2])


@pytest.mark.parametrize("listen", ["8470", ":8470", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536"])
def test_an_address_without_host_or_port_is_refused_as_usage(listen: str) -> None:
    with pytest.raises(CommandError, match="not an address and a port"):
        parse_listen(listen, behind_proxy=False)


def test_the_limits_that_are_printed_are_a_limits_file(tmp_path: Path) -> None:
    printed = runner.invoke(app, ["admin", "limits"])
    file = tmp_path / "limits.toml"
    file.write_text(printed.stdout, encoding="utf-8")

    assert load_limits(file) == Limits()


@pytest.mark.bad_input(125)
def test_a_limits_file_with_an_unknown_key_is_refused_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    file.write_text("sokets = 5\n", encoding="utf-8")

    told = runner.invoke(app, ["admin", "limits", "--limits", str(file)])

    assert told.exit_code == ExitCode.USAGE
    assert "sokets" in told.stderr
