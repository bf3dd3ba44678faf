"""The loop of the model: its clock jumps, its runs end, and whoever waits for ever is told of it."""

from __future__ import annotations

import asyncio

import pytest

from tests.product.model.virtual_loop import TICKS_PER_S, Deadlock, VirtualLoop, on_tick, run


def test_hours_pass_at_once_and_timers_run_in_order_at_their_time() -> None:
    loop = VirtualLoop()
    fired: list[tuple[str, float]] = []

    def fire(name: str) -> None:
        fired.append((name, loop.time()))

    async def main() -> str:
        for name, delay in [("late", 7200.0), ("early", 0.3), ("middle", 60.0)]:
            loop.call_later(delay, fire, name)
        await asyncio.sleep(10_000)
        return "done"

    assert run(loop, main()) == "done"
    assert fired == [("early", on_tick(0.3)), ("middle", 60.0), ("late", 7200.0)]
    assert loop.time() == 10_000


def test_moments_are_whole_ticks_so_that_differences_are_exact() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        for _ in range(1_000):
            await asyncio.sleep(0.1)
            assert (loop.time() * TICKS_PER_S).is_integer()

    run(loop, main())


def test_a_busy_loop_runs_its_timers_late() -> None:
    loop = VirtualLoop()

    async def main() -> float:
        timer = asyncio.ensure_future(asyncio.sleep(1))
        await asyncio.sleep(0)
        loop.spend(5)
        await timer
        return loop.time()

    assert run(loop, main()) == 5


def test_a_deadline_that_nobody_meets_passes_and_without_one_it_is_a_deadlock() -> None:
    async def bounded() -> None:
        async with asyncio.timeout(5):
            await asyncio.get_running_loop().create_future()

    async def unbounded() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(TimeoutError):
        run(VirtualLoop(), bounded())
    with pytest.raises(Deadlock):
        run(VirtualLoop(), unbounded())
