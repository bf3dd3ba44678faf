"""Each measurement still runs on a real broker and loses nothing of ours. No test asks how good its figures are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attrs import define
from backplane_testservers import Broker, Kind, OwnBroker

from bench.measures.broker import BrokerCost
from bench.measures.channels import Channels
from bench.measures.durable import Durable
from bench.measures.fanout import Case, Fanout
from bench.measures.fleet import Fleet
from bench.measures.interest import Interest
from bench.measures.latency import Latency, TimedSockets
from bench.measures.memory import Memory
from bench.measures.micro import Micro
from bench.measures.presence import Presence
from bench.measures.receiving import Receiving
from bench.measures.signing import Signing
from bench.measures.survey import Survey
from bench.measures.throughput import Throughput
from bench.subjects.lineup import ALL, SUBJECTS
from bench.workers.fanout import Way
from bench.workers.fleet import Load
from tests.project.bench.running import Silent, bench

EVENTS = 1_200
"""More than there are users."""


# The fixtures say what to do where there is no broker; the measurements start their own.
@pytest.fixture
def kind(broker: OwnBroker) -> Kind:
    return broker.kind


def throughput(kind: Kind, *keys: str) -> None:
    subjects = tuple(f"{kind}-{key}" for key in keys)
    [found] = Throughput(events=EVENTS, rounds=1, bus=kind, subjects=subjects).measure(Silent()).rounds[kind]
    assert sorted(found) == sorted(subjects)
    for key, result in found.items():
        assert result.rate > 0
        if SUBJECTS[key].part == "ours":
            assert (result.lost, result.late, result.copies) == (0, 0, 0)


def test_throughput_is_measured_and_nothing_is_lost(kind: Kind) -> None:
    throughput(kind, "interest")


@pytest.mark.only_full
@pytest.mark.slow
def test_all_of_ours_and_all_bare_subjects_finish(kind: Kind) -> None:
    throughput(
        kind, *[key.partition("-")[2] for key, one in SUBJECTS.items() if one.bus == kind and one.part != "peer"]
    )


def test_layers_of_django_channels_are_measured_side_by_side(redis_url: str) -> None:
    pytest.importorskip("channels_redis")
    figures = Channels(messages=100, rounds=1).measure(Silent())
    assert sorted(figures.by_layer) == ["default", "ours", "pubsub"]
    assert all(rates.to_fifty > 0 for rates in figures.by_layer.values())
    assert len(Channels.findings(figures).rows) == 3


def test_a_question_and_an_event_to_all_pods_are_measured(kind: Kind) -> None:
    figures = Survey(pods=3, times=5, rounds=2, bus=kind, ways=("count", "publish")).measure(Silent())
    for rounds in figures.by_bus[kind].values():
        assert len(rounds) == 2
        assert min([one.ms for one in rounds] + [one.cpu_us for one in rounds]) > 0
    question, event = Survey.findings(figures).rows
    assert question[1] == "3"
    assert question[-1].endswith("x")
    assert event[-1] == ""


def test_what_other_libraries_have_instead_of_a_question_is_measured(redis_server: OwnBroker) -> None:
    assert redis_server.running
    for name in ("channels_redis", "socketio"):
        pytest.importorskip(name)
    figures = Survey(pods=3, times=5, rounds=1, bus="redis", ways=("channels", "socketio")).measure(Silent())
    assert [row[1] for row in Survey.findings(figures).rows] == ["3", "1"]


def test_presence_is_measured(kind: Kind) -> None:
    figures = Presence(pods=2, present=20, joins=10, rounds=1, bus=kind, peers="no").measure(Silent())
    assert min(figures.by_bus[kind].snapshot_ms, figures.by_bus[kind].joins_per_s) > 0
    assert len(Presence.findings(figures).rows) == 1


def test_the_nearest_to_a_join_that_another_library_has_is_measured(redis_server: OwnBroker) -> None:
    assert redis_server.running
    pytest.importorskip("channels_redis")
    figures = Presence(pods=2, present=20, joins=10, rounds=1, bus="redis").measure(Silent())
    assert len(Presence.findings(figures).rows) == 2


def log_is_measured(kind: Kind) -> None:
    figures = Durable(events=EVENTS, rounds=1, seconds=0.1, clients=50, bus=kind).measure(Silent())
    for key, [result] in figures.results[kind].items():
        assert result.rate > 0
        if ALL[key].part != "peer":
            assert (result.lost, result.late, result.copies) == (0, 0, 0)
    assert all(run.lost == 0 for [run] in figures.runs[kind].values())
    assert figures.resume_s[0] > 0
    found = Durable.findings(figures)
    assert [goal.what for goal in found.goals][-1] == "50 clients come back, from memory"
    assert len(found.rows) == len(figures.results[kind]) + 1


def test_a_log_is_measured_and_nothing_is_lost(jetstream_server: OwnBroker) -> None:
    assert jetstream_server.running
    log_is_measured("nats")


@pytest.mark.only_full
@pytest.mark.slow
def test_a_log_is_measured_beside_the_streams_of_other_libraries(redis_server: OwnBroker) -> None:
    assert redis_server.running
    for name in ("channels_redis", "broadcaster", "litestar"):
        pytest.importorskip(name)
    log_is_measured("redis")


async def test_one_measurement_is_printed_and_written_with_what_it_ran_on(redis_url: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    code, out, _ = await bench("micro", "--quick", "--json", str(file))
    assert code == 0
    assert "a recently used target" in out
    assert "Only ratios within one run mean anything" in out
    written = json.loads(file.read_text())
    assert written["figures"]["times"] == Micro.quick["times"]
    assert {"processor", "memory", "Python", "Redis", "NATS", "libraries"} <= set(written["machine"])
    assert written["commit"]


@pytest.mark.slow
async def test_a_short_run_writes_a_page_and_the_next_keeps_its_sections(redis_url: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("micro", "signing"):
        code, _, err = await bench("--quick", "--only", name, "--into", str(tmp_path))
        if "is not installed" in err:
            pytest.skip("the libraries that we compare with are not installed")
        assert code == 0
    assert list(json.loads((tmp_path / "benchmarks/figures.json").read_text())) == ["micro", "signing"]
    page = (tmp_path / "benchmarks.md").read_text()
    assert page.index("## What single operations cost") < page.index("## What signing costs")


def test_latency_is_measured_and_nothing_is_lost(redis_server: OwnBroker) -> None:
    assert redis_server.running
    found = Latency(rounds=1, seconds=0.1, bus="redis", subjects=("interest",)).measure(Silent())
    assert list(found.runs["redis"]) == ["redis-bare", "redis-interest"]
    for [run] in found.runs["redis"].values():
        assert run.lost == 0
        assert 0 < run.percentiles_ms[0] <= run.percentiles_ms[-1]


def test_the_warm_up_is_no_part_of_a_latency_and_a_copy_is_noticed() -> None:
    sockets = TimedSockets(3)
    for data in (b'{"n":1}', '{"n": 2}'):
        sockets.take(data)
    [came] = sockets.came_at(range(2, 3))
    assert came == sockets.times[1]
    assert not sockets.complete.is_set()
    assert sockets.came_at(range(2, 4))[1] is None, "the next one has not come"
    sockets.take(b'{"n":2}')
    assert sockets.complete.is_set()
    with pytest.raises(AssertionError, match="twice"):
        sockets.came_at(range(2, 3))


@define
class SmallFanout:
    way: Way

    def measure(self) -> None:
        case = Case(way=self.way, members=20, window=3, windows=4)
        [(_, [run])] = Fanout(rounds=1).measure_cases(Silent(), [case]).runs
        # Of the queues one is not read.
        assert run.deliveries == 3 * 4 * (19 if self.way == "connection" else 20)
        assert min(run.cpu_us, run.held_ms, run.held_wall_ms) > 0


def test_fan_out_is_measured_by_queues(redis_server: OwnBroker) -> None:
    assert redis_server.running
    SmallFanout("connection").measure()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["loop", "raw", "value"])
def test_fan_out_is_measured_by_sinks(way: Way, redis_server: OwnBroker) -> None:
    assert redis_server.running
    SmallFanout(way).measure()


class SmallFleet(Fleet):
    loads = Load(title="steady", events=20, rate=500, burst=1), Load(title="bursts", events=32, rate=1_000, burst=8)


def test_the_fleet_is_measured_and_nothing_is_lost(redis_server: OwnBroker) -> None:
    assert redis_server.running
    found = SmallFleet(rounds=1, pods=(2,), ways=("interest",)).measure(Silent())
    for load in SmallFleet.loads:
        [run] = found.runs[load.title]["interest 2"]
        assert run.lost == 0
        assert min(run.pods_us, run.publisher_us, run.broker_us) > 0


@pytest.mark.only_full
@pytest.mark.slow
def test_a_fleet_of_each_routing_is_measured(redis_server: OwnBroker) -> None:
    assert redis_server.running
    found = SmallFleet(rounds=1, pods=(1, 2), ways=("interest", "broadcast")).measure(Silent())
    assert {run.lost for runs in found.runs.values() for [run] in runs.values()} == {0}


@pytest.mark.only_full
@pytest.mark.slow
def test_memory_is_counted_in_memory_and_with_subscriptions(kind: Kind) -> None:
    counts = Memory(connections=200, bus=kind).measure(Silent()).counts
    assert list(counts) == ["memory", kind]
    for way in counts[kind]:
        # Three targets, their index and an entry are no less; subscriptions come on top.
        assert 300 < counts["memory"][way].traced < counts[kind][way].traced
    assert counts["memory"]["attach"].traced < counts["memory"]["connection"].traced


@pytest.mark.only_full
@pytest.mark.slow
def test_a_pods_interest_after_a_cut_is_measured(kind: Kind) -> None:
    targets = 800
    [cut] = Interest(targets=targets, rounds=1, bus=kind).measure(Silent()).cuts[kind]
    assert cut.seconds > cut.cpu_seconds > 0


@pytest.mark.only_full
@pytest.mark.slow
def test_events_subscriptions_and_beats_of_the_broker_are_measured(shared_redis: Broker, shared_nats: Broker) -> None:
    for found in BrokerCost.sized(quick=True).measure(Silent()).brokers.values():
        assert found.beat_us > 0
        assert all(len(times) == 1 for by_readers in found.per_event_us.values() for times in by_readers.values())


def test_signing_is_measured() -> None:
    found = Signing(events=100, rounds=1).measure(Silent())
    assert min([*found.plain_us, *found.signed_us]) > 0


def test_what_a_receiver_does_is_measured_by_sinks_and_by_connections() -> None:
    found = Receiving(batch=50, batches=2).measure(Silent())
    assert [len(us) for us in found.us.values()] == [2, 2, 2]
    assert min([one for us in found.us.values() for one in us]) > 0
