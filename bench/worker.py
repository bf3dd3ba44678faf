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

import cattrs

from bench.contestants import CONTESTANTS
from bench.job import Job, Tally, now

__all__: list[str] = []


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


async def _send(job: Job) -> None:
    await _heard("begin")
    async with CONTESTANTS[job.contestant].send(job) as send:
        await send(job.warmup_numbers)
        _say(state="warm")
        await _heard("go")
        cpu_s, began_at = _cpu_s(), now()
        await send(job.numbers)
        cpu_s = _cpu_s() - cpu_s
        _say(state="sent", began_at=began_at, cpu_s=cpu_s)
        await _heard("stop")


async def _receive(job: Job) -> None:
    tally = Tally()
    tally.expect(job.warmup_numbers)
    receiving = asyncio.create_task(_drive(job, tally))
    await asyncio.wait({receiving, waiting := asyncio.create_task(_heard("go"))}, return_when=asyncio.FIRST_COMPLETED)
    if receiving.done():
        receiving.result()
    await waiting
    await tally.complete.wait()
    tally.expect(job.numbers)
    cpu_s = _cpu_s()
    _say(state="going")
    stop = asyncio.create_task(_heard("stop"))
    complete = asyncio.create_task(tally.complete.wait())
    await asyncio.wait({stop, complete, receiving}, return_when=asyncio.FIRST_COMPLETED)
    cpu_s = _cpu_s() - cpu_s
    tally.give_up()
    _say(state="received", ended_at=tally.ended_at, cpu_s=cpu_s, lost=tally.lost, odd=tally.odd)
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


def _main(role: str, job: str) -> None:
    todo = cattrs.structure(json.loads(job), Job)
    asyncio.run(_send(todo) if role == "send" else _receive(todo))


if __name__ == "__main__":
    _main(*sys.argv[1:])
