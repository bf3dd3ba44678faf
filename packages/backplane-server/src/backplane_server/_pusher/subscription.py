"""One channel that a socket hears: `Subscription`, and the `ChannelSink` of one with a connection of its own."""

from __future__ import annotations

from typing import Final

from attrs import define, field
from backplane_asgi.sockets import ClientSocket
from backplane_core import CaughtUp, ClosedByFleetError, Event, EventAttachment, Gap, Replay

from backplane_server._pusher.messages import CLOSES
from backplane_server._pusher.names import Channel
from backplane_server._pusher.rooms import Room

__all__ = ["ChannelSink", "Subscription", "connection_ids"]

MOST_HELD: Final = 1_000
"""Events that may come until a client knows that it is subscribed: as many as may wait for it afterwards."""


def connection_ids(app_id: str, socket_id: str, channel: Channel | None = None) -> list[str]:
    """Return the ids of a client's connections: its own, and that of a channel which may have one of its own.

    The app's id is in there, so that no app can exclude another's clients.
    """
    own = f"pusher:{app_id}:{socket_id}"
    return [own] if channel is None else [own, f"{own}:{channel.name}"]


@define(eq=False)
class Subscription:
    """One channel that a socket hears.

    Args:
        channel: Which.
        user_id: Who the client is in there; None: nobody in particular.
        attachment: A connection of its own; None: the socket's own hears it.
        room: Those who are present; None: nobody looks.
    """

    channel: Channel
    user_id: str | None = None
    attachment: EventAttachment | None = None
    room: Room | None = None


@define(eq=False)
class ChannelSink:
    """Hands the events of one channel to a socket, behind what the client has to get first.

    A connection is present as one user in all of its targets, and resumes at one place: so a presence channel, and one
    whose last event is handed out, takes a connection of its own.

    Args:
        conn_id: The connection's id.
        socket: The client's.
    """

    conn_id: str
    _socket: ClientSocket
    hears_gaps: bool = field(default=True, init=False)
    _held: list[Event] | None = field(factory=list[Event], init=False)

    def release(self) -> None:
        """Hand on what came so far, and everything else from now on."""
        held, self._held = self._held or (), None
        for event in held:
            self._socket.sink.accept(event)

    def accept(self, event: Event) -> bool:
        """Take an event."""
        if self._held is None:
            return self._socket.sink.accept(event)
        if len(self._held) >= MOST_HELD:
            self._socket.finish(*CLOSES["slow"])
            return False
        self._held.append(event)
        return True

    def replay(self, missed: Replay) -> None:
        """Take what came since the last event that is handed out."""
        while (item := missed.take()) is not None:
            if isinstance(item, Gap):
                self.mark(item)
            elif not isinstance(item, CaughtUp):
                self.accept(item)

    def mark(self, gap: Gap) -> None:
        """Take a gap."""
        self._socket.sink.mark(gap)

    def close(self, order: ClosedByFleetError) -> None:
        """Close the socket as the fleet was ordered to."""
        self._socket.sink.close(order)

    def end(self) -> None:
        """Take nothing else; the socket goes on, unless its own connection ends as well."""
