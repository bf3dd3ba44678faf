"""Pods as separate processes, and a worker that holds no connections."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from backplane_core import Publisher, SyncPublisher, Target
from backplane_testservers import Broker

from tests.product.pods.processes import pod_process

pytestmark = [pytest.mark.thorough, pytest.mark.diagonal]  # each starts processes


@pytest.fixture
def options(routing: str, channel: str) -> dict[str, Any]:
    return {"routing": routing, "channel": channel}


async def test_an_event_crosses_from_process_to_process_once_and_in_order(
    shared_broker: Broker, options: dict[str, Any]
) -> None:
    async with AsyncExitStack() as stack:
        one, two, three = [await stack.enter_async_context(pod_process(shared_broker.url, **options)) for _ in range(3)]
        for name, pod in (("c2", two), ("c3", three)):
            assert await pod.ask(do="attach", conn=name, targets=[["user", "u1"]]) == {"confirmed": True}
        events = [{"n": number} for number in range(2_000)]
        assert await one.ask(do="publish", target=["user", "u1"], events=events) == {"counts": [0] * 2_000}
        for name, pod in (("c2", two), ("c3", three)):
            assert [await pod.hear() for _ in events] == [{"conn": name, "event": event} for event in events]


async def test_a_worker_without_connections_reaches_the_pods(shared_broker: Broker, options: dict[str, Any]) -> None:
    async with pod_process(shared_broker.url, **options) as pod:
        assert await pod.ask(do="attach", conn="c1", targets=[["user", "u1"]]) == {"confirmed": True}
        async with Publisher(shared_broker.url, **options) as publisher:
            assert await publisher.publish(Target.user("u1"), "from a job") == 0
        assert await pod.hear() == {"conn": "c1", "event": "from a job"}

        def job() -> None:
            with SyncPublisher(shared_broker.url, **options) as publisher:
                assert publisher.publish([Target.user("u1"), Target.org("acme")], "from a thread") == 0

        await asyncio.to_thread(job)
        assert await pod.hear() == {"conn": "c1", "event": "from a thread"}
