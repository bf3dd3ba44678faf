"""What the clients of one endpoint share on one pod: `Door`."""

from __future__ import annotations

from collections import Counter

from attrs import define, field
from backplane_core import BaseBackplane, ConfigurationError, Event, TransportError

from backplane_server._pusher.apps import Apps
from backplane_server._pusher.directory import Directory
from backplane_server._pusher.names import Channel
from backplane_server._pusher.rooms import Rooms

__all__ = ["Door"]


@define(eq=False)
class Door:
    """What the clients of one endpoint share on one pod.

    Args:
        backplane: Of this pod.
        apps: Those that it knows.
    """

    _backplane: BaseBackplane
    apps: Apps
    clients: int = field(default=0, init=False)
    """How many are in it."""
    connected: Counter[str] = field(factory=Counter[str], init=False)
    """Clients by their app's key."""
    rooms: Rooms = field(init=False)
    directory: Directory = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.rooms = Rooms(self._backplane)
        self.directory = Directory(self._backplane)

    async def wait_left(self) -> None:
        """Return once nothing is left of what clients have left."""
        await self.rooms.wait_left()
        await self.directory.wait_left()

    async def last_of(self, channel: Channel) -> tuple[Event | None, str | None]:
        """Return the last event of a channel, and the place behind it; neither is known without a log."""
        try:
            history = await self._backplane.history(channel.target, 1)
        except (ConfigurationError, TransportError):
            return None, None
        return (history.events[-1] if history.events else None), history.id
