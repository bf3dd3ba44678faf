"""For those who write a WebSocket protocol of their own: one client's socket, as `websocket_endpoint` has it.

It brings what is hard about that: frames that are built once per event and pod, a bounded way out for slow clients,
closes that arrive, and its part in `drain_on_signal` and the metrics. What its clients say, and who may, is yours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal, TypeAlias

from backplane_core import BaseBackplane, EventSink, Target

from backplane_asgi._finding import find_backplane
from backplane_asgi._sockets.endings import GAP, SLOW, STOPPING, TAKEN_OVER, Ending, resolve
from backplane_asgi._sockets.flusher import flusher_of
from backplane_asgi._sockets.forms import SocketForm, encoding_of
from backplane_asgi._sockets.hub import hub_of
from backplane_asgi._sockets.line import Line, takes_frames
from backplane_asgi._sockets.outbound import Limits, Outbound
from backplane_asgi._types import Scope, Send

__all__ = ["ClientSocket", "EndedBy", "SocketForm", "count_refused", "find_backplane", "socket_count"]

EndedBy: TypeAlias = Literal["gap", "slow", "stopping", "replaced", "order"]
"""Why a socket has to be closed. `gap`: events may have been missed. `slow`: it was too far behind. `stopping`: this
server is about to stop. `replaced`: another connection has taken its id. `order`: `finish`, or `fleet.close`."""

_REASONS: dict[Ending, EndedBy] = {GAP: "gap", SLOW: "slow", STOPPING: "stopping", TAKEN_OVER: "replaced"}


def socket_count(backplane: BaseBackplane) -> int:
    """Return how many clients the endpoints of this backplane hold, however they are connected.

    Args:
        backplane: The backplane.
    """
    return sum(len(sockets) for sockets in hub_of(backplane).open.values())


def count_refused(backplane: BaseBackplane, reason: str) -> None:
    """Count a client that was refused, for the metrics.

    Args:
        backplane: Whose endpoint has refused it.
        reason: One of a few, as the code that it was closed with.
    """
    hub_of(backplane).refused["websocket", reason] += 1


class ClientSocket:
    """One client's WebSocket.

        socket = ClientSocket(backplane, scope, conn_id, form)
        await socket.attach(Target.user("u1"))
        try:
            async with socket.opened(send):
                while (message := await receive())["type"] != "websocket.disconnect":
                    socket.write(b'{"event":"pong"}')
                socket.has_gone = True
            socket.detach()
            await socket.close(send, 1012, "come back")
        finally:
            socket.end()

    A gap ends it: the client comes back, and reloads.

    Args:
        backplane: Where it is attached.
        scope: Of the connection.
        conn_id: The connection's id.
        form: How events look to it; one for all sockets of an endpoint.
        max_pending: Messages that may wait to be written.
        max_pending_bytes: Bytes that may wait to be written.
        max_age_s: Seconds for which the socket may take nothing of what waits.
    """

    def __init__(
        self,
        backplane: BaseBackplane,
        scope: Scope,
        conn_id: str,
        form: SocketForm,
        *,
        max_pending: int = 1_000,
        max_pending_bytes: int = 1024 * 1024,
        max_age_s: float = 10.0,
    ) -> None:
        self._backplane = backplane
        self._hub = hub_of(backplane)
        self._outbound = Outbound(
            conn_id,
            encoding_of(form, takes_frames=takes_frames(scope)),
            flusher_of(asyncio.get_running_loop()),
            limits=Limits(max_pending=max_pending, max_pending_bytes=max_pending_bytes, max_age_s=max_age_s),
            closes_on_gap=True,
        )
        self._line = Line(self._hub, scope, self._outbound)

    @property
    def conn_id(self) -> str:
        """The connection's id."""
        return self._outbound.conn_id

    @property
    def sink(self) -> EventSink:
        """Takes events for this socket, in order with all others: for another connection that is shown on it."""
        return self._outbound

    @property
    def has_gone(self) -> bool:
        """Whether the client has gone by itself; set it once `receive` says so."""
        return self._line.has_gone

    @has_gone.setter
    def has_gone(self, has_gone: bool) -> None:
        self._line.has_gone = has_gone

    @property
    def ended_by(self) -> EndedBy | None:
        """Why it has to be closed; None: it is open."""
        ending = resolve(self._outbound.ending, self._backplane.state)
        return None if ending is None else _REASONS.get(ending, "order")

    @property
    def order(self) -> tuple[int, str]:
        """The code and the reason of `finish`, or of `fleet.close`; zero and nothing if it is open."""
        ending = self._outbound.ending
        return (0, "") if ending is None else (ending.code, ending.reason)

    async def attach(self, *targets: Target, direct: bool = True) -> None:
        """Attach it, and count it among the sockets that are open.

        Args:
            targets: The targets whose events it gets.
            direct: Whether it gets the events of `Target.connection(conn_id)`. By default True. False where nobody
                addresses it by its id: under `routing="interest"` that saves the broker a subscription for each.

        Raises:
            ClosedError: The backplane is draining or closed.
            TargetDeniedError: The broker does not let this pod hear a target.
        """
        self._outbound.attachment = await self._backplane.attach_events(self._outbound, *targets, direct=direct)
        self._hub.opened("websocket", self._outbound)

    @asynccontextmanager
    async def opened(self, send: Send) -> AsyncGenerator[None]:
        """Write from now on; what is awaited in the block is cancelled once the socket has to be closed.

        Args:
            send: Of the connection, which has been accepted.
        """
        async with self._line.opened(send):
            yield

    def write(self, text: bytes) -> None:
        """Write a message in its place among the events; a no-op once it has to be closed.

        Args:
            text: As UTF-8.
        """
        self._outbound.put_control(text)

    def finish(self, code: int, reason: str) -> None:
        """Accept nothing else, and close the socket, for the first reason that there is.

        Args:
            code: A WebSocket close code.
            reason: For people, at most 123 bytes.
        """
        self._outbound.finish(Ending(code, reason))

    def detach(self) -> None:
        """Take nothing else from the backplane."""
        self._line.detach()

    async def close(self, send: Send, code: int, reason: str) -> None:
        """Write what waits, unless the client is too slow for it, and close the socket, unless the client has gone.

        Args:
            send: Of the connection.
            code: A WebSocket close code.
            reason: For people, at most 123 bytes.
        """
        await self._line.close(send, Ending(code, reason))

    def end(self) -> None:
        """Take nothing else, and count it as ended, whatever it ended with; a no-op after `close`."""
        self._line.detach()
        self._line.end()
