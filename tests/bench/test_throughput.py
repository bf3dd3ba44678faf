"""The benchmark still runs, all take part, and Backplane loses nothing. How fast it is, is nothing for a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.job import Job, Tally
from tests.bench.running import bench
from tests.brokers import OwnBroker

OURS = ("broadcast", "interest", "connection", "concurrent")
EVENTS = 200


# The fixture says what to do where there is no broker; the benchmark starts its own.
async def test_all_contestants_finish_and_ours_lose_nothing(broker: OwnBroker, tmp_path: Path) -> None:
    kind, file = broker.kind, tmp_path / "figures.json"
    code, out, err = await bench(
        "throughput.py", "--events", str(EVENTS), "--rounds", "1", "--bus", kind, "--json", str(file)
    )
    assert (code, err) == (0, "")
    contestants: dict[str, Any] = json.loads(file.read_text())[kind]["contestants"]
    assert list(contestants) == [f"{kind}-{part}" for part in ("bare", "ceiling", *OURS)]
    for part in OURS:
        figures = contestants[f"{kind}-{part}"]
        assert (figures["events_per_round"], figures["lost"], figures["odd"]) == (EVENTS, 0, 0)
        assert figures["to_bare"]["median"] > 0
    for figures in contestants.values():
        assert f"\n{figures['title']} " in out
    assert "LOST" not in out
    assert "Only ratios within one run mean anything" in out


@pytest.mark.parametrize("arguments", [("--events", "0"), ("--rounds", "0"), ("--size", "1"), ("--bus", "kafka")])
async def test_wrong_arguments_are_refused(arguments: tuple[str, str]) -> None:
    code, out, err = await bench("throughput.py", *arguments)
    assert (code, out) == (2, "")
    assert arguments[0] in err


async def test_a_lost_event_a_copy_and_a_swap_are_noticed() -> None:
    tally, job = Tally(), Job(contestant="", url="", channel="", events=6, warmup=1, size=40, routing="broadcast")
    zero, one, two, three, four, five = map(job.json, job.numbers)
    tally.expect(job.numbers)
    for data in (zero, two, one, three, three, five):
        tally.take(data)
    assert tally.complete.is_set()
    assert (tally.lost, tally.odd) == (2, 2)
    assert len(four) == job.size


async def test_a_lost_tail_is_lost() -> None:
    tally, job = Tally(), Job(contestant="", url="", channel="", events=4, warmup=1, size=40, routing="broadcast")
    tally.expect(job.numbers)
    tally.take(job.json(job.numbers[0]))
    tally.give_up()
    assert (tally.lost, tally.odd) == (3, 0)
