"""How much room the queues have that frames are sent to: `QueueRooms`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import define
from backplane_core import Frame, Refusal, is_queue

from backplane_redis._commands import pack_command
from backplane_redis._streams.queues import MAX_BYTES, MAX_ENTRIES, count_unfinished
from backplane_redis._streams.session import Session

__all__ = ["QueueRooms"]

LOOK_EVERY_S: Final = 1.0
"""For how long what was found holds, as other pods send as well: queues may be longer by what comes in that time."""


@define
class Room:
    """What a queue takes until it is looked at again."""

    entries: int
    until: float


class QueueRooms:
    """Says which frames of a batch find no room in their queues.

    Args:
        session: Is asked.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rooms: dict[str, Room] = {}

    async def refuse(self, frames: Sequence[Frame]) -> Sequence[Refusal]:
        """Return the refusals of what does not fit; those that do count as added.

        Raises:
            TransportError: The connection is dead.
        """
        places: dict[str, list[int]] = {}
        for place, frame in enumerate(frames):
            if is_queue(frame[0]):
                places.setdefault(frame[0], []).append(place)
        if not places:
            return ()
        await self._look(places)
        refusals: list[Refusal] = []
        for channel, own in places.items():
            room = self._rooms[channel]
            reason = f"the queue {channel!r} is full: it has {MAX_ENTRIES} jobs, or {MAX_BYTES} bytes, that nobody did"
            refusals += [Refusal(index=place, reason=reason) for place in own[room.entries :]]
            room.entries = max(0, room.entries - len(own))
        return sorted(refusals, key=_place)

    async def _look(self, places: Mapping[str, Sequence[int]]) -> None:
        now = time.monotonic()
        asked = [
            channel
            for channel, own in places.items()
            if (room := self._rooms.get(channel)) is None or room.entries < len(own) or now >= room.until
        ]
        replies = await self._session.ask(*[command for channel in asked for command in _questions(channel)])
        for number, channel in enumerate(asked):
            groups, length, usage = replies[3 * number : 3 * number + 3]
            unfinished = count_unfinished(groups, length)
            is_full = (
                isinstance(usage, int) and isinstance(length, int) and usage * unfinished // max(1, length) >= MAX_BYTES
            )
            entries = 0 if is_full else max(0, MAX_ENTRIES - unfinished)
            self._rooms[channel] = Room(entries, now + LOOK_EVERY_S)


def _questions(channel: str) -> list[bytes]:
    return [
        pack_command("XINFO", "GROUPS", channel),
        pack_command("XLEN", channel),
        pack_command("MEMORY", "USAGE", channel, "SAMPLES", "5"),
    ]


def _place(refusal: Refusal) -> int:
    return refusal.index
