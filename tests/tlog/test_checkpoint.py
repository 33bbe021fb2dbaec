import base64

import pytest

from heliograph.tlog.checkpoint import (
    Checkpoint,
    NoteSignature,
    SignatureType,
    SignedNote,
    VerifierKey,
    cosign,
    open_checkpoint,
    sign_checkpoint,
)
from heliograph.tlog.errors import ProofError
from tests.tlog.keys import key_pair

ORIGIN = "chat.example/decisions"
KEY, SIGN = key_pair(ORIGIN)
CHECKPOINT = Checkpoint(ORIGIN, 10, bytes(range(32)))
NOTE = str(sign_checkpoint(CHECKPOINT, KEY, SIGN))

# The vkey and the note of the Go checksum database's documentation (golang.org/x/mod/sumdb/note).
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


@pytest.mark.rule("C2SP signed-note v1.0")
def test_a_note_signed_by_another_implementation_verifies() -> None:
    key = VerifierKey.parse(GO_VKEY)
    assert SignedNote.parse(GO_NOTE).verify([key]) == (key,)


@pytest.mark.rule("C2SP signed-note v1.0")
def test_a_verifier_key_is_written_as_it_was_read() -> None:
    assert VerifierKey.parse(GO_VKEY).vkey() == GO_VKEY
    assert VerifierKey.parse(KEY.vkey()) == KEY


@pytest.mark.rule("C2SP tlog-checkpoint v1.0")
def test_a_signed_checkpoint_opens_to_what_was_signed() -> None:
    assert open_checkpoint(NOTE, KEY) == CHECKPOINT


@pytest.mark.rule("C2SP tlog-checkpoint v1.0")
def test_a_checkpoint_is_three_lines_and_a_signature_line() -> None:
    lines = NOTE.split("\n")
    assert lines[:4] == [ORIGIN, "10", base64.b64encode(bytes(range(32))).decode(), ""]
    assert lines[4].startswith(f"— {ORIGIN} ")


def test_extension_lines_are_kept_and_signed() -> None:
    extended = Checkpoint(ORIGIN, 1, bytes(32), ("more", "lines"))
    note = str(sign_checkpoint(extended, KEY, SIGN))
    assert open_checkpoint(note, KEY) == extended
    with pytest.raises(ProofError):
        open_checkpoint(note.replace("more", "less"), KEY)


@pytest.mark.rule("C2SP tlog-cosignature v1.0")
def test_a_witness_adds_a_line_and_the_log_s_signature_still_holds() -> None:
    witness, witness_sign = key_pair("witness.example/w", 2, SignatureType.COSIGNATURE)
    note = cosign(SignedNote.parse(NOTE), witness, witness_sign, 1_790_000_000)
    assert SignedNote.parse(str(note)).verify([KEY, witness]) == (KEY, witness)
    assert witness.verify(note.text, note.signatures[1].signature) == 1_790_000_000


@pytest.mark.rule("C2SP tlog-cosignature v1.0")
def test_a_cosignature_moved_to_another_time_fails() -> None:
    witness, witness_sign = key_pair("witness.example/w", 2, SignatureType.COSIGNATURE)
    note = cosign(SignedNote.parse(NOTE), witness, witness_sign, 1_790_000_000)
    later = (1_790_000_001).to_bytes(8) + note.signatures[1].signature[8:]
    with pytest.raises(ProofError, match="does not match"):
        witness.verify(note.text, later)


def test_a_witness_alone_does_not_make_a_checkpoint() -> None:
    witness, witness_sign = key_pair("witness.example/w", 2, SignatureType.COSIGNATURE)
    text = CHECKPOINT.text()
    alone = cosign(SignedNote(text, ()), witness, witness_sign, 5)
    with pytest.raises(ProofError, match="own key"):
        open_checkpoint(str(alone), KEY, [witness])


@pytest.mark.rule("C2SP signed-note v1.0")
def test_the_signature_of_an_unknown_key_is_passed_over() -> None:
    stranger = NoteSignature("stranger.example", b"abcd", b"not a signature at all")
    note = SignedNote.parse(NOTE).with_signature(stranger)
    assert open_checkpoint(str(note), KEY) == CHECKPOINT


