"""What a pod says of itself: its states, its gaps, its marks, its statistics; and how long it keeps a deaf link."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from backplane_core import LinkChanged, StateChanged
from backplane_core.observe import EventDropped

from tests.product.model.ledger import NEVER, Ledger, PodLog
from tests.product.model.plan import Plan
from tests.product.model.promises.replay import Expected, replay

__all__ = ["check_pod"]

LASTING_S: Final = 60.0
"""A run is shorter: numbers that are kept for so long are kept throughout."""

LEGAL: frozenset[tuple[str, str]] = frozenset(
    [
        ("connecting", "live"),
        ("live", "degraded"),
        ("degraded", "live"),
        ("connecting", "draining"),
        ("live", "draining"),
        ("degraded", "draining"),
        ("draining", "closed"),
        ("connecting", "closed"),
    ]
)


def check_pod(pod: PodLog, ledger: Ledger, plan: Plan) -> Iterator[str]:
    """Yield what does not hold of a pod."""
    yield from _states(pod)
    yield from _sequence_gaps(pod, plan)
    yield from _deafness(pod, ledger, plan)
    yield from _marks(pod, ledger)
    yield from _books(pod, ledger, plan)


def _states(pod: PodLog) -> Iterator[str]:
    changes = [record for record in pod.records if isinstance(record, StateChanged)]
    for change in changes:
        # It may have gone live at the very moment at which its start was given up.
        gave_up = not pod.started and (change.previous, change.state) == ("degraded", "closed")
        if (change.previous, change.state) not in LEGAL and not gave_up:
            yield f"{pod.origin} went from {change.previous} to {change.state}"
    if [change.state for change in changes] != pod.states:
        yield f"{pod.origin} told on_state {pod.states}"
    if any(one.state != other.previous for one, other in itertools.pairwise(changes)):
        yield f"{pod.origin} skipped a state"
    if not changes or changes[-1].state != "closed":
        yield f"{pod.origin} did not end closed"


def _sequence_gaps(pod: PodLog, plan: Plan) -> Iterator[str]:
    """Holes are told exactly once, in order, with their exact count."""
    expected = replay(pod, plan)
    told = [(told.gap.channel, told.gap.missed) for told in pod.gaps if told.gap.cause == "sequence"]
    if not expected.whole or plan.refuses_all:
        return
    if not _match(expected.gaps, told):
        yield f"{pod.origin} should have told of the holes {expected.gaps}, and told of {told}"


def _match(expected: Sequence[Expected], told: Sequence[tuple[str, int | None]]) -> bool:
    """Whether these were told in order, but for some of those that are not certain."""
    # How many of those that were told may be explained by the expected ones so far.
    explained = {0}
    for gap in expected:
        fits = {
            count + 1
            for count in explained
            if count < len(told) and told[count][0] == gap.channel and told[count][1] in gap.counts
        }
        explained = fits if gap.certain else explained | fits
    return len(told) in explained


def _deafness(pod: PodLog, ledger: Ledger, plan: Plan) -> Iterator[str]:
    """No pod is ready with a link that gets nothing, but for two probe intervals and the ticks that see it."""
    tick_s = min(plan.beat_s, plan.probe_s / 4)
    for link in pod.links:
        ready_at = max(link.deaf_at, link.live_at)
        # A slow line delays a beat, and only time in which the loop turns counts.
        held_s = sum([until - since for since, until in ledger.holds if ready_at <= until and since <= link.ended])
        if ready_at < NEVER and link.ended - ready_at > 2 * (plan.probe_s + tick_s) + held_s + 1:
            yield f"{pod.origin} was ready with a link that was deaf, from {ready_at} to {link.ended}"


def _marks(pod: PodLog, ledger: Ledger) -> Iterator[str]:
    """Behind whatever was dropped something reaches the broker that shows the hole: an event, or a beat."""
    if pod.restarted:
        return
    newest: dict[str, int] = {}
    for arrival in ledger.arrivals:
        if arrival.parsed.origin == pod.origin:
            newest[arrival.channel] = max(newest.get(arrival.channel, 0), arrival.parsed.seq or 0)
    for event in ledger.events:
        unsent = event.pod is pod and not event.confirmed and not event.refused
        if unsent and newest.get(event.channel, 0) <= (event.seq or 0):
            yield f"event {event.number} of {pod.origin} was dropped, and no mark followed"


def _books(pod: PodLog, ledger: Ledger, plan: Plan) -> Iterator[str]:  # noqa: C901 -- one `if` per book
    """The statistics add up, and agree with what was seen."""
    stats, seen = pod.stats, replay(pod, plan)
    published = [event for event in ledger.events if event.pod is pod and not event.refused]
    unsent = Counter([event.channel for event in published if not event.confirmed])
    dropped: Counter[str] = Counter()
    for record in pod.records:
        if isinstance(record, EventDropped):
            dropped[record.channel] += record.count
    if unsent != dropped:
        yield f"{pod.origin} did not send {dict(unsent)}, and counted {dict(dropped)} as dropped"
    numbers = Counter([(event.channel, event.seq) for event in published])
    for (channel, seq), times in numbers.items():
        if times > 1:
            yield f"{pod.origin} gave the number {seq} on {channel} to {times} events: no hole shows what was dropped"
    lives = [life for life in ledger.lives if life.pod is pod]
    gaps = Counter([told.gap.cause for told in pod.gaps])
    overflowed = sum([told.gap.missed or 0 for told in pod.gaps if told.gap.cause == "overflow"])
    pairs: dict[str, tuple[object, object]] = {
        "published": (stats.published, len(published)),
        "sent": (stats.sent, pod.confirmed_frames),
        "dropped": (sum(stats.dropped.values()), sum(dropped.values())),
        "gaps": (stats.gaps, dict(gaps)),
        "overflowed": (stats.overflowed, overflowed),
        "links": (stats.links, len([r for r in pod.records if isinstance(r, LinkChanged) and r.live])),
        "left in the outbox": ((stats.outbox_messages, stats.outbox_bytes), (0, 0)),
        "errors": ((stats.sink_errors, stats.observer_errors, stats.mismatch), (0, 0, 0)),
        "connections and targets left": ((stats.connections, stats.targets), (0, 0)),
    }
    if not plan.refuses_all:
        pairs["signature errors"] = (stats.signature_errors, 0)
    if seen.whole and not plan.refuses_all:
        pairs["received"] = (stats.received, seen.received)
        pairs["refused"] = (stats.decode_errors, seen.refused)
    if not any(life.queue for life in lives):
        pairs["delivered"] = (stats.delivered, sum([len(life.heard) for life in lives]))
    if not plan.copies:
        pairs["collisions"] = (stats.collisions, 0)
    # What is older than half of that is not sent again.
    if not stats.foreign and plan.ttl_s > LASTING_S:
        pairs["dropped{unconfirmed}"] = (stats.dropped.get("unconfirmed", 0), 0)
    for what, (says, is_) in pairs.items():
        if says != is_:
            yield f"{pod.origin}'s {what}: {says}, should be {is_}"
