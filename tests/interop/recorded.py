"""What one of our members heard in a story with ts-mls, as a JSON object that can be heard again without Node.

    cipher_suite, seed          of the story
    key_package                 MLSMessage of the one who listens, with init_priv, encryption_priv and signature_priv
    external_psks               [{psk_id, psk}], all that the story uses
    welcome, ratchet_tree       the MLSMessage, and the tree if it came beside it, else null
    epoch_authenticator         of the epoch that the Welcome leads into
    heard                       in order of arrival: {from, message, kind, ...}
        kind "proposal"
        kind "commit"           with authenticated_data, and the epoch and epoch_authenticator that it leads into
        kind "application"      with authenticated_data and data

Bytes are hexadecimal. `write_vectors.py` writes such files and `test_interop_vectors.py` reads them.
"""

import json
from pathlib import Path
from typing import Any

from heliograph.mls.framing import MLSMessage
from heliograph.mls.key_package import KeyPackage, KeyPackageBundle
from heliograph.mls.suite import Random, Secret
from tests.interop.players import Heard, Ours, Player

FOLDER = Path(__file__).resolve().parent / "vectors"


def file_of(suite_id: int) -> Path:
    return FOLDER / f"suite_{suite_id:04x}.json"


def read(suite_id: int) -> list[dict[str, Any]]:
    return json.loads(file_of(suite_id).read_text("utf-8"))


class Listener(Ours):
    """A member who never speaks, and writes down all that it hears."""

    def __init__(self, name: str, suite_id: int, random: Random) -> None:
        super().__init__(name, suite_id, random)
        self.record: dict[str, Any] = {}

    def join(self, welcome: bytes, ratchet_tree: bytes | None, predecessor: Player | None = None) -> None:
        super().join(welcome, ratchet_tree, predecessor)
        bundle = self.packages[-1]
        self.record = {
            "cipher_suite": self.suite.id,
            "key_package": MLSMessage(bundle.key_package).encode().hex(),
            "init_priv": bundle.init_private_key.hex(),
            "encryption_priv": bundle.encryption_private_key.hex(),
            "signature_priv": self.signature_key.private.hex(),
            "external_psks": [],
            "welcome": welcome.hex(),
            "ratchet_tree": None if ratchet_tree is None else ratchet_tree.hex(),
            "epoch_authenticator": self.group.epoch_authenticator.hex(),
            "heard": [],
        }

    def receive(self, message: bytes) -> Heard:
        heard = super().receive(message)
        self.record["heard"].append({"message": message.hex(), **self._told(heard)})
        return heard

    def finished(self, seed: int) -> dict[str, Any]:
        """Return the record, now that all pre-shared keys are known."""
        psks = [{"psk_id": psk_id.hex(), "psk": psk.hex()} for psk_id, psk in self.psks.items()]
        return {**self.record, "seed": seed, "external_psks": psks}

    def _told(self, heard: Heard) -> dict[str, Any]:
        told: dict[str, Any] = {"kind": heard.kind}
        if heard.kind != "proposal":
            told["authenticated_data"] = heard.authenticated_data.hex()
        if heard.kind == "application":
            told["data"] = heard.data.hex()
        if heard.kind == "commit":
            told["epoch"] = self.group.epoch
            told["epoch_authenticator"] = self.group.epoch_authenticator.hex()
        return told


def listener_of(case: dict[str, Any]) -> Ours:
    """Return the one who listened, before it joined."""
    member = Ours("", case["cipher_suite"], bytes)  # it draws nothing
    body = MLSMessage.decode(bytes.fromhex(case["key_package"])).body
    assert isinstance(body, KeyPackage)
    private = Secret(bytes.fromhex(case["signature_priv"]))
    member.signature_key = type(member.signature_key)(private, body.leaf_node.signature_key)
    member.packages.append(
        KeyPackageBundle(body, Secret(bytes.fromhex(case["init_priv"])), Secret(bytes.fromhex(case["encryption_priv"])))
    )
    for psk in case["external_psks"]:
        member.know_psk(bytes.fromhex(psk["psk_id"]), bytes.fromhex(psk["psk"]))
    return member
