"""Gives jobs to the worker process: `Jobs`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from attrs import define, field

from backplane_server._demo.guard import Guard
from backplane_server._demo.processes import PYTHON, Child, environment

__all__ = ["Jobs", "TooManyJobsError", "jobs_of"]

MOST_WAITING: Final = 10
"""Jobs that may wait: the worker does one after the other."""


class TooManyJobsError(Exception):
    """Raised if the most jobs wait already, or if the worker has ended."""


@define(eq=False)
class Jobs:
    """A worker process, and the jobs that it was given."""

    _child: Child
    _given: int = field(default=0, init=False)
    _done: int = field(default=0, init=False)

    async def start(self, target: str, *, steps: int, pause_s: float) -> int:
        """Give the worker a job; return its number.

        Args:
            target: The target of its progress events.
            steps: The number of these events.
            pause_s: Seconds that each step takes.

        Raises:
            TooManyJobsError: The most jobs wait already, or the worker has ended.
        """
        stdin = self._child.process.stdin
        if stdin is None or not self._child.is_running or self._given - self._done >= MOST_WAITING:
            raise TooManyJobsError
        self._given += 1
        job = {"job": self._given, "target": target, "steps": steps, "pause_s": pause_s}
        stdin.write(json.dumps(job).encode() + b"\n")
        await stdin.drain()
        return self._given

    async def count_done(self) -> None:
        """Count the jobs that are done, until the worker ends."""
        stdout = self._child.process.stdout
        while stdout is not None and await stdout.readline():
            self._done += 1


@asynccontextmanager
async def jobs_of(guard: Guard, url: str, channel: str) -> AsyncGenerator[Jobs]:
    """Run a worker for the length of the block.

    Args:
        guard: Ends its process with the demo.
        url: The broker's URL.
        channel: The fleet's channel.
    """
    command = (*PYTHON, "backplane_server._demo.worker")
    variables = environment(BACKPLANE_URL=url, BACKPLANE_CHANNEL=channel)
    child = await Child.start("worker", command, guard, variables, has_pipes=True)
    jobs = Jobs(child)
    counting = asyncio.create_task(jobs.count_done())
    try:
        yield jobs
    finally:
        await child.stop()
        await counting
