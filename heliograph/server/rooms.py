"""Private rooms as the server sees them: an MLS group without its secrets, who takes part, and what joiners fetch.

```
rooms ------------- room_participants   accounts and roles, from the policy in the GroupContext
  |  epoch          room_devices        leaves, and between which entries of the room's topic they stood
  |
room_groups         the public group and the newest GroupInfo
room_trees          ratchet trees by hash, out of band
```

A room begins with a group of one and moves by commits (`commits.py`); messages are `messages.py`. To an account that
takes no part, a room does not exist.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from heliograph.mls.errors import MLSError
from heliograph.mls.extension import ExternalPub
from heliograph.mls.framing import MLSMessage
from heliograph.mls.group_info import GroupInfo
from heliograph.mls.public_group import PublicGroup
from heliograph.mls.ratchet_tree import RatchetTree
from heliograph.mls.suite import HPKECiphertext, cipher_suite
from heliograph.server import credentials, log
from heliograph.server.auth import Caller
from heliograph.server.context import Context
from heliograph.server.db.database import Reader, Row, Transaction
from heliograph.wire.accounts import MAX_KEY_PACKAGE_SIZE_BYTES, Empty
from heliograph.wire.encoding import encode_msgpack
from heliograph.wire.ids import AccountId, DeviceId, RoomId, TopicId, group_id, room_topic, room_uri
from heliograph.wire.problems import Problem
from heliograph.wire.room_policy import Role, RoomPolicy
from heliograph.wire.rooms import (
    CreateRoom,
    GetGroupInfo,
    GetTree,
    RoomInfo,
    RoomRequest,
    Rooms,
    SealedGroupInfo,
    TreeReply,
)

GROUP_INFO_LABEL = "HG1 GroupInfo"
GROUP_INFO_SUITE = 1


# ------------------------------------------------------------------------------------------------- who takes part


class Span(NamedTuple):
    """Which entries of a room a device may read: those after `after`, up to `last` where it has left."""

    after: int
    last: int | None


def readable_span(reader: Reader, device: DeviceId, room: RoomId) -> Span:
    """Return which entries of a room a device may read: from after the commit that added it to the entry that put it
    out, which is a commit that removes it or the proposal by which it leaves.

    Raises:
        Problem: `not-found`, the device has never been in the room's group.
    """
    row = reader.one("SELECT joined_seq, left_seq FROM room_devices WHERE room = ? AND device = ?", room, device)
    if row is None:
        raise Problem("not-found", "there is no such topic")
    return Span(row[0], row[1])


def require_participant_device(reader: Reader, account: AccountId, device: DeviceId, room: RoomId) -> int:
    """Return the seq after which a device that is in the room's group reads.

    Raises:
        Problem: `not-found`, the device has never been in it; `not-allowed`, it has left or been removed.
    """
    row = reader.one(
        "SELECT joined_seq, left_seq FROM room_devices WHERE room = ? AND device = ? AND account = ?",
        room,
        device,
        account,
    )
    if row is None:
        raise Problem("not-found", "there is no such room, or this device has not joined it")
    if row[1] is not None:
        raise Problem("not-allowed", "this device is no longer in the room")
    return row[0]


def topics_of(reader: Reader, account: AccountId, device: DeviceId) -> list[TopicId]:
    """Return the topics of all rooms whose groups the device is in."""
    rows = reader.all(
        "SELECT room FROM room_devices WHERE device = ? AND account = ? AND left_seq IS NULL ORDER BY room",
        device,
        account,
    )
    return [TopicId(room) for (room,) in rows]


def share_a_room(reader: Reader, one: AccountId, other: AccountId) -> bool:
    """Tell whether two accounts take part in a room together."""
    row = reader.one(
        "SELECT 1 FROM room_participants a JOIN room_participants b ON b.room = a.room"
        " WHERE a.account = ? AND b.account = ? AND a.role >= ? AND b.role >= ? LIMIT 1",
        one,
        other,
        Role.MEMBER,
        Role.MEMBER,
    )
    return row is not None


def companion_devices(reader: Reader, account: AccountId) -> list[DeviceId]:
    """Return the devices of everyone who takes part in a room with `account`, its own among them."""
    rows = reader.all(
        "SELECT DISTINCT d.device FROM room_participants a JOIN room_participants b ON b.room = a.room"
        " JOIN devices d ON d.account = b.account"
        " WHERE a.account = ? AND a.role >= ? AND b.role >= ? AND d.removed_at_ms IS NULL",
        account,
        Role.MEMBER,
        Role.MEMBER,
    )
    return [DeviceId(device) for (device,) in rows]


def role_of(reader: Reader, account: AccountId, room: RoomId) -> Role:
    """Return the role of an account in a room; NONE where there is no such room either."""
    row = reader.one("SELECT role FROM room_participants WHERE room = ? AND account = ?", room, account)
    return Role.NONE if row is None else Role(row[0])


def require_participant(reader: Reader, account: AccountId, room: RoomId) -> Role:
    """Return the role of an account that takes part in a room.

    Raises:
        Problem: `not-found`, it does not, or there is no such room.
    """
    role = role_of(reader, account, room)
    if role < Role.MEMBER:
        raise Problem("not-found", "there is no such room")
    return role


def write_participants(tx: Transaction, room: RoomId, before: RoomPolicy | None, after: RoomPolicy) -> None:
    """Bring the participants of a room from one policy to the next."""
    old: Mapping[AccountId, Role] = {} if before is None else before.participants
    for account in old.keys() - after.participants.keys():
        tx.run("DELETE FROM room_participants WHERE room = ? AND account = ?", room, account)
    for account, role in after.participants.items():
        if old.get(account) != role:
            tx.run(
                "INSERT INTO room_participants (room, account, role) VALUES (?, ?, ?)"
                " ON CONFLICT (room, account) DO UPDATE SET role = excluded.role",
                room,
                account,
                int(role),
            )


def write_joined(tx: Transaction, room: RoomId, account: AccountId, device: DeviceId, seq: int) -> None:
    """Put a device into a room from entry `seq` on."""
    tx.run(
        "INSERT INTO room_devices (room, device, account, joined_seq, left_seq) VALUES (?, ?, ?, ?, NULL)"
        " ON CONFLICT (room, device) DO UPDATE SET joined_seq = excluded.joined_seq, left_seq = NULL",
        room,
        device,
        account,
        seq,
    )


def has_left(reader: Reader, room: RoomId, device: DeviceId) -> bool:
    """Tell whether a device that was in a room's group has left it, or is leaving."""
    sql = "SELECT 1 FROM room_devices WHERE room = ? AND device = ? AND left_seq IS NOT NULL"
    return reader.one(sql, room, device) is not None


