"""Let atheris look for bytes on which a target breaks its promise: `python3 dev.py fuzz`.

    python3 dev.py fuzz [target ...]        all targets, or these
        --seconds N                         of each target; 10 if nothing is said
        --runs N                            executions of each target instead
        --folder PATH                       where corpus and findings are kept; .dev/fuzz
        --replay FILE                       run the one named target on the bytes of a file, without atheris
        --list                              the names of the targets

What was found interesting is kept as the next run's corpus. The exit code is 1 after a finding, whose bytes are saved
and whose line to replay is printed, and 2 where atheris cannot run: it is built for Linux on x86-64 and for Python
up to 3.13.

Each target runs in a process of its own, since libFuzzer ends the process that it has run in; they are forks of one in
which the library was instrumented and the scene built once.
"""

import argparse
import importlib
import importlib.util
import io
import os
import re
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / ".dev" / "fuzz"

_OPTIONS = ("-print_final_stats=1", "-rss_limit_mb=1024", "-timeout=10", "-max_len=20000", "-use_value_profile=1")


@dataclass(frozen=True)
class Figures:
    """What one target's run came to."""

    executions: int
    per_second: int
    new_inputs: int
    corpus: int
    features: int
    peak_mb: int
    findings: tuple[Path, ...]

    def line(self, name: str) -> str:
        return (
            f"{name:32} {self.executions:9} {self.per_second:7} {self.new_inputs:6} {self.corpus:7} {self.features:9}"
            f" {self.peak_mb:6} {len(self.findings):9}"
        )


_HEAD = f"{'target':32} {'runs':>9} {'runs/s':>7} {'new':>6} {'corpus':>7} {'features':>9} {'MB':>6} {'findings':>9}"


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
    options = parsed(arguments)
    if options.replay or options.list:
        return _without_atheris(options)
    if importlib.util.find_spec("atheris") is None:
        print(
            "fuzzing needs atheris, which is built for Linux on x86-64 and Python up to 3.13, and so not for this one"
        )
        return 2
    atheris = importlib.import_module("atheris")
    # It names each module that it instruments, which nobody asked for.
    with redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["heliograph.mls"]):
        targets = importlib.import_module("tests.mls.fuzz.targets").targets()
    return fuzz(atheris, targets, options)


def fuzz(atheris: Any, targets: Mapping[str, Any], options: argparse.Namespace) -> int:
    """Run the targets that the options name, print what each run came to, and return the exit code."""
    names = options.targets or sorted(targets)
    if unknown := set(names) - set(targets):
        print(f"no target named {', '.join(sorted(unknown))}; there are: {', '.join(sorted(targets))}")
        return 2
    limit = f"-runs={options.runs}" if options.runs else f"-max_total_time={options.seconds}"
    print(_HEAD, flush=True)
    findings = 0
    for name in names:
        figures = _fuzz(atheris, targets[name], options.folder, limit)
        print(figures.line(name), flush=True)
        for path in figures.findings:
            print(f"  FINDING: {_log(options.folder, name).read_text(errors='replace').strip()[-3000:]}")
            print(f"  replay it with: python3 dev.py fuzz {name} --replay {_relative(path)}", flush=True)
        findings += len(figures.findings)
    print(f"{len(names)} targets, {findings} findings")
    return 1 if findings else 0


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="dev.py fuzz", description="Look for bytes that break a promise.")
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--list", action="store_true")
    return parser.parse_args(arguments)


def _without_atheris(options: argparse.Namespace) -> int:
    targets = importlib.import_module("tests.mls.fuzz.targets").targets()
    if options.list:
        print("\n".join(sorted(targets)))
        return 0
    if len(options.targets) != 1 or options.targets[0] not in targets:
        print("name the one target to replay the bytes on")
        return 2
    taken = targets[options.targets[0]].run(options.replay.read_bytes())
    print("the bytes are taken" if taken else "the bytes are refused, as they may be")
    return 0


def _fuzz(atheris: Any, target: Any, folder: Path, limit: str) -> Figures:
    corpus, findings = folder / "corpus" / target.name, folder / "findings" / target.name
    for path in (corpus, findings):
        path.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number:02}").write_bytes(seed)
    known = set(findings.iterdir())
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _become_fuzzer(atheris, target, folder, [limit, f"-artifact_prefix={findings}/", *_OPTIONS, str(corpus)])
    _, status = os.waitpid(child, 0)
    took_s = time.monotonic() - started
    found = tuple(sorted(set(findings.iterdir()) - known))
    said = _log(folder, target.name).read_text(errors="replace")
    if os.waitstatus_to_exitcode(status) != 0 and not found:
        raise SystemExit(f"the run of {target.name} broke off:\n{said[-3000:]}")
    executions = _number(said, r"number_of_executed_units:\s+(\d+)")
    return Figures(
        executions=executions,
        per_second=round(executions / took_s),
        new_inputs=_number(said, r"new_units_added:\s+(\d+)"),
        corpus=_number(said, r"corp: (\d+)"),
        features=_number(said, r" ft: (\d+)"),
        peak_mb=_number(said, r"peak_rss_mb:\s+(\d+)"),
        findings=found,
    )


def _become_fuzzer(atheris: Any, target: Any, folder: Path, options: list[str]) -> None:
    """Run libFuzzer in this process, which ends with it."""
    log = os.open(_log(folder, target.name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)

    def run_one(data: bytes) -> None:
        target.run(data)

    atheris.Setup(["fuzz", *options], run_one)
    atheris.Fuzz()
    os._exit(0)


def _log(folder: Path, name: str) -> Path:
    return folder / "findings" / f"{name}.log"


def _number(text: str, pattern: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def _relative(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
