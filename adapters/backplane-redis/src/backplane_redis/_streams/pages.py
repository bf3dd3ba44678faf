"""Reads pages of a stream, forwards and backwards: `PageReader`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import hiredis
from attrs import frozen
from backplane_core import Frame, Lost

from backplane_redis._commands import pack_command
from backplane_redis._streams.entries import parse_info, read_payload
from backplane_redis._streams.place import GREATEST, MAX_ID_PART, ZERO, Place, StreamInfo
from backplane_redis._streams.session import Session

__all__ = ["PageReader"]

MULTI: Final = pack_command("MULTI")
EXEC: Final = pack_command("EXEC")


@frozen
class PageReader:
    """Reads what is in a stream already; the server answers of one moment what is asked at once, which MULTI is for.

    Args:
        session: Is asked.
    """

    _session: Session

    async def read(self, channel: str, limit: int, after: str | None, before: str | None) -> Sequence[Frame | Lost]:
        """Return a page; see `DurableLink.read`.

        Raises:
            TransportError: The connection is dead, or the stream can't be read.
        """
        cursor = before if after is None else after
        place = None if cursor is None else _parse(cursor)
        if cursor is not None and place is None:
            return [_unknown(channel)]
        if place is None:
            info, [entries] = await self._ask(channel, _backwards(channel, "+", limit))
            return _frames(channel, entries[::-1], info.added - len(entries))
        there = pack_command("XRANGE", channel, place.redis_id, place.redis_id, "COUNT", "1")
        # Redis refuses to look before the least id, or behind the greatest.
        if place.id == (ZERO if after is None else GREATEST):
            asked = _backwards(channel, "-", 1)
        elif after is None:
            asked = _backwards(channel, f"({place.redis_id}", limit)
        else:
            asked = pack_command("XRANGE", channel, f"({place.redis_id}", "+", "COUNT", str(limit))
        info, [found, entries] = await self._ask(channel, there, asked)
        if info.went_back(place, is_there=bool(found)):
            return [_unknown(channel)]
        if after is None:
            return _frames(channel, entries[::-1], place.number - 1 - len(entries))
        lost = info.trimmed(channel, place)
        frames = _frames(channel, entries, max(place.number, info.gone))
        return frames if lost is None else [lost, *frames]

    async def _ask(self, channel: str, *commands: bytes) -> tuple[StreamInfo, list[Any]]:
        """Return what the stream is like, and the replies, all of one moment."""
        replies = await self._session.ask(MULTI, *commands, pack_command("XINFO", "STREAM", channel), EXEC)
        # A command that is refused outright is never queued.
        done: list[Any] = replies[1:-1] if isinstance(replies[-1], hiredis.ReplyError) else replies[-1]
        for reply in done[:-1]:
            if isinstance(reply, hiredis.ReplyError):
                raise self._session.refusal("XRANGE", channel, str(reply))
        return parse_info(self._session, channel, done[-1]), done[:-1]


def _parse(cursor: str) -> Place | None:
    """Return the place of a cursor; None if it is none of a stream."""
    try:
        place = Place.parse(cursor)
    except ValueError:
        return None
    return place if min(*place.id, place.number) >= 0 and max(*place.id, place.number) <= MAX_ID_PART else None


def _backwards(channel: str, end: str, limit: int) -> bytes:
    return pack_command("XREVRANGE", channel, end, "-", "COUNT", str(limit))


def _frames(channel: str, entries: Sequence[Any], number: int) -> list[Frame | Lost]:
    """Return the frames of these entries, the first of which follows on the `number`th of the stream."""
    return [
        (channel, read_payload(fields), f"{id_.decode()}/{count}")
        for count, (id_, fields) in enumerate(entries, number + 1)
    ]


def _unknown(channel: str) -> Lost:
    return Lost(channel, "the stream has no such entry: the server lost its end, or somebody deleted it", cause="epoch")
