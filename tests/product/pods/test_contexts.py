"""Which context variables a host's code sees when it gets an event, a gap, or the order to close."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, copy_context
from functools import partial

from backplane_core import BaseBackplane, Target

from tests.support.fleets import Fleet, MemoryFleet
from tests.support.waiting import until

USER = Target.user("u1")

whose: ContextVar[str] = ContextVar("whose", default="nobody's")


async def called_by(name: str, call: Callable[[], Awaitable[object]]) -> None:
    """Make a call in a task with a context of its own, as each request of a server has one."""

    async def run() -> None:
        whose.set(name)
        await call()

    await asyncio.create_task(run())


class Seen(list[tuple[str, object]]):
    """What came, and whose context it came in."""

    def take(self, what: object) -> None:
        self.append((whose.get(), what))


async def attach(pod: BaseBackplane, plain: Seen, bound: Seen) -> None:
    await pod.attach("plain", plain.take, on_gap=plain.take, on_close=plain.take)
    context = copy_context()
    await pod.attach("bound", lambda event: context.run(bound.take, event))
    await pod.associate("plain", USER)
    await pod.associate("bound", USER)


async def test_a_sink_sees_the_publisher_s_context_or_that_of_who_opened_the_backplane(fleet: Fleet) -> None:
    whose.set("opener")
    here, there = await fleet.pod(), await fleet.pod()
    plain, bound = Seen(), Seen()
    await called_by("attacher", partial(attach, here, plain, bound))
    await called_by("publisher", partial(here.publish, USER, "local"))
    await called_by("publisher", partial(there.publish, USER, "remote"))
    await until(lambda: len(plain) == len(bound) == 2, "both connections have both events")
    assert plain == [("publisher", "local"), ("opener", "remote")]
    assert bound == [("attacher", "local"), ("attacher", "remote")]
    assert whose.get() == "opener", "nothing leaks out of what a sink runs in"


async def test_a_sink_sees_the_context_of_the_thread_that_publishes(fleet: Fleet) -> None:
    pod = await fleet.pod()
    plain, bound = Seen(), Seen()
    await called_by("attacher", partial(attach, pod, plain, bound))

    def publish() -> None:
        whose.set("thread")
        pod.publish_threadsafe(USER, "x").result()

    await asyncio.to_thread(publish)
    assert plain == [("thread", "x")]
    assert bound == [("attacher", "x")]


async def test_who_iterates_a_connection_sees_its_own_context(fleet: Fleet) -> None:
    here, there = await fleet.pod(), await fleet.pod()
    seen = Seen()

    async def consume() -> None:
        async with here.connection(None, USER) as connection:
            entered.set()
            async for event in connection:
                seen.take(event.value)
                if event.value == "remote":
                    return

    entered = asyncio.Event()
    consuming = asyncio.create_task(called_by("consumer", consume))
    await entered.wait()
    await called_by("publisher", partial(here.publish, USER, "local"))
    await called_by("publisher", partial(there.publish, USER, "remote"))
    await consuming
    assert seen == [("consumer", "local"), ("consumer", "remote")]


async def test_an_order_to_close_comes_in_the_context_of_who_gives_it_or_opened_the_backplane(fleet: Fleet) -> None:
    whose.set("opener")
    here, there = await fleet.pod(), await fleet.pod()
    for pod, whose_it_is in ((here, "closer"), (there, "opener")):
        plain = Seen()
        await called_by("attacher", partial(attach, here, plain, Seen()))
        await called_by("closer", partial(pod.fleet.close, USER, code=4001, timeout_s=30))
        await until(partial(len, plain), "the order came")
        assert [context for context, _ in plain] == [whose_it_is]


async def test_a_gap_comes_in_the_context_of_who_opened_the_backplane() -> None:
    whose.set("opener")
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.pod()
        plain = Seen()
        await called_by("attacher", partial(attach, pod, plain, Seen()))
        fleet.broker.drop_links()
        await until(partial(len, plain), "the gap of the lost link")
        assert [context for context, _ in plain] == ["opener"]
