"""The device's store: SQLite, one process, and every step of the client one transaction.

Theory of operation. `save` takes the changes of one step and writes all of them or none, durable (`synchronous` is
FULL) before it returns. What a step needs to read again soon (rooms, accounts, unfinished commits) is kept in memory as
values and replaced only after the commit, so memory never runs ahead of the disk.

A room's state is written by difference: `Group.rows()` names a few small rows that change with a message and the big
ones that change with a commit; rows that are equal to what was saved are left alone.

`taken` is the one write that need not survive a power cut (it would only tell something twice): it waits for no disk.
"""

import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw
import msgspec

from heliograph.client import changes as c
from heliograph.client.errors import StoreDamaged
from heliograph.client.hidden import Hidden
from heliograph.client.home import HomeLock, make_home, require_home
from heliograph.client.identity import KnownAccount
from heliograph.client.room import PendingChange, Room, Standing
from heliograph.client.told import AnyTold
from heliograph.content.franking import Envelope
from heliograph.mls.group import Group
from heliograph.mls.key_package import KeyPackage, KeyPackageBundle
from heliograph.mls.suite import Secret, cipher_suite
from heliograph.wire.account_state import SignedAccountState
from heliograph.wire.ids import AccountId, ChannelId, DeviceId, Handle, RoomId, TopicId
from heliograph.wire.room_policy import RoomPolicy

T = TypeVar("T")
_Row = tuple[Any, ...]

SCHEMA_VERSION: Final = 1
MAX_WAITING_TOLD: Final = 20_000

_intent_decoder: "msgspec.msgpack.Decoder[c.AnyIntent]" = msgspec.msgpack.Decoder(c.AnyIntent)
_told_decoder: "msgspec.msgpack.Decoder[AnyTold]" = msgspec.msgpack.Decoder(AnyTold)
_envelope_decoder = msgspec.msgpack.Decoder(Envelope)


class _SavedPending(Hidden, frozen=True):
    rows: dict[str, bytes]
    name: str
    topic: str
    epoch: int
    commit: bytes
    welcome: bytes | None
    group_info: bytes
    tree: bytes
    external: bool
    peer: str
    leaf_at_ms: int


class SavedIntent(msgspec.Struct, frozen=True):
    """An intent in the outbox, with the exact request where it is made already."""

    intent_id: int
    lane: str
    intent: c.AnyIntent
    request: bytes


