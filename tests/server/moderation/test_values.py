"""The DSA's value lists: what a report or decision may name."""

import msgspec
import pytest

from heliograph.server.moderation import values
from heliograph.wire.moderation import Category, Keyword
from heliograph.wire.problems import Problem


def test_every_value_fits_the_contract() -> None:
    msgspec.convert(list(values.CATEGORIES), list[Category])
    msgspec.convert([keyword for group in values.CATEGORIES.values() for keyword in group], list[Keyword])


def test_no_keyword_stands_in_two_categories() -> None:
    keywords = [keyword for group in values.CATEGORIES.values() for keyword in group]
    assert len(keywords) == len(set(keywords))


def test_a_keyword_belongs_to_its_category() -> None:
    values.check_notice("STATEMENT_CATEGORY_RISK_FOR_PUBLIC_SECURITY", "KEYWORD_TERRORIST_CONTENT")
    with pytest.raises(Problem, match="not a keyword of"):
        values.check_notice("STATEMENT_CATEGORY_SELF_HARM", "KEYWORD_TERRORIST_CONTENT")


@pytest.mark.parametrize("category", list(values.CATEGORIES))
def test_every_category_knows_another_keyword_than_those_listed(category: str) -> None:
    values.check_notice(category, values.KEYWORD_OTHER)


def test_a_category_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Problem, match="no category"):
        values.check_notice("STATEMENT_CATEGORY_RUDENESS", None)


def test_a_decision_names_what_it_is_about() -> None:
    with pytest.raises(Problem, match="names the category"):
        values.check_decision("illegal-content", values.NOT_SPECIFIED, ())


def test_a_breach_of_terms_is_not_called_illegal() -> None:
    values.check_decision("incompatible-content", values.OTHER_TERMS, ("KEYWORD_NUDITY",))
    with pytest.raises(Problem, match="against the terms"):
        values.check_decision("illegal-content", values.OTHER_TERMS, ())


def test_labels_are_words() -> None:
    labels = dict(values.category_labels())
    assert labels["STATEMENT_CATEGORY_SELF_HARM"] == "Self harm"
    assert len(set(labels.values())) == len(values.CATEGORIES)
