"""Connections that write down what they got."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import define, field
from backplane_core import Attachment, BaseBackplane, Gap, Target

from tests.support.waiting import until

__all__ = ["Socket", "attach", "attach_user", "settled"]


@define
class Socket:
    """What one connection got, in order; gaps stand among the events where they were reported."""

    conn_id: str
    stream: list[Any] = field(factory=list[Any])

    @property
    def events(self) -> list[Any]:
        return [item for item in self.stream if not isinstance(item, Gap)]

    @property
    def gaps(self) -> list[Gap]:
        return [item for item in self.stream if isinstance(item, Gap)]

    async def has(self, count: int) -> list[Any]:
        """Wait for so many events and return all."""
        await until(lambda: len(self.events) >= count, f"{count} events at {self.conn_id}, it has {len(self.events)}")
        return self.events


async def attach(pod: BaseBackplane, conn_id: str, *targets: Target) -> Socket:
    """Attach a connection; each association is confirmed."""
    socket = Socket(conn_id)
    await pod.attach(conn_id, socket.stream.append, on_gap=socket.stream.append)
    for target in targets:
        assert await pod.associate(conn_id, target) is True
    return socket


async def attach_user(pod: BaseBackplane, conn_id: str, sink: Callable[[Any], Any], *, raw: bool = False) -> Attachment:
    """Attach a sink as a connection of user u1."""
    attachment = await pod.attach(conn_id, sink, raw=raw)
    await pod.associate(conn_id, Target.user("u1"))
    return attachment


async def settled(*pods: BaseBackplane, sockets: list[Socket]) -> None:
    """Return once whatever was published before has arrived wherever it will: a marker follows it on each path.

    Frames keep their order per publisher and channel; a marker goes over the shared channel and over each connection's
    own.
    """
    for number, pod in enumerate(pods):
        for socket in sockets:
            await pod.publish(Target.connection(socket.conn_id), {"marker": number})
        await pod.publish(Target.everyone(), {"marker": number})
    for socket in sockets:
        await until(partial(_has_markers, socket, 2 * len(pods)), f"markers at {socket.conn_id}")
        socket.stream[:] = [item for item in socket.stream if not _is_marker(item)]


def _is_marker(item: Any) -> bool:
    return isinstance(item, dict) and "marker" in item


def _has_markers(socket: Socket, count: int) -> bool:
    return sum(map(_is_marker, socket.stream)) >= count
