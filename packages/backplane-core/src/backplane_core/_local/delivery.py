"""The last step of an event on this pod: to the sinks of the connections that should get it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Final

from attrs import define, field

from backplane_core._local.entry import Entry
from backplane_core._local.union_event import UnionEvent
from backplane_core._protocol.json import decode_event
from backplane_core._protocol.position import EventPlace
from backplane_core._runtime.faults import log_stack
from backplane_core._runtime.reporter import Reporter
from backplane_core.errors import EnvelopeError
from backplane_core.event import Event, make_event
from backplane_core.observe import EnvelopeRejected, SinkFailed

__all__ = ["Delivery", "SinkFailures"]

# What a sink may raise but we must not contain: it is meant for the program, not for us. A `CancelledError` is not: it
# comes from a future that the sink asked, and would end the task that publishes, or reads, though nobody cancelled it.
_NOT_OURS: Final = (KeyboardInterrupt, SystemExit)


@define
class SinkFailures:
    """What sinks did other than accept the event. Most fan-outs have no failures, and create no such object.

    Args:
        refused: Sinks that returned False.
        undecodable: Sinks that wanted a value that the JSON does not have.
        failed: `(conn_id, error type)` of sinks that raised.
        fatal: What a sink raised that must not be contained.
    """

    refused: int = 0
    undecodable: int = 0
    failed: list[tuple[str, str]] = field(factory=list[tuple[str, str]])
    fatal: BaseException | None = None

    def accepts(self, conn_id: str, answer: object) -> bool:
        """Return whether a sink that returned this took the event: only False and a coroutine say that it did not."""
        if answer is False:
            self.refused += 1
            return False
        if inspect.iscoroutine(answer):
            # It only began its work, and the event would be lost without a word.
            answer.close()
            self.failed.append((conn_id, "TypeError (it returned a coroutine, which nobody awaits)"))
            return False
        return True

    def add(self, conn_id: str, error: BaseException) -> None:
        """Record what was raised by a sink, or before it was called."""
        if isinstance(error, EnvelopeError):
            self.undecodable += 1
            return
        self.failed.append((conn_id, type(error).__name__))
        if isinstance(error, _NOT_OURS):
            self.fatal = error
        else:
            log_stack("a sink raised", error)


class Delivery:
    """Hands events to the sinks of this pod, and counts and reports the outcome.

    Args:
        reporter: Counts, and is notified of what went wrong.
    """

    __slots__ = ("_counters", "_reporter", "running")

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._counters = reporter.counters
        self.running = False
        """Whether sinks are being called now: in that time none of them may publish."""

    def deliver(
        self,
        entries: Sequence[Entry],
        event: bytes,
        target: bytes,
        union: UnionEvent | None = None,
        place: EventPlace | None = None,
    ) -> int:
        """Hand an event to each connection, in order; no sink can harm another. Return how many accepted it.

        Args:
            entries: The connections.
            event: The event's JSON.
            target: The one that it is for, as in the envelope.
            union: The event, if it is for several, or stands in several places; then the others don't matter.
            place: Where it stands, on a bus that keeps a log.

        Raises:
            BaseException: A sink raised it, and it is meant for the program; raised once all sinks were served.
        """
        delivered = 0
        failures: SinkFailures | None = None
        shared: Event | None = None
        self.running = True
        try:
            for entry in entries:
                sink = entry.sink
                if sink is None:
                    continue
                try:
                    if entry.raw:
                        taken = sink(event)
                    elif entry.queue is not None:
                        if shared is None:
                            shared = make_event(event, target, place)
                        taken = sink(shared if union is None else union.event_for(entry))
                    else:
                        taken = sink(decode_event(event))
                    if taken is None or taken is True:
                        delivered += 1
                        continue
                    failures = failures or SinkFailures()
                    delivered += failures.accepts(entry.conn_id, taken)
                except BaseException as error:  # noqa: BLE001 -- contained and recorded, or raised when all were served
                    failures = failures or SinkFailures()
                    failures.add(entry.conn_id, error)
        finally:
            self.running = False
        self._counters.delivered += delivered
        if failures is not None:
            self._report(failures)
            if failures.fatal is not None:
                raise failures.fatal
        return delivered

    def _report(self, failures: SinkFailures) -> None:
        counters, reporter = self._counters, self._reporter
        counters.sink_refusals += failures.refused
        if failures.undecodable:
            counters.decode_errors += 1
            reporter.report(EnvelopeRejected(channel="", reason="the event's JSON has no Python value"))
        counters.sink_errors += len(failures.failed)
        for conn_id, error in failures.failed:
            reporter.report(SinkFailed(conn_id=conn_id, error=error))
        if reporter.held:  # a queue that overflowed
            reporter.release()
