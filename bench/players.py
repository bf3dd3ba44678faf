"""Processes that take part in a measurement, and talk with it in lines: words to them, JSON from them.

async with player("bench.latency_worker", "receive", job) as receiver:    in the measuring process
    await receiver.hear("ready")
    receiver.tell("stop")

say("ready")                                                              in the process that is measured
await heard("stop")
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import cattrs
from attrs import frozen

__all__ = ["Player", "PlayerFailed", "cpu_s", "heard", "next_word", "player", "say"]

ROOT: Final = Path(__file__).parents[1]
HEAR_S: Final = 120
"""Nothing that is measured takes so long between two words; a process that does is stuck."""
_LINE_BYTES: Final = 1 << 24
"""A line holds all figures of a run."""


class PlayerFailed(RuntimeError):  # noqa: N818 -- reads better
    """A process ended early or got stuck. It has said why itself, above."""


@frozen
class Player:
    """A process that takes part."""

    _process: asyncio.subprocess.Process
    _who: str

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process.pid

    async def hear(self, state: str) -> dict[str, Any]:
        """Wait for its next line, which must say that it is in this state; return what it says beside.

        Raises:
            PlayerFailed: It says something else, or nothing.
        """
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(HEAR_S):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise PlayerFailed(f"{self._who} should say {state!r}, said nothing within {HEAR_S} s") from None
        said: dict[str, Any] = json.loads(line) if line else {}
        if said.get("state") != state:
            raise PlayerFailed(f"{self._who} should say {state!r}, said {line.decode().strip() or 'nothing'!r}")
        return said

    def tell(self, word: str) -> None:
        """Tell it one word."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())


@asynccontextmanager
async def player(module: str, role: str, job: object) -> AsyncGenerator[Player]:
    """Start `python -m MODULE ROLE JOB`; wait for its end, or end it when something failed.

    Raises:
        PlayerFailed: It ended with an error.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        role,
        json.dumps(cattrs.unstructure(job)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
    )
    try:
        yield Player(process, f"{module} {role}")
        # Its own end is part of its turn: a process that can't close would disturb the next one.
        try:
            async with asyncio.timeout(HEAR_S):
                await process.wait()
        except TimeoutError:
            raise PlayerFailed(f"{module} {role} does not end") from None
        if process.returncode:
            raise PlayerFailed(f"{module} {role} ended with code {process.returncode}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def say(state: str, **what: Any) -> None:  # noqa: ANN401 -- JSON
    """Tell the measuring process the state of this one."""
    print(json.dumps({"state": state, **what}), flush=True)


async def next_word() -> str:
    """Return the next word of the measuring process."""
    # A thread that sits in read() takes no processor time from what is measured.
    line: str = await asyncio.to_thread(sys.stdin.readline)
    if not line:
        raise SystemExit("the measuring process is gone")
    return line.strip()


async def heard(word: str) -> None:
    """Wait until the measuring process says this word."""
    if (said := await next_word()) != word:
        raise SystemExit(f"expected {word!r}, heard {said!r}")


def cpu_s() -> float:
    """Return the processor time of this process so far, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
