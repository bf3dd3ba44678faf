"""Which channels this pod should hear, which the broker confirmed, and who waits for that.

The registry is the only count of who holds what: a touched channel is compared with it when the next batch is
planned, so that churn between two batches cancels out. A channel that nobody holds now is heard for a moment
longer: a page that is reloaded is back by then, and nothing was asked of the broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Final

from attrs import frozen

from backplane_core._local.entry import Entry
from backplane_core._local.registry import Registry
from backplane_core._protocol.routing import Routing
from backplane_core.target import Target

__all__ = ["Subscriptions"]

LINGER_S: Final = 1.0
"""How long a channel is heard that nobody holds: a page's reload takes less, and what comes meanwhile is dropped."""
MAX_LINGERING: Final = 16_384
"""Channels that may wait so; beyond it the oldest are left at once. Some 8 MiB."""
LOOKS: Final = 8
"""Touched channels that one plan looks at, for each that it may ask for: churn that cancels out must not hold the
loop."""


DENIED_S: Final = 30.0
"""How long until a channel that was refused is asked for again: permissions are changed by hand, and brokers log what
they refuse."""


@frozen
class Denial:
    """A channel that the broker refuses.

    Args:
        reason: Why, for people.
        since: When it was refused first.
        again_at: When to ask for it again.
    """

    reason: str
    since: float
    again_at: float


