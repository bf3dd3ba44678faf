"""Litestar's contract for back-ends of its channels, alone and under the plugin, in memory and over each broker."""

# What Litestar's plugin takes may hold anything.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from backplane_core import (
    AdapterNotInstalledError,
    ClosedError,
    ConfigurationError,
    EventTooLargeError,
    InvalidTargetError,
    Publisher,
    Target,
    TransportError,
    adapters,
    connect,
)
from backplane_litestar import BackplaneChannelsBackend
from backplane_testservers import OwnBroker
from litestar.channels import ChannelsPlugin, Subscriber

from tests.support.waiting import DEADLINE_S, until

PAYLOADS = {
    "text": b"hello",
    "nothing": b"",
    "not ascii": "grüß ☃ \U0001f600".encode(),
    "not utf-8": b"\x00\xff\xfe{",
    "control characters": bytes(range(32)),
    "object": b'{"text":"hi","n":1.50}',
    "object with a space": b'{ "a": 1 , "a": 2 }',
    "object of two lines": b'{"a":\n1}',
    "no object at all": b'{"a":}',
    "object of bad utf-8": b'{"a":"\xff"}',
    "object with a number of no double": b'{"a":1e999}',
    "array": b'["chat"]',
    "array as of ours": b'[["chat"],"x"]',
    "array as of ours, encoded": b'[["chat"],"eA==","base64"]',
    "number": b"1",
    "null": b"null",
    "padded": b' {"a":1} ',
}


@asynccontextmanager
async def started(backend: BackplaneChannelsBackend) -> AsyncGenerator[BackplaneChannelsBackend]:
    await backend.on_startup()
    try:
        yield backend
    finally:
        await backend.on_shutdown()


@pytest.fixture(params=["memory", "redis", "nats"])
def url(request: pytest.FixtureRequest) -> str:
    return "memory://" if request.param == "memory" else str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def pair(url: str, channel: str) -> AsyncIterator[tuple[BackplaneChannelsBackend, BackplaneChannelsBackend]]:
    """Where it is published, and where it is heard: two over a broker, one in memory."""
    async with started(BackplaneChannelsBackend(url, channel=channel)) as here:
        if url == "memory://":
            yield here, here
            return
        async with started(BackplaneChannelsBackend(url, channel=channel, routing="broadcast")) as there:
            yield here, there


async def take(backend: BackplaneChannelsBackend, count: int) -> list[tuple[str, bytes]]:
    """Return the next messages."""
    stream = backend.stream_events()
    async with asyncio.timeout(DEADLINE_S):
        taken = [await anext(stream) for _ in range(count)]
    await stream.aclose()
    return taken


async def texts(subscriber: Subscriber, count: int) -> list[bytes]:
    """Return what a subscriber gets next."""
    events = subscriber.iter_events()
    async with asyncio.timeout(DEADLINE_S):
        taken = [await anext(events) for _ in range(count)]
    await events.aclose()
    return taken


# Starting and stopping


async def test_before_the_start_publishing_and_reading_say_that_it_has_not_started() -> None:
    backend = BackplaneChannelsBackend("memory://")
    assert repr(backend) == "<BackplaneChannelsBackend, not started>"
    for _ in range(2):
        with pytest.raises(RuntimeError, match="on_startup"):
            await backend.publish(b"x", ["chat"])
        with pytest.raises(RuntimeError, match="on_startup"):
            await anext(backend.stream_events())
        with pytest.raises(RuntimeError, match="on_startup"):
            _ = backend.backplane
        # Also after a stop, in whichever order the two come.
        await backend.on_shutdown()
        await backend.on_shutdown()
        await backend.on_startup()
        await backend.on_startup()
        await backend.on_shutdown()


async def test_it_starts_again_and_hears_the_channels_that_it_had(url: str, channel: str) -> None:
    backend = BackplaneChannelsBackend(url, channel=channel)
    await backend.subscribe(["chat"])  # before any start
    for number in range(3):
        async with started(backend):
            assert "live" in repr(backend)
            await backend.publish(b"%d" % number, ["chat"])
            assert await take(backend, 1) == [("chat", b"%d" % number)]


async def test_a_reader_may_come_while_it_starts_and_ends_when_it_stops(redis_url: str, channel: str) -> None:
    backend = BackplaneChannelsBackend(redis_url, channel=channel)
    starting = asyncio.create_task(backend.on_startup())
    await asyncio.sleep(0)

    async def read() -> list[tuple[str, bytes]]:
        return [message async for message in backend.stream_events()]

    reading = asyncio.create_task(read())  # as the oldest plugin does
    await starting
    await backend.subscribe(["chat"])
    await backend.publish(b"x", ["chat"])
    await asyncio.sleep(0)
    await backend.on_shutdown()
    async with asyncio.timeout(DEADLINE_S):
        assert await reading == [("chat", b"x")]


