"""Which test proves which rule: the marks of all tests held against the inventory, and the page that tells it.

    python3 dev.py rules        writes docs/rfc9420.md from tests/mls/rules.py and the marks

The tests are read, not run. A mark counts wherever it stands in the decorators of a test: by itself, or on one case of
a parametrized one.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.mls.rules import HOSTILE, RULE_SECTIONS, RULES, Rule
from tests.mls.sections import SECTIONS, Section

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "rfc9420.md"
RFC = "RFC 9420 §"

_NAMES_IN_A_SUMMARY = 3


class Mark(NamedTuple):
    """A test, and one rule that it is marked with; the slug is empty where the mark names a section only."""

    file: str
    test: str
    section: str
    slug: str


def marks_in(source: str, file: str) -> Iterator[Mark]:
    """Find the marks of one file's tests that name RFC 9420 or a hostile input."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            seen: set[Mark] = set()
            for call in (inner for decorator in node.decorator_list for inner in ast.walk(decorator)):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "rule":
                    section, *slug = (item.value for item in call.args if isinstance(item, ast.Constant))
                    mark = Mark(file, node.name, str(section), str(slug[0]) if slug else "")
                    if str(section).startswith((RFC, HOSTILE)) and mark not in seen:
                        seen.add(mark)
                        yield mark


