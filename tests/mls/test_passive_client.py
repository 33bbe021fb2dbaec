"""A member that only listens: joins by the official Welcomes and follows the official commits."""

from collections.abc import Mapping
from typing import Any

import pytest

from heliograph.mls import key_package as key_package_module
from heliograph.mls import ratchet_tree
from heliograph.mls.framing import MLSMessage
from heliograph.mls.group import (
    Group,
)
from heliograph.mls.key_package import KeyPackage, KeyPackageBundle
from heliograph.mls.membership import join
from heliograph.mls.proposal import ProposalType
from heliograph.mls.proposal_rules import ProposalPolicy
from heliograph.mls.suite import Secret
from tests import vectors

# The vectors use pre-shared keys, which our own groups do not permit.
POLICY = ProposalPolicy(
    member=frozenset(ProposalType), external=frozenset(ProposalType), new_member=frozenset(ProposalType)
)


NOW_S = 1_720_000_000  # July 2024: within the lifetimes of the key packages that the commits add
ENDLESS_S = 1 << 64


@pytest.fixture(autouse=True)
def endless_lifetimes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Permit the lifetimes of the vectors, which are a year long or endless."""
    monkeypatch.setattr(key_package_module, "LIFETIME_LIMIT_S", ENDLESS_S)
    monkeypatch.setattr(ratchet_tree, "LAST_RESORT_LIFETIME_LIMIT_S", ENDLESS_S)


def bundle_of(case: dict[str, Any]) -> KeyPackageBundle:
    key_package = MLSMessage.decode(bytes.fromhex(case["key_package"])).body
    assert isinstance(key_package, KeyPackage)
    return KeyPackageBundle(
        key_package,
        Secret(vectors.private_key(case, "init_priv")),
        Secret(vectors.private_key(case, "encryption_priv")),
    )


def psks_of(case: dict[str, Any]) -> Mapping[bytes, bytes]:
    return {bytes.fromhex(psk["psk_id"]): bytes.fromhex(psk["psk"]) for psk in case["external_psks"]}


def joined(case: dict[str, Any]) -> Group:
    tree = case["ratchet_tree"]
    return join(
        bytes.fromhex(case["welcome"]),
        bytes.fromhex(tree) if tree else None,
        bundle_of(case),
        vectors.private_key(case, "signature_priv"),
        now_s=NOW_S,
        psks=psks_of(case),
    )


def followed(group: Group, case: dict[str, Any]) -> None:
    for epoch in case["epochs"]:
        for message in (*epoch["proposals"], epoch["commit"]):
            group, _ = group.receive(bytes.fromhex(message), now_s=NOW_S, psks=psks_of(case), policy=POLICY)
        assert group.epoch_authenticator == bytes.fromhex(epoch["epoch_authenticator"])


@pytest.mark.rule("RFC 9420 §12.4.3.1", "joins")
def test_every_official_welcome_leads_into_its_epoch():
    for case in vectors.cases("mls/passive-client-welcome.json", vectors.SUITES):
        group = joined(case)
        assert group.epoch_authenticator == bytes.fromhex(case["initial_epoch_authenticator"])
        followed(group, case)


@pytest.mark.rule("RFC 9420 §12.4.2", "new-epoch")
def test_every_official_commit_leads_into_its_epoch():
    for case in vectors.cases("mls/passive-client-handling-commit.json", vectors.SUITES):
        followed(joined(case), case)
