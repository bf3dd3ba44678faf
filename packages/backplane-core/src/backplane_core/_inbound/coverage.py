"""Which channels this pod hears again after an outage, and what it owes their connections, sans-IO: `Coverage`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import define, field, frozen

from backplane_core._local.entry import Span

__all__ = ["Coverage", "Settled"]


@define(eq=False)
class Request:
    """A channel that was asked for and is not heard yet.

    Args:
        at: Since when.
        owed: Whether somebody was promised a gap until it is heard: `associate` returned False, or the link died.
    """

    at: float
    owed: bool


@frozen
class Settled:
    """What is owed once every channel is heard.

    Args:
        since: The begin of the span.
        channels: The channels whose connections it concerns; None: every connection's.
    """

    since: float
    channels: Sequence[str] | None


@define(eq=False)
class Coverage:
    """Knows, per channel, whether it is heard on the present link, and since when events may have been missed.

    The invariant: before a connection gets an event of a channel, it has been notified of a gap that reaches from the
    last moment at which the pod had certainly heard everything up to the moment at which *that channel* was heard
    again. Not the first frame of a new link ends a gap, but each channel's own confirmation, or a frame of its own.

    An example, with routing "interest". At 10.0 the link dies; everything up to 9.6 is proven. The next link is asked
    for 501 channels. Its first frame comes at 10.2, on the shared channel: connections that get it are notified of
    9.6 to 10.2. The channel of `user:u1` is confirmed at 11.1. An event for u1 comes at 11.3: its connections are
    notified of 9.6 to 11.3 first, or of 10.2 to 11.3, if they were among those. At 11.4 all channels are heard:
    everybody who was not notified yet is now, of 9.6 to 11.4.

    It exists because a NATS server takes a batch of SUBs one by one. Over a narrow line the shared channel, which comes
    first, was heard 0.96 s before the last one; the gap ended with the first frame, and 156 events were lost outside
    of it. A cluster does the same when one of its nodes is slow.

    Moments are of the monotonic clock, in seconds. A connection's part of it, up to when it has been notified, stands
    in its `Entry`.

    Args:
        since: The moment up to which everything was certainly heard; None while nothing is owed.
    """

    since: float | None = field(default=None, init=False)
    # Whether the span concerns every connection (the link was lost), or those of `_heard` alone.
    _everybody: bool = field(default=False, init=False)
    # Asked for, not heard yet.
    _requests: dict[str, Request] = field(factory=dict[str, Request], init=False)
    # While a span is open: when channels that it concerns were heard again.
    _heard: dict[str, float] = field(factory=dict[str, float], init=False)

    def begin(self, now: float) -> None:
        """Record that nothing is heard yet: a connection attached before the first link is owed a gap from then on."""
        self.since, self._everybody = now, True

    def ask(self, channel: str, now: float, *, owed: bool) -> None:
        """Record that a channel is wanted from now on; `owed`, if nobody waits for its confirmation."""
        request = self._requests.setdefault(channel, Request(now, owed=False))
        request.at = min(request.at, now)
        if owed:
            self.owe((channel,))

    def owe(self, channels: Iterable[str]) -> None:
        """Record that somebody was not made to wait for these channels: what comes until they are heard is a gap."""
        for channel in channels:
            request = self._requests.get(channel)
            if request is not None and not request.owed:
                request.owed = True
                self.since = request.at if self.since is None else min(self.since, request.at)

    def forget(self, channel: str) -> None:
        """Record that nobody wants a channel any longer."""
        self._requests.pop(channel, None)

    def deny(self, channel: str) -> bool:
        """Record that the broker refuses a channel; return whether it has connections that were not made to wait.

        Those have to be notified now. What they miss from now on is owed once the channel is heard.
        """
        request = self._requests.pop(channel, None)
        return request is None or request.owed

    def lost(self, since: float) -> None:
        """Record that the link died, and that everything up to `since` was heard."""
        known = [since, *[request.at for request in self._requests.values()]]
        if self.since is not None:
            known.append(self.since)
        self.since, self._everybody = min(known), True
        for request in self._requests.values():
            request.owed = True
        self._heard.clear()

    def heard(self, channels: Iterable[str], now: float) -> None:
        """Record that the broker confirmed channels on the present link."""
        for channel in channels:
            request = self._requests.pop(channel, None)
            if self._everybody or (request is not None and request.owed):
                self._heard.setdefault(channel, now)

    def heard_at(self, channel: str, now: float) -> float | None:
        """Return when a channel was heard again, before one of its frames is handed on; None: nothing is owed for it.

        The frame itself proves that the channel is heard, if the broker has not confirmed it yet.
        """
        if self._everybody:
            return self._heard.setdefault(channel, now)
        if channel not in self._heard:
            request = self._requests.get(channel)
            if request is None or not request.owed:
                return None
            self._heard[channel] = now
        return self._heard[channel]

    def last_heard(self, channels: Iterable[str]) -> float:
        """Return when the last of these channels was heard again; those that are not concerned don't count."""
        return max([self._heard.get(channel, float("-inf")) for channel in channels], default=float("-inf"))

    @property
    def last_heard_of_all(self) -> float:
        """When the last channel of all that are concerned was heard again."""
        return max(self._heard.values(), default=float("-inf"))

    @property
    def first_heard_of_all(self) -> float | None:
        """When the first channel of all that are concerned was heard again; None: none was."""
        return min(self._heard.values(), default=None)

    @property
    def is_whole(self) -> bool:
        """Whether the span concerns every connection: the link was lost."""
        return self._everybody

    def owes(self, covered: Span | None, heard_at: float, now: float) -> Span | None:
        """Return what a connection is to be notified of, before it gets an event of a channel that was heard again.

        Args:
            covered: What it was notified of last.
            heard_at: When that channel was heard again.
            now: The end of the span.
        """
        since = self.since
        if since is None or (covered is not None and covered.since <= since and covered.until >= heard_at):
            return None
        # What came before is covered only if that notice went back as far as this one: a link that dies later may
        # prove less than the last one did.
        return Span(max(since, covered.until) if covered is not None and covered.since <= since else since, now)

    def settled(self) -> Settled | None:
        """Return what is owed, now that every channel that was wanted is heard; None: nothing."""
        if self.since is None:
            return None
        return Settled(self.since, None if self._everybody else list(self._heard))

    def close(self) -> None:
        """Record that everyone was notified of what `settled` returned. What was asked for meanwhile stays owed."""
        owed = {channel: request.at for channel, request in self._requests.items() if request.owed}
        self._heard = {channel: at for channel, at in self._heard.items() if channel in owed}
        self._everybody = False
        self.since = min(owed.values(), default=None)
