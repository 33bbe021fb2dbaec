import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.tlog.errors import ProofError
from heliograph.tlog.log import Log
from tests.tlog.nodes import Nodes, entries, grown


@given(steps=st.lists(st.integers(0, 20), max_size=8))
def test_appending_in_steps_gives_the_same_log_as_at_once(steps: list[int]) -> None:
    log, nodes = Log(), Nodes()
    items = entries(sum(steps))
    for step in steps:
        log, new = log.append(items[log.size : log.size + step])
        nodes.store(new)
    at_once, stored_at_once = grown(sum(steps))
    assert (log, nodes.hashes) == (at_once, stored_at_once.hashes)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 255, 256, 257])
def test_a_log_is_loaded_again_from_what_it_stored(size: int) -> None:
    log, nodes = grown(size)
    assert Log.load(size, nodes.read) == log


def test_appending_leaves_the_old_value_as_it_was() -> None:
    log, _ = grown(3)
    before = log.root
    log.append([b"more"])
    assert (log.size, log.root) == (3, before)


def test_a_log_stores_fewer_than_two_nodes_an_entry() -> None:
    _, nodes = grown(1000)
    assert len(nodes.hashes) < 2000


def test_a_frontier_that_does_not_fit_the_size_is_refused() -> None:
    with pytest.raises(ProofError):
        Log(3, (bytes(32),))
