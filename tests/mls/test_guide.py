"""The guide of the library: its examples run, its names are there, and it needs nothing of the rest."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "mls.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
ROWS = re.findall(r"^\| `(\w+)` \| (`.*`) \|$", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)

# Refuses whatever is neither of the standard library, nor `cryptography` with what that needs, nor the library itself.
ALONE = """
import sys
class Refusal:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        allowed = top in sys.stdlib_module_names or top in {"cryptography", "cffi", "_cffi_backend", "pycparser"}
        if not allowed and name != "heliograph" and not (name + ".").startswith("heliograph.mls."):
            raise ModuleNotFoundError(f"{name} is not there", name=name)
sys.meta_path.insert(0, Refusal())
"""


def test_the_examples_of_the_guide_run_one_after_the_other():
    assert len(EXAMPLES) >= 6
    names: dict[str, object] = {}
    for number, example in enumerate(EXAMPLES):
        exec(compile(example, f"example {number} of {GUIDE.name}", "exec"), names)  # noqa: S102 - our own page


def test_the_guide_runs_where_nothing_but_cryptography_is_installed():
    program = ALONE + "\n".join(EXAMPLES)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(("module", "names"), ROWS)
def test_every_name_that_the_guide_calls_stable_is_there_and_explained(module: str, names: str):
    owner = importlib.import_module(f"heliograph.mls.{module}")
    for name in re.findall(r"`(\w+)`", names):
        found = getattr(owner, name)
        if inspect.isfunction(found):
            assert found.__module__ == owner.__name__
            assert found.__annotations__["return"] is not None
        if inspect.isfunction(found) or inspect.isclass(found):
            assert inspect.getdoc(found)


def test_the_guide_names_all_that_its_examples_import():
    listed = {(module, name) for module, names in ROWS for name in re.findall(r"`(\w+)`", names)}
    for example in EXAMPLES:
        for module, names in re.findall(r"^from heliograph\.mls\.(\w+) import (.*)$", example, flags=re.MULTILINE):
            for name in names.split(", "):
                assert (module, name) in listed
