"""The chain of an account's states as the server keeps it, and what follows when it grows.

The server checks each state, and takes the next one by compare-and-swap on its `seq`; clients check the whole
chain again. A device that a state no longer lists is out from that commit on: its sessions, sockets and mailbox end.
"""

from collections.abc import Sequence

from heliograph.server import log
from heliograph.server.auth import Caller
from heliograph.server.context import Context
from heliograph.server.db.database import Reader, Transaction
from heliograph.server.sessions import verify_signed_challenge
from heliograph.wire.account_state import MAX_CHAIN_LENGTH, DeviceEntry, SignedAccountState, verify_successor
from heliograph.wire.accounts import (
    RECOVERY_PURPOSE,
    AccountChain,
    AccountRequest,
    PutAccountState,
    RecoverChain,
)
from heliograph.wire.events import DevicesEvent
from heliograph.wire.ids import AccountId, DeviceId, mailbox_topic
from heliograph.wire.problems import Problem
from heliograph.wire.room_policy import Role


def add_devices(tx: Transaction, account: AccountId, entries: Sequence[DeviceEntry], now_ms: int) -> None:
    """Let devices in: each gets a row and a mailbox. A device id is given out once, ever.

    Raises:
        Problem: `invalid-account-state`, a device id is known already.
    """
    for entry in entries:
        added = tx.run(
            "INSERT INTO devices (device, account, device_key, role, added_at_ms, removed_at_ms)"
            " VALUES (?, ?, ?, ?, ?, NULL) ON CONFLICT DO NOTHING",
            *(entry.device, account, entry.device_key, int(entry.role), now_ms),
        )
        if not added:
            raise Problem("invalid-account-state", "a device id is known already: choose a new one")
        log.create_topic(tx, mailbox_topic(entry.device), now_ms)


def devices_of(reader: Reader, account: AccountId) -> list[DeviceId]:
    """Return the devices that stand in the account's newest state."""
    sql = "SELECT device FROM devices WHERE account = ? AND removed_at_ms IS NULL ORDER BY device"
    return [device for (device,) in reader.all(sql, account)]


async def get_account_chain(context: Context, caller: Caller | None, request: AccountRequest) -> AccountChain:
    """Give an account's signed states; without a session, only of accounts that have posted in public."""

    def query(reader: Reader) -> AccountChain:
        chain = _read_chain(reader, request.account)
        if chain is None or (caller is None and not _has_posted(reader, request.account)):
            raise Problem("not-found", "there is no such account")
        return chain

    return await context.database.read(query)


def _read_chain(reader: Reader, account: AccountId) -> AccountChain | None:
    row = reader.one("SELECT handle FROM accounts WHERE account = ?", account)
    if row is None:
        return None
    states = reader.all("SELECT state FROM account_states WHERE account = ? ORDER BY seq", account)
    return AccountChain(account, row[0], [state for (state,) in states])


def _has_posted(reader: Reader, account: AccountId) -> bool:
    return reader.one("SELECT 1 FROM posts WHERE author = ? LIMIT 1", account) is not None


async def put_account_state(context: Context, caller: Caller | None, request: PutAccountState) -> AccountChain:
    """Continue an account's chain by one state; the same state again gives the first answer.

    The state's signature says who may do this, so nobody need be logged in: a recovery code has no device yet.
    """
    if caller is not None and caller.account != request.account:
        raise Problem("not-allowed", "this session is another account's")
    signed = SignedAccountState.decode(request.state)
    before = await context.database.read(lambda reader: _newest(reader, request.account))
    if signed.encode() != before.encode():
        _check_next(before, signed)
        # After the signatures: nobody but the account itself can use its allowance up.
        context.admission.charge("states", request.account, context.now_ms())
        await context.database.write(lambda tx: _take(tx, context, request.account, before, signed))
    chain = await context.database.read(lambda reader: _read_chain(reader, request.account))
    if chain is None:
        raise Problem("not-found", "there is no such account")
    return chain


