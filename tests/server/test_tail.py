"""The shared tail: what it gives is whole and in order, or nothing; and it stays within its bounds."""

from hypothesis import given
from hypothesis import strategies as st

from heliograph.server.tail import Tail
from heliograph.wire.ids import TopicId

TOPIC, OTHER = TopicId("r1"), TopicId("r2")


def numbers(tail: Tail, topic: TopicId, after: int, max_bytes: int = 10**9) -> list[int] | None:
    found = tail.after(topic, after, max_bytes)
    return None if found is None else [entry.seq for entry in found]


def test_it_gives_what_follows_a_cursor() -> None:
    tail = Tail(10, 10, 10**6)
    tail.extend(TOPIC, [(seq, b"x") for seq in range(5, 9)])
    assert numbers(tail, TOPIC, 4) == [5, 6, 7, 8]
    assert numbers(tail, TOPIC, 7) == [8]
    assert numbers(tail, TOPIC, 8) == []


def test_it_has_nothing_for_a_cursor_before_its_beginning() -> None:
    tail = Tail(2, 10, 10**6)
    tail.extend(TOPIC, [(seq, b"x") for seq in range(1, 5)])
    assert numbers(tail, TOPIC, 1) is None
    assert numbers(tail, TOPIC, 2) == [3, 4]


def test_a_hole_empties_the_topic() -> None:
    tail = Tail(10, 10, 10**6)
    tail.extend(TOPIC, [(1, b"x")])
    tail.extend(TOPIC, [(3, b"x")])
    assert numbers(tail, TOPIC, 0) is None
    assert numbers(tail, TOPIC, 2) == [3]


def test_it_gives_at_least_one_entry_and_no_more_than_fit() -> None:
    tail = Tail(10, 10, 10**6)
    tail.extend(TOPIC, [(seq, bytes(100)) for seq in range(1, 6)])
    assert numbers(tail, TOPIC, 0, max_bytes=1) == [1]
    assert numbers(tail, TOPIC, 0, max_bytes=250) == [1, 2]


def test_the_least_active_topic_goes_first() -> None:
    tail = Tail(10, 2, 10**6)
    for topic in (TOPIC, OTHER, TOPIC, TopicId("r3")):
        tail.extend(topic, [(1 if topic != TOPIC else 1 + (numbers(tail, TOPIC, 0) is not None), b"x")])
    assert numbers(tail, OTHER, 0) is None
    assert numbers(tail, TOPIC, 0) == [1, 2]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(0, 400)), max_size=60))
def test_it_never_holds_more_than_its_bounds(steps: list[tuple[int, int, int]]) -> None:
    tail = Tail(8, 4, 2000)
    heads: dict[TopicId, int] = {}
    for topic_number, count, size in steps:
        topic = TopicId(f"r{topic_number}")
        head = heads.get(topic, 0)
        tail.extend(topic, [(head + 1 + n, bytes(size)) for n in range(count)])
        heads[topic] = head + count
        held = [len(body) for one in tail._held.values() for _, body in one]
        assert tail._size_bytes == sum(held) <= 2000
        assert len(tail._held) <= 4
        assert all(len(one) <= 8 for one in tail._held.values())
