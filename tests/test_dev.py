import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dev

ROOT = Path(__file__).resolve().parent.parent


def _dev(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "dev.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_old_python_can_read_dev_py_far_enough_to_say_what_it_needs() -> None:
    source = (ROOT / "dev.py").read_text(encoding="utf-8")

    ast.parse(source, feature_version=(3, 8))


def test_dev_py_needs_the_standard_library_alone() -> None:
    tree = ast.parse((ROOT / "dev.py").read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }

    assert imported <= sys.stdlib_module_names


def test_without_a_command_the_commands_are_told_and_the_exit_code_says_usage() -> None:
    told = _dev()

    assert told.returncode == 2
    assert all(f"dev.py {name}" in told.stdout for name in dev.COMMANDS)


def test_an_unknown_command_is_named_beside_the_known_ones() -> None:
    told = _dev("tset")

    assert told.returncode == 1
    assert "unknown command: tset; there are: run, test" in told.stderr


@pytest.mark.parametrize("lock", [dev.RUNTIME, dev.DEVELOPMENT])
def test_every_locked_package_has_one_version_and_its_hashes(lock: Path) -> None:
    entries = lock.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    packages = [entry for entry in entries if entry and not entry.startswith("#")]

    assert packages
    assert [entry for entry in packages if "==" not in entry or "--hash=sha256:" not in entry] == []


def test_what_the_server_needs_is_locked_alike_for_running_and_for_testing() -> None:
    runtime, development = (
        {line.split(" ")[0] for line in lock.read_text(encoding="utf-8").splitlines() if "==" in line}
        for lock in (dev.RUNTIME, dev.DEVELOPMENT)
    )

    assert runtime <= development


def test_dead_fields_are_forgiven_and_dead_functions_are_not() -> None:
    field = "a.py:3: unused variable 'title' (60% confidence)"
    function = "a.py:9: unused function 'forgotten' (60% confidence)"

    assert dev._dead_code(field) == ("", False)
    assert dev._dead_code(f"{field}\n{function}") == (function, True)