async def test_a_start_that_fails_leaves_it_as_it_was(broker: OwnBroker) -> None:
    url = broker.url
    broker.kill()
    backend = BackplaneChannelsBackend(url, wait=True, connect_timeout_s=0.3)
    for _ in range(2):
        with pytest.raises(TransportError):
            await backend.on_startup()
        with pytest.raises(RuntimeError, match="on_startup"):
            await backend.publish(b"x", ["chat"])
    broker.start()
    async with started(backend):
        assert backend.backplane.state == "live"


async def test_a_backplane_that_was_given_stays_open(channel: str) -> None:
    async with connect() as backplane:
        backend = BackplaneChannelsBackend(backplane=backplane)
        for _ in range(2):
            async with started(backend):
                assert backend.backplane is backplane
                await backend.subscribe(["chat"])
                await backend.publish(b"x", ["chat"])
                assert await take(backend, 1) == [("chat", b"x")]
            assert backplane.state == "live"
            assert backplane.stats().connections == 0
    with pytest.raises(ClosedError):
        await backend.on_startup()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "one of the two"),
        ({"url": "redis://h", "backplane": True}, "one of the two"),
        ({"backplane": True, "channel": "c"}, "channel"),
        ({"url": "redis://h", "chanel": "c"}, "channel"),
        ({"url": "amqp://h"}, "amqp"),
        ({"url": "memory://", "gap": "text"}, "bytes"),
    ],
)
async def test_a_wrong_argument_is_an_error_where_it_is_given(arguments: dict[str, object], message: str) -> None:
    async with connect() as backplane:
        if "backplane" in arguments:
            arguments = {**arguments, "backplane": backplane}
        with pytest.raises(ConfigurationError, match=message):
            BackplaneChannelsBackend(**arguments)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] -- wrong on purpose


def test_a_missing_adapter_says_what_to_install_and_what_stands_in_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(*, group: str) -> tuple[()]:
        assert group == "backplane.transports"
        return ()

    monkeypatch.setattr(adapters, "entry_points", entry_points)
    monkeypatch.setattr(adapters, "_found", {})
    with pytest.raises(AdapterNotInstalledError, match=r"backplane-litestar\[redis\].*litestar\[redis\]"):
        BackplaneChannelsBackend("redis://h")


# Messages


@pytest.mark.parametrize("channels", [["chat"], ["chat", "news"]], ids=["one channel", "two channels"])
async def test_every_payload_arrives_byte_by_byte(
    pair: tuple[BackplaneChannelsBackend, BackplaneChannelsBackend], channels: Sequence[str]
) -> None:
    here, there = pair
    await there.subscribe(["chat", "news", "other"])
    for payload in PAYLOADS.values():
        await here.publish(payload, channels)
    got = await take(there, len(PAYLOADS) * len(channels))
    assert got == [(channel, payload) for payload in PAYLOADS.values() for channel in channels]


async def test_a_message_comes_once_for_each_of_its_channels_that_is_subscribed_to(
    pair: tuple[BackplaneChannelsBackend, BackplaneChannelsBackend],
) -> None:
    here, there = pair
    await there.subscribe({"a", "b", "c"})
    await there.subscribe(["a"])
    await here.publish(b"1", ["a", "x", "b", "a"])
    await here.publish(b"2", (name for name in ("c",)))
    await here.publish(b"3", [])
    await here.publish(b"4", ["c"])
    assert await take(there, 4) == [("a", b"1"), ("b", b"1"), ("c", b"2"), ("c", b"4")]


async def test_a_message_for_more_channels_than_a_union_has_room_for_reaches_them_all() -> None:
    names = [f"c{number}" for number in range(5_000)]
    async with started(BackplaneChannelsBackend("memory://")) as backend:
        await backend.subscribe(names)
        await backend.publish(b"x", names)
        assert await take(backend, len(names)) == [(name, b"x") for name in names]


async def test_nothing_of_a_channel_comes_after_it_was_left_not_even_what_is_queued(
    pair: tuple[BackplaneChannelsBackend, BackplaneChannelsBackend],
) -> None:
    here, there = pair
    await there.subscribe(["a", "b"])
    await here.publish(b"1", ["a", "b"])
    await here.publish(b"2", ["a"])
    await until(lambda: there.backplane.stats().delivered == 2, "both are queued")
    stream = there.stream_events()
    assert await anext(stream) == ("a", b"1")
    await there.unsubscribe(["a", "b", "unknown"])
    await there.subscribe(["b"])
    await here.publish(b"3", ["a", "b"])
    # What was queued for a channel that is back counts.
    assert [await anext(stream) for _ in range(2)] == [("b", b"1"), ("b", b"3")]
    await stream.aclose()


