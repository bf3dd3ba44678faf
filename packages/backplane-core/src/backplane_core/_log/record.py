"""One entry of a log, as a pod keeps it: `Record`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import msgspec

from backplane_core._protocol.exclusion import Exclusion
from backplane_core._protocol.frame import Head, decode_exclusion, decode_key, decode_targets
from backplane_core._protocol.json import compact
from backplane_core._protocol.position import origin_key
from backplane_core.errors import EnvelopeError
from backplane_core.target import Intersection, Target, targets_in

__all__ = ["Record", "new_records", "record_of"]


class Record(msgspec.Struct, gc=False, eq=False):
    """An entry of a log, or an event of this pod that no log has yet.

    There may be very many, so they hold nothing that could be part of a circle, and garbage collection passes them by.

    Args:
        serial: Its place among all that passed this pod.
        lane: Its lane.
        cursor: Its place in the log; empty if it has none.
        sender: The `origin_key` of its sender.
        seq: Its number; 0 if it has none.
        event: As JSON; None if it is none.
        targets: The wire forms of the targets that it is found by: of an intersection, the first one.
        exclude: The ids of connections that must not get it.
        size: Its bytes.
        late_since: When it came again in a log that had lost it: the serial at which the log went back. Clients whose
            place is from before have had it, or find it where it was first.
        key: The event's; None: it has none.
        terms: Whom it is for, if `targets` alone do not say so: who has all of one of these.
        barred: Who must not get it: who has all of one of these.
        same_as: The sender and the number of the frame that was handed out on this pod in its place, as both have one
            event id; None: it is no such copy. One that is has no event.
    """

    serial: int
    lane: int
    cursor: str
    sender: str = ""
    seq: int = 0
    event: bytes | None = None
    targets: tuple[bytes, ...] = ()
    exclude: frozenset[str] = frozenset()
    size: int = 0
    late_since: int = 0
    key: str | None = None
    terms: tuple[tuple[bytes, ...], ...] = ()
    barred: tuple[tuple[bytes, ...], ...] = ()
    same_as: tuple[str, int] | None = None

    @classmethod
    def of(  # noqa: PLR0917 -- in the order of a frame
        cls,
        lane: int,
        cursor: str,
        sender: str,
        seq: int,
        event: bytes,
        targets: Sequence[Target | Intersection],
        exclude: Exclusion | None = None,
        key: str | None = None,
    ) -> Record:
        """Return the record of an event."""
        if len(targets) == 1 and exclude is None and type(only := targets[0]) is Target:  # nearly every event
            return cls(0, lane, cursor, sender, seq, event, (only.wire,), size=len(event) + 64, key=key)
        terms, barred = _wires_of(targets), _wires_of(() if exclude is None else exclude.targets)
        first = tuple(dict.fromkeys([term[0] for term in terms]))
        if all(len(term) == 1 for term in terms):
            terms = ()
        ids = frozenset(() if exclude is None else exclude.ids)
        size = len(event) + 64 * (len(first) + len(ids) + sum(map(len, terms)) + sum(map(len, barred)))
        return cls(0, lane, cursor, sender, seq, event, first, ids, size, key=key, terms=terms, barred=barred)

    def target_for(self, wires: frozenset[bytes]) -> bytes | None:
        """Return the target under which a connection gets the event, the same as live; None: it is not for it.

        Args:
            wires: The wire forms of all targets of the connection.
        """
        if self.barred and any(map(wires.issuperset, self.barred)):
            return None
        if self.terms:
            return next((term[0] for term in self.terms if wires.issuperset(term)), None)
        return next((target for target in self.targets if target in wires), None)


def record_of(head: Head, lane: int, cursor: str) -> Record:
    """Return the record of a frame; of one that is for pods, a record without an event.

    Raises:
        EnvelopeError: Its targets are none.
    """
    event = bytes(head.event)
    sender, seq = origin_key(head.origin), head.seq or 0
    if head.routing is not None and event == b"null":
        return Record(0, lane, cursor, sender, seq)
    if 10 in event or 13 in event:  # noqa: PLR2004 -- LF and CR
        event = compact(event)
    return Record.of(lane, cursor, sender, seq, event, decode_targets(head), decode_exclusion(head), decode_key(head))


def new_records(head: Head | None, lane: int, cursor: str, numbers: dict[str, int]) -> list[Record]:
    """Return the record of an entry, unless it is a copy or no envelope.

    Args:
        head: The entry's.
        lane: Its lane.
        cursor: Its place.
        numbers: The last numbers of senders before it; taken on.
    """
    with suppress(EnvelopeError):
        record = None if head is None else record_of(head, lane, cursor)
        if record is not None and not 0 < record.seq <= numbers.get(record.sender, 0):
            numbers[record.sender] = record.seq
            return [record]
    return []


def _wires_of(terms: Sequence[Target | Intersection]) -> tuple[tuple[bytes, ...], ...]:
    return tuple([tuple([target.wire for target in targets_in(term)]) for term in terms])
