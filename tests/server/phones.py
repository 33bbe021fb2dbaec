"""Devices with real MLS groups, which speak to a server by its operations alone.

`call(operation, request, token)` is the world's typed caller. Every device here is honest; tests take its messages
and spoil them.
"""

import os
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from heliograph.mls.credential import Credential
from heliograph.mls.extension import Extension, ExtensionType
from heliograph.mls.framing import MLSMessage
from heliograph.mls.group import (
    Group,
    PendingCommit,
)
from heliograph.mls.key_package import KeyPackage, KeyPackageBundle, create_key_package
from heliograph.mls.leaf_node import Capabilities, Lifetime
from heliograph.mls.membership import create_group, join, join_external
from heliograph.mls.proposal import Add, GroupContextExtensions, Proposal, Remove
from heliograph.mls.safe_aad import SafeAAD, SafeAADItem
from heliograph.mls.suite import HPKECiphertext, cipher_suite
from heliograph.mls.tree_math import LeafIndex
from heliograph.server.auth import Caller
from heliograph.server.rooms import hub_public_key
from heliograph.wire.account_state import AccountState, DeviceEntry, DeviceRole, SignedAccountState, Signer, sign_state
from heliograph.wire.accounts import (
    LOGIN_LABEL,
    AccountRequest,
    ClaimKeyPackages,
    CreateChallenge,
    CreateSession,
    Empty,
    PublishKeyPackages,
    PutAccountState,
    Register,
    login_content,
)
from heliograph.wire.events import CommitEvent, MessageEvent, ProposalEvent, WelcomeEvent
from heliograph.wire.ids import (
    AccountId,
    DeviceId,
    Handle,
    RoomId,
    TopicId,
    device_id,
    device_uri,
    group_id,
    room_id,
    room_uri,
)
from heliograph.wire.problems import Problem
from heliograph.wire.room_policy import APP_DATA_DICTIONARY, FRANK_AAD, Role, RoomPolicy
from heliograph.wire.rooms import (
    CreateRoom,
    GetGroupInfo,
    GetTree,
    ReadTopic,
    RoomInfo,
    RoomKind,
    SubmitCommit,
    SubmitMessage,
    SubmitProposal,
    Submitted,
)
from tests.world import World

DAY_S = 86_400
SUITE = cipher_suite(1)
CAPABILITIES = Capabilities(cipher_suites=(1, 2, 3), extensions=(APP_DATA_DICTIONARY, ExtensionType.LAST_RESORT))
Call = Callable[..., Awaitable[Any]]


def new_key() -> bytes:
    """Return a fresh idempotency key."""
    return secrets.token_bytes(16)


async def refusal(asked: Awaitable[Any]) -> str:
    """Return the type of the problem that something is answered with."""
    with pytest.raises(Problem) as caught:
        await asked
    return caught.value.slug


def frank_aad(tag: bytes) -> bytes:
    """Return the authenticated_data that carries a franking tag."""
    return SafeAAD((SafeAADItem(FRANK_AAD, tag),)).encode()


