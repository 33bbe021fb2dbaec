"""The tally: whatever comes and goes, it counts as if everything were counted anew, and old values stay."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from heliograph.mls.tally import Tally

ITEMS = st.integers(0, 40)
CHANGE = st.tuples(st.lists(ITEMS, max_size=8), st.lists(ITEMS, max_size=8))


def agrees(tally: Tally[int], counter: Counter[int]) -> bool:
    present = {item for item, count in counter.items() if count > 0}
    return (
        sorted(tally) == sorted(present)
        and all(tally.count(item) == counter[item] and (item in tally) == (item in present) for item in range(41))
        and tally.repeated == sum(count > 1 for count in counter.values())
    )


@given(st.lists(ITEMS, max_size=60), st.lists(CHANGE, max_size=40))
def test_a_tally_counts_like_one_that_is_made_anew(start: list[int], changes: list[tuple[list[int], list[int]]]):
    tally, counter = Tally[int].of(start), Counter(start)
    for wanted, added in changes:
        removed = list((Counter(wanted) & counter).elements())
        tally = tally.changed(removed, added)
        counter = counter - Counter(removed) + Counter(added)
        assert agrees(tally, counter)


def test_a_tally_whose_items_have_all_been_replaced_counts_like_one_that_is_made_anew():
    tally = Tally[int].of(range(100))
    for number in range(300):
        tally = tally.changed([number], [100 + number])
    assert sorted(tally) == list(range(300, 400))
    assert tally.repeated == 0


def test_a_change_leaves_the_old_tally_as_it_was():
    old = Tally[int].of([1, 2, 2])
    new = old.changed([1, 2], [3, 3])
    assert (sorted(old), old.repeated) == ([1, 2], 1)
    assert (sorted(new), new.repeated) == ([2, 3], 1)
