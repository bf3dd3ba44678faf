"""A random fleet over a real broker that is hurt: each event comes once and in order, or a gap or a counter says so.

A run that fails says how to replay it, what happened in it, and what is wrong. For more than a few runs:
`uv run python -m tests.product.ledger --long`.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Final

import pytest
from attrs import evolve
from backplane_testservers import BrokerUnavailable
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import skip_or_fail
from tests.product.ledger.buses import BUS_NAMES, REPLICATED, SINGLE, BusName, start_bus
from tests.product.ledger.campaign import describe, play_seed
from tests.product.ledger.faults import KINDS
from tests.product.ledger.faults.base import Fault, HurtWorld
from tests.product.ledger.faults.line import HalfOpen
from tests.product.ledger.plan import draw
from tests.product.ledger.world import play

SEEDS: Final = 8
SEEDS_FULL: Final = 120
"""CI plays so many, which takes some three minutes on two cores."""
RUNS_EACH: Final = 2
"""Seeds in one test: some ten seconds, so that workers share them evenly."""
REPLICATED_SEEDS: Final = 2
REPLICATED_SEEDS_FULL: Final = 10
"""Over each log with replicas, which no seed draws by itself: a failover takes some seconds of waiting."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "replicated_seed" in metafunc.fixturenames:
        metafunc.parametrize("replicated_seed", marked(REPLICATED_SEEDS, REPLICATED_SEEDS_FULL))
    if "first_seed" in metafunc.fixturenames:
        metafunc.parametrize("first_seed", marked(SEEDS, SEEDS_FULL, RUNS_EACH))


def marked(default: int, full: int, step: int = 1) -> list[Any]:
    """Return seeds: those that are always played, and marked those that only `--full` plays."""
    return [
        *range(0, default, step),
        *(pytest.param(seed, marks=pytest.mark.only_full) for seed in range(default, full, step)),
    ]


@pytest.mark.timeout(600)
def test_whatever_is_hurt_each_event_comes_once_and_in_order_or_a_gap_or_a_counter_says_so(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + RUNS_EACH):
        try:
            result = play_seed(seed)
        except BrokerUnavailable as error:
            skip_or_fail(error)
        assert not result.problems, result.report


@pytest.mark.timeout(600)
@pytest.mark.parametrize("bus", sorted(REPLICATED))
def test_whichever_node_takes_over_a_log_each_event_comes_once_in_order_and_without_a_gap(
    bus: BusName, replicated_seed: int
) -> None:
    try:
        result = play_seed(replicated_seed, bus)
    except BrokerUnavailable as error:
        skip_or_fail(error)
    assert not result.problems, result.report


@given(seed=st.integers(min_value=0, max_value=2**40), bus=st.sampled_from([None, *BUS_NAMES]))
def test_a_seed_is_one_plan_and_its_faults_can_happen_there(seed: int, bus: BusName | None) -> None:
    plan = draw(seed, bus)
    assert plan == draw(seed, bus)
    assert plan.faults
    for fault in plan.faults:
        assert plan.bus in fault.buses
        assert 0 <= fault.at_s <= plan.run_s


def test_a_plan_is_cut_down_by_one_thing_at_a_time() -> None:
    plan = draw(1005, "nats")
    sizes = [len(one.faults) + len(one.senders) + sum([len(pod.habits) for pod in one.pods]) for one in plan.smaller()]
    whole = len(plan.faults) + len(plan.senders) + sum([len(pod.habits) for pod in plan.pods])
    assert sizes == [whole - 1] * whole


def test_every_kind_of_fault_and_every_broker_is_drawn() -> None:
    plans = [draw(seed) for seed in range(1_000)]
    asked = [draw(seed, bus) for seed in range(100) for bus in REPLICATED]
    assert {type(fault) for plan in (*plans, *asked) for fault in plan.faults} == set(KINDS)
    assert {plan.bus for plan in plans} == set(BUS_NAMES) - REPLICATED, (
        "each is drawn but those with a test of their own"
    )


@pytest.mark.parametrize("bus", sorted(SINGLE))
def test_a_fault_that_was_not_seen_to_happen_fails_the_run(bus: BusName) -> None:
    class Harmless(Fault):
        """It hurts nothing, and says nothing."""

        @property
        def place(self) -> str:
            return "nowhere"

        async def happen(self, world: HurtWorld) -> None:
            del world

    plan = evolve(draw(1, bus), faults=[Harmless(at_s=0, for_s=0)])
    try:
        with start_bus(bus) as server:
            outcome = asyncio.run(play(plan, server))
    except BrokerUnavailable as error:
        skip_or_fail(error)
    assert "was not seen" in describe(outcome)
    assert f"python -m tests.product.ledger {plan.seed} --bus {bus}" in describe(outcome)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("bus", ["nats", "redis"])
def test_an_uplink_that_is_half_open_while_more_is_published_than_it_takes_loses_nothing_in_silence(
    bus: BusName,
) -> None:
    """The outbox is full all the time: beats and questions need room of their own, or the pod never knows."""
    drawn = draw(1_012, bus)
    options = {"outbox_max_messages": 5, "outbox_max_bytes": 4_096}
    crowded = evolve(drawn.pods[0], rate_per_s=600, slow_s=0, options={**options, "outbox_overflow": "drop_oldest"})
    plan = evolve(
        drawn,
        pods=[crowded, *drawn.pods[1:]],
        faults=[HalfOpen(at_s=at_s, for_s=0.5, pod=0, way="up") for at_s in (0.3, 2.0)],
        padding=1_000,
        run_s=3.0,
    )
    try:
        with start_bus(bus) as server:
            outcome = asyncio.run(play(plan, server))
    except BrokerUnavailable as error:
        skip_or_fail(error)
    assert not describe(outcome)


def test_actors_decide_by_chance_of_their_own() -> None:
    plan = draw(1)
    assert plan.random("a").random() == plan.random("a").random() != plan.random("b").random()
    assert isinstance(plan.random("a"), Random)
