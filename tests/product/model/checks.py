"""What must hold after every run: the promises of the README, exactly, against the ledger.

Covered. An event that a connection should have got and did not get was lost on a journey: each copy of its frame that
reached the broker travels from that moment until its receiver's link yielded it, or died with it, or fell deaf; a copy
that met no link of the pod's that heard the channel, until it would have been there: the line's delay later. The loss
is covered by a gap if some copy's journey and the gap's span have a moment in common, both ends included and without
any margin, and the gap was told after the event was published: so whoever reloads on a gap sees what the event was
about. A loss that is no loss on the way is covered by its sender's `dropped`; and where the receiver's link heard
frames before it and after it, by a `sequence` gap as well, whose `missed` has a place left for it, told where the later
frame was heard.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

from attrs import define, field, frozen
from backplane_core import LinkChanged, StateChanged
from backplane_core.observe import EventDropped

from tests.product.model.ledger import NEVER, Arrival, Ledger, Life, PodLog, Published, Told
from tests.product.model.plan import CONNECT_TIMEOUT_S, Plan

__all__ = ["check"]

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


def check(ledger: Ledger, plan: Plan) -> list[str]:
    """Return what was promised and does not hold, for people; empty if all does."""
    found = list(ledger.violations)
    for life in ledger.lives:
        found += _copies(life, ledger, plan)
        found += _order(life, ledger)
        found += _aliens(life, ledger)
        found += _pace(life)
        found += _losses(life, ledger)
    for pod in ledger.pods:
        found += _states(pod)
        found += _sequence_gaps(pod)
        found += _deafness(pod, plan)
        found += _marks(pod, ledger)
        found += _books(pod, ledger, plan)
    return found


# Connections


def _copies(life: Life, ledger: Ledger, plan: Plan) -> Iterator[str]:
    for number, times in Counter([heard.number for heard in life.heard]).items():
        # A pod that does not count can't be told from its copy.
        if times > 1 and not (plan.copies and ledger.events[number].seq is None):
            yield f"event {number} came {times} times to {_name(life)}"


def _order(life: Life, ledger: Ledger) -> Iterator[str]:
    """FIFO per publisher and target; here even per publisher and channel."""
    newest: dict[tuple[PodLog | None, str], int] = {}
    for heard in life.heard:
        event = ledger.events[heard.number]
        key = (event.pod, event.channel)
        if newest.get(key, -1) > heard.number:
            yield f"event {heard.number} came to {_name(life)} behind event {newest[key]} of the same pod and channel"
        newest[key] = max(newest.get(key, -1), heard.number)


def _aliens(life: Life, ledger: Ledger) -> Iterator[str]:
    for heard in life.heard:
        event = ledger.events[heard.number]
        held = [hold for hold in life.holds if hold.target in event.targets]
        # A queue hands out later what it took in time.
        if life.conn_id in event.excluded or not any(
            hold.since <= heard.order
            and (
                (life.closed and hold.ended == life.ended)
                or ((life.queue or heard.order <= hold.ended) and hold.ended >= event.order)
            )
            for hold in held
        ):
            yield f"event {heard.number} is none of {_name(life)}'s"


def _pace(life: Life) -> Iterator[str]:
    """A bare sink hears of at most one gap a second; the last one may come early, with the end."""
    if life.queue:
        return
    told = [gap.at for gap in life.gaps if gap.order < life.ended]
    for one, other in itertools.pairwise(told):
        if other - one < 1:
            yield f"{_name(life)} was told of gaps at {one} and at {other}"


def _losses(life: Life, ledger: Ledger) -> Iterator[str]:
    """Each loss is covered; what a full queue dropped, by that queue's own count."""
    if life.ended < ledger.closing or life.too_slow:
        return  # gone before it could be told, or told by an error
    got = {heard.number for heard in life.heard}
    gaps = [told for told in life.gaps if told.gap.cause != "overflow"]
    overflowed = sum([told.gap.missed or 0 for told in life.gaps if told.gap.cause == "overflow"])
    torn: list[tuple[Hole, Published]] = []
    for event in ledger.events:
        if event.number in got or event.refused or not _owed(life, event):
            continue
        local = event.pod is life.pod
        if local and not life.queue:
            continue  # looked at when it was published
        journeys = [] if local else [_journey(arrival, life.pod) for arrival in event.arrivals]
        covering = [
            told
            for told in gaps
            if told.order > event.order and any(_meet(journey, told, life.pod) for journey in journeys)
        ]
        misplaced = list(_in_place(life, event, covering, ledger)) if covering else []
        if covering and not misplaced:
            continue
        if not local and not event.confirmed:
            torn += [(hole, event) for hole in replay(life.pod).holes if hole.has(event)]
        elif overflowed:
            overflowed -= 1
        elif covering:
            yield from misplaced
        else:
            yield (
                f"event {event.number} of {event.pod.origin if event.pod else 'a pod that does not count'} is "
                f"missing at {_name(life)}: published at {event.at}, on its way {journeys}, gaps {_spans(life)}"
            )
    yield from _untold(life, gaps, torn, ledger)


