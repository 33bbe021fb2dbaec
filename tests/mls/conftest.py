"""The company of four on which the tests of broken rules play; everyone has committed once."""

import pytest

from heliograph.mls.suite import Random
from tests.mls.company import Company, Person
from tests.mls.followers import Followers
from tests.mls.forge import Forger


@pytest.fixture
def company(seeded_random: Random) -> Company:
    company = Company("ada", "ben", "cleo", "dan", random=seeded_random)
    for person in company.everyone:
        company.commit(person)
    return company


@pytest.fixture
def ada(company: Company) -> Person:
    return company["ada"]


@pytest.fixture
def ben(company: Company) -> Person:
    return company["ben"]


@pytest.fixture
def joiner(company: Company) -> Person:
    return company.person("finn")


@pytest.fixture
def forger(company: Company) -> Forger:
    return Forger(company["ada"].group, company.random)


@pytest.fixture
def followers(ben: Person) -> Followers:
    """Return ben and a public group, to whom the test's messages come."""
    return Followers.of(ben)
