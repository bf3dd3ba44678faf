"""The metrics of a gateway at one moment: `Sample`."""

from __future__ import annotations

import re
from typing import Final, Self

from attrs import frozen

__all__ = ["Sample"]

_LINE: Final = re.compile(r"^(backplane_\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)
_STATE: Final = re.compile(r'state="(\w+)"')


@frozen(kw_only=True)
class Sample:
    """The metrics of a gateway at one moment.

    Args:
        state: The state of its pod.
        connections: Its connections.
        delivered: Deliveries since it started.
        outbox: Frames that the broker has not confirmed yet.
        queued: Events that wait to be written to clients.
        lag_s: The sum of the measured lags of its event loop, in seconds.
        looks: How often the lag was measured.
    """

    state: str
    connections: int
    delivered: int
    outbox: int
    queued: int
    lag_s: float
    looks: int

    @classmethod
    def of(cls, metrics: str) -> Self:
        """Parse the text format of Prometheus; a series that is missing counts as 0."""
        values: dict[str, float] = {}
        state = ""
        for name, labels, value in _LINE.findall(metrics):
            if name == "backplane_state":
                found = _STATE.search(labels)
                state = found[1] if found and float(value) else state
            elif not labels:
                values[name] = float(value)
        return cls(
            state=state,
            connections=int(values.get("backplane_connections", 0)),
            delivered=int(values.get("backplane_delivered_events_total", 0)),
            outbox=int(values.get("backplane_outbox_messages", 0)),
            queued=int(values.get("backplane_gateway_send_queue_events", 0)),
            lag_s=values.get("backplane_gateway_loop_lag_seconds_sum", 0.0),
            looks=int(values.get("backplane_gateway_loop_lag_seconds_count", 0)),
        )
