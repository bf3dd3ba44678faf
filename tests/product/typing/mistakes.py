"""Calls that must be type errors: an ignore that a checker finds unnecessary is one that the checker lets pass."""
# mypy wants the error of that code on the line, pyright some error.
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

import backplane_core
from backplane_core import (
    Backplane,
    BackplaneEnvelope,
    DistributedBackplane,
    Event,
    Gap,
    InMemoryBackplane,
    Link,
    Options,
    Publisher,
    SyncPublisher,
    Target,
    Transport,
    connect,
    connect_from_env,
)
from backplane_redis import RedisBackplane


async def arguments(backplane: InMemoryBackplane) -> None:
    await backplane.publish("user:u1", {})  # type: ignore[arg-type]
    await backplane.publish(["u1"], {})  # type: ignore[list-item]
    await backplane.publish(Target.user("u1"))  # type: ignore[call-arg]
    await backplane.publish(Target.user("u1"), 1, ["c1"])  # type: ignore[call-arg]
    await backplane.publish(Target.user("u1"), 1, exclude=[7])  # type: ignore[list-item]
    await backplane.associate("c1", "user:u1")  # type: ignore[arg-type]
    await backplane.attach("c1", None)  # type: ignore[arg-type]
    await backplane.attach("c1", print, on_gap=takes_text)  # type: ignore[arg-type]
    await backplane.wait_for_state("dead", timeout_s=1)  # type: ignore[arg-type]
    backplane.connection(Target.user("u1"))  # type: ignore[arg-type]
    backplane.connection("c1", overflow="drop")  # type: ignore[arg-type]
    Target(user="u1")  # type: ignore[call-arg]
    Target.user(7)  # type: ignore[arg-type]
    BackplaneEnvelope("o", "u1", 1)  # type: ignore[arg-type]


def takes_text(text: str) -> None: ...


async def forgotten(backplane: InMemoryBackplane, event: Event, gap: Gap) -> None:
    async with backplane.connection("c1") as connection:
        for _ in connection:  # type: ignore[attr-defined]
            pass
    with connect():  # type: ignore[attr-defined]
        pass
    delivered: int = backplane.publish(Target.everyone(), 1)  # type: ignore[assignment]
    print(delivered)  # noqa: T201 -- for the checkers alone
    event.json = b""  # type: ignore[misc]
    gap.missed = 0  # type: ignore[misc]
    Target.user("u1").id = "u2"  # type: ignore[misc]


def options() -> None:
    InMemoryBackplane(prob_interval_s=1)  # type: ignore[call-arg]
    InMemoryBackplane(beat_s="1")  # type: ignore[arg-type]
    InMemoryBackplane(signing_keys=[1])  # type: ignore[list-item]
    RedisBackplane.connect("redis://localhost", routing="unicast")  # type: ignore[arg-type]
    chosen: Options = {"outbox_overflow": "drop"}  # type: ignore[typeddict-item]
    InMemoryBackplane(**chosen)
    DistributedBackplane("redis://localhost")  # type: ignore[arg-type]
    Publisher()  # type: ignore[call-arg]


class HubOptions(TypedDict, total=False):
    compress: bool


def names() -> None:
    print(backplane_core.version)  # type: ignore[attr-defined]  # noqa: T201 -- for the checkers alone


def front_doors() -> None:
    connect("redis://localhost", chanel="x")  # type: ignore[call-arg]
    connect("redis://localhost", channel=5)  # type: ignore[arg-type]
    connect("redis://localhost", routing="unicast")  # type: ignore[arg-type]
    connect("redis://localhost", connection_kwarg={})  # type: ignore[call-arg]
    connect("redis://localhost", compress=True)  # type: ignore[call-arg]
    connect("redis://localhost", transport_options=HubOptions(compres=True))  # type: ignore[typeddict-unknown-key]
    connect_from_env(chanel="x")  # type: ignore[call-arg]
    connect_from_env(beat_s="1")  # type: ignore[arg-type]
    Publisher("redis://localhost", chanel="x")  # type: ignore[call-arg]
    Publisher("redis://localhost", signing_keys=[1])  # type: ignore[list-item]
    SyncPublisher("redis://localhost", chanel="x")  # type: ignore[call-arg]
    SyncPublisher("redis://localhost", outbox_overflow="drop")  # type: ignore[arg-type]


def publishers(publisher: SyncPublisher) -> None:
    publisher.publish(Target.user("u1"))  # type: ignore[call-arg]
    publisher.publish_json(Target.user("u1"), {})  # type: ignore[arg-type]
    publisher.flush(timeout_s="5")  # type: ignore[arg-type]
    publisher.flush(5)  # type: ignore[call-arg]


class Incomplete:
    """Five methods are no backplane, and `open` alone is no transport."""

    async def attach(self, conn_id: str, sink: object) -> None: ...

    async def detach(self, conn_id: str) -> None: ...

    async def publish(self, target: Target | Iterable[Target], event: object) -> int:
        return 0

    async def open(self) -> None: ...


def protocols(incomplete: Incomplete) -> None:
    backplane: Backplane = incomplete  # type: ignore[assignment]
    transport: Transport = incomplete  # type: ignore[assignment]
    link: Link = incomplete  # type: ignore[assignment]
    print(backplane, transport, link)  # noqa: T201
