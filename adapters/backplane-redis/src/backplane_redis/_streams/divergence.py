"""Up to where a stream is still the one that a pod has read: `find_before_tear`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import hiredis

from backplane_redis._commands import pack_command
from backplane_redis._streams.entries import read_payload
from backplane_redis._streams.place import Id, Place, StreamInfo, format_id
from backplane_redis._streams.session import Session
from backplane_redis._streams.trail import Step, Trails

__all__ = ["find_before_tear", "find_common"]


PAGE: Final = 512
"""Entries that are counted at once."""

PROBES: Final = 8
"""Steps of each stream that are asked for at once: two round trips for the most that a pod remembers."""


async def find_before_tear(
    session: Session, trails: Trails, torn: Mapping[str, Place], infos: Mapping[str, StreamInfo]
) -> Mapping[str, Place]:
    """Return where to read on so that all comes that was added since these streams lost their ends.

    Args:
        session: Is asked.
        trails: Where this pod has been; what it read behind these places is forgotten.
        torn: Where this pod was.
        infos: What the streams are like now.

    Raises:
        TransportError: The connection is dead, or a stream can't be read.
    """
    steps = {channel: trails.steps(channel, place) for channel, place in torn.items()}
    there = {one: [step for step in steps[one] if step.place.number > infos[one].gone] for one in torn}
    common = await find_common(session, there)
    begun = {channel: step.place for channel, step in common.items()}
    ids: dict[str, Id] = {}
    for channel, place in torn.items():
        if channel not in begun:
            # All that was read of this one is gone, so what is there came later, by the server's clock at least.
            gone = steps[channel][: len(steps[channel]) - len(there[channel])]
            first = [step.place.id for step in [*gone[-1:], *there[channel][:1]]]
            ids[channel] = min([*first, place.id, infos[channel].last_id])
    begun |= await _number(session, ids, infos)
    for channel, place in begun.items():
        trails.turned(channel, place)
    return begun


async def find_common(session: Session, trails: Mapping[str, Sequence[Step]]) -> Mapping[str, Step]:
    """Return the last step of each stream that the server has; a stream that has none is left out.

    Each round asks for a few steps of every stream at once, and goes on between the last one that is there and the
    first one that is not, so that a server that is far away costs two round trips.

    Args:
        session: Is asked.
        trails: The steps by channel, the oldest first.

    Raises:
        TransportError: The connection is dead, or a stream can't be read.
    """
    found: dict[str, Step] = {}
    left = {channel: range(len(steps)) for channel, steps in trails.items() if steps}
    while left:
        asked = [(channel, place) for channel, places in left.items() for place in _spread(places)]
        replies = await session.ask(*[_ask_for(channel, trails[channel][place]) for channel, place in asked])
        for (channel, place), reply in zip(asked, replies, strict=True):
            if isinstance(reply, hiredis.ReplyError):
                raise session.refusal("XRANGE", channel, str(reply))
            places = left[channel]
            if place not in places:
                continue  # behind one that is not there
            step = trails[channel][place]
            if step.is_of(read_payload(reply[0][1]) if reply else None):
                found[channel] = step
                left[channel] = range(place + 1, places.stop)
            else:
                left[channel] = range(places.start, place)
        left = {channel: places for channel, places in left.items() if places}
    return found


def _spread(places: range) -> Sequence[int]:
    """Return a few places, evenly apart, the last one among them: most often a server has all."""
    count = min(PROBES, len(places))
    return [places.start + len(places) * number // count - 1 for number in range(1, count + 1)]


def _ask_for(channel: str, step: Step) -> bytes:
    id_ = step.place.redis_id
    return pack_command("XRANGE", channel, id_, id_, "COUNT", "1")


async def _number(session: Session, ids: Mapping[str, Id], infos: Mapping[str, StreamInfo]) -> Mapping[str, Place]:
    """Return the places behind these ids, which may not be there themselves.

    A stream whose entries are all newer, as of a server that came back empty, needs no look. In the others the
    newer ones are counted, up to the one that was the last a moment ago: a stream that grows has no end. All are
    asked at once: a restart may have cost each stream its end, and a link that asked one after the other would take
    so long that it counts as frozen.
    """
    newer = {channel: infos[channel].length for channel in ids}
    left: dict[str, str] = {}
    for channel, id_ in ids.items():
        first_id = infos[channel].first_id
        if first_id is not None and first_id <= id_:
            newer[channel], left[channel] = 0, format_id(id_)
    while left:
        asked = [
            pack_command("XRANGE", channel, f"({id_}", format_id(infos[channel].last_id), "COUNT", str(PAGE))
            for channel, id_ in left.items()
        ]
        replies = await session.ask(*asked)
        going_on: dict[str, str] = {}
        for channel, page in zip(left, replies, strict=True):
            if isinstance(page, hiredis.ReplyError):
                raise session.refusal("XRANGE", channel, str(page))
            newer[channel] += len(page)
            if len(page) == PAGE:
                going_on[channel] = page[-1][0].decode()
        left = going_on
    return {
        channel: Place(id_, max(infos[channel].gone, infos[channel].added - newer[channel]))
        for channel, id_ in ids.items()
    }