class Store:
    """A device's store, open. `save` may be called from any thread; one call runs at a time."""

    def __init__(self, connection: Any, lock: HomeLock) -> None:
        self._db = connection
        self._home_lock = lock
        self._turn = threading.RLock()
        self._rooms: dict[RoomId, Room] = {}
        self._saved_rows: dict[RoomId, Mapping[str, bytes]] = {}
        self._pending: dict[RoomId, PendingChange] = {}
        self._accounts: dict[AccountId, KnownAccount] = {}
        self._cursors: dict[TopicId, int] = {}
        self._load()

    @classmethod
    def create(cls, home: Path) -> "Store":
        """Make a new, empty store; raises StoreMissing where one stands, StoreBusy where one is being made."""
        path = make_home(home)
        lock = HomeLock.acquire(home)
        connection = _connect(path)
        with connection:
            connection.execute(resources.files("heliograph.client").joinpath("schema.sql").read_text())
            connection.pragma("user_version", SCHEMA_VERSION)
        return cls(connection, lock)

    @classmethod
    def open(cls, home: Path) -> "Store":
        """Open a store; raises StoreMissing, StoreBusy or StoreDamaged."""
        path = require_home(home)
        lock = HomeLock.acquire(home)
        try:
            connection = _connect(path)
            version = connection.pragma("user_version")
            if version != SCHEMA_VERSION:
                raise StoreDamaged(f"the store has version {version}, and this program reads {SCHEMA_VERSION}")
            return cls(connection, lock)
        except apsw.Error as error:
            lock.release()
            raise StoreDamaged(f"the store cannot be read: {type(error).__name__}") from None
        except BaseException:
            lock.release()
            raise

    def close(self) -> None:
        """Close the store and let another process in."""
        with self._turn:
            self._db.close()
            self._home_lock.release()

    # ------------------------------------------------------------------------------------------------- writing

    def save(self, changes: Iterable[c.Change]) -> list[int]:
        """Write all changes in one durable transaction; returns the ids of the intents that were added."""
        kept = tuple(changes)
        added: list[int] = []
        with self._turn:
            after: list[Callable[[], None]] = []
            with self._db:
                for change in kept:
                    self._write(change, added, after)
            for act in after:
                act()
        return added

    @contextmanager
    def together(self) -> Generator[None]:
        """Make one transaction of all that is saved inside."""
        with self._turn, self._db:
            yield

    def taken(self, told_ids: Sequence[int]) -> None:
        """Forget what has been told."""
        with self._turn, self._relaxed(), self._db:
            self._db.executemany("DELETE FROM inbox WHERE id = ?", [(one,) for one in told_ids])

    @contextmanager
    def _relaxed(self) -> Generator[None]:
        self._db.pragma("synchronous", "NORMAL")
        try:
            yield
        finally:
            self._db.pragma("synchronous", "FULL")

    def _write(self, change: c.Change, added: list[int], after: list[Callable[[], None]]) -> None:
        match change:
            case c.RoomSaved(room):
                self._write_room(room, after)
            case c.MessageSaved(message):
                self._write_message(message)
            case c.CursorMoved(topic, seq):
                self._run("INSERT OR REPLACE INTO cursors (topic, seq) VALUES (?, ?)", topic, seq)
                after.append(lambda: self._cursors.__setitem__(topic, seq))
            case c.Tell(told):
                self._run("INSERT INTO inbox (told) VALUES (?)", msgspec.msgpack.encode(told))
            case c.CiphertextMade(room=room, ciphertext_sha256=sha256, message_id=message_id):
                self._run(
                    "INSERT OR REPLACE INTO ciphertexts (room, sha256, message_id) VALUES (?, ?, ?)",
                    *(room, sha256, message_id),
                )
            case c.CiphertextSeen(room=room, ciphertext_sha256=sha256):
                self._run("DELETE FROM ciphertexts WHERE room = ? AND sha256 = ?", room, sha256)
            case c.MessageAccepted(room, message_id, envelope):
                self._run(
                    "UPDATE messages SET seq = ?, accepted_at_ms = ?, envelope = ?, state = 'sent'"
                    " WHERE room = ? AND message_id = ?",
                    *(envelope.room_seq, envelope.accepted_at_ms, msgspec.msgpack.encode(envelope)),
                    *(room, message_id),
                )
            case c.MessageRefused(room, message_id):
                self._run(
                    "UPDATE messages SET state = 'refused' WHERE room = ? AND message_id = ? AND seq = 0",
                    *(room, message_id),
                )
            case c.IntentAdded() | c.IntentSealed() | c.LaneUnsealed() | c.IntentDone():
                self._write_intent(change, added)
            case _:
                self._write_rare(change, after)

    def _write_intent(
        self, change: c.IntentAdded | c.IntentSealed | c.LaneUnsealed | c.IntentDone, added: list[int]
    ) -> None:
        match change:
            case c.IntentAdded(lane, intent, request):
                self._run(
                    "INSERT INTO outbox (lane, intent, request, urgent) VALUES (?, ?, ?, ?)",
                    *(lane, msgspec.msgpack.encode(intent), request, isinstance(intent, c.JoinFromOutside)),
                )
                added.append(self._db.last_insert_rowid())
            case c.IntentSealed(intent_id, request):
                self._run("UPDATE outbox SET request = ? WHERE id = ?", request, intent_id)
            case c.LaneUnsealed(lane):
                self._run("UPDATE outbox SET request = x'' WHERE lane = ?", lane)
            case c.IntentDone(intent_id):
                self._run("DELETE FROM outbox WHERE id = ?", intent_id)

    def _write_rare(self, change: c.Change, after: list[Callable[[], None]]) -> None:
        match change:
            case c.AccountLearned(known):
                chain = msgspec.msgpack.encode([signed.encode() for signed in known.chain])
                self._run(
                    "INSERT OR REPLACE INTO accounts (account, handle, chain) VALUES (?, ?, ?)",
                    *(known.account, known.handle, chain),
                )
                after.append(lambda: self._accounts.__setitem__(known.account, known))
            case c.KeyPackagesMade(bundles, made_at_ms):
                for bundle in bundles:
                    self._write_key_package(bundle, made_at_ms)
            case c.KeyPackageSpent(reference):
                self._run("DELETE FROM key_packages WHERE reference = ?", reference)
            case c.KeyPackagesOutlived(one_time_before_ms, last_resort_before_ms):
                self._run(
                    "DELETE FROM key_packages WHERE made_at_ms < CASE last_resort WHEN 1 THEN ? ELSE ? END",
                    *(last_resort_before_ms, one_time_before_ms),
                )
            case c.ChangePending(pending):
                self._run(
                    "INSERT OR REPLACE INTO pending_changes (room, pending) VALUES (?, ?)",
                    *(pending.room.room, _encode_pending(pending)),
                )
                after.append(lambda: self._pending.__setitem__(pending.room.room, pending))
            case c.ChangeDropped(room):
                self._run("DELETE FROM pending_changes WHERE room = ?", room)
                after.append(lambda: self._forget(self._pending, room))
            case c.RoomForgotten(room):
                self._run("DELETE FROM group_rows WHERE room = ?", room)
                self._run("UPDATE rooms SET standing = 'left' WHERE room = ?", room)
                self._run("DELETE FROM cursors WHERE topic = ?", room)
                self._run("DELETE FROM ciphertexts WHERE room = ?", room)
                after.append(lambda: self._forget_room(room))
            case c.CursorDropped(topic):
                self._run("DELETE FROM cursors WHERE topic = ?", topic)
                after.append(lambda: self._forget(self._cursors, topic))
            case c.ChannelFollowed(channel, handle, title):
                self._run(
                    "INSERT OR REPLACE INTO channels (channel, handle, title) VALUES (?, ?, ?)",
                    *(channel, handle, title),
                )
            case c.ChannelUnfollowed(channel):
                self._run("DELETE FROM channels WHERE channel = ?", channel)
            case c.MetaSaved(name, b""):
                self._run("DELETE FROM meta WHERE name = ?", name)
            case c.MetaSaved(name, value):
                self._run("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", name, value)
            case _:
                raise TypeError(f"{type(change).__name__} is written elsewhere")

    def _write_room(self, room: Room, after: list[Callable[[], None]]) -> None:
        known = self._rooms.get(room.room)
        told = (room.name, room.topic, room.standing, room.leaf_at_ms, room.peer)
        if known is None or told != (known.name, known.topic, known.standing, known.leaf_at_ms, known.peer):
            self._run(
                "INSERT OR REPLACE INTO rooms (room, direct, name, topic, standing, leaf_at_ms, peer)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                *(room.room, room.direct, room.name, room.topic, room.standing, room.leaf_at_ms, room.peer or ""),
            )
        saved, rows = self._saved_rows.get(room.room, {}), room.group.rows()
        if rows is not saved:
            self._run_many(
                "INSERT OR REPLACE INTO group_rows (room, name, value) VALUES (?, ?, ?)",
                [(room.room, name, value) for name, value in rows.items() if saved.get(name) != value],
            )
            self._run_many(
                "DELETE FROM group_rows WHERE room = ? AND name = ?",
                [(room.room, name) for name in saved.keys() - rows.keys()],
            )
        self._run("INSERT OR REPLACE INTO cursors (topic, seq) VALUES (?, ?)", room.room, room.seq)

        def keep() -> None:
            self._rooms[room.room] = room
            self._saved_rows[room.room] = rows
            self._cursors[TopicId(room.room)] = room.seq

        after.append(keep)

    def _write_message(self, message: c.StoredMessage) -> None:
        envelope = b"" if message.envelope is None else msgspec.msgpack.encode(message.envelope)
        self._run(
            "INSERT INTO messages (room, message_id, seq, accepted_at_ms, created_at_ms, sender, device, act, text,"
            " state, in_reply_to, replaces, application_data, envelope)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (room, message_id) DO NOTHING",
            *(message.room, message.message_id, message.seq, message.accepted_at_ms, message.created_at_ms),
            *(message.sender, message.device, message.act, message.text, message.state),
            *(message.in_reply_to or b"", message.replaces or b"", message.application_data, envelope),
        )

    def _write_key_package(self, bundle: KeyPackageBundle, made_at_ms: int) -> None:
        key_package = bundle.key_package
        self._run(
            "INSERT INTO key_packages (reference, key_package, init_key, leaf_key, last_resort, made_at_ms)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            key_package.reference(cipher_suite(key_package.cipher_suite)),
            key_package.encode(),
            bytes(bundle.init_private_key),
            bytes(bundle.encryption_private_key),
            key_package.is_last_resort,
            made_at_ms,
        )

    def _run(self, sql: str, *values: Any) -> None:
        self._db.execute(sql, values)

    def _run_many(self, sql: str, rows: Sequence[_Row]) -> None:
        if rows:
            self._db.executemany(sql, rows)

    @staticmethod
    def _forget(kept: dict[Any, Any], key: object) -> None:
        kept.pop(key, None)

    def _forget_room(self, room: RoomId) -> None:
        for kept in (self._rooms, self._saved_rows, self._pending, self._cursors):
            self._forget(kept, room)

    # ------------------------------------------------------------------------------------------------- reading

    def meta(self, name: str) -> bytes | None:
        """Return a named value, if it was saved."""
        row = self._one("SELECT value FROM meta WHERE name = ?", name)
        return None if row is None else row[0]

    @property
    def accounts(self) -> Mapping[AccountId, KnownAccount]:
        """Return all accounts whose chains this device knows."""
        return self._accounts

    @property
    def cursors(self) -> Mapping[TopicId, int]:
        """Return how far each topic is kept."""
        return self._cursors

    def room(self, room: RoomId) -> Room | None:
        """Return a room that this device is in or was lost from, None where there is none."""
        return self._rooms.get(room)

    def rooms(self) -> list[Room]:
        """Return all rooms that this device is in."""
        return list(self._rooms.values())

    def left_rooms(self) -> set[RoomId]:
        """Return the rooms that this device has left or was removed from."""
        return {RoomId(row[0]) for row in self._all("SELECT room FROM rooms WHERE standing = 'left'")}

    def pending(self, room: RoomId) -> PendingChange | None:
        """Return the commit of a room that waits to be accepted."""
        return self._pending.get(room)

    def key_package(self, reference: bytes) -> KeyPackageBundle | None:
        """Return a key package with its private keys by its reference."""
        row = self._one("SELECT key_package, init_key, leaf_key FROM key_packages WHERE reference = ?", reference)
        if row is None:
            return None
        return KeyPackageBundle(KeyPackage.decode(row[0]), Secret(row[1]), Secret(row[2]))

    def message_of_ciphertext(self, room: RoomId, sha256: bytes) -> bytes | None:
        """Return the message id that a sealed message of ours holds."""
        row = self._one("SELECT message_id FROM ciphertexts WHERE room = ? AND sha256 = ?", room, sha256)
        return None if row is None else row[0]

    def message(self, room: RoomId, message_id: bytes) -> c.StoredMessage | None:
        """Return one message."""
        row = self._one(f"{_MESSAGE} WHERE room = ? AND message_id = ?", room, message_id)
        return None if row is None else _message(row)

    def messages(self, room: RoomId, limit: int, before_seq: int | None = None) -> list[c.StoredMessage]:
        """Return the newest messages of a room, oldest first; those not yet accepted come last."""
        sql = f"{_MESSAGE} WHERE room = ? AND seq < ? ORDER BY seq = 0 DESC, seq DESC, id DESC LIMIT ?"
        if before_seq is not None:
            sql = f"{_MESSAGE} WHERE room = ? AND seq > 0 AND seq < ? ORDER BY seq DESC LIMIT ?"
        bound = (1 << 62) if before_seq is None else before_seq
        rows = self._all(sql, room, bound, limit)
        return [_message(row) for row in reversed(rows)]

    def intents(self) -> list[SavedIntent]:
        """Return the outbox, oldest first."""
        rows = self._all("SELECT id, lane, intent, request FROM outbox ORDER BY id")
        return [SavedIntent(row[0], row[1], _intent_decoder.decode(row[2]), row[3]) for row in rows]

    def next_intent(self, lane: str) -> SavedIntent | None:
        """Return the intent of a lane that is to be done next: the oldest, but for one that is urgent."""
        row = self._one(
            "SELECT id, lane, intent, request FROM outbox WHERE lane = ? ORDER BY urgent DESC, id LIMIT 1", lane
        )
        return None if row is None else SavedIntent(row[0], row[1], _intent_decoder.decode(row[2]), row[3])

    def waiting_told(self, limit: int) -> list[tuple[int, AnyTold]]:
        """Return what has not been told yet, oldest first, with ids for `taken`."""
        rows = self._all("SELECT id, told FROM inbox ORDER BY id LIMIT ?", limit)
        return [(row[0], _told_decoder.decode(row[1])) for row in rows]

    def drop_oldest_told(self) -> None:
        """Keep what waits to be told within its bound: history itself stays in the messages."""
        with self._turn, self._db:
            self._run(
                "DELETE FROM inbox WHERE id <= (SELECT id FROM inbox ORDER BY id DESC LIMIT 1 OFFSET ?)",
                MAX_WAITING_TOLD,
            )

    def channels(self) -> list[tuple[ChannelId, Handle, str]]:
        """Return the followed channels: id, handle, title."""
        rows = self._all("SELECT channel, handle, title FROM channels ORDER BY handle")
        return [(ChannelId(row[0]), Handle(row[1]), row[2]) for row in rows]

    def _one(self, sql: str, *values: Any) -> _Row | None:
        with self._turn:
            return self._db.execute(sql, values).fetchone()

    def _all(self, sql: str, *values: Any) -> list[_Row]:
        with self._turn:
            return self._db.execute(sql, values).fetchall()

    # ------------------------------------------------------------------------------------------------- loading

    def _load(self) -> None:
        for account, handle, chain in self._all("SELECT account, handle, chain FROM accounts"):
            states = tuple(SignedAccountState.decode(one) for one in msgspec.msgpack.decode(chain, type=list[bytes]))
            self._accounts[AccountId(account)] = KnownAccount(AccountId(account), Handle(handle), states)
        self._cursors.update((TopicId(topic), seq) for topic, seq in self._all("SELECT topic, seq FROM cursors"))
        rows_of: dict[str, dict[str, bytes]] = {}
        for room, name, value in self._all("SELECT room, name, value FROM group_rows"):
            rows_of.setdefault(room, {})[name] = value
        for row in self._all("SELECT room, name, topic, standing, leaf_at_ms, peer FROM rooms"):
            room = RoomId(row[0])
            if room in rows_of:
                self._rooms[room] = _load_room(rows_of[room], room, self._cursors.get(TopicId(room), 0), row[1:])
                self._saved_rows[room] = rows_of[room]
        for room, pending in self._all("SELECT room, pending FROM pending_changes"):
            self._pending[RoomId(room)] = _decode_pending(RoomId(room), pending)


