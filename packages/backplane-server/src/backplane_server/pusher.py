"""The Pusher protocol, version 7, for any ASGI app: `pusher_endpoint`."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from attrs import field, frozen
from backplane_asgi import ASGIApp, Receive, Scope, Send
from backplane_asgi.sockets import find_backplane
from backplane_core import BaseBackplane, ConfigurationError

from backplane_server._pusher.answers import answer
from backplane_server._pusher.api import Api
from backplane_server._pusher.apps import Apps, PusherApp
from backplane_server._pusher.door import Door
from backplane_server._pusher.form import PusherForm
from backplane_server._pusher.socket import SocketDoor

__all__ = ["PusherApp", "pusher_endpoint"]

SOCKET: Final = re.compile(r".*/app/([^/]+)/?", re.DOTALL)
REQUEST: Final = re.compile(r".*?/apps/([^/]+)/(.+?)/?", re.DOTALL)
LEAST_EVENT_BYTES: Final = 1_024


def pusher_endpoint(
    backplane: BaseBackplane | str = "backplane",
    *,
    apps: Sequence[PusherApp],
    origins: Sequence[str] = (),
    max_connections: int | None = None,
    max_event_bytes: int = 10 * 1024,
) -> ASGIApp:
    """Return an ASGI app that speaks the Pusher protocol: clients connect to `/app/KEY`, servers ask `/apps/ID/…`.

    pusher-js, laravel-echo and the SDKs of servers work as they are, with another host. A channel is a target,
    `Target("pusher", "APP_ID:CHANNEL")`; pods that publish `{"event": "my-event", "data": …}` to it reach its clients.

    Close codes: 4001: no app has this key. 4004: the app has as many clients as it may. 4006, 4007, 4008: the protocol
    version. 4009: the page may not connect, or a user was signed out. 4100: the server is full, or the client was too
    slow, or said too much. 4200: events may be missing, or the server is about to stop. After a gap each client is
    closed at a random time within 1 ms for each of the pod's clients, 5 s at most, so that they don't come back all at
    once.

    Args:
        backplane: The backplane, or its name in the state that the app's lifespan yields.
        apps: Those that it knows.
        origins: Web pages that may connect, as `https://app.example`; by default any: it takes a signature of the app
            to hear what is private.
        max_connections: Clients that the process may have, however they are connected. By default any number.
        max_event_bytes: Bytes of the data of one event. By default 10 KiB, as Pusher has it.

    Returns:
        The app: mount it at `/app` and `/apps`.

    Raises:
        ConfigurationError: There is no app, two have the same key, or `max_event_bytes` is below 1,024.

    Delivery: as `publish` does: at most once, in order. What is missed closes the socket with 4200, so that the client
        comes back and reloads.
    """
    if max_event_bytes < LEAST_EVENT_BYTES:
        raise ConfigurationError(f"max_event_bytes is at least {LEAST_EVENT_BYTES}")
    known = Apps(apps)
    return PusherEndpoint(
        backplane=backplane,
        apps=known,
        sockets=SocketDoor(
            form=PusherForm(),
            origins=frozenset(origins),
            max_connections=max_connections,
            max_event_bytes=max_event_bytes,
        ),
        api=Api(apps=known, max_event_bytes=max_event_bytes),
    )


@frozen(kw_only=True)
class PusherEndpoint:
    """See `pusher_endpoint`."""

    backplane: BaseBackplane | str
    apps: Apps
    sockets: SocketDoor
    api: Api
    _doors: dict[BaseBackplane, Door] = field(factory=dict[BaseBackplane, Door], init=False, repr=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client, or answer one request."""
        backplane = find_backplane(self.backplane, scope)
        path: str = scope["path"]
        socket, request = SOCKET.fullmatch(path), REQUEST.fullmatch(path)
        if scope["type"] == "websocket":
            with self._entered(backplane) as door, suppress(OSError):  # the client went while something was being sent
                await self.sockets.serve(backplane, door, "" if socket is None else socket[1], scope, receive, send)
        elif request is not None:
            await self.api.serve(backplane, request[1], request[2], scope, receive, send)
        elif socket is not None:
            await answer(send, 426, {"error": "this is a WebSocket"})
        else:
            await answer(send, 404, {"error": "there is nothing here"})

    @contextmanager
    def _entered(self, backplane: BaseBackplane) -> Generator[Door]:
        """Return what the clients of a backplane share, which goes with the last of them."""
        door = self._doors.get(backplane)
        if door is None:
            door = self._doors[backplane] = Door(backplane, self.apps)
        door.clients += 1
        try:
            yield door
        finally:
            door.clients -= 1
            if not door.clients:
                del self._doors[backplane]
