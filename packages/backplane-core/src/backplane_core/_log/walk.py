"""Builds the events of a history, with the position of each: `Walk`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import chain

from attrs import define, frozen

from backplane_core._log.record import Record
from backplane_core._log.window import SLICE, Window
from backplane_core._protocol.position import EventPlace, Position, PositionCodec
from backplane_core.event import Event, keyed_event, make_event
from backplane_core.history import History

__all__ = ["Walk"]


@frozen
class Step:
    """One entry of a log, or an event that is in no log yet.

    Args:
        lane: Its lane.
        cursor: Its cursor; empty if it has none.
        record: Its record, if it is wanted.
    """

    lane: int
    cursor: str
    record: Record | None


@define(eq=False)
class Walk:
    """Walks once through the entries that were found.

    Args:
        codec: Encodes positions.
        wire: The target's wire form.
        position: The end of the windows; in other lanes, where this pod is.
    """

    codec: PositionCodec
    wire: bytes
    position: Position

    async def history(
        self, limit: int, windows: Mapping[int, Window], recent: Sequence[Record], end: str | None
    ) -> History:
        """Return the last events of all entries; give the event loop a turn every few milliseconds.

        Args:
            limit: The most events.
            windows: The older entries, by lane.
            recent: The entries after them.
            end: Where the history ends; None: with its last event.
        """
        cursors, ahead = list(self.position.cursors), dict(self.position.ahead)
        for lane, window in windows.items():
            cursors[lane] = window.before
        steps = await self._steps(windows, recent)
        skipped = max(0, sum([step.record is not None for step in steps]) - limit)
        is_all = not skipped and bool(windows) and all(window.is_from_start for window in windows.values())
        older = None if is_all else self.codec.encode(Position(cursors, ahead))
        events: list[Event] = []
        for number, step in enumerate(steps, 1):
            if not number % SLICE:
                await asyncio.sleep(0)
            record = step.record
            if record is not None and not skipped and not events and not is_all:
                older = self.codec.encode(Position(cursors, ahead))
            if step.cursor:
                cursors[step.lane] = step.cursor
            elif record is not None:
                ahead[record.lane, record.sender] = record.seq
            if record is None:
                continue
            if skipped:
                skipped -= 1
            else:
                place = EventPlace(
                    self.codec, Position(tuple(cursors), dict(ahead)), record.lane, record.sender, record.seq
                )
                event = make_event(record.event or b"null", self.wire, place)
                events.append(event if record.key is None else keyed_event(event, record.key))
        id_ = self.codec.encode(Position(cursors, ahead)) if end is None else end
        return History(events=tuple(events), id=id_, older=older)

    async def _steps(self, windows: Mapping[int, Window], recent: Sequence[Record]) -> list[Step]:
        found = chain(
            _merged(windows),
            [Step(lane, self.position.cursors[lane], None) for lane in windows],
            [Step(record.lane, "", record) for window in windows.values() for record in window.beyond],
            [Step(record.lane, record.cursor, record) for record in recent],
        )
        steps: list[Step] = []
        for step in _without_copies(found):
            steps.append(step)
            if not len(steps) % SLICE:
                await asyncio.sleep(0)
        return steps


def _merged(windows: Mapping[int, Window]) -> Iterator[Step]:
    """Yield the entries of all windows, each window in order, interleaved evenly."""
    for _, lane, number in merge(*[_paced(lane, len(window.entries)) for lane, window in windows.items()]):
        yield Step(lane, *windows[lane].entries[number])


def _paced(lane: int, count: int) -> Iterator[tuple[float, int, int]]:
    return (((number + 1) / count, lane, number) for number in range(count))


def _without_copies(steps: Iterable[Step]) -> Iterator[Step]:
    last: dict[tuple[int, str], int] = {}
    for step in steps:
        record = step.record
        if record is not None and record.seq:
            key = (record.lane, record.sender)
            if record.seq <= last.get(key, 0):
                yield Step(step.lane, step.cursor, None)
                continue
            last[key] = record.seq
        yield step
