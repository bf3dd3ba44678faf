"""From `publish` to the sinks of this pod: what each one gets, and that no one harms another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from backplane_core import (
    BaseBackplane,
    EventEncodeError,
    InvalidTargetError,
    ReentrantPublishError,
    SinkFailed,
    Target,
)

from tests.support.inside import detach_now
from tests.support.sockets import attach_user

USER = Target.user("u1")


async def test_each_sink_gets_a_value_of_its_own(backplane: BaseBackplane) -> None:
    def spoil(event: Any) -> None:
        event["list"].append("spoilt")

    got: list[Any] = []
    await attach_user(backplane, "c1", spoil)
    await attach_user(backplane, "c2", got.append)
    event = {"list": (1, 2)}
    assert await backplane.publish(USER, event) == 2
    assert got == [{"list": [1, 2]}]
    assert event == {"list": (1, 2)}


async def test_raw_sinks_share_the_bytes_of_one_encoding(backplane: BaseBackplane) -> None:
    got: list[bytes] = []
    await attach_user(backplane, "c1", got.append, raw=True)
    await attach_user(backplane, "c2", got.append, raw=True)
    assert await backplane.publish(USER, {"text": "ü\r\n"}) == 2
    assert got[0] == '{"text":"ü\\r\\n"}'.encode()
    assert got[0] is got[1]


def returning(answer: object) -> Callable[[Any], object]:
    return lambda _: answer


class Broken(BaseException):
    """Not an Exception, and still none of ours."""


@pytest.mark.parametrize(
    "error", [ValueError("s3cret"), Broken("s3cret"), StopIteration(1), AssertionError()], ids=repr
)
async def test_a_sink_that_raises_is_contained_recorded_and_not_counted(
    backplane: BaseBackplane, error: BaseException
) -> None:
    def sink(event: Any) -> None:
        raise error

    got: list[Any] = []
    records: list[Any] = []
    backplane.observer = records.append
    await attach_user(backplane, "c1", sink)
    await attach_user(backplane, "c2", got.append)
    assert await backplane.publish(USER, 1) == 1
    assert got == [1]
    assert backplane.stats().sink_errors == 1
    assert records == [SinkFailed(conn_id="c1", error=type(error).__name__)]


async def test_only_false_itself_refuses(backplane: BaseBackplane) -> None:
    for number, answer in enumerate([False, None, 0, "", True]):
        await attach_user(backplane, f"c{number}", returning(answer))
    assert await backplane.publish(USER, 1) == 4
    assert backplane.stats().sink_refusals == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_what_is_meant_for_the_program_goes_on_to_the_publisher_after_the_others_were_served(
    backplane: BaseBackplane, error: type[BaseException]
) -> None:
    def sink(event: Any) -> None:
        raise error

    got: list[Any] = []
    await attach_user(backplane, "c1", sink)
    await attach_user(backplane, "c2", got.append)
    with pytest.raises(error):
        backplane.publish_nowait(USER, 1)
    assert got == [1]
    await backplane.detach("c1")
    assert await backplane.publish(USER, 2) == 1


async def test_a_sink_may_not_publish_but_hand_it_to_the_loop(backplane: BaseBackplane) -> None:
    raised: list[BaseException] = []
    answers: list[Any] = []
    answered = asyncio.Event()

    def sink(event: Any) -> None:
        with pytest.raises(ReentrantPublishError) as error:
            backplane.publish_nowait(Target.connection("c2"), "too early")
        raised.append(error.value)
        asyncio.get_running_loop().call_soon(backplane.publish_nowait, Target.connection("c2"), "answer")

    def answer(event: Any) -> None:
        answers.append(event)
        answered.set()

    await attach_user(backplane, "c1", sink)
    await backplane.attach("c2", answer)
    assert await backplane.publish(USER, 1) == 1
    async with asyncio.timeout(5):
        await answered.wait()
    assert len(raised) == 1
    assert answers == ["answer"]


async def test_a_sink_that_detaches_another_spares_it_the_event(backplane: BaseBackplane) -> None:
    got: list[Any] = []
    first = await attach_user(backplane, "c1", lambda _: detach_now(second))
    second = await attach_user(backplane, "c2", got.append)
    await attach_user(backplane, "c3", got.append)
    assert await backplane.publish(USER, 1) == 2
    assert got == [1]
    assert backplane.connections_of(USER) == {"c1", "c3"}
    assert first.conn_id == "c1"


async def test_a_sink_that_detaches_itself_ends_with_that_event(backplane: BaseBackplane) -> None:
    got: list[Any] = []

    def sink(event: Any) -> None:
        got.append(event)
        detach_now(attachment)

    attachment = await attach_user(backplane, "c1", sink)
    assert [await backplane.publish(USER, number) for number in range(2)] == [1, 0]
    assert got == [0]


async def test_excluded_ids_may_come_from_any_iterable(backplane: BaseBackplane) -> None:
    for conn_id in ("c1", "c2", "c3"):
        await attach_user(backplane, conn_id, json.dumps)
    assert await backplane.publish(USER, 1, exclude=(conn_id for conn_id in ("c1", "c1", "nobody"))) == 2
    assert await backplane.publish(USER, 1, exclude={"c1", "c2", "c3"}) == 0


async def test_events_arrive_in_the_order_of_their_publishes_also_across_targets(backplane: BaseBackplane) -> None:
    got: list[Any] = []
    await attach_user(backplane, "c1", got.append)
    ways: list[Any] = [USER, Target.connection("c1"), Target.everyone(), [USER, Target.org("o")]]
    for number in range(400):
        await backplane.publish(ways[number % 4], number)
    assert got == list(range(400))


async def test_publish_gives_other_tasks_a_turn_in_a_tight_loop(backplane: BaseBackplane) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for number in range(256 * 10):
        await backplane.publish(USER, number)
    task.cancel()
    assert turns >= 9


@pytest.mark.every_loop
async def test_other_threads_publish_and_get_the_count_or_the_error(backplane: BaseBackplane) -> None:
    got: list[Any] = []
    await attach_user(backplane, "c1", got.append)
    results: list[Any] = []

    def work() -> None:
        results.extend([backplane.publish_threadsafe(USER, number).result(5) for number in range(100)])
        results.append(backplane.publish_threadsafe(USER, object()).exception(5))
        results.append(backplane.publish_threadsafe([], 1).exception(5))
        results.append(backplane.publish_threadsafe(USER, 1, exclude=["c1"]).result(5))

    async with asyncio.timeout(10):
        await asyncio.to_thread(work)
    assert got == list(range(100))
    assert results[:100] == [1] * 100
    assert isinstance(results[100], EventEncodeError)
    assert isinstance(results[101], InvalidTargetError)
    assert results[102] == 0


async def test_a_broken_observer_harms_nobody_and_is_counted(backplane: BaseBackplane) -> None:
    def broken(record: Any) -> None:
        raise RuntimeError("s3cret")

    backplane.observer = broken
    await attach_user(backplane, "c1", lambda _: 1 / 0)
    assert await backplane.publish(USER, 1) == 0
    assert backplane.stats().observer_errors == 1
