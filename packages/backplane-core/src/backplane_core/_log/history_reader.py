"""Finds the last events of a target: `HistoryReader`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import evolve, frozen
from msgspec import structs

from backplane_core._log.mirror import Mirror
from backplane_core._log.pages import LogPages
from backplane_core._log.record import Record
from backplane_core._log.walk import Walk
from backplane_core._log.wanted import Wanted
from backplane_core._log.window import Window, WindowReader
from backplane_core._protocol.position import Position
from backplane_core._protocol.routing import Routing
from backplane_core.history import History
from backplane_core.target import Target

__all__ = ["MAX_LIMIT", "HistoryReader"]

MAX_LIMIT: Final = 10_000


@frozen
class HistoryReader:
    """Reads the mirror first, then older events from the logs: the target's own, and the one of unions.

    The invariant: a history has all events of its target between its first event and its end, each once. The id of each
    event is a position in the order of the history, so that `before=id` returns exactly the events that precede it
    here.

    Args:
        mirror: Has the last entries.
        pages: Reads older ones.
        routing: Maps targets to lanes.
    """

    mirror: Mirror
    pages: LogPages
    routing: Routing

    async def read(
        self, target: Target, limit: int, before: str | None, conn_id: str | None, having: Sequence[Target]
    ) -> History:
        """Return the last events of a target, or the last before a position, as far as the reader may get them.

        Raises:
            TransportError: The log can't be read.
        """
        own = [Target.everyone(), target, *having]
        if conn_id is not None:
            own.append(Target.connection(conn_id))
        wanted = Wanted(target.wire, frozenset([one.wire for one in own]), conn_id)
        lanes = sorted({0, self.mirror.lanes[self.routing.channel((target,))]})
        if before is None:
            return await self._last(wanted, lanes, limit)
        found = self.mirror.codec.decode_marked(before)
        if found is None:  # not a position of this fleet: nothing precedes it
            return History(events=(), id=before, older=None)
        position, mark = found
        but_cursor = "" if mark is None else position.cursors[mark.lane]
        return await self._before(evolve(wanted, but=mark, but_cursor=but_cursor), lanes, limit, position)

    async def _last(self, wanted: Wanted, lanes: Sequence[int], limit: int) -> History:
        mirror = self.mirror
        starts: list[int | None] = [None] * len(mirror.vector)
        cursors, end = mirror.vector.copy(), mirror.place()
        for lane in lanes:
            cursors[lane], starts[lane] = mirror.first(lane)
        recent = [
            _lacking(record, starts[record.lane])
            for record in mirror.records([wanted.wire], starts)
            if wanted.has(record)
        ]
        position = Position(cursors, _others(end.position, lanes))
        windows: dict[int, Window] = {}
        # Events of this pod that it has not read back from the log, and that are too many for memory.
        unsure = {lane: {mirror.own: mirror.unsure[lane]} for lane in lanes if mirror.unsure[lane]}
        if unsure or len(recent) < limit:
            count = max(1, limit - len(recent))
            for lane in lanes:
                reader = self._reader(lane, wanted)
                windows[lane] = await reader.read(count, cursors[lane] or None, unsure.get(lane, {}))
        return await Walk(mirror.codec, wanted.wire, position).history(limit, windows, recent, str(end))

    async def _before(self, wanted: Wanted, lanes: Sequence[int], limit: int, before: Position) -> History:
        mirror = self.mirror
        now = mirror.position()
        cursors = [before.cursors[lane] if lane in lanes else cursor for lane, cursor in enumerate(now.cursors)]
        # Copies: their events are being added to the log while it is read.
        pending = [
            structs.replace(record)
            for lane in lanes
            for record in mirror.pending[lane]
            if record.seq <= before.ahead.get((lane, mirror.own), 0) and wanted.has(record)
        ]
        windows: dict[int, Window] = {}
        for lane in lanes:
            ahead = {sender: seq for (where, sender), seq in before.ahead.items() if where == lane}
            # Empty: the log has nothing before that position.
            windows[lane] = (
                await self._reader(lane, wanted).read(limit, cursors[lane], ahead) if cursors[lane] else Window()
            )
        position = Position(cursors, _others(now, lanes))
        return await Walk(mirror.codec, wanted.wire, position).history(limit, windows, pending, None)

    def _reader(self, lane: int, wanted: Wanted) -> WindowReader:
        return WindowReader(self.pages, self.routing.base[lane], lane, wanted)


def _others(position: Position, lanes: Sequence[int]) -> dict[tuple[int, str], int]:
    """Return the senders that are ahead of the log in other lanes."""
    return {key: seq for key, seq in position.ahead.items() if key[0] not in lanes}


def _lacking(record: Record, start: int | None) -> Record:
    """Return a record of the mirror, without its cursor if the log lost it and it was not sent again yet."""
    is_lacking = start is not None and 0 < record.serial <= start
    return structs.replace(record, cursor="") if is_lacking else record
