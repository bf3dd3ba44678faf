"""Which channels this pod should hear and which the broker confirmed, sans-IO.

The registry is the only count of who holds what: a touched channel is compared with it when the next batch is
planned, so that churn between two batches cancels out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from backplane_core._routing import Routing
from backplane_core.target import Target

__all__ = ["Subscriptions"]


class Subscriptions:
    """The wanted and the confirmed channels of one link after another.

    Args:
        routing: Maps targets to channels.
        base: The channels to hear always.
        holds: Whether the registry holds a connection of the target.
    """

    def __init__(self, routing: Routing, base: Sequence[str], holds: Callable[[Target], bool]) -> None:
        self._routing = routing
        self._base = base
        self._holds = holds
        self._targets: dict[str, Target] = {}
        self._confirmed: set[str] = set()
        self._touched: dict[str, None] = dict.fromkeys(base)
        self._batches = 0
        self._unconfirmed: set[str] = set()

    def touch(self, target: Target) -> bool:
        """The registry gained or lost the target: return whether a channel depends on it."""
        channel = self._routing.interest(target)
        if channel is None:
            return False
        self._targets[channel] = target
        self._touched[channel] = None
        return True

    def plan(self, limit: int) -> tuple[list[str], list[str]]:
        """Return the next channels to subscribe to and to unsubscribe from, at most `limit` in all."""
        subscribe: list[str] = []
        unsubscribe: list[str] = []
        while self._touched and len(subscribe) + len(unsubscribe) < limit:
            channel = next(iter(self._touched))
            del self._touched[channel]
            target = self._targets.get(channel)
            wanted = target is None or self._holds(target)
            if wanted and channel not in self._confirmed:
                subscribe.append(channel)
            elif not wanted:
                del self._targets[channel]
                if channel in self._confirmed:
                    self._confirmed.remove(channel)
                    unsubscribe.append(channel)
        self._batches += bool(subscribe)
        self._unconfirmed.update(subscribe)
        return subscribe, unsubscribe

    def confirm(self, channels: Iterable[str]) -> None:
        """The broker confirmed that these are heard."""
        self._confirmed.update(channels)
        self._unconfirmed.difference_update(channels)

    def confirmed(self, channel: str) -> bool:
        """Whether the broker confirmed the channel, and we have not asked to leave it since."""
        return channel in self._confirmed

    def lost(self) -> None:
        """The link is lost: nothing is confirmed, all that is wanted must be asked for again."""
        self._confirmed.clear()
        self._unconfirmed.clear()
        self._batches = 0
        self._touched = dict.fromkeys([*self._base, *self._targets])

    def target(self, channel: str) -> Target | None:
        """Return the target whose channel this is; None for a base channel."""
        return self._targets.get(channel)

    @property
    def pending(self) -> bool:
        """Whether there is something to plan."""
        return bool(self._touched)

    @property
    def settled(self) -> bool:
        """Whether the broker confirmed all that is wanted."""
        return not self.pending and not self._unconfirmed

    @property
    def settling(self) -> bool:
        """Whether some channels may not be heard yet although the first frame is here.

        A broker works on one batch at once: a frame of one of its channels proves them all. Later ones need their own.
        """
        return self.pending or (self._batches > 1 and bool(self._unconfirmed))

    @property
    def count(self) -> int:
        """How many channels are confirmed."""
        return len(self._confirmed)
