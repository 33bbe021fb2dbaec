"""A group's state as rows that a store can keep (RFC 9420 §9.2, §16.6).

A group of a thousand has hundreds of kilobytes of tree and changes a hundred bytes with each message, so the state is
split by how often its parts change:

    epoch                     version, context, own keys, secrets; changes at commits
    tree/<epoch>              the encoded ratchet tree of this epoch or a past one; written once, then deleted
    past/<epoch>              what opens late application messages of a past epoch; written once, then deleted
    proposal/<position>       a proposal that waits for a commit, with the keys behind it if it is an own Update
    secret_tree/<epoch>/...   message keys: `secret_tree` holds them as rows; one or a few change with each message

The first two bytes of the `epoch` row are the version of the whole. Older versions are read, and written anew in the
present one at the next save; a version that is not known raises UnsupportedError. Version 2 added `reinit` and the
count of proposals. Rows come from the member's own store and are trusted: no signature in them is verified again. But
every row carries a digest (`saved_row`), and loading is all or nothing: a row that is damaged, missing, or left over
raises StateError. They hold every secret of the group.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from heliograph.mls.codec import Reader, Writer
from heliograph.mls.committing import UpdateKeys
from heliograph.mls.epoch import Epoch, PastEpoch, SavedTree
from heliograph.mls.errors import DecodeError, StateError, UnsupportedError
from heliograph.mls.framing import Sender
from heliograph.mls.group_context import GroupContext
from heliograph.mls.key_schedule import EpochSecrets
from heliograph.mls.proposal import ReInit, read_proposal, write_proposal
from heliograph.mls.proposal_rules import ReceivedProposal
from heliograph.mls.saved_row import checked, closed
from heliograph.mls.suite import Secret, cipher_suite
from heliograph.mls.tree_math import LeafIndex
from heliograph.mls.treekem import PrivateKeys

VERSION = 2
_READABLE_VERSIONS = (1, VERSION)
_EPOCH = "epoch"


@dataclass(frozen=True)
class SlowState:
    """All of a group's state but the message keys; its rows are made once and shared by all states that share it."""

    epoch: Epoch
    is_active: bool = True
    proposals: Mapping[bytes, ReceivedProposal] = field(default_factory=dict[bytes, ReceivedProposal])
    update_keys: Mapping[bytes, UpdateKeys] = field(default_factory=dict[bytes, UpdateKeys], repr=False)
    past: tuple[PastEpoch, ...] = ()
    # The parameters of the group's successor, once a commit has closed the group with a ReInit.
    reinit: ReInit | None = None

    @cached_property
    def rows(self) -> Mapping[str, bytes]:
        """Return the rows."""
        rows = {_EPOCH: _encode_epoch(self)}
        rows[_tree_row(self.epoch.group_context)] = self.epoch.saved_tree.encoded
        for past in self.past:
            rows[f"past/{past.group_context.epoch}"] = _encode_past(past)
            rows[_tree_row(past.group_context)] = past.saved_tree.encoded
        for position, received in enumerate(self.proposals.values()):
            keys = self.update_keys.get(received.reference)
            rows[f"proposal/{position:04}"] = _encode_proposal(self.epoch.group_context.epoch, received, keys)
        return {name: closed(name, content) for name, content in rows.items()}


def load_slow_state(rows: Mapping[str, bytes]) -> SlowState:
    """Return the state in the rows; raises UnsupportedError for another version, StateError for rows that do not hold.

    Rows of message keys are looked at by `SecretTree.load`.
    """
    if _EPOCH in rows and version_of(rows) not in _READABLE_VERSIONS:
        raise UnsupportedError("the saved group is of a version that is not known here")
    try:
        return _load(rows)
    except (DecodeError, ValueError) as error:
        raise StateError("a row of the saved group does not hold what it should") from error


def version_of(rows: Mapping[str, bytes]) -> int:
    """Return the version in which rows were written."""
    return int.from_bytes(rows[_EPOCH][:2])


