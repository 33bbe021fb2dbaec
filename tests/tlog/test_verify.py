import json
from dataclasses import replace
from typing import Any

import pytest

from heliograph.tlog.checkpoint import Checkpoint, sign_checkpoint
from heliograph.tlog.decision_leaf import commitment_text
from heliograph.tlog.errors import ProofError
from heliograph.tlog.log import Log
from heliograph.tlog.proof import TlogProof
from heliograph.tlog.verify import DecisionProof, verify_decision
from tests.tlog.keys import key_pair
from tests.tlog.nodes import Nodes
from tests.tlog.test_decision_leaf import LEAF, NONCE

ORIGIN = "chat.example/decisions"
KEY, SIGN = key_pair(ORIGIN)
VKEY = KEY.vkey()
OTHER_LEAF = replace(LEAF, language="fr", commitment=commitment_text(NONCE, "dc2", "c2"))


def decisions_log() -> tuple[Log, Nodes]:
    nodes = Nodes()
    others = [replace(LEAF, commitment=commitment_text(NONCE, f"dc{n}", "c")).encode() for n in range(90, 97)]
    log, new = Log().append([*others[:4], LEAF.encode(), OTHER_LEAF.encode(), *others[4:]])
    nodes.store(new)
    return log, nodes


def bundle(**changes: Any) -> str:
    """The JSON of a sound bundle for entry 4, with members changed."""
    log, nodes = decisions_log()
    note = str(sign_checkpoint(Checkpoint(ORIGIN, log.size, log.root), KEY, SIGN))
    proof = TlogProof(4, log.inclusion_proof(4, nodes.read), note)
    sound = DecisionProof(ORIGIN, VKEY, LEAF.encode(), 4, NONCE, "dc1", "c1", str(proof))
    members = {**sound.members(), **changes}
    return json.dumps({name: value for name, value in members.items() if value is not ...})


def test_a_decision_is_proved_offline_under_the_key_that_the_verifier_brought() -> None:
    report = verify_decision(bundle(), [VKEY])
    assert (report.decision, report.subject, report.index, report.leaf) == ("dc1", "c1", 4, LEAF)
    assert (report.checkpoint.origin, report.checkpoint.size) == (ORIGIN, 9)
    assert report.pinned


def test_without_a_key_of_ones_own_the_report_says_that_it_is_not_pinned() -> None:
    report = verify_decision(bundle())
    assert (report.pinned, report.verifier_key) == (False, VKEY)


def test_a_bundle_under_another_key_than_the_trusted_one_is_refused() -> None:
    stranger, _ = key_pair(ORIGIN, 7)
    with pytest.raises(ProofError, match="not among the keys you trust"):
        verify_decision(bundle(), [stranger.vkey()])


def test_a_forged_log_under_the_forger_s_own_key_does_not_pass_for_the_trusted_log() -> None:
    forger, forger_sign = key_pair(ORIGIN, 7)
    log, nodes = decisions_log()
    note = str(sign_checkpoint(Checkpoint(ORIGIN, log.size, log.root), forger, forger_sign))
    proof = str(TlogProof(4, log.inclusion_proof(4, nodes.read), note))
    with pytest.raises(ProofError, match="no signature of a key that is trusted"):
        verify_decision(bundle(proof=proof), [VKEY])


def test_a_changed_leaf_is_not_in_the_log() -> None:
    changed = DecisionProof.parse(bundle())
    members = replace(changed, leaf=replace(LEAF, subscribers="0-9").encode()).members()
    with pytest.raises(ProofError, match="does not lead from this entry"):
        verify_decision(json.dumps(members), [VKEY])


def test_another_decision_s_leaf_does_not_open_to_this_decision() -> None:
    log, nodes = decisions_log()
    note = str(sign_checkpoint(Checkpoint(ORIGIN, log.size, log.root), KEY, SIGN))
    proof = TlogProof(5, log.inclusion_proof(5, nodes.read), note)
    swapped = DecisionProof(ORIGIN, VKEY, OTHER_LEAF.encode(), 5, NONCE, "dc1", "c1", str(proof))
    with pytest.raises(ProofError, match="commits to another decision or subject"):
        verify_decision(json.dumps(swapped.members()), [VKEY])


@pytest.mark.parametrize("name", ["decision", "subject"])
def test_another_decision_or_subject_does_not_open_the_commitment(name: str) -> None:
    with pytest.raises(ProofError, match="commits to another"):
        verify_decision(bundle(**{name: "c9"}), [VKEY])


def test_another_nonce_does_not_open_the_commitment() -> None:
    with pytest.raises(ProofError, match="commits to another"):
        verify_decision(bundle(nonce="A" * 43), [VKEY])


def test_the_bundle_and_its_proof_must_speak_of_one_entry() -> None:
    with pytest.raises(ProofError, match="different entries"):
        verify_decision(bundle(index=5), [VKEY])


def test_a_key_named_for_another_log_is_refused() -> None:
    with pytest.raises(ProofError, match="another log"):
        verify_decision(bundle(log="other.example/decisions"), [VKEY])


@pytest.mark.parametrize("name", list(json.loads(bundle())))
@pytest.mark.parametrize("value", [..., None, 5.5, -1, [], {}, True, "\u0000", "%"], ids=repr)
@pytest.mark.bad_input(45)
def test_a_bundle_with_a_missing_or_wrong_member_is_refused(name: str, value: object) -> None:
    with pytest.raises(ProofError):
        verify_decision(bundle(**{name: value}), [VKEY])


@pytest.mark.bad_input(46)
def test_a_bundle_with_an_unknown_member_is_refused() -> None:
    with pytest.raises(ProofError, match="not known here"):
        verify_decision(bundle(note="please believe me"), [VKEY])


@pytest.mark.parametrize("text", ["", "null", "[]", "{", "[" * 100_000, "\ud800", " " * 600_000], ids=range(7))
@pytest.mark.bad_input(39)
def test_a_text_that_is_no_bundle_is_refused(text: str) -> None:
    with pytest.raises(ProofError):
        verify_decision(text)


@pytest.mark.bad_input(63)
@pytest.mark.parametrize("position", range(3, len(bundle()), 23))
def test_a_changed_character_anywhere_in_the_bundle_is_noticed(position: int) -> None:
    text = bundle()
    changed = text[:position] + ("k" if text[position] != "k" else "j") + text[position + 1 :]
    with pytest.raises(ProofError):
        verify_decision(changed, [VKEY])
