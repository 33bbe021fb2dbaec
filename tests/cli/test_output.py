import json

import pytest

from heliograph.cli.output import Output, printable


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\x9b2J", "\r", "\x07", "\u202egnp.exe", "\u2066", "\u2028", "\x00"])
def test_a_stranger_s_text_cannot_steer_the_terminal(hostile: str) -> None:
    assert printable(f"a{hostile}b").isprintable()


@pytest.mark.parametrize("text", ["naïve", "привет", "مرحبا", "שלום", "नमस्ते", "می‌خواهم", "👩‍👩‍👧"])
def test_every_language_is_printed_as_it_was_written(text: str) -> None:
    assert printable(text) == text


def test_a_program_reads_one_object_a_line_with_bytes_as_base64url(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).tell("message", "for people", text="a\nb", key=b"\xff\xfe")
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [{"type": "message", "text": "a\nb", "key": "__4"}]


def test_a_table_is_aligned_for_people_and_one_object_a_row_for_programs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Output(as_json=False).table("room", ["room", "people"], [["r1", 5], ["r22222", 12]])
    assert capsys.readouterr().out == "room    people\nr1      5\nr22222  12\n"

    Output(as_json=True).table("room", ["room", "people"], [["r1", 5]])
    assert json.loads(capsys.readouterr().out) == {"type": "room", "room": "r1", "people": 5}