class Subscriptions:
    """The wanted and the confirmed channels of one link after another.

    Args:
        routing: Maps targets to channels.
        registry: Knows which targets this pod holds connections for.
        hears: Whether this pod hears anything; one that only publishes does not.
    """

    def __init__(self, routing: Routing, registry: Registry, *, hears: bool = True) -> None:
        self.hears = hears
        self.changed = asyncio.Event()
        """Set when there may be something to ask for; cleared by the task that asks."""
        self._routing = routing
        self._registry = registry
        # All that may have to be asked for; the base channels stand first, for no target.
        self._targets: dict[str, Target | None] = dict.fromkeys(routing.base if hears else ())
        self._confirmed: set[str] = set()
        self._touched: dict[str, None] = {}
        # What a new link is to be asked for, the last first. A copy of names: to deal with each would hold the loop.
        self._again: list[str] = [*reversed(self._targets)]
        # Confirmed, but held by nobody, and until when they are heard all the same; the oldest first.
        self._lingering: dict[str, float] = {}
        self._unconfirmed: set[str] = set()
        # Refused by the broker, in the order in which they are asked for again.
        self._denied: dict[str, Denial] = {}
        # What those wait for who wait for a channel; many on one share one.
        self._waiting: dict[str, asyncio.Event] = {}

    def touch(self, target: Target) -> bool:
        """Record that the registry gained or lost a target; return whether the broker is to confirm its channel."""
        channel = self._routing.interest(target)
        if channel is None:
            return False
        self._targets[channel] = target
        self._touched[channel] = None
        self.changed.set()
        if not self._registry.holds(target):
            self._wake((channel,))
            if channel not in self._confirmed and channel not in self._unconfirmed:
                # Never asked for: while the broker is away nobody plans, and churn must leave nothing behind.
                self._targets.pop(channel, None)
                self._touched.pop(channel, None)
                self._denied.pop(channel, None)
            return False
        return channel not in self._confirmed

    async def wait_confirmed(self, channel: str) -> None:
        """Return once the broker confirmed or denied a channel; or nobody wants it any longer, or the link is lost."""
        is_asked = channel not in self._denied or channel in self._unconfirmed or channel in self._touched
        if channel not in self._confirmed and is_asked:
            waiting = self._waiting.get(channel)
            if waiting is None:
                waiting = self._waiting[channel] = asyncio.Event()
            await waiting.wait()

    def _wake(self, channels: Iterable[str]) -> None:
        for channel in channels:
            waiting = self._waiting.pop(channel, None)
            if waiting is not None:
                waiting.set()

    def plan(self, limit: int, now: float) -> tuple[list[str], list[str]]:
        """Return the next channels to subscribe to and to unsubscribe from, at most `limit` of each.

        Where both are empty although more is `pending`, give the loop a turn and go on.
        """
        subscribe: list[str] = []
        looks = limit * LOOKS
        for channel in [channel for channel, denial in islice(self._denied.items(), limit) if denial.again_at <= now]:
            self._touched[channel] = None
        while self._again and len(subscribe) < limit and looks:
            looks -= 1
            self._look(self._again.pop(), now, subscribe)
        for channel in [*islice(self._touched, looks)]:
            if len(subscribe) >= limit:
                break
            del self._touched[channel]
            self._look(channel, now, subscribe)
        return subscribe, self._leave(limit, now)

    def _look(self, channel: str, now: float, subscribe: list[str]) -> None:
        if self._wanted(channel):
            self._lingering.pop(channel, None)
            if channel not in self._confirmed and channel not in self._unconfirmed:
                self._unconfirmed.add(channel)
                subscribe.append(channel)
        elif channel in self._confirmed:
            self._lingering.setdefault(channel, now + LINGER_S)
        else:
            self._targets.pop(channel, None)
            self._denied.pop(channel, None)

    def _wanted(self, channel: str) -> bool:
        if channel not in self._targets:  # looked at twice: touched, and asked for again
            return False
        target = self._targets[channel]
        return target is None or self._registry.holds(target)

    def _leave(self, limit: int, now: float) -> list[str]:
        over = len(self._lingering) - MAX_LINGERING
        first = [*islice(self._lingering.items(), limit)]
        due = [channel for number, (channel, until) in enumerate(first) if until <= now or number < over]
        unsubscribe: list[str] = []
        for channel in due:
            del self._lingering[channel]
            if not self._wanted(channel):  # else it is back, and touched
                del self._targets[channel]
                self._confirmed.remove(channel)
                unsubscribe.append(channel)
        return unsubscribe

    @property
    def base(self) -> Collection[str]:
        """The channels that every pod hears, whatever its connections are."""
        return self._routing.base

    def is_base(self, channel: str) -> bool:
        """Whether every pod hears the channel, whatever its connections are."""
        return channel in self._routing.base

    def deny(self, channel: str, reason: str, now: float) -> bool:
        """Record that the broker refused a channel, and let those go on who wait for it; return whether it is news.

        It may have been heard until now, where a move led to a node that refuses it.
        """
        before = self._denied.pop(channel, None)
        self._denied[channel] = Denial(reason, now if before is None else before.since, now + DENIED_S)
        self._unconfirmed.discard(channel)
        if channel in self._confirmed:
            self._confirmed.remove(channel)
            self._lingering.pop(channel, None)
            self.changed.set()  # the next time to ask is another one
        self._wake((channel,))
        return before is None

    def denial(self, channel: str) -> str | None:
        """Return why the broker refuses a channel; None: it does not, or was not asked yet."""
        denial = self._denied.get(channel)
        return None if denial is None or channel in self._confirmed else denial.reason

    def denied_since(self, channels: Iterable[str]) -> list[tuple[str, float]]:
        """Return those of the channels that were refused, and since when."""
        return [(channel, self._denied[channel].since) for channel in channels if channel in self._denied]

    @property
    def denied_count(self) -> int:
        """How many channels the broker refuses."""
        return len(self._denied)

    def confirm(self, channels: Iterable[str]) -> None:
        """Record that the broker confirmed that these are heard, and let those go on who wait for it."""
        self._confirmed.update(channels)
        self._unconfirmed.difference_update(channels)
        if self._denied:
            for channel in channels:
                self._denied.pop(channel, None)
        self._wake(channels)

    def confirmed(self, channel: str) -> bool:
        """Whether the broker confirmed the channel, and we have not asked to leave it since."""
        return channel in self._confirmed

    @property
    def confirmed_channels(self) -> Collection[str]:
        """What the broker confirmed."""
        return self._confirmed

    def lost(self) -> None:
        """Record that the link is lost: nothing is confirmed, and all that is wanted must be asked for again."""
        self._confirmed = set()
        self._unconfirmed = set()
        self._lingering = {}
        self._touched = {}
        self._again = [*reversed(self._targets)]
        self._wake(list(self._waiting))

    @property
    def shared(self) -> str:
        """The channel that all pods hear; see `Routing.shared`."""
        return self._routing.shared

    def listeners(self, channel: str) -> Sequence[Entry] | None:
        """Return the connections of the one target that a channel is for; None: it may concern everybody."""
        target = self._targets.get(channel)
        return None if target is None else self._registry.entries(target)

    def everybody(self) -> Sequence[Entry]:
        """Return all connections; see `channels_of` for what brings events to each."""
        return list(self._registry.connections.values())

    def channels_of(self, entry: Entry) -> Iterable[str]:
        """Yield the channels that bring events for a connection, the shared one first."""
        yield self._routing.shared
        for target in entry.all_targets:
            yield self._routing.channel((target,))

    @property
    def pending(self) -> bool:
        """Whether there is something to ask for."""
        return bool(self._touched or self._again)

    @property
    def next_look(self) -> float | None:
        """When the next channel is to be left, or asked for again, in the monotonic clock's seconds."""
        due = [*islice(self._lingering.values(), 1), *[one.again_at for one in islice(self._denied.values(), 1)]]
        return min(due, default=None)

    @property
    def settled(self) -> bool:
        """Whether the broker confirmed all that is wanted."""
        return not self.pending and not self._unconfirmed

    @property
    def count(self) -> int:
        """How many channels are confirmed."""
        return len(self._confirmed)
