"""Faults of a link over RESP2: all that a single connection survives, and each of the two hurt by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from attrs import define
from backplane_redis._connection import LinkConnection
from backplane_redis._greeting import RESP2
from backplane_redis._opening import Connector
from backplane_redis._url import Address
from backplane_testservers import Proxy, RedisServer

from tests.conftest import StartServer
from tests.product.faults.rig import Pod, Rig
from tests.product.faults.test_broker_frozen import (
    test_a_frozen_broker_is_found_and_nothing_arrives_twice_when_it_thaws,
    test_an_idle_pod_notices_too,
)
from tests.product.faults.test_broker_killed import (
    test_a_killed_broker_costs_nothing_but_what_a_gap_tells,
    test_an_association_made_while_the_broker_is_away_is_confirmed_later_with_a_gap,
)
from tests.product.faults.test_one_way import (
    probing,
    test_a_deaf_pod_replaces_its_link,
    test_a_half_open_line_is_found_and_replaced,
    test_a_stalled_pod_sends_again_what_was_swallowed,
)
from tests.support.waiting import until

__all__ = [
    "probing",
    "test_a_deaf_pod_replaces_its_link",
    "test_a_frozen_broker_is_found_and_nothing_arrives_twice_when_it_thaws",
    "test_a_half_open_line_is_found_and_replaced",
    "test_a_killed_broker_costs_nothing_but_what_a_gap_tells",
    "test_a_stalled_pod_sends_again_what_was_swallowed",
    "test_an_association_made_while_the_broker_is_away_is_confirmed_later_with_a_gap",
    "test_an_idle_pod_notices_too",
]


@pytest.fixture
def broker(start: StartServer) -> RedisServer:
    """In place of every broker: Redis, spoken to in RESP2."""
    return start(RedisServer(query="protocol=2"))


@define
class Lines:
    """A line of its own for each of the two connections of one pod."""

    publishing: Proxy
    subscribed: Proxy


@pytest.fixture
def lines(broker: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    with ExitStack() as stack:
        one, other = [stack.enter_context(Proxy(broker.host, broker.port)) for _ in range(2)]

        class ByTwoLines(Connector):
            async def open(
                self, address: Address | None = None, *, peer: str = "Redis", protocol: int | None = None
            ) -> LinkConnection:
                if address is not None and address[1] == one.port and protocol == RESP2:
                    address = (other.host, other.port)
                return await super().open(address, peer=peer, protocol=protocol)

        monkeypatch.setattr("backplane_redis.transport.Connector", ByTwoLines)
        yield Lines(one, other)


def cut(line: Proxy) -> None:
    assert line.reset() == 1


def half_open(line: Proxy) -> None:
    line.up.drop()
    line.down.drop()


def deaf(line: Proxy) -> None:
    line.down.drop()


def mute(line: Proxy) -> None:
    line.up.drop()


HURTS: dict[str, tuple[str, Callable[[Proxy], None]]] = {
    "publishing is cut": ("publishing", cut),
    "publishing is half-open": ("publishing", half_open),
    "publishing hears no answer": ("publishing", deaf),
    "publishing is not heard": ("publishing", mute),
    "subscribed is cut": ("subscribed", cut),
    "subscribed is half-open": ("subscribed", half_open),
    "subscribed hears nothing": ("subscribed", deaf),
}


@pytest.mark.parametrize(("which", "hurt"), HURTS.values(), ids=HURTS.keys())
async def test_a_hurt_to_either_connection_alone_is_found_and_costs_what_a_gap_tells(
    rig: Rig, lines: Lines, which: str, hurt: Callable[[Proxy], None]
) -> None:
    rig.options["probe_interval_s"] = 1.0
    line: Proxy = getattr(lines, which)
    here, there = await rig.pod(), await rig.pod(lines.publishing)
    for pod in (here, there):
        await rig.sockets(pod, 5)
    assert (lines.publishing.connections, lines.subscribed.connections) == (1, 1)
    async with rig.traffic(here, there):
        await rig.more(50, "traffic before it is hurt")
        hurt(line)
        await until(lambda: there.links == 2 or there.is_degraded, "the pod notices", 20)
        if hurt is not cut:
            assert line.up.dropped_bytes + line.down.dropped_bytes, "it was hurt while it was used"
        line.heal()
        await rig.all_live()
        await rig.more(50, "traffic after it healed")
    await rig.settle()
    rig.ledger.assert_clean()
    assert (here.links, there.links) == (1, 2)
    assert reconnects(here) == 0
    assert reconnects(there) == 1


def reconnects(pod: Pod) -> int:
    return sum(gap.cause == "reconnect" for gap in pod.gaps)
