"""kill -9 at any moment: what was acknowledged is there, once, in order, and every reader got all of it."""

import asyncio
from pathlib import Path

import pytest

from tests.faults import twins
from tests.faults.history import History, violations
from tests.faults.load import Talker, moments, settle, under_way
from tests.faults.nursery import NurseryServer
from tests.faults.people import open_room, people
from tests.faults.server_process import generous_limits_file, serving

KILLS = 20
KILLS_OF_A_TWIN = 4
ROOMS = 3
PEOPLE_A_ROOM = 3
SEED = 9


async def history_of(folder: Path, kills: int, defect: str | None = None) -> tuple[History, int]:
    """Kill a server `kills` times under load; return what everyone saw, and how often something was sent again."""
    history = History()
    server = NurseryServer(folder, limits_file=generous_limits_file(folder), defect=defect)
    names = [f"person{number}" for number in range(ROOMS * PEOPLE_A_ROOM)]
    async with serving(server), people(server, *names) as everyone:
        groups = [everyone[at : at + PEOPLE_A_ROOM] for at in range(0, len(everyone), PEOPLE_A_ROOM)]
        rooms = [(group[0], await open_room(group[0], group[1:])) for group in groups]
        talkers = [
            Talker(person, room, history) for group, (_, room) in zip(groups, rooms, strict=True) for person in group
        ]
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(talker.run()) for talker in talkers]
            for moment_s in moments(SEED, kills, 0.0, 0.3):
                await under_way(history, len(talkers))
                await asyncio.sleep(moment_s)
                await server.kill()
                await server.start()
            await settle(talkers, rooms, history)
            for task in running:
                task.cancel()
    return history, sum(talker.sent_again for talker in talkers)


async def test_no_kill_loses_repeats_or_reorders_what_was_acknowledged(tmp_path: Path) -> None:
    history, sent_again = await history_of(tmp_path, KILLS)
    assert violations(history) == []
    assert len(history.sends) > 20 * KILLS and sent_again > KILLS


@pytest.mark.parametrize(
    ("defect", "broken"),
    [
        (twins.acknowledge_before_commit.__name__, "lost-acknowledgement"),
        (twins.forget_keys.__name__, "duplicate"),
        (twins.resume_one_late.__name__, "silent-gap"),
    ],
)
async def test_a_planted_defect_does_not_survive_the_kills(tmp_path: Path, defect: str, broken: str) -> None:
    history, _ = await history_of(tmp_path, KILLS_OF_A_TWIN, defect)
    assert any(line.startswith(broken) for line in violations(history))
