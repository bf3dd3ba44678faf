"""What happened in a run: who published what, what each connection held, got and was notified of: `Book`."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Final, Literal, TypeAlias, cast

from attrs import define, field, frozen
from backplane_core import Gap, Target
from backplane_core._protocol.routing import Routing

__all__ = ["NEVER", "Book", "Heard", "Hold", "Kind", "Life", "Published", "Told"]

NEVER: Final = 2**62
"""The order of what has not happened."""

Kind: TypeAlias = Literal["sink", "queue"]


@define(eq=False)
class Published:
    """One event.

    Args:
        sender: The pod or publisher.
        number: Counts the sender's events from 0.
        targets: One, or a union.
        exclude: Connections that must not get it.
        channel: The one that it travels on.
        stream: What it keeps its order in, together with the sender.
        order: Its place among all that happened.
        at: When, by the wall clock, read before the publish.
        padding: Bytes that it is padded with; None: as the plan says.
    """

    sender: str
    number: int
    targets: tuple[Target, ...]
    exclude: frozenset[str]
    channel: str
    stream: str
    order: int
    at: float
    padding: int | None = None
    returned: int = NEVER
    """The place at which `publish` had returned."""
    confirmed_at: float = float("inf")
    """By when the sender knew that the broker had it, or had counted it."""
    refused: bool = False
    """`publish` raised: nobody may get it."""

    def __str__(self) -> str:
        return f"{self.sender}#{self.number}"


@define(eq=False)
class Hold:
    """One target that a connection holds, from one place in the order to another.

    Args:
        target: The target.
        began: Before the call that asked for it.
        owed: After that call returned: what is published from then on is owed.
        confirmed: The broker had confirmed the subscription by then.
        ended: Before the call that gave it up.
    """

    target: Target
    began: int
    owed: int = NEVER
    confirmed: bool = True
    ended: int = NEVER

    def matches(self, event: Published) -> bool:
        """Return whether the event is for this target."""
        return any(target == self.target or target.kind == self.target.kind == "everyone" for target in event.targets)


@frozen(eq=False)
class Heard:
    """An event that a connection got; None: nobody published that."""

    event: Published | None
    order: int
    at: float


@frozen(eq=False)
class Told:
    """A gap that a connection was notified of."""

    gap: Gap
    order: int


@define(eq=False)
class Life:
    """One connection, from its attachment until it was detached, replaced or closed.

    Args:
        conn_id: Its id; a later life may have the same one.
        pod: The sender's name of its pod.
        kind: A bare sink, or a queue with a reader.
        holds: Its targets.
        stream: What it got, in order.
        ended: The place of its end.
        ended_at: The same by the wall clock.
    """

    conn_id: str
    pod: str
    kind: Kind
    holds: list[Hold] = field(factory=list[Hold])
    stream: list[Heard | Told] = field(factory=list["Heard | Told"])
    ended: int = NEVER
    ended_at: float = float("inf")

    def __str__(self) -> str:
        return f"{self.conn_id} (a {self.kind} of {self.pod})"

    @property
    def heard(self) -> list[Heard]:
        return [item for item in self.stream if isinstance(item, Heard)]

    @property
    def told(self) -> list[Told]:
        return [item for item in self.stream if isinstance(item, Told)]

    def held(self, target: Target) -> Hold | None:
        """Return the hold of a target, if it is held now."""
        return next((hold for hold in self.holds if hold.target == target and hold.ended == NEVER), None)


@define
class Book:
    """All that happened. Several threads may write; each sender and each connection belongs to one of them.

    Args:
        routing: Of the fleet: says what travels where.
        forwards: Nodes of the broker learn of each other's subscriptions a little later than they confirm them: what
            is published meanwhile is not owed, until the first event has come that way.
        keeps: The broker keeps what it confirmed until every pod has read it, or gets it again from its sender.
        refusing: The pods that refused something: for its size, its signature or its time.
    """

    routing: Routing
    forwards: bool = False
    keeps: bool = False
    refusing: set[str] = field(factory=set[str])
    events: list[Published] = field(factory=list[Published])
    lives: list[Life] = field(factory=list[Life])
    drops: dict[tuple[str, str], Counter[str]] = field(
        factory=lambda: defaultdict[tuple[str, str], Counter[str]](Counter)
    )
    """How many events each sender counted as dropped, by channel and cause."""
    stalls: list[tuple[float, float]] = field(factory=list[tuple[float, float]])
    """When the loop of all pods stood still: from and until, by the wall clock."""
    _by_sender: dict[str, list[Published]] = field(factory=lambda: defaultdict[str, list[Published]](list))
    _orders: count[int] = field(factory=count)

    def order(self) -> int:
        """Return the next place."""
        return next(self._orders)

    def turned_s(self, since: float, until: float) -> float:
        """Return for how many seconds between these times the loop of all pods turned."""
        still_s = sum([max(0.0, min(until, ended) - max(since, began)) for began, ended in self.stalls])
        return until - since - still_s

    # Senders

    def publish(
        self, sender: str, targets: Sequence[Target], exclude: Iterable[str] = (), *, padding: int | None = None
    ) -> Published:
        """Write down an event that is published now."""
        mine = self._by_sender[sender]
        event = Published(
            sender=sender,
            number=len(mine),
            targets=tuple(targets),
            exclude=frozenset(exclude),
            channel=self.routing.channel(targets),
            stream=self._stream(targets),
            order=self.order(),
            at=time.time(),
            padding=padding,
        )
        mine.append(event)
        self.events.append(event)
        return event

    def _stream(self, targets: Sequence[Target]) -> str:
        """Return what keeps its order: per target, and per sender where there is one channel for all."""
        if self.routing.name == "broadcast" and self.routing.lanes == 1:
            return ""
        return " ".join(sorted(f"{target.kind}:{target.id}" for target in targets))

    def confirmed(self, events: Iterable[Published]) -> None:
        """Record that the broker has these by now, or that their sender counted them."""
        now = time.time()
        for event in events:
            event.confirmed_at = min(event.confirmed_at, now)

    def dropped(self, sender: str, channel: str, cause: str, count: int) -> None:
        """Record what a sender counted."""
        self.drops[sender, channel][cause] += count

    def settled(self, event: Published) -> bool:
        """Return whether the broker has the event, or its sender has counted it."""
        return event.confirmed_at != float("inf")

    def reached(self, event: Published) -> bool:
        """Return whether a connection of another pod than the sender's got the event."""
        return any(heard.event is event for life in self.lives if life.pod != event.sender for heard in life.heard)

    # Connections

    def begin(self, conn_id: str, pod: str, kind: Kind, targets: Iterable[Target] = ()) -> Life:
        """Write down a connection that is about to be attached, to these targets, its own and everyone."""
        now = self.order()
        life = Life(conn_id, pod, kind)
        for target in (Target.connection(conn_id), Target.everyone(), *targets):
            if life.held(target) is None:
                life.holds.append(Hold(target, now))
        self.lives.append(life)
        return life

    def hold(self, life: Life, target: Target) -> Hold:
        """Write down that a connection is about to be associated with a target."""
        hold = Hold(target, self.order())
        life.holds.append(hold)
        return hold

    def owe(self, holds: Iterable[Hold], *, confirmed: bool) -> None:
        """Record that the call which asked for these has returned."""
        now = self.order()
        for hold in holds:
            if hold.owed == NEVER:
                hold.owed, hold.confirmed = now, confirmed

    def end(self, life: Life, *, closing: bool = False) -> None:
        """Record that a connection is about to end; one of a pod that closes may still get what is on its way."""
        if life.ended != NEVER:
            return
        life.ended, life.ended_at = self.order(), time.time()
        if not closing:
            for hold in life.holds:
                hold.ended = min(hold.ended, life.ended)

    def heard(self, life: Life, value: object) -> None:
        """Record what a connection got: `[sender, number, ...]`."""
        event: Published | None = None
        items = cast("Sequence[object]", value) if isinstance(value, list) else ()
        if len(items) >= 2 and isinstance(items[1], int):  # padding follows
            mine = self._by_sender.get(str(items[0]), [])
            event = mine[items[1]] if 0 <= items[1] < len(mine) else None
        life.stream.append(Heard(event, self.order(), time.time()))

    def told(self, life: Life, gap: Gap) -> None:
        """Record a gap that a connection was notified of."""
        life.stream.append(Told(gap, self.order()))
