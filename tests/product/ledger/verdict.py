"""What no promise explains, from a `Book` alone: `find_violations`.

Covered. An event that a connection should have got and did not get passed over the bus at some moment between its
publish and its sender's confirmation. A gap covers it if the two spans meet and the gap was reported after the event
was published: a client that reloads on the gap sees what the event was about. In the stream of a queue the gap stands
before the first later event of the same sender and target.

Counted. What no gap covers may be among what its sender counted as dropped, on that very channel or on the fleet's: at
most so many different events; and none that reached another connection, unless the cause says that it may have.

Over a log less is excused: no gap, unless a sender counted something or the pod refused it, and nothing that its sender
merely doubts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, Literal, TypeAlias

from attrs import define, field, frozen

from tests.product.ledger.book import NEVER, Book, Heard, Hold, Life, Published, Told

__all__ = ["Violation", "What", "find_losses", "find_violations"]

MARGIN_S: Final = 0.02
"""Two readings of the wall clock, and one of the monotonic clock that is converted to it."""
GAP_LATE_S: Final = 2.0
"""A bare sink is notified of gaps at most once a second: one that ends sooner may not have been. Seconds in which the
loop stood still don't count."""
FORWARD_S: Final = 0.5
"""How long nodes take to learn of each other's subscriptions, after they have confirmed them."""
MAY_HAVE_ARRIVED: Final = ("unconfirmed", "closed", "in_doubt")
"""Causes of drops that some connections may have been spared."""
OF_NO_LOG: Final = ("unconfirmed", "in_doubt")
"""Causes of drops that a log leaves no room for: what it may lack is sent again."""

What: TypeAlias = Literal["loss", "local loss", "copy", "inversion", "alien", "late gap", "needless gap"]


@frozen
class Violation:
    """One broken promise at one connection."""

    what: What
    life: Life
    event: Published | None
    text: str

    def __str__(self) -> str:
        return f"{self.what}: {self.text}"


@define
class Received:
    """What a connection got, as the checks look at it."""

    times: Counter[Published] = field(factory=Counter[Published])
    streams: dict[tuple[str, str], list[Heard]] = field(factory=lambda: defaultdict[tuple[str, str], list[Heard]](list))

    @classmethod
    def of(cls, life: Life) -> Received:
        result = cls()
        for heard in life.heard:
            if heard.event is not None:
                result.times[heard.event] += 1
                result.streams[heard.event.sender, heard.event.stream].append(heard)
        return result

    def later(self, event: Published) -> Heard | None:
        """Return the first event behind this one of the same sender and target."""
        same = self.streams.get((event.sender, event.stream), ())
        return next((heard for heard in same if heard.event is not None and heard.event.number > event.number), None)


def find_violations(book: Book) -> list[Violation]:
    """Return what was promised and does not hold."""
    found: list[Violation] = []
    for life in book.lives:
        heard = Received.of(life)
        found += _copies(life, heard)
        found += _inversions(life, heard)
        found += _aliens(life)
        found += _needless_gaps(life, book)
    return [*found, *find_losses(book)]


def find_losses(book: Book) -> list[Violation]:
    """Return what is missing, and neither covered nor counted; while events are on their way, those too.

    A queue that overflowed says how many events it dropped, but not which: so it excuses what nothing else does.
    """
    dropped = {
        id(life): sum([told.gap.missed or 0 for told in life.told if told.gap.cause == "overflow"])
        for life in book.lives
    }
    found: list[Violation] = []
    uncovered: list[tuple[Life, Published, Violation | None]] = []
    for life in book.lives:
        heard = Received.of(life)
        for event, hold in _missing(life, heard, book):
            local = event.sender == life.pod
            covering = [] if local else [told for told in life.told if _covers(told, event, book)]
            late = _late_gap(life, event, hold, covering, heard)
            if covering and late is None:
                continue
            if local:
                found.append(Violation("local loss", life, event, f"{life} did not get {event} of its own pod"))
            else:
                uncovered.append((life, event, late))
    left: list[Violation] = []
    for violation in [*found, *_uncounted(uncovered, book)]:
        if dropped[id(violation.life)]:
            dropped[id(violation.life)] -= 1
        else:
            left.append(violation)
    return left


def _copies(life: Life, heard: Received) -> Iterator[Violation]:
    for event, times in heard.times.items():
        if times > 1:
            yield Violation("copy", life, event, f"{event} came {times} times to {life}")


def _inversions(life: Life, heard: Received) -> Iterator[Violation]:
    for stream in heard.streams.values():
        newest: Published | None = None
        for item in stream:
            event = item.event
            if event is not None and newest is not None and event.number < newest.number and heard.times[event] == 1:
                yield Violation("inversion", life, event, f"{event} came behind {newest} to {life}")
            if event is not None and (newest is None or event.number > newest.number):
                newest = event


def _aliens(life: Life) -> Iterator[Violation]:
    for heard in life.heard:
        event = heard.event
        if event is None:
            yield Violation("alien", life, None, f"{life} got what nobody published")
        elif event.refused:
            yield Violation("alien", life, event, f"{event} was refused, and came to {life}")
        elif life.conn_id in event.exclude or not any(_may_hear(hold, heard, event, life) for hold in life.holds):
            yield Violation("alien", life, event, f"{event} is none of {life}'s: it is for {_targets(event)}")


