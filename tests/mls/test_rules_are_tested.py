"""Every rule of the inventory has a test or a reason, every mark names a rule, and docs/rfc9420.md says so."""

import pytest

from tests.mls.rules import HOSTILE, RULES, Rule
from tests.mls.rules_page import PAGE, Mark, all_marks, faults, is_rule_section, marks_in, page
from tests.mls.sections import SECTIONS, Section


@pytest.fixture(scope="module")
def marks() -> list[Mark]:
    return all_marks()


def test_every_rule_and_section_has_a_test_or_a_reason_and_every_mark_a_rule(marks: list[Mark]):
    assert faults(RULES, SECTIONS, marks) == []


def test_the_page_is_what_the_marks_say(marks: list[Mark]):
    written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    assert written == page(RULES, SECTIONS, marks), "docs/rfc9420.md is out of date: run `python3 dev.py rules`"


def test_the_inventory_is_not_thinned_out():
    assert sum(rule.section != HOSTILE for rule in RULES) >= 210
    assert sum(rule.section == HOSTILE for rule in RULES) >= 26
    assert len(SECTIONS) >= 117
    assert sum(bool(rule.reason) for rule in RULES) <= 6


# --- planted faults: what the check must find -------------------------------------------------------------------------

RULE = Rule("12.2", "reinit-alone", "A ReInit stands alone.")
WITHOUT_SLUG = Mark("tests/test_x.py", "test_of_a_rule", "RFC 9420 §12.2", "")
MARK = WITHOUT_SLUG._replace(slug="reinit-alone")
SECTION = Section("12.2", "Proposal List Validation")


def test_a_sound_inventory_has_no_fault():
    assert faults([RULE], [SECTION], [MARK]) == []
    reasoned = RULE._replace(slug="another", reason="It cannot be seen.")
    assert faults([RULE, reasoned], [SECTION], [MARK]) == []


@pytest.mark.parametrize(
    ("rules", "sections", "marks", "fault"),
    [
        ([RULE, RULE._replace(slug="another")], [SECTION], [MARK], "another: no test bears this mark"),
        ([RULE._replace(reason="None can be.")], [SECTION], [MARK], "a reason for having no test, and a test"),
        ([RULE, RULE], [SECTION], [MARK], "in the inventory twice"),
        ([RULE], [SECTION], [MARK, MARK._replace(slug="invented")], "the inventory has no rule"),
        ([RULE], [SECTION], [MARK, WITHOUT_SLUG], "does not say which rule"),
        ([RULE], [SECTION], [MARK, Mark("x", "test_x", HOSTILE, "")], "does not say which rule"),
        ([RULE], [SECTION], [MARK, Mark("x", "test_x", "RFC 9420 §99", "")], "the RFC has no section 99"),
        ([RULE], [SECTION, Section("14", "Sequencing")], [MARK], "§14 Sequencing: no test bears it"),
        ([RULE], [SECTION, Section("7.3", "Leaves", "None.")], [MARK], "§7.3 Leaves: it is not broken down"),
        ([RULE], [Section("12.2", "Lists", "None can be.")], [MARK], "it has a reason for having no test, and a test"),
        ([RULE._replace(section="77")], [], [MARK._replace(section="RFC 9420 §77")], "the RFC has no such section"),
        ([Rule(HOSTILE, "replayed", "a replay")], [], [], "hostile input replayed: no test bears this mark"),
    ],
)
def test_a_planted_fault_is_found(rules: list[Rule], sections: list[Section], marks: list[Mark], fault: str):
    assert any(fault in found for found in faults(rules, sections, marks))


SOURCE = """
@pytest.mark.rule("RFC 9420 §7.3", "signature")
@pytest.mark.rule("RFC 9180 §5.3")
@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.rule("hostile input", "replayed")), 2])
async def test_something_at_a_time(x): ...

@pytest.mark.rule("RFC 9420 §8")
def not_a_test(): ...

def test_without_any_mark(): ...
"""


def test_marks_are_found_on_tests_and_on_their_cases_and_nowhere_else():
    assert list(marks_in(SOURCE, "f.py")) == [
        Mark("f.py", "test_something_at_a_time", "RFC 9420 §7.3", "signature"),
        Mark("f.py", "test_something_at_a_time", "hostile input", "replayed"),
    ]


def test_the_page_shows_a_test_as_a_sentence_and_a_reason_in_italics():
    text = page([RULE, RULE._replace(slug="another", reason="It cannot be seen.")], [SECTION], [MARK])
    assert "| `reinit-alone` | A ReInit stands alone. | [of a rule](../tests/test_x.py) |" in text
    assert "| `another` | A ReInit stands alone. | *It cannot be seen.* |" in text
    assert "| §12.2 Proposal List Validation | 1 | [of a rule](../tests/test_x.py) |" in text


def test_a_rule_section_includes_those_below_it_and_not_its_namesakes():
    assert is_rule_section("12.1.8.1")
    assert is_rule_section("10.1")
    assert not is_rule_section("1")
    assert not is_rule_section("12.40")
