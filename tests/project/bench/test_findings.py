"""What fixed rounds come to: medians, ratios within a round, goals, and what was lost."""

from __future__ import annotations

import pytest

from bench.findings import Findings, Goal
from bench.measures.fanout import BURSTS, Case, Fanout
from bench.measures.fanout import Figures as FanoutFigures
from bench.measures.fanout import Run as FanoutRun
from bench.measures.fleet import Figures as FleetFigures
from bench.measures.fleet import Fleet
from bench.measures.fleet import Run as FleetRun
from bench.measures.latency import Figures as LatencyFigures
from bench.measures.latency import Latency
from bench.measures.latency import Run as LatencyRun
from bench.measures.memory import Count, Memory
from bench.measures.memory import Figures as MemoryFigures
from bench.measures.micro import Figures as MicroFigures
from bench.measures.micro import Micro
from bench.measures.profile import innermost, parts
from bench.measures.throughput_findings import Figures, Result, findings
from bench.page.terminal import show, text_table
from bench.spreads import percentile, ratios, shown, spread
from bench.workers.fanout import Way
from bench.workers.fleet import Load, Part
from tests.project.bench.sections import FINDINGS


def goal(findings: Findings, start: str) -> Goal:
    [found] = [goal for goal in findings.goals if goal.what.startswith(start)]
    return found


def row(findings: Findings, start: str, *more: str) -> dict[str, str]:
    [found] = [row for row in findings.rows if row[0].startswith(start) and row[1 : 1 + len(more)] == more]
    assert len(found) == len(findings.columns)
    return dict(zip(findings.columns[1:], found[1:], strict=True))


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.501, 51), (0.99, 99), (0.999, 100), (1.0, 100)]
)
def test_a_percentile_is_the_least_value_that_this_share_is_not_above(share: float, value: float) -> None:
    assert percentile(range(1, 101), share) == value


def test_a_spread_is_median_least_and_most_and_shows_its_ends_where_they_differ() -> None:
    assert spread([3.0, 1.0, 2.0, 9.0, 2.5]) == (2.5, 1.0, 9.0)
    assert shown((1.5, 1.25, 2000.0)) == "1.50 (1.25-2,000.00)"
    assert shown((1.5, 1.5, 1.5), 1) == "1.5"


def test_ratios_are_taken_round_by_round() -> None:
    # A busy minute made the second round ten times slower for both.
    assert ratios([2.0, 20.0], [1.0, 10.0]) == (2.0, 2.0, 2.0)


def test_a_table_has_its_first_column_to_the_left_and_the_others_to_the_right() -> None:
    assert text_table(("who", "how many"), [("a long name", "1"), ("b", "22")]).split("\n") == [
        "who          how many",
        "---------------------",
        "a long name         1",
        "b                  22",
    ]


def test_a_terminal_shows_goals_reached_and_missed(capsys: pytest.CaptureFixture[str]) -> None:
    show("Speed", FINDINGS)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "Redis: backplane 150,000" in lines
    assert "the best other library >= 25 x 37.51 (30.00-41.26) reached" in lines
    assert "processor time <= 8 µs 9.25 MISSED" in lines


def result(rate: float, *, us: float = 3.0, lost: int = 0, late: int = 0) -> Result:
    return Result(events=1_000 + lost, seconds=1_000 / rate, sender_us=us, receiver_us=us + 1.5, lost=lost, late=late)


# The second round fell into a busy minute: all are slower by ten, and no ratio differs for it.
ROUNDS = [
    {
        "redis-bare": result(4_000 / slow),
        "redis-bare-64": result(8_000 / slow, late=3),
        "redis-loop-flat": result(300_000 / slow),
        "redis-interest": result(120_000 / slow, us=3.5),
        "redis-interest-sinks": result(150_000 / slow, us=2.5),
        "redis-interest-flat": result(150_000 / slow),
        "redis-flush-64": result(32_000 / slow),
        "litestar": result(3_000 / slow),
        "broadcaster": result(5_000 / slow, lost=2),
        "broadcaster-64": result(9_000 / slow),
    }
    for slow in (1, 10, 1)
]
NATS_ROUNDS = [
    {
        "nats-bare": result(100_000),
        "nats-bare-wildcard": result(200_000),
        "nats-interest-sinks": result(300_000),
        "nats-bare-flat": result(400_000),
        "nats-interest-flat": result(600_000),
    }
]