def has_lost_a_device(reader: Reader, room: RoomId, after_seq: int) -> bool:
    """Tell whether a device has left a room by an entry after `after_seq`."""
    return reader.one("SELECT 1 FROM room_devices WHERE room = ? AND left_seq > ? LIMIT 1", room, after_seq) is not None


def write_left(tx: Transaction, room: RoomId, device: DeviceId, seq: int) -> None:
    """Put a device out of a room: entry `seq` is the last that it reads."""
    tx.run("UPDATE room_devices SET left_seq = ? WHERE room = ? AND device = ? AND left_seq IS NULL", seq, room, device)


# ------------------------------------------------------------------------------------------------------- creation


async def create_room(context: Context, caller: Caller, request: CreateRoom) -> RoomInfo:
    """Create a room from its creator's group of one; the same request again finds the room that it made."""
    digest = hashlib.sha256(encode_msgpack(request) + caller.device.encode()).digest()
    known = await context.database.read(lambda reader: _created(reader, caller, request.room, digest))
    if known is not None:
        return known
    pair = _pair(caller.account, request)
    group = await asyncio.to_thread(_open_group, context, caller, request)
    saved = group.encode()

    def act(tx: Transaction) -> RoomInfo:
        made = _created(tx, caller, request.room, digest)
        if made is not None:
            return made
        now_ms = context.now_ms()
        (leaf,) = group.tree.leaf_nodes()
        credentials.require_leaf(tx, context.domain, leaf, "invalid-proposal")
        (count,) = tx.one("SELECT count(*) FROM room_participants WHERE account = ?", caller.account) or (0,)
        if count >= context.limits.rooms_per_account:
            raise Problem("not-allowed", f"an account takes part in at most {context.limits.rooms_per_account} rooms")
        if pair is not None:
            _take_pair(tx, pair, now_ms - context.limits.direct_room_waits_s * 1000)
        _insert_room(tx, caller, request, group, (saved, digest, pair), now_ms)
        return RoomInfo(request.room, request.kind, 0, 0)

    return await context.database.write(act)