def _needless_gaps(life: Life, book: Book) -> Iterator[Violation]:
    """Over a log whatever happens to the broker or a line costs no gap: only what never reached it, or was refused."""
    if not book.keeps or life.pod in book.refusing or any(drops.total() for drops in book.drops.values()):
        return
    for told in life.told:
        if told.gap.cause != "overflow":
            text = f"{life} was notified of a gap over a log that lost nothing: {told.gap.cause}, {told.gap.reason}"
            yield Violation("needless gap", life, None, text)


def _may_hear(hold: Hold, heard: Heard, event: Published, life: Life) -> bool:
    if not hold.matches(event) or hold.began > heard.order:
        return False
    # A queue hands out later what it took in time.
    return hold.ended >= (event.order if life.kind == "queue" else heard.order)


def _missing(life: Life, heard: Received, book: Book) -> Iterator[tuple[Published, Hold]]:
    """Yield what should have come by now and did not."""
    for event in book.events:
        if event.refused or event in heard.times or life.conn_id in event.exclude:
            continue
        for hold in life.holds:
            if hold.owed <= event.order < min(hold.ended, life.ended) and hold.matches(event):
                if _is_due(life, event, hold, heard, book) and _is_known(life, event, hold, book):
                    yield event, hold
                break


def _is_due(life: Life, event: Published, hold: Hold, heard: Received, book: Book) -> bool:
    """Return whether the event should have come: the connection stays to the end, or got a later one of the stream."""
    ended = min(hold.ended, life.ended)
    if ended == NEVER:
        return True
    if event.sender == life.pod and life.kind == "sink":
        return ended >= event.returned
    later = heard.later(event)
    if later is None or later.order >= ended:
        return False
    return life.kind == "queue" or book.turned_s(later.at, life.ended_at) > GAP_LATE_S


def _is_known(life: Life, event: Published, hold: Hold, book: Book) -> bool:
    """Return whether the sender's node knew of the subscription: something had come that way before."""
    if not book.forwards or event.sender == life.pod:
        return True
    return any(
        heard.event is not None
        and (heard.event.sender, heard.event.channel) == (event.sender, event.channel)
        and hold.owed < heard.order < event.order
        for heard in life.heard
    )


def _covers(told: Told, event: Published, book: Book) -> bool:
    gap = told.gap
    until = gap.until + (FORWARD_S if book.forwards else 0)
    return (
        gap.cause != "overflow"
        and told.order > event.order
        and gap.since - MARGIN_S <= event.confirmed_at
        and until + MARGIN_S >= event.at
    )


def _late_gap(life: Life, event: Published, hold: Hold, covering: Iterable[Told], heard: Received) -> Violation | None:
    """A queue is notified of a hole before the first event behind it. What was counted may lie in a later gap too."""
    first = min([told.order for told in covering], default=NEVER)
    later = heard.later(event)
    if first == NEVER or life.kind != "queue" or not hold.confirmed or later is None or later.order > first:
        return None
    return Violation("late gap", life, event, f"{life} got {later.event} before the gap that covers {event}")


@define
class Budget:
    """How many events of a sender may be missing on a channel, since it counted so many as dropped there.

    Args:
        total: So many.
        partial: So many of these may have reached some connections.
    """

    total: int
    partial: int

    @classmethod
    def of(cls, drops: Counter[str], *, of_log: bool = False) -> Budget:
        without = OF_NO_LOG if of_log else ()
        counted = {cause: count for cause, count in drops.items() if cause not in without}
        return cls(sum(counted.values()), sum([counted.get(cause, 0) for cause in MAY_HAVE_ARRIVED]))

    def excuse(self, *, has_arrived: bool) -> bool:
        """Return whether one more is excused."""
        if not self.total or (has_arrived and not self.partial):
            return False
        self.total -= 1
        self.partial -= has_arrived
        return True


def _uncounted(uncovered: Iterable[tuple[Life, Published, Violation | None]], book: Book) -> Iterator[Violation]:
    arrived = {
        heard.event for life in book.lives for heard in life.heard if heard.event and heard.event.sender != life.pod
    }
    budgets = {place: Budget.of(drops, of_log=book.keeps) for place, drops in book.drops.items()}
    counted: set[Published] = set()
    for life, event, late in uncovered:
        if event in counted:
            continue
        # A publisher that drops what its loop never saw counts it on the fleet's channel, whatever it was for.
        places = (event.sender, event.channel), (event.sender, book.routing.shared)
        if any(place in budgets and budgets[place].excuse(has_arrived=event in arrived) for place in places):
            counted.add(event)
        else:
            yield late or Violation("loss", life, event, _loss(life, event, book.drops.get(places[0], Counter())))


def _loss(life: Life, event: Published, drops: Counter[str]) -> str:
    spans = [
        f"{told.gap.cause} {told.gap.since - event.at:+.3f}..{told.gap.until - event.at:+.3f} s"
        for told in life.told
        if abs(told.gap.until - event.at) < 10
    ]
    taken = event.confirmed_at - event.at
    return (
        f"{life} did not get {event} for {_targets(event)}, confirmed after {taken:.3f} s on {event.channel}; "
        f"its gaps around: {', '.join(spans) or 'none'}; counted there: {dict(drops) or 'nothing'}"
    )


def _targets(event: Published) -> str:
    return " | ".join([f"{target.kind}:{target.id}" for target in event.targets])
