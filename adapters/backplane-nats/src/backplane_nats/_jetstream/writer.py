"""Adds frames to streams: `StreamWriter`."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from backplane_core import Frame, Refusal, RefusedError, is_queue

from backplane_nats._jetstream.api import ApiError, JetStreamApi, explain_silence, parse_answer
from backplane_nats._jetstream.connection import JetStreamConnection
from backplane_nats._jetstream.definition import stream_name
from backplane_nats._jetstream.place import Place, make_mark
from backplane_nats._subjects import to_subject

__all__ = ["StreamWriter"]

logger: Final = logging.getLogger("backplane")

RETRY_S: Final = 0.5
"""How long a writer waits before it asks again whether there is room: core gives the link up after
`probe_interval_s`."""

MAX_AT_ONCE: Final = 2_048
"""Frames that wait for their acknowledgement at once. A server refuses what waits beyond 10,000 in one stream."""

FULL: Final = (10023, 10025, 10028, 10047, 10077, 10122, 10167)
"""Refusals that end by themselves, once there is memory, disk or time: nothing was stored."""

QUEUE_FULL: Final = 10077
"""That of a stream which takes no further entry, as a queue does that is full; other streams drop their oldest."""

_SEQUENCE: Final = re.compile(rb'"seq": ?(\d+)')


class StreamWriter:
    """Adds batches of frames to streams, and waits for an acknowledgement of each frame.

    The acknowledgement of the last one alone would be cheaper. But a stream may refuse one frame and take the next, and
    a leader that is replaced may drop some in the middle.

    The invariant: a frame is never added behind a later one of its channel, since receivers would take it for a copy.
    So what a stream refuses for want of room is tried again only as long as nothing behind it was taken; else it is
    refused for good, counted, and a gap for its receivers.

    Args:
        connection: Publishes.
        api: Makes streams that are not there.
    """

    def __init__(self, connection: JetStreamConnection, api: JetStreamApi) -> None:
        self._connection = connection
        self._api = api
        self._last: dict[str, str] = {}
        self._subjects: dict[str, tuple[str, bytes]] = {}

    @property
    def confirmed(self) -> Mapping[str, str]:
        """The cursors of the last entries that were added, by channel."""
        return self._last

    async def send(self, frames: Sequence[Frame]) -> None:
        """Add the frames; return once they are in their streams.

        Raises:
            TransportError: The link is dead, or JetStream takes nothing.
            RefusedError: Some frames are too large, or were refused; all others were taken.
        """
        channels = dict.fromkeys([frame[0] for frame in frames])
        await self._api.ensure([channel for channel in channels if channel not in self._api.tags])
        limit = self._connection.max_payload
        refusals = [
            Refusal(index=place, reason=f"{self._connection.where} takes {limit} bytes at most (its max_payload)")
            for place, frame in enumerate(frames)
            if len(frame[1]) > limit
        ]
        fitting = [place for place, frame in enumerate(frames) if len(frame[1]) <= limit]
        for begin in range(0, len(fitting), MAX_AT_ONCE):
            refusals += await self._add(frames, fitting[begin : begin + MAX_AT_ONCE])
        if refusals:
            raise RefusedError(sorted(refusals, key=_place))

    async def _add(self, frames: Sequence[Frame], places: Sequence[int]) -> list[Refusal]:
        """Add the frames at these places; return what was refused for good."""
        refusals: list[Refusal] = []
        is_said = False
        while places:
            refused = await self._publish(frames, places)
            final, again = _sift(frames, places, refused)
            refusals += [self._refusal(place, frames[place], refused[place]) for place in final]
            places = again
            if places:
                if not is_said:
                    is_said = True
                    error = refused[places[0]]
                    logger.warning(
                        "JetStream at %s takes nothing now: %s (%d); tried again until it does",
                        self._connection.where,
                        error.description,
                        error.code,
                    )
                await asyncio.sleep(RETRY_S)
        return refusals

    async def _publish(self, frames: Sequence[Frame], places: Sequence[int]) -> dict[int, ApiError]:
        """Publish the frames at these places, and return which were not taken, and why."""
        known = self._subjects
        questions: list[tuple[str, bytes]] = []
        for place in places:
            frame = frames[place]
            names = known.get(frame[0])
            if names is None:  # there are as many as a fleet has lanes
                begin = b'{"stream":"%b"' % stream_name(frame[0]).encode()
                names = known[frame[0]] = to_subject(frame[0]), begin
            questions.append((names[0], frame[1]))
        refused: dict[int, ApiError] = {}
        taken: dict[str, tuple[int, bytes]] = {}
        for place, answer in zip(places, await self._connection.ask(questions), strict=True):
            channel = frames[place][0]
            if answer.startswith(known[channel][1]):
                taken[channel] = place, answer
                continue
            error = parse_answer(answer)
            if not isinstance(error, ApiError):
                error = ApiError(-1, "another stream keeps what belongs here")
            if not error.code:
                raise explain_silence(self._connection)
            refused[place] = error
        for channel, (place, answer) in taken.items():
            found = _SEQUENCE.search(answer)
            if found is not None:
                self._last[channel] = str(Place(int(found[1]), make_mark(frames[place][1]), self._api.tags[channel]))
        return refused

    def _refusal(self, place: int, frame: Frame, error: ApiError) -> Refusal:
        reason = (
            f"the stream {stream_name(frame[0])!r} at {self._connection.where} refused it: "
            f"{error.description} ({error.code})"
        )
        if _is_full(frame[0], error):
            reason = f"{reason}: the queue is full of jobs that nobody did"
        return Refusal(index=place, reason=reason)

    async def find_forgotten(self, cursors: Mapping[str, str]) -> Collection[str]:
        """Return the channels whose streams lack the entry of this cursor."""
        places = {channel: Place.parse(cursor) for channel, cursor in cursors.items()}
        states = await self._api.states([*places])
        entries = await self._api.entries_of_leader([(channel, place.sequence) for channel, place in places.items()])
        forgotten: list[str] = []
        for (channel, place), entry in zip(places.items(), entries, strict=True):
            state = states[channel]
            # What a queue has done it keeps for a while only: its last number says whether it lost its end.
            if is_queue(channel) and state is not None and place.sequence < state.first and state.tag == place.stream:
                continue
            if state is None or state.tag != place.stream or entry is None or not entry.fits(place.mark):
                forgotten.append(channel)
        return forgotten


def _sift(
    frames: Sequence[Frame], places: Sequence[int], refused: Mapping[int, ApiError]
) -> tuple[list[int], list[int]]:
    """Return the places of frames that are refused for good, and of those that may be sent again without harm."""
    final: list[int] = []
    again: list[int] = []
    followed: set[str] = set()
    for place in reversed(places):
        channel = frames[place][0]
        if place not in refused:
            followed.add(channel)
        elif channel in followed or refused[place].code not in FULL or _is_full(channel, refused[place]):
            final.append(place)
        else:
            again.append(place)
    return final[::-1], again[::-1]


def _is_full(channel: str, error: ApiError) -> bool:
    return error.code == QUEUE_FULL and is_queue(channel)


def _place(refusal: Refusal) -> int:
    return refusal.index
