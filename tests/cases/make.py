"""Write the JSON cases: `python -m tests.cases.make`. The same every time: keys come from a seeded source."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from heliograph.client.identity import Founded, found_account, next_state
from heliograph.mls.suite import SignatureKeyPair, cipher_suite
from heliograph.wire.account_state import (
    DeviceEntry,
    DeviceRole,
    SignedAccountState,
    Signer,
    sign_state,
    signature_for_new_key,
)
from heliograph.wire.encoding import base64url_text
from heliograph.wire.ids import AccountId, DeviceId, Handle, device_id, device_uri

FOLDER = Path(__file__).parent
DOMAIN = "example.org"
NOW_MS = 1_790_000_000_000
Case = dict[str, Any]


class Maker:
    """Accounts with chains, from a seed."""

    def __init__(self) -> None:
        self.random = random.Random(0x5EED).randbytes

    def found(self, handle: str) -> Founded:
        """Return a new account."""
        return found_account(DOMAIN, Handle(handle), now_ms=NOW_MS, random=self.random)

    def with_device(
        self, founded: Founded, chain: list[SignedAccountState]
    ) -> tuple[DeviceId, SignatureKeyPair, SignedAccountState]:
        """Return another device, and the state that adds it."""
        keys = cipher_suite(1).generate_signature_key(self.random)
        device = device_id(self.random(16))
        devices = (*chain[-1].state.devices, DeviceEntry(device, keys.public, DeviceRole.FULL))
        state = next_state(chain[-1], devices=devices, now_ms=NOW_MS, random=self.random)
        signed = self.sign(founded, state)
        return device, keys, replace(signed, new_key_signatures=(signature_for_new_key(state, keys.private),))

    def without_device(self, founded: Founded, chain: list[SignedAccountState], device: DeviceId) -> SignedAccountState:
        """Return the state that puts a device out."""
        devices = tuple(entry for entry in chain[-1].state.devices if entry.device != device)
        return self.sign(founded, next_state(chain[-1], devices=devices, now_ms=NOW_MS, random=self.random))

    @staticmethod
    def sign(founded: Founded, state: Any) -> SignedAccountState:
        """Return a state signed by the account's key."""
        key = founded.identity.account_private_key
        assert key is not None
        return sign_state(state, Signer.ACCOUNT, key, ())


def credentials() -> dict[str, Any]:
    """Return the credential cases."""
    maker = Maker()
    alice, bob = maker.found("alice"), maker.found("bob")
    genesis = [alice.genesis]
    tablet, tablet_keys, added = maker.with_device(alice, genesis)
    grown = [*genesis, added]
    shrunk = [*grown, maker.without_device(alice, grown, tablet)]
    chains = {
        "alice": genesis,
        "alice with a tablet": grown,
        "alice, the tablet removed": shrunk,
        "bob": [bob.genesis],
        "alice, a state left out": [genesis[0], shrunk[2]],
        "alice, a signature of bob's": [genesis[0], replace(added, signature=Maker.sign(bob, added.state).signature)],
        "alice, the new device did not sign": [genesis[0], replace(added, new_key_signatures=())],
        "bob's genesis under alice's name": [bob.genesis],
    }
    a, phone = alice.identity.account, alice.identity.device
    phone_key = alice.genesis.state.devices[0].device_key
    uri = device_uri(DOMAIN, a, phone)
    tablet_uri = device_uri(DOMAIN, a, tablet)
    bob_uri = device_uri(DOMAIN, bob.identity.account, bob.identity.device)
    bob_key = bob.genesis.state.devices[0].device_key

    def case(name: str, leaf: str, key: bytes, chain: str | None, *, valid: bool, **others: Any) -> Case:
        return {
            "name": name,
            "uri": leaf,
            "signature_key": base64url_text(key),
            "chain": chain,
            "account": others.get("account", a),
            "domain": DOMAIN,
            "participants": others.get("participants", [a, bob.identity.account]),
            "catching_up": others.get("catching_up", False),
            "valid": valid,
        }

    cases = [
        case("the first device of an account", uri, phone_key, "alice", valid=True),
        case("a device that was added", tablet_uri, tablet_keys.public, "alice with a tablet", valid=True),
        case("the first device, by a longer chain", uri, phone_key, "alice, the tablet removed", valid=True),
        case("a device before its state is known", tablet_uri, tablet_keys.public, "alice", valid=False),
        case("a removed device", tablet_uri, tablet_keys.public, "alice, the tablet removed", valid=False),
        case(
            "a removed device in the backlog",
            *(tablet_uri, tablet_keys.public, "alice, the tablet removed"),
            valid=True,
            catching_up=True,
        ),
        case(
            "a device that never was, in the backlog",
            *(tablet_uri, tablet_keys.public, "alice"),
            valid=False,
            catching_up=True,
        ),
        case("another key under a device's name", uri, tablet_keys.public, "alice with a tablet", valid=False),
        case("a device under another's name", tablet_uri, phone_key, "alice with a tablet", valid=False),
        case("another account's device", bob_uri, bob_key, "alice", valid=False),
        case("bob by his own chain", bob_uri, bob_key, "bob", valid=True, account=bob.identity.account),
        case("bob's chain under alice's name", uri, phone_key, "bob's genesis under alice's name", valid=False),
        case("no chain", uri, phone_key, None, valid=False),
        case("a chain with a state left out", uri, phone_key, "alice, a state left out", valid=False),
        case("a chain that another has signed", uri, phone_key, "alice, a signature of bob's", valid=False),
        case(
            "a device that did not agree to its account",
            *(tablet_uri, tablet_keys.public, "alice, the new device did not sign"),
            valid=False,
        ),
        case("who takes no part", uri, phone_key, "alice", valid=False, participants=[bob.identity.account]),
        case("another server", device_uri("example.net", a, phone), phone_key, "alice", valid=False),
        case("a user URI", f"mimi://{DOMAIN}/u/{a[1:]}", phone_key, "alice", valid=False),
        case("an empty name", "", phone_key, "alice", valid=False),
        case("a name with a line break", uri + "\n", phone_key, "alice", valid=False),
        case("a name in capitals", uri.upper(), phone_key, "alice", valid=False),
    ]
    return {
        "about": "validate_credential: a chain is verified from the account id, then the leaf is judged by it",
        "chains": {name: [base64url_text(one.encode()) for one in chain] for name, chain in chains.items()},
        "cases": cases,
    }


