"""What a gateway counts at one moment, read from its metrics: `Sample`."""

from __future__ import annotations

import re
from typing import Final, Self

from attrs import frozen

__all__ = ["Sample"]

_LINE: Final = re.compile(r"^(backplane_\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)
_STATE: Final = re.compile(r'state="(\w+)"')


@frozen(kw_only=True)
class Sample:
    """One look at a gateway.

    Args:
        state: Of its pod.
        connections: Attached to it.
        delivered: Deliveries since it started.
        outbox: Frames that the broker has not confirmed yet.
        queued: Events that wait to be written to clients.
        lag_s: The sum of how late its event loop came, in seconds.
        looks: How often that was looked at.
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
        """Return what stands in the text format of Prometheus; what is not in there is 0."""
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
