"""Adds frames to streams, and keeps each to its size: `StreamWriter`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from zlib import crc32

import hiredis
from backplane_core import Frame, RefusedError, Retention, TransportError, is_queue

from backplane_redis._commands import pack_command, pack_head
from backplane_redis._streams.entries import FIELD, read_payload
from backplane_redis._streams.place import parse_id
from backplane_redis._streams.queues import KEPT_S
from backplane_redis._streams.rooms import QueueRooms
from backplane_redis._streams.session import RETRYABLE_CODES, Session, logger
from backplane_redis._streams.upkeep import Upkeep

__all__ = ["StreamWriter"]

RETRY_S: Final = 0.5
"""How long a writer waits before it asks again whether there is memory, or a disk: core gives the link up after
`probe_interval_s`."""

MULTI: Final = pack_command("MULTI")
EXEC: Final = pack_command("EXEC")


class StreamWriter:
    """Adds batches of frames to streams over one connection; a batch is added as a whole, or not at all.

    That is what MULTI is for. If the server took some frames of a batch and refused others, for want of memory, those
    it refused would come behind the others when they are sent again, and every receiver would drop them as copies.

    Args:
        session: The connection.
        retention: How much a stream keeps.
    """

    def __init__(self, session: Session, retention: Retention) -> None:
        self._session = session
        self._retention = retention
        self._upkeep = Upkeep(retention, session.where, time.monotonic())
        self._rooms = QueueRooms(session)
        self._heads: dict[str, bytes] = {}
        # The ids of the last entries that were added.
        self._last: dict[str, str] = {}
        self._confirmed: dict[str, str] = {}

    @property
    def confirmed(self) -> Mapping[str, str]:
        """The last entries that were added, by channel, for `find_forgotten`: each one's id and checksum."""
        return self._confirmed

    async def send(self, frames: Sequence[Frame]) -> None:
        """Add the frames; return once they are in their streams.

        Raises:
            TransportError: The connection is dead, or a stream can't be written to.
            AuthenticationError: The user may not write it.
            RefusedError: Some frames found no room in their queues; all others were added.
        """
        refusals = await self._rooms.refuse(frames)
        if refusals:
            full = {refusal.index for refusal in refusals}
            frames = [frame for place, frame in enumerate(frames) if place not in full]
        await self._send(frames)
        if refusals:
            raise RefusedError(refusals)

    async def _send(self, frames: Sequence[Frame]) -> None:
        if not frames:
            return
        known = self._heads.get
        commands = [
            b"%b%d\r\n%b\r\n" % (known(frame[0]) or self._new_head(frame[0]), len(frame[1]), frame[1])
            for frame in frames
        ]
        is_said = False
        while (refused := await self._add(frames, commands, self._upkeep.next(time.monotonic()))) is not None:
            if not is_said:
                is_said = True
                logger.warning("%s; tried again until it does", refused)
            await asyncio.sleep(RETRY_S)

    def _new_head(self, channel: str) -> bytes:
        """Return what commands that add to a channel begin with; there are as many as a fleet has lanes, and queues."""
        limit = () if is_queue(channel) else ("MAXLEN", "~", str(self._retention.entries))
        head = self._heads[channel] = pack_head("XADD", channel, *limit, "*", FIELD)
        return head

    async def _add(
        self, frames: Sequence[Frame], commands: Sequence[bytes], upkeep: Sequence[bytes]
    ) -> TransportError | None:
        """Add a batch; return why the server takes no writes now, None if it has it.

        Args:
            frames: The batch.
            commands: The command for each.
            upkeep: What goes along with them.

        Raises:
            TransportError: It is dead, or refuses for good.
        """
        adding = commands if len(commands) == 1 else [MULTI, *commands, EXEC]
        replies = await self._session.ask(*adding, *upkeep)
        added: Any = replies[: len(adding)]
        self._upkeep.take(replies[len(adding) :], self._last)
        if len(commands) > 1:
            queued, added = added[1:-1], added[-1]
            if isinstance(added, hiredis.ReplyError):  # one that refuses a part of a batch says why before that
                pairs = zip(frames, queued, strict=True)
                found = next((one for one in pairs if isinstance(one[1], hiredis.ReplyError)), (frames[0], added))
                return self._refusal(found[0], str(found[1]))
        refused = next((one for one in zip(frames, added, strict=True) if type(one[1]) is not bytes), None)
        if refused is not None:
            return self._refusal(refused[0], str(refused[1]))
        last = {frame[0]: place for place, frame in enumerate(frames)}
        for channel, place in last.items():
            id_ = self._last[channel] = added[place].decode()
            self._confirmed[channel] = f"{id_}:{crc32(frames[place][1])}"
        self._upkeep.added([channel for channel in last if not is_queue(channel)])
        return None

    def _refusal(self, frame: Frame, text: str) -> TransportError:
        """Return the refusal of every write, which ends by itself; raise any other."""
        error = self._session.refusal("XADD", frame[0], text)
        if text.partition(" ")[0] in RETRYABLE_CODES:
            return error
        raise error

    async def find_forgotten(self, cursors: Mapping[str, str]) -> Collection[str]:
        """Return the channels whose streams lack the entry of this cursor, or have another one of its id.

        Two servers that both were written to, one of which had been replaced, may give two entries the same id.
        """
        cursors = await self._judged(cursors)
        parts = {channel: cursor.partition("/")[0].partition(":") for channel, cursor in cursors.items()}
        asked = [pack_command("XRANGE", channel, id_, id_, "COUNT", "1") for channel, (id_, _, _) in parts.items()]
        replies = await self._session.ask(*asked) if asked else []
        forgotten: list[str] = []
        for (channel, (_, _, checksum)), reply in zip(parts.items(), replies, strict=True):
            if isinstance(reply, hiredis.ReplyError):
                raise self._session.refusal("XRANGE", channel, str(reply))
            if not reply or (checksum and str(crc32(read_payload(reply[0][1]))) != checksum):
                forgotten.append(channel)
        return forgotten

    async def _judged(self, cursors: Mapping[str, str]) -> Mapping[str, str]:
        """Return the cursors that say something: what a queue has done, it keeps for a while only."""
        if not any(is_queue(channel) for channel in cursors):
            return cursors
        [clock] = await self._session.ask(pack_command("TIME"))
        oldest_ms = 0.0 if isinstance(clock, hiredis.ReplyError) else (int(clock[0]) - KEPT_S) * 1000
        return {
            channel: cursor
            for channel, cursor in cursors.items()
            if not is_queue(channel) or parse_id(cursor.partition(":")[0])[0] > oldest_ms
        }
