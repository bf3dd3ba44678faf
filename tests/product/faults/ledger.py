"""Who published what and when, what each socket got, and what no promise explains: `Ledger`.

    ledger = Ledger()
    ledger.published(("p0", "u1", 1))      # before each publish
    witness = ledger.witness("c1", targets={"u1"}, publisher="p1")
    ...                                    # witness.events and witness.gaps fill up
    ledger.assert_clean()

An event is `[publisher, target, n]`, with `n` counting from 0 per publisher and target. A missing one is explained when
a Gap of that socket covers a moment at which it was on its way to the broker, or the publisher counted it as dropped.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen
from backplane_core import Gap

__all__ = ["Event", "Ledger", "Verdict", "Witness"]

Event: TypeAlias = tuple[str, str, int]
"""`(publisher, target, n)`; as JSON a list."""

WAY_S: Final = 0.05
"""What an event may take from its publish to the moment from which a Gap counts, on an undisturbed line."""


@define(eq=False)
class Witness:
    """One socket: what it should hear, and what it heard, in order.

    Args:
        name: For people.
        targets: Ids of the targets that it is associated with.
        pod: The publisher on whose own pod it sits; from that one it gets everything, at once.
        since: From when on its associations hold, wall clock.
        until: Until when it listens.
    """

    name: str
    targets: frozenset[str]
    pod: str
    since: float = field(factory=time.time)
    until: float = float("inf")
    events: list[Event] = field(factory=list[Event])
    gaps: list[Gap] = field(factory=list[Gap])
    remote: int = 0
    """How many events of other pods it got."""

    def take(self, event: Sequence[Any]) -> None:
        """A sink."""
        publisher, target, number, *_ = event  # what follows is padding
        self.events.append((publisher, target, number))
        self.remote += publisher != self.pod


@frozen(kw_only=True)
class Verdict:
    """What is wrong at one socket; and what is missing at all, which need not be wrong."""

    name: str
    missing: Sequence[Event]
    duplicates: Sequence[Event]
    inversions: Sequence[Event]
    aliens: Sequence[Event]
    unexplained: Sequence[Event]
    local: Sequence[Event]
    """Missing although publisher and socket share a pod."""

    def faults(self) -> list[str]:
        """Everything that must not be, as text."""
        found: list[str] = []
        for kind in ("duplicates", "inversions", "aliens", "unexplained", "local"):
            events: Sequence[Event] = getattr(self, kind)
            if events:
                found.append(f"{self.name}: {len(events)} {kind}: {_few(events)}")
        return found


@define
class Ledger:
    """All publishes and all sockets of one run.

    Args:
        way_s: The margin around gaps; more where a test delays the line.
    """

    way_s: float = WAY_S
    at: dict[Event, float] = field(factory=dict[Event, float])
    """When each event was published, wall clock, read before the publish."""
    left: dict[Event, float] = field(factory=dict[Event, float])
    """By when its publisher knew that the broker had it, where observed; else that took no time."""
    dropped: set[Event] = field(factory=set[Event])
    """Events that their publisher counted as dropped, by name."""
    anonymous: Counter[str] = field(factory=Counter[str])
    """How many more each publisher counted as dropped without saying which."""
    killed: set[str] = field(factory=set[str])
    """Publishers that were killed: what they had accepted and not yet sent is the one thing that nobody can count."""
    witnesses: list[Witness] = field(factory=list[Witness])
    _next: Counter[tuple[str, str]] = field(factory=Counter[tuple[str, str]])

    def new(self, publisher: str, target: str) -> Event:
        """Write down the next event of that publisher for that target, and return it; publish it now."""
        number = self._next[publisher, target]
        self._next[publisher, target] += 1
        event = (publisher, target, number)
        self.at[event] = time.time()
        return event

    def has_left(self, events: Iterable[Event]) -> None:
        """The broker confirmed these by now."""
        self.left.update(dict.fromkeys(events, time.time()))

    def witness(self, name: str, targets: Iterable[str], pod: str) -> Witness:
        """Add a socket; its associations hold from now on."""
        witness = Witness(name, frozenset(targets), pod)
        self.witnesses.append(witness)
        return witness

    def verdict(self, witness: Witness) -> Verdict:
        """Compare what a socket got with what it should have got."""
        got = set(witness.events)
        expected = [
            event
            for event, at in self.at.items()
            if event[1] in witness.targets and witness.since <= at < witness.until
        ]
        missing = [event for event in expected if event not in got]
        remote = [event for event in missing if event[0] != witness.pod]
        return Verdict(
            name=witness.name,
            missing=missing,
            duplicates=[event for event, count in Counter(witness.events).items() if count > 1],
            inversions=_inversions(witness.events),
            aliens=[event for event in got if event not in self.at or event[1] not in witness.targets],
            unexplained=self._unexplained(remote, witness),
            local=[event for event in missing if event[0] == witness.pod],
        )

    def _unexplained(self, missing: Iterable[Event], witness: Witness) -> list[Event]:
        spans = [(gap.since - self.way_s, gap.until + self.way_s) for gap in witness.gaps]
        last = {event[:2]: event[2] for event in witness.events}
        left: list[Event] = []
        budget = self.anonymous.copy()
        for event in missing:
            at = self.at[event]
            arrived = self.left.get(event, at)
            if event in self.dropped or any(since <= arrived and at <= until for since, until in spans):
                continue
            if event[0] in self.killed and event[2] > last.get(event[:2], -1):
                continue  # a tail; a hole would be told
            if budget[event[0]]:
                budget[event[0]] -= 1
                continue
            left.append(event)
        return left

    @property
    def missing(self) -> int:
        """How many deliveries there were not, over all sockets, explained or not."""
        return sum([len(self.verdict(witness).missing) for witness in self.witnesses])

    def everywhere(self, accept: Callable[[Witness], bool] = lambda _: True) -> bool:
        """Whether each socket has the last event of each publisher and target: nothing more is on its way."""
        last: dict[tuple[str, str], Event] = {}
        for event in self.at:
            last[event[:2]] = event
        return all(
            event in witness.events[-1_000:]
            for witness in self.witnesses
            if accept(witness)
            for event in last.values()
            if event[1] in witness.targets and self.at[event] < witness.until
        )

    def assert_clean(self) -> None:
        """Assert that nothing came twice, out of order or from nowhere, and that whatever is missing is explained."""
        assert self.at, "nothing was published: the test saw nothing"
        assert any(witness.events for witness in self.witnesses), "nothing was delivered: the test saw nothing"
        faults = [fault for witness in self.witnesses for fault in self.verdict(witness).faults()]
        assert not faults, "\n".join([f"{len(faults)} faults", *faults[:12]])

    def check_and_forget(self, older_than_s: float) -> None:
        """Assert that all is clean so far, and forget what is older: for runs whose books would fill the memory.

        Events that are younger may still be on their way, so they are looked at the next time.
        """
        until = time.time() - older_than_s
        settled = {event: at for event, at in self.at.items() if at < until}
        if not settled:
            return
        recent = {event: at for event, at in self.at.items() if at >= until}
        heard = {id(witness): witness.events for witness in self.witnesses}
        for witness in self.witnesses:
            witness.events = [event for event in witness.events if event not in recent]
        self.at = settled
        self.assert_clean()
        for witness in self.witnesses:
            witness.events = [event for event in heard[id(witness)] if event in recent]
            witness.gaps = [gap for gap in witness.gaps if gap.until >= until - older_than_s]
        self.dropped.intersection_update(recent)
        self.left = {event: at for event, at in self.left.items() if event in recent}
        self.at = recent


def _inversions(events: Iterable[Event]) -> list[Event]:
    """Return the events that came after a later one of the same publisher and target; copies don't count again."""
    last: dict[tuple[str, str], int] = {}
    found: list[Event] = []
    seen: set[Event] = set()
    for event in events:
        key = event[:2]
        if event not in seen and event[2] < last.get(key, -1):
            found.append(event)
        seen.add(event)
        last[key] = max(last.get(key, -1), event[2])
    return found


def _few(events: Sequence[Event]) -> str:
    shown = ", ".join([f"{publisher}/{target}#{number}" for publisher, target, number in events[:4]])
    return shown if len(events) <= 4 else f"{shown}, … {events[-1][2]}"
