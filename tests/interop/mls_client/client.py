"""One MLS client as the interop protocol sees it: the calls, over states that live as long as the process.

A call takes the fields of its request and returns the fields of its response by name. It looks up a value (a `Member`,
a `Newcomer`, a closed group, an external signer), asks it, and only then keeps what came of it: a call that raises has
changed nothing. A commit gives the member a new number; the old one stays good for the old epoch until it is freed or
the shelf needs the place, so that a script may ask an old state again.

Clock and randomness come in from outside, as everywhere.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from heliograph.mls.credential import Credential
from heliograph.mls.errors import ValidationError
from heliograph.mls.extension import Extension, ExtensionType, ExternalSender, ExternalSenders
from heliograph.mls.group import PendingCommit
from heliograph.mls.group_info import GroupInfo
from heliograph.mls.key_package import KeyPackage
from heliograph.mls.membership import (
    create_group,
    join_external,
    propose_from_outside,
    propose_joining,
)
from heliograph.mls.proposal import GroupContextExtensions, ResumptionPSKUsage
from heliograph.mls.successor import branch, reinitialize
from heliograph.mls.suite import Random, SignatureKeyPair, cipher_suite
from tests.interop.mls_client.described import Described, body_of, external_psk, leaf_of, tree_of, uint16
from tests.interop.mls_client.member import POLICY, Member
from tests.interop.mls_client.newcomer import CAPABILITIES, CIPHER_SUITES, Newcomer, lifetime
from tests.interop.mls_client.shelf import Shelf, UnknownIdError

NAME = "heliograph"

MAX_STATES = 1024
MAX_OTHERS = 512

# Source: RFC 5869 §2.3.
_EXPAND_MAX_BLOCKS = 255

Answer: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Closed:
    """A group that a ReInit has closed, and its member's key package for the successor."""

    member: Member
    newcomer: Newcomer