def _created(reader: Reader, caller: Caller, room: RoomId, digest: bytes) -> RoomInfo | None:
    row = reader.one("SELECT creation_digest FROM rooms WHERE room = ?", room)
    if row is None:
        return None
    if row[0] != digest:
        raise Problem("room-exists", "choose another id")
    return _room_info(reader, caller.account, room)


def _pair(creator: AccountId, request: CreateRoom) -> str | None:
    """Both accounts of a direct room, in order."""
    if (request.peer is not None) != (request.kind == "direct") or request.peer == creator:
        raise Problem("malformed", "a direct room names one other account as its peer, and a group names none")
    return None if request.peer is None else " ".join(sorted((creator, request.peer)))


def _open_group(context: Context, caller: Caller, request: CreateRoom) -> PublicGroup:
    if len(request.tree) > MAX_KEY_PACKAGE_SIZE_BYTES:
        raise Problem("invalid-proposal", "the tree of a group of one is smaller")
    try:
        body = MLSMessage.decode(request.group_info).body
        if not isinstance(body, GroupInfo):
            raise Problem("invalid-proposal", "group_info is not a GroupInfo")
        group = PublicGroup.open(body, RatchetTree.decode(request.tree), now_s=context.now_ms() // 1000)
        if ExternalPub.of(body.extensions) is None:
            raise Problem("invalid-proposal", "the GroupInfo has no external_pub")
    except MLSError as error:
        raise Problem("invalid-proposal", str(error)) from None
    _check_group_of_one(context, caller, request, group)
    return group


def _check_group_of_one(context: Context, caller: Caller, request: CreateRoom, group: PublicGroup) -> None:
    if group.group_context.group_id != group_id(request.room):
        raise Problem("invalid-proposal", "the group_id is not the room's")
    members = group.members()
    if group.epoch != 0 or len(members) != 1:
        raise Problem("invalid-proposal", "a room begins with a group of one in epoch 0")
    named = credentials.named_device(context.domain, members[0].leaf_node, "invalid-proposal")
    if named != (caller.account, caller.device):
        raise Problem("invalid-proposal", "the one member of a new group is its creator's device")
    policy = RoomPolicy.from_extensions(group.group_context.extensions)
    if policy.domain != context.domain or policy.direct != (request.kind == "direct"):
        raise Problem("invalid-proposal", "the policy names another server or another kind of room")
    if dict(policy.participants) != {caller.account: Role.OWNER}:
        raise Problem("invalid-proposal", "a new room has one participant: its creator, as owner")
    if policy.franking_key != hub_public_key(context):
        raise Problem("invalid-proposal", "the policy names another franking key than this server's")


def hub_public_key(context: Context) -> bytes:
    """Return the Ed25519 key (32 bytes) that this server's franks are checked against."""
    return cipher_suite(1).signature_public_key(context.secrets.hub_signature_key)


def _take_pair(tx: Transaction, pair: str, made_before_ms: int) -> None:
    """Make place for a new direct room, if an older one has stood long without its peer."""
    row = tx.one("SELECT room, created_at_ms FROM rooms WHERE pair = ?", pair)
    if row is None:
        return
    room, created_at_ms = row
    (people,) = tx.one("SELECT count(*) FROM room_participants WHERE room = ?", room) or (0,)
    if people > 1 or created_at_ms > made_before_ms:
        raise Problem("room-exists", "these two have a room already")
    tx.run("UPDATE rooms SET pair = NULL WHERE room = ?", room)


def _insert_room(
    tx: Transaction,
    caller: Caller,
    request: CreateRoom,
    group: PublicGroup,
    made: tuple[bytes, bytes, str | None],
    now_ms: int,
) -> None:
    saved, digest, pair = made
    tree_hash = group.group_context.tree_hash
    tx.run(
        "INSERT INTO rooms (room, kind, pair, epoch, oldest_epoch, revision, tree_hash, creation_digest, swept_seq,"
        " created_at_ms) VALUES (?, ?, ?, 0, 0, 0, ?, ?, 0, ?)",
        request.room,
        request.kind,
        pair,
        tree_hash,
        digest,
        now_ms,
    )
    tx.run(
        "INSERT INTO room_groups (room, public_group, group_info) VALUES (?, ?, ?)",
        request.room,
        saved,
        request.group_info,
    )
    write_tree(tx, request.room, tree_hash, request.tree)
    log.create_topic(tx, room_topic(request.room), now_ms)
    write_participants(tx, request.room, None, RoomPolicy.from_extensions(group.group_context.extensions))
    write_joined(tx, request.room, caller.account, caller.device, 0)


def write_tree(tx: Transaction, room: RoomId, tree_hash: bytes, tree: bytes) -> None:
    """Keep the ratchet tree of a room's present epoch."""
    tx.run(
        "INSERT INTO room_trees (room, tree_hash, tree, superseded_at_ms) VALUES (?, ?, ?, NULL)"
        " ON CONFLICT (room, tree_hash) DO UPDATE SET superseded_at_ms = NULL",
        room,
        tree_hash,
        tree,
    )


# ------------------------------------------------------------------------------------------------------- reading


async def list_rooms(context: Context, caller: Caller, request: Empty) -> Rooms:
    """List the rooms of the caller's account, also those that this device has not joined yet."""
    del request
    rows = await context.database.read(lambda reader: reader.all(f"{_INFO} ORDER BY r.room", caller.account))
    return Rooms([_info(row) for row in rows])


async def get_room(context: Context, caller: Caller, request: RoomRequest) -> RoomInfo:
    """Tell a room's epoch and head."""
    return await context.database.read(lambda reader: _room_info(reader, caller.account, request.room))


async def get_group_info(context: Context, caller: Caller, request: GetGroupInfo) -> SealedGroupInfo:
    """Give the GroupInfo of the present epoch, sealed to the caller, so that it may join from outside."""

    def query(reader: Reader) -> Row | None:
        require_participant(reader, caller.account, request.room)
        return reader.one(
            "SELECT r.epoch, r.tree_hash, g.group_info FROM rooms r JOIN room_groups g ON g.room = r.room"
            " WHERE r.room = ?",
            request.room,
        )

    row = await context.database.read(query)
    if row is None:
        raise Problem("not-found", "there is no such room")
    epoch, tree_hash, group_info = row
    sealed = await asyncio.to_thread(_seal_group_info, context.domain, request, group_info)
    return SealedGroupInfo(epoch, sealed.kem_output, sealed.ciphertext, tree_hash)


async def get_tree(context: Context, caller: Caller, request: GetTree) -> TreeReply:
    """Give the ratchet tree of a hash."""

    def query(reader: Reader) -> TreeReply:
        require_participant(reader, caller.account, request.room)
        row = reader.one(
            "SELECT tree FROM room_trees WHERE room = ? AND tree_hash = ?", request.room, request.tree_hash
        )
        if row is None:
            raise Problem("not-found", "there is no tree of this hash: ask for the room's present GroupInfo")
        return TreeReply(row[0])

    return await context.database.read(query)


_INFO = (
    "SELECT r.room, r.kind, r.epoch, t.head FROM room_participants p JOIN rooms r ON r.room = p.room"
    " JOIN topics t ON t.topic = p.room WHERE p.role >= 2 AND p.account = ?"
)


def _room_info(reader: Reader, account: AccountId, room: RoomId) -> RoomInfo:
    row = reader.one(f"{_INFO} AND p.room = ?", account, room)
    if row is None:
        raise Problem("not-found", "there is no such room")
    return _info(row)


def _info(row: Row) -> RoomInfo:
    return RoomInfo(row[0], row[1], row[2], row[3])


def _seal_group_info(domain: str, request: GetGroupInfo, group_info: bytes) -> HPKECiphertext:
    context = room_uri(domain, request.room).encode()
    try:
        return cipher_suite(GROUP_INFO_SUITE).encrypt_with_label(
            request.public_key, GROUP_INFO_LABEL, context, group_info
        )
    except MLSError:
        raise Problem("malformed", "public_key is not an X25519 key") from None
