"""What type checkers see of the public API. Nothing here runs: mypy and pyright read it."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from concurrent.futures import Future
from typing import Any, Literal, TypedDict, assert_type

import backplane_core
import backplane_nats
import backplane_redis
from backplane_core import (
    AuthenticationError,
    BackplaneEnvelope,
    BackplaneError,
    BaseBackplane,
    ConfigurationError,
    Connecting,
    Connection,
    ConnectOptions,
    DistributedBackplane,
    Event,
    EventTooLargeError,
    Gap,
    GapCause,
    GapError,
    InMemoryBackplane,
    InvalidTargetError,
    Options,
    OutboxFullError,
    Publisher,
    Readiness,
    RoutingName,
    State,
    Stats,
    SyncPublisher,
    Target,
    TransportError,
    connect,
    connect_from_env,
    decode_envelope,
    encode_envelope,
)
from backplane_core.testing import MemoryBroker, MemoryTransport
from backplane_nats import NatsBackplane, NatsTransport
from backplane_redis import RedisBackplane, RedisTransport


def versions() -> None:
    for version in (backplane_core.__version__, backplane_redis.__version__, backplane_nats.__version__):
        assert_type(version, str)


def targets() -> None:
    target = Target("chat_room", "42")
    assert_type(target, Target)
    for made in (Target.connection, Target.session, Target.user, Target.org, Target.agent):
        assert_type(made("1"), Target)
    assert_type(Target.everyone(), Target)
    assert_type(target.kind, str)
    assert_type(target.id, str)
    assert_type({target: 1}, dict[Target, int])


async def connecting() -> None:
    assert_type(connect(), Connecting[BaseBackplane])
    assert_type(await connect("redis://localhost", lanes=2), BaseBackplane)
    async with connect("nats://localhost", signing_keys=["a", b"b"]) as backplane:
        assert_type(backplane, BaseBackplane)
    async with connect_from_env({"BACKPLANE": "memory"}, prefix="BACKPLANE") as backplane:
        assert_type(backplane, BaseBackplane)


class HubOptions(TypedDict, total=False):
    """What the author of an adapter publishes for its users: its own options."""

    compress: bool


async def options_of_an_adapter() -> None:
    chosen: ConnectOptions = {"connection_kwargs": {"db": 1}, "transport_options": {"anything": 1}, "beat_s": 2}
    assert_type(connect("redis://localhost", **chosen), Connecting[BaseBackplane])
    own = HubOptions(compress=True)
    assert_type(await connect("hub:///run/app.sock", channel="a", transport_options=own), BaseBackplane)
    assert_type(connect_from_env(transport_options=own, routing="interest"), Connecting[BaseBackplane])
    Publisher("hub:///run/app.sock", transport_options=own)
    SyncPublisher("hub:///run/app.sock", connection_kwargs={"db": 1}, **chosen_by(routing="interest"))


def chosen_by(routing: RoutingName) -> Options:
    return {"routing": routing}


async def adapters() -> None:
    async with RedisBackplane.connect("redis://localhost", connection_kwargs={"db": 1}, routing="interest") as redis:
        assert_type(redis, RedisBackplane)
    assert_type(await NatsBackplane.connect("nats://localhost", channel="a:b"), NatsBackplane)
    async with DistributedBackplane(RedisTransport("redis://localhost"), beat_s=2) as over_redis:
        assert_type(over_redis, DistributedBackplane)
    DistributedBackplane(NatsTransport("nats://localhost"), signing_keys=None)


async def publishing(backplane: BaseBackplane) -> None:
    assert_type(await backplane.publish(Target.user("u1"), {"a": [1, 2.5, None, True, ("x",)]}), int)
    assert_type(await backplane.publish([Target.user("u1"), Target.org("o")], "text", exclude=["c1"]), int)
    assert_type(backplane.publish_nowait({Target.user("u1")}, None, exclude=iter(["c1"])), int)
    assert_type(await backplane.publish_json(Target.user("u1"), b"{}", exclude=["c1"]), int)
    assert_type(await backplane.publish_json([Target.user("u1")], "{}"), int)
    assert_type(backplane.publish_json_nowait(Target.user("u1"), memoryview(bytearray(b"{}"))), int)
    assert_type(backplane.publish_threadsafe(Target.everyone(), 1), Future[int])


async def receiving(backplane: BaseBackplane) -> None:
    async with backplane.connection("c1", Target.user("u1"), Target.org("o"), overflow="drop_oldest") as connection:
        assert_type(connection, Connection)
        assert_type(connection.conn_id, str)
        several: AsyncIterable[Event] = connection
        async for event in several:
            assert_type(event.text, str)
        async for event in connection:
            assert_type(event, Event)
            assert_type(event.text, str)
            assert_type(event.json, bytes)
            assert_type(event.id, str | None)
            assert_type(event.value, Any)
    backplane.connection(None, max_pending=1, max_pending_bytes=1, on_gap=heard, end_on_gap=True)


async def attaching(backplane: BaseBackplane) -> None:
    got: list[object] = []
    attachment = await backplane.attach("c1", got.append, on_gap=heard)
    assert_type(attachment.conn_id, str)
    await attachment.detach()
    await backplane.attach("c1", lambda data: len(data) < 10, raw=True)
    assert_type(await backplane.associate("c1", Target.user("u1")), bool)
    await backplane.dissociate("c1", Target.user("u1"))
    await backplane.detach("c1")
    assert_type(backplane.connection_count, int)
    assert_type(backplane.targets_of("c1"), frozenset[Target])
    assert_type(backplane.connections_of(Target.user("u1")), frozenset[str])


def heard(gap: Gap) -> None:
    assert_type(gap.cause, GapCause)
    assert_type(gap.missed, int | None)
    assert_type(gap.since, float)


async def looking(backplane: InMemoryBackplane) -> None:
    assert_type(backplane.state, State)
    states: Literal["connecting", "live", "degraded", "draining", "closed"] = backplane.state
    assert states
    assert_type(backplane.ready(), Readiness)
    assert_type(backplane.ready().deaf_since, float | None)
    stats = backplane.stats()
    assert_type(stats, Stats)
    assert_type(stats.signature_errors, int)
    assert_type(stats.dropped, Mapping[str, int])
    await backplane.wait_for_state("live", timeout_s=1)
    await backplane.flush(timeout_s=1.0)
    await backplane.drain()
    await backplane.aclose(drain_s=1)


async def publishers() -> None:
    async with Publisher("redis://localhost", signing_keys=["k"]) as publisher:
        assert_type(publisher, Publisher)
        assert_type(await publisher.publish(Target.user("u1"), 1), int)
    with SyncPublisher("nats://localhost") as sync_publisher:
        assert_type(sync_publisher, SyncPublisher)
        assert_type(sync_publisher.publish(Target.user("u1"), 1, exclude=["c"]), int)
        assert_type(sync_publisher.publish_json(Target.user("u1"), "{}", exclude=["c"]), int)
        assert_type(sync_publisher.stats(), Stats | None)


def options() -> None:
    chosen: Options = {"routing": "interest", "outbox_overflow": "raise", "signing_keys": [b"k"], "on_gap": heard}
    assert_type(chosen.get("beat_s"), float | None)
    InMemoryBackplane(**chosen)
    DistributedBackplane(MemoryTransport(MemoryBroker()), **chosen)


def envelopes() -> None:
    envelope = BackplaneEnvelope("o", Target.user("u1"), {"a": 1}, seq=1, also=[Target.org("o")], exclude=["c"])
    assert_type(encode_envelope(envelope), bytes)
    assert_type(decode_envelope(b"{}"), BackplaneEnvelope)
    assert_type(envelope.seq, int | None)
    assert_type(envelope.also, tuple[Target, ...])


def errors() -> None:
    try:
        targets()
    except EventTooLargeError as error:
        assert_type(error.size, int)
        assert_type(error.limit, int)
    except OutboxFullError as error:
        assert_type(error.messages, int)
    except GapError as error:
        assert_type(error.gap, Gap)
    except (ConfigurationError, InvalidTargetError) as error:
        value_error: ValueError = error
        raise value_error from None
    except AuthenticationError as error:
        transport_error: TransportError = error
        assert_type(transport_error.retryable, bool)
    except BackplaneError as error:
        assert_type(error, BackplaneError)
