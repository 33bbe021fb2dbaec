"""The two peers of a test run, one process each: ts-mls with the mends that RFC 9420 asks for, and as it is."""

from collections.abc import Generator

import pytest

from tests.interop.peer import Peer, why_absent


@pytest.fixture(scope="session")
def peer() -> Generator[Peer]:
    with _started(as_it_is=False) as peer:
        yield peer


@pytest.fixture(scope="session")
def peer_as_it_is() -> Generator[Peer]:
    with _started(as_it_is=True) as peer:
        yield peer


def _started(*, as_it_is: bool) -> Peer:
    if reason := why_absent():
        pytest.skip(reason)
    return Peer(as_it_is=as_it_is)
