"""Reads streams from where somebody was, and what was not heard of them: `StreamReader`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from backplane_core import Frame, Lost, TransportError

from backplane_nats._jetstream.api import JetStreamApi
from backplane_nats._jetstream.connection import JetStreamConnection
from backplane_nats._jetstream.definition import heard_as, stream_name
from backplane_nats._jetstream.lane import Lane
from backplane_nats._jetstream.place import Place, StreamState, parse_time

__all__ = ["StreamReader"]

LOOK_EVERY_S: Final = 5.0
"""How often a reader looks whether its streams are still the ones that it reads, and whether it heard all of them."""

FIRST_LOOK_S: Final = 0.25
"""When it looks first: other nodes of a cluster may not know yet that it listens."""

PAGE_BYTES: Final = 1024 * 1024
"""About how much is asked for at once: an answer says how large an entry is, a question does not."""
MAX_PAGE: Final = 256
MIN_PAGE: Final = 8


class StreamReader:
    """Takes streams up where a reader was, and reads what it did not hear.

    Args:
        connection: Hears what streams stored.
        api: Is asked about them.
    """

    def __init__(self, connection: JetStreamConnection, api: JetStreamApi) -> None:
        self._connection = connection
        self._inbox = connection.inbox
        self._api = api
        self._count = 64
        self._look_at = time.monotonic() + FIRST_LOOK_S

    @property
    def _lanes(self) -> Mapping[str, Lane]:
        return {lane.channel: lane for lane in self._inbox.lanes.values()}

    async def resume(self, channels: Sequence[str], after: Mapping[str, str]) -> Mapping[str, str]:
        """Read these channels as well, behind their cursors or from their ends on; return where that is.

        Raises:
            TransportError: The link is dead, or a stream can't be read.
        """
        known = {channel: Place.parse(after[channel]) for channel in channels if channel in after}
        lanes = {channel: Lane(channel) for channel in channels}
        # Heard before anybody asks how far the streams go, so that nothing falls in between.
        self._inbox.lanes |= {heard_as(channel): lane for channel, lane in lanes.items()}
        await self._connection.subscribe([heard_as(channel) for channel in channels])
        states = await self._api.ensure(channels)
        went_back = await self._went_back(known, states)
        behind = await self._find_behind({channel: known[channel] for channel in went_back}, states)
        lost: list[Frame | Lost] = []
        begun: dict[str, str] = {}
        for channel, lane in lanes.items():
            state, place = states[channel], known.get(channel)
            if place is None:
                place = state.end
            elif channel in went_back:
                reason = "the stream has less than it had: the server lost its end, or somebody deleted it"
                lost.append(Lost(channel, reason, cause="epoch"))
                place = behind[channel]
            begun[channel] = str(place)
            lane.begin(place, state.last)
            if place.sequence < state.first - 1:
                lost.append(lane.skip(state.first - 1, "the stream was trimmed"))
        self._inbox.deliver(lost)
        self._inbox.behind.set()
        self._look_at = min(self._look_at, time.monotonic() + FIRST_LOOK_S)
        return begun

    async def _went_back(self, known: Mapping[str, Place], states: Mapping[str, StreamState]) -> set[str]:
        """Return the channels whose streams have fewer entries than they had, or others."""
        back: set[str] = set()
        asked: list[tuple[str, Place]] = []
        for channel, place in known.items():
            state = states[channel]
            if place.stream != state.tag or place.sequence > state.last:
                back.add(channel)
            elif place.mark and place.sequence >= state.first:
                if place.sequence < state.last or place.mark.startswith("-"):
                    asked.append((channel, place))
                elif parse_time(place.mark) != parse_time(state.last_time):
                    back.add(channel)
        entries = await self._api.entries_of_leader([(channel, place.sequence) for channel, place in asked])
        for (channel, place), entry in zip(asked, entries, strict=True):
            if entry is not None and not entry.fits(place.mark):
                back.add(channel)
        return back

    async def _find_behind(self, places: Mapping[str, Place], states: Mapping[str, StreamState]) -> Mapping[str, Place]:
        """Return the places in streams that went back behind which all was added since: later than the entries there.

        By halves, and in all streams at once: a restart may have cost each of them its end.
        """
        # The first later entry is at `low` or behind it, and not behind `high`.
        low = {channel: states[channel].first for channel in places}
        high = dict(low)
        was_at: dict[str, int] = {}
        for channel, place in places.items():
            was_at[channel] = 0 if place.mark.startswith("-") else parse_time(place.mark)
            if place.stream == states[channel].tag and was_at[channel]:
                high[channel] = states[channel].last + 1
        while asked := [
            (channel, (low[channel] + high[channel]) // 2) for channel in places if low[channel] < high[channel]
        ]:
            entries = await self._api.entries_of_leader(asked)
            for (channel, middle), entry in zip(asked, entries, strict=True):
                if entry is not None and parse_time(entry.time) > was_at[channel]:
                    high[channel] = middle
                else:
                    low[channel] = middle + 1
        return {channel: Place(low[channel] - 1, "", states[channel].tag) for channel in places}

    async def leave(self, channels: Sequence[str]) -> None:
        """Read these channels no longer."""
        await self._connection.unsubscribe([heard_as(channel) for channel in channels])
        for channel in channels:
            self._inbox.lanes.pop(heard_as(channel), None)

    async def run(self) -> None:
        """Read what was not heard, and look after the streams, for ever.

        Raises:
            TransportError: The link is dead, or a stream is not what it was.
        """
        inbox = self._inbox
        while True:
            inbox.behind.clear()
            behind = [lane for lane in inbox.lanes.values() if lane.is_behind]
            # A page of each at once: one after the other, a lane would wait for as many round trips as there are lanes.
            done = await asyncio.gather(*[self._read_page(lane) for lane in behind], return_exceptions=True)
            for failure in done:
                if failure is not None:
                    raise failure
            if time.monotonic() >= self._look_at:
                await self._look()
            if not behind:
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, self._look_at - time.monotonic())):
                        await inbox.behind.wait()

    async def _read_page(self, lane: Lane) -> None:
        """Have the reader get the next entries of a lane, once it has taken what it has."""
        await self._inbox.taken.wait()
        begin = lane.place.sequence + 1
        lane.is_reading = True
        try:
            entries = await self._api.entries(lane.channel, range(begin, min(lane.known + 1, begin + self._count)))
        finally:
            lane.is_reading = False
        if not self._has(lane):
            return
        if entries:
            size = sum([len(entry.payload) for entry in entries.values()])
            fits = PAGE_BYTES // max(1, size // len(entries))
            self._count = min(MAX_PAGE, max(MIN_PAGE, min(fits, 2 * self._count)))
        self._inbox.deliver(lane.read(entries) or await self._find_missing(lane))

    def _has(self, lane: Lane) -> bool:
        return self._inbox.lanes.get(heard_as(lane.channel)) is lane

    async def _find_missing(self, lane: Lane) -> Sequence[Frame | Lost]:
        """Return the next entry of a lane, which the node that was asked does not have; or the word that it is gone."""
        number = lane.place.sequence + 1
        lane.is_reading = True
        try:
            state = (await self._api.states([lane.channel]))[lane.channel]
            [entry] = await self._api.entries_of_leader([(lane.channel, number)])
        finally:
            lane.is_reading = False
        if not self._has(lane):
            return ()
        if state is None or state.tag != lane.tag or state.last < number - 1:
            raise self._replaced(lane.channel)
        if entry is not None:
            return lane.read({number: entry})
        if state.first > number:
            return [lane.skip(state.first - 1, "the stream was trimmed")]
        if state.last >= number:
            return [lane.skip(number, "somebody deleted from the stream")]
        lane.known = number - 1  # somebody else than the server said that there is more
        return ()

    async def _look(self) -> None:
        """Ask how far each stream goes; raise if one is no longer the one that was read."""
        asked_at = time.monotonic()
        places = {lane.channel: lane.place for lane in self._inbox.lanes.values() if lane.taken is not None}
        states = await self._api.states([*places])
        self._look_at = time.monotonic() + LOOK_EVERY_S
        lanes = self._lanes
        is_complete = bool(lanes)  # a link that has not begun yet has heard nothing
        for channel, lane in lanes.items():
            place, state = places.get(channel), states.get(channel)
            if place is None or lane.tag != place.stream:
                is_complete = False  # it began meanwhile, or elsewhere, or has yet to
                continue
            if state is None or state.tag != place.stream or state.last < place.sequence:
                raise self._replaced(channel)
            lane.known = max(lane.known, state.last)
            is_complete = is_complete and lane.place.sequence >= state.last
        if is_complete:
            self._inbox.complete(asked_at)
        else:
            self._inbox.behind.set()

    def _replaced(self, channel: str) -> TransportError:
        return TransportError(
            f"the stream {stream_name(channel)!r} at {self._connection.where} was deleted or replaced, or lost its end"
        )