async def recover_chain(context: Context, caller: Caller | None, request: RecoverChain) -> AccountChain:
    """Give an account's chain to who holds its recovery key, though no device is left to log in with."""
    del caller

    def query(reader: Reader) -> tuple[AccountChain | None, bytes | None]:
        chain = _read_chain(reader, request.account)
        key = None if chain is None else SignedAccountState.decode(chain.states[-1]).state.recovery_key
        return chain, key

    chain, recovery_key = await context.database.read(query)
    verify_signed_challenge(context, request, recovery_key, RECOVERY_PURPOSE, context.now_ms())
    if chain is None:
        raise Problem("login-failed", "the recovery key could not be verified")
    return chain


def _check_next(before: SignedAccountState, signed: SignedAccountState) -> None:
    if signed.state.seq >= MAX_CHAIN_LENGTH:
        raise Problem("not-allowed", "the account's chain has reached its longest")
    if signed.state.seq != before.state.seq + 1 or signed.state.prev != before.hash():
        raise Problem("wrong-state", f"the newest state is {before.state.seq}: fetch the chain and build on it")
    verify_successor(before, signed)


def _newest(reader: Reader, account: AccountId) -> SignedAccountState:
    row = reader.one("SELECT state FROM account_states WHERE account = ? ORDER BY seq DESC LIMIT 1", account)
    if row is None:
        raise Problem("not-found", "there is no such account")
    return SignedAccountState.decode(row[0])


def _take(
    tx: Transaction, context: Context, account: AccountId, before: SignedAccountState, signed: SignedAccountState
) -> None:
    """Write the state that was checked against `before`, unless another came first."""
    now_ms = context.now_ms()
    seq = signed.state.seq
    swapped = tx.run(
        "UPDATE accounts SET state_seq = ? WHERE account = ? AND state_seq = ?", seq, account, before.state.seq
    )
    if not swapped:
        raise Problem("wrong-state", "another state came first: fetch the chain and build on it")
    tx.run(
        "INSERT INTO account_states (account, seq, state, accepted_at_ms) VALUES (?, ?, ?, ?)",
        *(account, seq, signed.encode(), now_ms),
    )
    stood = {entry.device for entry in before.state.devices}
    stands = {entry.device for entry in signed.state.devices}
    add_devices(tx, account, [entry for entry in signed.state.devices if entry.device not in stood], now_ms)
    for entry in signed.state.devices:
        tx.run("UPDATE devices SET role = ? WHERE device = ?", int(entry.role), entry.device)
    for device in sorted(stood - stands):
        _remove(tx, context, device, now_ms)
    _tell(tx, account, seq, now_ms)


def _remove(tx: Transaction, context: Context, device: DeviceId, now_ms: int) -> None:
    """Put a device out: what it could still use or read ends with this commit."""
    tx.run("UPDATE devices SET removed_at_ms = ? WHERE device = ?", now_ms, device)
    tx.run("UPDATE sessions SET ended_at_ms = ? WHERE device = ? AND ended_at_ms IS NULL", now_ms, device)
    tx.run("DELETE FROM key_packages WHERE device = ?", device)
    tx.run("DELETE FROM acknowledgements WHERE device = ?", device)
    mailbox = mailbox_topic(device)
    floor_and_head = log.heads(tx, [mailbox]).get(mailbox)
    if floor_and_head is not None:
        log.advance_floor(tx, mailbox, floor_and_head[1])
    tx.after_commit(lambda: context.sessions.end_device(device))


def _tell(tx: Transaction, account: AccountId, seq: int, now_ms: int) -> None:
    """Tell every device that may meet the account's devices: its own, and those in shared rooms."""
    event = DevicesEvent(account, seq, now_ms)
    for device in sorted({*devices_of(tx, account), *_companions(tx, account)}):
        log.append(tx, mailbox_topic(device), event)


def _companions(reader: Reader, account: AccountId) -> list[DeviceId]:
    rows = reader.all(
        "SELECT DISTINCT devices.device FROM room_participants ours"
        " JOIN room_participants theirs ON theirs.room = ours.room"
        " JOIN devices ON devices.account = theirs.account"
        " WHERE ours.account = ? AND ours.role >= ? AND theirs.role >= ? AND devices.removed_at_ms IS NULL",
        *(account, int(Role.MEMBER), int(Role.MEMBER)),
    )
    return [device for (device,) in rows]