def test_throughput_is_held_against_the_best_and_in_ratios_of_one_round() -> None:
    found = findings(Figures(events=1_000, rounds={"redis": ROUNDS}))
    tasks = goal(found, "Redis, one by one, interest: the best other library (broadcaster)")
    assert (round(tasks.found), tasks.spread, tasks.reached) == (24, (tasks.found, tasks.found), False)
    sinks = goal(found, "Redis, one by one, interest, sinks: the best other library (broadcaster)")
    assert (round(sinks.found), sinks.reached) == (30, True)
    loop = "Redis, one cached target, a flat event: interest: the bare coalescing loop"
    plain, stretched = [goal for goal in found.goals if goal.what.startswith(loop)]
    assert (plain.found, plain.wanted, plain.reached) == (0.5, 0.4, True)
    assert (stretched.found, stretched.wanted, stretched.reached) == (0.5, 0.6, False)
    flush = goal(found, "Redis, publish + flush each, 64 publishers: bare redis-py")
    assert (round(flush.found, 2), flush.reached) == (4, False)
    sender = goal(found, "Redis, one by one, interest: processor time per event, sender")
    assert (sender.found, sender.wanted, sender.unit, sender.reached) == (3.5, 4.0, "µs", True)
    assert not goal(found, "Redis, one by one, interest: processor time per event, receiver").reached
    assert goal(found, "Redis, one by one, interest, sinks: processor time per event, receiver").reached
    assert len(found.goals) == 8, "a goal whose subjects took no part is left out"


def test_nats_is_held_against_the_faster_way_to_use_the_bare_client() -> None:
    found = findings(Figures(events=1_000, rounds={"nats": NATS_ROUNDS}))
    sinks = goal(found, "NATS, one by one, interest, sinks: bare nats-py")
    assert sinks.what.endswith("(bare nats-py, one subscription)")
    assert (sinks.found, sinks.wanted) == (1.5, 1.2)
    assert row(found, "NATS: backplane, interest, sinks")["x bare"] == "1.50"
    assert row(found, "NATS: one cached target, a flat event: backplane, interest, sinks")["x bare"] == "1.50"


def test_throughput_without_others_is_compared_with_nobody() -> None:
    alone = [{"redis-interest": results["redis-interest"]} for results in ROUNDS]
    found = findings(Figures(events=1_000, rounds={"redis": alone}))
    assert {goal.unit for goal in found.goals} == {"µs"}
    assert row(found, "Redis: backplane, interest")["x bare"] == "-"


def test_the_table_shows_medians_losses_and_the_bare_client_that_publishes_the_same_way() -> None:
    found = findings(Figures(events=1_000, rounds={"redis": ROUNDS}))
    flush = row(found, "Redis: backplane, publish + flush", "64")
    assert list(flush.values())[1:5] == ["yes", "32,000", "3,200-32,000", "4.00"]
    assert row(found, "Redis: backplane, interest", "1", "no", "120,000")["x bare"] == "30"
    assert row(found, "Redis: broadcaster", "1")["lost"] == "6 LOST"
    assert row(found, "Redis: bare redis-py", "64")["late"] == "9"
    assert found.rows[-1][0].startswith("Redis: one cached target, a flat event: ")
    assert [plot.key for plot in found.plots] == ["throughput-redis", "throughput-redis-64"]
    assert next(iter(found.plots[0].series)) == "backplane, interest, sinks", "flat events are on no plot"