@dataclass
class Phone:
    """One device of an account: its keys, its session and its groups."""

    call: Call
    domain: str
    hub_key: bytes
    account: AccountId
    device: DeviceId
    device_key: bytes
    token: str
    now_s: Callable[[], int]
    account_key: bytes
    chain: list[SignedAccountState]
    groups: dict[RoomId, Group] = field(default_factory=dict)
    bundles: list[KeyPackageBundle] = field(default_factory=list)

    @property
    def uri(self) -> str:
        return device_uri(self.domain, self.account, self.device)

    @property
    def credential(self) -> Credential:
        return Credential.basic(self.uri.encode())

    async def ask(self, operation: str, request: msgspec.Struct) -> Any:
        return await self.call(operation, request, self.token)

    # -- key packages

    def key_package(self, *, suite_id: int = 1, last_resort: bool = False, **changes: Any) -> KeyPackageBundle:
        days = 90 if last_resort else 30
        wanted: dict[str, Any] = {
            "credential": self.credential,
            "signature_private_key": self.device_key,
            "lifetime": Lifetime(self.now_s() - 3600, self.now_s() + days * DAY_S),
            "capabilities": CAPABILITIES,
            "extensions": (Extension(ExtensionType.LAST_RESORT, b""),) if last_resort else (),
            "random": secrets.token_bytes,
        } | changes
        credential, private = wanted.pop("credential"), wanted.pop("signature_private_key")
        return create_key_package(cipher_suite(suite_id), credential, private, **wanted)

    async def publish(self, count: int = 3, *, last_resort: bool = False) -> list[KeyPackageBundle]:
        made = [self.key_package() for _ in range(count)]
        resort = self.key_package(last_resort=True) if last_resort else None
        self.bundles += [*made, *([resort] if resort else [])]
        request = PublishKeyPackages(
            tuple(encoded(bundle) for bundle in made), None if resort is None else encoded(resort)
        )
        await self.ask("publish_key_packages", request)
        return made

    async def claim(self, account: AccountId, *, suite: int = 1, contact_token: str | None = None) -> list[KeyPackage]:
        reply = await self.ask("claim_key_packages", ClaimKeyPackages(account, suite, contact_token))
        return [key_package_of(one.key_package) for one in reply.key_packages]

    async def consent(self, *others: "Phone") -> None:
        for other in others:
            await self.ask("grant_consent", AccountRequest(other.account))

    # -- rooms

    def policy(self, others: Mapping[AccountId, Role] | None = None, *, direct: bool = False) -> RoomPolicy:
        return RoomPolicy(self.domain, direct, {self.account: Role.OWNER, **(others or {})}, self.hub_key)

    def new_group(self, room: RoomId, policy: RoomPolicy, **changes: Any) -> Group:
        wanted: dict[str, Any] = {
            "lifetime": Lifetime(self.now_s() - 3600, self.now_s() + 30 * DAY_S),
            "capabilities": CAPABILITIES,
            "extensions": (policy.extension(),),
            "random": secrets.token_bytes,
        } | changes
        return create_group(SUITE, group_id(room), self.credential, self.device_key, **wanted)

    def creation(self, *, kind: RoomKind = "group", peer: AccountId | None = None) -> CreateRoom:
        room = room_id(secrets.token_bytes(16))
        group = self.new_group(room, self.policy(direct=kind == "direct"))
        self.groups[room] = group
        return CreateRoom(room, kind, group.group_info(), group.ratchet_tree(), peer)

    async def create_room(self, *, kind: RoomKind = "group", peer: AccountId | None = None) -> RoomId:
        request = self.creation(kind=kind, peer=peer)
        info: RoomInfo = await self.ask("create_room", request)
        return RoomId(info.room)

    def build(
        self, room: RoomId, proposals: Sequence[Proposal] = (), policy: RoomPolicy | None = None
    ) -> PendingCommit:
        """Return a commit on this device's present group."""
        group = self.groups[room]
        listed = list(proposals)
        if policy is not None:
            listed.append(GroupContextExtensions(policy_extensions(group, policy)))
        return group.commit(listed, random=secrets.token_bytes, now_s=self.now_s())

    def submission(self, room: RoomId, pending: PendingCommit, **changes: Any) -> SubmitCommit:
        fields: dict[str, Any] = {
            "room": room,
            "key": new_key(),
            "epoch": self.groups[room].epoch if room in self.groups else pending.group.epoch - 1,
            "commit": pending.commit,
            "group_info": pending.group_info,
            "tree": pending.ratchet_tree,
            "welcome": pending.welcome,
        } | changes
        return SubmitCommit(**fields)

    async def commit(
        self, room: RoomId, proposals: Sequence[Proposal] = (), policy: RoomPolicy | None = None
    ) -> Submitted:
        pending = self.build(room, proposals, policy)
        answer: Submitted = await self.ask("submit_commit", self.submission(room, pending))
        self.groups[room] = pending.group
        return answer

    def addition(
        self, room: RoomId, packages: Sequence[KeyPackage], *accounts: AccountId, role: Role = Role.MEMBER
    ) -> tuple[list[Proposal], RoomPolicy]:
        """Return what adds these devices and accounts."""
        before = RoomPolicy.from_extensions(self.groups[room].group_context.extensions)
        roles = {**dict.fromkeys(accounts, role), **before.participants}
        after = RoomPolicy(before.domain, before.direct, roles, before.franking_key)
        return [Add(package) for package in packages], after

    async def add(self, room: RoomId, *others: "Phone", role: Role = Role.MEMBER) -> Submitted:
        """Claim, add and welcome all devices of others, who have consented and published."""
        packages = [package for other in others for package in await self.claim(other.account)]
        proposals, policy = self.addition(room, packages, *(other.account for other in others), role=role)
        return await self.commit(room, proposals, policy)

    def leaf_of(self, room: RoomId, other: "Phone") -> LeafIndex:
        """Return the leaf of another device in a room's group."""
        members = self.groups[room].members()
        return next(one.leaf_index for one in members if one.leaf_node.credential == other.credential)

    def policy_without(self, room: RoomId, *others: "Phone") -> RoomPolicy:
        """Return the room's policy without these accounts."""
        before = RoomPolicy.from_extensions(self.groups[room].group_context.extensions)
        gone = {other.account for other in others}
        kept = {account: role for account, role in before.participants.items() if account not in gone}
        return replace(before, participants=kept)

    async def remove(self, room: RoomId, *others: "Phone") -> Submitted:
        """Put accounts with one device each out of a room."""
        proposals = [Remove(self.leaf_of(room, other)) for other in others]
        return await self.commit(room, proposals, self.policy_without(room, *others))

    async def join_from_outside(self, room: RoomId, *, resync: bool = False) -> Submitted:
        pending = await self.build_from_outside(room, resync=resync)
        answer: Submitted = await self.ask(
            "submit_commit", self.submission(room, pending, epoch=pending.group.epoch - 1)
        )
        self.groups[room] = pending.group
        return answer

    async def build_from_outside(self, room: RoomId, *, resync: bool = False) -> PendingCommit:
        private, public = SUITE.derive_key_pair(secrets.token_bytes(32))
        sealed = await self.ask("get_group_info", GetGroupInfo(room, public))
        group_info = SUITE.decrypt_with_label(
            private,
            "HG1 GroupInfo",
            room_uri(self.domain, room).encode(),
            HPKECiphertext(sealed.kem_output, sealed.ciphertext),
        )
        tree = (await self.ask("get_tree", GetTree(room, sealed.tree_hash))).tree
        return join_external(
            group_info,
            tree,
            self.credential,
            self.device_key,
            capabilities=CAPABILITIES,
            resync_leaf=self.groups[room].own_leaf_index if resync else None,
            random=secrets.token_bytes,
            now_s=self.now_s(),
        )

    # -- messages

    def message(self, room: RoomId, text: bytes = b"hello", **changes: Any) -> SubmitMessage:
        tag = SUITE.mac(secrets.token_bytes(16), text)
        self.groups[room], sealed = self.groups[room].seal(
            text, authenticated_data=frank_aad(tag), random=secrets.token_bytes, before_commit=True
        )
        fields: dict[str, Any] = {
            "room": room,
            "key": new_key(),
            "epoch": self.groups[room].epoch,
            "ciphertext": sealed,
        } | changes
        return SubmitMessage(**fields)

    async def send(self, room: RoomId, text: bytes = b"hello") -> Submitted:
        return await self.ask("submit_message", self.message(room, text))

    async def propose(self, room: RoomId, proposal: Proposal) -> Submitted:
        self.groups[room], message = self.groups[room].propose(proposal, random=os.urandom, now_s=self.now_s())
        request = SubmitProposal(room, new_key(), self.groups[room].epoch, message)
        return await self.ask("submit_proposal", request)

    # -- reading

    async def entries(self, topic: str, after: int = 0) -> list[Any]:
        reply = await self.ask("read_topic", ReadTopic(TopicId(topic), after, 500))
        return [entry.event for entry in reply.entries]

    async def welcomes(self) -> list[WelcomeEvent]:
        return [event for event in await self.entries(self.device) if isinstance(event, WelcomeEvent)]

    async def accept_welcome(self) -> RoomId:
        """Join by the newest Welcome in the mailbox."""
        event = (await self.welcomes())[-1]
        room = RoomId(event.room)
        tree = (await self.ask("get_tree", GetTree(room, event.tree_hash))).tree
        reference = MLSMessage.decode(event.welcome).body.secrets[0].new_member  # type: ignore[union-attr]
        bundle = next(one for one in self.bundles if one.key_package.reference(SUITE) == reference)
        self.groups[room] = join(event.welcome, tree, bundle, self.device_key, now_s=self.now_s())
        return room

    async def follow(self, room: RoomId, after: int = 0) -> list[bytes]:
        """Take in a room's entries after a seq; return what the messages said."""
        texts: list[bytes] = []
        for event in await self.entries(room, after):
            if isinstance(event, MessageEvent):
                self.groups[room], received = self.groups[room].receive(event.ciphertext, now_s=self.now_s())
                texts.append(received.application_data)  # type: ignore[union-attr]
            elif isinstance(event, CommitEvent):
                self.groups[room], _ = self.groups[room].receive(event.commit, now_s=self.now_s())
            elif isinstance(event, ProposalEvent):
                self.groups[room], _ = self.groups[room].receive(event.proposal, now_s=self.now_s())
        return texts


