"""`/app/KEY`: one client's WebSocket, from its handshake to its close."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection
from random import uniform
from typing import Final

from attrs import frozen
from backplane_asgi import Receive, Request, Scope, Send
from backplane_asgi.sockets import ClientSocket, count_refused, socket_count
from backplane_core import BaseBackplane, ClosedError

from backplane_server._pusher.apps import PusherApp
from backplane_server._pusher.door import Door
from backplane_server._pusher.form import PusherForm
from backplane_server._pusher.messages import CLOSES, error, established
from backplane_server._pusher.session import Session
from backplane_server._pusher.subscription import connection_ids

__all__ = ["SocketDoor"]

VERSIONS: Final = range(5, 8)
"""Protocols that differ in nothing that is said here: SDKs still ask for each of them."""
DIGITS: Final = 10**10
"""Each half of a socket's id is below: two random ones make one that nobody else has."""

KICKED: Final = 4000
"""What `fleet.close` closes with if nobody says otherwise; Pusher's clients take it for "come back by TLS"."""
STAY_AWAY: Final = 4009

GAP_S_PER_SOCKET: Final = 0.001
MOST_GAP_S: Final = 5.0
"""After a gap all sockets of a pod are closed, and all come back at once: 0.5 ms of processor time each. So each is
closed at a random time within 1 ms for each of them, 5 s at most; it gets nothing meanwhile."""


@frozen(kw_only=True)
class SocketDoor:
    """Serves the sockets of an endpoint.

    Args:
        form: How events look; one for all sockets.
        origins: Web pages that may connect; none: any may, since what it takes to hear anything is a signature.
        max_connections: Clients that the process may have, however they are connected; None: any number.
        max_event_bytes: Bytes of the data of one event of a client.
    """

    form: PusherForm
    origins: Collection[str]
    max_connections: int | None
    max_event_bytes: int

    async def serve(  # noqa: PLR0917 -- one caller
        self, backplane: BaseBackplane, door: Door, key: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve one client.

        Args:
            backplane: Where it is attached.
            door: What the clients of this pod share.
            key: What it has connected with.
            scope: Of the connection.
            receive: Of the connection.
            send: Of the connection.
        """
        await receive()  # websocket.connect
        await send({"type": "websocket.accept"})
        app = door.apps.with_key(key)
        refusal = self._refusal(app, door, backplane, Request(scope))
        if app is None or refusal is not None:
            code, reason = refusal or (4001, "")
            count_refused(backplane, str(code))
            # After it is accepted: a browser can't read the status of a handshake that was refused.
            await send({"type": "websocket.close", "code": code, "reason": reason})
            return
        door.connected[app.key] += 1
        try:
            await self._run(backplane, door, app, scope, receive, send)
        finally:
            door.connected[app.key] -= 1

    def _refusal(
        self, app: PusherApp | None, door: Door, backplane: BaseBackplane, request: Request
    ) -> tuple[int, str] | None:
        """Return the code and the reason with which a client is sent away; None: it may stay."""
        if (problem := _version_problem(request.query.get("protocol", ""))) is not None:
            return problem
        if app is None:
            return 4001, "no app has this key"
        origin = request.header("origin")
        if self.origins and origin is not None and not {origin, "*"} & {*self.origins}:
            return 4009, "this page may not connect"
        if app.max_connections and door.connected[app.key] >= app.max_connections:
            return 4004, "this app has as many connections as it may"
        if self.max_connections is not None and socket_count(backplane) >= self.max_connections:
            return 4100, "this server is full"
        return None

    async def _run(  # noqa: PLR0917 -- one caller
        self, backplane: BaseBackplane, door: Door, app: PusherApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        socket_id = f"{secrets.randbelow(DIGITS)}.{secrets.randbelow(DIGITS)}"
        socket = ClientSocket(backplane, scope, connection_ids(app.id, socket_id)[0], self.form)
        session = Session(
            backplane=backplane,
            door=door,
            app=app,
            socket=socket,
            socket_id=socket_id,
            form=self.form,
            max_event_bytes=self.max_event_bytes,
        )
        try:
            await _attach(socket)
            if socket.ended_by is None:
                socket.write(established(socket_id))
                try:
                    async with socket.opened(send):
                        await _listen(session, socket, receive)
                finally:
                    await session.leave_all()
                    socket.detach()
            await _close(backplane, socket, send)
        finally:
            socket.end()


async def _attach(socket: ClientSocket) -> None:
    try:
        await socket.attach(direct=False)  # nobody addresses it by its id, which the broker need not know then
    except ClosedError:
        socket.finish(*CLOSES["stopping"])


async def _close(backplane: BaseBackplane, socket: ClientSocket, send: Send) -> None:
    if socket.ended_by == "gap" and not socket.has_gone:
        await asyncio.sleep(uniform(0, min(MOST_GAP_S, socket_count(backplane) * GAP_S_PER_SOCKET)))  # noqa: S311
    ended_by = socket.ended_by
    code, reason = CLOSES.get(ended_by, socket.order) if ended_by is not None else (1000, "")
    if code == KICKED:
        code = STAY_AWAY
    await socket.close(send, code, reason)


def _version_problem(version: str) -> tuple[int, str] | None:
    if not version:
        return 4008, "no protocol version: add ?protocol=7"
    if not (version.isascii() and version.isdigit() and len(version) < 4):  # noqa: PLR2004 -- digits of a version
        return 4006, "the protocol version is no number"
    if int(version) not in VERSIONS:
        return 4007, f"protocol versions {VERSIONS[0]} to {VERSIONS[-1]} are spoken here"
    return None


async def _listen(session: Session, socket: ClientSocket, receive: Receive) -> None:
    """Take what a client says, until it goes."""
    while (message := await receive())["type"] != "websocket.disconnect":
        text = message.get("text")
        if socket.ended_by is not None:
            continue  # until the end, which is near, comes through
        if text is None:
            socket.write(error("messages are text"))
        else:
            await session.take(text)
    socket.has_gone = True
