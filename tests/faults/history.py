"""What clients saw, and the rules that it must keep: the judge of every fault run.

A run writes down what was sent, what was acknowledged, what each reader was given, and, at the end, the whole log as
a fresh reader finds it. `violations` names each broken promise. It knows nothing of how the server works.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Send:
    """One send: what was asked when, and, where it was acknowledged, the number it got and when."""

    topic: str
    body: bytes
    invoked_at: float
    seq: int | None = None
    acknowledged_at: float | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One entry as one connection of one reader was given it."""

    reader: str
    connection: int
    topic: str
    seq: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Win:
    """A commit that was acknowledged: it ended this epoch of the topic's group."""

    topic: str
    epoch: int
    commit: bytes


@dataclass(slots=True)
class History:
    """Everything that a run saw. `final` holds each topic's entries as (seq, body), read after the last fault."""

    sends: list[Send] = field(default_factory=list[Send])
    deliveries: list[Delivery] = field(default_factory=list[Delivery])
    wins: list[Win] = field(default_factory=list[Win])
    final: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict[str, list[tuple[int, bytes]]])


def violations(history: History) -> list[str]:
    """Return one line for each broken promise; none when all were kept."""
    return [
        *_of_the_log(history),
        *_of_the_acknowledgements(history),
        *_of_the_readers(history),
        *_of_the_epochs(history),
    ]


def _of_the_log(history: History) -> Iterator[str]:
    sent = {(send.topic, send.body) for send in history.sends}
    for topic, entries in history.final.items():
        numbers = [seq for seq, _ in entries]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"hole-in-log: {topic} holds {numbers[:5]}… of {len(numbers)}"
        for body, times in Counter(body for _, body in entries).items():
            if times > 1:
                yield f"duplicate: {topic} holds {body!r} {times} times"
            if (topic, body) not in sent:
                yield f"phantom: {topic} holds {body!r}, which nobody sent"


def _of_the_acknowledgements(history: History) -> Iterator[str]:
    final = {topic: dict(entries) for topic, entries in history.final.items()}
    by_topic: defaultdict[str, list[Send]] = defaultdict(list)
    for send in history.sends:
        if send.seq is not None:
            by_topic[send.topic].append(send)
            if final.get(send.topic, {}).get(send.seq) != send.body:
                yield f"lost-acknowledgement: {send.topic} {send.seq} is not {send.body!r}"
    for topic, sends in by_topic.items():
        yield from _realtime_order(topic, sends)


def _realtime_order(topic: str, sends: Sequence[Send]) -> Iterator[str]:
    highest_acknowledged, finished = 0, sorted(sends, key=lambda send: send.acknowledged_at or 0.0)
    position = 0
    for send in sorted(sends, key=lambda send: send.invoked_at):
        while position < len(finished) and (finished[position].acknowledged_at or 0.0) < send.invoked_at:
            highest_acknowledged = max(highest_acknowledged, finished[position].seq or 0)
            position += 1
        if (send.seq or 0) <= highest_acknowledged:
            yield f"order: {topic} {send.seq} was sent after {highest_acknowledged} had been acknowledged"


def _of_the_readers(history: History) -> Iterator[str]:
    final = {topic: dict(entries) for topic, entries in history.final.items()}
    by_reader: defaultdict[tuple[str, str], list[Delivery]] = defaultdict(list)
    for delivery in history.deliveries:
        by_reader[delivery.reader, delivery.topic].append(delivery)
        if final.get(delivery.topic, {}).get(delivery.seq) != delivery.body:
            yield f"differs-from-log: {delivery.reader} was given {delivery.body!r} as {delivery.topic} {delivery.seq}"
    for (reader, topic), deliveries in by_reader.items():
        for before, after in pairwise(deliveries):
            if after.seq <= before.seq:
                yield f"replayed: {reader} was given {topic} {after.seq} after {before.seq}"
            elif after.seq > before.seq + 1:
                yield f"silent-gap: {reader} was given {topic} {after.seq} after {before.seq}"
        if deliveries[0].seq != 1 or deliveries[-1].seq != len(final.get(topic, {})):
            yield f"not-caught-up: {reader} was given {topic} {deliveries[0].seq} to {deliveries[-1].seq}"


def _of_the_epochs(history: History) -> Iterator[str]:
    winners: defaultdict[tuple[str, int], set[bytes]] = defaultdict(set)
    for win in history.wins:
        winners[win.topic, win.epoch].add(win.commit)
    for (topic, epoch), commits in winners.items():
        if len(commits) > 1:
            yield f"two-winners: {topic} gave epoch {epoch} to {len(commits)} commits"