class Client:
    """All states of one client, and the calls on them.

    All calls raise MLSError for what MLS refuses and UnknownIdError for a number, member or signer that is not known.
    """

    def __init__(self, random: Random, now_s: Callable[[], int]) -> None:
        """Make a client without any state; now_s: the time in seconds since 1970 UTC."""
        self._random = random
        self._now_s = now_s
        numbers = itertools.count(1)
        self._members = Shelf[Member]("state", numbers, MAX_STATES)
        self._newcomers = Shelf[Newcomer]("transaction", numbers, MAX_OTHERS)
        self._closed = Shelf[Closed]("reinitialization", numbers, MAX_OTHERS)
        self._signers = Shelf[SignatureKeyPair]("external signer", numbers, MAX_OTHERS)

    def name(self) -> Answer:
        """Tell what implementation this is."""
        return {"name": NAME}

    def supported_ciphersuites(self) -> Answer:
        """Tell the numbers of the cipher suites."""
        return {"ciphersuites": CIPHER_SUITES}

    # --- becoming a member ----------------------------------------------------------------------------------------

    def create_group(self, group_id: bytes, suite_id: int, identity: bytes, is_private: bool) -> Answer:
        """Found a group of one."""
        suite = cipher_suite(uint16(suite_id))
        group = create_group(
            suite,
            group_id,
            Credential.basic(identity),
            suite.generate_signature_key(self._random).private,
            lifetime=lifetime(self._now_s()),
            capabilities=CAPABILITIES,
            random=self._random,
        )
        return {"state_id": self._members.put(Member(group, is_private))}

    def create_key_package(self, suite_id: int, identity: bytes) -> Answer:
        """Make a key package and wait for a Welcome to it."""
        newcomer = self._newcomer(suite_id, Credential.basic(identity))
        number = self._newcomers.put(newcomer)
        return {"transaction_id": number, "key_package": newcomer.key_package, **newcomer.private_keys()}

    def join_group(self, transaction_id: int, welcome: bytes, ratchet_tree: bytes, is_private: bool) -> Answer:
        """Join by a Welcome."""
        return self._join(transaction_id, welcome, ratchet_tree, is_private)

    def external_join(
        self,
        group_info: bytes,
        ratchet_tree: bytes,
        identity: bytes,
        is_private: bool,
        remove_prior: bool,
        psks: Mapping[bytes, bytes],
    ) -> Answer:
        """Join by an external commit, which is accepted by assumption."""
        info = body_of(group_info, GroupInfo)
        suite = cipher_suite(info.group_context.cipher_suite)
        pending = join_external(
            group_info,
            ratchet_tree or None,
            Credential.basic(identity),
            suite.generate_signature_key(self._random).private,
            capabilities=CAPABILITIES,
            resync_leaf=leaf_of(tree_of(info, ratchet_tree), identity) if remove_prior else None,
            psk_ids=[external_psk(suite, psk_id, self._random) for psk_id in psks],
            psks=psks,
            random=self._random,
            now_s=self._now_s(),
            lifetime_limit_s=POLICY.lifetime_limit_s,
        )
        return {"commit": pending.commit, **self._entered(Member(pending.group, is_private, psks))}

    # --- within an epoch ------------------------------------------------------------------------------------------

    def group_info(self, state_id: int, external_tree: bool) -> Answer:
        """Tell a signed GroupInfo, with the ratchet tree in it or beside it."""
        group = self._members.get(state_id).group
        beside = group.ratchet_tree() if external_tree else b""
        return {"group_info": group.group_info(with_tree=not external_tree), "ratchet_tree": beside}

    def state_auth(self, state_id: int) -> Answer:
        """Tell the epoch authenticator."""
        return {"state_auth_secret": self._members.get(state_id).epoch_authenticator}

    def export(self, state_id: int, label: str, context: bytes, key_length: int) -> Answer:
        """Tell an exported secret."""
        group = self._members.get(state_id).group
        if key_length > _EXPAND_MAX_BLOCKS * group.suite.hash_length:
            raise ValidationError("the secret would be longer than the cipher suite's KDF can make it")
        return {"exported_secret": group.export(label, context, key_length)}

    def protect(self, state_id: int, plaintext: bytes, authenticated_data: bytes) -> Answer:
        """Seal an application message."""
        member, ciphertext = self._members.get(state_id).seal(plaintext, authenticated_data, self._random)
        self._members.replace(state_id, member)
        return {"ciphertext": ciphertext}

    def unprotect(self, state_id: int, ciphertext: bytes) -> Answer:
        """Open an application message."""
        member, received = self._members.get(state_id).open(ciphertext, self._now_s())
        self._members.replace(state_id, member)
        return {"authenticated_data": received.authenticated_data, "plaintext": received.application_data}

    def store_psk(self, number: int, psk_id: bytes, psk: bytes) -> Answer:
        """Give an external pre-shared key to a member, for this epoch and all later ones, or to a newcomer."""
        if number in self._newcomers:
            self._newcomers.replace(number, self._newcomers.get(number).with_psk(psk_id, psk))
        else:
            self._members.replace(number, self._members.get(number).with_psk(psk_id, psk))
        return {}

    def free(self, state_id: int) -> Answer:
        """Forget a state."""
        self._members.drop(state_id)
        return {}

    # --- proposals ------------------------------------------------------------------------------------------------

    def propose(self, state_id: int, described: Described) -> Answer:
        """Propose what a runner describes, of any type but update."""
        member = self._members.get(state_id)
        group = member.group
        proposal = described.proposal(group.suite, group.group_id, group.tree, self._random)
        member, message = member.propose(proposal, self._random, self._now_s())
        self._members.replace(state_id, member)
        return {"proposal": message}

    def update_proposal(self, state_id: int) -> Answer:
        """Propose new keys for the own leaf."""
        member, message = self._members.get(state_id).update(self._random, self._now_s())
        self._members.replace(state_id, member)
        return {"proposal": message}

    # --- commits --------------------------------------------------------------------------------------------------

    def commit(
        self,
        state_id: int,
        by_reference: Sequence[bytes],
        by_value: Sequence[Described],
        force_path: bool,
        external_tree: bool,
    ) -> Answer:
        """Build a commit of exactly these proposals; the state waits to learn whether it is accepted."""
        member = self._members.get(state_id)
        group = member.group
        proposals = [one.proposal(group.suite, group.group_id, group.tree, self._random) for one in by_value]
        member, pending = member.commit(
            by_reference,
            proposals,
            force_path=force_path,
            with_tree=not external_tree,
            random=self._random,
            now_s=self._now_s(),
        )
        self._members.replace(state_id, member)
        tree = pending.ratchet_tree if external_tree else b""
        return {"commit": pending.commit, "welcome": pending.welcome or b"", "ratchet_tree": tree}

    def handle_commit(self, state_id: int, proposals: Sequence[bytes], commit: bytes) -> Answer:
        """Follow a commit; the one who is removed by it gets an empty authenticator."""
        return self._entered(self._members.get(state_id).follow(proposals, commit, self._now_s()))

    def handle_pending_commit(self, state_id: int) -> Answer:
        """Follow the own commit."""
        return self._entered(self._members.get(state_id).take_up())

    # --- reinitialization -----------------------------------------------------------------------------------------

    def handle_reinit_commit(self, state_id: int, proposals: Sequence[bytes], commit: bytes) -> Answer:
        """Follow a commit that closes the group, and make a key package for its successor."""
        return self._close(self._members.get(state_id).follow(proposals, commit, self._now_s()))

    def handle_pending_reinit_commit(self, state_id: int) -> Answer:
        """Follow the own commit that closes the group, and make a key package for its successor."""
        return self._close(self._members.get(state_id).take_up())

    def reinit_welcome(
        self, reinit_id: int, key_packages: Sequence[bytes], force_path: bool, external_tree: bool
    ) -> Answer:
        """Found the successor of a closed group."""
        closed = self._closed.get(reinit_id)
        pending = reinitialize(
            closed.member.group,
            [body_of(one, KeyPackage) for one in key_packages],
            closed.newcomer.bundle.key_package.leaf_node.credential,
            closed.newcomer.signature_private_key,
            lifetime=lifetime(self._now_s()),
            capabilities=CAPABILITIES,
            random=self._random,
            now_s=self._now_s(),
            force_path=force_path,
            with_tree=not external_tree,
            policy=POLICY,
        )
        self._closed.drop(reinit_id)
        return self._founded(pending, closed.member, external_tree)

    def handle_reinit_welcome(self, reinit_id: int, welcome: bytes, ratchet_tree: bytes) -> Answer:
        """Join the successor of a closed group."""
        closed = self._closed.get(reinit_id)
        member = closed.newcomer.join(
            welcome,
            ratchet_tree,
            is_private=closed.member.is_private,
            now_s=self._now_s(),
            predecessor=closed.member,
            succession=ResumptionPSKUsage.REINIT,
        )
        self._closed.drop(reinit_id)
        return self._entered(member)

    # --- branching ------------------------------------------------------------------------------------------------

    def create_branch(
        self,
        state_id: int,
        group_id: bytes,
        extensions: Sequence[Extension],
        key_packages: Sequence[bytes],
        force_path: bool,
        external_tree: bool,
    ) -> Answer:
        """Found a group of some of the members; the one that they come from goes on."""
        member = self._members.get(state_id)
        pending = branch(
            member.group,
            group_id,
            [body_of(one, KeyPackage) for one in key_packages],
            member.group.own_leaf.credential,
            member.group.suite.generate_signature_key(self._random).private,
            extensions=extensions,
            lifetime=lifetime(self._now_s()),
            capabilities=CAPABILITIES,
            random=self._random,
            now_s=self._now_s(),
            force_path=force_path,
            with_tree=not external_tree,
            policy=POLICY,
        )
        return self._founded(pending, member, external_tree)

    def handle_branch(self, state_id: int, transaction_id: int, welcome: bytes, ratchet_tree: bytes) -> Answer:
        """Join a group that branches off from one of ours."""
        member = self._members.get(state_id)
        return self._join(transaction_id, welcome, ratchet_tree, member.is_private, member)

    # --- proposals from outside -----------------------------------------------------------------------------------

    def new_member_add_proposal(self, group_info: bytes, identity: bytes) -> Answer:
        """Propose to add oneself, and wait for a Welcome."""
        suite_id = body_of(group_info, GroupInfo).group_context.cipher_suite
        newcomer = self._newcomer(suite_id, Credential.basic(identity))
        proposal = propose_joining(group_info, newcomer.bundle, newcomer.signature_private_key)
        number = self._newcomers.put(newcomer)
        return {"transaction_id": number, "proposal": proposal, **newcomer.private_keys()}

    def create_external_signer(self, suite_id: int, identity: bytes) -> Answer:
        """Make the keys of someone who will send proposals from outside."""
        keys = cipher_suite(uint16(suite_id)).generate_signature_key(self._random)
        sender = ExternalSender(keys.public, Credential.basic(identity))
        return {"signer_id": self._signers.put(keys), "external_sender": sender.encode()}

    def add_external_signer(self, state_id: int, external_sender: bytes) -> Answer:
        """Propose to let one more outsider send proposals; all other extensions of the group stay."""
        present = self._members.get(state_id).group.group_context.extensions
        senders = (ExternalSenders.of(present) or ExternalSenders()).senders
        added = ExternalSenders((*senders, ExternalSender.decode(external_sender))).to_extension()
        others = [one for one in present if one.extension_type != ExtensionType.EXTERNAL_SENDERS]
        proposal = GroupContextExtensions((*others, added))
        member, message = self._members.get(state_id).propose(proposal, self._random, self._now_s())
        self._members.replace(state_id, member)
        return {"proposal": message}

    def external_signer_proposal(
        self, signer_id: int, group_info: bytes, ratchet_tree: bytes, described: Described
    ) -> Answer:
        """Propose from outside. The signer's index is found by its key: runners leave the field of a request empty."""
        keys = self._signers.get(signer_id)
        info = body_of(group_info, GroupInfo)
        context = info.group_context
        senders = (ExternalSenders.of(context.extensions) or ExternalSenders()).senders
        index = next((i for i, one in enumerate(senders) if one.signature_key == keys.public), None)
        if index is None:
            raise UnknownIdError("the group does not list this signer")
        suite = cipher_suite(context.cipher_suite)
        tree = tree_of(info, ratchet_tree)
        proposal = described.proposal(suite, context.group_id, tree, self._random)
        message = propose_from_outside(group_info, proposal, sender_index=index, signature_private_key=keys.private)
        return {"proposal": message}

    # --- common steps ---------------------------------------------------------------------------------------------

    def _newcomer(self, suite_id: int, credential: Credential) -> Newcomer:
        return Newcomer.create(cipher_suite(uint16(suite_id)), credential, self._random, self._now_s())

    def _join(
        self, number: int, welcome: bytes, ratchet_tree: bytes, is_private: bool, predecessor: Member | None = None
    ) -> Answer:
        member = self._newcomers.get(number).join(
            welcome,
            ratchet_tree,
            is_private=is_private,
            now_s=self._now_s(),
            predecessor=predecessor,
            succession=ResumptionPSKUsage.BRANCH if predecessor else None,
        )
        # A key package is used once.
        self._newcomers.drop(number)
        return self._entered(member)

    def _entered(self, member: Member) -> Answer:
        return {"state_id": self._members.put(member), "epoch_authenticator": member.epoch_authenticator}

    def _founded(self, pending: PendingCommit, predecessor: Member, external_tree: bool) -> Answer:
        return {
            "welcome": pending.welcome or b"",
            "ratchet_tree": pending.ratchet_tree if external_tree else b"",
            **self._entered(Member(pending.group, predecessor.is_private, predecessor.psks)),
        }

    def _close(self, member: Member) -> Answer:
        if member.group.reinit is None:
            raise ValidationError("the commit does not close the group")
        newcomer = self._newcomer(member.group.reinit.cipher_suite, member.group.own_leaf.credential)
        number = self._closed.put(Closed(member, newcomer))
        authenticator = member.epoch_authenticator
        return {"reinit_id": number, "key_package": newcomer.key_package, "epoch_authenticator": authenticator}
