"""Reports events that belong to a trace: `Traces`."""

from __future__ import annotations

import time
from collections.abc import Mapping

from attrs import frozen

from backplane_core._protocol.trace import Trace
from backplane_core._runtime.reporter import Reporter
from backplane_core.observe import EventTraced

__all__ = ["Traced", "Traces"]


@frozen
class Traced:
    """An event that is being published or handed out.

    Args:
        trace: What it belongs to.
        began_ns: When that began, Unix time.
    """

    trace: Trace
    began_ns: int


@frozen
class Traces:
    """Reports each traced event that is published here or handed to connections. One without a trace never gets here.

    Args:
        reporter: Notifies the observer.
    """

    _reporter: Reporter

    def begin(self, carrier: Mapping[str, str]) -> Traced | None:
        """Begin with an event that is published here; None: what the carrier holds is recorded by nobody.

        Raises:
            EventEncodeError: It is no carrier.
        """
        trace = Trace.read(carrier)
        return None if trace is None else Traced(trace, time.time_ns())

    def begin_received(self, member: bytes) -> Traced | None:
        """Begin with an event from another pod; None: nobody here wants to know, or nobody records it.

        Args:
            member: What its frame says of its trace.
        """
        if self._reporter.observer is None:
            return None
        trace = Trace.decode(member)
        return None if trace is None else Traced(trace, time.time_ns())

    def begin_encoded(self, marks: bytes) -> Traced | None:
        """Begin with an event that was encoded in the thread that published it; None: see `begin_received`.

        Args:
            marks: Its members as `encode_marks` returned them.
        """
        if self._reporter.observer is None:
            return None
        trace = Trace.find(marks)
        return None if trace is None else Traced(trace, time.time_ns())

    def end(self, traced: Traced, connections: int, *, is_own: bool) -> None:
        """Report an event that has reached all of this pod's connections."""
        self._reporter.report(
            EventTraced(
                traceparent=traced.trace.parent,
                tracestate=traced.trace.state,
                is_own=is_own,
                connections=connections,
                began_ns=traced.began_ns,
                ended_ns=time.time_ns(),
            )
        )