def all_marks() -> list[Mark]:
    """Find the marks of all tests of this checkout."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    named = ((path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in files)
    return [mark for file, source in named for mark in marks_in(source, file)]


def faults(rules: Sequence[Rule], sections: Sequence[Section], marks: Sequence[Mark]) -> list[str]:
    """Say what does not fit: rules without test or reason, marks without rule, sections without either."""
    return [
        *_faulty_rules(rules, marks),
        *_faulty_marks(rules, sections, marks),
        *_faulty_sections(sections, marks, rules),
    ]


def _faulty_rules(rules: Sequence[Rule], marks: Sequence[Mark]) -> Iterator[str]:
    proven = {(mark.section, mark.slug) for mark in marks}
    for rule in rules:
        name = f"{rule.mark[0]} {rule.slug}"
        if rule.mark not in proven and not rule.reason:
            yield f"{name}: no test bears this mark, and there is no reason why"
        if rule.mark in proven and rule.reason:
            yield f"{name}: it has a reason for having no test, and a test"
    for name in _twice(f"{rule.mark[0]} {rule.slug}" for rule in rules):
        yield f"{name}: it is in the inventory twice"


def _faulty_marks(rules: Sequence[Rule], sections: Sequence[Section], marks: Sequence[Mark]) -> Iterator[str]:
    known = {rule.mark for rule in rules}
    numbers = {section.number for section in sections}
    for mark in marks:
        place, number = f"{mark.file}: {mark.test}", mark.section.removeprefix(RFC)
        if mark.slug and (mark.section, mark.slug) not in known:
            yield f"{place}: the inventory has no rule {mark.section} {mark.slug}"
        elif not mark.slug and (mark.section == HOSTILE or is_rule_section(number)):
            yield f"{place}: its mark {mark.section} does not say which rule"
        elif mark.section != HOSTILE and number not in numbers and not number.startswith("Appendix"):
            yield f"{place}: the RFC has no section {number}"


def _faulty_sections(sections: Sequence[Section], marks: Sequence[Mark], rules: Sequence[Rule]) -> Iterator[str]:
    for section in sections:
        tested = tests_of_section(section.number, marks)
        if not tested and not section.reason:
            yield f"§{section.number} {section.title}: no test bears it, and there is no reason why"
        if tested and section.reason:
            yield f"§{section.number} {section.title}: it has a reason for having no test, and a test"
        if is_rule_section(section.number) and all(rule.section != section.number for rule in rules):
            yield f"§{section.number} {section.title}: it is not broken down into rules"
    for rule in rules:
        if rule.section != HOSTILE and rule.section not in {section.number for section in sections}:
            yield f"§{rule.section} {rule.slug}: the RFC has no such section"


def is_rule_section(number: str) -> bool:
    """Tell whether marks in this section must name a rule of it."""
    return any(number == broken_down or number.startswith(broken_down + ".") for broken_down in RULE_SECTIONS)


def tests_of_section(number: str, marks: Iterable[Mark]) -> list[Mark]:
    """Return the marks of a section and those below it, one of each test."""
    within = (mark for mark in marks if f"{mark.section}.".startswith(f"{RFC}{number}."))
    return list({(mark.file, mark.test): mark for mark in within}.values())


def _twice(names: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    return {name for name in names if name in seen or seen.add(name)}


# --- the page ---------------------------------------------------------------------------------------------------------


def page(rules: Sequence[Rule], sections: Sequence[Section], marks: Sequence[Mark]) -> str:
    """Return docs/rfc9420.md."""
    proven: dict[tuple[str, str], list[Mark]] = defaultdict(list)
    for mark in marks:
        proven[mark.section, mark.slug].append(mark)
    tested = [rule for rule in rules if not rule.reason]
    tests = {(mark.file, mark.test) for mark in marks}
    lines = [
        "# RFC 9420, rule by rule",
        "",
        "Which test proves which rule of the Messaging Layer Security protocol. `python3 dev.py rules` writes this",
        "page from the marks of the tests and the inventory in [tests/mls/rules.py](../tests/mls/rules.py); a test",
        "fails when a rule has neither test nor reason, or when this page is not what that command gives. The words",
        "are ours; the RFC's decide.",
        "",
        "A test of a broken rule builds a message with real keys in which exactly that rule is broken",
        "([tests/mls/forge.py](../tests/mls/forge.py)), shows it to a member and to a public follower of the group,",
        "and then shows them the same message without the fault, which they must accept",
        "([tests/mls/followers.py](../tests/mls/followers.py)).",
        "",
        f"{len(tested)} rules are tested and {len(rules) - len(tested)} have a reason instead; {len(tests)} tests bear"
        " a mark of RFC 9420.",
        "",
        "- [Rules by section](#rules-by-section)",
        "- [Hostile inputs that others accepted](#hostile-inputs-that-others-accepted)",
        "- [All sections](#all-sections)",
        "",
        "## Rules by section",
        "",
    ]
    for section in sections:
        own = [rule for rule in rules if rule.section == section.number]
        if own:
            lines += [f"### §{section.number} {section.title}", "", *_rule_table(own, proven), ""]
    lines += ["## Hostile inputs that others accepted", ""]
    lines += ["What other implementations of MLS were seen to accept, and ours must refuse.", ""]
    lines += [*_rule_table([rule for rule in rules if rule.section == HOSTILE], proven), ""]
    lines += ["## All sections", "", *_section_table(sections, marks)]
    return "\n".join(lines) + "\n"


def _rule_table(rules: Sequence[Rule], proven: Mapping[tuple[str, str], Sequence[Mark]]) -> Iterator[str]:
    yield "| rule | asks | tests, or why there is none |"
    yield "|---|---|---|"
    for rule in rules:
        tests = "<br>".join(_sentence(mark) for mark in proven.get(rule.mark, ()))
        yield f"| `{rule.slug}` | {rule.asks} | {tests or f'*{rule.reason}*'} |"


def _section_table(sections: Sequence[Section], marks: Sequence[Mark]) -> Iterator[str]:
    yield "Tests of a section include those of the sections below it."
    yield ""
    yield "| section | tests | for example, or why there is none |"
    yield "|---|--:|---|"
    for section in sections:
        tests = tests_of_section(section.number, marks)
        told = "<br>".join(map(_sentence, tests[:_NAMES_IN_A_SUMMARY])) if tests else f"*{section.reason}*"
        yield f"| §{section.number} {section.title} | {len(tests)} | {told} |"


def _sentence(mark: Mark) -> str:
    words = mark.test.removeprefix("test_").replace("_", " ")
    return f"[{words}](../{mark.file})"


def main() -> int:
    """Write the page, unless something does not fit."""
    marks = all_marks()
    wrong = faults(RULES, SECTIONS, marks)
    if wrong:
        sys.stderr.write("\n".join([*wrong, f"{len(wrong)} faults; docs/rfc9420.md was not written"]) + "\n")
        return 1
    PAGE.write_text(page(RULES, SECTIONS, marks), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