def latency_run(*milliseconds: float, lost: int = 0) -> LatencyRun:
    return LatencyRun.of([one / 1_000 for one in milliseconds], lost=lost)


def test_a_latency_is_held_against_the_bare_client_by_medians_and_its_spread_by_rounds() -> None:
    runs = {
        "redis-bare": [latency_run(1, 2, 4), latency_run(1, 2, 2), latency_run(1, 4, 8)],
        "redis-broadcast": [latency_run(1, 3, 8), latency_run(1, 1, 2), latency_run(1, 4, 4, lost=2)],
        "redis-interest-sinks": [latency_run(1, 2, 4)] * 3,
    }
    found = Latency.findings(LatencyFigures(seconds=1, rate=500, runs={"redis": runs}))
    p50, p99 = (goal(found, f"Redis, broadcast, {name}") for name in ("p50", "p99"))
    assert (p50.found, p50.spread, p50.reached) == (1.5, (0.5, 1.5), False)
    assert (p99.found, p99.spread, p99.reached) == (1.0, (0.5, 2.0), True)
    assert row(found, "Redis: backplane, broadcast")["lost"] == "2 LOST"
    assert row(found, "Redis: backplane, interest, sinks")["lost"] == "0"
    points = found.plots[0].series["backplane, interest, sinks"]
    assert (points[0], points[-1]) == ((1, 0.1), (4, 99.9))


def fanout_run(cpu_us: float, held_ms: float) -> FanoutRun:
    return FanoutRun(deliveries=100, seconds=1.0, cpu_us=cpu_us, held_ms=held_ms, held_wall_ms=held_ms)


def test_a_loop_held_once_too_long_misses_its_goal_and_litestar_is_met_in_the_same_kind_of_bursts() -> None:
    def queues(way: Way, window: int) -> Case:
        return Case(way=way, members=1_000, window=window, windows=4)

    runs = {
        Case(way="raw", members=1_000, window=5, windows=4): [fanout_run(0.3, 1.0), fanout_run(0.5, 9.0)],
        queues("connection", 1): [fanout_run(1.0, 1.0), fanout_run(2.0, 1.0)],
        queues("litestar", 1): [fanout_run(4.0, 1.0), fanout_run(6.0, 1.0)],
        queues("connection", 25): [fanout_run(1.0, 1.0)] * 2,
        queues("litestar", 25): [fanout_run(2.0, 1.0)] * 2,
    }
    found = Fanout.findings(FanoutFigures(runs=list(runs.items())))
    cpu, held = (goal(found, f"one publish to 1,000 raw sinks, {what}") for what in ("processor", "the loop held"))
    assert (cpu.found, cpu.reached) == (0.4, True)
    assert (held.found, held.reached) == (9.0, False)
    one, burst = (goal(found, f"1,000 connection() queues, {title}, one of them") for title in BURSTS)
    assert (one.found, one.spread, one.reached) == (3.5, (3.0, 4.0), True)
    assert (burst.found, burst.reached) == (2.0, False)


def test_without_litestar_there_is_no_goal_against_it() -> None:
    case = Case(way="connection", members=1_000, window=1, windows=4)
    found = Fanout.findings(FanoutFigures(runs=[(case, [fanout_run(1.0, 1.0)])]))
    assert [goal.what.rpartition(", ")[2] for goal in found.goals] == ["the loop held for"]
    assert any("litestar is not installed" in note for note in found.notes)


def count(rss: float, traced: float) -> Count:
    return Count(rss=rss, traced=traced)


def test_memory_is_held_against_its_goal_by_the_larger_count() -> None:
    found = Memory.findings(
        MemoryFigures(
            connections=10,
            counts={
                "memory": {
                    "attach": count(2_048, 1_024),
                    "connection": count(1_024, 5_120),
                },
                "nats": {
                    "attach": count(2_048 + 4 * 3_072, 1_024 + 4 * 512),
                    "connection": count(4_096, 4_096),
                },
            },
        )
    )
    attach = goal(found, "idle connection by attach(), in memory")
    assert (attach.found, attach.spread, attach.reached) == (2.0, (1.0, 2.0), True)
    assert goal(found, "idle connection by connection(), in memory").reached is False
    subscription = goal(found, "one subscription, NATS")
    assert (subscription.found, subscription.spread, subscription.reached) == (3.0, (0.5, 3.0), False)


