"""Reads streams from where somebody was: `StreamReader`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import hiredis
from backplane_core import Frame, Lost, TransportError

from backplane_redis._commands import pack_command
from backplane_redis._streams.divergence import find_before_tear
from backplane_redis._streams.entries import parse_info, read_payload
from backplane_redis._streams.place import Place, StreamInfo, parse_id
from backplane_redis._streams.session import Session
from backplane_redis._streams.trail import Trails

__all__ = ["StreamReader"]

BLOCK_MS: Final = 2_000
"""How long a read waits for an entry before it is repeated."""

LOOK_EVERY_S: Final = 5.0
"""How often a reader looks whether its streams are still the ones that it reads: somebody may have deleted one."""

PAGE_BYTES: Final = 4 * 1024 * 1024
"""About how much one read brings at most, over all streams: the server takes a number of entries, and no size."""
MAX_PAGE: Final = 512
MIN_PAGE: Final = 8

IDLE_S: Final = 1.0
"""How often a link without channels, as that of a process that only publishes, looks whether it still lives."""

WAKE_S: Final = 0.01
"""Between two attempts to wake a read that may not have begun to wait."""


class StreamReader:
    """Reads all streams of a link with one command, over a connection of its own, since it waits there.

    The invariant: `places` moves with what is handed over, and only then. A page that may not follow on the last one,
    because the stream was trimmed in between, is not handed over: what is gone is reported, and it is read again.

    Args:
        session: Waits for entries.
        asker: Is asked about streams meanwhile, and wakes the other.
        client_id: The id of the session's client; None: the user may not know it, so a read that waits is not woken.
        trails: Where this pod has been, also by earlier links.
    """

    def __init__(self, session: Session, asker: Session, client_id: int | None, trails: Trails) -> None:
        self.received_until = float("-inf")
        """All that was in the streams by then was yielded, and taken: `time.monotonic()`, seconds. What the link before
        this one had not read is still to come, so a new link has proven nothing yet."""
        self._session = session
        self._asker = asker
        self._client_id = client_id
        self._trails = trails
        self._places: dict[str, Place] = {}
        self._lost: list[Lost] = []
        self._changed = asyncio.Event()
        self._count = 64
        self._look_at = time.monotonic() + LOOK_EVERY_S
        # The streams of which the last read did not bring all.
        self._behind: Sequence[str] = ()
        # What the read that waits now was asked for; None: none waits.
        self._reading: Mapping[str, Place] | None = None

    @property
    def cursors(self) -> Mapping[str, str]:
        """How far each stream was read."""
        return {channel: str(place) for channel, place in self._places.items()}

    async def resume(self, channels: Sequence[str], after: Mapping[str, str]) -> Mapping[str, str]:
        """Read these channels as well, behind their cursors or from their ends on; return where that is.

        Raises:
            TransportError: The connection is dead, or a stream can't be read.
        """
        known = {channel: Place.parse(cursor) for channel, cursor in after.items()}
        states = await self._look(self._asker, channels, known)
        begun: dict[str, Place] = {}
        torn: dict[str, Place] = {}
        for channel in channels:
            info, is_there = states[channel]
            place = known.get(channel)
            if place is None:
                begun[channel] = info.end
            elif info.went_back(place, is_there=is_there):
                reason = "the stream has less than it had: the server lost its end, or somebody deleted it"
                self._lost.append(Lost(channel, reason, cause="epoch"))
                torn[channel] = place
            else:
                begun[channel] = self._trimmed(channel, place, info)
        infos = {channel: states[channel][0] for channel in torn}
        begun |= await find_before_tear(self._asker, self._trails, torn, infos)
        self._places |= begun
        await self._wake()
        return {channel: str(place) for channel, place in begun.items()}

    def _trimmed(self, channel: str, place: Place, info: StreamInfo) -> Place:
        lost = info.trimmed(channel, place)
        if lost is None:
            return place
        self._lost.append(lost)
        return Place(place.id, info.gone)

    async def _look(
        self, session: Session, channels: Sequence[str], places: Mapping[str, Place]
    ) -> Mapping[str, tuple[StreamInfo, bool]]:
        """Return what the streams are like now, and whether the entries of these places were there before that.

        Args:
            session: Is asked. The one that reads, unless a read waits there: on the other, sends would wait as well.
            channels: The streams.
            places: Where their readers are.
        """
        known = [channel for channel in channels if channel in places]
        ranges = [
            pack_command("XRANGE", one, places[one].redis_id, places[one].redis_id, "COUNT", "1") for one in known
        ]
        infos = [pack_command("XINFO", "STREAM", channel) for channel in channels]
        replies = await session.ask(*ranges, *infos) if channels else []
        there = {
            channel
            for channel, reply in zip(known, replies, strict=False)
            if isinstance(reply, list) and reply and self._trails.agrees(channel, places[channel], _payload(reply))
        }
        return {
            channel: (parse_info(self._asker, channel, reply), channel in there)
            for channel, reply in zip(channels, replies[len(known) :], strict=True)
        }

    async def leave(self, channels: Sequence[str]) -> None:
        """Read these channels no longer."""
        for channel in channels:
            self._places.pop(channel, None)
        await self._wake()

    async def _wake(self) -> None:
        """Have the read that waits begin again with what is to be read now."""
        self._changed.set()
        while (
            self._client_id is not None
            and self._reading is not None
            and self._reading.keys() != self._places.keys()
            and not self._session.is_dead
        ):
            await self._asker.ask(pack_command("CLIENT", "UNBLOCK", str(self._client_id)))
            await asyncio.sleep(WAKE_S)

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what is added, a page of all streams at once.

        Raises:
            TransportError: The connection is dead, or a stream is not what it was.
        """
        while True:
            if not self._places:
                await self._wait_for_channels()
                continue
            asked_at = time.monotonic()
            batch, is_all = await self._read()
            if batch:
                yield batch
            if is_all:
                self.received_until = asked_at
            if time.monotonic() >= self._look_at:
                await self._check()

    async def _wait_for_channels(self) -> None:
        """Return once there may be something to read; raise if the connection dies meanwhile."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE_S):
                await self._changed.wait()
                return
        await self._session.ask(pack_command("PING"))

    async def _read(self) -> tuple[list[Frame | Lost], bool]:
        """Return the next page, and whether nothing else was there."""
        asked = self._reading = dict(self._places)
        # Only a reader that is behind can have been overtaken, and it need not wait for entries.
        behind = [channel for channel in self._behind if channel in asked]
        try:
            reply, *infos = await self._session.ask(
                pack_command(
                    *("XREAD", "COUNT", str(self._count), *(() if behind else ("BLOCK", str(BLOCK_MS))), "STREAMS"),
                    *asked,
                    *[place.redis_id for place in asked.values()],
                ),
                *[pack_command("XINFO", "STREAM", channel) for channel in behind],
            )
        finally:
            self._reading = None
        if isinstance(reply, hiredis.ReplyError):
            raise self._session.refusal("XREAD", next(iter(asked)), str(reply))
        states = {one: parse_info(self._session, one, info) for one, info in zip(behind, infos, strict=True)}
        pages = _pages(reply)
        self._behind = full = [channel for channel, entries in pages.items() if len(entries) >= self._count]
        if fresh := [channel for channel in full if channel not in states]:
            looked = await self._look(self._session, fresh, {})
            states |= {channel: info for channel, (info, _) in looked.items()}
        moved: dict[str, Place] = {}
        frames: list[Frame | Lost] = []
        size, now = 0, time.monotonic()
        for channel, entries in pages.items():
            place = asked[channel]
            if self._places.get(channel) is not place:
                continue  # left, or resumed elsewhere
            lost = states[channel].trimmed(channel, place) if channel in states else None
            if lost is not None:
                frames.append(lost)
                moved[channel] = Place(place.id, states[channel].gone)
                continue
            number = place.number
            id_: bytes = b""
            payload = b""
            for id_, fields in entries:
                number += 1
                payload = read_payload(fields)
                size += len(payload)
                frames.append((channel, payload, f"{id_.decode()}/{number}"))
            if entries:
                moved[channel] = Place(parse_id(id_), number)
                self._trails.passed(channel, moved[channel], payload, now)
        self._adapt(size, len(frames), len(asked))
        frames = [*self._lost, *frames]
        self._lost = []
        self._places |= moved
        return frames, not full

    def _adapt(self, size: int, frames: int, streams: int) -> None:
        """Choose how many entries of each stream the next read brings."""
        if frames:
            fits = PAGE_BYTES // streams // max(1, size // frames)
            self._count = min(MAX_PAGE, max(MIN_PAGE, min(fits, 2 * self._count)))

    async def _check(self) -> None:
        """Raise if a stream is no longer the one that was read: the next link finds out what that means."""
        self._look_at = time.monotonic() + LOOK_EVERY_S
        places = dict(self._places)
        for channel, (info, is_there) in (await self._look(self._session, list(places), places)).items():
            if self._places.get(channel) is places[channel] and info.went_back(places[channel], is_there=is_there):
                raise TransportError(f"the stream {channel!r} of Redis at {self._asker.where} was deleted or replaced")


def _payload(entries: Any) -> bytes:  # noqa: ANN401 -- whatever Redis sends
    return read_payload(entries[0][1])


def _pages(reply: Any) -> dict[str, list[Any]]:  # noqa: ANN401 -- whatever Redis sends
    """Return the entries by channel: a map in RESP3, a list of pairs in RESP2, None if there are none."""
    if not reply:
        return {}
    by_name: dict[bytes, list[Any]] = dict(reply)
    return {name.decode(): entries for name, entries in by_name.items()}
