"""One process of a contest: `python -m bench.worker send|receive JOB`. Talks to `bench.contest` in lines of JSON.

receiver  ready ................. go -> going .............. received ... stop
sender            begin -> warm ................ go -> sent ............. stop
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from typing import Any

import backplane_nats._link as nats_link
import cattrs
from backplane_redis._connection import LinkConnection

from bench.contestants import CONTESTANTS
from bench.job import Job, Tally, now
from bench.libraries import loop_factory
from bench.sampler import Sampler

__all__ = ["only_public_names"]


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _say(**what: Any) -> None:  # noqa: ANN401 -- JSON
    print(json.dumps(what), flush=True)


async def _heard(word: str) -> None:
    # A thread that sits in read() takes no processor time from what is measured.
    line = await asyncio.to_thread(sys.stdin.readline)
    if line.strip() != word:
        raise SystemExit(f"expected {word!r}, heard {line!r}")


async def _send(job: Job, sampler: Sampler) -> None:
    await _heard("begin")
    async with CONTESTANTS[job.contestant].send(job) as send:
        await send(job.warmup_numbers)
        _say(state="warm")
        await _heard("go")
        with sampler:
            cpu_s, began_at = _cpu_s(), now()
            await send(job.numbers)
            cpu_s = _cpu_s() - cpu_s
        _say(state="sent", began_at=began_at, cpu_s=cpu_s, samples=sampler.counts)
        await _heard("stop")


async def _receive(job: Job, sampler: Sampler) -> None:
    tally = Tally()
    tally.expect(job.warmup_numbers)
    receiving = asyncio.create_task(_drive(job, tally))
    await asyncio.wait({receiving, waiting := asyncio.create_task(_heard("go"))}, return_when=asyncio.FIRST_COMPLETED)
    if receiving.done():
        receiving.result()
    await waiting
    await tally.complete.wait()
    tally.expect(job.numbers)
    with sampler:
        cpu_s = _cpu_s()
        _say(state="going")
        stop = asyncio.create_task(_heard("stop"))
        complete = asyncio.create_task(tally.complete.wait())
        await asyncio.wait({stop, complete, receiving}, return_when=asyncio.FIRST_COMPLETED)
        cpu_s = _cpu_s() - cpu_s
    counts = {"lost": tally.lost, "late": tally.late, "copies": tally.copies}
    _say(state="received", ended_at=tally.ended_at, cpu_s=cpu_s, samples=sampler.counts, **counts)
    complete.cancel()
    await stop
    if receiving.done():
        receiving.result()
    receiving.cancel()
    await asyncio.wait({receiving})


async def _drive(job: Job, tally: Tally) -> None:
    async for _ in CONTESTANTS[job.contestant].receive(job, tally.take):
        _say(state="ready")
    raise SystemExit("the receiver's stream ended")


def only_public_names() -> None:
    """Make each adapter take the way that it has for clients which are laid out otherwise."""
    for owner, name in ((nats_link, "make_inline_io"), (LinkConnection, "stream")):
        assert callable(getattr(owner, name)), f"{name} has moved: the fast path would be measured under a wrong name"
        setattr(owner, name, _none)


def _none(*_: object) -> None:
    pass


def _main(role: str, job: str) -> None:
    todo = cattrs.structure(json.loads(job), Job)
    if todo.wire == "public":
        only_public_names()
    sampler = Sampler(enabled=todo.profile)
    with asyncio.Runner(loop_factory=loop_factory(todo.loop)) as runner:
        runner.run(_send(todo, sampler) if role == "send" else _receive(todo, sampler))


if __name__ == "__main__":
    _main(*sys.argv[1:])
