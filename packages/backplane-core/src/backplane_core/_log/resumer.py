"""Finds what a client missed that comes back with the id of the last event that it got: `Resumer`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from msgspec import structs

from backplane_core._local.entry import Entry
from backplane_core._log.backlog import Backlog
from backplane_core._log.holes import Hole
from backplane_core._log.joining import Joining
from backplane_core._log.mirror import UNSURE, Mirror
from backplane_core._log.older_pages import MAX_REPLAYED, OlderPages
from backplane_core._log.pages import LogPages
from backplane_core._log.patience import WAIT_S, Patience
from backplane_core._log.record import Record
from backplane_core._log.returning import Return
from backplane_core._log.turns import Turns
from backplane_core._protocol.position import Position
from backplane_core._protocol.routing import Routing
from backplane_core._runtime.system import System
from backplane_core.observe import Gap, GapCause
from backplane_core.target import Target

__all__ = ["NoLog", "Resumer"]

MAX_WAITING: Final = 65_536
"""Clients that may wait for their turn: some 4 KiB each. One that comes when so many do gets a gap at once."""
UNREAD: Final = "the log dropped events before this pod read them: it may hand out once more what the client has had"


class NoLog:
    """What a bus without a log has for a client that comes back: a gap.

    Args:
        system: The clock.
    """

    def __init__(self, system: System) -> None:
        self._system = system

    async def wait_turn(self) -> None:
        """Return once a client may be served: at once, as all that it gets is a gap."""

    async def prepare(self, text: str, targets: Sequence[Target]) -> Return:  # noqa: ARG002 -- one with a log looks at them
        """Return what is known of a client with this id."""
        gap = self._gap("", "this bus keeps no log: what was published meanwhile is not known")
        return Return(None, frozenset(), [], gaps=[gap])

    def attach(self, client: Return, entry: Entry) -> Backlog:  # noqa: ARG002 -- as above
        """Return what a connection gets first, which was prepared and attached in this step."""
        return Backlog(client.gaps, [], None, None)

    @property
    def last_id(self) -> str | None:
        """The id of what this pod's connections were handed last."""
        return None

    def _gap(self, channel: str, reason: str, missed: int | None = None, cause: GapCause = "resume") -> Gap:
        now = self._system.wall()
        return Gap(channel=channel, cause=cause, reason=reason, since=now, until=now, missed=missed)


class LogMarks(Protocol):
    """Marks a place in a log: whatever was in it before this pod's mark, this pod has read once the mark comes back."""

    def beat_on(self, channel: str) -> int:
        """Beat on a channel soon; return the least number that this beat may have."""
        ...