def _owed(life: Life, event: Published) -> bool:
    """Whether the connection held a target of the event from before its publishing to the end of the run."""
    return life.conn_id not in event.excluded and any(
        hold.promised <= event.order and hold.ended >= life.ended for hold in life.holds if hold.target in event.targets
    )


def _journey(arrival: Arrival, pod: PodLog) -> tuple[float, float]:
    """From when to when a copy was on its way from the broker to the pod."""
    for link in arrival.links:
        if link.pod is pod:
            batch = link.read.get(arrival)
            if batch is not None:
                return arrival.at, batch.done if batch.done < NEVER else link.ended
            return arrival.at, link.ended if link.deaf_at == NEVER else max(arrival.at, link.deaf_at)
    return arrival.at, arrival.at + _delay(pod, arrival.at)


def _delay(pod: PodLog, at: float) -> float:
    """The longest delay of the pod's line around that moment: until then a frame could be on its way to it."""
    longest = 0.0
    for number, (since, delay) in enumerate(pod.delays):
        until = pod.delays[number + 1][0] if number + 1 < len(pod.delays) else NEVER
        if since <= at <= until + delay:
            longest = max(longest, delay)
    return longest


def _meet(journey: tuple[float, float], told: Told, pod: PodLog) -> bool:
    """Whether the two have a moment in common. Spans are wall clock; where that was set, as it went at any time."""
    return any(
        told.gap.since - offset <= journey[1] and told.gap.until - offset >= journey[0] for offset in pod.wall_offsets
    )


def _end(told: Told, pod: PodLog) -> float:
    """Return when its span ended, by the virtual clock: the wall clock may have been set since."""
    return max([told.gap.until - offset for offset in pod.wall_offsets if told.gap.until - offset <= told.at])


def _in_place(life: Life, event: Published, covering: list[Told], ledger: Ledger) -> Iterator[str]:
    """A queue hears of a hole before the first event behind it."""
    if not life.queue or event.seq is None:
        return
    if not any(hold.confirmed and hold.promised <= event.order for hold in life.holds if hold.target in event.targets):
        return
    first = min([told.order for told in covering])
    for heard in life.heard:
        later = ledger.events[heard.number]
        if later.pod is event.pod and later.channel == event.channel and later.number > event.number:
            if heard.order < first:
                yield f"{_name(life)} got event {heard.number} before it was told of the gap that {event.number} is in"
            return


def _untold(life: Life, gaps: list[Told], torn: list[tuple[Hole, Published]], ledger: Ledger) -> Iterator[str]:
    """Each hole that a pod could see has a place in a gap that its connection was told, in its place."""
    left = {told: NEVER if told.gap.missed is None else told.gap.missed for told in gaps}
    for hole, event in sorted(torn, key=lambda pair: pair[0].order):
        fitting = [
            told
            for told in gaps
            if left[told] > 0 and told.order > hole.order and _meet((hole.at, hole.until), told, life.pod)
        ]
        placed = [told for told in fitting if not any(_in_place(life, event, [told], ledger))]
        if placed:
            # The one that ends first and was told last: the others may serve a hole that this one can't.
            left[min(placed, key=lambda told: (_end(told, life.pod), -told.order))] -= 1
        elif fitting:
            yield from _in_place(life, event, fitting, ledger)
        else:
            yield (
                f"event {event.number} was dropped by {event.pod.origin if event.pod else '?'}, {life.pod.origin} "
                f"could see the hole at {hole.at}, and {_name(life)} was not told: {_spans(life)}"
            )


# Pods


@frozen
class Hole:
    """Numbers that one link skipped on a channel, from one to another, and the batch that showed it."""

    channel: str
    origin: str
    first: int
    last: int
    at: float
    until: float
    order: int

    def has(self, event: Published) -> bool:
        return (
            event.pod is not None
            and (event.channel, event.pod.origin) == (self.channel, self.origin)
            and self.first <= (event.seq or 0) <= self.last
        )


