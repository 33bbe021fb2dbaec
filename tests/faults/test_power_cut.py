"""The power goes at any moment: what was acknowledged is on the disk that is left, and no epoch was given away twice.

The server runs under a shim that notes every write and every sync. After a kill, the disk is put back to what the
syncs had made durable (`power_cut.py`), and a server starts on that.
"""

import asyncio
from pathlib import Path

import pytest

from tests.faults import twins
from tests.faults.history import History, violations
from tests.faults.load import Committer, Talker, moments, read_log, settle, under_way
from tests.faults.people import open_room, people
from tests.faults.power_cut import build_shim, compiler, disk_after_cut, environment
from tests.faults.server_process import SERVE, ServerProcess, generous_limits_file, serving

pytestmark = pytest.mark.skipif(compiler() is None, reason="the disk's shim needs a C compiler, and there is none")

SEED = 11
SENDS_BEFORE_THE_CUT = 150
COMMITS_BEFORE_THE_CUT = 6


async def history_of(folder: Path, *module: str) -> tuple[History, int]:
    """Cut a server's power once under load; return what everyone saw, and how many writes the cut undid."""
    history, journal = History(), folder / "journal"
    server = ServerProcess(folder, limits_file=generous_limits_file(folder), module=module)
    server.environment = environment(build_shim(folder), server.data, journal)
    async with serving(server), people(server, "anna", "boris", "carla", "david") as everyone:
        hall = await open_room(everyone[0], everyone[1:])
        council = await open_room(everyone[0], everyone[1:2])
        await everyone[1].phone.accept_welcome()
        await server.stop()  # nobody disputes that what stood before the load is durable
        await server.start()
        talkers = [Talker(person, hall, history) for person in everyone]
        first, second = (Committer(person, council, history) for person in everyone[:2])
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(talker.run()) for talker in talkers]
            committing = tasks.create_task(first.run())
            await under_way(history, SENDS_BEFORE_THE_CUT, COMMITS_BEFORE_THE_CUT)
            (moment_s,) = moments(SEED, 1, 0.0, 0.1)
            await asyncio.sleep(moment_s)
            await server.kill()
            committing.cancel()
            lost = disk_after_cut(server.data, journal)
            server.environment, server.module = None, (SERVE,)
            await server.start()
            await second.catch_up()
            await second.commit()
            await settle(talkers, [(everyone[0], hall)], history)
            for task in running:
                task.cancel()
        history.final[council] = await read_log(everyone[0], council)
    return history, lost


async def test_a_power_cut_takes_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    history, _ = await history_of(tmp_path, SERVE)
    assert violations(history) == []


async def test_without_a_sync_at_each_commit_a_power_cut_loses_messages_and_forks_a_group(tmp_path: Path) -> None:
    history, lost = await history_of(tmp_path, twins.MODULE, twins.sync_at_checkpoints_only.__name__)
    broken = {line.partition(":")[0] for line in violations(history)}
    assert lost > 0
    assert {"lost-acknowledgement", "two-winners"} <= broken
