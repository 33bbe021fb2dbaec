"""What it costs to refuse what a stranger sends: each truncation and each flipped byte of one message of every type.

Refusing must cost little however many the group has. Time is processor time, so that a neighbour on the machine is no
refusal, and an input that seems slow is tried again: its best time counts. Memory is the peak that `tracemalloc` sees
above what was there before. What is not refused is counted; an exception that is no MLSError ends the bench.
"""

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from bench.mls_story import NOW_S, Newcomer, Story
from heliograph.mls.credential import Credential
from heliograph.mls.errors import MLSError
from heliograph.mls.framing import MLSMessage, WireFormat
from heliograph.mls.group import Group
from heliograph.mls.key_package import KeyPackage
from heliograph.mls.membership import join, join_external
from heliograph.mls.proposal import Add, Remove
from heliograph.mls.suite import CipherSuite

TRIES = 3
SLOW_MS = 3.0
MS_A_SECOND = 1000

Act = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Refusals:
    """The worst of all refusals of one type of message, and how many changed messages were accepted."""

    tried: int
    accepted: int
    worst_ms: float
    worst_bytes: int


def measure_refusals(suite_id: int, size: int, *, step: int = 1) -> dict[str, Refusals]:
    """Return the worst refusals by type of message in a group of some size; step: change only each so many-th byte."""
    story = Story(suite_id, size)
    return {name: _worst(message, act, step) for name, (message, act) in _scene(story).items()}


def _scene(story: Story) -> Mapping[str, tuple[bytes, Act]]:
    """Return a genuine message of each type, and what is done with it when it arrives."""
    group, member = story.pair()
    finn, random = story.newcomer(story.size), story.random
    add = Add(finn.bundle.key_package)
    removal = Remove(group.members()[-2].leaf_index)
    public, private = WireFormat.PUBLIC_MESSAGE, WireFormat.PRIVATE_MESSAGE
    adding = group.commit([add], random=random, now_s=NOW_S)
    outside = join_external(
        group.group_info(),
        group.ratchet_tree(),
        Credential.basic(b"gwen"),
        story.newcomer(story.size + 1).signature_key.private,
        capabilities=story.capabilities,
        random=random,
        now_s=NOW_S,
    )
    receive = _receiving(member)
    return {
        "public commit": (adding.commit, receive),
        "private commit": (group.commit([add], random=random, now_s=NOW_S, wire_format=private).commit, receive),
        "external commit": (outside.commit, receive),
        "public proposal": (group.propose(removal, random=random, now_s=NOW_S, wire_format=public)[1], receive),
        "private proposal": (group.propose(removal, random=random, now_s=NOW_S, wire_format=private)[1], receive),
        "application data": (group.seal(b"hello", random=random)[1], receive),
        "key package": (finn.encoded, _adding(story.suite)),
        "welcome": (adding.welcome or b"", _joining(finn, adding.ratchet_tree)),
        "group info": (group.group_info(), _joining_from_outside(story, finn, group.ratchet_tree())),
    }


def _receiving(member: Group) -> Act:
    return lambda message: member.receive(message, now_s=NOW_S)


def _adding(suite: CipherSuite) -> Act:
    def check(message: bytes) -> None:
        body = MLSMessage.decode(message).body
        if isinstance(body, KeyPackage):
            body.validate(suite, NOW_S)

    return check


def _joining(finn: Newcomer, ratchet_tree: bytes) -> Act:
    return lambda message: join(message, ratchet_tree, finn.bundle, finn.signature_key.private, now_s=NOW_S)


def _joining_from_outside(story: Story, finn: Newcomer, ratchet_tree: bytes) -> Act:
    return lambda message: join_external(
        message,
        ratchet_tree,
        Credential.basic(b"finn"),
        finn.signature_key.private,
        capabilities=story.capabilities,
        random=story.random,
        now_s=NOW_S,
    )


def _changes(message: bytes, step: int) -> Iterator[bytes]:
    for position in range(0, len(message), step):
        yield message[:position]
        yield message[:position] + bytes((message[position] ^ 1,)) + message[position + 1 :]


def _worst(message: bytes, act: Act, step: int) -> Refusals:
    act(message)
    tried, accepted, worst_ms, worst_bytes = 0, 0, 0.0, 0
    gc.collect()
    for changed in _changes(message, step):
        tried += 1
        took_ms = _refusal_ms(changed, act)
        if took_ms is None:
            accepted += 1
            continue
        for _ in range(TRIES if took_ms > SLOW_MS else 0):
            took_ms = min(took_ms, _refusal_ms(changed, act) or took_ms)
        worst_ms = max(worst_ms, took_ms)
    tracemalloc.start()
    for changed in _changes(message, step):
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        if _refusal_ms(changed, act) is not None:
            worst_bytes = max(worst_bytes, tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    return Refusals(tried, accepted, worst_ms, worst_bytes)


def _refusal_ms(message: bytes, act: Act) -> float | None:
    """Return how long a refusal takes; None if the message is accepted."""
    started = time.thread_time()
    try:
        act(message)
    except MLSError:
        return (time.thread_time() - started) * MS_A_SECOND
    return None
