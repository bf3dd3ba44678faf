"""Finds what a client missed that comes back with the id of the last event that it got: `Resumer`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import define, field
from msgspec import structs

from backplane_core._local.entry import Entry
from backplane_core._log.backlog import Backlog
from backplane_core._log.holes import Hole
from backplane_core._log.joining import Joining
from backplane_core._log.mirror import UNSURE, Mirror
from backplane_core._log.pages import LogPages
from backplane_core._log.record import Record, new_records
from backplane_core._log.turns import Turns
from backplane_core._protocol.position import Position, origin_key
from backplane_core._protocol.routing import Routing
from backplane_core._runtime.system import System
from backplane_core.errors import TransportError
from backplane_core.observe import Gap, GapCause
from backplane_core.target import Target
from backplane_core.transport import Lost

__all__ = ["NoLog", "Resumer", "Return"]

MAX_ENTRIES: Final = 20_000
"""Entries of a log that are read for one client: some seconds. One that missed more is notified of a gap."""
MAX_REPLAYED: Final = 10_000
"""Events that one client is handed at once: a page can't follow more, and loads the state."""
WAIT_S: Final = 5.0
"""How long a client waits for a log that can't be read, or for this pod to read what another has read already."""
RETRY_S: Final = 0.1
UNREAD: Final = "the log dropped events before this pod read them: it may hand out once more what the client has had"


