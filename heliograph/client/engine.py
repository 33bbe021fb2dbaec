r"""The one place where an entry of any topic is understood. Pure.

```
Stored + Facts + one entry --apply--> Step     what to save (one transaction), what to ask for afterwards
                             \------> Missing  chains or a tree to fetch first; then apply the same entry again
```

An entry never raises: what cannot be verified is told as a `ProtocolFault`, the cursor moves on, and the rest of the
topic is not harmed. A room whose commits cannot be followed any more is `lost`, and an intent to join it again from
outside stands in the same step.
"""

from dataclasses import replace

from heliograph.client import channel as channels
from heliograph.client import room as rooms
from heliograph.client.changes import (
    AccountLearned,
    Change,
    ChangeMembers,
    CursorMoved,
    IntentAdded,
    JoinFromOutside,
    KeyPackageSpent,
    RoomSaved,
    Tell,
    TendRoom,
)
from heliograph.client.identity import CredentialError, KnownAccount
from heliograph.client.room import MissingAccounts, Room
from heliograph.client.room_entries import apply_to_room
from heliograph.client.step import Facts, Missing, OfferKeyPackages, Step, Stored, Subscribe, accounts_of, fault
from heliograph.client.told import (
    DeviceListChanged,
    EntriesMissed,
    OutcomeReceived,
    PostReceived,
    PostRemoved,
    RoomJoined,
    StatementReceived,
)
from heliograph.mls.errors import MLSError, StateError
from heliograph.mls.framing import MLSMessage
from heliograph.mls.group_info import Welcome
from heliograph.mls.key_package import KeyPackageBundle
from heliograph.wire.account_state import Signer
from heliograph.wire.channels import PostView, decode_deletion
from heliograph.wire.events import (
    AnyEvent,
    DevicesEvent,
    EditEvent,
    KeyPackagesLowEvent,
    OutcomeEvent,
    PostEvent,
    StatementEvent,
    TombstoneEvent,
    WelcomeEvent,
)
from heliograph.wire.ids import AccountId, ChannelId, DeviceId, RoomId, TopicId
from heliograph.wire.problems import Problem


def apply(stored: Stored, facts: Facts, topic: TopicId, seq: int, event: AnyEvent) -> Step | Missing:
    """Return what an entry leads to, or what must be fetched first."""
    try:
        if topic.startswith("r"):
            step = apply_to_room(stored, facts, RoomId(topic), seq, event)
        elif topic.startswith("c"):
            step = _apply_to_channel(stored, facts, ChannelId(topic), seq, event)
        else:
            step = _apply_to_mailbox(stored, facts, topic, seq, event)
    except MissingAccounts as missing:
        return Missing(accounts=missing.accounts)
    if isinstance(step, Missing):
        return step
    learned = tuple(AccountLearned(known) for known in facts.fetched.values())
    return replace(step, changes=(*learned, *step.changes))


def apply_gap(stored: Stored, topic: TopicId, first: int, last: int, why: str) -> Step:
    """Return what it leads to that entries `first` to `last` will never come."""
    told = Tell(EntriesMissed(topic, first, last, why))
    room = stored.room(RoomId(topic)) if topic.startswith("r") else None
    if room is None:
        return Step((CursorMoved(topic, last), told))
    return Step((RoomSaved(replace(room, seq=max(room.seq, last))), told))


# ------------------------------------------------------------------------------------------------------- mailbox


def _apply_to_mailbox(stored: Stored, facts: Facts, topic: TopicId, seq: int, event: AnyEvent) -> Step | Missing:
    moved = CursorMoved(topic, seq)
    match event:
        case WelcomeEvent():
            return _apply_welcome(stored, facts, topic, seq, event)
        case DevicesEvent():
            return _apply_devices(stored, facts, topic, seq, event)
        case KeyPackagesLowEvent():
            return Step((moved,), (OfferKeyPackages(event.last_resort_used),))
        case StatementEvent():
            return Step((moved, Tell(StatementReceived(event.statement))))
        case OutcomeEvent():
            return Step((moved, Tell(OutcomeReceived(event.report, event.outcome, event.decision))))
        case _:
            return Step((moved,))


def _apply_welcome(stored: Stored, facts: Facts, topic: TopicId, seq: int, event: WelcomeEvent) -> Step | Missing:
    room_id, moved = RoomId(event.room), CursorMoved(topic, seq)
    standing = stored.room(room_id)
    if standing is not None and standing.standing == "active":
        # A Welcome makes no group in place of one that this device is in (RFC 9420 §12.4.3.1): whoever holds a key
        # package of ours could. If we were removed and added again, the room's own entries say so first.
        return Step((moved, IntentAdded(event.room, JoinFromOutside(after=event.seq))))
    try:
        found = _find_key_package(stored, event.welcome)
        if found is None:
            return Step((moved, IntentAdded(event.room, JoinFromOutside())))
        tree = facts.trees.get(event.tree_hash)
        if tree is None:
            return Missing(tree=(room_id, event.tree_hash))
        reference, bundle = found
        room = rooms.join_room(
            facts.identity,
            room_id,
            event.seq,
            event.welcome,
            tree,
            bundle,
            franking_key=facts.franking_key,
            accounts=accounts_of(stored, facts),
            now_s=facts.now_ms // 1000,
        )
    except (MLSError, Problem) as error:
        return fault(topic, seq, f"the invitation to {event.room} does not hold: {error}")
    changes: list[Change] = [moved, RoomSaved(room)]
    if not bundle.key_package.is_last_resort:
        changes.append(KeyPackageSpent(reference))
    if not room.leaf_at_ms:
        changes.append(IntentAdded(room_id, TendRoom()))
    if _lacks_own_devices(stored, facts, room):
        changes.append(IntentAdded(room_id, ChangeMembers(add=[facts.identity.account])))
    members = sorted(room.policy.present())
    changes.append(Tell(RoomJoined(room_id, event.seq, room.direct, members)))
    return Step(tuple(changes), (Subscribe(TopicId(room_id), event.seq),))


