import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.tlog import merkle
from heliograph.tlog.errors import ProofError
from tests.tlog.nodes import entries, grown
from tests.vectors import load, paths


def naive_root(items: list[bytes]) -> bytes:
    """The definition of RFC 9162 §2.1.1, written as it stands."""
    if not items:
        return hashlib.sha256().digest()
    if len(items) == 1:
        return hashlib.sha256(b"\x00" + items[0]).digest()
    split = 1
    while split * 2 < len(items):
        split *= 2
    return hashlib.sha256(b"\x01" + naive_root(items[:split]) + naive_root(items[split:])).digest()


def decoded(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def verify_vector(case: dict[str, Any]) -> None:
    proof = [decoded(one) for one in case["proof"] or []]
    if "leafIdx" in case:
        merkle.verify_inclusion(
            case["leafIdx"], case["treeSize"], decoded(case["leafHash"]), proof, decoded(case["root"])
        )
    else:
        merkle.verify_consistency(case["size1"], case["size2"], decoded(case["root1"]), decoded(case["root2"]), proof)


@pytest.mark.rule("RFC 9162 §2.1")
@pytest.mark.parametrize("path", [path for path in paths("merkle") if path.endswith(".json")])
def test_an_official_proof_is_accepted_or_refused_as_its_authors_say(path: str) -> None:
    case = load(path)
    if case["wantErr"]:
        with pytest.raises(ProofError):
            verify_vector(case)
    else:
        verify_vector(case)


@pytest.mark.rule("RFC 9162 §2.1.1")
@pytest.mark.parametrize("size", range(40))
def test_the_root_is_the_one_that_the_definition_gives(size: int) -> None:
    log, nodes = grown(size)
    assert log.root == naive_root(entries(size)) == merkle.root_hash(size, nodes.read)


@pytest.mark.rule("RFC 9162 §2.1.3")
@pytest.mark.parametrize("size", range(1, 40))
def test_every_entry_of_a_log_can_be_proved_and_no_other_in_its_place(size: int) -> None:
    log, nodes = grown(size)
    for index, entry in enumerate(entries(size)):
        proof = log.inclusion_proof(index, nodes.read)
        merkle.verify_inclusion(index, size, merkle.leaf_hash(entry), proof, log.root)
        with pytest.raises(ProofError):
            merkle.verify_inclusion(index, size, merkle.leaf_hash(b"another"), proof, log.root)


@pytest.mark.rule("RFC 9162 §2.1.4")
@pytest.mark.parametrize("size", range(1, 34))
def test_a_log_proves_that_it_continues_each_of_its_past_sizes(size: int) -> None:
    log, nodes = grown(size)
    for older in range(1, size + 1):
        older_root = merkle.root_hash(older, nodes.read)
        proof = log.consistency_proof(older, nodes.read)
        merkle.verify_consistency(older, size, older_root, log.root, proof)


@given(size=st.integers(2, 70), data=st.data())
def test_a_rewritten_past_has_no_consistency_proof(size: int, data: st.DataObject) -> None:
    log, nodes = grown(size)
    older = data.draw(st.integers(1, size - 1))
    proof = list(log.consistency_proof(older, nodes.read))
    position = data.draw(st.integers(0, len(proof) - 1))
    proof[position] = bytes([proof[position][0] ^ 1]) + proof[position][1:]
    with pytest.raises(ProofError):
        merkle.verify_consistency(older, size, merkle.root_hash(older, nodes.read), log.root, proof)


@pytest.mark.parametrize(("index", "size"), [(-1, 4), (4, 4), (0, 0)])
def test_an_entry_that_is_not_there_has_no_inclusion_proof(index: int, size: int) -> None:
    _, nodes = grown(4)
    with pytest.raises(ProofError, match="no entry"):
        merkle.inclusion_proof(index, size, nodes.read)


@pytest.mark.parametrize(("older", "size"), [(0, 4), (5, 4), (-1, 4)])
def test_there_is_no_consistency_proof_from_nothing_or_from_beyond(older: int, size: int) -> None:
    _, nodes = grown(4)
    with pytest.raises(ProofError, match="no consistency proof"):
        merkle.consistency_proof(older, size, nodes.read)


def test_the_empty_log_is_continued_by_every_log() -> None:
    log, _ = grown(3)
    merkle.verify_consistency(0, 3, merkle.EMPTY_ROOT, log.root, [])


def test_an_inner_node_cannot_be_passed_off_as_an_entry() -> None:
    left, right = merkle.leaf_hash(b"a"), merkle.leaf_hash(b"b")
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)


def test_a_size_beyond_any_log_is_refused_without_work() -> None:
    with pytest.raises(ProofError):
        merkle.verify_inclusion(0, 1 << 4000, bytes(32), [bytes(32)], bytes(32))
