"""Contestants in turns, round after round, so that a busy minute of this machine hits all of them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from backplane_testservers import Broker

from bench.contest import Result, run
from bench.contestants import Contestant
from bench.findings import Progress
from bench.job import Job, Routing

__all__ = ["play"]


async def play(
    broker: Broker,
    contestants: Mapping[str, Contestant],
    progress: Progress,
    *,
    events: int,
    rounds: int,
    size: int = 200,
    routing: Routing = "broadcast",
    profile: bool = False,
) -> list[dict[str, Result]]:
    """Return each round's results by contestant.

    Args:
        broker: Of the kind that all of them run on.
        contestants: In the order of their turns.
        progress: Told of each turn.
        events: Per turn, times the contestant's share.
        rounds: How many.
        size: Of an event, in bytes of JSON.
        routing: Of those contestants that don't name one.
        profile: Whether to note where the processes' time goes.

    Raises:
        ContestFailed: A process of a contestant ended early or got stuck.
    """
    done: list[dict[str, Result]] = []
    for number in range(1, rounds + 1):
        results: dict[str, Result] = {}
        for key, contestant in contestants.items():
            progress(f"{broker.kind}, round {number} of {rounds}: {contestant.title}")
            share = max(1, round(events * contestant.share))
            results[key] = await run(
                Job(
                    contestant=key,
                    url=broker.url,
                    channel=f"bench:{uuid.uuid4().hex}",
                    events=share,
                    # Caches and the interpreter's code, and each of 64 publishers' connection, are warm after that.
                    warmup=min(1_000, max(200, share // 4)),
                    size=size,
                    routing=routing,
                    loop=contestant.loop,
                    wire=contestant.wire,
                    profile=profile,
                )
            )
        done.append(results)
    return done