async def test_others_on_the_bus_may_publish_objects_and_only_channels_are_read(redis_url: str, channel: str) -> None:
    async with (
        started(BackplaneChannelsBackend(redis_url, channel=channel)) as backend,
        Publisher(redis_url, channel=channel) as worker,
    ):
        await backend.subscribe(["chat"])
        await worker.publish(Target.everyone(), {"for": "others"})
        await worker.publish(Target("litestar_channel", "chat"), {"n": 1})
        await worker.publish(Target("litestar_channel", "chat"), [["chat"], 7])
        await worker.publish(Target("litestar_channel", "chat"), [["chat"], "no base64", "base64"])
        await worker.publish(Target.everyone(), [["chat"], "forged"])
        await worker.publish(Target("litestar_channel", "chat"), None)
        assert await take(backend, 4) == [
            ("chat", b'{"n":1}'),
            ("chat", b'[["chat"],7]'),
            ("chat", b'[["chat"],"no base64","base64"]'),
            ("chat", b"null"),
        ]


async def test_a_name_that_is_not_allowed_is_refused_and_changes_nothing() -> None:
    async with started(BackplaneChannelsBackend("memory://")) as backend:
        for name in ("", "x" * 1_025):
            with pytest.raises(InvalidTargetError):
                await backend.subscribe(["chat", name])
            with pytest.raises(InvalidTargetError):
                await backend.publish(b"x", ["chat", name])
        await backend.publish(b"x", ["chat"])
        assert backend.backplane.stats().targets == 0


# History


@pytest.fixture(params=["redis", "nats"])
def durable_url(request: pytest.FixtureRequest) -> str:
    if request.param == "redis":
        return str(request.getfixturevalue("streams_url"))
    return str(request.getfixturevalue("shared_jetstream").url).replace("://", "+jetstream://", 1)


async def test_a_bus_without_a_log_has_no_history_and_the_error_says_which_has() -> None:
    backend = BackplaneChannelsBackend("memory://")
    with pytest.raises(RuntimeError, match="on_startup"):
        await backend.get_history("chat")
    async with started(backend):
        with pytest.raises(NotImplementedError, match=r"redis\+streams://.*nats\+jetstream://"):
            await backend.get_history("chat")


async def test_a_log_has_the_last_messages_of_each_channel_byte_by_byte(durable_url: str, channel: str) -> None:
    async with started(BackplaneChannelsBackend(durable_url, channel=channel)) as here:
        for payload in PAYLOADS.values():
            await here.publish(payload, ["chat"])
        await here.publish(b"other", ["news"])
        await here.publish(b"last", ["news", "chat"])
        await here.backplane.flush(timeout_s=DEADLINE_S)
        async with started(BackplaneChannelsBackend(durable_url, channel=channel)) as there:
            for backend in (here, there):
                whole = await backend.get_history("chat")
                # A log has no order between what was for one channel and what was for several.
                assert [payload for payload in whole if payload != b"last"] == list(PAYLOADS.values())
                assert b"last" in whole
                assert whole == await backend.get_history("chat", 0) == await backend.get_history("chat", 5_000)
                assert await backend.get_history("chat", 3) == whole[-3:]
                assert sorted(await backend.get_history("news")) == [b"last", b"other"]
                assert await backend.get_history("empty", 10) == []


async def test_a_subscriber_begins_with_the_history(durable_url: str, channel: str) -> None:
    backend = BackplaneChannelsBackend(durable_url, channel=channel)
    async with ChannelsPlugin(backend, channels=["chat"]) as plugin:
        async with plugin.start_subscription("chat") as first:
            for number in range(5):
                await plugin.wait_published({"n": number}, "chat")
            await texts(first, 5)  # what is still on its way would come to the next one too
        async with plugin.start_subscription("chat", history=2) as subscriber:
            assert await texts(subscriber, 2) == [b'{"n":3}', b'{"n":4}']


@pytest.mark.usefixtures("streams_url")
async def test_a_history_that_cant_be_read_is_a_gap(redis_server: OwnBroker, channel: str) -> None:
    url = redis_server.url.replace("://", "+streams://", 1)
    async with started(BackplaneChannelsBackend(url, channel=channel, gap=b"gap", resume_max_bytes=1_024)) as backend:
        for number in range(100):
            await backend.publish(b"%d" % number * 50, ["chat"])
        await backend.backplane.flush(timeout_s=DEADLINE_S)
        redis_server.kill()
        await until(lambda: backend.backplane.state == "degraded", "it notices")
        assert await backend.get_history("chat") == [b"gap"]


# What may be missing


