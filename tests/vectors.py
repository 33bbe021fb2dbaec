"""The official test vectors: where they are, how a test reads them, and how many really ran.

They are data of other projects (MLS working group, MIMI, transparency-dev), never copied into the tree. They
are looked for in `$HELIOGRAPH_VECTORS`, else in `../shared/vectors` beside the repository. Where neither
exists, the tests that need them are skipped, and the run says so in one line.

A suite of vectors that nobody runs is worse than none, so the ones that ran are counted. `load` counts a file
as one vector; `cases` walks a file that holds a list, and counts each element whose loop body got through:

    for case in vectors.cases("mls/treekem.json", vectors.SUITES):
        ...                                     # an exception here leaves the case uncounted

`tests/conftest.py` adds up the counts of all workers; a run of the whole suite fails when fewer ran
than `EXPECTED` says.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_REPOSITORY = Path(__file__).resolve().parent.parent

ABSENT = "official test vectors not found: set HELIOGRAPH_VECTORS to their folder"

# The cipher suites of RFC 9420 that are built, and those that are not, each with its reason.
SUITES = (1, 2, 3, 5, 7)
ABSENT_SUITES = {
    4: "X448 and Ed448: the `cryptography` package has no HPKE over X448",
    6: "X448 and Ed448: the `cryptography` package has no HPKE over X448",
}
# ... and with the post-quantum one, for which nobody else publishes MLS vectors.
EVERY_SUITE = (*SUITES, 0xF04E)

# Folder or file -> how many vectors a run of the whole suite must have gone through. A JSON file under `mls`
# stands for itself, without the suites that are absent; the other folders count one for each file, and `hpke-pq` one
# for each entry of a KEM that is built.
EXPECTED = {
    "mls/crypto-basics.json": 5,
    "mls/deserialization.json": 14,
    "mls/key-schedule.json": 5,
    "mls/message-protection.json": 5,
    "mls/messages.json": 300,
    "mls/psk_secret.json": 55,
    "mls/secret-tree.json": 15,
    "mls/transcript-hashes.json": 5,
    "mls/tree-math.json": 10,
    "mls/tree-operations.json": 5,
    "mls/tree-validation.json": 70,
    "mls/treekem.json": 55,
    "mls/welcome.json": 5,
    "mls/passive-client-welcome.json": 40,
    "mls/passive-client-handling-commit.json": 65,
    "hpke-pq": 5,
    "merkle": 196,
    "mimi-content": 29,
}

ran: Counter[str] = Counter()


def folder() -> Path:
    """Return the folder that should hold the vectors; it may not exist."""
    named = os.environ.get("HELIOGRAPH_VECTORS")
    return Path(named) if named else _REPOSITORY.parent / "shared" / "vectors"


def available() -> bool:
    """Tell whether the vectors are on this machine."""
    return folder().is_dir()


def load(relative: str) -> Any:
    """Return one vector file, parsed if it is JSON, else as bytes; skip the test where vectors are absent."""
    content = _read(relative)
    ran[_key(relative)] += 1
    return content


def cases(
    relative: str, suites: tuple[int, ...] | None = None, kems: tuple[int, ...] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the elements of a JSON list, counting each one whose loop body raised nothing.

    suites: only the elements of these cipher suites; None for all.
    kems: only the elements of these key encapsulation mechanisms of HPKE; None for all.
    """
    for case in _read(relative):
        if (suites is None or case["cipher_suite"] in suites) and (kems is None or case["kem_id"] in kems):
            yield case
            ran[_key(relative)] += 1


def private_key(case: dict[str, Any], name: str) -> bytes:
    """Return a private key of a case at the width that RFC 9180 §7.1.2 gives it.

    Those on P-521 were written without the zero byte in front that most of them have.
    """
    key = bytes.fromhex(case[name])
    return key.rjust(66, b"\0") if case["cipher_suite"] == 5 else key


def paths(relative: str) -> list[str]:
    """Return the sorted names of all files under a folder, relative to the vectors; empty where it is absent.

    Meant for `pytest.mark.parametrize`: it runs while tests are collected and therefore never skips.
    """
    root = folder()
    files = (path for path in (root / relative).rglob("*") if path.is_file())
    return sorted(path.relative_to(root).as_posix() for path in files)


def missing(counted: Counter[str]) -> list[str]:
    """Return one line for every kind of vector of which fewer ran than `EXPECTED`."""
    return [
        f"{key}: {counted[key]} of {expected} vectors ran"
        for key, expected in EXPECTED.items()
        if counted[key] < expected
    ]


def _read(relative: str) -> Any:
    if not available():
        pytest.skip(ABSENT)
    content = (folder() / relative).read_bytes()
    return json.loads(content) if relative.endswith(".json") else content


def _key(relative: str) -> str:
    return relative if relative.startswith("mls/") else relative.split("/", 1)[0]
