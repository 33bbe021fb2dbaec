"""Members of a group as the stories of this folder see them: the same face for our library and for ts-mls.

What goes from one to another is bytes, as it would travel. Proposals are named by our own structures; an Update has a
method of its own, since its maker keeps a key.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heliograph.mls.credential import Credential
from heliograph.mls.extension import Extension
from heliograph.mls.framing import MLSMessage, WireFormat
from heliograph.mls.group import Group, PendingCommit, ReceivedApplication, ReceivedCommit
from heliograph.mls.key_package import KeyPackage, KeyPackageBundle, create_key_package
from heliograph.mls.leaf_node import Capabilities
from heliograph.mls.membership import create_group, join, join_external, propose_joining
from heliograph.mls.proposal import (
    Add,
    GroupContextExtensions,
    PreSharedKeyProposal,
    Proposal,
    PSKType,
    ReInit,
    Remove,
    ResumptionPSKUsage,
)
from heliograph.mls.successor import branch, reinitialize
from heliograph.mls.suite import Random, cipher_suite
from heliograph.mls.tree_math import LeafIndex
from tests.interop.peer import Peer
from tests.mls.company import LIFETIME, NOW_S

# A group-context extension that means nothing to anyone; every client here says that it supports it.
EXTENSION_TYPE = 0xF0C1
MAX_NAME_BYTES = 64


@dataclass(frozen=True)
class Committed:
    """A commit that is not yet accepted; welcome: None if it adds nobody; ratchet_tree: of the new epoch."""

    commit: bytes
    welcome: bytes | None
    ratchet_tree: bytes


@dataclass(frozen=True)
class Heard:
    """What a message was; data: of an application message; removed: it removed the one who heard it."""

    kind: str
    authenticated_data: bytes
    data: bytes = b""
    removed: bool = False


@dataclass(frozen=True)
class Status:
    """What members of one epoch agree on. members: (leaf index, name, signature key)."""

    epoch: int
    epoch_authenticator: bytes
    tree_hash: bytes
    extension_types: tuple[int, ...]
    members: tuple[tuple[int, bytes, bytes], ...]


class Player(ABC):
    """One client, which is in one group at most."""

    kind: str

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"

    @property
    @abstractmethod
    def leaf(self) -> LeafIndex: ...
    @abstractmethod
    def know_psk(self, psk_id: bytes, psk: bytes) -> None: ...
    @abstractmethod
    def key_package(self) -> bytes: ...
    @abstractmethod
    def create_group(self, group_id: bytes, extensions: Sequence[Extension] = ()) -> None: ...
    @abstractmethod
    def join(self, welcome: bytes, ratchet_tree: bytes | None, predecessor: "Player | None" = None) -> None: ...
    @abstractmethod
    def reborn(self, suite_id: int) -> "Player":
        """Return a new client of the same person, for another group."""

    @abstractmethod
    def found_successor(self, predecessor: "Player", key_packages: Sequence[bytes], branch_id: bytes) -> Committed:
        """Found the group that follows upon a predecessor's: the one that its ReInit names, else a branch."""

    @abstractmethod
    def propose_joining(self, group_info: bytes) -> bytes: ...
    @abstractmethod
    def join_external(
        self, group_info: bytes, ratchet_tree: bytes | None, *, resync: bool = False, aad: bytes = b""
    ) -> Committed: ...
    @abstractmethod
    def propose(self, proposal: Proposal, *, public: bool, aad: bytes = b"") -> bytes: ...
    @abstractmethod
    def propose_update(self, *, public: bool, aad: bytes = b"") -> bytes: ...
    @abstractmethod
    def commit(
        self,
        proposals: Sequence[Proposal] = (),
        *,
        public: bool = True,
        by_reference: bool = True,
        with_tree: bool = False,
        aad: bytes = b"",
    ) -> Committed: ...
    @abstractmethod
    def take_up(self) -> None: ...
    @abstractmethod
    def receive(self, message: bytes) -> Heard: ...
    @abstractmethod
    def seal(self, data: bytes, aad: bytes = b"") -> bytes: ...
    @abstractmethod
    def group_info(self, *, with_tree: bool = False) -> bytes: ...
    @abstractmethod
    def ratchet_tree(self) -> bytes: ...
    @abstractmethod
    def status(self) -> Status: ...
    @abstractmethod
    def export(self, label: str, context: bytes, length: int) -> bytes: ...


