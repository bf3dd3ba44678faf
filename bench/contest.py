"""One contestant's turn: two processes, one result."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import cattrs
from attrs import field, frozen

from bench.job import Job, Role

__all__ = ["ContestFailed", "Result", "run"]

ROOT: Final = Path(__file__).parents[1]
TURN_S: Final = 120
"""No contestant takes so long; one that does is stuck."""
LATE_S: Final = 5
"""How long after the last publish the last event may come before it counts as lost."""


class ContestFailed(RuntimeError):  # noqa: N818 -- reads better
    """A process of a contestant ended early or got stuck. It has said why itself, above."""


@frozen(kw_only=True)
class Result:
    """What came of one turn.

    Args:
        events: How many were published.
        seconds: From the first publish to the last event's arrival.
        sender_us: Processor time per event in the publishing process, own echo included, in microseconds.
        receiver_us: The same in the receiving one.
        lost: Events that did not arrive.
        late: Events that arrived after one that was published later.
        copies: Events that arrived again.
        sender_samples: How often the publishing process was found in each function, if that was asked for.
        receiver_samples: The same of the receiving one.
    """

    events: int
    seconds: float
    sender_us: float
    receiver_us: float
    lost: int
    late: int = 0
    copies: int = 0
    sender_samples: Mapping[str, int] = field(factory=dict[str, int])
    receiver_samples: Mapping[str, int] = field(factory=dict[str, int])

    @property
    def rate(self) -> float:
        """Events per second."""
        return (self.events - self.lost) / self.seconds


@frozen
class _Player:
    _process: asyncio.subprocess.Process
    _who: str

    async def hear(self, state: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        said: dict[str, Any] = json.loads(line) if line else {}
        if said.get("state") != state:
            raise ContestFailed(f"{self._who} should say {state!r}, said {line.decode().strip() or 'nothing'!r}")
        return said

    def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())


@asynccontextmanager
async def _player(role: Role, job: Job) -> AsyncGenerator[_Player]:
    work = json.dumps(cattrs.unstructure(job))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.worker",
        role,
        work,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # Ctrl-C is for the process that has the table; it ends these.
        start_new_session=True,
    )
    try:
        yield _Player(process, f"{job.contestant} ({role})")
        # Its own end is part of its turn: a process that can't close would disturb the next one.
        await process.wait()
        if process.returncode:
            raise ContestFailed(f"{job.contestant} ({role}) ended with code {process.returncode}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def run(job: Job) -> Result:
    """Let a contestant take its turn.

    Raises:
        ContestFailed: A process ended early or got stuck.
    """
    try:
        async with asyncio.timeout(TURN_S), _player("receive", job) as receiver, _player("send", job) as sender:
            await receiver.hear("ready")
            sender.tell("begin")
            await sender.hear("warm")
            receiver.tell("go")
            await receiver.hear("going")
            sender.tell("go")
            sent = await sender.hear("sent")
            received = await _last_word(receiver)
            sender.tell("stop")
            receiver.tell("stop")
    except TimeoutError:
        raise ContestFailed(f"{job.contestant} got stuck: not done after {TURN_S} s") from None
    return Result(
        events=job.events,
        seconds=received["ended_at"] - sent["began_at"],
        sender_us=sent["cpu_s"] / job.events * 1e6,
        receiver_us=received["cpu_s"] / job.events * 1e6,
        lost=received["lost"],
        late=received["late"],
        copies=received["copies"],
        sender_samples=sent["samples"],
        receiver_samples=received["samples"],
    )


async def _last_word(receiver: _Player) -> dict[str, Any]:
    hearing = asyncio.ensure_future(receiver.hear("received"))
    done, _ = await asyncio.wait({hearing}, timeout=LATE_S)
    if not done:
        # The last event is lost, so the receiver would wait for ever.
        receiver.tell("stop")
    return await hearing
