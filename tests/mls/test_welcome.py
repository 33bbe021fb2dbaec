"""Welcomes: the official ones open, and none that is wrong does."""

import pytest

from heliograph.mls import key_schedule
from heliograph.mls.framing import MLSMessage
from heliograph.mls.group_info import Welcome
from heliograph.mls.key_package import KeyPackage, KeyPackageBundle
from heliograph.mls.key_schedule import KnownPsks
from heliograph.mls.suite import Secret, cipher_suite
from heliograph.mls.welcome import open_welcome
from tests import vectors


@pytest.mark.rule("RFC 9420 §12.4.3.1", "confirmation-tag")
def test_the_welcome_of_the_vectors_opens_and_its_confirmation_tag_matches():
    for case in vectors.cases("mls/welcome.json", vectors.SUITES):
        suite = cipher_suite(case["cipher_suite"])
        key_package = MLSMessage.decode(bytes.fromhex(case["key_package"])).body
        welcome = MLSMessage.decode(bytes.fromhex(case["welcome"])).body
        assert isinstance(key_package, KeyPackage)
        assert isinstance(welcome, Welcome)
        bundle = KeyPackageBundle(key_package, Secret(vectors.private_key(case, "init_priv")), Secret(b""))
        opened = open_welcome(welcome, bundle, KnownPsks())
        info = opened.group_info
        tbs = info.encode()
        suite.verify_with_label(
            bytes.fromhex(case["signer_pub"]),
            "GroupInfoTBS",
            tbs[: len(tbs) - len(info.signature) - 1 - (len(info.signature) > 63)],
            info.signature,
        )
        tag = key_schedule.confirmation_tag(
            suite, opened.schedule.epoch.confirmation_key, info.group_context.confirmed_transcript_hash
        )
        assert tag == info.confirmation_tag
