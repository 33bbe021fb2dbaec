"""What runs by the clock. A job that fails is logged and runs again at its next turn."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from heliograph.server.context import Context

_log: structlog.stdlib.BoundLogger = structlog.get_logger("heliograph.jobs")


@dataclass(frozen=True, slots=True)
class Job:
    """Something to be done every so often."""

    name: str
    every_s: float
    run: Callable[[Context], Awaitable[None]]


async def run_jobs(context: Context, jobs: Sequence[Job]) -> None:
    """Run jobs until cancelled, each at once and then by its own clock."""
    async with asyncio.TaskGroup() as tasks:
        for job in jobs:
            tasks.create_task(_repeat(context, job), name=f"job {job.name}")


async def _repeat(context: Context, job: Job) -> None:
    while True:
        try:
            await job.run(context)
        except Exception as error:
            _log.exception("job failed", job=job.name, error=type(error).__name__)
        await asyncio.sleep(job.every_s)