async def new_phone(w: World, handle: str) -> Phone:
    """Found an account and log its first device in."""
    account, recovery, device = (SUITE.generate_signature_key(secrets.token_bytes) for _ in range(3))
    entry = DeviceEntry(device_id(secrets.token_bytes(16)), device.public, DeviceRole.FULL)
    state = AccountState(0, bytes(32), account.public, recovery.public, (entry,), 1000, secrets.token_bytes(16))
    genesis = sign_state(state, Signer.ACCOUNT, account.private, [account.private, recovery.private, device.private])
    info = await w.call("register", Register(Handle(handle), genesis.encode()))
    return await _log_in(w, info.account, entry.device, device.private, account.private, [genesis])


async def ready_peer(w: World, host: Phone, handle: str = "bob") -> Phone:
    """Return someone who has published key packages and lets `host` take them."""
    phone = await new_phone(w, handle)
    await phone.publish(5)
    await phone.consent(host)
    return phone


async def joined_peer(w: World, host: Phone, room: RoomId, handle: str = "bob", role: Role = Role.MEMBER) -> Phone:
    """Return someone whom `host` has added and who has joined by the Welcome."""
    phone = await ready_peer(w, host, handle)
    await host.add(room, phone, role=role)
    await phone.accept_welcome()
    return phone


