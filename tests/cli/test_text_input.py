import io
import sys
from pathlib import Path

import pytest

from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError
from heliograph.cli.text_input import MAX_TEXT_SIZE_BYTES, read_text_file, text_or_input


def _give_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


@pytest.mark.parametrize("asked", [None, "-"])
def test_text_comes_from_standard_input_without_its_last_line_break(
    asked: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _give_input(monkeypatch, b"zwei\nZeilen\n")
    assert text_or_input(asked, "message", 100) == "zwei\nZeilen"


@pytest.mark.bad_input(142)
def test_a_closed_standard_input_is_refused_as_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CommandError, match="there is no message") as refusal:
        text_or_input(None, "message", 100)
    assert refusal.value.code == ExitCode.USAGE


@pytest.mark.parametrize("data", [b"", b"  \n", b"\xff\xfe", b"a" * 101])
def test_input_that_is_empty_too_long_or_no_text_is_refused(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    _give_input(monkeypatch, data)
    with pytest.raises(CommandError, match="the message is"):
        text_or_input("-", "message", 100)


@pytest.mark.bad_input(40)
def test_half_a_surrogate_in_an_argument_is_refused_as_no_text() -> None:
    with pytest.raises(CommandError, match="not UTF-8"):
        text_or_input("a\udce9", "message", 100)


def test_a_file_that_holds_a_dash_is_not_standard_input(tmp_path: Path) -> None:
    file = tmp_path / "grant"
    file.write_text("-", encoding="utf-8")
    assert read_text_file(file, "grant") == "-"


def test_a_file_larger_than_any_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "grant"
    file.write_bytes(b"a" * (MAX_TEXT_SIZE_BYTES + 1))
    with pytest.raises(CommandError, match="longer than"):
        read_text_file(file, "grant")


@pytest.mark.bad_input(138)
@pytest.mark.parametrize("name", ["a grant", "a\ngrant", "-grant"])
def test_a_file_may_be_called_anything(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text("text\n", encoding="utf-8")
    assert read_text_file(file, "grant").strip() == "text"