def test_a_fleets_growth_and_its_peer_are_shown_by_load() -> None:
    def runs(*microseconds: float, lost: int = 0) -> list[FleetRun]:
        return [FleetRun(pods_us=one - 1, publisher_us=1, broker_us=7, lost=lost) for one in microseconds]

    found = Fleet.findings(
        FleetFigures(
            loads=[Load(title="steady", events=10, rate=1, burst=1)],
            runs={
                "steady": {
                    "interest 1": runs(10, 20, 10),
                    "interest 32": runs(14, 40, 12),
                    "socketio 1": runs(100, 100, 100),
                    "socketio 32": runs(560, 2_400, 480, lost=1),
                }
            },
        )
    )
    growth, peer = goal(found, "steady: interest"), goal(found, "steady: 32 pods")
    assert (growth.found, growth.spread, growth.reached) == (1.4, (1.2, 2.0), True)
    assert (peer.found, peer.spread, peer.reached) == (40.0, (40.0, 60.0), False)
    assert row(found, "steady: python-socketio, 32 pods")["lost"] == "3 LOST"
    assert found.plots[0].series["backplane, interest"] == [(1, 10), (32, 14)]


def test_each_event_of_each_load_is_expected_by_one_pod() -> None:
    loads = [Load(title="steady", events=10, rate=1, burst=1), Load(title="bursts", events=21, rate=1, burst=4)]
    expected = [
        Part(way="interest", url="", channel="", pods=3, number=number, warmup=2, loads=loads).expected
        for number in range(3)
    ]
    # Bursts of 4 go to pods 0, 1, 2, 0, 1, and the last event to pod 2.
    assert expected == [[2, 6, 14], [2, 5, 13], [2, 5, 10]]


def test_an_operation_is_held_against_its_goal_and_msgspec_of_the_same_round() -> None:
    us = {
        "a new target": [0.5, 0.9, 1.0],
        "a recently used target": [0.2, 0.2, 0.2],
        "msgspec alone: the nested event": [0.5, 0.3, 0.5],
        "encoding the nested event": [1.0, 0.6, 1.0],
    }
    found = Micro.findings(MicroFigures(times=10, us=us))
    new = goal(found, "a new target")
    assert (new.found, new.spread, new.reached) == (0.9, (0.5, 1.0), False)
    assert goal(found, "a recently used target").reached
    assert row(found, "encoding the nested event")["x msgspec's encode"] == "2.00"


def test_samples_become_microseconds_by_part() -> None:
    loop = "<module> (workers/__main__.py:3);_run_once (asyncio/base_events.py:1)"
    publish = f"{loop};publish (backplane_core/base.py:9)"
    stacks = f"""\
{publish};encode_event (backplane_core/_protocol/json.py:1) 2
{publish};encode_event (backplane_core/_protocol/json.py:7) 1
<module> (workers/__main__.py:3);_find_and_load (<frozen importlib._bootstrap>:1) 50
{loop};connect (backplane_core/connect.py:3);_find_and_load (<frozen importlib._bootstrap>:1);wraps (functools.py:9) 60
_bootstrap (threading.py:3);run (concurrent/futures/thread.py:7) 70
{loop};send (backplane_nats/_link.py:4) 2
{loop};select (selectors.py:468) 3
"""
    samples = innermost(stacks)
    assert samples["encode_event (backplane_core/_protocol/json.py)"] == 3
    assert parts(samples, cpu_us=4.0) == {
        "encode and check JSON": 1.5,
        "event loop and socket": 1.5,
        "the adapter: bytes to frames and back": 1.0,
    }
