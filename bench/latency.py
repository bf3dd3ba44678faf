"""How long an event takes from the publish call to the sink in another process, at a steady rate.

    uv run bench/latency.py [--rounds 9] [--seconds 5] [--rate 500] [--bus redis|nats|both] [--quick] [--json FILE]

A publisher process, a receiver process, one clock. The contestants take turns, round after round.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

# Run as a script, this folder is on the path and the one above it is not.
sys.path.insert(0, str(Path(__file__).parents[1]))

from attrs import evolve, frozen
from backplane_testservers import Kind, open_own_broker

from bench.figures import percentile, ratios, shown, spread, tell
from bench.findings import Findings, Goal, Plot, Progress
from bench.latency_worker import Pace
from bench.players import PlayerFailed, player

__all__ = ["Run", "findings", "measure", "measure_sized"]

BUSES: Final[Mapping[str, tuple[Kind, ...]]] = {"redis": ("redis",), "nats": ("nats",), "both": ("redis", "nats")}
NAMES: Final[Mapping[Kind, str]] = {"redis": "Redis", "nats": "NATS"}
BARE: Final[Mapping[Kind, str]] = {"redis": "bare redis-py", "nats": "bare nats-py"}
ROUTINGS: Final = ("broadcast", "interest")
RATE: Final = 500
SIZE: Final = 200
P50_LIMIT: Final = 1.0
P99_LIMIT: Final = 1.3
_SHARES: Final = (0.001, *[number / 100 for number in range(1, 100)], 0.995, 0.999)

METHOD: Final = """\
One process publishes {rate} events of {size} bytes a second, each when its time has come, whatever became of the one \
before; another receives them. Latency runs from right before the publish call (`await client.publish()` of the bare \
client, `await backplane.publish()` of ours; the event's encoding is part of it) to the moment when the event's bytes \
are handed over (`pubsub.listen()` of redis-py, a subscription's callback of nats-py, a raw sink of ours). Both read \
one clock of the machine. {rounds} rounds of {seconds:g} s; in each all contestants take turns, in another order each \
time, in fresh processes that are warm. A ratio is the median of our rounds over the median of the bare client's; its \
spread is that of the rounds' own ratios."""


@frozen(kw_only=True)
class Run:
    """One contestant's run.

    Args:
        latencies: In seconds, from the least to the most.
        lost: Events that did not come.
        late: The most that the publisher was behind its pace, in seconds.
    """

    latencies: Sequence[float]
    lost: int
    late: float

    def at(self, share: float) -> float:
        """Return that percentile in milliseconds."""
        return 1_000 * percentile(self.latencies, share)


NATS_NOTE: Final = """\
On NATS ours hands an event over in the socket's own callback; nats-py reads in one task and calls a subscription's \
callback in another. What ours has more is an envelope to check, a number to compare, and some fifteen small functions \
that 500 events a second do not keep in the processor's cache."""


def measure(progress: Progress, *, quick: bool) -> Findings:
    """Let all contestants run and return the findings.

    Raises:
        BrokerUnavailable: There is no Redis or no NATS here.
        PlayerFailed: A process failed; it has said why.
    """
    return measure_sized(progress, rounds=2 if quick else 9, seconds=1 if quick else 5)


def measure_sized(
    progress: Progress, *, rounds: int, seconds: float, rate: int = RATE, buses: Sequence[Kind] = BUSES["both"]
) -> Findings:
    """Do as `measure` does, at a size of your own."""
    found: dict[Kind, dict[str, list[Run]]] = {}
    for bus in buses:
        with open_own_broker(bus) as broker:
            events = max(1, round(seconds * rate))
            pace = Pace(contestant="", url=broker.url, channel="", events=events, rate=rate, size=SIZE)
            found[bus] = asyncio.run(_rounds(progress, bus, pace, rounds))
    return findings(found, seconds=seconds, rate=rate)


async def _rounds(progress: Progress, bus: Kind, pace: Pace, rounds: int) -> dict[str, list[Run]]:
    contestants = ["bare", *ROUTINGS]
    found: dict[str, list[Run]] = {contestant: [] for contestant in contestants}
    for number in range(rounds):
        shift = number % len(contestants)
        for contestant in contestants[shift:] + contestants[:shift]:
            progress(f"latency, {NAMES[bus]}, round {number + 1} of {rounds}: {_title(bus, contestant)}")
            own = evolve(
                pace,
                contestant=f"{bus}-bare" if contestant == "bare" else contestant,
                channel=f"bench-{uuid.uuid4().hex}",
            )
            found[contestant].append(await _run(own))
    return found


async def _run(pace: Pace) -> Run:
    worker = "bench.latency_worker"
    async with player(worker, "receive", pace) as receiver, player(worker, "send", pace) as sender:
        await receiver.hear("ready")
        sender.tell("go")
        sent = await sender.hear("sent")
        receiver.tell("stop")
        received = await receiver.hear("received")
    if not received["latencies"]:
        raise PlayerFailed(f"{pace.contestant}: no event came")
    return Run(latencies=sorted(received["latencies"]), lost=received["lost"], late=sent["late"])


def findings(found: Mapping[Kind, Mapping[str, Sequence[Run]]], *, seconds: float, rate: int) -> Findings:
    """Return what the runs come to."""
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    for bus, runs in found.items():
        bare = runs["bare"]
        for contestant, own in runs.items():
            lost = sum([run.lost for run in own])
            rows.append(
                (
                    f"{NAMES[bus]}: {_title(bus, contestant)}",
                    *[shown(spread([run.at(share) for run in own]), 3) for share in (0.5, 0.99)],
                    f"{max([run.latencies[-1] for run in own]) * 1_000:.2f}",
                    "" if contestant == "bare" else f"{_ratio(own, bare, 0.5):.2f}",
                    "" if contestant == "bare" else f"{_ratio(own, bare, 0.99):.2f}",
                    f"{lost:,} LOST" if lost else "0",
                )
            )
            if contestant != "bare":
                goals += [
                    Goal(
                        what=f"{NAMES[bus]}, {contestant}, {name} against {_title(bus, 'bare')}",
                        wanted=limit,
                        found=_ratio(own, bare, share),
                        spread=ratios([run.at(share) for run in own], [run.at(share) for run in bare])[1:],
                        at_least=False,
                    )
                    for name, share, limit in (("p50", 0.5, P50_LIMIT), ("p99", 0.99, P99_LIMIT))
                ]
    rounds = len(next(iter(found.values()))["bare"])
    return Findings(
        key="latency",
        title="Latency",
        method=METHOD.format(rate=rate, size=SIZE, rounds=rounds, seconds=seconds),
        columns=("publish to sink, ms", "p50", "p99", "max", "p50 x bare", "p99 x bare", "lost"),
        rows=rows,
        goals=goals,
        plots=[_plot(bus, runs) for bus, runs in found.items()],
        notes=[NATS_NOTE],
        raw={
            bus: {
                contestant: {
                    "p50_ms": [run.at(0.5) for run in own],
                    "p99_ms": [run.at(0.99) for run in own],
                    "max_ms": [run.at(1) for run in own],
                    "late_ms": [run.late * 1_000 for run in own],
                    "lost": [run.lost for run in own],
                    "events": [len(run.latencies) for run in own],
                }
                for contestant, own in runs.items()
            }
            for bus, runs in found.items()
        },
    )


def _ratio(ours: Sequence[Run], bare: Sequence[Run], share: float) -> float:
    return median([run.at(share) for run in ours]) / median([run.at(share) for run in bare])


def _plot(bus: Kind, runs: Mapping[str, Sequence[Run]]) -> Plot:
    series: dict[str, list[tuple[float | str, float]]] = {}
    for contestant, own in runs.items():
        latencies = sorted([latency for run in own for latency in run.latencies])
        series[_title(bus, contestant)] = [(1_000 * percentile(latencies, share), 100 * share) for share in _SHARES]
    return Plot(
        key=f"latency-{bus}",
        kind="lines",
        title=f"Latency over {NAMES[bus]}: what share of the events came within",
        x="ms from publish to sink",
        y="% of events",
        series=series,
        log="x",
    )


def _title(bus: Kind, contestant: str) -> str:
    return BARE[bus] if contestant == "bare" else f"backplane, {contestant}"


def _main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=5, help="of each run")
    parser.add_argument("--rate", type=int, default=RATE, help="events per second")
    parser.add_argument("--bus", choices=BUSES, default="both")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 2, 1
    if arguments.rounds < 1 or arguments.rate < 1 or not arguments.seconds > 0:
        parser.error("--rounds and --rate are at least 1, --seconds more than 0")
    measuring = partial(
        measure_sized,
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        rate=arguments.rate,
        buses=BUSES[arguments.bus],
    )
    tell(measuring, arguments.json)


if __name__ == "__main__":
    _main()
