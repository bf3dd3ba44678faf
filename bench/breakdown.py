"""Where an event's processor time goes, on the sender and on the receiver: sampled, and summed up by section.

uv run --group bench bench/all.py --only breakdown
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from backplane_testservers import Kind, open_own_broker

from bench.contest import Result
from bench.contestants import CONTESTANTS
from bench.findings import Findings, Plot, Progress
from bench.rounds import play

__all__ = ["findings", "measure", "sections"]

CHOSEN: Final[Mapping[Kind, Sequence[str]]] = {
    "redis": ("redis-ceiling", "redis-broadcast", "redis-interest"),
    "nats": ("nats-bare", "nats-broadcast", "nats-interest"),
}
# Few at a time: a receiver that is looked into is slower than the ceiling's sender, and Redis cuts it at 32 MB.
EVENTS: Final = 50_000
ROUNDS: Final = 8
SIDES: Final = ("sender", "receiver")

_OTHER: Final = "the rest"
# The first that is part of a sampled function's "package/module.py:function".
_SECTIONS: Final = (
    ("bench/", "the measurement itself"),
    ("backplane_core/_protocol/json.py", "encode and check JSON"),
    ("backplane_core/_protocol/frame.py", "encode and check JSON"),
    ("backplane_core/envelope.py", "encode and check JSON"),
    ("json/", "encode and check JSON"),
    ("backplane_core/_outbound/outbox.py", "outbox and confirmations"),
    ("backplane_core/_outbound/sender.py", "outbox and confirmations"),
    ("backplane_core/_link/supervisor.py", "outbox and confirmations"),
    ("backplane_core/_protocol/sequence.py", "sequence numbers"),
    ("backplane_core/_inbound/reader.py", "read and fan out"),
    ("backplane_core/_local/registry.py", "read and fan out"),
    ("backplane_core/", "publish and the rest of core"),
    ("<attrs generated methods backplane_core", "publish and the rest of core"),
    ("backplane_redis/", "the adapter: bytes to frames and back"),
    ("backplane_nats/", "the adapter: bytes to frames and back"),
    ("redis/", "the client library"),
    ("_parsers/", "the client library"),
    ("asyncio/", "event loop and socket"),
    ("/selectors.py", "event loop and socket"),
    ("aio/", "the client library"),
    ("nats/", "the client library"),
    ("protocol/", "the client library"),
)

_METHOD: Final = """\
The work of the throughput measurement, {events:,} events a turn, while both processes look every few milliseconds of
processor time which function runs. A function's share of these samples, times the processor time per event, is what it
costs; C code and system calls count for the function that called them: parsing for the adapter, a write for the event
loop. Nothing is hooked, so that small functions don't look dear. The samples of all rounds, {rounds}, are summed."""


def measure(progress: Progress, *, quick: bool) -> Findings:
    """Sample both brokers' contestants: about a minute.

    Raises:
        BrokerUnavailable: There is no Redis or no NATS.
        ContestFailed: A process of a contestant ended early or got stuck.
    """
    events, rounds = (50_000, 1) if quick else (EVENTS, ROUNDS)
    results: dict[str, list[Result]] = {}
    for bus, keys in CHOSEN.items():
        with open_own_broker(bus) as broker:
            chosen = {key: CONTESTANTS[key] for key in keys}
            played = asyncio.run(play(broker, chosen, progress, events=events, rounds=rounds, profile=True))
        results |= {key: [one[key] for one in played] for key in keys}
    return findings(results, events=events, rounds=rounds)


def sections(samples: Mapping[str, int], cpu_us: float) -> dict[str, float]:
    """Return microseconds per event by section, the dearest first.

    Args:
        samples: How often each function was found running.
        cpu_us: What an event costs in all.
    """
    counts: Counter[str] = Counter()
    for where, count in samples.items():
        counts[next((name for part, name in _SECTIONS if part in where), _OTHER)] += count
    total = counts.total()
    return {name: cpu_us * count / total for name, count in counts.most_common()}


def findings(results: Mapping[str, Sequence[Result]], *, events: int, rounds: int) -> Findings:
    """Return the table and a plot per side."""
    found = {
        (_title(key), side): sections(_samples(played, side), _cpu_us(played, side))
        for side in SIDES
        for key, played in results.items()
    }
    names = list(dict.fromkeys([name for _, name in _SECTIONS] + [_OTHER]))
    names = [name for name in names if any(name in parts for parts in found.values())]
    return Findings(
        key="breakdown",
        title="Where the time goes",
        method=_METHOD.format(events=events, rounds=rounds),
        columns=("µs per event", "side", "in all", *names),
        rows=[
            (title, side, f"{sum(parts.values()):.2f}", *[f"{parts.get(name, 0):.2f}" for name in names])
            for (title, side), parts in found.items()
        ],
        plots=[
            Plot(
                key=f"breakdown-{side}",
                kind="stacked",
                title=f"Processor time per event, {side}",
                x="µs",
                y="",
                series={
                    name: [(title, parts.get(name, 0)) for (title, which), parts in found.items() if which == side]
                    for name in names
                },
            )
            for side in SIDES
        ],
        raw={
            "sections": {f"{title}, {side}": parts for (title, side), parts in found.items()},
            "functions": {key: {side: _dearest(played, side) for side in SIDES} for key, played in results.items()},
        },
    )


def _title(key: str) -> str:
    contestant = CONTESTANTS[key]
    return f"{'Redis' if contestant.bus == 'redis' else 'NATS'}: {contestant.title}"


def _samples(played: Sequence[Result], side: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for result in played:
        counts.update(result.sender_samples if side == "sender" else result.receiver_samples)
    return counts


def _cpu_us(played: Sequence[Result], side: str) -> float:
    return median([result.sender_us if side == "sender" else result.receiver_us for result in played])


def _dearest(played: Sequence[Result], side: str) -> dict[str, Any]:
    """Return the functions that most time goes to, in microseconds per event."""
    counts = _samples(played, side)
    total = counts.total()
    return {name: round(_cpu_us(played, side) * count / total, 3) for name, count in counts.most_common(20)}
