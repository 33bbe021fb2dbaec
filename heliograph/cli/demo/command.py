"""`heliograph demo`: play all five acts, and say with the exit code whether everything came out as promised."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_bytes
from typing import Annotated

import typer

from heliograph.cli.demo import act_five_proof, act_four_decision, act_one_room, act_three_reports, act_two_channel
from heliograph.cli.demo.narrator import Narrator, WrongOutcome
from heliograph.cli.demo.server_process import LIMITS
from heliograph.cli.demo.stage import open_stage
from heliograph.cli.exit_codes import ExitCode
from heliograph.cli.failure import CommandError
from heliograph.cli.output import AsJson, Output
from heliograph.cli.store_path import private_folder
from heliograph.client.device import first_of
from heliograph.client.errors import ClientError
from heliograph.mls.errors import MLSError
from heliograph.wire.problems import Problem

HELP = "Play the whole story with real keys, processes and sockets: a room, a channel, reports, a block, a proof."

MAX_FOLLOWERS = 2000
DEMO_WITHIN_S = 300
FILES_OF_A_FOLLOWER = 8
OTHER_FILES = 256


def demo_command(
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep everything that the demo writes in this new folder.")
    ] = None,
    followers: Annotated[int, typer.Option(min=3, max=MAX_FOLLOWERS, help="Followers of the channel.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Play the demo."""
    narrator = Narrator(Output(as_json=as_json))
    _allow_many_files(followers)
    with _folder(keep) as folder:
        try:
            asyncio.run(_play(narrator, folder, followers))
        except Exception as failure:
            error = first_of(failure) if isinstance(failure, BaseExceptionGroup) else failure
            narrator.end(ok=False, wrong=str(error))
            if not isinstance(error, (WrongOutcome, TimeoutError, Problem, ClientError, MLSError)):
                raise error from failure
            raise CommandError(ExitCode.FAILED, str(error) or f"not done within {DEMO_WITHIN_S} s") from None


def _allow_many_files(followers: int) -> None:
    """Every follower has a store and sockets open; many systems allow a process 1024 files unless it asks."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OTHER_FILES + FILES_OF_A_FOLLOWER * followers
    if soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            allowed = (hard - OTHER_FILES) // FILES_OF_A_FOLLOWER
            raise CommandError(ExitCode.USAGE, f"--followers {followers}: this system allows at most {max(allowed, 0)}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _play(narrator: Narrator, folder: Path, followers: int) -> None:
    async with asyncio.timeout(DEMO_WITHIN_S), open_stage(narrator, folder, followers) as stage:
        narrator.event(
            f"A server runs at {stage.server.url}, process {stage.server.pid}. Its limits for one address are raised, "
            "because everyone in this demo comes from one address",
            url=stage.server.url,
            limits=LIMITS,
        )
        with narrator.act(1, "Five people talk, sealed"):
            said = await act_one_room.play(stage)
        with narrator.act(2, "A channel speaks in the open, in twelve languages"):
            broadcast = await act_two_channel.play(stage)
        with narrator.act(3, "Reports: a private message, three posts, and a forgery"):
            desk = await act_three_reports.play(stage, said, broadcast)
        with narrator.act(4, "A decision blocks the channel"):
            proof = await act_four_decision.play(stage, broadcast, desk, token_bytes)
    with narrator.act(5, "The server is gone; an outsider checks the decision"):
        await act_five_proof.play(narrator, folder, stage.server, proof, [words for _, _, words, _ in said.lines])
    narrator.end(ok=True)


@contextmanager
def _folder(keep: Path | None) -> Generator[Path]:
    if keep is not None:
        if keep.is_dir() and any(keep.iterdir()):
            raise CommandError(ExitCode.USAGE, f"--keep {keep}: the folder is not empty")
        yield private_folder(keep).resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="heliograph-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
