"""Processes that take part in a measurement, and talk with it in lines: words to them, JSON from them.

    async with start("latency", "receive", job) as receiver:    in the measuring process
        await receiver.hear("ready")
        receiver.say("stop")

What they do is in `bench.workers`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import cattrs
from attrs import frozen

__all__ = ["Process", "ProcessFailed", "ask", "start"]

ROOT: Final = Path(__file__).parents[1]
HEAR_S: Final = 600
"""Nothing that is measured takes so long between two words; a process that does is stuck."""
_LINE_BYTES: Final = 1 << 24
"""A line holds all figures of a run."""


class ProcessFailed(RuntimeError):  # noqa: N818 -- reads better
    """A process ended early or got stuck. It has said why itself, above."""


@frozen
class Process:
    """A process that takes part."""

    _process: asyncio.subprocess.Process
    _who: str

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process.pid

    async def hear(self, state: str, within_s: float = HEAR_S) -> dict[str, Any]:
        """Wait for its next line, which must say that it is in this state; return what else it says.

        Raises:
            ProcessFailed: It says something else, or nothing.
        """
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(within_s):
                while (line := await self._process.stdout.readline()) and not line.startswith(b"{"):
                    pass  # a profiler's
        except TimeoutError:
            raise ProcessFailed(f"{self._who} should say {state!r}, said nothing within {within_s:g} s") from None
        said: dict[str, Any] = json.loads(line) if line else {}
        if said.get("state") != state:
            raise ProcessFailed(f"{self._who} should say {state!r}, said {line.decode().strip() or 'nothing'!r}")
        return said

    def say(self, word: str) -> None:
        """Give it one word."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())


@asynccontextmanager
async def start(
    worker: str, role: str, job: object, *, loop: str = "asyncio", under: Sequence[str] = ()
) -> AsyncGenerator[Process]:
    """Start a worker; wait for its end, or end it when something failed.

    Args:
        worker: Its name in `bench.workers`.
        role: Which of its parts it takes.
        job: What it needs to know; structured there by its type.
        loop: Its event loop, "asyncio" or "uvloop".
        under: A command that runs it: a profiler's.

    Raises:
        ProcessFailed: It ended with an error, or doesn't end.
    """
    who = f"{worker} {role}"
    process = await asyncio.create_subprocess_exec(
        *under,
        *(sys.executable, "-m", "bench.workers", worker, role, loop, json.dumps(cattrs.unstructure(job))),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
        # Ctrl-C is for the process that has the table; it ends these.
        start_new_session=True,
    )
    try:
        yield Process(process, who)
        # Its own end is part of its turn: a process that can't close would disturb the next one.
        try:
            async with asyncio.timeout(HEAR_S):
                await process.wait()
        except TimeoutError:
            raise ProcessFailed(f"{who} does not end") from None
        if process.returncode:
            raise ProcessFailed(f"{who} ended with code {process.returncode}")
    finally:
        if process.returncode is None:
            # It may have ended, and the event loop not know it yet.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the profiler's child too
            await process.wait()


async def ask(worker: str, role: str, job: object) -> dict[str, Any]:
    """Start a worker that does one thing, and return its figures.

    Raises:
        ProcessFailed: It failed.
    """
    async with start(worker, role, job) as process:
        return await process.hear("done")