def wire_format(*, public: bool) -> WireFormat:
    return WireFormat.PUBLIC_MESSAGE if public else WireFormat.PRIVATE_MESSAGE


class Ours(Player):
    """A client of our library."""

    kind = "ours"

    def __init__(self, name: str, suite_id: int, random: Random) -> None:
        super().__init__(name)
        self.suite = cipher_suite(suite_id)
        self.random = random
        self.signature_key = self.suite.generate_signature_key(random)
        self.credential = Credential.basic(name.encode())
        self.capabilities = Capabilities(cipher_suites=(suite_id,), extensions=(EXTENSION_TYPE,))
        self.psks: dict[bytes, bytes] = {}
        self.packages: list[KeyPackageBundle] = []
        self.held: Group | None = None
        self.pending: PendingCommit | None = None

    @property
    def group(self) -> Group:
        assert self.held is not None, f"{self} is in no group"
        return self.held

    @property
    def leaf(self) -> LeafIndex:
        return self.group.own_leaf_index

    def restart(self) -> None:
        """Go on with what was stored."""
        self.held = Group.load(self.group.rows())

    def know_psk(self, psk_id: bytes, psk: bytes) -> None:
        self.psks[psk_id] = psk

    def key_package(self) -> bytes:
        bundle = create_key_package(self.suite, self.credential, self.signature_key.private, **self._common())
        self.packages.append(bundle)
        return MLSMessage(bundle.key_package).encode()

    def create_group(self, group_id: bytes, extensions: Sequence[Extension] = ()) -> None:
        self.held = create_group(
            self.suite,
            group_id,
            self.credential,
            self.signature_key.private,
            extensions=extensions,
            **self._common(),
        )

    def join(self, welcome: bytes, ratchet_tree: bytes | None, predecessor: Player | None = None) -> None:
        self.held = join(
            welcome,
            ratchet_tree,
            self.packages[-1],
            self.signature_key.private,
            now_s=NOW_S,
            psks=self.psks,
            predecessor=predecessor.group if isinstance(predecessor, Ours) else None,
        )

    def reborn(self, suite_id: int) -> "Ours":
        return Ours(self.name, suite_id, self.random)

    def found_successor(self, predecessor: Player, key_packages: Sequence[bytes], branch_id: bytes) -> Committed:
        assert isinstance(predecessor, Ours)
        old = predecessor.group
        packages = [add_of(package).key_package for package in key_packages]
        keys, common = (self.credential, self.signature_key.private), self._common()
        if old.reinit is None:
            extensions = old.group_context.extensions
            self.pending = branch(old, branch_id, packages, *keys, extensions=extensions, now_s=NOW_S, **common)
        else:
            self.pending = reinitialize(old, packages, *keys, now_s=NOW_S, **common)
        return self._committed(self.pending)

    def propose_joining(self, group_info: bytes) -> bytes:
        self.key_package()
        return propose_joining(group_info, self.packages[-1], self.signature_key.private)

    def _common(self) -> dict[str, Any]:
        return {"lifetime": LIFETIME, "capabilities": self.capabilities, "random": self.random}

    def join_external(
        self, group_info: bytes, ratchet_tree: bytes | None, *, resync: bool = False, aad: bytes = b""
    ) -> Committed:
        self.pending = join_external(
            group_info,
            ratchet_tree,
            self.credential,
            self.signature_key.private,
            capabilities=self.capabilities,
            resync_leaf=self.leaf if resync else None,
            random=self.random,
            now_s=NOW_S,
            authenticated_data=aad,
        )
        self.held = None
        return self._committed(self.pending)

    def propose(self, proposal: Proposal, *, public: bool, aad: bytes = b"") -> bytes:
        self.held, message = self.group.propose(
            proposal,
            random=self.random,
            now_s=NOW_S,
            authenticated_data=aad,
            wire_format=wire_format(public=public),
        )
        return message

    def propose_update(self, *, public: bool, aad: bytes = b"") -> bytes:
        self.held, message = self.group.update_leaf(
            random=self.random, now_s=NOW_S, authenticated_data=aad, wire_format=wire_format(public=public)
        )
        return message

    def commit(
        self,
        proposals: Sequence[Proposal] = (),
        *,
        public: bool = True,
        by_reference: bool = True,
        with_tree: bool = False,
        aad: bytes = b"",
    ) -> Committed:
        waiting = [] if by_reference else [one.reference for one in self.group.pending_proposals]
        self.pending = self.group.commit(
            proposals,
            random=self.random,
            now_s=NOW_S,
            leave_out=waiting,
            authenticated_data=aad,
            psks=self.psks,
            wire_format=wire_format(public=public),
            with_tree=with_tree,
        )
        self.held = self.pending.group_before
        return self._committed(self.pending)

    @staticmethod
    def _committed(pending: PendingCommit) -> Committed:
        return Committed(pending.commit, pending.welcome, pending.ratchet_tree)

    def take_up(self) -> None:
        assert self.pending is not None
        self.held = self.pending.group if self.held is None else self.held.take_up(self.pending.group)
        self.pending = None

    def receive(self, message: bytes) -> Heard:
        self.held, received = self.group.receive(message, now_s=NOW_S, psks=self.psks)
        if isinstance(received, ReceivedApplication):
            return Heard("application", received.authenticated_data, received.application_data)
        if isinstance(received, ReceivedCommit):
            self.pending = None
            return Heard("commit", received.authenticated_data, removed=not self.group.is_active)
        return Heard("proposal", b"")

    def seal(self, data: bytes, aad: bytes = b"") -> bytes:
        self.held, message = self.group.seal(data, random=self.random, authenticated_data=aad)
        return message

    def group_info(self, *, with_tree: bool = False) -> bytes:
        return self.group.group_info(with_tree=with_tree)

    def ratchet_tree(self) -> bytes:
        return self.group.ratchet_tree()

    def status(self) -> Status:
        context = self.group.group_context
        return Status(
            context.epoch,
            self.group.epoch_authenticator,
            context.tree_hash,
            tuple(extension.extension_type for extension in context.extensions),
            tuple(
                (one.leaf_index, one.leaf_node.credential.content, one.leaf_node.signature_key)
                for one in self.group.members()
            ),
        )

    def export(self, label: str, context: bytes, length: int) -> bytes:
        return self.group.export(label, context, length)