class Resumer(NoLog):
    """Hands clients what they missed, from memory; what that has forgotten, from the logs.

    The invariant: what a client gets between its last event and the first that comes live is what a connection that
    had stayed would have got, each event once and in order per sender and target; or a gap stands before it. Nothing
    is awaited between the look at the mirror and the moment from which events come live.

    Args:
        mirror: Keeps the last entries.
        pages: Reads older ones.
        routing: Knows the lanes of targets.
        system: The clock.
        known_s: For how long this pod knows copies of what a sender sends again.
        marks: Marks places in the logs.
    """

    def __init__(  # noqa: PLR0917 -- one caller
        self, mirror: Mirror, pages: LogPages, routing: Routing, system: System, known_s: float, marks: LogMarks
    ) -> None:
        super().__init__(system)
        self._marks = marks
        self._patience = Patience(pages)
        self._waiting = 0
        self._known_s = known_s
        self._mirror = mirror
        self._pages = pages
        self._routing = routing
        self._turns = Turns()

    @property
    def last_id(self) -> str | None:
        """The id of what this pod's connections were handed last."""
        return str(self._mirror.place())

    async def wait_turn(self) -> None:
        """Return once a client may be served, in the order in which they come; see `Turns`."""
        await self._turns.take()

    async def prepare(self, text: str, targets: Sequence[Target]) -> Return:
        """Return what is known of a client with this id, for it to be attached in this step.

        What memory has forgotten is read from the logs, for a few clients at a time, in the order in which they come.
        A client waits for its turn for as long as the logs are read for those before it, and holds nothing meanwhile.
        It waits `WAIT_S` at most where a log can't be read, or this pod has not read what the client has had.
        """
        await self.wait_turn()
        mirror = self._mirror
        position = mirror.codec.decode(text)
        everyone = Target.everyone()
        wires = frozenset([everyone.wire, *[target.wire for target in targets]])
        client = Return(position, wires, [None] * len(mirror.vector))
        if position is None:
            client.gaps.append(self._gap(self._routing.shared, "this fleet never gave out such an id"))
            return client
        lanes = sorted({mirror.lanes[self._routing.channel((target,))] for target in (everyone, *targets)})
        came_at = asyncio.get_running_loop().time()
        while (lane := self._next_lane(client, lanes, {})) is not None:
            if self._waiting >= MAX_WAITING:
                self._leave_out(client, lane, "too many clients wait for the log to be read")
            elif await self._read_older(client, lanes, came_at):
                break
        return client

    async def _read_older(self, client: Return, lanes: Sequence[int], came_at: float) -> bool:
        """Read what memory has forgotten; False: nothing was read, but this pod may have read more meanwhile."""
        self._waiting += 1
        try:
            async with self._pages.turns:
                unread = await self._read_in_turn(client, lanes, came_at)
        finally:
            self._waiting -= 1
        if unread is None:
            return True
        cursor = self._cursor(client, unread)
        try:
            async with asyncio.timeout(WAIT_S):
                await self._mirror.reach(unread, cursor)
        except TimeoutError:
            self._leave_out(client, unread, "this pod has not read in time what the client has had")
        return False

    async def _read_in_turn(self, client: Return, lanes: Sequence[int], came_at: float) -> int | None:
        """Read until nothing is missing between the client and the mirror, in all lanes at one moment.

        Returns:
            A lane of which this pod has not read what the client has had; None: it is done.
        """
        walks: dict[int, OlderPages] = {}
        with self._mirror.holding():
            while (lane := self._next_lane(client, lanes, walks)) is not None:
                walk = walks.get(lane)
                if walk is None:
                    cursor = self._cursor(client, lane)
                    walk = walks[lane] = OlderPages(self._mirror, self._patience, client, lane, cursor, came_at)
                try:
                    if not await walk.read():
                        return lane
                except TimeoutError:
                    del walks[lane]
                    self._leave_out(client, lane, "the log could not be read in time")
        for lane, walk in walks.items():
            client.starts[lane] = walk.start
            client.older += walk.records
            client.gaps += [self._gap(self._channel(lane), one.reason, one.missed, one.cause) for one in walk.lost]
            if walk.is_too_long:
                client.gaps.append(self._gap(self._channel(lane), "the client was away for longer than is read for it"))
        return None

    def _next_lane(self, client: Return, lanes: Sequence[int], walks: Mapping[int, OlderPages]) -> int | None:
        """Return a lane that has to be read, as the client would miss something of it at this moment; None: none has.

        Args:
            client: Takes where it goes on in the other lanes.
            lanes: All that it wants.
            walks: By lane: what was read for it.
        """
        for lane in lanes:
            walk = walks.get(lane)
            if lane in client.behind or (walk is not None and walk.is_done):
                continue
            if walk is not None or not self._is_in_memory(client, lane):
                return lane
        return None

    def _is_in_memory(self, client: Return, lane: int) -> bool:
        mirror, cursor = self._mirror, self._cursor(client, lane)
        known, forgotten = mirror.known(lane, cursor), mirror.forgotten[lane]
        if known is not None and cursor == mirror.vector[lane]:
            known = max(known, forgotten)  # nothing came behind it
        client.starts[lane] = known
        return known is not None and known >= forgotten

    @staticmethod
    def _cursor(client: Return, lane: int) -> str:
        return "" if client.position is None else client.position.cursors[lane]

    def _leave_out(self, client: Return, lane: int, reason: str) -> None:
        """Let a client begin with what comes on a lane, behind a gap; what it has had does not come once more."""
        client.behind[lane], client.starts[lane] = self._cursor(client, lane), None
        client.gaps.append(self._gap(self._channel(lane), reason))

    def attach(self, client: Return, entry: Entry) -> Backlog:
        """Return what a connection gets first, which was prepared and attached in this step."""
        mirror, position = self._mirror, client.position
        if position is None:
            return Backlog(client.gaps, [], mirror.place(), None)
        missed = self._missed(client, position, entry.conn_id)
        gaps = [*client.gaps, *self._unsure(client), *self._unread(client)]
        if len(missed) > MAX_REPLAYED:
            count = len(missed) - MAX_REPLAYED
            missed = missed[count:]
            gaps = [*gaps, self._gap(self._routing.shared, "the client was away for too long", count)]
        vector = [
            mirror.vector[lane] if start is None and lane not in client.behind else position.cursors[lane]
            for lane, start in enumerate(client.starts)
        ]
        end = mirror.place()
        open_ahead = {
            (lane, sender): seq
            for (lane, sender), seq in position.ahead.items()
            if sender != mirror.own and mirror.senders.last(lane, sender) < seq
        }
        if entry.queue is not None and (open_ahead or client.behind):
            joining = Joining(mirror, entry, entry.queue, open_ahead, client.behind, self._ends(client.behind))
            entry.sink = joining.accept
            end = joining.placed(end)
        return Backlog(gaps, missed, end, Position(vector, dict(position.ahead)), client.wires)

    def _ends(self, behind: Iterable[int]) -> dict[int, int]:
        """Return with which number of its own this pod has read of these lanes all that a client may have had."""
        ends: dict[int, int] = {}
        for lane in behind:
            ends[lane] = self._marks.beat_on(self._channel(lane))
            self._mirror.echoes.wait_for(lane, ends[lane])
        return ends

    def _missed(self, client: Return, position: Position, conn_id: str) -> list[Record | Gap]:
        """Return what a client missed and is for it, with the holes in their places."""
        mirror = self._mirror
        last = dict(position.ahead)
        holes = [hole for hole in mirror.holes.behind(client.starts) if not _is_spared(hole, position.ahead)]
        holes.reverse()
        missed: list[Record | Gap] = []
        had = mirror.handed_out_elsewhere(client.wires, client.starts, position)
        for record in (*client.older, *mirror.records(client.wires, client.starts)):
            while holes and record.serial > holes[-1].serial:
                missed.append(holes.pop().gap)
            if record.seq:
                key = (record.lane, record.sender)
                if record.seq <= last.get(key, 0):
                    continue
                last[key] = record.seq
            if had and (record.lane, record.sender, record.seq) in had:
                continue
            if conn_id not in record.exclude and client.is_for(record):
                start = client.starts[record.lane]
                # One that the log lacks stands nowhere in it.
                is_lacking = start is not None and 0 < record.serial <= start and record.cursor
                missed.append(structs.replace(record, cursor="") if is_lacking else record)
        return [*missed, *[hole.gap for hole in reversed(holes)]]

    def _unsure(self, client: Return) -> list[Gap]:
        """Return gaps for events of this pod of which nobody knows whether the client had them."""
        return [
            self._gap(self._channel(lane), UNSURE, cause="trimmed")
            for lane, start in enumerate(client.starts)
            if start is not None and self._mirror.unsure[lane]
        ]

    def _unread(self, client: Return) -> list[Gap]:
        """Return gaps for what this pod never read, as the log had dropped it, and the client has had elsewhere.

        If its sender sends that again, this pod does not know that it is a copy, and hands it to the client once more.
        """
        gaps: list[Gap] = []
        for lane, (start, unread) in enumerate(zip(client.starts, self._mirror.unread, strict=True)):
            # A client from before it comes across the hole.
            if unread is None or start is None or start <= unread[0]:
                continue
            if self._system.monotonic() - unread[1] < self._known_s:
                gaps.append(self._gap(self._channel(lane), UNREAD, cause="trimmed"))
        return gaps

    def _channel(self, lane: int) -> str:
        return self._routing.base[lane]


def _is_spared(hole: Hole, ahead: Mapping[tuple[int, str], int]) -> bool:
    if hole.spares is None or hole.lane is None:
        return False
    sender, seq = hole.spares
    return ahead.get((hole.lane, sender), 0) >= seq
