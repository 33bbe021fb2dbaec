import json
from collections import Counter
from pathlib import Path

import pytest

from tests import vectors


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mls").mkdir()
    cases = [{"cipher_suite": suite} for suite in (1, 2, 3, 4)]
    (tmp_path / "mls" / "treekem.json").write_text(json.dumps(cases), encoding="utf-8")
    (tmp_path / "merkle").mkdir()
    (tmp_path / "merkle" / "b.bin").write_bytes(b"\x00")
    (tmp_path / "merkle" / "a.bin").write_bytes(b"\x01")
    monkeypatch.setenv("HELIOGRAPH_VECTORS", str(tmp_path))
    monkeypatch.setattr(vectors, "ran", Counter())
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_a_case_counts_only_when_its_test_got_through_it() -> None:
    with pytest.raises(ArithmeticError):
        for case in vectors.cases("mls/treekem.json", suites=(1, 2, 3)):
            if case["cipher_suite"] == 3:
                raise ArithmeticError

    assert vectors.ran == {"mls/treekem.json": 2}


@pytest.mark.usefixtures("folder")
def test_files_of_a_folder_are_found_in_order_and_count_one_each() -> None:
    loaded = [vectors.load(name) for name in vectors.paths("merkle")]

    assert loaded == [b"\x01", b"\x00"]
    assert vectors.ran == {"merkle": 2}


def test_a_suite_of_vectors_that_shrank_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "EXPECTED", {"merkle": 2, "mls/treekem.json": 33})

    assert vectors.missing(Counter({"merkle": 2, "mls/treekem.json": 32})) == ["mls/treekem.json: 32 of 33 vectors ran"]


def test_tests_without_their_vectors_are_skipped_in_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELIOGRAPH_VECTORS", str(tmp_path / "absent"))

    with pytest.raises(pytest.skip.Exception, match="set HELIOGRAPH_VECTORS"):
        vectors.load("merkle/a.bin")
    assert vectors.paths("merkle") == []