class TsMls(Player):
    """A client of ts-mls."""

    kind = "ts-mls"

    def __init__(self, name: str, suite_id: int, peer: Peer) -> None:
        super().__init__(name)
        self.peer = peer
        made = peer.ask("new_client", suite=suite_id, name=name.encode(), extension_types=[EXTENSION_TYPE])
        self.client: int = made["client"]

    def _ask(self, do: str, **fields: Any) -> Any:
        return self.peer.ask(do, client=self.client, **fields)

    def _bytes(self, do: str, **fields: Any) -> bytes:
        return bytes.fromhex(self._ask(do, **fields))

    def forget(self) -> None:
        """Let the process forget the client."""
        self._ask("forget")

    @property
    def leaf(self) -> LeafIndex:
        return LeafIndex(self._ask("status")["own_leaf_index"])

    def know_psk(self, psk_id: bytes, psk: bytes) -> None:
        self._ask("know_psk", psk_id=psk_id, psk=psk)

    def key_package(self) -> bytes:
        return self._bytes("key_package")

    def create_group(self, group_id: bytes, extensions: Sequence[Extension] = ()) -> None:
        self._ask("create_group", group_id=group_id, extensions=_extensions(extensions))

    def join(self, welcome: bytes, ratchet_tree: bytes | None, predecessor: Player | None = None) -> None:
        old = predecessor.client if isinstance(predecessor, TsMls) else None
        self._ask("join", welcome=welcome, ratchet_tree=ratchet_tree, predecessor=old)

    def reborn(self, suite_id: int) -> "TsMls":
        return TsMls(self.name, suite_id, self.peer)

    def found_successor(self, predecessor: Player, key_packages: Sequence[bytes], branch_id: bytes) -> Committed:
        assert isinstance(predecessor, TsMls)
        return self._committed(
            "found_successor",
            predecessor=predecessor.client,
            key_packages=[package.hex() for package in key_packages],
            group_id=branch_id,
        )

    def propose_joining(self, group_info: bytes) -> bytes:
        return self._bytes("propose_joining", group_info=group_info)

    def join_external(
        self, group_info: bytes, ratchet_tree: bytes | None, *, resync: bool = False, aad: bytes = b""
    ) -> Committed:
        return self._committed(
            "join_external", group_info=group_info, ratchet_tree=ratchet_tree, resync=resync, authenticated_data=aad
        )

    def propose(self, proposal: Proposal, *, public: bool, aad: bytes = b"") -> bytes:
        return self._bytes("propose", proposal=_named(proposal), public=public, authenticated_data=aad)

    def propose_update(self, *, public: bool, aad: bytes = b"") -> bytes:
        return self._bytes("propose", proposal={"type": "update"}, public=public, authenticated_data=aad)

    def commit(
        self,
        proposals: Sequence[Proposal] = (),
        *,
        public: bool = True,
        by_reference: bool = True,
        with_tree: bool = False,
        aad: bytes = b"",
    ) -> Committed:
        return self._committed(
            "commit",
            proposals=[_named(proposal) for proposal in proposals],
            public=public,
            by_reference=by_reference,
            with_tree=with_tree,
            authenticated_data=aad,
        )

    def _committed(self, do: str, **fields: Any) -> Committed:
        made = self._ask(do, **fields)
        welcome = made.get("welcome")
        return Committed(
            bytes.fromhex(made["commit"]),
            bytes.fromhex(welcome) if welcome else None,
            bytes.fromhex(made["ratchet_tree"]),
        )

    def take_up(self) -> None:
        self._ask("take_up")

    def receive(self, message: bytes) -> Heard:
        heard = self._ask("receive", message=message)
        return Heard(
            heard["kind"],
            bytes.fromhex(heard["authenticated_data"]),
            bytes.fromhex(heard.get("data", "")),
            heard.get("removed", False),
        )

    def seal(self, data: bytes, aad: bytes = b"") -> bytes:
        return self._bytes("seal", data=data, authenticated_data=aad)

    def group_info(self, *, with_tree: bool = False) -> bytes:
        return self._bytes("group_info", with_tree=with_tree)

    def ratchet_tree(self) -> bytes:
        return self._bytes("ratchet_tree")

    def status(self) -> Status:
        told = self._ask("status")
        return Status(
            told["epoch"],
            bytes.fromhex(told["epoch_authenticator"]),
            bytes.fromhex(told["tree_hash"]),
            tuple(told["extensions"]),
            tuple((index, bytes.fromhex(name), bytes.fromhex(key)) for index, name, key in told["members"]),
        )

    def export(self, label: str, context: bytes, length: int) -> bytes:
        return self._bytes("export", label=label, context=context, length=length)


