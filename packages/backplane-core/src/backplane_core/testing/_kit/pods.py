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
from backplane_core.testing._kit.open_link import new_channel
from backplane_core.testing._kit.waiting import expect_return, run_together, wait_until
from backplane_core.testing.harness import ContractError, Harness

__all__ = ["LINKS", "Socket", "attach_socket", "expect", "expect_equal", "expect_received", "open_pods"]

LINKS: Final = "the checks of LINK_CHECKS first: Link.subscribe, then Link.receive"


@define
class Socket:
    """What one connection got, in order, with each gap where it was reported."""

    conn_id: str
    stream: list[Any] = field(factory=list[Any])

    @property
    def events(self) -> list[Any]:
        """The events without markers."""
        return [item for item in self.stream if not isinstance(item, Gap) and not _is_marker(item)]

    @property
    def gaps(self) -> list[Gap]:
        """The gaps."""
        return [item for item in self.stream if isinstance(item, Gap)]

    async def wait_for_events(self, count: int) -> list[Any]:
        """Return the events once there are `count` of them."""
        what = f"{count} events at a connection"
        await wait_until(
            lambda: len(self.events) >= count, what, lambda: f"{len(self.events)}, {len(self.gaps)} gaps", LINKS
        )
        return self.events


def _is_marker(item: object) -> bool:
    return isinstance(item, dict) and "marker" in item


@asynccontextmanager
async def open_pods(
    harness: Harness, routing: RoutingName, count: int, channel: str | None = None
) -> AsyncGenerator[list[DistributedBackplane]]:
    """Open `count` pods of one fleet, a new one unless its channel is given, and close them at the end."""
    channel = new_channel() if channel is None else channel
    opened: list[DistributedBackplane] = []
    try:
        for _ in range(count):
            pod = DistributedBackplane(harness.make(), channel=channel, routing=routing)
            await expect_return(pod.open(), "a pod goes live", LINKS)
            opened.append(pod)
        yield opened
    finally:
        await run_together(*[expect_return(pod.aclose(drain_s=1), "a pod closes", LINKS) for pod in opened])


async def attach_socket(pod: DistributedBackplane, *targets: Target, conn_id: str | None = None) -> Socket:
    """Attach a connection, and wait until each of its targets is confirmed."""
    socket = Socket(uuid4().hex if conn_id is None else conn_id)
    what = "attach() returns"
    await expect_return(pod.attach(socket.conn_id, socket.stream.append, on_gap=socket.stream.append), what, LINKS)
    for target in targets:
        if not await expect_return(pod.associate(socket.conn_id, target), "associate() returns", LINKS):
            raise ContractError("associate() returns True while the link is live", "False", LINKS)
    return socket


async def expect_received(
    pods: Sequence[DistributedBackplane], expected: Sequence[tuple[Socket, Sequence[Any]]], what: str
) -> None:
    """Wait until each connection has its events, and everything sent before now; then compare.

    Markers follow the events on the shared channel and on each connection's own. On a transport of several streams,
    such as a cluster's, they may overtake events that went through another node. So expected events are waited for by
    themselves, and unexpected ones had reached the broker before the markers were sent.

    Raises:
        ContractError: A connection got too few events, or others.
    """
    for socket, events in expected:
        await socket.wait_for_events(len(events))
    for pod in pods:
        await expect_return(pod.flush(), "flush() of a live pod", "Link.send: it returns once confirmed")
    for pod in pods:
        for socket, _ in expected:
            await pod.publish(Target.connection(socket.conn_id), {"marker": 0})
        await pod.publish(Target.everyone(), {"marker": 0})
    for socket, _ in expected:
        await wait_until(
            partial(_has_markers, socket, 2 * len(pods)),
            "an event behind the others arrives",
            lambda: "it did not",
            LINKS,
        )
        socket.stream[:] = [item for item in socket.stream if not _is_marker(item)]
    expect_equal([socket.events for socket, _ in expected], [list(events) for _, events in expected], what)


def _has_markers(socket: Socket, count: int) -> bool:
    return sum(map(_is_marker, socket.stream)) >= count


def expect_equal(got: object, expected: object, what: str, look_at: str = LINKS) -> None:
    """Compare a value with the expected one.

    Raises:
        ContractError: They differ.
    """
    if got != expected:
        raise ContractError(f"{what}: {_shorten(expected)}", _shorten(got), look_at)


def expect(condition: object, expected: str, got: object, look_at: str = LINKS) -> None:
    """Require that a condition holds.

    Raises:
        ContractError: It does not.
    """
    if not condition:
        raise ContractError(expected, _shorten(got), look_at)


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text)} characters)"  # noqa: PLR2004 -- a few lines
