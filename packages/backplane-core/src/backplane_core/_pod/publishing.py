"""The side of a backplane that publishes: each way to publish, and the one section that all of them pass."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import Future as ConcurrentFuture
from threading import get_ident
from typing import Final

from backplane_core._local.arguments import normalize_targets, read_exclusion
from backplane_core._local.entry import Entry
from backplane_core._local.loop_budget import BYTES_PER_UNIT, SINKS_PER_UNIT
from backplane_core._local.union_event import UnionEvent
from backplane_core._pod.parts import Parts
from backplane_core._protocol.event_ids import Publication, event_key
from backplane_core._protocol.frame import encode_marks
from backplane_core._protocol.json import encode_event, normalize_json
from backplane_core.errors import (
    EventTooLargeError,
    ReentrantPublishError,
)
from backplane_core.target import Excluded, Intersection, Target, Targets, check_id

__all__ = ["Publishing"]

REENTRANT: Final = "a sink may not publish while an event is delivered: use loop.call_soon"


class Publishing(Parts):
    """Takes events for the other pods, and delivers them to this one's connections."""

    async def publish(
        self,
        target: Targets,
        event: object,
        *,
        exclude: Excluded = (),
        key: str | None = None,
        event_id: str | None = None,
        trace: Mapping[str, str] | None = None,
    ) -> int:
        """Deliver an event to every connection of the target, on every pod.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once. `a & b` reaches the
                connections that have both.
            event: None, bool, int, finite float, str, UUID (sent as its text), Enum (sent as the str or int that it
                is, else as its value), list, tuple, or dict with str keys, of the same.
            exclude: Who must not get it, on any pod: ids of connections, at most 65,536, and targets, at most 64.
            key: Says which older events it makes outdated: those of the same target and key. A connection with
                `overflow="latest"` that is behind skips them. 1 to 1,024 UTF-8 bytes; None: it makes none so.
            event_id: The event's own, for what may be published again: for `event_id_window_s` each pod hands it out
                once, however often it is published, and where. 1 to 1,024 UTF-8 bytes; None: it is new each time.
            trace: The W3C trace it belongs to, as OpenTelemetry's `inject` fills it: `traceparent` and perhaps
                `tracestate`. If it is sampled, this pod reports an `EventTraced`, and so does each pod that hands the
                event out. One that is not sampled, or not well formed, is ignored, as the standard asks. None: none.

        Returns:
            How many connections of this pod took it; 0 if they have had it, by its `event_id`.

        Raises:
            InvalidTargetError: `target` is empty, too long, or has an entry that is not a target; or `exclude` is too
                long, or has an entry that is neither an id nor a target; or `key` or `event_id` is not text of that
                size.
            EventEncodeError: The event is not JSON, or `trace` is no mapping.
            EventTooLargeError: The event is larger than `max_event_bytes`, or than the broker accepts.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ReentrantPublishError: Called by a sink, while an event is being delivered.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: if it raises, nobody has received anything. It does not depend on the broker's health: what can't be
            sent is counted, and becomes a `Gap` at the receivers.
        Cancellation: never undoes it; the event is accepted before the first suspension.
        """
        delivered = self._accept(target, event, exclude, key, event_id, trace=trace)
        if self._turn.used >= self._turn.limit:
            await self._end_turn()
        return delivered

    def publish_nowait(
        self,
        target: Targets,
        event: object,
        *,
        exclude: Excluded = (),
        key: str | None = None,
        event_id: str | None = None,
        trace: Mapping[str, str] | None = None,
    ) -> int:
        """Deliver an event as `publish` does, without ever suspending: the caller must give the event loop its turns.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once. `a & b` reaches the
                connections that have both.
            event: None, bool, int, finite float, str, UUID (sent as its text), Enum (sent as the str or int that it
                is, else as its value), list, tuple, or dict with str keys, of the same.
            exclude: Who must not get it, on any pod: ids of connections, at most 65,536, and targets, at most 64.
            key: Says which older events it makes outdated: those of the same target and key. A connection with
                `overflow="latest"` that is behind skips them. 1 to 1,024 UTF-8 bytes; None: it makes none so.
            event_id: The event's own, for what may be published again: for `event_id_window_s` each pod hands it out
                once, however often it is published, and where. 1 to 1,024 UTF-8 bytes; None: it is new each time.
            trace: The W3C trace it belongs to, as OpenTelemetry's `inject` fills it: `traceparent` and perhaps
                `tracestate`. If it is sampled, this pod reports an `EventTraced`, and so does each pod that hands the
                event out. One that is not sampled, or not well formed, is ignored, as the standard asks. None: none.

        Returns:
            How many connections of this pod took it; 0 if they have had it, by its `event_id`.

        Raises:
            InvalidTargetError: `target` is empty, too long, or has an entry that is not a target; or `exclude` is too
                long, or has an entry that is neither an id nor a target; or `key` or `event_id` is not text of that
                size.
            EventEncodeError: The event is not JSON, or `trace` is no mapping.
            EventTooLargeError: The event is larger than `max_event_bytes`, or than the broker accepts.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ReentrantPublishError: Called by a sink, while an event is being delivered.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: if it raises, nobody has received anything. It does not depend on the broker's health: what can't be
            sent is counted, and becomes a `Gap` at the receivers. A loop that never suspends outruns the outbox.
        """
        return self._accept(target, event, exclude, key, event_id, trace=trace)

    async def publish_json(
        self,
        target: Targets,
        data: bytes | bytearray | memoryview | str,
        *,
        exclude: Excluded = (),
        key: str | None = None,
        event_id: str | None = None,
        trace: Mapping[str, str] | None = None,
    ) -> int:
        """Deliver an event that is JSON already, to every connection of the target, on every pod.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once. `a & b` reaches the
                connections that have both.
            data: One JSON value, for example what a model's `model_dump_json()` returned. It is read once to be sure,
                and sent as it is, but on one line.
            exclude: Who must not get it, on any pod: ids of connections, at most 65,536, and targets, at most 64.
            key: Says which older events it makes outdated: those of the same target and key. A connection with
                `overflow="latest"` that is behind skips them. 1 to 1,024 UTF-8 bytes; None: it makes none so.
            event_id: The event's own, for what may be published again: for `event_id_window_s` each pod hands it out
                once, however often it is published, and where. 1 to 1,024 UTF-8 bytes; None: it is new each time.
            trace: The W3C trace it belongs to, as OpenTelemetry's `inject` fills it: `traceparent` and perhaps
                `tracestate`. If it is sampled, this pod reports an `EventTraced`, and so does each pod that hands the
                event out. One that is not sampled, or not well formed, is ignored, as the standard asks. None: none.

        Returns:
            How many connections of this pod took it; 0 if they have had it, by its `event_id`.

        Raises:
            InvalidTargetError: `target` is empty, too long, or has an entry that is not a target; or `exclude` is too
                long, or has an entry that is neither an id nor a target; or `key` or `event_id` is not text of that
                size.
            EventEncodeError: The data is not exactly one JSON value in UTF-8, or holds what no pod could read: over 256
                levels of nesting, a number that no double holds, a lone surrogate. The message shows nothing of it.
                Or `trace` is no mapping.
            EventTooLargeError: The event is larger than `max_event_bytes`, or than the broker accepts.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ReentrantPublishError: Called by a sink, while an event is being delivered.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: if it raises, nobody has received anything. It does not depend on the broker's health: what can't be
            sent is counted, and becomes a `Gap` at the receivers.
        Cancellation: never undoes it; the event is accepted before the first suspension.
        """
        delivered = self._accept(target, data, exclude, key, event_id, is_json=True, trace=trace)
        if self._turn.used >= self._turn.limit:
            await self._end_turn()
        return delivered

    def publish_json_nowait(
        self,
        target: Targets,
        data: bytes | bytearray | memoryview | str,
        *,
        exclude: Excluded = (),
        key: str | None = None,
        event_id: str | None = None,
        trace: Mapping[str, str] | None = None,
    ) -> int:
        """Deliver an event that is JSON already, without ever suspending: the caller must give the loop its turns.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once. `a & b` reaches the
                connections that have both.
            data: One JSON value, for example what a model's `model_dump_json()` returned. It is read once to be sure,
                and sent as it is, but on one line.
            exclude: Who must not get it, on any pod: ids of connections, at most 65,536, and targets, at most 64.
            key: Says which older events it makes outdated: those of the same target and key. A connection with
                `overflow="latest"` that is behind skips them. 1 to 1,024 UTF-8 bytes; None: it makes none so.
            event_id: The event's own, for what may be published again: for `event_id_window_s` each pod hands it out
                once, however often it is published, and where. 1 to 1,024 UTF-8 bytes; None: it is new each time.
            trace: The W3C trace it belongs to, as OpenTelemetry's `inject` fills it: `traceparent` and perhaps
                `tracestate`. If it is sampled, this pod reports an `EventTraced`, and so does each pod that hands the
                event out. One that is not sampled, or not well formed, is ignored, as the standard asks. None: none.

        Returns:
            How many connections of this pod took it; 0 if they have had it, by its `event_id`.

        Raises:
            InvalidTargetError: `target` is empty, too long, or has an entry that is not a target; or `exclude` is too
                long, or has an entry that is neither an id nor a target; or `key` or `event_id` is not text of that
                size.
            EventEncodeError: The data is not exactly one JSON value in UTF-8, or holds what no pod could read: over 256
                levels of nesting, a number that no double holds, a lone surrogate. The message shows nothing of it.
                Or `trace` is no mapping.
            EventTooLargeError: The event is larger than `max_event_bytes`, or than the broker accepts.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ReentrantPublishError: Called by a sink, while an event is being delivered.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: if it raises, nobody has received anything. It does not depend on the broker's health: what can't be
            sent is counted, and becomes a `Gap` at the receivers. A loop that never suspends outruns the outbox.
        """
        return self._accept(target, data, exclude, key, event_id, is_json=True, trace=trace)

    def publish_local(self, target: Targets, event: object, *, exclude: Excluded = (), key: str | None = None) -> int:
        """Deliver an event to the connections of this pod alone, for what concerns no other: its drain, its deafness.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once. `a & b` reaches the
                connections that have both.
            event: None, bool, int, finite float, str, UUID (sent as its text), Enum (sent as the str or int that it
                is, else as its value), list, tuple, or dict with str keys, of the same.
            exclude: Who must not get it: ids of connections, at most 65,536, and targets, at most 64.
            key: Says which older events it makes outdated: those of the same target and key. A connection with
                `overflow="latest"` that is behind skips them. 1 to 1,024 UTF-8 bytes; None: it makes none so.

        Returns:
            How many connections took it.

        Raises:
            InvalidTargetError: `target` is empty, too long, or has an entry that is not a target; or `exclude` is too
                long, or has an entry that is neither an id nor a target; or `key` is not text of that size.
            EventEncodeError: The event is not JSON.
            EventTooLargeError: The event is larger than `max_event_bytes`.
            ReentrantPublishError: Called by a sink, while an event is being delivered.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: exactly once, in order, before this returns; nothing goes to the broker.
        """
        self._loop_binding.check()
        self._states.check_open()
        if self._delivery.running:
            raise ReentrantPublishError(REENTRANT)
        targets = normalize_targets(target)
        first = targets[0]
        entries = self._registry.resolve(targets, read_exclusion(exclude))
        data = encode_event(event)
        if len(data) > self._settings.max_event_bytes:
            raise EventTooLargeError(len(data), self._settings.max_event_bytes)
        if key is not None:
            check_id(key, "key")
        is_plain = len(targets) == 1 and type(first) is Target and key is None
        union = None if is_plain else UnionEvent(data, targets, key=key)
        return self._delivery.deliver(entries, data, first.wire, union)

    def publish_threadsafe(
        self,
        target: Targets,
        event: object,
        *,
        exclude: Excluded = (),
        key: str | None = None,
        event_id: str | None = None,
        trace: Mapping[str, str] | None = None,
    ) -> ConcurrentFuture[int]:
        """Deliver an event from another thread than that of the event loop.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once. `a & b` reaches the
                connections that have both.
            event: None, bool, int, finite float, str, UUID (sent as its text), Enum (sent as the str or int that it is,
                else as its value), list, tuple, or dict with str keys, of the same. It must not change before the
                future is done.
            exclude: Who must not get it, on any pod: ids of connections, at most 65,536, and targets, at most 64.
            key: Says which older events it makes outdated: those of the same target and key. A connection with
                `overflow="latest"` that is behind skips them. 1 to 1,024 UTF-8 bytes; None: it makes none so.
            event_id: The event's own, for what may be published again: for `event_id_window_s` each pod hands it out
                once, however often it is published, and where. 1 to 1,024 UTF-8 bytes; None: it is new each time.
            trace: The W3C trace it belongs to, as OpenTelemetry's `inject` fills it: `traceparent` and perhaps
                `tracestate`. If it is sampled, this pod reports an `EventTraced`, and so does each pod that hands the
                event out. One that is not sampled, or not well formed, is ignored, as the standard asks. None: none.

        Returns:
            A future of how many connections of this pod took it, or of the error that `publish` would raise.

        Raises:
            ClosedError: The backplane has not been entered yet, or its event loop is closed.

        Delivery: in the order of the calls, once the event loop gets to it.
        """
        return self._loop_binding.call_threadsafe(
            lambda: self.publish_nowait(target, event, exclude=exclude, key=key, event_id=event_id, trace=trace)
        )

    def _accept(  # noqa: C901, PLR0912 -- calls are what it saves
        self,
        target: Targets,
        event: object,
        exclude: Excluded,
        key: str | None = None,
        event_id: str | None = None,
        *,
        is_json: bool = False,
        number: int | None = None,
        trace: Mapping[str, str] | None = None,
    ) -> int:
        """Take an event for the other pods and deliver it to this one's connections, or raise before anyone has it."""
        binding = self._loop_binding
        if get_ident() != binding.thread or not binding.is_running():
            binding.check()
        if self._states.now != "live":
            self._states.check_open()
        if self._delivery.running:
            raise ReentrantPublishError(REENTRANT)
        targets = (target,) if type(target) is Target else normalize_targets(target)
        excluded = read_exclusion(exclude) if exclude else None
        data = normalize_json(event) if is_json else encode_event(event)
        size = len(data)
        if size > self._settings.max_event_bytes:
            raise EventTooLargeError(size, self._settings.max_event_bytes)
        is_repeat = False
        traced = None if trace is None else self._traces.begin(trace)
        if key is None and number is None and event_id is None and traced is None:
            self._outbound.send(targets, data, excluded)
        else:
            # Also what is known here: the first one may have been dropped on its way to the others.
            marks = encode_marks(key, number, event_id, None if traced is None else traced.trace)
            self._outbound.send_marked(targets, data, excluded, marks)
            is_repeat = event_id is not None and self._has_handed_out(targets, event_id)
        log, record = self._pod_log, None
        if log is not None and not is_repeat:
            record = log.published(targets, data, excluded, key)
        self._counters.published += 1
        self._turn.used += 1 + size // BYTES_PER_UNIT
        registry, first = self._registry, targets[0]
        entries: Sequence[Entry]
        if is_repeat:
            entries = ()
        elif excluded is not None or len(targets) != 1 or type(first) is not Target:
            entries = registry.resolve(targets, excluded)
        elif first.wire in registry.holders or first.kind == "everyone":
            entries = registry.entries(first)
        else:  # most pods hold nobody of most targets: not even a call
            entries = ()
        delivered = 0
        if entries:
            self._turn.used += len(entries) // SINKS_PER_UNIT
            place = union = None
            if log is not None and record is not None:
                place, union = log.placed(record, targets, data, key)
            if union is None and (key is not None or len(targets) != 1 or type(first) is not Target):
                union = UnionEvent(data, targets, place, key=key)
            delivered = self._delivery.deliver(entries, data, first.wire, union, place)
        if traced is not None:
            self._traces.end(traced, delivered, is_own=True)
        if self._reporter.held:
            self._reporter.release()
        return delivered

    def _has_handed_out(self, targets: Sequence[Target | Intersection], event_id: str) -> bool:
        """Return whether an event, which was numbered just now, came before; remember it if not."""
        own = Publication("", 0) if self._pod_log is None else self._pod_log.newest(targets)
        is_repeat = self._event_ids.is_repeated(event_key(targets, event_id), own, self._system.monotonic())
        self._counters.repeats += is_repeat
        if is_repeat and self._pod_log is not None:
            self._pod_log.repeated(targets)
        return is_repeat

    def _end_turn(self) -> Awaitable[None]:
        """Let the loop run, once this is awaited: a publisher in a tight loop must not starve it."""
        return self._turn.renew()