def add_of(key_package: bytes) -> Add:
    """Return the proposal to add the owner of a key package, an MLSMessage."""
    body = MLSMessage.decode(key_package).body
    assert isinstance(body, KeyPackage)
    return Add(body)


def _extensions(extensions: Sequence[Extension]) -> list[tuple[int, str]]:
    return [(extension.extension_type, extension.extension_data.hex()) for extension in extensions]


def _named(proposal: Proposal) -> dict[str, Any]:
    match proposal:
        case Add():
            return {"type": "add", "key_package": MLSMessage(proposal.key_package).encode().hex()}
        case Remove():
            return {"type": "remove", "removed": int(proposal.removed)}
        case PreSharedKeyProposal(psk) if psk.psktype is PSKType.EXTERNAL:
            return {"type": "psk", "psk_id": psk.psk_id.hex(), "psk_nonce": psk.psk_nonce.hex()}
        case PreSharedKeyProposal(psk) if psk.usage is ResumptionPSKUsage.APPLICATION:
            return {
                "type": "resumption_psk",
                "psk_group_id": psk.psk_group_id.hex(),
                "psk_epoch": psk.psk_epoch,
                "psk_nonce": psk.psk_nonce.hex(),
            }
        case ReInit():
            return {
                "type": "reinit",
                "group_id": proposal.group_id.hex(),
                "suite": proposal.cipher_suite,
                "extensions": _extensions(proposal.extensions),
            }
        case GroupContextExtensions():
            return {"type": "group_context_extensions", "extensions": _extensions(proposal.extensions)}
        case _:
            raise ValueError(f"the peer proposes no {type(proposal).__name__}")
