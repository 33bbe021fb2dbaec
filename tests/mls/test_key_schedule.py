"""The key schedule, transcript hashes and pre-shared keys, against the official vectors and by their rules."""

import pytest

from heliograph.mls import key_schedule
from heliograph.mls.errors import StateError, ValidationError
from heliograph.mls.framing import AuthenticatedContent
from heliograph.mls.group_context import GroupContext
from heliograph.mls.proposal import PreSharedKeyID, PSKType
from heliograph.mls.suite import cipher_suite
from heliograph.mls.transcript_hash import confirmed_transcript_hash, interim_transcript_hash
from tests import vectors

CONTEXT = GroupContext(
    version=1,
    cipher_suite=1,
    group_id=b"group",
    epoch=3,
    tree_hash=b"t" * 32,
    confirmed_transcript_hash=b"c" * 32,
    extensions=(),
)


@pytest.mark.rule("RFC 9420 §8")
def test_every_secret_of_every_epoch_is_the_one_that_the_vectors_name():
    for case in vectors.cases("mls/key-schedule.json", vectors.SUITES):
        suite = cipher_suite(case["cipher_suite"])
        init_secret = bytes.fromhex(case["initial_init_secret"])
        for number, epoch in enumerate(case["epochs"]):
            want = {name: bytes.fromhex(value) for name, value in epoch.items() if isinstance(value, str)}
            context = GroupContext(
                version=1,
                cipher_suite=suite.id,
                group_id=bytes.fromhex(case["group_id"]),
                epoch=number,
                tree_hash=want["tree_hash"],
                confirmed_transcript_hash=want["confirmed_transcript_hash"],
                extensions=(),
            )
            got = key_schedule.next_epoch(
                suite,
                init_secret=init_secret,
                commit_secret=want["commit_secret"],
                psk_secret=want["psk_secret"],
                group_context=context,
            )
            assert context.encode() == want["group_context"]
            assert got.joiner_secret == want["joiner_secret"]
            assert got.welcome_secret == want["welcome_secret"]
            assert got.encryption_secret == want["encryption_secret"]
            for name in got.epoch.__dataclass_fields__:
                assert getattr(got.epoch, name) == want[name], name
            _, external_pub = key_schedule.external_key_pair(suite, got.epoch.external_secret)
            assert external_pub == want["external_pub"]
            exporter = epoch["exporter"]
            exported = key_schedule.export(
                suite,
                got.epoch.exporter_secret,
                exporter["label"],
                bytes.fromhex(exporter["context"]),
                exporter["length"],
            )
            assert exported == bytes.fromhex(exporter["secret"])
            init_secret = got.epoch.init_secret


@pytest.mark.rule("RFC 9420 §8.4")
def test_pre_shared_keys_chain_into_the_secret_that_the_vectors_name():
    for case in vectors.cases("mls/psk_secret.json", vectors.SUITES):
        suite = cipher_suite(case["cipher_suite"])
        psks = [
            (
                PreSharedKeyID(PSKType.EXTERNAL, bytes.fromhex(psk["psk_nonce"]), bytes.fromhex(psk["psk_id"])),
                bytes.fromhex(psk["psk"]),
            )
            for psk in case["psks"]
        ]
        assert key_schedule.psk_secret(suite, psks) == bytes.fromhex(case["psk_secret"])


@pytest.mark.rule("RFC 9420 §8.2")
def test_transcript_hashes_and_confirmation_tag_are_the_ones_that_the_vectors_name():
    for case in vectors.cases("mls/transcript-hashes.json", vectors.SUITES):
        suite = cipher_suite(case["cipher_suite"])
        commit = AuthenticatedContent.decode(bytes.fromhex(case["authenticated_content"]))
        before = bytes.fromhex(case["interim_transcript_hash_before"])
        confirmed = confirmed_transcript_hash(suite, before, commit)
        tag = key_schedule.confirmation_tag(suite, bytes.fromhex(case["confirmation_key"]), confirmed)
        assert confirmed == bytes.fromhex(case["confirmed_transcript_hash_after"])
        assert tag == commit.auth.confirmation_tag
        assert interim_transcript_hash(suite, confirmed, tag) == bytes.fromhex(case["interim_transcript_hash_after"])


@pytest.mark.rule("RFC 9420 §8.5")
@pytest.mark.rule("hostile input", "exporter-context")
def test_the_exporter_binds_its_output_to_label_and_context():
    suite = cipher_suite(1)
    exported = {
        key_schedule.export(suite, b"e" * 32, label, context, 32)
        for label in ("one", "other")
        for context in (b"", b"x", suite.hash(b"x"))
    }
    assert len(exported) == 6


@pytest.mark.rule("RFC 9420 §8.4")
def test_a_missing_pre_shared_key_is_refused_and_never_invented():
    wanted = PreSharedKeyID(PSKType.EXTERNAL, b"n" * 32, b"wanted")
    with pytest.raises(StateError):
        key_schedule.KnownPsks({b"other": b"key"}).find([wanted])


@pytest.mark.rule("RFC 9420 §12.4.3.1", "psk-named-once")
def test_the_same_pre_shared_key_named_twice_is_refused():
    named = PreSharedKeyID(PSKType.EXTERNAL, b"n" * 32, b"held")
    with pytest.raises(ValidationError):
        key_schedule.KnownPsks({b"held": b"key"}).find([named, named])


@pytest.mark.rule("RFC 9420 §8")
def test_an_epoch_depends_on_init_commit_and_psk_secret_and_on_the_context():
    suite = cipher_suite(1)
    inputs = {"init_secret": b"i" * 32, "commit_secret": b"c" * 32, "psk_secret": b"p" * 32}

    def authenticator(context: GroupContext, **changes: bytes) -> bytes:
        return key_schedule.next_epoch(suite, **{**inputs, **changes}, group_context=context).epoch.epoch_authenticator

    other = GroupContext(1, 1, b"other", 3, b"t" * 32, b"c" * 32, ())
    changed = {authenticator(CONTEXT, **{name: b"x" * 32}) for name in inputs}
    assert len({authenticator(CONTEXT), authenticator(other), *changed}) == 5


def test_epoch_secrets_do_not_show_themselves_when_printed():
    schedule = key_schedule.first_epoch(cipher_suite(1), b"s" * 32)
    shown = repr(schedule)
    assert "secret bytes" in shown
    assert repr(bytes(schedule.epoch.init_secret)) not in shown
