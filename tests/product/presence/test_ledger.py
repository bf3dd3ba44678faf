"""Presence over real brokers: random joins, leaves, kills, restarts and cuts; and a restart that makes nobody leave."""

from __future__ import annotations

from contextlib import AsyncExitStack
from random import Random
from typing import Any

import pytest
from backplane_core import BaseBackplane, Target, connect
from backplane_testservers import OwnBroker

from tests.product.presence.ledger import Ledger, Reader
from tests.support.waiting import until

ROOM = Target("room", "42")


@pytest.fixture
def options(routing: str, channel: str) -> dict[str, Any]:
    return {
        "routing": routing,
        "channel": channel,
        "probe_interval_s": 0.5,
        "member_ttl_s": 2.0,
        "presence_linger_s": 0.3,
        "stale_after_s": 0,
    }


@pytest.fixture(params=["broadcast", "interest"])
def routing(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.timeout(1_800)
async def test_after_quiet_every_watcher_sees_the_truth_and_each_change_came_once(
    leaves_nothing: None, broker: OwnBroker, options: dict[str, Any], *, full: bool, long: bool
) -> None:
    ledger = Ledger(broker, options, Random(f"{options['routing']} {long}"))
    async with ledger.running():
        for _ in range(20 if long else 2):
            await ledger.play(1_000 if long else 400 if full else 150)
            await ledger.settle()
        assert [wrong for reader in ledger.readers for wrong in reader.wrong] == []
        assert len(ledger.faults) == 5
        steps = sum([reader.counts["PresenceJoined"] for reader in ledger.readers])
        skipped = sum([reader.counts["skipped"] for reader in ledger.readers])
        assert steps > 20
        assert skipped > 0


async def replaced(pod: BaseBackplane, links: int) -> None:
    await until(lambda: pod.stats().links >= links, "the link was replaced")


async def snapshots(reader: Reader, count: int) -> None:
    await until(lambda: reader.counts["skipped"] >= count, "a snapshot says that the link was")


@pytest.mark.parametrize("signing_keys", [None, [b"a key of thirty-two bytes or more"]], ids=["plain", "signed"])
async def test_a_restarted_broker_makes_nobody_leave_or_join(
    leaves_nothing: None, broker: OwnBroker, options: dict[str, Any], signing_keys: list[bytes] | None
) -> None:
    options["signing_keys"] = signing_keys
    async with AsyncExitStack() as stack:
        one, two, three = [await stack.enter_async_context(connect(broker.url, **options)) for _ in range(3)]
        for number in range(30):
            pod = (one, two, three)[number % 3]
            await pod.attach(f"c{number}", lambda _: None, presence=number)
            await pod.associate(f"c{number}", ROOM)
        reader = Reader(ROOM)
        reader.begin(one)
        stack.push_async_callback(reader.end)
        await until(lambda: len(reader.present) == 30, "all are present")
        reader.counts.clear()
        for number in range(2, 4):
            broker.restart()
            for pod in (one, two, three):
                await replaced(pod, number)
            await snapshots(reader, number - 1)
        await two.attach("late", lambda _: None, presence="late")
        await two.associate("late", ROOM)
        await until(lambda: "late" in reader.present, "what comes later is seen")
        assert len(reader.present) == 31
        assert (reader.counts["PresenceLeft"], reader.counts["PresenceJoined"]) in {(0, 1), (0, 0)}
        assert reader.wrong == []
