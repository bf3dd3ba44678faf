"""A broker killed and restarted under load: publish keeps returning, the fleet heals, every loss lies inside a Gap."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import pytest
from attrs import define, field
from backplane_core import BaseBackplane, Gap, Target, connect

from tests.brokers import OwnBroker
from tests.pods.fleet import until

KILLS = 3
WAY_S = 0.05


@define
class Ledger:
    """What one publisher published when, and what one socket got."""

    published: dict[int, float] = field(factory=dict[int, float])
    got: list[int] = field(factory=list[int])
    gaps: list[Gap] = field(factory=list[Gap])

    async def more(self, count: int, what: str) -> None:
        """Wait for so many more events."""
        goal = len(self.got) + count
        await until(lambda: len(self.got) > goal, what)

    def unexplained(self) -> list[int]:
        """Missing events that lie in no gap. The margin is what an event takes on its way."""
        missing = set(self.published) - set(self.got)
        return sorted(
            number
            for number in missing
            if not any(gap.since - WAY_S <= self.published[number] <= gap.until + WAY_S for gap in self.gaps)
        )


def is_live_again(here: BaseBackplane, there: BaseBackplane, links: int) -> bool:
    return here.state == "live" and there.stats().links > links


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_a_killed_broker_costs_nothing_but_what_a_gap_tells(
    leaves_nothing: None, broker: OwnBroker, routing: str, channel: str
) -> None:
    async with (
        connect(broker.url, routing=routing, channel=channel) as here,
        connect(broker.url, routing=routing, channel=channel, beat_s=0.05) as there,
    ):
        ledger = Ledger()
        local: list[int] = []
        outages: list[Gap] = []
        there.on_gap = outages.append
        await there.attach("remote", ledger.got.append, on_gap=ledger.gaps.append)
        assert await there.associate("remote", Target.user("u1"))
        await here.attach("local", local.append)
        assert await here.associate("local", Target.user("u1"))

        async with asyncio.TaskGroup() as group:
            group.create_task(publish_until_stopped(here, ledger, stop := asyncio.Event()))
            for kill in range(KILLS):
                await ledger.more(200, "traffic before the kill")
                links = there.stats().links
                broker.kill()
                await until(lambda: here.state == there.state == "degraded", "both pods notice")
                broker.restart()
                await until(partial(is_live_again, here, there, links), "live again", 5)
                assert len(outages) == kill + 1, "one gap per outage"
            await ledger.more(50, "traffic after the last restart")
            stop.set()
        await here.flush(10)
        await until(lambda: max(ledger.published) in ledger.got, "the last event")
        # A connection hears of gaps at most once a second, merged.
        await until(lambda: ledger.gaps[-1].until == outages[-1].until, "the last gap at the connection")

        assert local == list(ledger.published), "local delivery is complete and in order"
        assert ledger.got == sorted(set(ledger.got)), "nothing twice, nothing out of order"
        outside = [
            number
            for number, at in ledger.published.items()
            if not any(gap.since - WAY_S <= at <= gap.until + WAY_S for gap in ledger.gaps)
        ]
        assert len(outside) > 100, "the gaps are short enough to mean something"
        assert ledger.unexplained() == []
        assert here.stats().dropped == {}
        assert {gap.cause for gap in outages} == {"reconnect"}


async def publish_until_stopped(pod: BaseBackplane, ledger: Ledger, stop: asyncio.Event) -> None:
    number = 0
    while not stop.is_set():
        ledger.published[number] = time.time()
        assert await pod.publish(Target.user("u1"), number) == 1
        number += 1
        await asyncio.sleep(0.001)


async def test_an_association_made_while_the_broker_is_away_is_confirmed_later_with_a_gap(
    leaves_nothing: None, broker: OwnBroker, channel: str
) -> None:
    async with (
        connect(broker.url, routing="interest", channel=channel) as here,
        connect(broker.url, routing="interest", channel=channel) as there,
    ):
        broker.kill()
        await until(lambda: here.state == there.state == "degraded", "both pods notice")
        got: list[str] = []
        gaps: list[Gap] = []
        before = time.time()
        await there.attach("c1", got.append, on_gap=gaps.append)
        assert await there.associate("c1", Target.user("u1")) is False
        broker.restart()
        await until(lambda: here.state == there.state == "live", "live again")
        assert [gap.cause for gap in gaps] == ["reconnect"]
        assert before <= gaps[0].since <= gaps[0].until <= time.time()
        await here.publish(Target.user("u1"), "after")
        await until(lambda: got == ["after"], "the event after the restart")


async def test_what_a_long_outage_does_not_leave_room_for_is_counted_and_a_hole_for_the_others(
    broker: OwnBroker, channel: str
) -> None:
    async with (
        connect(broker.url, channel=channel, outbox_max_messages=100) as here,
        connect(broker.url, channel=channel) as there,
    ):
        got: list[int] = []
        await there.attach("c1", got.append)
        await there.associate("c1", Target.user("u1"))
        await here.publish(Target.user("u1"), -1)
        await until(lambda: got == [-1], "traffic before the kill")
        broker.kill()
        await until(lambda: here.state == there.state == "degraded", "both pods notice")
        waiting = here.stats().outbox_messages
        for number in range(150):
            await here.publish(Target.user("u1"), number)
        refused = 150 - (100 - waiting)
        assert here.stats().dropped == {"outbox": refused}
        broker.restart()
        await until(lambda: here.state == there.state == "live", "live again")
        await here.flush(10)
        await here.publish(Target.user("u1"), 1_000)
        await until(lambda: bool(got) and got[-1] == 1_000, "the event after the outage")
        kept = list(range(150 - refused))
        assert got[1:-1] == kept[len(kept) - len(got[1:-1]) :], (
            "what was kept arrives in order, but for a head inside the gap"
        )
