"""The members of a presence channel, on all pods, and the sockets of this pod that see them: `Room`, `Rooms`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import Final, cast

import msgspec
from attrs import define, field
from backplane_asgi.sockets import ClientSocket
from backplane_core import (
    BackplaneError,
    BaseBackplane,
    Event,
    PresenceChange,
    PresenceJoined,
    PresenceLeft,
    PresenceSnapshot,
)

from backplane_server._pusher.messages import CLOSES, event_json
from backplane_server._pusher.names import Channel

__all__ = ["Room", "Rooms"]

SEEN_S: Final = 5.0
"""How long someone who joins waits to be seen: milliseconds, unless this pod is cut off from the others."""
INFO: Final = "user_info"

_log: Final = logging.getLogger("backplane.pusher")
_encode: Final = msgspec.json.encode


def info_of(presence: object) -> object:
    """Return what an app says of a member; whatever else is present, as a pod's own connection, has nothing of it."""
    return cast("Mapping[str, object]", presence).get(INFO) if isinstance(presence, dict) else None


@define(eq=False)
class Room:
    """One presence channel: follows its members, and reports to its sockets each one who comes and goes, once.

    A snapshot takes the place of changes that were missed; what differs from before is reported as changes. So a link
    that was down makes nobody leave and join.

    Args:
        channel: Which.
        backplane: Of this pod.
    """

    channel: Channel
    _backplane: BaseBackplane
    members: dict[str, object] = field(factory=dict[str, object], init=False)
    """By user, what the app says of each."""
    users: int = field(default=0, init=False)
    """How many sockets of this pod are in it, or about to be."""
    failure: BackplaneError | None = field(default=None, init=False)
    """Why nobody knows who is in it."""
    _is_known: bool = field(default=False, init=False)
    _sockets: dict[ClientSocket, str] = field(factory=dict[ClientSocket, str], init=False)
    _changed: asyncio.Event = field(factory=asyncio.Event, init=False)
    _task: asyncio.Task[None] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._follow(), name="backplane: pusher room")

    async def wait_known(self) -> None:
        """Return once it is known who is in it, or after a few seconds.

        Raises:
            BackplaneError: Nobody knows who is in it.
        """
        await self._wait(None)

    async def wait_seen(self, user_id: str) -> None:
        """Return once someone who joined is known to be in it, or after a few seconds.

        Args:
            user_id: Who.

        Raises:
            BackplaneError: Nobody knows who is in it.
        """
        await self._wait(user_id)

    async def _wait(self, user_id: str | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(SEEN_S):
                while not self._knows(user_id) and self.failure is None:
                    self._changed.clear()
                    await self._changed.wait()
        if self.failure is not None:
            raise self.failure

    def admit(self, socket: ClientSocket, user_id: str, info: object) -> object:
        """Let a socket hear of changes from now on; return who is in it, as the protocol describes them.

        Args:
            socket: Of a client.
            user_id: Who it is.
            info: What the app says of it.
        """
        members = self.members if user_id in self.members else {**self.members, user_id: info}
        self._sockets[socket] = user_id
        return {"presence": {"ids": list(members), "hash": members, "count": len(members)}}

    def dismiss(self, socket: ClientSocket) -> None:
        """Let a socket hear of nothing else; a no-op if it hears of nothing."""
        self._sockets.pop(socket, None)

    def close(self) -> asyncio.Task[None]:
        """Follow it no longer; return what ends soon."""
        self._task.cancel()
        return self._task

    def _knows(self, user_id: str | None) -> bool:
        return self._is_known if user_id is None else user_id in self.members

    async def _follow(self) -> None:
        try:
            async with aclosing(self._backplane.fleet.watch(self.channel.target)) as changes:
                async for change in changes:
                    self._take(change)
                    self._is_known = True
                    self._changed.set()
        except BackplaneError as error:  # too much is watched here, or it closes
            self._fail(error)
        except Exception:  # noqa: BLE001 -- whatever it is, its sockets must not believe what they know now
            _log.exception("a presence channel is no longer followed")
            self._fail(BackplaneError("it is no longer followed"))

    def _fail(self, error: BackplaneError) -> None:
        self.failure = error
        self._changed.set()
        for socket in self._sockets:  # they would believe for ever what they know now
            socket.finish(*CLOSES["gap"])

    def _take(self, change: PresenceChange) -> None:
        match change:
            case PresenceSnapshot():
                present = {key: info_of(presence) for key, presence in change.present.items()}
                for key in [key for key in self.members if key not in present]:
                    self._left(key)
                for key, info in present.items():
                    self._joined(key, info)
            case PresenceJoined():
                self._joined(change.key, info_of(change.presence))
            case PresenceLeft():
                self._left(change.key)

    def _joined(self, key: str, info: object) -> None:
        is_new = key not in self.members
        self.members[key] = info  # of one who was there already, what the app says may have changed
        if is_new:
            self._announce("member_added", {"user_id": key, INFO: info}, key)

    def _left(self, key: str) -> None:
        if self.members.pop(key, self) is not self:
            self._announce("member_removed", {"user_id": key}, key)

    def _announce(self, name: str, data: object, about: str) -> None:
        # One event for all of them, so that its frame is built once, and they are written to a few per turn.
        text = _encode(_encode(data).decode())
        event = Event(event_json(f"pusher_internal:{name}", text), target_wire=self.channel.target.wire)
        for socket, user_id in self._sockets.items():
            if user_id != about:
                socket.sink.accept(event)


@define(eq=False)
class Rooms:
    """The presence channels of this pod's sockets.

    Args:
        backplane: Of this pod.
    """

    _backplane: BaseBackplane
    _rooms: dict[Channel, Room] = field(factory=dict[Channel, Room], init=False)
    _ending: set[asyncio.Task[None]] = field(factory=set[asyncio.Task[None]], init=False)

    def enter(self, channel: Channel) -> Room:
        """Return the room of a channel, which is followed until as many have left it as entered."""
        room = self._rooms.get(channel)
        if room is None or room.failure is not None:
            room = self._rooms[channel] = Room(channel, self._backplane)
        room.users += 1
        return room

    def leave(self, room: Room) -> None:
        """Leave a room; the last one ends it."""
        room.users -= 1
        if not room.users:
            if self._rooms.get(room.channel) is room:
                del self._rooms[room.channel]
            ending = room.close()
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def wait_left(self) -> None:
        """Return once nothing is left of the rooms that ended."""
        if self._ending:
            await asyncio.wait(self._ending)


def shown(info: msgspec.Raw) -> object:
    """Return what an app says of a member, to be present with."""
    return {INFO: msgspec.json.decode(info)}
