"""The runner's part of the interop protocol: scripts of actors, each of whom one of several clients plays.

A step calls the clients in the order in which the working group's test runner does, and asserts what that one asserts
of their answers: after every step all who take part agree on the epoch authenticator. Which state, transaction or
signer an actor has at present is kept here by the actor's name, as there.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from heliograph.mls.framing import PrivateMessage, PublicMessage
from heliograph.mls.group_info import GroupInfo
from tests.interop.mls_client.described import body_of, tree_of
from tests.interop.mls_client.protocol import MESSAGE_OPTIONS, calls

Description = Mapping[str, object]


class Peer:
    """One client under test, behind its address."""

    def __init__(self, address: str, called: set[str]) -> None:
        """Connect to a client; `called` collects the names of the calls that were answered."""
        self._channel = grpc.insecure_channel(address, options=MESSAGE_OPTIONS)
        self._called = called

    def call(self, name: str, **fields: Any) -> Any:
        """Return the response to a call; raises grpc.RpcError when it is refused."""
        call = calls()[name]
        invoke = self._channel.unary_unary(
            call.path, request_serializer=call.request.SerializeToString, response_deserializer=call.response.FromString
        )
        response = invoke(call.request(**fields), timeout=60)
        self._called.add(name)
        return response

    def close(self) -> None:
        """Let go of the connection."""
        self._channel.close()


class Script:
    """One run of a script: a cipher suite, a wire format for handshakes, and actors played by peers in turn."""

    def __init__(self, peers: Sequence[Peer], suite_id: int, encrypt_handshake: bool) -> None:
        """Begin a script; actors are dealt to the peers in the order in which they come on."""
        self.suite_id = suite_id
        self.encrypt_handshake = encrypt_handshake
        self.state_ids: dict[str, int] = {}
        self.transaction_ids: dict[str, int] = {}
        self.signer_ids: dict[str, int] = {}
        self.group_id = b""
        self._peers = peers
        self._cast: dict[str, Peer] = {}

    def peer(self, actor: str) -> Peer:
        """Return the client that plays an actor."""
        return self._cast.setdefault(actor, self._peers[len(self._cast) % len(self._peers)])

    def ask(self, actor: str, name: str, **fields: Any) -> Any:
        """Return the response to a call on an actor's present state."""
        return self.peer(actor).call(name, state_id=self.state_ids[actor], **fields)

    # --- becoming a member ----------------------------------------------------------------------------------------

    def create_group(self, actor: str, members: Sequence[str] = ()) -> None:
        """Let an actor found a group, and add the others by value."""
        self.group_id = secrets.token_hex(16).encode()
        created = self.peer(actor).call(
            "CreateGroup",
            group_id=self.group_id,
            cipher_suite=self.suite_id,
            encrypt_handshake=self.encrypt_handshake,
            identity=actor.encode(),
        )
        self.state_ids[actor] = created.state_id
        if members:
            adds = [{"proposal_type": b"add", "key_package": self.key_package(member)} for member in members]
            self.full_commit(actor, by_value=adds, joiners=members)

    def key_package(self, actor: str) -> bytes:
        """Return a new key package of an actor, who then waits for a Welcome."""
        identity = actor.encode()
        created = self.peer(actor).call("CreateKeyPackage", cipher_suite=self.suite_id, identity=identity)
        self.transaction_ids[actor] = created.transaction_id
        assert created.init_priv
        assert created.encryption_priv
        assert created.signature_priv
        return created.key_package

    def external_join(
        self,
        actor: str,
        joiner: str,
        members: Sequence[str] = (),
        *,
        external_tree: bool = False,
        remove_prior: bool = False,
        psks: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """Let someone join by an external commit upon an actor's GroupInfo; actor and members follow it."""
        told = self.ask(actor, "GroupInfo", external_tree=external_tree)
        assert bool(told.ratchet_tree) == external_tree
        joined = self.peer(joiner).call(
            "ExternalJoin",
            group_info=told.group_info,
            ratchet_tree=told.ratchet_tree,
            encrypt_handshake=self.encrypt_handshake,
            identity=joiner.encode(),
            remove_prior=remove_prior,
            psks=[{"psk_id": psk_id, "psk_secret": psk} for psk_id, psk in psks],
        )
        self.state_ids[joiner] = joined.state_id
        for member in (*members, actor):
            self._follow(member, [], joined.commit, joined.epoch_authenticator)

    def install_psk(self, *actors: str) -> tuple[bytes, bytes]:
        """Give all these actors, members or not yet, a new external pre-shared key; return its id and the key."""
        psk_id, psk = secrets.token_bytes(32), secrets.token_bytes(32)
        for actor in actors:
            number = self.state_ids.get(actor) or self.transaction_ids[actor]
            self.peer(actor).call("StorePSK", state_or_transaction_id=number, psk_id=psk_id, psk_secret=psk)
        return psk_id, psk

    # --- proposals and commits ------------------------------------------------------------------------------------

    def propose(self, actor: str, name: str, **fields: Any) -> bytes:
        """Return an actor's proposal, made by the call of this name."""
        proposal = self.ask(actor, name, **fields).proposal
        self._check_wire_format(proposal)
        return proposal

    def full_commit(
        self,
        actor: str,
        by_reference: Sequence[bytes] = (),
        by_value: Sequence[Description] = (),
        *,
        members: Sequence[str] = (),
        joiners: Sequence[str] = (),
        force_path: bool = False,
        external_tree: bool = False,
    ) -> bytes:
        """Let an actor commit and take it up, the members follow and the joiners join; return the commit."""
        built = self.ask(
            actor,
            "Commit",
            by_reference=by_reference,
            by_value=by_value,
            force_path=force_path,
            external_tree=external_tree,
        )
        self._check_wire_format(built.commit)
        assert bool(built.ratchet_tree) == external_tree
        taken_up = self.ask(actor, "HandlePendingCommit")
        self.state_ids[actor] = taken_up.state_id
        for member in members:
            self._follow(member, by_reference, built.commit, taken_up.epoch_authenticator)
        for joiner in joiners:
            joined = self.peer(joiner).call(
                "JoinGroup",
                transaction_id=self.transaction_ids[joiner],
                welcome=built.welcome,
                encrypt_handshake=self.encrypt_handshake,
                identity=joiner.encode(),
                ratchet_tree=built.ratchet_tree,
            )
            assert joined.epoch_authenticator == taken_up.epoch_authenticator, joiner
            self.state_ids[joiner] = joined.state_id
        return built.commit

    def _follow(self, member: str, proposals: Sequence[bytes], commit: bytes, authenticator: bytes) -> None:
        handled = self.ask(member, "HandleCommit", proposal=proposals, commit=commit)
        assert handled.epoch_authenticator == authenticator, member
        self.state_ids[member] = handled.state_id

    def _check_wire_format(self, handshake: bytes) -> None:
        body_of(handshake, PrivateMessage if self.encrypt_handshake else PublicMessage)

    # --- groups that follow upon another --------------------------------------------------------------------------

    def reinit(
        self,
        committer: str,
        welcomer: str,
        members: Sequence[str],
        *,
        proposer: str = "",
        proposal: bytes = b"",
        cipher_suite: int | None = None,
        change_group_id: bool = False,
        extensions: Sequence[Description] = (),
        force_path: bool = False,
        external_tree: bool = False,
    ) -> None:
        """Close the group, by the proposer's ReInit or by one from outside, and go on in its successor."""
        everyone = sorted({committer, welcomer, proposer, *members} - {""})
        if proposer:
            self.suite_id = self.suite_id if cipher_suite is None else cipher_suite
            self.group_id += b"++" if change_group_id else b""
            proposal = self.propose(
                proposer,
                "ReInitProposal",
                cipher_suite=self.suite_id,
                group_id=self.group_id,
                extensions=extensions,
            )
        commit = self.ask(committer, "ReInitCommit", by_reference=[proposal]).commit
        self._check_wire_format(commit)
        closed = {committer: self.ask(committer, "HandlePendingReInitCommit")}
        for member in everyone:
            if member != committer:
                closed[member] = self.ask(member, "HandleReInitCommit", proposal=[proposal], commit=commit)
                assert closed[member].epoch_authenticator == closed[committer].epoch_authenticator, member
        founded = self.peer(welcomer).call(
            "ReInitWelcome",
            reinit_id=closed[welcomer].reinit_id,
            key_package=[closed[member].key_package for member in everyone if member != welcomer],
            force_path=force_path,
            external_tree=external_tree,
        )
        self.state_ids[welcomer] = founded.state_id
        assert bool(founded.ratchet_tree) == external_tree
        for member in everyone:
            if member != welcomer:
                joined = self.peer(member).call(
                    "HandleReInitWelcome",
                    reinit_id=closed[member].reinit_id,
                    welcome=founded.welcome,
                    ratchet_tree=founded.ratchet_tree,
                )
                assert joined.epoch_authenticator == founded.epoch_authenticator, member
                self.state_ids[member] = joined.state_id

    def branch(
        self,
        actor: str,
        members: Sequence[str],
        *,
        extensions: Sequence[Description] = (),
        force_path: bool = False,
        external_tree: bool = False,
    ) -> None:
        """Let an actor branch off a group with these members; their states are those of the branch from then on."""
        founded = self.ask(
            actor,
            "CreateBranch",
            group_id=secrets.token_bytes(16),
            extensions=extensions,
            key_packages=[self.key_package(member) for member in members],
            force_path=force_path,
            external_tree=external_tree,
        )
        self.state_ids[actor] = founded.state_id
        assert bool(founded.ratchet_tree) == external_tree
        for member in members:
            joined = self.ask(
                member,
                "HandleBranch",
                transaction_id=self.transaction_ids[member],
                welcome=founded.welcome,
                ratchet_tree=founded.ratchet_tree,
            )
            assert joined.epoch_authenticator == founded.epoch_authenticator, member
            self.state_ids[member] = joined.state_id

    # --- proposals from outside -----------------------------------------------------------------------------------

    def new_member_add(self, actor: str, joiner: str) -> bytes:
        """Return the proposal by which someone asks to be added, upon an actor's GroupInfo."""
        told = self.ask(actor, "GroupInfo")
        asked = self.peer(joiner).call("NewMemberAddProposal", group_info=told.group_info, identity=joiner.encode())
        self.transaction_ids[joiner] = asked.transaction_id
        assert asked.init_priv
        assert asked.encryption_priv
        assert asked.signature_priv
        return asked.proposal

    def add_external_signer(self, actor: str, signer: str) -> bytes:
        """Return an actor's proposal to let a new signer send proposals from outside."""
        identity = signer.encode()
        created = self.peer(signer).call("CreateExternalSigner", cipher_suite=self.suite_id, identity=identity)
        self.signer_ids[signer] = created.signer_id
        return self.propose(actor, "AddExternalSigner", external_sender=created.external_sender)

    def external_signer_proposal(self, signer: str, member: str, **description: object) -> bytes:
        """Return a signer's proposal, upon a member's GroupInfo; signer_index stays empty, as the runner leaves it."""
        told = self.ask(member, "GroupInfo", external_tree=True)
        proposed = self.peer(signer).call(
            "ExternalSignerProposal",
            signer_id=self.signer_ids[signer],
            group_info=told.group_info,
            ratchet_tree=told.ratchet_tree,
            description=description,
        )
        return proposed.proposal

    # --- what is held of every group ------------------------------------------------------------------------------

    def group_info(self, actor: str) -> GroupInfo:
        """Return what an actor's GroupInfo says, with the tree in it."""
        return body_of(self.ask(actor, "GroupInfo").group_info, GroupInfo)

    def identities(self, actor: str) -> list[str]:
        """Return the names of all members, in order, as an actor's tree has them."""
        tree = tree_of(self.group_info(actor), b"")
        assert tree is not None
        return sorted(leaf.credential.identity.decode() for leaf in tree.leaf_nodes())

    def check_agreement(self, *actors: str) -> None:
        """Hold that these actors share authenticator and exported secrets, and that each reads the others."""
        assert len({self.ask(actor, "StateAuth").state_auth_secret for actor in actors}) == 1
        exported = {
            self.ask(actor, "Export", label="interop test", context=b"\1\2\3\4", key_length=32).exported_secret
            for actor in actors
        }
        assert len(exported) == 1
        assert len(exported.pop()) == 32
        for speaker in actors:
            plaintext, authenticated_data = f"hello from {speaker}".encode(), f"btw {speaker}".encode()
            sealed = self.ask(speaker, "Protect", plaintext=plaintext, authenticated_data=authenticated_data)
            for listener in actors:
                if listener != speaker:
                    opened = self.ask(listener, "Unprotect", ciphertext=sealed.ciphertext)
                    assert (opened.plaintext, opened.authenticated_data) == (plaintext, authenticated_data)

    def free(self) -> None:
        """Let the clients forget the present state of every actor."""
        for actor in self.state_ids:
            self.ask(actor, "Free")
