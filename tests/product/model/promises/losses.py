"""Each loss is covered: inside a gap of that very connection, or counted at its sender.

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

from collections.abc import Iterator

from tests.product.model.ledger import NEVER, Arrival, Ledger, Life, PodLog, Published, Told
from tests.product.model.plan import Plan
from tests.product.model.promises.connections import name_of
from tests.product.model.promises.replay import Hole, replay

__all__ = ["check_losses"]


def check_losses(life: Life, ledger: Ledger, plan: Plan) -> Iterator[str]:
    """Each loss is covered; what a full queue dropped, by that queue's own count."""
    if life.ended < ledger.closing or life.too_slow:
        return  # gone before it could be told, or told by an error
    got = {heard.number for heard in life.heard}
    gaps = [told for told in life.gaps if told.gap.cause != "overflow"]
    full = [told for told in life.gaps if told.gap.cause == "overflow"]
    overflowed = sum([told.gap.missed or 0 for told in full])
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
            torn += [(hole, event) for hole in replay(life.pod, plan).holes if hole.certain and hole.has(event)]
        elif overflowed:
            overflowed -= 1
            yield from _outside(event, journeys, full, life)
        elif covering:
            yield from misplaced
        else:
            yield (
                f"event {event.number} of {event.pod.origin if event.pod else 'a pod that does not count'} is "
                f"missing at {name_of(life)}: published at {event.at}, on its way {journeys}, gaps {_spans(life)}"
            )
    if not plan.refuses_all:  # else no number was read
        yield from _untold(life, gaps, torn, ledger)


def _outside(event: Published, journeys: list[tuple[float, float]], full: list[Told], life: Life) -> Iterator[str]:
    """What a full queue dropped passed the bus within one of that queue's gaps."""
    if not any(_meet(journey, told, life.pod) for journey in journeys or [(event.at, event.at)] for told in full):
        yield f"event {event.number} was dropped by the queue of {name_of(life)} outside its gaps: {event.at}"


def _owed(life: Life, event: Published) -> bool:
    """Whether the connection held a target of the event from before its publishing to the end of the run."""
    if life.conn_id in event.excluded or any(hold.ended >= event.order for hold in life.holds_of(event.barred)):
        return False
    return any(hold.promised <= event.order and hold.ended >= life.ended for hold in life.holds_of(event.targets))


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


def _in_place(life: Life, event: Published, covering: list[Told], ledger: Ledger) -> Iterator[str]:
    """A queue hears of a hole before the first event behind it."""
    if not life.queue or event.seq is None:
        return
    if not any(hold.confirmed and hold.promised <= event.order for hold in life.holds_of(event.targets)):
        return
    first = min([told.order for told in covering])
    for heard in life.heard:
        later = ledger.events[heard.number]
        if later.pod is event.pod and later.channel == event.channel and later.number > event.number:
            if heard.order < first:
                yield f"{name_of(life)} got event {heard.number} before it was told of the gap of {event.number}"
            return


def _untold(life: Life, gaps: list[Told], torn: list[tuple[Hole, Published]], ledger: Ledger) -> Iterator[str]:
    """Each hole that a pod could see has a place in a gap that its connection was told, in its place."""
    places = Places()
    for hole, event in torn:
        seen = (hole.at, hole.until)
        fitting = [told for told in gaps if told.order > hole.order and _meet(seen, told, life.pod)]
        placed = [told for told in fitting if not any(_in_place(life, event, [told], ledger))]
        if places.take(event, placed):
            continue
        if fitting and not placed:
            yield from _in_place(life, event, fitting, ledger)
        else:
            yield (
                f"event {event.number} was dropped by {event.pod.origin if event.pod else '?'}, {life.pod.origin} "
                f"could see the hole at {hole.at}, and {name_of(life)} was not told: {_spans(life)}"
            )


class Places:
    """Which missing events stand in which gap; each gap has as many places as it says are missing."""

    def __init__(self) -> None:
        self._fitting: dict[Published, list[Told]] = {}
        self._taken: dict[Told, list[Published]] = {}

    def take(self, event: Published, fitting: list[Told]) -> bool:
        """Give an event a place in one of these gaps, and others another one where need be; False if there is none."""
        self._fitting[event] = fitting
        return self._find(event, set())

    def _find(self, event: Published, tried: set[Told]) -> bool:
        for told in self._fitting[event]:
            if told in tried:
                continue
            tried.add(told)
            taken = self._taken.setdefault(told, [])
            if told.gap.missed is None or len(taken) < told.gap.missed:
                taken.append(event)
                return True
            for number, other in enumerate(taken):
                if self._find(other, tried):
                    taken[number] = event
                    return True
        return False


def _spans(life: Life) -> list[tuple[str, float, float, int | None]]:
    offset = life.pod.wall_offsets[-1]
    return [(told.gap.cause, told.gap.since - offset, told.gap.until - offset, told.gap.missed) for told in life.gaps]
