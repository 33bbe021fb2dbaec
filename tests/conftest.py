"""What every test shares: the markers, the count of official vectors, and a few plain fixtures.

Markers
    rule("RFC 9420 §12.2", "reinit-alone")   the protocol rule that the test holds us to: a section, and the name of a
                                             rule where the section is broken down (`tests/mls/rules.py`)
    bad_input(62)                            the number of a hostile input in the bad-input catalogue (1 to 145)

The vectors that ran are counted in each worker and added up here (see `tests/vectors.py`). A run of the whole
suite fails when fewer ran than expected. Where the vectors are absent it says so in one line and passes,
unless HELIOGRAPH_REQUIRE_VECTORS=1.
"""

import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests import vectors

_counted: Counter[str] = Counter()
_WORKER_KEY = "heliograph_vectors"


@pytest.fixture
def seeded_random() -> Callable[[int], bytes]:
    """Return a source of repeatable bytes, for code that takes `random: Callable[[int], bytes]`."""
    return random.Random(0x48454C494F).randbytes


@pytest.fixture
def now_s() -> int:
    """Return a fixed time in seconds since 1970 UTC, for code that takes `now_s`."""
    return 1_790_000_000


@pytest.fixture
def now_ms(now_s: int) -> int:
    """Return the same fixed time in milliseconds."""
    return now_s * 1000


def pytest_testnodedown(node: Any, error: object) -> None:
    """Add what an xdist worker counted."""
    _counted.update(getattr(node, "workeroutput", {}).get(_WORKER_KEY, {}))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the worker's count over, or judge the sum in the process that holds all counts."""
    workeroutput: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if workeroutput is not None:
        workeroutput[_WORKER_KEY] = dict(vectors.ran)
        return
    _counted.update(vectors.ran)
    if _too_few(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say in one line how many vectors ran, or that there were none to run."""
    if not vectors.available():
        terminalreporter.write_line(vectors.ABSENT)
    elif _counted:
        terminalreporter.write_line(f"official vectors: {sum(_counted.values())} ran")
    for line in _too_few(config):
        terminalreporter.write_line(f"too few official vectors: {line}", red=True)


def _too_few(config: pytest.Config) -> list[str]:
    if not vectors.available():
        return [vectors.ABSENT] if os.environ.get("HELIOGRAPH_REQUIRE_VECTORS") == "1" else []
    return vectors.missing(_counted) if _is_whole_run(config) else []


def _is_whole_run(config: pytest.Config) -> bool:
    option = config.option
    chosen = option.keyword or option.markexpr or getattr(option, "lf", False) or option.collectonly
    return not chosen and list(config.args) in (["tests"], list(config.getini("testpaths")))
