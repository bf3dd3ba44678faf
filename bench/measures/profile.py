"""Where an event's processor time goes, on the sender and on the receiver: sampled by py-spy, summed up by part."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from attrs import frozen
from backplane_testservers import open_own_broker

from bench.findings import Findings
from bench.libraries import LibraryMissing
from bench.measure import BUSES, Measure, Progress, option
from bench.measures.throughput import run_turn
from bench.subjects.lineup import SUBJECTS

__all__ = ["Figures", "Profile", "innermost", "parts"]

_SUBJECTS: Final = (
    "redis-broadcast",
    "redis-interest",
    "redis-interest-sinks",
    "redis-64",
    "redis-flush-64",
    "nats-bare-wildcard",
    "nats-broadcast",
    "nats-interest",
    "nats-interest-sinks",
)
_SIDES: Final[Mapping[str, str]] = {"send": "sender", "receive": "receiver"}
_RATE: Final = 200
"""Samples a second."""

_OTHER: Final = "the rest"
# The first that is part of a sampled "function (folder/file.py:line)".
_PARTS: Final = (
    ("subjects/sockets.py", "counting what comes"),
    ("subjects/", "building events, and the loop around publish"),
    ("(events.py", "building events, and the loop around publish"),
    ("backplane_core/target.py", "targets"),
    ("backplane_core/_protocol/json.py", "encode and check JSON"),
    ("json/", "encode and check JSON"),
    ("backplane_core/_outbound/", "frames, outbox and confirmations"),
    ("backplane_core/_protocol/", "frames, outbox and confirmations"),
    ("backplane_core/_link/", "frames, outbox and confirmations"),
    ("backplane_core/envelope.py", "read and fan out"),
    ("backplane_core/_inbound/", "read and fan out"),
    ("backplane_core/_local/", "read and fan out"),
    ("backplane_core/connection.py", "the connections' queues"),
    ("backplane_core/_runtime/", "the connections' queues"),
    ("backplane_core/", "publish and the rest of core"),
    ("attrs generated", "publish and the rest of core"),
    ("backplane_redis/", "the adapter: bytes to frames and back"),
    ("backplane_nats/", "the adapter: bytes to frames and back"),
    ("redis/", "the client library"),
    ("nats/", "the client library"),
    ("asyncio/", "event loop and socket"),
    ("selectors.py", "event loop and socket"),
)
_IN_THE_LOOP: Final = "_run_once (asyncio/"
"""Is part of each stack of the event loop, and not of the thread that waits for words."""
_IMPORT: Final = "<frozen importlib"
"""Is part of each stack that imports: `connect` does so for its adapter, in the loop, before anything is measured."""

_METHOD: Final = """\
The work of the [throughput](#throughput) measurement, {events:,} events a turn, while py-spy looks {rate} times a
second which function runs in either process. A function's share of these samples, times the processor time per event,
is what it costs; C code and system calls count for the function that called them: parsing for the adapter, a write
for the event loop. The samples of all rounds, {rounds}, are summed. Sampling costs a little, so sums are larger than
above."""


@frozen(kw_only=True)
class Figures:
    """What is measured."""

    events: int  # per turn
    rounds: int
    parts_us: Mapping[str, Mapping[str, Mapping[str, float]]]  # per event, by side, subject and part


@frozen(kw_only=True)
class Profile(Measure[Figures]):
    """Where an event's processor time goes, on the sender and on the receiver, sampled by py-spy."""

    name: ClassVar = "profile"
    title: ClassVar = "Where the time goes"
    figures: ClassVar = Figures
    quick: ClassVar = {"events": 20_000, "rounds": 1}
    usual_s: ClassVar = 90

    events: int = option(100_000, "per turn")
    rounds: int = option(3, "of each")
    bus: str = option("both", "which broker", BUSES)
    subjects: tuple[str, ...] = option(_SUBJECTS, "which rows of the throughput measurement", SUBJECTS)

    def measure(self, progress: Progress) -> Figures:
        """Sample each subject's two processes."""
        found: dict[str, dict[str, dict[str, float]]] = {side: {} for side in _SIDES.values()}
        keys = {bus: [key for key in self.subjects if SUBJECTS[key].bus == bus] for bus in BUSES[self.bus]}
        progress.expect(self.rounds * sum(map(len, keys.values())))
        for bus in BUSES[self.bus]:
            with open_own_broker(bus) as broker:
                for key in keys[bus]:
                    for side, by_part in self._sample(key, broker.url, progress).items():
                        found[side][key] = by_part
        return Figures(events=self.events, rounds=self.rounds, parts_us=found)

    def _sample(self, key: str, url: str, progress: Progress) -> dict[str, dict[str, float]]:
        """Return microseconds per event by side and part."""
        samples: dict[str, Counter[str]] = {side: Counter() for side in _SIDES.values()}
        used: dict[str, list[float]] = {side: [] for side in samples}
        for turn in range(self.rounds):
            progress.step(f"round {turn + 1} of {self.rounds}: {SUBJECTS[key].name}")
            with tempfile.TemporaryDirectory() as folder:
                under = {role: _profiler(Path(folder) / side) for role, side in _SIDES.items()}
                result = asyncio.run(run_turn(key, url, self.events, under))
                for side, counts in samples.items():
                    counts.update(innermost((Path(folder) / side).read_text("utf-8")))
            used["sender"].append(result.sender_us)
            used["receiver"].append(result.receiver_us)
        return {side: parts(counts, sum(used[side]) / self.rounds) for side, counts in samples.items()}

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return the table."""
        names = list(dict.fromkeys([*[name for _, name in _PARTS], _OTHER]))
        bars = {
            side: {_title(key): {name: by_part.get(name, 0.0) for name in names} for key, by_part in keys.items()}
            for side, keys in figures.parts_us.items()
        }
        return Findings(
            method=_METHOD.format(events=figures.events, rate=_RATE, rounds=figures.rounds),
            columns=("µs per event", "side", "in all", *names),
            rows=[
                (title, side, f"{sum(lengths.values()):.2f}", *[f"{length:.2f}" for length in lengths.values()])
                for side, titles in bars.items()
                for title, lengths in titles.items()
            ],
        )


def parts(samples: Mapping[str, int], cpu_us: float) -> dict[str, float]:
    """Return microseconds per event by part, the most expensive first.

    Args:
        samples: How often each function was found running.
        cpu_us: What an event costs in all.
    """
    counts: Counter[str] = Counter()
    for where, count in samples.items():
        counts[next((name for piece, name in _PARTS if piece in where), _OTHER)] += count
    return {name: cpu_us * count / counts.total() for name, count in counts.most_common()}


def _profiler(file: Path) -> list[str]:
    command = Path(sys.executable).with_name("py-spy")
    if not command.exists() and shutil.which("py-spy") is None:
        raise LibraryMissing("py-spy is not installed: run this with `uv run --group bench …`")
    spy = str(command) if command.exists() else "py-spy"
    return [spy, "record", "--rate", str(_RATE), "--format", "raw", "--output", str(file), "--"]


def innermost(stacks: str) -> Counter[str]:
    """Return how often each function of the loop was found, of lines as `outer (file:1);inner (file:2) 17`."""
    found: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        if _IN_THE_LOOP in stack and _IMPORT not in stack:
            # Without the line: "function (folder/file.py)".
            found[f"{stack.rpartition(';')[2].rpartition(':')[0]})"] += int(count)
    return found


def _title(key: str) -> str:
    subject = SUBJECTS[key]
    return f"{subject.name}{f', {subject.publishers} publishers' if subject.publishers > 1 else ''}"
