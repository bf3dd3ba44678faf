"""From attach to close: what replaces what, what is idempotent, and what only leaving may still do."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable
from typing import Any, cast

import pytest
from backplane_core import (
    BaseBackplane,
    ClosedError,
    ConfigurationError,
    InMemoryBackplane,
    InvalidTargetError,
    Target,
)

from tests.support.sockets import attach_user
from tests.support.texts import stable_id

USER = Target.user("u1")


async def a_coroutine(event: Any) -> None:
    raise AssertionError(event)


class AsyncSink:
    async def __call__(self, event: Any) -> None:
        raise AssertionError(event)


@pytest.mark.parametrize(
    "sink", [a_coroutine, functools.partial(a_coroutine), AsyncSink(), None, "print", 5], ids=stable_id
)
async def test_a_sink_must_be_a_plain_callable(backplane: BaseBackplane, sink: Any) -> None:
    with pytest.raises(ConfigurationError, match="plain callable"):
        await backplane.attach("c1", sink)
    assert backplane.connection_count == 0


@pytest.mark.parametrize(
    "target", [[], (), None, "user", b"user", 5, ["u1"], [USER, None], [["u1"]], {}], ids=stable_id
)
async def test_what_is_no_target_reaches_nobody(backplane: BaseBackplane, target: Any) -> None:
    got: list[Any] = []
    await attach_user(backplane, "c1", got.append)
    with pytest.raises(InvalidTargetError):
        await backplane.publish(target, 1)
    assert got == []
    assert backplane.stats().published == 0


@pytest.mark.parametrize(
    "exclude", ["c1", b"c1", [""], [None], [5], ["x" * 1025], ["\ud800"], [["c1"]], 5], ids=stable_id
)
async def test_an_excluded_id_that_is_none_reaches_nobody(backplane: BaseBackplane, exclude: Any) -> None:
    got: list[Any] = []
    await attach_user(backplane, "c1", got.append)
    with pytest.raises(InvalidTargetError):
        await backplane.publish(USER, 1, exclude=exclude)
    assert got == []


async def test_a_thread_that_publishes_after_close_gets_a_closed_error() -> None:
    backplane = InMemoryBackplane()
    with pytest.raises(ClosedError):
        backplane.publish_threadsafe(USER, 1)
    async with backplane:
        pass
    future = backplane.publish_threadsafe(USER, 1)
    async with asyncio.timeout(5):
        with pytest.raises(ClosedError):
            await asyncio.wrap_future(future)


def test_a_thread_that_publishes_to_a_loop_that_is_gone_gets_a_closed_error() -> None:
    backplane = InMemoryBackplane()

    async def use() -> None:
        async with backplane:
            await backplane.publish(USER, 1)

    asyncio.run(use())
    with pytest.raises(ClosedError):
        backplane.publish_threadsafe(USER, 1)


async def test_after_close_only_leaving_is_allowed(backplane: BaseBackplane) -> None:
    attachment = await attach_user(backplane, "c1", json.dumps)
    await backplane.aclose()
    await backplane.aclose()
    assert (backplane.state, backplane.connection_count) == ("closed", 0)
    uses: list[Callable[[], Any]] = [
        lambda: backplane.publish(USER, 1),
        lambda: backplane.attach("c2", json.dumps),
        lambda: backplane.associate("c1", USER),
        lambda: backplane.connection("c2").__aenter__(),
    ]
    for use in uses:
        with pytest.raises(ClosedError):
            await use()
    with pytest.raises(ClosedError):
        backplane.publish_nowait(USER, 1)
    await backplane.detach("c1")
    await backplane.dissociate("c1", USER)
    await attachment.detach()
    assert backplane.connections_of(USER) == frozenset()


async def test_draining_refuses_publishes_and_connections(backplane: BaseBackplane) -> None:
    await attach_user(backplane, "c1", json.dumps)
    await backplane.drain(timeout_s=5)
    assert backplane.state == "draining"
    assert not backplane.ready()
    assert backplane.ready().reason != "connected"
    for use in (lambda: backplane.publish(USER, 1), lambda: cast("Any", backplane.attach("c2", json.dumps))):
        with pytest.raises(ClosedError):
            await use()


async def test_a_second_attach_replaces_the_sink_and_keeps_the_targets(backplane: BaseBackplane) -> None:
    old: list[Any] = []
    new: list[Any] = []
    first = await attach_user(backplane, "c1", old.append)
    await backplane.attach("c1", new.append, raw=True)
    assert await backplane.publish(USER, 1) == 1
    assert (old, new) == ([], [b"1"])
    await first.detach()
    assert await backplane.publish(USER, 2) == 1
    assert backplane.targets_of("c1") == {USER}
    await backplane.detach("c1")
    await backplane.attach("c1", new.append)
    await first.detach()
    assert backplane.connection_count == 1
    assert backplane.targets_of("c1") == frozenset()


async def test_associating_is_idempotent_and_an_unknown_connection_is_counted(backplane: BaseBackplane) -> None:
    got: list[Any] = []
    await backplane.attach("c1", got.append)
    assert [await backplane.associate("c1", USER) for _ in range(3)] == [True] * 3
    assert await backplane.publish(USER, 1) == 1
    assert await backplane.associate("nobody", USER) is False
    assert backplane.stats().unknown_connections == 1
    assert backplane.connections_of(USER) == {"c1"}
    await backplane.dissociate("nobody", USER)
    await backplane.detach("nobody")
    await backplane.dissociate("c1", USER)
    await backplane.dissociate("c1", USER)
    assert await backplane.publish(USER, 2) == 0
    assert got == [1]


@pytest.mark.parametrize("conn_id", ["", "x" * 1025, "\ud800", None, 5], ids=lambda value: repr(value)[:9])
async def test_a_connections_id_is_of_the_same_form_as_a_targets(backplane: BaseBackplane, conn_id: Any) -> None:
    with pytest.raises(InvalidTargetError):
        await backplane.attach(conn_id, json.dumps)
    assert backplane.connection_count == 0
