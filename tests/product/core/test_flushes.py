"""Flushes that have a time limit share one timer, and each is refused at its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from backplane_core._outbound.flushes import Flush, Flushes
from backplane_core._runtime.waking import WakeQueue


class Timers:
    """The timers that the loop was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.armed: list[asyncio.TimerHandle] = []
        loop = asyncio.get_running_loop()
        call_at = loop.call_at

        def record(*args: Any, **kwargs: Any) -> asyncio.TimerHandle:
            self.armed.append(call_at(*args, **kwargs))
            return self.armed[-1]

        monkeypatch.setattr(loop, "call_at", record)


async def test_flushes_at_once_share_one_timer_and_leave_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    timers, flushes, queue = Timers(monkeypatch), Flushes(), WakeQueue()
    for _ in range(10):
        waiting = [Flush(queue) for _ in range(64)]
        for flush in waiting:
            flushes.begin(flush, 60)
        for flush in waiting:
            flushes.end(flush)
    assert len(timers.armed) == 10
    assert all(timer.cancelled() for timer in timers.armed)


@pytest.mark.parametrize("limits_ms", [(10, 20, 30), (30, 20, 10), (20, 10, 30), (10, 10, 10), (0, 20, 0)])
async def test_each_is_refused_at_its_own_limit_in_whatever_order_they_came(limits_ms: tuple[int, ...]) -> None:
    flushes, queue = Flushes(), WakeQueue()
    refused: list[int] = []

    async def wait(number: int) -> None:
        flush = Flush(queue)
        flushes.begin(flush, limits_ms[number] / 1_000)
        assert not await flush
        assert asyncio.get_running_loop().time() >= flush.due - 0.001, "not before its time"
        flushes.end(flush)
        refused.append(number)

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for number in range(len(limits_ms)):
            group.create_task(wait(number))
    assert refused == sorted(range(len(limits_ms)), key=lambda number: limits_ms[number])


async def test_one_that_ended_is_not_refused_and_the_others_still_are(monkeypatch: pytest.MonkeyPatch) -> None:
    timers, flushes, queue = Timers(monkeypatch), Flushes(), WakeQueue()
    ended, late = Flush(queue), Flush(queue)
    flushes.begin(ended, 0.01)
    flushes.begin(late, 0.02)
    flushes.end(ended)
    async with asyncio.timeout(30):
        assert not await late
    assert ended.value is None
    flushes.end(late)
    assert all(timer.cancelled() or timer.when() <= late.due for timer in timers.armed)