@define(eq=False)
class Return:
    """A client that comes back.

    Args:
        position: Where it was; None: nobody knows.
        wires: The wire forms of its targets.
        starts: By lane: behind which serial of the mirror it goes on; None: with what comes.
        older: What it missed that the mirror has forgotten, in order.
        gaps: What it misses for good, and comes first.
        behind: By lane: what this pod has yet to read that the client has had.
    """

    position: Position | None
    wires: frozenset[bytes]
    starts: list[int | None]
    older: list[Record] = field(factory=list[Record])
    gaps: list[Gap] = field(factory=list[Gap])
    behind: dict[int, str] = field(factory=dict[int, str])

    def is_for(self, record: Record) -> bool:
        """Return whether an event is for this client, judged by its targets."""
        return record.event is not None and record.target_for(self.wires) is not None


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

    def give_up(self, client: Return) -> None:
        """Let a client begin with what comes, behind a gap: what it missed is forgotten faster than it is read."""
        client.position = None
        client.starts = [None] * len(client.starts)
        client.gaps.append(self._gap("", "more was published meanwhile than this pod keeps"))

    def attach(self, client: Return, entry: Entry) -> Backlog | None:  # noqa: ARG002 -- as above
        """Return what a connection gets first, which was attached in this step; None: prepare it again."""
        return Backlog(client.gaps, [], None, None)

    @property
    def last_id(self) -> str | None:
        """The id of what this pod's connections were handed last."""
        return None

    def _gap(self, channel: str, reason: str, missed: int | None = None, cause: GapCause = "resume") -> Gap:
        now = self._system.wall()
        return Gap(channel=channel, cause=cause, reason=reason, since=now, until=now, missed=missed)


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
    """

    def __init__(self, mirror: Mirror, pages: LogPages, routing: Routing, system: System, known_s: float) -> None:
        super().__init__(system)
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
        """Return what is known of a client with this id; waits for the log where it has to."""
        await self.wait_turn()
        mirror = self._mirror
        position = mirror.codec.decode(text)
        everyone = Target.everyone()
        wires = frozenset([everyone.wire, *[target.wire for target in targets]])
        client = Return(position, wires, [None] * len(mirror.vector))
        if position is None:
            client.gaps.append(self._gap(self._routing.shared, "this fleet never gave out such an id"))
            return client
        lanes = {mirror.lanes[self._routing.channel((target,))] for target in (everyone, *targets)}
        for lane in sorted(lanes):
            await self._prepare_lane(client, lane, position.cursors[lane])
        return client

    async def _prepare_lane(self, client: Return, lane: int, cursor: str) -> None:
        try:
            async with asyncio.timeout(WAIT_S):
                while (start := self._mirror.known(lane, cursor)) is None and lane not in client.behind:
                    try:
                        async with self._pages.turns:
                            if await self._read_older(client, lane, cursor):
                                return
                        await self._mirror.reach(lane, cursor)
                    except TransportError:
                        await asyncio.sleep(RETRY_S)
                        await self._pages.wait()
                client.starts[lane] = start
        except TimeoutError:
            client.behind[lane] = cursor
            reason = "the log could not be read in time, or this pod has not read what the client has had"
            client.gaps.append(self._gap(self._channel(lane), reason))

    async def _read_older(self, client: Return, lane: int, cursor: str) -> bool:
        """Read what follows on a place up to what the mirror has; False: this pod has not read that far.

        Raises:
            TransportError: The log can't be read.
        """
        older: list[Record] = []
        gaps: list[Gap] = []
        after = cursor
        numbers = await self._numbers_before(lane, cursor)
        for _ in range(MAX_ENTRIES):
            lost, entries = await self._pages.read(self._channel(lane), after=after)
            if lost is not None:
                gaps.append(self._gap(self._channel(lane), lost.reason, lost.missed, _cause(lost)))
                if lost.cause == "epoch":
                    client.gaps += gaps
                    return True
            if not entries or self._mirror.known(lane, cursor) is not None:
                return False  # this pod was about to read it, or is
            for place, head in entries:
                known = self._mirror.known(lane, place)
                if known is not None:
                    is_forgotten = known <= self._mirror.forgotten[lane]
                    client.starts[lane] = known if is_forgotten else known - 1
                    if is_forgotten or place == self._mirror.bare[lane]:  # only the position is known, not its entry
                        older += [one for one in new_records(head, lane, place, numbers) if client.is_for(one)]
                    client.older += older
                    client.gaps += gaps
                    return True
                older += [one for one in new_records(head, lane, place, numbers) if client.is_for(one)]
            after = entries[-1][0]
            if len(older) > MAX_REPLAYED:
                break
        client.gaps.append(self._gap(self._channel(lane), "the client was away for longer than is read for it"))
        return True

    async def _numbers_before(self, lane: int, cursor: str) -> dict[str, int]:
        """Return the last numbers of senders up to a place: what comes again behind it is a copy.

        Raises:
            TransportError: The log can't be read.
        """
        _, entries = await self._pages.read(self._channel(lane), before=cursor)
        numbers: dict[str, int] = {}
        for _, head in entries:
            if head is not None and head.seq is not None:
                sender = origin_key(head.origin)
                numbers[sender] = max(numbers.get(sender, 0), head.seq)
        return numbers

    def attach(self, client: Return, entry: Entry) -> Backlog | None:
        """Return what a connection gets first, which was attached in this step; None: prepare it again.

        None as well while it waits for what the mirror has forgotten meanwhile.
        """
        mirror, position = self._mirror, client.position
        if any(start is not None and start < mirror.forgotten[lane] for lane, start in enumerate(client.starts)):
            return None
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
            joining = Joining(mirror, entry, entry.queue, open_ahead, client.behind)
            entry.sink = joining.accept
            end = joining.placed(end)
        return Backlog(gaps, missed, end, Position(vector, dict(position.ahead)), client.wires)

    def _missed(self, client: Return, position: Position, conn_id: str) -> list[Record | Gap]:
        """Return what a client missed and is for it, with the holes in their places."""
        mirror = self._mirror
        last = dict(position.ahead)
        holes = [hole for hole in mirror.holes.behind(client.starts) if not _is_spared(hole, position.ahead)]
        holes.reverse()
        missed: list[Record | Gap] = []
        for record in (*client.older, *mirror.records(client.wires, client.starts)):
            while holes and record.serial > holes[-1].serial:
                missed.append(holes.pop().gap)
            if record.seq:
                key = (record.lane, record.sender)
                if record.seq <= last.get(key, 0):
                    continue
                last[key] = record.seq
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


def _cause(lost: Lost) -> GapCause:
    return lost.cause
