"""What a NATS server refuses: an account's limit, and subjects that a user may not use. No other event pays for it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from backplane_core import (
    AuthenticationError,
    EventDropped,
    EventTooLargeError,
    Publisher,
    Record,
    SyncPublisher,
    Target,
    TargetDeniedError,
    connect,
)
from backplane_testservers import NatsServer

from tests.conftest import StartServer
from tests.support.sockets import attach
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("client_io")

USER, ORG = Target.user("u1"), Target.org("acme")
FULL = "{user: full, password: pw}"


def user(name: str, publish: str, subscribe: str) -> str:
    return f"{{user: {name}, password: pw, permissions: {{publish: {publish}, subscribe: {subscribe}}}}}"


ALL = '["backplane", "backplane.>"]'
SOME = '["backplane", "backplane.@user.>", "backplane.@connection.>"]'
ASKING = '["backplane", "backplane.@user.>", "backplane.@connection.>", "backplane.*"]'
USERS = ", ".join(
    [
        FULL,
        user("alone", '"backplane"', '"backplane"'),
        user("mute", '{deny: ">"}', ALL),
        user("whisper", '"backplane.>"', ALL),
        user("deaf", ALL, '{deny: ">"}'),
        user("some", ASKING, SOME),
        user("exact", ALL, ALL),
    ]
)


@pytest.fixture
def server(start: StartServer) -> NatsServer:
    return start(NatsServer(extra=[f"authorization: {{users: [{USERS}]}}"]))


@pytest.fixture
def limited(start: StartServer) -> NatsServer:
    return start(NatsServer(extra=["accounts: {A: {limits: {max_payload: 64KB}, users: [{user: a, password: pw}]}}"]))


@pytest.fixture
async def stack(leaves_nothing: None) -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def url(server: NatsServer, name: str) -> str:
    return f"nats://{name}:pw@{server.host}:{server.port}"


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_an_accounts_limit_is_taken_from_the_second_info(
    stack: AsyncExitStack, limited: NatsServer, routing: Any
) -> None:
    here, there = [await stack.enter_async_context(connect(url(limited, "a"), routing=routing)) for _ in range(2)]
    far = await attach(there, "far", USER)
    with pytest.raises(EventTooLargeError) as refused:
        await here.publish(USER, "x" * 100_000)
    assert refused.value.limit == 64 * 1024
    await here.publish(USER, "small")
    assert await far.has(1) == ["small"]
    assert here.stats().links == 1
    assert here.stats().dropped == {}
    async with Publisher(url(limited, "a"), routing=routing) as publisher:
        with pytest.raises(EventTooLargeError):
            await publisher.publish(USER, "x" * 100_000)


def test_a_publisher_for_code_without_a_loop_raises_at_the_accounts_limit(limited: NatsServer) -> None:
    with SyncPublisher(url(limited, "a")) as publisher:
        publisher.publish(USER, "small")
        publisher.flush(timeout_s=10)  # the limit is known once there is a link
        with pytest.raises(EventTooLargeError):
            publisher.publish(USER, "x" * 100_000)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("alone", 'may not publish on "backplane.@'),
        ("mute", "may not publish on"),
        ("whisper", 'may not publish on "backplane"'),
        ("deaf", 'may not subscribe to "backplane"'),
    ],
)
@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_a_missing_permission_is_an_error_of_connect_at_once_that_says_what_to_grant(
    leaves_nothing: None, server: NatsServer, name: str, says: str, routing: Any
) -> None:
    with pytest.raises(AuthenticationError, match=re.escape(says)) as refused:
        await connect(url(server, name), routing=routing, connect_timeout_s=60)
    assert 'grant publish and subscribe for "backplane" and "backplane.>"' in str(refused.value)
    assert "pw" not in str(refused.value)


async def test_exactly_what_the_error_says_to_grant_is_enough(stack: AsyncExitStack, server: NatsServer) -> None:
    here = await stack.enter_async_context(connect(url(server, "exact"), routing="interest"))
    there = await stack.enter_async_context(connect(url(server, "full"), routing="interest"))
    far = await attach(there, "far", USER)
    await here.publish(USER, 1)
    assert await far.has(1) == [1]


async def test_a_denied_publish_costs_no_other_event(stack: AsyncExitStack, server: NatsServer) -> None:
    records: list[Record] = []
    here = await stack.enter_async_context(connect(url(server, "some"), routing="interest", observer=records.append))
    there = await stack.enter_async_context(connect(url(server, "full"), routing="interest"))
    far = await attach(there, "far", USER)
    for number in range(20):
        here.publish_nowait(ORG, "may not be published")
        here.publish_nowait(USER, {"number": number, "filler": "x" * 10_000})
    await here.flush(timeout_s=10)
    assert [event["number"] for event in await far.has(20)] == list(range(20))
    assert here.stats().links == 1
    assert here.stats().dropped == {"refused": 20}
    assert there.stats().duplicates == 0
    dropped = [record for record in records if isinstance(record, EventDropped)]
    assert {(record.channel, record.count) for record in dropped} == {("backplane:@org:acme", 1)}
    assert all('may not publish on "backplane.@org.acme"' in (record.reason or "") for record in dropped)


async def test_a_denied_target_raises_and_costs_no_other_target(stack: AsyncExitStack, server: NatsServer) -> None:
    here = await stack.enter_async_context(connect(url(server, "some"), routing="interest"))
    there = await stack.enter_async_context(connect(url(server, "full"), routing="interest"))
    near = await attach(here, "near", USER)
    for _ in range(2):
        with pytest.raises(TargetDeniedError, match=re.escape('may not subscribe to "backplane.@org.acme"')):
            await here.associate("near", ORG)
    with pytest.raises(TargetDeniedError):
        await here.connection(None, USER, ORG).__aenter__()
    await there.publish(USER, 1)
    assert await near.has(1) == [1]
    assert here.stats().links == 1
    assert here.ready()
    assert near.gaps == []


async def test_permissions_that_are_taken_away_and_given_back(
    stack: AsyncExitStack, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backplane_core._inbound.subscriptions.DENIED_S", 0.2)
    here = await stack.enter_async_context(connect(url(server, "exact"), routing="interest", probe_interval_s=1))
    there = await stack.enter_async_context(connect(url(server, "full"), routing="interest", probe_interval_s=1))
    near = await attach(here, "near", USER, ORG)

    def is_denied(count: int) -> Callable[[], bool]:
        return lambda: here.stats().denied == count

    def is_heard(event: str) -> Callable[[], bool]:
        return lambda: event in near.events

    for subscribe, denied in ((SOME, 1), (ALL, 0)):
        server.extra = [f"authorization: {{users: [{FULL}, {user('exact', ALL, subscribe)}]}}"]
        server.reload()
        await until(is_denied(denied), "the change is noticed", 60)
        await here.wait_for_state("live", timeout_s=30)
        await there.wait_for_state("live", timeout_s=30)
        await there.publish(USER, subscribe)
        await until(is_heard(subscribe), "the other target is heard", 30)
    assert any("not heard" in gap.reason for gap in near.gaps)
    await there.publish(ORG, "again")
    await until(is_heard("again"), "the target is heard again", 30)
