"""Every reader of bytes has a fuzz target, and no target finds anything: by a fixed list of changes everywhere, and by
atheris, which seeks new paths, where it can be installed."""

import importlib
import importlib.util
import inspect
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest

import dev
from heliograph.mls.codec import Reader, Struct, Writer
from tests.mls.fuzz.mutate import mutations
from tests.mls.fuzz.oracle import Finding, check_struct
from tests.mls.fuzz.targets import mls_modules, struct_kinds, targets

ROOT = Path(__file__).resolve().parents[2]
MUTATIONS_EACH = 500
ATHERIS_RUNS_EACH = 2000
needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is built for Linux on x86-64, Python up to 3.13"
)

# Readers that are neither structures nor targets of their own, and through which target they are reached.
REACHED_THROUGH = {
    "credential._read_certificates": "Credential",
    "framing.FramedContentAuthData.read": "FramedContentAuthData",
    "framing.PrivateMessageContent.decode": "PrivateMessageContent",
    "framing.read_content": "PrivateMessageContent",
    "group.Group.load": "saved_rows",
    "hybrid_kem._read_public": "keys_and_ciphertexts",
    "proposal.decode_proposal": "Proposal",
    "proposal.read_proposal": "Proposal",
    "ratchet_tree._read_node": "RatchetTree",
    "saved_state._decode_epoch": "saved_rows",
    "saved_state._decode_past": "saved_rows",
    "saved_state._decode_proposal": "saved_rows",
    "saved_state._load": "saved_rows",
    "saved_state.load_slow_state": "saved_rows",
    "sealed_secrets.read_sealed_secrets": "sealed_secrets",
    "secret_tree.SecretTree.load": "saved_rows",
    "secret_tree._Ratchets.decode": "saved_rows",
}
# Its type stands before it, so that it can only be read as part of a Proposal.
NEVER_READ_ALONE = {"UnknownProposal"}


def readers() -> set[str]:
    """Return all functions of the library that by their names read bytes, without those of structures."""
    found: set[str] = set()
    for name in mls_modules():
        module = importlib.import_module(name)
        for thing in vars(module).values():
            if getattr(thing, "__module__", None) != name:
                continue
            if inspect.isclass(thing) and not issubclass(thing, Struct):
                found |= {f"{thing.__module__}.{thing.__name__}.{one}" for one in vars(thing)}
            elif inspect.isfunction(thing):
                found.add(f"{thing.__module__}.{thing.__name__}")
    words = ("read", "decode", "load")
    short = {one.removeprefix("heliograph.mls.") for one in found}
    return {one for one in short if one.rsplit(".", 1)[-1].lstrip("_").split("_")[0] in words}


def test_every_structure_has_a_target_that_begins_with_a_genuine_encoding():
    for kind in struct_kinds():
        target = targets()[kind.__name__]
        taken = [target.run(seed) for seed in target.seeds()]
        assert taken or kind.__name__ in NEVER_READ_ALONE, f"{kind.__name__} stands in no genuine message: see seeds.py"
        assert all(taken) or kind.__name__ in NEVER_READ_ALONE
    assert len(struct_kinds()) >= 44


def test_every_other_reader_is_reached_through_a_target():
    assert readers() == set(REACHED_THROUGH)
    assert set(REACHED_THROUGH.values()) <= targets().keys()


@pytest.mark.bad_input(65)
@pytest.mark.rule("RFC 9420 §2.1")
@pytest.mark.parametrize("name", targets())
def test_no_changed_bytes_break_a_promise(name: str):
    target = targets()[name]
    taken = sum(target.run(data) for data in mutations(target.seeds(), MUTATIONS_EACH, zlib.crc32(name.encode())))
    assert taken or name in NEVER_READ_ALONE, "the changes leave nothing that is taken: they do not reach far"


@dataclass(frozen=True)
class Loose(Struct):
    """A planted fault: it takes two bytes for one flag, and any byte that is not 0 for true."""

    flag: bool

    def write(self, writer: Writer) -> None:
        writer.uint8(self.flag)

    @classmethod
    def read(cls, reader: Reader) -> "Loose":
        return cls(bool(reader.uint8()))


def test_a_decoder_that_takes_two_encodings_for_one_value_is_found():
    with pytest.raises(Finding, match="Loose"):
        for data in mutations([b"\1"], MUTATIONS_EACH, 1):
            check_struct(Loose, data)


# --- atheris ----------------------------------------------------------------------------------------------------------


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.mls.fuzz.run", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@needs_atheris
def test_atheris_finds_nothing_in_a_few_thousand_runs_of_each_target(tmp_path: Path):
    done = fuzz("--runs", str(ATHERIS_RUNS_EACH), "--folder", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    assert targets().keys() <= lines.keys()
    assert all(int(lines[name][1]) >= ATHERIS_RUNS_EACH for name in targets())
    # New paths were found, so the library was instrumented indeed.
    assert int(lines["PublicMessage"][3]) >= 20


PLANTED = """
import atheris
from tests.mls.fuzz import run
from tests.mls.fuzz.targets import Target

def breaks(data):
    if data[:1] == b"!":
        raise ValueError("not one of the five")
    return False

options = run.parsed(["planted", "--runs", "20000", "--folder", {folder!r}])
raise SystemExit(run.fuzz(atheris, {{"planted": Target("planted", breaks, lambda: [b"!"[:0], b"a"])}}, options))
"""


@needs_atheris
def test_a_finding_is_saved_and_told_with_the_line_that_replays_it(tmp_path: Path):
    code = PLANTED.format(folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    (saved,) = (tmp_path / "findings" / "planted").iterdir()
    assert done.returncode == 1
    assert saved.read_bytes()[:1] == b"!"
    assert "not one of the five" in done.stdout
    assert f"python3 dev.py fuzz planted --replay {saved}" in done.stdout


def test_a_saved_input_can_be_replayed_without_atheris(tmp_path: Path):
    path = tmp_path / "input"
    path.write_bytes(b"\x40\x01")
    assert fuzz("varint", "--replay", str(path)).stdout == "the bytes are refused, as they may be\n"
    path.write_bytes(b"\x01")
    assert fuzz("varint", "--replay", str(path)).stdout == "the bytes are taken\n"
    assert fuzz("varnit", "--replay", str(path)).returncode == 2


def test_where_atheris_is_not_installed_the_command_says_so_and_why():
    command = [sys.executable, "-S", "-m", "tests.mls.fuzz.run"]  # -S: without what the venv holds
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "built for Linux on x86-64 and Python up to 3.13" in done.stdout


def test_fuzzing_is_a_command_of_dev_py():
    assert "fuzz" in dev.COMMANDS