@pytest.mark.rule("C2SP signed-note v1.0")
def test_a_failing_signature_of_a_known_key_condemns_the_note() -> None:
    broken = NoteSignature(KEY.name, KEY.key_id, bytes(64))
    note = SignedNote.parse(NOTE).with_signature(broken)
    with pytest.raises(ProofError):
        open_checkpoint(str(note), KEY)


def test_a_note_that_no_trusted_key_signed_is_refused() -> None:
    other, _ = key_pair(ORIGIN, 9)
    with pytest.raises(ProofError, match="no signature of a key that is trusted"):
        open_checkpoint(NOTE, other)


def test_a_checkpoint_of_another_log_under_the_same_key_is_refused() -> None:
    foreign = sign_checkpoint(Checkpoint("other.example/log", 1, bytes(32)), KEY, SIGN)
    with pytest.raises(ProofError, match="another log"):
        open_checkpoint(str(foreign), KEY)


@pytest.mark.bad_input(63)
@pytest.mark.parametrize("position", range(0, len(NOTE), 7))
def test_a_changed_character_anywhere_is_noticed(position: int) -> None:
    changed = NOTE[:position] + ("B" if NOTE[position] != "B" else "C") + NOTE[position + 1 :]
    with pytest.raises(ProofError):
        open_checkpoint(changed, KEY)


@pytest.mark.bad_input(62)
@pytest.mark.parametrize("length", range(0, len(NOTE), 5))
def test_a_note_that_is_cut_is_refused(length: int) -> None:
    with pytest.raises(ProofError):
        open_checkpoint(NOTE[:length], KEY)


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n010\n{base64.b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n-1\n{base64.b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n+1\n{base64.b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n\u0661\n{base64.b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n9999999999999999999\n{base64.b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n1\n{base64.b64encode(bytes(31)).decode()}\n",
        f"{ORIGIN}\n1\n{base64.urlsafe_b64encode(bytes([255]) * 32).decode()}\n",
        f"{ORIGIN}\n1\n",
        f"\n1\n{base64.b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n1\n{base64.b64encode(bytes(32)).decode()}\n\nmore\n",
        f"{ORIGIN}\n1\n{base64.b64encode(bytes(32)).decode()}",
    ],
)
def test_a_checkpoint_written_in_any_other_way_is_refused(text: str) -> None:
    with pytest.raises(ProofError):
        Checkpoint.parse(text)


@pytest.mark.parametrize(
    "note",
    [
        "text\n\n- name AAAAAAA=\n",
        "text\n\n— name\n",
        "text\n\n— na+me AAAAAAA=\n",
        "text\n\n— name AAAA\n",
        "text\n\n— name AAAAAAB=\n",
        "text\n— name AAAAAAA=\n",
        "text\n\n— name AAAAAAA=",
        "te\rxt\n\n— name AAAAAAA=\n",
        "te\x00xt\n\n— name AAAAAAA=\n",
        "te\ud800xt\n\n— name AAAAAAA=\n",
        "text\n\n" + "— name AAAAAAA=\n" * 33,
        "x" * (128 * 1024) + "\n\n— name AAAAAAA=\n",
    ],
    ids=range(12),
)
def test_a_note_that_is_malformed_is_refused(note: str) -> None:
    with pytest.raises(ProofError):
        SignedNote.parse(note)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "name",
        "name+c74f20a3",
        GO_VKEY.replace("c74f20a3", "c74f20a4"),
        GO_VKEY.replace("PeterNeumann", "Peter Neumann"),
        GO_VKEY.replace("PeterNeumann", "PeterNewman"),
        GO_VKEY[:-4],
        GO_VKEY.replace("+ARpc", "+AhpC"),
        f"+{GO_VKEY}",
    ],
)
def test_a_verifier_key_that_is_malformed_is_refused(vkey: str) -> None:
    with pytest.raises(ProofError):
        VerifierKey.parse(vkey)


def test_a_verifier_key_of_small_order_is_refused() -> None:
    weak = VerifierKey("weak.example", (1).to_bytes(32, "little"))
    with pytest.raises(ProofError, match="small order"):
        VerifierKey.parse(weak.vkey())
