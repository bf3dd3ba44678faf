"""The counters behind `Stats`."""

from __future__ import annotations

from collections import Counter

from attrs import asdict, define, field

from backplane_core.observe import State, Stats

__all__ = ["Counters"]


@define
class Counters:
    """The counts of one backplane since its start; the names are those of `Stats`."""

    published: int = 0
    delivered: int = 0
    received: int = 0
    echoed: int = 0
    beats: int = 0
    duplicates: int = 0
    repeats: int = 0
    foreign: int = 0
    overflowed: int = 0
    conflated: int = 0
    sink_errors: int = 0
    sink_refusals: int = 0
    decode_errors: int = 0
    signature_errors: int = 0
    observer_errors: int = 0
    unknown_connections: int = 0
    links: int = 0
    mismatch: int = 0
    collisions: int = 0
    replayed: int = 0
    enqueued: int = 0
    jobs_done: int = 0
    jobs_failed: int = 0
    jobs_dead: int = 0
    jobs_lost: int = 0
    round_trips: int = 0
    round_trip_s: float | None = None
    round_trip_total_s: float = 0.0
    dropped: Counter[str] = field(factory=Counter[str])
    gaps: Counter[str] = field(factory=Counter[str])

    def made_round_trip(self, seconds: float) -> None:
        """Count a beat that came back after so long."""
        self.round_trips += 1
        self.round_trip_s = seconds
        self.round_trip_total_s += seconds

    def snapshot(self, pod_name: str, state: State, connections: int, targets: int) -> Stats:
        """Return the counts as they are now."""
        counts = asdict(self, recurse=False)
        counts["dropped"], counts["gaps"] = dict(self.dropped), dict(self.gaps)
        return Stats(pod_name=pod_name, state=state, connections=connections, targets=targets, **counts)
