"""Latency, fan-out, memory and fleet: each still runs on a real broker, and says what its figures come to.

How good the figures are is nothing for a test.
"""

from __future__ import annotations

import pytest
from backplane_testservers import OwnBroker

from bench import fanout, fleet, latency, memory
from bench.fanout import Case
from bench.fanout_worker import Way
from bench.findings import Findings, Goal
from bench.fleet_worker import Load, Part
from bench.latency_worker import Log
from bench.memory import Count
from tests.project.bench.running import bench


def silent(_: str) -> None:
    """Show no progress."""


def goal(findings: Findings, start: str) -> Goal:
    [found] = [goal for goal in findings.goals if goal.what.startswith(start)]
    return found


def row(findings: Findings, start: str) -> dict[str, str]:
    [found] = [row for row in findings.rows if row[0].startswith(start)]
    assert len(found) == len(findings.columns)
    return dict(zip(findings.columns[1:], found[1:], strict=True))


# The fixtures say what to do where there is no broker; the measurements start their own.
def test_latency_is_measured_and_nothing_is_lost(broker: OwnBroker) -> None:
    found = latency.measure_sized(silent, rounds=1, seconds=0.1, buses=(broker.kind,))
    assert [line[-1] for line in found.rows] == ["0", "0", "0"]
    for figures in found.raw[broker.kind].values():
        assert figures["events"] == [50]
        assert 0 < figures["p50_ms"][0] <= figures["p99_ms"][0] <= figures["max_ms"][0]
    assert len(found.goals) == 4
    assert [len(plot.series) for plot in found.plots] == [3]


@pytest.mark.parametrize("way", ["loop", "raw", "value", "connection"])
def test_fan_out_is_measured_by_sinks_and_by_queues(way: Way, redis_server: OwnBroker) -> None:
    assert redis_server.running
    case = Case(way=way, members=20, window=3, windows=4)
    found = fanout.measure_sized(silent, rounds=1, cases=[case])
    [run] = found.raw[case.title]
    # Of the queues one is not read.
    assert run["deliveries"] == 3 * 4 * (19 if way == "connection" else 20)
    assert min(run["cpu_us"], run["held_ms"], run["held_wall_ms"]) > 0


def test_memory_is_counted_in_memory_and_with_subscriptions(broker: OwnBroker) -> None:
    found = memory.measure_sized(silent, 200, ("memory", broker.kind))
    counts = found.raw["counts"]
    assert list(counts) == [f"{place} {way}" for place in ("memory", broker.kind) for way in ("attach", "connection")]
    for way in ("attach", "connection"):
        # Three targets, their index and an entry are no less; subscriptions come on top.
        assert 300 < counts[f"memory {way}"]["traced"] < counts[f"{broker.kind} {way}"]["traced"]
    assert counts["memory attach"]["traced"] < counts["memory connection"]["traced"]


def test_the_fleet_is_measured_and_nothing_is_lost(redis_server: OwnBroker) -> None:
    assert redis_server.running
    loads = Load(title="steady", events=20, rate=500, burst=1), Load(title="bursts", events=32, rate=1_000, burst=8)
    found = fleet.measure_sized(silent, rounds=1, pods=(1, 2), loads=loads)
    assert {line[-1] for line in found.rows} == {"0"}
    for load in loads:
        for runs in found.raw[load.title].values():
            assert min(runs[0]["pods_us"], runs[0]["publisher_us"], runs[0]["broker_us"]) > 0
    assert [plot.key for plot in found.plots] == ["fleet-steady", "fleet-bursts"]


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("latency.py", ("--rounds", "0")),
        ("latency.py", ("--bus", "kafka")),
        ("fanout.py", ("--rounds", "0")),
        ("memory.py", ("--connections", "0")),
        ("fleet.py", ("--pods", "0")),
    ],
)
async def test_wrong_arguments_are_refused(script: str, arguments: tuple[str, str]) -> None:
    code, out, err = await bench(script, *arguments)
    assert (code, out) == (2, "")
    assert arguments[0] in err


def latency_run(*milliseconds: float, lost: int = 0) -> latency.Run:
    return latency.Run(latencies=[one / 1_000 for one in milliseconds], lost=lost, late=0.0)


def test_a_latency_is_held_against_the_bare_client_by_medians_and_its_spread_by_rounds() -> None:
    runs = {
        "bare": [latency_run(1, 2, 4), latency_run(1, 2, 2), latency_run(1, 4, 8)],
        "broadcast": [latency_run(1, 3, 8), latency_run(1, 1, 2), latency_run(1, 4, 4, lost=2)],
        "interest": [latency_run(1, 2, 4)] * 3,
    }
    found = latency.findings({"redis": runs}, seconds=1, rate=500)
    p50, p99 = (goal(found, f"Redis, broadcast, {name}") for name in ("p50", "p99"))
    assert (p50.found, p50.spread, p50.reached) == (1.5, (0.5, 1.5), False)
    assert (p99.found, p99.spread, p99.reached) == (1.0, (0.5, 2.0), True)
    assert row(found, "Redis: backplane, broadcast")["lost"] == "2 LOST"
    assert row(found, "Redis: backplane, interest")["lost"] == "0"
    points = found.plots[0].series["backplane, interest"]
    assert (points[0], points[-1]) == ((1, 0.1), (4, 99.9))


