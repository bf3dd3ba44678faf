"""What observers, health checks and dashboards get: gaps, records, readiness, counters; frozen, without payloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from attrs import frozen

__all__ = [
    "EnvelopeRejected",
    "EventDropped",
    "EventTraced",
    "FleetMismatch",
    "Gap",
    "GapCallback",
    "GapCause",
    "JobDead",
    "JobsLost",
    "LinkChanged",
    "Observer",
    "OriginCollision",
    "Readiness",
    "Record",
    "SinkFailed",
    "State",
    "StateChanged",
    "Stats",
    "SubscriptionRefused",
]

State: TypeAlias = Literal["connecting", "live", "degraded", "draining", "closed"]
"""`connecting`: not live yet. `live`: receiving. `degraded`: the link is lost and being replaced; local delivery
continues. `draining`: rejects publishes, sends what it accepted. `closed`: finished."""

GapCause: TypeAlias = Literal["reconnect", "sequence", "overflow", "trimmed", "epoch", "resume"]
"""`reconnect`: the link was replaced, or everything that came over it was refused. `sequence`: the numbers of a sender
skipped. `overflow`: a bounded queue of this pod was full. `trimmed`, `epoch`: a durable log no longer holds what was
missed, or is a different log. `resume`: a connection came back with an id from which nobody can tell what it missed."""


@frozen(kw_only=True)
class Gap:
    """Events may have been missed here. If you show state that events keep up to date, reload it.

    Args:
        channel: The bus channel, or `connection:<id>` for that connection's own queue.
        cause: See `GapCause`.
        reason: What happened, for those who operate the service: it may name the broker. Show clients only `cause`.
        since: Start of the span, Unix time in seconds (wall clock, for people).
        until: End of the span, Unix time in seconds.
        missed: How many events on the channel were missed: an upper bound for one connection. None if unknown.
        is_open: Whether it goes on: this pod is still deaf. Another gap follows, which reaches to the end.
    """

    channel: str
    cause: GapCause
    reason: str
    since: float
    until: float
    missed: int | None = None
    is_open: bool = False

    def merge(self, later: Gap) -> Gap:
        """Return one gap that covers both.

        Args:
            later: A gap that was reported after this one.
        """
        missed = None if self.missed is None or later.missed is None else self.missed + later.missed
        # A hole and a full queue say nothing about whether the link is back.
        goes_on = self.is_open and later.cause in {"sequence", "overflow"}
        return Gap(
            channel=later.channel,
            cause=self.cause if later.cause == "sequence" else later.cause,
            reason=later.reason,
            since=min(self.since, later.since),
            until=max(self.until, later.until),
            missed=missed,
            is_open=later.is_open or goes_on,
        )


GapCallback: TypeAlias = Callable[[Gap], None]
"""Called with a `Gap`, in the event loop. It must not block; what it raises is counted and logged without its text."""


@frozen(kw_only=True)
class StateChanged:
    """The backplane's state changed.

    Args:
        state: The new state.
        previous: The state before.
        reason: Why it changed, without secrets.
    """

    state: State
    previous: State
    reason: str


@frozen(kw_only=True)
class LinkChanged:
    """A link to the broker went live, or died and is being replaced.

    Args:
        live: True if the link went live, False if it was lost.
        reason: Why it was lost; `connected`; or `moved: …`, if it took over from a link that the broker was about to
            close.
        links: How many links have gone live since the start.
    """

    live: bool
    reason: str
    links: int


@frozen(kw_only=True)
class EventDropped:
    """Events did not go to other pods (local delivery is not affected). Receivers detect a hole.

    Args:
        cause: `outbox`: the outbox was full. `unconfirmed`: can't be sent again. `too_large`: over the limit of a new
            broker. `closed`: not sent before close. `in_doubt`: sent to a broker node that was deposed, or may have
            been; some may have arrived, and a pod that started since then detects no hole. `refused`: the broker
            refused it, or killed two links in a row when it was sent alone; one record per event.
        channel: The bus channel.
        count: How many events.
        size: The frame's size in bytes, under `refused`; None otherwise.
        reason: The broker's, under `refused`, for people; None otherwise.
    """

    cause: str
    channel: str
    count: int
    size: int | None = None
    reason: str | None = None


@frozen(kw_only=True)
class EventTraced:
    """An event of a sampled trace was published by this pod, or handed to its connections: one record for each event.

    A pod that neither published it nor has a connection for it reports none.

    Args:
        traceparent: Of its publisher, in the form of W3C Trace Context.
        tracestate: The publisher's too; empty: there is none.
        is_own: Whether this pod published it.
        connections: How many of this pod's connections took it.
        began_ns: When this pod began with it, Unix time in nanoseconds.
        ended_ns: When it had reached them all.
    """

    traceparent: str
    tracestate: str
    is_own: bool
    connections: int
    began_ns: int
    ended_ns: int


@frozen(kw_only=True)
class SubscriptionRefused:
    """The broker does not let this pod hear a channel that its connections need; all others are heard.

    Reported when it begins. It is asked for again now and then; once it is heard, its connections get a `Gap` for the
    time until then.

    Args:
        channel: The bus channel.
        reason: The broker's, and what to grant.
    """

    channel: str
    reason: str


@frozen(kw_only=True)
class SinkFailed:
    """A sink raised. The other sinks got the event.

    Args:
        conn_id: The connection.
        error: The type of the error; its text could contain the payload.
    """

    conn_id: str
    error: str


@frozen(kw_only=True)
class EnvelopeRejected:
    """Bytes from the bus were not an envelope, or not signed as this fleet signs.

    Args:
        channel: The channel that they came from.
        reason: What is wrong with them.
    """

    channel: str
    reason: str


@frozen(kw_only=True)
class FleetMismatch:
    """Another pod on this channel routes differently: the two don't hear all of each other's events.

    Args:
        origin: The other pod.
        pod: Its name (`pod_name`); None if it says none.
        reason: Its settings and ours.
    """

    origin: str
    reason: str
    pod: str | None = None


@frozen(kw_only=True)
class OriginCollision:
    """A beat came back under this pod's origin that it did not send: two pods skip each other's events as echoes.

    It happens when a running process is cloned with its memory (a snapshot of a virtual machine), or beats are forged.

    Args:
        origin: The origin of this pod.
        reason: What that means.
    """

    origin: str
    reason: str


@frozen(kw_only=True)
class JobDead:
    """A job failed at its last attempt. Nobody gets it again but who takes from the queue `name:dead`, where it is now.

    Args:
        queue: The queue that gave it up.
        job_id: The job's.
        attempts: How often it was handed out.
        reason: Why the last attempt failed: the type of the error; its text could contain the payload.
    """

    queue: str
    job_id: str
    attempts: int
    reason: str


@frozen(kw_only=True)
class JobsLost:
    """Jobs of a queue are gone that nobody had finished: the broker forgot them, or somebody deleted them.

    Args:
        queue: The queue.
        missed: How many; None where nobody knows.
        reason: What happened, for the people who run the service.
    """

    queue: str
    missed: int | None
    reason: str


Record: TypeAlias = (
    StateChanged
    | LinkChanged
    | EventDropped
    | EventTraced
    | SubscriptionRefused
    | SinkFailed
    | EnvelopeRejected
    | FleetMismatch
    | OriginCollision
    | JobDead
    | JobsLost
    | Gap
)
Observer: TypeAlias = Callable[[Record], None]


@frozen(kw_only=True)
class Readiness:
    """Whether this pod hears the bus; true in a boolean context if it does.

    Args:
        live: Whether it hears the bus.
        deaf_since: Since when it does not, Unix time in seconds; None while live.
        reason: Why it does not; None while live.
        last_beat: When this pod last heard itself through the bus, Unix time in seconds; None if never.
    """

    live: bool
    deaf_since: float | None = None
    reason: str | None = None
    last_beat: float | None = None

    def __bool__(self) -> bool:
        return self.live


@frozen(kw_only=True)
class Stats:
    """A snapshot of the counters since the start.

    Args:
        state: The backplane's state.
        pod_name: What this pod is called.
        connections: Attached now.
        targets: Distinct targets associated now, without the one that each connection always has.
        published: Events accepted by `publish` on this pod.
        delivered: Deliveries that sinks of this pod accepted, from any pod.
        received: Frames from other pods.
        echoed: Own frames that came back and were skipped.
        beats: Own beats heard.
        duplicates: Copies of other pods' frames that were dropped.
        repeats: Events that were published again under an `event_id` that this pod knew, and that no connection of it
            was handed a second time; from any pod.
        foreign: Frames from unnumbered pods (`seq` absent).
        sent: Frames that the broker confirmed.
        dropped: Frames not sent, or sent without effect, by cause; see `EventDropped`.
        overflowed: Events that full connection queues dropped.
        conflated: Events that connections skipped, as a newer one of the same target and key waited behind them.
        gaps: Gaps reported to this pod, by cause.
        sink_errors: Sinks that raised.
        sink_refusals: Sinks that returned False.
        decode_errors: Frames or events that were not what they should be.
        signature_errors: Frames that were dropped as not signed, wrongly signed, or signed too long ago; always 0
            without `signing_keys`.
        observer_errors: Callbacks of the host (`on_gap`, `on_state`, `observer`) that raised.
        unknown_connections: `associate` of a connection that is not attached.
        links: Links that went live.
        denied: Channels that this pod needs and may not hear, now; see `SubscriptionRefused`.
        mismatch: Beats heard from pods with other routing or lanes.
        collisions: Beats heard under this pod's origin that it did not send.
        numbers_evicted: Sequence numbers of other pods that were forgotten before their time, as the table of 1,048,576
            was full: a hole, or a copy, that follows one of them is not recognized.
        event_ids_evicted: Ids of events that were forgotten before their time, as `event_ids_max` were known: one that
            is published again under one of them is handed out again.
        outbox_messages: Frames accepted and not yet confirmed.
        outbox_bytes: Size of these frames, in bytes.
        replayable_events: Events of a log that are kept in memory, for clients that come back.
        replayable_bytes: What they take there, in bytes, about.
        replayed: Events that were handed to clients that came back.
        enqueued: Jobs accepted by `enqueue` on this pod.
        jobs_done: Jobs that workers of this pod have done.
        jobs_failed: Attempts at jobs that raised here.
        jobs_dead: Jobs that were given up here after their last attempt; see `JobDead`.
        jobs_lost: Jobs that are gone unfinished, at least; see `JobsLost`.
        round_trips: Beats of this pod that came back over the bus and were measured: one per `probe_interval_s`, and
            one behind the last of several events to everyone, or to anyone with `routing="broadcast"`.
        round_trip_s: How long the last of them took, in seconds, from the outbox to the broker and back through the
            reader: about what an event takes to another pod. None: none came back yet, or there is no bus.
        round_trip_total_s: How long all of them took together, in seconds.
    """

    state: State
    connections: int
    targets: int
    published: int = 0
    delivered: int = 0
    received: int = 0
    echoed: int = 0
    beats: int = 0
    duplicates: int = 0
    repeats: int = 0
    foreign: int = 0
    sent: int = 0
    dropped: Mapping[str, int]
    overflowed: int = 0
    conflated: int = 0
    gaps: Mapping[str, int]
    sink_errors: int = 0
    sink_refusals: int = 0
    decode_errors: int = 0
    signature_errors: int = 0
    observer_errors: int = 0
    unknown_connections: int = 0
    links: int = 0
    denied: int = 0
    mismatch: int = 0
    collisions: int = 0
    numbers_evicted: int = 0
    event_ids_evicted: int = 0
    outbox_messages: int = 0
    outbox_bytes: int = 0
    replayable_events: int = 0
    replayable_bytes: int = 0
    replayed: int = 0
    enqueued: int = 0
    jobs_done: int = 0
    jobs_failed: int = 0
    jobs_dead: int = 0
    jobs_lost: int = 0
    round_trips: int = 0
    round_trip_s: float | None = None
    round_trip_total_s: float = 0.0
    pod_name: str = ""
