import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.tlog.checkpoint import Checkpoint, sign_checkpoint
from heliograph.tlog.errors import ProofError
from heliograph.tlog.proof import TlogProof
from tests.tlog.keys import key_pair
from tests.tlog.nodes import entries, grown

ORIGIN = "chat.example/decisions"
KEY, SIGN = key_pair(ORIGIN)


def proof_of(index: int, size: int, extra: bytes = b"") -> TlogProof:
    log, nodes = grown(size)
    note = str(sign_checkpoint(Checkpoint(ORIGIN, size, log.root), KEY, SIGN))
    return TlogProof(index, log.inclusion_proof(index, nodes.read), note, extra)


@pytest.mark.rule("C2SP tlog-proof")
@pytest.mark.parametrize(("index", "size"), [(0, 1), (0, 2), (4, 5), (6, 11), (299, 300)])
def test_a_proof_written_and_read_again_proves_its_entry(index: int, size: int) -> None:
    proof = TlogProof.parse(str(proof_of(index, size)))
    assert proof.verify(entries(size)[index], KEY).size == size


@pytest.mark.rule("C2SP tlog-proof")
def test_a_proof_is_written_as_the_specification_shows() -> None:
    lines = str(proof_of(1, 3, b"more")).split("\n")
    assert lines[:3] == ["c2sp.org/tlog-proof@v1", "extra bW9yZQ==", "index 1"]
    assert lines[5:8] == ["", ORIGIN, "3"]


@given(index=st.integers(0, 2**62), hashes=st.lists(st.binary(min_size=32, max_size=32), max_size=63),
       extra=st.binary(max_size=40))  # fmt: skip
def test_any_proof_is_read_as_it_was_written(index: int, hashes: list[bytes], extra: bytes) -> None:
    proof = TlogProof(index, tuple(hashes), "origin\n1\nroot\n\nline\n", extra)
    assert TlogProof.parse(str(proof)) == proof


def test_a_proof_does_not_prove_another_entry() -> None:
    with pytest.raises(ProofError, match="does not lead"):
        proof_of(2, 7).verify(b"entry 3", KEY)


def test_a_proof_does_not_prove_its_entry_elsewhere_in_the_log() -> None:
    proof = proof_of(2, 8)
    with pytest.raises(ProofError):
        TlogProof(3, proof.hashes, proof.checkpoint).verify(b"entry 2", KEY)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("@v1", "@v2"),
        lambda text: text.replace("index 2", "index 02"),
        lambda text: text.replace("index 2", "index -2"),
        lambda text: text.replace("index 2", "Index 2"),
        lambda text: text.replace("index 2\n", ""),
        lambda text: text.replace("index 2\n", "index 2\nnot base64!\n"),
        lambda text: text.replace("index 2\n", "index 2\n" + "A" * 43 + "=\n" * 64),
        lambda text: text.replace("\n\n", "\n"),
        lambda text: text.partition("\n\n")[0],
        lambda text: "extra AAAA\n" + text,
        lambda text: text + "x" * 200_000,
        lambda text: "",
    ],
    ids=range(12),
)
def test_a_proof_written_in_any_other_way_is_refused(change) -> None:
    with pytest.raises(ProofError):
        TlogProof.parse(change(str(proof_of(2, 7)))).verify(b"entry 2", KEY)