@define
class Replay:
    """What a pod could tell from the frames that its links yielded.

    Args:
        holes: Between two frames on one link.
        gaps: What that makes in gaps of the cause `sequence`: channel and count, words of losses included.
        received: Frames of other pods.
        whole: Whether each batch was processed to its end.
    """

    holes: list[Hole] = field(factory=list[Hole])
    gaps: list[tuple[str, int]] = field(factory=list[tuple[str, int]])
    received: int = 0
    whole: bool = True


def replay(pod: PodLog) -> Replay:  # noqa: C901 -- one loop in the other, as the frames came
    """Go through all that a pod's links yielded; done once, when the run is over."""
    if isinstance(pod.replay, Replay):
        return pod.replay
    result = pod.replay = Replay()
    newest: dict[tuple[str, str], int] = {}
    for link in pod.links:
        on_link: dict[tuple[str, str], int] = {}
        for batch in link.batches:
            if isinstance(batch, str):  # the channel was left: its numbers start afresh
                for known in (newest, on_link):
                    for key in [key for key in known if key[0] == batch]:
                        del known[key]
                continue
            result.whole &= batch.done < NEVER
            for item in batch.items:
                if isinstance(item, str):
                    result.gaps.append((item, 1))
                    continue
                parsed, key = item.parsed, (item.channel, item.parsed.origin)
                if parsed.origin == pod.origin:
                    continue
                result.received += 1
                if parsed.seq is None or newest.get(key, 0) >= parsed.seq:
                    continue
                last = on_link.get(key)
                if last is not None and parsed.prev is not None and parsed.prev > last:
                    result.holes.append(Hole(*key, last + 1, parsed.prev, batch.at, batch.done, batch.order))
                    result.gaps.append((item.channel, parsed.prev - last))
                newest[key] = on_link[key] = parsed.seq
    return result


def _states(pod: PodLog) -> Iterator[str]:
    changes = [record for record in pod.records if isinstance(record, StateChanged)]
    for change in changes:
        if (change.previous, change.state) not in LEGAL:
            yield f"{pod.origin} went from {change.previous} to {change.state}"
    if [change.state for change in changes] != pod.states:
        yield f"{pod.origin} told on_state {pod.states}"
    if any(one.state != other.previous for one, other in itertools.pairwise(changes)):
        yield f"{pod.origin} skipped a state"
    if not changes or changes[-1].state != "closed":
        yield f"{pod.origin} did not end closed"


def _sequence_gaps(pod: PodLog) -> Iterator[str]:
    """Holes are told exactly once, in order, with their exact count."""
    expected = replay(pod)
    told = [(told.gap.channel, told.gap.missed) for told in pod.gaps if told.gap.cause == "sequence"]
    if expected.whole and told != expected.gaps:
        yield f"{pod.origin} should have told of the holes {expected.gaps}, and told of {told}"


def _deafness(pod: PodLog, plan: Plan) -> Iterator[str]:
    """A link that gets nothing is given up within two probe intervals and the ticks that see it."""
    tick_s = min(plan.beat_s, plan.probe_s / 4)
    blocked_s = sum([step.args[0] for step in plan.steps if step.do == "block"])
    for link in pod.links:
        # It may have been on its way to live, with `connect_timeout_s` for the answer; a slow line delays a beat.
        limit_s = CONNECT_TIMEOUT_S + 2 * (plan.probe_s + tick_s) + blocked_s + 1
        if link.deaf_at < NEVER and link.ended - link.deaf_at > limit_s:
            yield f"{pod.origin} kept a link that was deaf from {link.deaf_at} to {link.ended}"


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
    stats, seen = pod.stats, replay(pod)
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
        "errors": ((stats.sink_errors, stats.decode_errors, stats.observer_errors, stats.mismatch), (0, 0, 0, 0)),
        "connections and targets left": ((stats.connections, stats.targets), (0, 0)),
    }
    if seen.whole:
        pairs["received"] = (stats.received, seen.received)
    if not any(life.queue for life in lives):
        pairs["delivered"] = (stats.delivered, sum([len(life.heard) for life in lives]))
    if not plan.copies:
        pairs["collisions"] = (stats.collisions, 0)
    if not stats.foreign:
        pairs["dropped{unconfirmed}"] = (stats.dropped.get("unconfirmed", 0), 0)
    for what, (says, is_) in pairs.items():
        if says != is_:
            yield f"{pod.origin}'s {what}: {says}, should be {is_}"


# For people


def _name(life: Life) -> str:
    return f"{life.conn_id} ({life.kind}, at {life.pod.origin})"


def _spans(life: Life) -> list[tuple[str, float, float, int | None]]:
    offset = life.pod.wall_offsets[-1]
    return [(told.gap.cause, told.gap.since - offset, told.gap.until - offset, told.gap.missed) for told in life.gaps]
