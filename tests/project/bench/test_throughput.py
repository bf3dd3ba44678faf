"""The benchmark still runs, all take part, and Backplane loses nothing. How fast it is, is nothing for a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from backplane_testservers import OwnBroker

from bench.job import Job, Tally
from tests.project.bench.running import bench

QUEUED = ("bare", "ceiling", "broadcast", "interest", "connection", "concurrent")
OTHERWISE = {
    "redis": ("bare", "public", "uvloop", "bare-64", "pipeline", "flush", "flush-64"),
    "nats": ("public", "uvloop"),
}
NOT_OURS = {"bare", "ceiling", "bare-64", "pipeline"}
EVENTS = 200


# The fixture says what to do where there is no broker; the benchmark starts its own.
@pytest.mark.parametrize("way", ["queued", "otherwise"])
async def test_all_contestants_finish_and_ours_lose_nothing(way: str, broker: OwnBroker, tmp_path: Path) -> None:
    kind, file = broker.kind, tmp_path / "figures.json"
    parts = QUEUED if way == "queued" else OTHERWISE[kind]
    keys = [f"{kind}-{part}" for part in parts]
    code, out, err = await bench(
        "throughput.py", "--events", str(EVENTS), "--rounds", "1", "--json", str(file), "--only", *keys
    )
    assert (code, err) == (0, "")
    contestants: dict[str, Any] = json.loads(file.read_text())[kind]
    assert sorted(contestants) == sorted(keys)
    for key, figures in contestants.items():
        assert f": {figures['title']} " in out
        assert figures["rate"]["median"] > 0
        if key.removeprefix(f"{kind}-") not in NOT_OURS:
            assert (figures["lost"], figures["late"], figures["copies"]) == (0, 0, 0)
    assert "Only ratios within one run mean anything" in out


@pytest.mark.parametrize(
    "arguments", [("--events", "0"), ("--rounds", "0"), ("--size", "1"), ("--bus", "kafka"), ("--only", "kafka")]
)
async def test_wrong_arguments_are_refused(arguments: tuple[str, str]) -> None:
    code, out, err = await bench("throughput.py", *arguments)
    assert (code, out) == (2, "")
    assert arguments[0] in err


def _tally(events: int) -> tuple[Tally, list[bytes]]:
    job = Job(contestant="", url="", channel="", events=events, warmup=1, size=40, routing="broadcast")
    tally = Tally()
    tally.expect(job.numbers)
    return tally, [job.json(number) for number in job.numbers]


async def test_a_lost_event_a_copy_and_a_swap_are_noticed() -> None:
    tally, (zero, one, two, three, four, five) = _tally(6)
    for data in (zero, two, one, three, three, five):
        assert len(data) == len(four) == 40
        tally.take(data)
    assert not tally.complete.is_set()
    assert (tally.lost, tally.late, tally.copies) == (1, 1, 1)


async def test_it_is_over_when_the_last_comes_even_if_others_overtook_it() -> None:
    tally, (zero, one, two, three) = _tally(4)
    for data in (zero, three, two):
        tally.take(data)
    assert not tally.complete.is_set()
    tally.take(one)
    assert tally.complete.is_set()
    assert (tally.lost, tally.late, tally.copies) == (0, 2, 0)


async def test_a_lost_tail_is_lost_and_the_clock_stopped_before_it() -> None:
    tally, events = _tally(200)
    begun = tally.ended_at
    for data in events[:150]:
        tally.take(data)
    ended = tally.ended_at
    assert ended > begun
    assert (tally.lost, tally.late, tally.copies) == (50, 0, 0)
