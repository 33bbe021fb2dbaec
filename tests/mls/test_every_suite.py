"""Every cipher suite from end to end: a group's whole life, and sizes of hash and key that nothing assumes."""

import pytest

from heliograph.mls.errors import MLSError
from heliograph.mls.framing import WireFormat
from heliograph.mls.group import Group, ReceivedApplication
from heliograph.mls.proposal import PreSharedKeyID, PreSharedKeyProposal
from heliograph.mls.suite import Random
from tests import vectors
from tests.mls.company import NOW_S, Company


@pytest.fixture(params=vectors.EVERY_SUITE, ids=lambda suite_id: f"0x{suite_id:04x}")
def company(request: pytest.FixtureRequest, seeded_random: Random) -> Company:
    return Company("ada", "ben", "cleo", random=seeded_random, suite_id=request.param)


@pytest.mark.rule("RFC 9420 §17.1")
def test_a_group_lives_its_whole_life_in_every_suite(company: Company):
    company.check_agreement()
    for person in company.everyone:
        company.commit(person)
    company.add(company["cleo"], company.person("dan"))
    company.propose(company["ben"])
    company.commit(company["ada"])
    company.check_agreement()
    company.remove(company["dan"], company["ben"])
    company.join_from_outside(company.person("eve"), company["ada"])
    company.check_agreement()
    company.join_from_outside(company["cleo"], company["ada"], resync_leaf=company["cleo"].leaf)
    company.check_agreement()
    assert sorted(company.people) == ["ada", "cleo", "dan", "eve"]


def test_a_group_goes_on_after_it_was_saved_and_loaded_in_every_suite(company: Company):
    for person in company.everyone:
        company.commit(person)
    late = company["ben"].seal(b"late")
    company.commit(company["cleo"])
    company.propose(company["ben"])
    for person in company.everyone:
        rows = person.group.rows()
        person.held = Group.load(rows)
        assert person.held.rows() == rows
    assert company["ada"].read(late) == b"late"
    company.commit(company["ada"])
    company.check_agreement()


@pytest.mark.rule("RFC 9420 §8.4")
def test_a_pre_shared_key_and_a_private_commit_work_in_every_suite(company: Company):
    ada = company["ada"]
    nonce = company.random(company.suite.hash_length)
    psks = {b"the key": b"secret known to all"}
    proposal = PreSharedKeyProposal(PreSharedKeyID.external(b"the key", nonce))
    pending = ada.commit([proposal], psks=psks, wire_format=WireFormat.PRIVATE_MESSAGE)
    for name in ("ben", "cleo"):
        company[name].receive(pending.commit, psks=psks)
    ada.held = ada.group.take_up(pending.group)
    company.check_agreement()


def test_an_exported_secret_has_the_length_asked_for_in_every_suite(company: Company):
    for length in (1, 32, 48, 64, 65, 200):
        exported = {person.group.export("label", b"context", length) for person in company.everyone}
        assert [len(secret) for secret in exported] == [length]


def test_a_truncated_or_changed_message_is_refused_in_every_suite(company: Company):
    ada, ben = company["ada"], company["ben"]
    message = ada.seal(b"hello")
    for wrong in (message[:-1], message[: len(message) // 2], message[:-1] + bytes([message[-1] ^ 1])):
        held = ben.group
        with pytest.raises(MLSError):
            ben.receive(wrong)
        assert ben.group is held
    received = ben.group.receive(message, now_s=NOW_S)[1]
    assert isinstance(received, ReceivedApplication)
