"""`metrics_endpoint`: what a pod counts, as Prometheus reads it."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Final, get_args

from attrs import frozen
from backplane_core import BaseBackplane, GapCause, State, Stats

from backplane_asgi._finding import find_backplane
from backplane_asgi._http.answers import answer, refuses_method
from backplane_asgi._sockets.histogram import Histogram
from backplane_asgi._sockets.hub import KINDS, Hub, hub_of
from backplane_asgi._types import ASGIApp, Receive, Scope, Send

__all__ = ["metrics_endpoint"]

CODES: Final = (0, 1001, 1007, 1008, 1009, 1011, 1012, 4401, 4403, 4409)
"""Close codes that exist from the start, so that a rate over their first minute is right. 0: the client went."""
REASONS: Final = ("origin", "4401", "4403", "4429", "1013")
DROPPED: Final = ("outbox", "unconfirmed", "too_large", "refused", "closed", "in_doubt")

Labels = Mapping[str, str]
Sample = tuple[Labels, int]

PLAIN: Final[tuple[tuple[str, str, str, str], ...]] = (
    ("connections", "connections", "gauge", "Connections attached to this pod."),
    ("targets", "targets", "gauge", "Distinct targets of this pod's connections."),
    ("published_events_total", "published", "counter", "Events accepted by publish on this pod."),
    ("delivered_events_total", "delivered", "counter", "Deliveries to this pod's connections, from any pod."),
    ("received_frames_total", "received", "counter", "Frames from other pods."),
    ("duplicate_frames_total", "duplicates", "counter", "Copies of other pods' frames that were dropped."),
    ("repeated_events_total", "repeats", "counter", "Events published again under an id that was known here."),
    ("confirmed_frames_total", "sent", "counter", "Frames that the broker confirmed."),
    ("overflowed_events_total", "overflowed", "counter", "Events that connections which were too far behind lost."),
    ("conflated_events_total", "conflated", "counter", "Events skipped as a newer one of their target and key waited."),
    ("outbox_messages", "outbox_messages", "gauge", "Frames accepted and not confirmed yet."),
    ("outbox_bytes", "outbox_bytes", "gauge", "Bytes of the frames accepted and not confirmed yet."),
    ("denied_channels", "denied", "gauge", "Channels that this pod needs and may not hear."),
    ("links_total", "links", "counter", "Links to the broker that went live."),
    ("sink_errors_total", "sink_errors", "counter", "Deliveries at which a connection's sink raised."),
    ("fleet_mismatch_total", "mismatch", "counter", "Beats of pods with other routing or lanes."),
    ("evicted_numbers_total", "numbers_evicted", "counter", "Other pods' numbers that were forgotten too early."),
    ("evicted_event_ids_total", "event_ids_evicted", "counter", "Ids of events that were forgotten too early."),
    ("replayed_total", "replayed", "counter", "Events handed to clients that came back."),
    ("replayable_events", "replayable_events", "gauge", "Events kept in memory for clients that come back."),
    ("replayable_bytes", "replayable_bytes", "gauge", "Bytes that these take."),
    ("enqueued_jobs_total", "enqueued", "counter", "Jobs accepted by enqueue on this pod."),
    ("done_jobs_total", "jobs_done", "counter", "Jobs that workers of this pod have done."),
    ("failed_attempts_total", "jobs_failed", "counter", "Attempts at jobs that raised on this pod."),
    ("dead_jobs_total", "jobs_dead", "counter", "Jobs given up after their last attempt on this pod."),
    ("lost_jobs_total", "jobs_lost", "counter", "Jobs that were found to be gone unfinished."),
    ("origin_collisions_total", "collisions", "counter", "Beats under this pod's origin that it did not send."),
)
"""Name, field of `Stats`, type, help."""


def metrics_endpoint(backplane: BaseBackplane | str = "backplane") -> ASGIApp:
    """Return an ASGI app that answers with this pod's counters, in the text format of Prometheus.

    All series are there from the start, at 0. No label holds a user, a target or a connection's id. Scrape it on a port
    or path that the internet does not reach. The event loop's lag is measured from the first scrape on, four times a
    second, and no longer once nobody has scraped for five minutes.

    Args:
        backplane: The backplane, or its name in the state that the app's lifespan yields.

    Returns:
        The app: route or mount it where you like.
    """
    return MetricsEndpoint(backplane=backplane)


@frozen(kw_only=True)
class MetricsEndpoint:
    """See `metrics_endpoint`."""

    backplane: BaseBackplane | str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if await refuses_method(scope, receive, send, "GET", "HEAD"):
            return
        backplane = find_backplane(self.backplane, scope)
        text = "".join([*_pod_families(backplane), *_gateway_families(hub_of(backplane))])
        await answer(send, 200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")


def _pod_families(backplane: BaseBackplane) -> Iterator[str]:
    stats = backplane.stats()
    info = {"version": version("backplane-core"), "python": platform.python_version()}
    yield from _family("backplane_build_info", "gauge", "The versions of this pod.", [(info, 1)])
    ready: list[Sample] = [({}, int(bool(backplane.ready())))]
    yield from _family("backplane_ready", "gauge", "Whether this pod hears its broker.", ready)
    states = [({"state": state}, int(state == stats.state)) for state in get_args(State)]
    yield from _family("backplane_state", "gauge", "The state of this pod.", states)
    for name, source, kind, text in PLAIN:
        yield from _family(f"backplane_{name}", kind, text, [({}, getattr(stats, source))])
    name, text = "backplane_round_trip_seconds", "How long this pod's beats took over the bus and back, as events do."
    yield f"# HELP {name} {text}\n# TYPE {name} summary\n"
    yield f"{name}_sum {stats.round_trip_total_s:.6f}\n{name}_count {stats.round_trips}\n"
    yield from _causes(stats)


def _causes(stats: Stats) -> Iterator[str]:
    dropped, gaps = (
        dict.fromkeys(DROPPED, 0) | dict(stats.dropped),
        dict.fromkeys(get_args(GapCause), 0) | dict(stats.gaps),
    )
    rejected = {"decode": stats.decode_errors, "signature": stats.signature_errors}
    for name, label, text, counts in (
        ("dropped_events_total", "cause", "Events that did not go to other pods.", dropped),
        ("gaps_total", "cause", "Gaps reported to this pod.", gaps),
        ("rejected_frames_total", "reason", "Frames that were not what they should be.", rejected),
    ):
        samples = [({label: key}, count) for key, count in sorted(counts.items())]
        yield from _family(f"backplane_{name}", "counter", text, samples)


def _gateway_families(hub: Hub) -> Iterator[str]:
    yield from _family(
        "backplane_gateway_connections",
        "gauge",
        "Sockets and streams of clients that are open.",
        [({"transport": kind}, len(hub.open[kind])) for kind in KINDS],
    )
    closed = {(kind, code): 0 for kind in KINDS for code in CODES} | hub.closed
    yield from _family(
        "backplane_gateway_closed_total",
        "counter",
        "Sockets and streams that ended, by close code; 0: the client went.",
        [({"transport": kind, "code": str(code)}, count) for (kind, code), count in sorted(closed.items())],
    )
    refused = {(kind, reason): 0 for kind in KINDS for reason in REASONS} | hub.refused
    yield from _family(
        "backplane_gateway_refused_total",
        "counter",
        "Clients that were refused.",
        [({"transport": kind, "reason": reason}, count) for (kind, reason), count in sorted(refused.items())],
    )
    sockets = [socket for kind in KINDS for socket in hub.open[kind]]
    sent = hub.sent_bytes + sum(socket.sent_bytes for socket in sockets)
    yield from _family("backplane_gateway_sent_bytes_total", "counter", "Bytes written to clients.", [({}, sent)])
    waiting = [len(socket.items) for socket in sockets]
    text = "Events that wait to be written to clients."
    yield from _family("backplane_gateway_send_queue_events", "gauge", text, [({}, sum(waiting))])
    text = "Events that wait for the client that is furthest behind."
    yield from _family("backplane_gateway_send_queue_events_max", "gauge", text, [({}, max(waiting, default=0))])
    yield from _histogram("backplane_gateway_publish_seconds", "How long publishes by HTTP took.", hub.published)
    text = "How late the event loop ran what was due, since the first scrape."
    yield from _histogram("backplane_gateway_loop_lag_seconds", text, hub.lag.ask())


def _histogram(name: str, text: str, histogram: Histogram) -> Iterator[str]:
    yield f"# HELP {name} {text}\n# TYPE {name} histogram\n"
    count = 0
    for bound, count in histogram.buckets():
        yield f'{name}_bucket{{le="{bound}"}} {count}\n'
    yield f"{name}_sum {histogram.total_s:.6f}\n{name}_count {count}\n"


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        inside = ",".join(f'{key}="{label}"' for key, label in labels.items())
        yield f"{name}{{{inside}}} {value}\n" if inside else f"{name} {value}\n"
