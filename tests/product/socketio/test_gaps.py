"""A broker that goes away ends no server, and what may be missing is reported: to the app, and to the clients."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from backplane_core import Gap
from backplane_socketio import AsyncBackplaneManager, BackplaneManager
from backplane_testservers import OwnBroker

from tests.product.socketio.servers import sites, talking
from tests.product.socketio.test_manager import listening
from tests.support.waiting import DEADLINE_S, until, wait_until


async def test_a_killed_broker_is_a_gap_for_app_and_clients_and_service_resumes(
    broker: OwnBroker, routing: str, channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    gaps: list[Gap] = []

    def make(**options: Any) -> AsyncBackplaneManager:
        return AsyncBackplaneManager(broker.url, channel, by_room=routing == "interest", **options)

    manager = make(gap_event="reload", on_gap=gaps.append)
    async with (
        sites(make(), manager) as (here, there),
        talking(here, room="a"),
        talking(there, "said", "reload", room="a") as far,
    ):
        await here.server.emit("said", 1, room="a")
        await far.has(("said", 1))
        broker.kill()
        for number in range(2, 20):
            await there.server.emit("said", number, room="a")  # its own clients get it at once
        await far.has(*[("said", number) for number in range(2, 20)])
        broker.start()
        await until(lambda: gaps, "a gap")
        await until(lambda: any(event[0] == "reload" for event in far.got), "its event")
        reload = next(event for event in far.got if event[0] == "reload")
        assert set(reload[1]) == {"since", "until", "missed"}
        assert manager.gaps == len(gaps)
        await until(lambda: here.manager.gaps, "a gap of the other server, too")
        far.got.clear()
        await asyncio.wait_for(here.manager.open(), DEADLINE_S)
        await here.server.emit("said", "end", room="a")
        await until(lambda: ("said", "end") in far.got, "service to resume")
    assert "may be missing" in caplog.text
    assert "listening thread" not in caplog.text


async def test_an_app_whose_callback_raises_goes_on(
    broker: OwnBroker, channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    raised = asyncio.Event()

    def on_gap(_: Gap) -> None:
        raised.set()
        raise ValueError

    manager = AsyncBackplaneManager(broker.url, channel, on_gap=on_gap)
    async with sites(AsyncBackplaneManager(broker.url, channel), manager) as (here, there), talking(there) as far:
        broker.kill()
        await until(lambda: not there.manager.ready(), "the server to notice")
        broker.start()
        await asyncio.wait_for(raised.wait(), DEADLINE_S)
        await here.server.emit("said", "end")
        await far.has(("said", "end"))
    assert "reporting a gap failed" in caplog.text


def test_a_server_in_threads_survives_it_too(broker: OwnBroker, routing: str, channel: str) -> None:
    gaps: list[Gap] = []

    def make(**options: Any) -> BackplaneManager:
        return BackplaneManager(broker.url, channel, by_room=routing == "interest", **options)

    with listening(make(), make(gap_event="reload", on_gap=gaps.append)) as (here, there):
        there.client("far", "a")
        broker.kill()
        there.server.emit("said", 1, room="a")
        there.has(("far", ["said", 1]))
        broker.start()
        wait_until(lambda: gaps, lambda: "no gap")
        wait_until(lambda: any(sent[1][0] == "reload" for sent in there.sent), lambda: f"{there.sent}")
        there.sent.clear()
        here.server.emit("said", "end", room="a")
        wait_until(lambda: ("far", ["said", "end"]) in there.sent, lambda: f"{there.sent}")


async def test_a_start_without_gaps_reports_none(
    make: Callable[..., AsyncBackplaneManager], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with sites(make(), make()) as (here, there), talking(there) as far:
        await here.server.emit("said", 1)
        await far.has(("said", 1))
        assert (here.manager.gaps, there.manager.gaps) == (0, 0)
    assert not caplog.records