def _load(rows: Mapping[str, bytes]) -> SlowState:
    epoch, is_active, reinit, proposal_count = _decode_epoch(rows)
    past = tuple(
        _decode_past(rows, name)
        for name in sorted((name for name in rows if name.startswith("past/")), key=_number, reverse=True)
    )
    proposals: dict[bytes, ReceivedProposal] = {}
    update_keys: dict[bytes, UpdateKeys] = {}
    for name in sorted(name for name in rows if name.startswith("proposal/")):
        number, received, keys = _decode_proposal(checked(rows, name))
        if number != epoch.group_context.epoch:
            raise StateError("a saved proposal is of another epoch than the group")
        proposals[received.reference] = received
        if keys is not None:
            update_keys[received.reference] = keys
    if proposal_count not in (None, len(proposals)):
        raise StateError("a row of the saved group is missing")
    return SlowState(epoch, is_active, proposals, update_keys, past, reinit)


def _encode_epoch(state: SlowState) -> bytes:
    epoch = state.epoch
    writer = Writer()
    writer.uint16(VERSION)
    writer.uint8(state.is_active)
    epoch.group_context.write(writer)
    writer.opaque(epoch.interim_transcript_hash)
    writer.opaque(epoch.confirmation_tag)
    epoch.private_keys.write(writer)
    writer.opaque(epoch.signature_private_key)
    epoch.secrets.write(writer)
    writer.optional(state.reinit)
    writer.uint16(len(state.proposals))
    return writer.getvalue()


def _decode_epoch(rows: Mapping[str, bytes]) -> tuple[Epoch, bool, ReInit | None, int | None]:
    reader = Reader(checked(rows, _EPOCH))
    version = reader.uint16()
    is_active = bool(reader.uint8())
    context = GroupContext.read(reader)
    epoch = Epoch(
        suite=cipher_suite(context.cipher_suite),
        group_context=context,
        saved_tree=SavedTree(None, checked(rows, _tree_row(context))),
        interim_transcript_hash=reader.opaque(),
        confirmation_tag=reader.opaque(),
        private_keys=PrivateKeys.read(reader),
        signature_private_key=Secret(reader.opaque()),
        secrets=EpochSecrets.read(reader),
    )
    reinit = reader.optional(ReInit.read) if version >= 2 else None
    proposal_count = reader.uint16() if version >= 2 else None
    reader.finish()
    return epoch, is_active, reinit, proposal_count


def _encode_past(past: PastEpoch) -> bytes:
    writer = Writer()
    past.group_context.write(writer)
    writer.uint32(past.own_leaf_index)
    writer.opaque(past.sender_data_secret)
    writer.opaque(past.resumption_psk)
    return writer.getvalue()


def _decode_past(rows: Mapping[str, bytes], name: str) -> PastEpoch:
    reader = Reader(checked(rows, name))
    context = GroupContext.read(reader)
    past = PastEpoch(
        suite=cipher_suite(context.cipher_suite),
        group_context=context,
        saved_tree=SavedTree(None, checked(rows, _tree_row(context))),
        own_leaf_index=LeafIndex(reader.uint32()),
        sender_data_secret=Secret(reader.opaque()),
        resumption_psk=Secret(reader.opaque()),
    )
    reader.finish()
    return past


def _encode_proposal(epoch: int, received: ReceivedProposal, keys: UpdateKeys | None) -> bytes:
    writer = Writer()
    writer.uint64(epoch)
    writer.opaque(received.reference)
    received.sender.write(writer)
    write_proposal(received.proposal, writer)
    if keys is not None:
        writer.opaque(keys.encryption_private_key)
        writer.opaque(keys.signature_private_key)
    return writer.getvalue()


def _decode_proposal(row: bytes) -> tuple[int, ReceivedProposal, UpdateKeys | None]:
    reader = Reader(row)
    epoch, reference, sender = reader.uint64(), reader.opaque(), Sender.read(reader)
    received = ReceivedProposal(reference, read_proposal(reader), sender)
    if reader.position == len(row):
        return epoch, received, None
    keys = UpdateKeys(Secret(reader.opaque()), Secret(reader.opaque()))
    reader.finish()
    return epoch, received, keys


def _tree_row(group_context: GroupContext) -> str:
    return f"tree/{group_context.epoch}"


def _number(name: str) -> int:
    return int(name.rsplit("/", 1)[1])
