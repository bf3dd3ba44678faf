"""Reads pages of a stream, forwards and backwards: `PageReader`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import frozen
from backplane_core import Frame, Lost

from backplane_nats._jetstream.api import JetStreamApi
from backplane_nats._jetstream.place import Entry, Place, StreamState

__all__ = ["PageReader"]

ASKED_AT_ONCE: Final = 64
"""Entries; each may be as large as the server lets a message be."""

ENOUGH_BYTES: Final = 1024 * 1024
"""A page that has so much is not made longer."""


@frozen
class PageReader:
    """Reads what is in a stream already.

    Args:
        api: Is asked.
    """

    _api: JetStreamApi

    async def read(self, channel: str, limit: int, after: str | None, before: str | None) -> Sequence[Frame | Lost]:
        """Return a page; see `DurableLink.read`.

        Raises:
            TransportError: The link is dead, or the stream can't be read.
        """
        state = (await self._api.states([channel]))[channel]
        cursor = before if after is None else after
        if cursor is None:
            return () if state is None else await self._backwards(channel, state, state.last, limit)
        place = _parse(cursor)
        if place is None or state is None or not await self._has(channel, state, place):
            reason = "the stream has no such entry: the server lost its end, or somebody deleted it"
            return [Lost(channel, reason, cause="epoch")]
        if after is None:
            return await self._backwards(channel, state, place.sequence - 1, limit)
        missed = state.first - 1 - place.sequence
        lost = Lost(channel, f"the stream was trimmed: {missed} entries are gone", missed, cause="trimmed")
        frames = await self._forwards(channel, state, max(state.first, place.sequence + 1), limit)
        return [lost, *frames] if missed > 0 else frames

    async def _has(self, channel: str, state: StreamState, place: Place) -> bool:
        """Return whether a place is in the stream, or was before its begin was trimmed."""
        if place.stream != state.tag or place.sequence > state.last:
            return False
        if not place.mark or place.sequence < state.first:
            return True
        [entry] = await self._api.entries_of_leader([(channel, place.sequence)])
        return entry is None or entry.fits(place.mark)

    async def _forwards(self, channel: str, state: StreamState, begin: int, limit: int) -> list[Frame]:
        frames: list[Frame] = []
        end = min(state.last, begin + limit - 1) + 1
        size = 0
        while begin < end and size < ENOUGH_BYTES:
            asked = range(begin, min(end, begin + ASKED_AT_ONCE))
            found = await self._entries(channel, asked)
            frames += [_frame(channel, found[number], state) for number in asked if number in found]
            size += sum([len(entry.payload) for entry in found.values()])
            begin = asked.stop
            if not frames:  # what is asked for was deleted: go on until there is something
                end = min(state.last + 1, begin + limit)
        return frames

    async def _backwards(self, channel: str, state: StreamState, last: int, limit: int) -> list[Frame]:
        frames: list[Frame] = []
        size = 0
        while last >= state.first and len(frames) < limit and size < ENOUGH_BYTES:
            asked = range(max(state.first, last + 1 - min(ASKED_AT_ONCE, limit - len(frames))), last + 1)
            found = await self._entries(channel, asked)
            frames = [*[_frame(channel, found[number], state) for number in asked if number in found], *frames]
            size += sum([len(entry.payload) for entry in found.values()])
            last = asked.start - 1
        return frames

    async def _entries(self, channel: str, asked: range) -> Mapping[int, Entry]:
        """Return what the stream has of these; its leader knows of what the node that answered first may not have."""
        found = await self._api.entries(channel, asked)
        missing = [number for number in asked if number not in found]
        there = await self._api.entries_of_leader([(channel, number) for number in missing])
        return {**found, **{entry.sequence: entry for entry in there if entry is not None}}


def _parse(cursor: str) -> Place | None:
    """Return the place of a cursor; None if it is none of a stream."""
    try:
        return Place.parse(cursor)
    except ValueError:
        return None


def _frame(channel: str, entry: Entry, state: StreamState) -> Frame:
    return channel, entry.payload, str(Place(entry.sequence, entry.time, state.tag))