async def test_an_order_to_the_fleet_ends_no_reader() -> None:
    async with started(BackplaneChannelsBackend("memory://", gap=b"gap")) as backend:
        await backend.subscribe(["a", "b"])
        stream = backend.stream_events()
        await backend.publish(b"1", ["a"])
        await backend.backplane.fleet.close(Target("litestar_channel", "a"), code=4001, reason="signed out")
        await backend.publish(b"lost", ["a"])
        async with asyncio.timeout(DEADLINE_S):
            assert [await anext(stream) for _ in range(3)] == [("a", b"1"), ("a", b"gap"), ("b", b"gap")]
            await backend.publish(b"2", ["b"])
            assert await anext(stream) == ("b", b"2")
        await stream.aclose()


async def test_a_reader_that_is_too_slow_loses_the_oldest_and_each_channel_gets_a_gap() -> None:
    async with started(BackplaneChannelsBackend("memory://", gap=b"gap")) as backend:
        await backend.subscribe(["a", "b"])
        for number in range(10_003):
            await backend.publish(b"%d" % number, ["a"])
        assert await take(backend, 3) == [("a", b"gap"), ("b", b"gap"), ("a", b"3")]
        assert backend.backplane.stats().overflowed == 3


async def test_a_backplane_that_its_owner_closes_ends_the_reader_without_an_error() -> None:
    async with connect() as backplane, started(BackplaneChannelsBackend(backplane=backplane)) as backend:
        await backend.subscribe(["a"])
        await backend.publish(b"1", ["a"])
        await backplane.aclose()
        assert [message async for message in backend.stream_events()] == [("a", b"1")]
        with pytest.raises(ClosedError):
            await backend.publish(b"2", ["a"])


# Under the plugin


async def test_an_error_of_what_was_queued_ends_no_queue_and_is_logged_without_the_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = BackplaneChannelsBackend("memory://", max_event_bytes=1_024)
    secret = "s3cret" * 1_000
    plugin = ChannelsPlugin(backend, arbitrary_channels_allowed=True)
    async with plugin, plugin.start_subscription("chat") as subscriber:
        plugin.publish(secret, "chat")
        plugin.publish("x", "n" * 2_000)
        plugin.publish("after", "chat")
        assert await texts(subscriber, 1) == [b"after"]
        with pytest.raises(EventTooLargeError):
            await plugin.wait_published(secret, "chat")
        with pytest.raises(InvalidTargetError):
            await plugin.wait_published("x", "n" * 2_000)
    assert backend.unsent == 2
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert "6000 bytes" in errors[0]
    assert "s3cret" not in caplog.text


async def test_the_app_starts_without_its_broker_and_goes_live_with_it(
    leaves_nothing: None, broker: OwnBroker, channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = broker.url
    broker.kill()

    def plugin() -> tuple[ChannelsPlugin, BackplaneChannelsBackend]:
        backend = BackplaneChannelsBackend(url, channel=channel, connect_timeout_s=0.3, gap=b"gap")
        return ChannelsPlugin(backend, channels=["chat"]), backend

    (here, first), (there, second) = plugin(), plugin()
    async with here, there, here.start_subscription("chat") as near, there.start_subscription("chat") as far:
        assert "starts without the broker" in caplog.text
        here.publish("early", "chat")
        assert await texts(near, 1) == [b"early"]
        broker.start()
        await until(lambda: first.backplane.state == second.backplane.state == "live", "both are live")
        here.publish("late", "chat")
        got = [*await texts(far, 1)]
        while got[-1] != b"late":
            got += await texts(far, 1)
        assert b"gap" in got
        assert got.count(b"early") <= 1


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_a_broker_that_is_killed_costs_nothing_but_what_a_gap_says(
    leaves_nothing: None, broker: OwnBroker, channel: str, routing: str
) -> None:
    def plugin() -> tuple[ChannelsPlugin, BackplaneChannelsBackend]:
        backend = BackplaneChannelsBackend(
            broker.url,
            channel=channel,
            gap=b"gap",
            routing=routing,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        )
        return ChannelsPlugin(backend, channels=["chat", "news"]), backend

    (here, first), (there, second) = plugin(), plugin()
    async with here, there, there.start_subscription("chat") as chat, there.start_subscription("news") as news:
        for kill in range(3):
            await here.wait_published(f"before {kill}", ["chat", "news"])
            for subscriber in (chat, news):
                while (await texts(subscriber, 1)) != [b"before %d" % kill]:
                    assert kill, "nothing but a gap may come before"
            broker.kill()
            await until(lambda: first.backplane.state == second.backplane.state == "degraded", "both notice")
            here.publish(f"during {kill}", "chat")
            broker.restart()
            await until(lambda: first.backplane.state == second.backplane.state == "live", "both are back")
            here.publish(f"after {kill}", ["chat", "news"])
            for subscriber in (chat, news):
                got = await texts(subscriber, 1)
                while got[-1] != b"after %d" % kill:
                    got += await texts(subscriber, 1)
                assert got[0] == b"gap", "before anything that follows the hole"
