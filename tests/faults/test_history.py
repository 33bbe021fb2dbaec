"""The judge can fail: each planted defect in a clean history is found, by its name."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.history import Delivery, History, Send, Win, violations

BODIES = [b"one", b"two", b"three", b"four", b"five"]
Plant = Callable[[History], object]


def clean() -> History:
    numbered = list(enumerate(BODIES, 1))
    return History(
        sends=[Send("r", body, float(seq), seq, seq + 0.5) for seq, body in numbered],
        deliveries=[Delivery("anna", 1, "r", seq, body) for seq, body in numbered],
        wins=[Win("r", epoch, body) for epoch, body in numbered],
        final={"r": numbered},
    )


def swap_numbers(history: History) -> None:
    first, second = history.sends[0], history.sends[3]
    history.sends[0], history.sends[3] = replace(first, seq=4), replace(second, seq=1)


PLANTS: list[tuple[str, Plant]] = [
    ("lost-acknowledgement", lambda history: history.final["r"].pop()),
    ("lost-acknowledgement", lambda history: history.final["r"].__setitem__(1, (2, b"other"))),
    ("hole-in-log", lambda history: history.final["r"].pop(2)),
    ("duplicate", lambda history: history.final["r"].append((6, b"one"))),
    ("phantom", lambda history: history.final["r"].append((6, b"never sent"))),
    ("order", swap_numbers),
    ("silent-gap", lambda history: history.deliveries.pop(2)),
    ("replayed", lambda history: history.deliveries.insert(3, history.deliveries[2])),
    ("replayed", lambda history: history.deliveries.reverse()),
    ("differs-from-log", lambda history: history.deliveries.__setitem__(1, Delivery("anna", 1, "r", 2, b"forged"))),
    ("not-caught-up", lambda history: history.deliveries.pop()),
    ("not-caught-up", lambda history: history.deliveries.pop(0)),
    ("two-winners", lambda history: history.wins.append(Win("r", 3, b"another"))),
]


def test_a_clean_history_breaks_no_promise() -> None:
    assert violations(clean()) == []


@pytest.mark.parametrize(("name", "plant"), PLANTS, ids=[f"{number}-{name}" for number, (name, _) in enumerate(PLANTS)])
def test_a_planted_defect_is_found_by_its_name(name: str, plant: Plant) -> None:
    history = clean()
    plant(history)
    assert any(line.startswith(name) for line in violations(history))