def room_policy() -> dict[str, Any]:
    """Return the policy cases."""
    source = random.Random(0xB0A7).randbytes
    accounts: dict[str, AccountId] = {}
    for handle in ("owner", "admin", "admin_2", "member", "member_2", "stranger"):
        accounts[handle] = found_account(DOMAIN, Handle(handle), now_ms=NOW_MS, random=source).identity.account
    devices = {handle: device_uri(DOMAIN, account, device_id(source(16))) for handle, account in accounts.items()}
    second = {handle: device_uri(DOMAIN, account, device_id(source(16))) for handle, account in accounts.items()}
    group = {"owner": 4, "admin": 3, "member": 2}
    leaves = [devices[handle] for handle in group]

    def side(participants: dict[str, int], *, direct: bool = False) -> Case:
        return {"direct": direct, "participants": {accounts[who]: role for who, role in participants.items()}}

    def case(
        name: str,
        before: dict[str, int],
        after: dict[str, int],
        committer: str,
        refused: str | None = None,
        **change: Any,
    ) -> Case:
        direct = change.get("direct", False)
        return {
            "name": name,
            "domain": DOMAIN,
            "before": side(before, direct=direct),
            "after": side(after, direct=change.get("direct_after", direct)),
            "committer": accounts[committer],
            "external": change.get("external", False),
            "added": change.get("added", []),
            "removed": change.get("removed", []),
            "present": change.get("present", leaves),
            "dropped": change.get("dropped", []),
            "leaving": change.get("leaving", []),
            "refused": refused,
        }

    grown = {**group, "member_2": 2}
    two = {"owner": 4, "member": 4}
    pair = [devices["owner"], devices["member"]]
    cases = [
        case("nothing changes", group, group, "member"),
        case(
            *("an admin adds someone", group, grown, "admin"),
            added=[devices["member_2"]],
            present=[*leaves, devices["member_2"]],
        ),
        case(
            *("a member adds someone", group, grown, "member", "not-allowed"),
            added=[devices["member_2"]],
            present=[*leaves, devices["member_2"]],
        ),
        case(
            *("a device of nobody who takes part", group, group, "admin", "invalid-proposal"),
            added=[devices["stranger"]],
            present=[*leaves, devices["stranger"]],
        ),
        case(
            *("an admin removes a member", group, {"owner": 4, "admin": 3}, "admin"),
            removed=[devices["member"]],
            present=[devices["owner"], devices["admin"]],
        ),
        case(
            *("a removed member's device stays", group, {"owner": 4, "admin": 3}, "admin", "invalid-proposal"),
        ),
        case(
            *("an admin removes the owner", group, {"admin": 3, "member": 2}, "admin", "not-allowed"),
            present=[devices["admin"], devices["member"]],
        ),
        case("an admin makes an admin", group, {**group, "member": 3}, "admin", "not-allowed"),
        case("an owner makes an admin", group, {**group, "member": 3}, "owner"),
        case("an owner makes an owner", group, {**group, "admin": 4}, "owner"),
        case("a member makes itself an admin", group, {**group, "member": 3}, "member", "not-allowed"),
        case("an admin steps down", group, {**group, "admin": 2}, "admin"),
        case("the last owner steps down", group, {**group, "owner": 2}, "owner", "not-allowed"),
        case("who takes no part commits", group, group, "stranger", "not-allowed"),
        case("who is banned commits", {**group, "member_2": 1}, {**group, "member_2": 1}, "member_2", "not-allowed"),
        case(
            *("a member brings in another device of its own", group, group, "member"),
            added=[second["member"]],
            present=[*leaves, second["member"]],
        ),
        case(
            *("a device stands twice", group, group, "admin", "invalid-proposal"),
            added=[devices["member"]],
            present=[*leaves, devices["member"]],
        ),
        case(
            *("a participant's new device joins from outside", group, group, "member"),
            external=True,
            added=[second["member"]],
            present=[*leaves, second["member"]],
        ),
        case(
            *("a participant's device comes back from outside", group, group, "member"),
            external=True,
            added=[devices["member"]],
            removed=[devices["member"]],
        ),
        case(
            *("from outside, in place of another device", group, group, "member", "not-allowed"),
            external=True,
            added=[second["member"]],
            removed=[devices["member"]],
            present=[devices["owner"], devices["admin"], second["member"]],
        ),
        case(
            *("from outside, with another's device", group, group, "member", "not-allowed"),
            external=True,
            added=[second["admin"]],
            present=[*leaves, second["admin"]],
        ),
        case(
            *("from outside, with another role", group, {**group, "admin": 4}, "owner", "not-allowed"),
            external=True,
            added=[second["owner"]],
            present=[*leaves, second["owner"]],
        ),
        case(
            *("a stranger from outside", group, group, "stranger", "not-allowed"),
            external=True,
            added=[devices["stranger"]],
            present=[*leaves, devices["stranger"]],
        ),
        case(
            *("a direct room gets its second person", {"owner": 4}, two, "owner"),
            direct=True,
            added=[devices["member"]],
            present=pair,
        ),
        case(
            *("a direct room gets a third person", two, {**two, "admin": 2}, "owner", "not-allowed"),
            direct=True,
            present=[*pair, devices["admin"]],
        ),
        case(
            *("a direct room loses a person", two, {"owner": 4}, "owner", "not-allowed"), direct=True, present=pair[:1]
        ),
        case("an admin lists someone who was not asked", group, grown, "admin", "invalid-proposal"),
        case(
            *("a member removes another's device", group, group, "member", "not-allowed"),
            removed=[devices["admin"]],
            present=[devices["owner"], devices["member"]],
        ),
        case(
            *("a member replaces another's device", group, group, "member", "not-allowed"),
            added=[devices["admin"]],
            removed=[devices["admin"]],
        ),
        case(
            *("a member removes a device that its account has dropped", group, group, "member"),
            removed=[devices["admin"]],
            present=[devices["owner"], devices["member"]],
            dropped=[devices["admin"]],
        ),
        case(
            *("a member takes out a device that leaves", group, group, "member"),
            removed=[devices["owner"]],
            present=[devices["admin"], devices["member"]],
            leaving=[devices["owner"]],
        ),
        case(
            *("a device that leaves is left in", group, group, "owner", "invalid-proposal"),
            leaving=[devices["member"]],
        ),
        case(
            *("from outside, a device that leaves is left in", group, group, "member"),
            external=True,
            added=[second["member"]],
            present=[*leaves, second["member"]],
            leaving=[devices["admin"]],
        ),
        case("a group becomes direct", two, two, "owner", "invalid-proposal", direct_after=True, present=pair),
        case(
            "a leaf of another server", group, group, "admin", "invalid-proposal", present=[*leaves, "mimi://x/d/a/b"]
        ),
    ]
    return {
        "about": "check_change: roles 0 none, 1 banned, 2 member, 3 admin, 4 owner; `refused` is the problem's type",
        "cases": cases,
    }


FILES = {"credentials.json": credentials, "room_policy.json": room_policy}


def text_of(value: dict[str, Any]) -> str:
    """Return a case file as it is written."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, make in FILES.items():
        (FOLDER / name).write_text(text_of(make()))