def test_the_warm_up_is_no_part_of_a_latency_and_a_copy_is_noticed() -> None:
    log = Log(3)
    for data in (b'{"n":-1,"t":0.0}', b'{"n":0,"t":0.0}'):
        log.take(data)
    assert (list(log.latencies()), log.complete.is_set()) == ([0], False)
    log.take(b'{"n":0,"t":0.0}')
    assert log.complete.is_set()
    with pytest.raises(AssertionError, match="twice"):
        log.latencies()


def fanout_run(cpu_us: float, held_ms: float) -> fanout.Run:
    return fanout.Run(deliveries=100, seconds=1.0, cpu_us=cpu_us, held_ms=held_ms, held_wall_ms=held_ms, gc_ms=0.0)


def test_a_loop_held_once_too_long_misses_its_goal_and_litestar_is_met_in_the_same_kind_of_bursts() -> None:
    def queues(way: Way, window: int) -> Case:
        return Case(way=way, members=1_000, window=window, windows=4)

    found = fanout.findings(
        {
            Case(way="raw", members=1_000, window=5, windows=4): [fanout_run(0.3, 1.0), fanout_run(0.5, 9.0)],
            queues("connection", 1): [fanout_run(1.0, 1.0), fanout_run(2.0, 1.0)],
            queues("litestar", 1): [fanout_run(4.0, 1.0), fanout_run(6.0, 1.0)],
            queues("connection", 25): [fanout_run(1.0, 1.0)] * 2,
            queues("litestar", 25): [fanout_run(2.0, 1.0)] * 2,
        }
    )
    cpu, held = (goal(found, f"one publish to 1,000 raw sinks, {what}") for what in ("processor", "the loop held"))
    assert (cpu.found, cpu.reached) == (0.4, True)
    assert (held.found, held.reached) == (9.0, False)
    one, burst = (goal(found, f"1,000 connection() queues, {title}, one of them") for title in fanout.BURSTS)
    assert (one.found, one.spread, one.reached) == (3.5, (3.0, 4.0), True)
    assert (burst.found, burst.reached) == (2.0, False)


def test_without_litestar_there_is_no_goal_against_it() -> None:
    case = Case(way="connection", members=1_000, window=1, windows=4)
    found = fanout.findings({case: [fanout_run(1.0, 1.0)]})
    assert [goal.what.rpartition(", ")[2] for goal in found.goals] == ["the loop held for"]
    assert any("litestar is not installed" in note for note in found.notes)


def count(rss: float, traced: float, **files: float) -> Count:
    return Count(rss=rss, traced=traced, files={f"{name}.py": size for name, size in files.items()}, lines=[])


def test_memory_is_held_against_its_goal_by_the_larger_count() -> None:
    found = memory.findings(
        {
            ("memory", "attach"): count(2_048, 1_024, target=512, selectors=512),
            ("memory", "connection"): count(1_024, 5_120),
            ("nats", "attach"): count(2_048 + 4 * 3_072, 1_024 + 4 * 512),
            ("nats", "connection"): count(4_096, 4_096),
        },
        connections=10,
    )
    attach = goal(found, "idle connection by attach(), in memory")
    assert (attach.found, attach.spread, attach.reached) == (2.0, (1.0, 2.0), True)
    assert goal(found, "idle connection by connection(), in memory").reached is False
    subscription = goal(found, "one subscription, NATS")
    assert (subscription.found, subscription.spread, subscription.reached) == (3.0, (0.5, 3.0), False)
    parts = {part: points[0][1] for part, points in found.plots[0].series.items() if points[0][1]}
    assert parts == {"targets": 0.5, "asyncio and other": 0.5}


def test_a_fleets_growth_and_its_peer_are_told_by_load() -> None:
    def runs(*microseconds: float, lost: int = 0) -> list[list[fleet.Run]]:
        return [[fleet.Run(pods_us=one - 1, publisher_us=1, broker_us=7, lost=lost)] for one in microseconds]

    found = fleet.findings(
        {
            ("interest", 1): runs(10, 20, 10),
            ("interest", 32): runs(14, 40, 12),
            ("socketio", 1): runs(100, 100, 100),
            ("socketio", 32): runs(560, 2_400, 480, lost=1),
        },
        [Load(title="steady", events=10, rate=1, burst=1)],
    )
    growth, peer = goal(found, "steady: interest"), goal(found, "steady: 32 pods")
    assert (growth.found, growth.spread, growth.reached) == (1.4, (1.2, 2.0), True)
    assert (peer.found, peer.spread, peer.reached) == (40.0, (40.0, 60.0), False)
    assert row(found, "steady: python-socketio, 32 pods")["lost"] == "3 LOST"
    assert found.plots[0].series["backplane, interest"] == [(1, 10), (32, 14)]


def test_each_event_of_each_load_is_expected_by_one_pod() -> None:
    loads = [Load(title="steady", events=10, rate=1, burst=1), Load(title="bursts", events=21, rate=1, burst=4)]
    expected = [
        Part(way="interest", url="", channel="", pods=3, number=number, warmup=2, loads=loads, size=50).expected
        for number in range(3)
    ]
    # Bursts of 4 go to pods 0, 1, 2, 0, 1, and the last event to pod 2.
    assert expected == [[2, 6, 14], [2, 5, 13], [2, 5, 10]]