def _lacks_own_devices(stored: Stored, facts: Facts, room: Room) -> bool:
    own = accounts_of(stored, facts).known.get(facts.identity.account)
    standing = set(room.devices().values())
    return own is not None and any((own.account, entry.device) not in standing for entry in own.state.devices)


def _find_key_package(stored: Stored, welcome: bytes) -> tuple[bytes, KeyPackageBundle] | None:
    body = MLSMessage.decode(welcome).body
    if not isinstance(body, Welcome):
        raise StateError("the invitation holds no Welcome")
    for secrets in body.secrets:
        bundle = stored.key_package(secrets.new_member)
        if bundle is not None:
            return secrets.new_member, bundle
    return None


def _apply_devices(stored: Stored, facts: Facts, topic: TopicId, seq: int, event: DevicesEvent) -> Step | Missing:
    account, moved = AccountId(event.account), CursorMoved(topic, seq)
    before = stored.accounts.get(account)
    if before is not None and before.state.seq >= event.state_seq and account not in facts.fetched:
        return Step((moved,))
    if account not in facts.asked:
        return Missing(accounts=frozenset({account}))
    after = facts.fetched.get(account)
    if after is None:
        return fault(topic, seq, f"the chain of {account} does not hold")
    old = {entry.device for entry in before.state.devices} if before is not None else set[DeviceId]()
    new = {entry.device for entry in after.state.devices}
    told = DeviceListChanged(
        account,
        after.handle,
        after.state.seq,
        added=sorted(new - old),
        removed=sorted(old - new),
        by_recovery=after.chain[-1].signer is Signer.RECOVERY,
    )
    return Step((moved, Tell(told)))


# ------------------------------------------------------------------------------------------------------- channels


def _apply_to_channel(stored: Stored, facts: Facts, channel: ChannelId, seq: int, event: AnyEvent) -> Step | Missing:
    topic = TopicId(channel)
    try:
        author = _author_of(event)
        if author is None:
            told = _told_removal(channel, event) if isinstance(event, TombstoneEvent) else None
        else:
            known = accounts_of(stored, facts).known.get(author)
            try:
                told = _judge_signed(channel, seq, event, known)
            except CredentialError:
                if author in facts.asked:
                    raise
                return Missing(accounts=frozenset({author}))
    except (MLSError, Problem) as error:
        return fault(topic, seq, f"a post does not hold: {error}")
    moved = CursorMoved(topic, seq)
    return Step((moved,) if told is None else (moved, Tell(told)))


def _author_of(event: AnyEvent) -> AccountId | None:
    """Whose signature an entry of a channel bears; None where a decision or nobody speaks."""
    match event:
        case PostEvent():
            return channels.author_of(event.signed, is_edit=False)
        case EditEvent():
            return channels.author_of(event.signed, is_edit=True)
        case TombstoneEvent() if event.tombstone.by != "moderation":
            return decode_deletion(event.signed).signed_by.account
        case _:
            return None


def _judge_signed(
    channel: ChannelId, seq: int, event: AnyEvent, known: KnownAccount | None
) -> PostReceived | PostRemoved | None:
    """Return what a signed entry tells; raises Problem or CredentialError where its signature does not hold."""
    match event:
        case PostEvent():
            view = PostView(seq, seq, event.accepted_at_ms, event.signed, event.signature)
        case EditEvent():
            view = PostView(event.of, seq, event.accepted_at_ms, event.signed, event.signature)
        case TombstoneEvent():
            channels.verify_deletion(channel, event.of, event.signed, event.signature, known)
            return _told_removal(channel, event)
        case _:
            return None
    verified = channels.verify_post(channel, view, known)
    post = verified.content
    return PostReceived(
        channel=channel,
        post=verified.post,
        version=verified.version,
        author=post.signed_by.account,
        language=post.language,
        body=post.body,
        accepted_at_ms=verified.accepted_at_ms,
        reply_to=post.reply_to,
    )


def _told_removal(channel: ChannelId, event: TombstoneEvent) -> PostRemoved:
    tombstone = event.tombstone
    return PostRemoved(channel, event.of, tombstone.by, tombstone.reason, tombstone.decision)
