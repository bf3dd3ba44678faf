"""This pod's connections: who is attached, and who is associated with what.

Pure bookkeeping: synchronous, no clock, no loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import define, field, frozen

from backplane_core._local.entry import Entry
from backplane_core._local.presence import Presence, PresenceFollower
from backplane_core._local.subscriber import Subscriber
from backplane_core._protocol.exclusion import Exclusion
from backplane_core._runtime.loop_binding import LoopBinding
from backplane_core.backplane import CloseCallback, Sink
from backplane_core.event_sink import EventSink
from backplane_core.observe import GapCallback
from backplane_core.target import Intersection, Target, targets_in

__all__ = ["Registry", "SinkAttachment"]


@define
class Registry:
    """Connections and their targets.

    Args:
        loop_binding: Where attachments may be detached; None: anywhere.
        subscriber: Follows which targets have a connection here.
        follower: Follows which connections are present in which targets.
    """

    loop_binding: LoopBinding | None = None

    subscriber: Subscriber = field(factory=Subscriber, init=False)
    follower: PresenceFollower = field(factory=PresenceFollower, init=False)
    connections: dict[str, Entry] = field(factory=dict[str, Entry], init=False)
    # How many of them have no target of their own.
    indirect: int = field(default=0, init=False)
    # By the target's wire form: bytes keep their hash, and a frame's target is found without being decoded. Most have
    # one connection here, which needs no dict of its own.
    holders: dict[bytes, Entry | dict[str, Entry]] = field(factory=dict[bytes, "Entry | dict[str, Entry]"], init=False)

    def attach(
        self,
        conn_id: str,
        sink: Sink,
        *,
        raw: bool,
        on_gap: GapCallback | None,
        now: float,
        queue: EventSink | None = None,
        info: bytes | None = None,
        is_direct: bool = True,
        on_close: CloseCallback | None = None,
        presence: Presence | None = None,
    ) -> SinkAttachment:
        """Attach a connection, or replace its sink and keep its targets."""
        entry = self.connections.get(conn_id)
        if entry is None:
            entry = Entry(conn_id=conn_id, sink=sink, raw=raw, on_gap=on_gap, queue=queue, since=now)
            self._show(entry, presence)
            entry.info, entry.is_direct, entry.on_close = info, is_direct, on_close
            self.connections[conn_id] = entry
            if is_direct:
                self._link(Target.connection(conn_id), entry)
            else:
                self.indirect += 1
            return SinkAttachment(self, entry, 0)
        if entry.is_direct != is_direct:
            self._set_direct(entry, is_direct=is_direct)
        replaced = entry.queue
        entry.sink, entry.raw, entry.on_gap, entry.queue, entry.since = sink, raw, on_gap, queue, now
        entry.generation += 1
        entry.pending_gap = None
        entry.info, entry.on_close = info, on_close
        self._show(entry, presence)
        if replaced is not None:
            replaced.end()
        return SinkAttachment(self, entry, entry.generation)

    def attach_queue(
        self,
        queue: EventSink,
        now: float,
        info: bytes | None = None,
        *,
        is_direct: bool = True,
        presence: Presence | None = None,
    ) -> SinkAttachment:
        """Attach a connection by its queue; one that had the id ends, and leaves none of its targets behind.

        The id may have been another user's: what was meant for that one must not reach this one.
        """
        entry = self.connections.get(queue.conn_id)
        if entry is not None and entry.targets is not None:
            self._show(entry, None)
            for target in entry.targets:
                self._unlink(target, entry)
            entry.targets = None
        return self.attach(
            queue.conn_id,
            queue.accept,
            raw=False,
            on_gap=queue.mark,
            now=now,
            queue=queue,
            info=info,
            is_direct=is_direct,
            presence=presence,
        )

    def detach(self, conn_id: str) -> None:
        """Remove a connection and all of its associations; a no-op if it is not attached."""
        entry = self.connections.pop(conn_id, None)
        if entry is None:
            return
        entry.sink = None
        entry.generation += 1
        entry.pending_gap = None
        self._show(entry, None)
        for target in entry.all_targets:
            self._unlink(target, entry)
        entry.targets = None
        self.indirect -= not entry.is_direct
        if entry.queue is not None:
            entry.queue.end()

    def detach_all(self) -> None:
        """Remove every connection."""
        for conn_id in list(self.connections):
            self.detach(conn_id)

    def associate(self, conn_id: str, target: Target) -> bool:
        """Add a target to a connection; False if that is not attached."""
        entry = self.connections.get(conn_id)
        if entry is None:
            return False
        if entry.has_by_itself(target):
            return True
        if entry.targets is None:
            entry.targets = set()
        if target not in entry.targets:
            entry.targets.add(target)
            self._link(target, entry)
            if entry.presence is not None:
                self.follower.joined(target, conn_id, entry.presence)
        return True

    def dissociate(self, conn_id: str, target: Target) -> None:
        """Take a target from a connection; a no-op if it does not have it."""
        entry = self.connections.get(conn_id)
        if entry is not None and entry.targets is not None and target in entry.targets:
            entry.targets.remove(target)
            self._unlink(target, entry)
            if entry.presence is not None:
                self.follower.left(target, conn_id, entry.presence, lingers=False)

    def holds(self, target: Target | Intersection) -> bool:
        """Whether a connection of this pod should get the target's events; for an intersection, whether one might."""
        return all(one.wire in self.holders for one in targets_in(target))

    def find(self, wire: bytes) -> Sequence[Entry] | None:
        """Return the connections of the target with this wire form, in the order of their association; None: none.

        "Everyone" is not among the targets that are looked up.
        """
        holders = self.holders.get(wire)
        if holders is None:
            return None
        return list(holders.values()) if isinstance(holders, dict) else (holders,)

    def entries(self, target: Target | Intersection) -> Sequence[Entry]:
        """Return the connections of a target, in the order of their association."""
        if type(target) is Intersection:  # no call
            return self._common(target)
        holders = self.holders.get(target.wire)
        if holders is None:
            return list(self.connections.values()) if target.kind == "everyone" else ()
        return list(holders.values()) if isinstance(holders, dict) else (holders,)

    def resolve(self, targets: Sequence[Target | Intersection], exclude: Exclusion | None = None) -> Sequence[Entry]:
        """Return the connections of a union, each once, without the excluded ones."""
        if len(targets) == 1:
            found = self.entries(targets[0])
        else:
            found = list({entry.conn_id: entry for target in targets for entry in self.entries(target)}.values())
        if exclude is None:
            return found
        if exclude.ids:
            left_out = frozenset(exclude.ids)
            found = [entry for entry in found if entry.conn_id not in left_out]
        return self._without(found, exclude.targets)

    def keep(
        self, entries: Sequence[Entry], targets: Sequence[Target | Intersection], exclude: Exclusion | None = None
    ) -> Sequence[Entry]:
        """Return those of these connections that still have one of the targets, and none that is excluded."""
        kept = [entry for entry in entries if any(self._has_all(entry, target) for target in targets)]
        return kept if exclude is None else self._without(kept, exclude.targets)

    def _common(self, intersection: Intersection) -> Sequence[Entry]:
        """Return the connections that have all of several targets, by a search of the smallest set."""
        first = min(intersection.targets, key=self._count)
        return self._having(list(self._holders_of(first).values()), intersection)

    def _without(self, entries: Sequence[Entry], barred: Sequence[Target | Intersection]) -> Sequence[Entry]:
        """Return those of these connections that have none of the targets."""
        for target in barred:
            if left_out := {entry.conn_id for entry in self._having(entries, target)}:
                entries = [entry for entry in entries if entry.conn_id not in left_out]
        return entries

    def _having(self, entries: Sequence[Entry], target: Target | Intersection) -> Sequence[Entry]:
        """Filter connections by a target, or by all those of an intersection."""
        for one in sorted(targets_in(target), key=self._count):
            holders = self._holders_of(one)
            entries = [entry for entry in entries if entry.conn_id in holders] if holders else ()
        return entries

    def _count(self, target: Target) -> int:
        return len(self._holders_of(target))

    def _holders_of(self, target: Target) -> Mapping[str, Entry]:
        """Return the connections of a target by their ids."""
        if target.kind == "everyone":
            return self.connections
        holders = self.holders.get(target.wire, {})
        return holders if isinstance(holders, dict) else {holders.conn_id: holders}

    def _has_all(self, entry: Entry, target: Target | Intersection) -> bool:
        return all(self._has(entry, one) for one in targets_in(target))

    def _has(self, entry: Entry, target: Target) -> bool:
        if target.kind == "everyone":
            return self.connections.get(entry.conn_id) is entry
        holders = self.holders.get(target.wire)
        return entry is (holders.get(entry.conn_id) if isinstance(holders, dict) else holders)

    @property
    def target_count(self) -> int:
        """How many distinct targets there are besides the connections themselves."""
        return len(self.holders) - (len(self.connections) - self.indirect)

    def _show(self, entry: Entry, presence: Presence | None) -> None:
        """Show this of a connection in its targets from now on; None: nothing."""
        before, entry.presence = entry.presence, presence
        if before == presence:
            return
        for target in (Target.everyone(), *(entry.targets or ())):
            if before is not None:
                self.follower.left(target, entry.conn_id, before, lingers=True)
            if presence is not None:
                self.follower.joined(target, entry.conn_id, presence)

    def _set_direct(self, entry: Entry, *, is_direct: bool) -> None:
        """Give a connection whose id was taken over its own target, or take it away."""
        own = Target.connection(entry.conn_id)
        if entry.targets is not None:
            self.dissociate(entry.conn_id, own)
        entry.is_direct = is_direct
        self.indirect += -1 if is_direct else 1
        if is_direct:
            self._link(own, entry)
        else:
            self._unlink(own, entry)

    def _link(self, target: Target, entry: Entry) -> None:
        holders = self.holders.get(target.wire)
        if holders is None:
            self.holders[target.wire] = entry
            self.subscriber.touch(target)
        elif isinstance(holders, dict):
            holders[entry.conn_id] = entry
        else:
            self.holders[target.wire] = {holders.conn_id: holders, entry.conn_id: entry}

    def _unlink(self, target: Target, entry: Entry) -> None:
        holders = self.holders[target.wire]
        if not isinstance(holders, dict):
            del self.holders[target.wire]
            self.subscriber.touch(target)
            return
        del holders[entry.conn_id]
        if len(holders) == 1:
            (self.holders[target.wire],) = holders.values()


@frozen
class SinkAttachment:
    """What `attach` returns; stale once the sink was replaced."""

    _registry: Registry
    _entry: Entry
    _generation: int

    @property
    def conn_id(self) -> str:
        """The connection's id."""
        return self._entry.conn_id

    @property
    def entry(self) -> Entry:
        """The connection."""
        return self._entry

    async def detach(self) -> None:
        """Detach this sink; a no-op if it was detached or replaced meanwhile.

        Raises:
            WrongLoopError: Called outside of the backplane's event loop.
        """
        if self._registry.loop_binding is not None:
            self._registry.loop_binding.check()
        self.drop()

    def drop(self) -> None:
        """Detach at once; see `detach`."""
        if self._entry.generation == self._generation:
            self._registry.detach(self._entry.conn_id)