async def caller_of(w: World, phone: Phone) -> Caller:
    """Return what the server's handlers are given for a phone's session."""
    await phone.ask("list_rooms", Empty())
    return next(one.caller for one in w.context.sessions.each() if one.caller.device == phone.device)


async def link_phone(w: World, old: Phone) -> Phone:
    """Add another device to an account and log it in."""
    device = SUITE.generate_signature_key(secrets.token_bytes)
    entry = DeviceEntry(device_id(secrets.token_bytes(16)), device.public, DeviceRole.FULL)
    await _continue(w, old, (*old.chain[-1].state.devices, entry), [device.private])
    return await _log_in(w, old.account, entry.device, device.private, old.account_key, old.chain)


async def revoke_phone(w: World, keeper: Phone, lost: Phone) -> None:
    """Take a device out of its account, by another one."""
    kept = tuple(entry for entry in keeper.chain[-1].state.devices if entry.device != lost.device)
    await _continue(w, keeper, kept, [])


async def _continue(w: World, phone: Phone, devices: tuple[DeviceEntry, ...], new_keys: list[bytes]) -> None:
    before = phone.chain[-1]
    state = replace(before.state, seq=before.state.seq + 1, prev=before.hash(), devices=devices)
    signed = sign_state(state, Signer.ACCOUNT, phone.account_key, new_keys)
    await w.call("put_account_state", PutAccountState(phone.account, signed.encode()))
    phone.chain.append(signed)


async def _log_in(
    w: World,
    account: AccountId,
    device: DeviceId,
    device_key: bytes,
    account_key: bytes,
    chain: list[SignedAccountState],
) -> Phone:
    domain = w.context.domain
    challenge = await w.call("create_challenge", CreateChallenge(account, device))
    content = login_content(domain, challenge.challenge, account, device, challenge.expires_at_ms)
    signature = SUITE.sign_with_label(device_key, LOGIN_LABEL, content)
    session = await w.call("create_session", CreateSession(account, device, challenge.challenge, signature))
    return Phone(
        call=w.call,
        domain=domain,
        hub_key=hub_public_key(w.context),
        account=account,
        device=device,
        device_key=device_key,
        token=session.token,
        now_s=lambda: w.context.now_ms() // 1000,
        account_key=account_key,
        chain=chain,
    )


def policy_extensions(group: Group, policy: RoomPolicy) -> tuple[Extension, ...]:
    """Return the group's extensions with another policy."""
    others = [one for one in group.group_context.extensions if one.extension_type != APP_DATA_DICTIONARY]
    return (*others, policy.extension())


def encoded(bundle: KeyPackageBundle) -> bytes:
    """Return a bundle's key package as it is published."""
    return MLSMessage(bundle.key_package).encode()


def key_package_of(message: bytes) -> KeyPackage:
    """Return the key package in an MLSMessage."""
    body = MLSMessage.decode(message).body
    assert isinstance(body, KeyPackage)
    return body