_MESSAGE: Final = (
    "SELECT room, message_id, sender, device, act, text, application_data, state, created_at_ms, seq, accepted_at_ms,"
    " envelope, in_reply_to, replaces FROM messages"
)


def _message(row: _Row) -> c.StoredMessage:
    return c.StoredMessage(
        RoomId(row[0]),
        row[1],
        AccountId(row[2]),
        DeviceId(row[3]),
        *row[4:11],
        envelope=_envelope_decoder.decode(row[11]) if row[11] else None,
        in_reply_to=row[12] or None,
        replaces=row[13] or None,
    )


def _load_room(rows: Mapping[str, bytes], room: RoomId, seq: int, kept: _Row) -> Room:
    name, topic, standing, leaf_at_ms, peer = kept
    group = Group.load(rows)
    policy = RoomPolicy.from_extensions(group.group_context.extensions)
    state: Standing = standing
    return Room(room, group, policy, seq, name, topic, state, leaf_at_ms, AccountId(peer) if peer else None)


def _encode_pending(pending: PendingChange) -> bytes:
    return msgspec.msgpack.encode(
        _SavedPending(
            rows=dict(pending.room.group.rows()),
            name=pending.room.name,
            topic=pending.room.topic,
            epoch=pending.epoch,
            commit=pending.commit,
            welcome=pending.welcome,
            group_info=pending.group_info,
            tree=pending.tree,
            external=pending.external,
            peer=pending.room.peer or "",
            leaf_at_ms=pending.room.leaf_at_ms,
        )
    )


def _decode_pending(room: RoomId, data: bytes) -> PendingChange:
    saved = msgspec.msgpack.decode(data, type=_SavedPending)
    after = _load_room(saved.rows, room, 0, (saved.name, saved.topic, "active", saved.leaf_at_ms, saved.peer))
    return PendingChange(after, saved.epoch, saved.commit, saved.welcome, saved.group_info, saved.tree, saved.external)


def _connect(path: Path) -> Any:
    connection: Any = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(5000)
    for name, value in (
        ("journal_mode", "WAL"),
        ("synchronous", "FULL"),
        ("secure_delete", True),
        ("foreign_keys", True),
    ):
        connection.pragma(name, value)
    return connection
