"""A fleet under test: pods over one harness, and what their connections got."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final
from uuid import uuid4

from attrs import define, field

from backplane_core._protocol.routing import RoutingName
from backplane_core.distributed import DistributedBackplane
from backplane_core.observe import Gap
from backplane_core.target import Target
from backplane_core.testing._kit.open_link import fresh
from backplane_core.testing._kit.waiting import all_of, returned, until
from backplane_core.testing.harness import ContractError, Harness

__all__ = ["HEARD", "Socket", "attached", "each_got", "equal", "pods", "require"]

HEARD: Final = "the checks of LINK_CHECKS first: subscribe, then receive"


@define
class Socket:
    """What one connection got, in order; gaps stand among the events where they were reported."""

    conn_id: str
    stream: list[Any] = field(factory=list[Any])

    @property
    def events(self) -> list[Any]:
        """The events without markers."""
        return [item for item in self.stream if not isinstance(item, Gap) and not _marks(item)]

    @property
    def gaps(self) -> list[Gap]:
        """The gaps."""
        return [item for item in self.stream if isinstance(item, Gap)]

    async def has(self, count: int) -> list[Any]:
        """Return the events once there are this many."""
        what = f"{count} events at a connection"
        await until(
            lambda: len(self.events) >= count, what, lambda: f"{len(self.events)}, {len(self.gaps)} gaps", HEARD
        )
        return self.events


def _marks(item: object) -> bool:
    return isinstance(item, dict) and "marker" in item


@asynccontextmanager
async def pods(
    harness: Harness, routing: RoutingName, count: int, channel: str | None = None
) -> AsyncGenerator[list[DistributedBackplane]]:
    """Open this many pods of one fleet, a new fleet unless its channel is given, and close them at the end."""
    channel = fresh() if channel is None else channel
    opened: list[DistributedBackplane] = []
    try:
        for _ in range(count):
            pod = DistributedBackplane(harness.make(), channel=channel, routing=routing)
            await returned(pod.open(), "a pod goes live", HEARD)
            opened.append(pod)
        yield opened
    finally:
        await all_of(*[returned(pod.aclose(1), "a pod closes", HEARD) for pod in opened])


async def attached(pod: DistributedBackplane, *targets: Target, conn_id: str | None = None) -> Socket:
    """Attach a connection, with every association confirmed."""
    socket = Socket(uuid4().hex if conn_id is None else conn_id)
    what = "attach() returns"
    await returned(pod.attach(socket.conn_id, socket.stream.append, on_gap=socket.stream.append), what, HEARD)
    for target in targets:
        if not await returned(pod.associate(socket.conn_id, target), "associate() returns", HEARD):
            raise ContractError("associate() returns True while the link is live", "False", HEARD)
    return socket


async def each_got(
    pods: Sequence[DistributedBackplane], expected: Sequence[tuple[Socket, Sequence[Any]]], what: str
) -> None:
    """Wait until each connection has what it must get, and what would come behind that; compare.

    Markers follow on the shared channel and on each connection's own. On a transport of several streams, a cluster's,
    they may overtake what went by another node: so what must come is waited for by itself, and what must not had been
    taken by the broker before the markers were sent.

    Raises:
        ContractError: A connection got too little, or anything else.
    """
    for socket, events in expected:
        await socket.has(len(events))
    for pod in pods:
        await returned(pod.flush(), "flush() of a live pod", "Link.send: it returns once confirmed")
    for pod in pods:
        for socket, _ in expected:
            await pod.publish(Target.connection(socket.conn_id), {"marker": 0})
        await pod.publish(Target.everyone(), {"marker": 0})
    for socket, _ in expected:
        await until(
            partial(_has_markers, socket, 2 * len(pods)),
            "an event behind the others arrives",
            lambda: "it did not",
            HEARD,
        )
        socket.stream[:] = [item for item in socket.stream if not _marks(item)]
    equal([socket.events for socket, _ in expected], [list(events) for _, events in expected], what)


def _has_markers(socket: Socket, count: int) -> bool:
    return sum(map(_marks, socket.stream)) >= count


def equal(got: object, expected: object, what: str, look_at: str = HEARD) -> None:
    """Compare what came with what was expected.

    Raises:
        ContractError: They differ.
    """
    if got != expected:
        raise ContractError(f"{what}: {_short(expected)}", _short(got), look_at)


def require(condition: object, expected: str, got: object, look_at: str = HEARD) -> None:
    """Insist on a condition.

    Raises:
        ContractError: The condition does not hold.
    """
    if not condition:
        raise ContractError(expected, _short(got), look_at)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text)} characters)"  # noqa: PLR2004 -- a few lines
