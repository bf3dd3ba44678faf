"""Every pod of a fleet: `DistributedBackplane` delivers over any `Transport`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final, Self, Unpack
from uuid import uuid4

from attrs import evolve

from backplane_core._base import BaseBackplane, logger
from backplane_core._reader import Pod, Reader
from backplane_core._registry import Entry
from backplane_core._routing import make_routing
from backplane_core._sender import Sender
from backplane_core._sequence import Tracker
from backplane_core._settings import Options
from backplane_core._subscriptions import Subscriptions
from backplane_core._uplink import Owner, Uplink
from backplane_core._wire import Head
from backplane_core.errors import ClosedError
from backplane_core.observe import EnvelopeRejected, EventDropped, FleetMismatch, Gap, Readiness, Stats
from backplane_core.target import Target
from backplane_core.transport import Frame, Lost, Transport

__all__ = ["DistributedBackplane"]

MAX_MISMATCHED: Final = 1_000
"""Pods whose other routing was logged once: a bound against forged origins."""


class DistributedBackplane(BaseBackplane):
    """A backplane that reaches the connections of every pod on the same broker and channel.

    It owns the life of its links: a dead one is replaced for ever, with growing waits; what was unconfirmed is sent
    again; what may have been missed is told as a `Gap`. Local delivery never depends on any of that.

    Args:
        transport: Opens links to the broker.
        options: See `Settings`; and `on_gap`, `on_state`, `observer`.

    Raises:
        ConfigurationError: An option is unknown or wrong.
    """

    # A process that only publishes subscribes to nothing; see publisher.py.
    _hears: bool = True

    def __init__(self, transport: Transport, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        settings = self._settings
        self._routing = make_routing(settings.routing, settings.channel, settings.lanes)
        to_write = asyncio.Event()
        self._sender = Sender(uuid4().hex, self._routing, settings, to_write.set, self._on_dropped)
        self._send = self._sender.send
        self._tracker = Tracker(settings.origin_ttl_s)
        self._subscriptions = Subscriptions(
            self._routing, tuple(self._routing.base) if self._hears else (), self._registry.holds
        )
        self._reader = Reader(
            Pod(
                resolve=self._registry.resolve,
                deliver=partial(self._deliver, remote=True),
                echo=self._on_echo,
                beat=self._on_beat,
                missed=self._on_missed,
                rejected=self._on_rejected,
                copy=self._on_copy,
                foreign=self._on_foreign,
                behind=self._on_behind,
            ),
            self._tracker,
            self._sender.prefix,
            settings.max_event_bytes,
        )
        self._uplink = Uplink(
            transport,
            settings,
            self._sender.outbox,
            to_write,
            self._subscriptions,
            self._hears,
            Owner(
                opened=self._sender.link_opened,
                live=self._on_live,
                lost=self._on_lost,
                batch=self._on_batch,
                confirmed=self._on_confirmed,
                beat=self._beat,
                subscribed=self._on_subscribed,
                unsubscribed=self._on_unsubscribed,
            ),
        )
        self._hearing: dict[str, asyncio.Future[None]] = {}
        self._closing: asyncio.Future[None] | None = None
        self._deaf_since: float | None = time.time()
        self._gap_since: float | None = None
        # The last sign of life, wall clock: what a dying link took with it was published before anyone noticed.
        self._heard_at = time.time()
        self._told_early = False
        self._lost_because = "not connected until now"
        self._last_beat: float | None = None
        self._foreign_at = float("-inf")
        self._mismatched: set[str] = set()

    # Life

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def open(self) -> None:
        """Connect, and return once this pod is receiving.

        Raises:
            TransportError: The broker can't be reached within `connect_timeout_s`, or refuses for good.
            AuthenticationError: The broker refused the credentials.
            ClosedError: It was opened or closed before.

        Cancellation: leaves nothing behind; the backplane is closed.
        """
        if self._uplink.running or self._states.now != "connecting":
            raise ClosedError("a backplane is opened once: make another")
        self._loop = asyncio.get_running_loop()
        self._gap_since = time.time()
        try:
            await self._uplink.start()
        except BaseException:
            await self._stop("it could not connect")
            raise

    def ready(self) -> Readiness:
        """Return whether this pod hears the bus, or since when not and why; for a readiness probe."""
        if self._states.now == "live":
            return Readiness(live=True, last_beat=self._last_beat)
        ending = self._states.now in {"draining", "closed"}
        return Readiness(
            live=False,
            deaf_since=time.time() if self._deaf_since is None else self._deaf_since,
            reason=f"the backplane is {self._states.now}" if ending else self._uplink.reason,
            last_beat=self._last_beat,
        )

    def stats(self) -> Stats:
        """Return a snapshot of the counters."""
        return evolve(
            super().stats(),
            received=self._reader.received,
            sent=self._sender.outbox.confirmed,
            outbox_messages=self._sender.outbox.messages,
            outbox_bytes=self._sender.outbox.bytes,
        )

    async def flush(self, timeout_s: float | None = None) -> None:
        """Return once the broker confirmed all that was accepted before.

        Args:
            timeout_s: How long to wait; None: for ever.

        Raises:
            TimeoutError: It did not in time; the message says how many are left.
        """
        await self._sender.flush(timeout_s, lambda: self._uplink.reason)

    async def drain(self, timeout_s: float | None = None) -> None:
        """Refuse publishes from now on, end the connections, flush, and leave the link up.

        Raises:
            TimeoutError: As `flush`.
        """
        if self._states.now == "live":
            self._beat()  # marks the end, so that a lost tail is noticed
        await super().drain(timeout_s)

    async def aclose(self, drain_s: float = 5.0) -> None:
        """Drain, then close: no task, socket or subscription is left. Twice is fine.

        Args:
            drain_s: How long what was accepted may take to be sent; what is left is counted as `dropped{closed}`.

        Cancellation: gives up draining and closes at once.
        """
        if self._closing is not None:
            await asyncio.shield(self._closing)
            return
        if self._states.now == "closed":
            return
        self._closing = asyncio.get_running_loop().create_future()
        try:
            # Never opened: nobody would send what waits.
            await self.drain(drain_s if self._uplink.running else 0)
        except TimeoutError as error:
            logger.warning("closing: %s", error)
        finally:
            try:
                await self._stop("aclose() was called")
            finally:
                self._closing.set_result(None)

    async def confirm(self, targets: Sequence[Target]) -> bool:
        """Wait until the broker confirmed that all of these are heard; False at once while the link is down."""
        channels = [channel for target in targets if (channel := self._routing.interest(target)) is not None]
        for channel in channels:
            if self._states.now != "live":
                return False
            if not self._subscriptions.confirmed(channel):
                waiter = self._hearing.get(channel)
                if waiter is None:
                    waiter = self._hearing[channel] = asyncio.get_running_loop().create_future()
                await asyncio.shield(waiter)
        return self._states.now == "live" and all(map(self._subscriptions.confirmed, channels))

    async def _stop(self, reason: str) -> None:
        try:
            await self._uplink.stop()
        finally:
            self._sender.close()
            self._hear_no_more()
            self._finish(reason)

    # Out: publish -> sender -> link

    async def _give_turn(self) -> None:
        await super()._give_turn()
        if self._states.now == "live":
            await self._sender.room(self._settings.publish_wait_s)

    def _beat(self) -> None:
        self._sender.beat()
        self._uplink.pulse.beat(self._sender.outbox.accepted)
        self._tracker.now = time.monotonic()
        self._tracker.expire()

    def _on_confirmed(self) -> None:
        self._sender.confirmed()

    def _on_dropped(self, cause: str, channel: str, count: int) -> None:
        self._dropped[cause] += count
        self._report(EventDropped(cause=cause, channel=channel, count=count))

    # Up and down: the link's life

    def _on_edge(self, target: Target) -> None:
        if self._subscriptions.touch(target):
            self._uplink.subscribe_soon()
            if not self._registry.holds(target):
                self._wake_hearing([self._routing.channel((target,))])

    def _on_subscribed(self, channels: Sequence[str]) -> None:
        self._wake_hearing(channels)

    def _on_unsubscribed(self, channels: Sequence[str]) -> None:
        for channel in channels:
            self._tracker.forget_channel(channel)

    def _on_live(self) -> None:
        self._counters.links += 1
        if self._gap_since is not None:
            self._tell_reconnect()
        self._deaf_since = None
        self._heard_at = time.time()
        if self._states.now in {"connecting", "degraded"}:
            self._set_state("live", "connected")
        self._beat()

    def _on_lost(self) -> None:
        self._deaf_since = self._deaf_since or self._heard_at
        self._gap_since = self._gap_since or self._heard_at
        self._told_early = False
        self._lost_because = f"the link was replaced: {self._uplink.reason}"
        self._tracker.cut()
        # A pod that can't tell copies must not get any: what was in flight is then counted, and a hole for the others.
        resend = time.monotonic() - self._foreign_at > self._settings.origin_ttl_s
        self._sender.link_lost(resend=resend)
        if self._states.now == "live":
            logger.warning("the link is lost, local delivery goes on: %s", self._uplink.reason)
            self._set_state("degraded", self._uplink.reason)
        self._hear_no_more()

    def _hear_no_more(self) -> None:
        self._wake_hearing(list(self._hearing))

    def _wake_hearing(self, channels: Iterable[str]) -> None:
        for channel in channels:
            waiter = self._hearing.pop(channel, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    # In: link -> reader -> sinks and gaps

    async def _on_batch(self, batch: Sequence[Frame | Lost]) -> None:
        self._heard_at = time.time()
        # A frame of the new link proves that its subscriptions hold: the gap ends here, before anything newer.
        if self._gap_since is not None and not self._told_early:
            self._told_early = True
            self._tell_reconnect()
        await self._reader.process(batch)

    def _tell_reconnect(self) -> None:
        now = time.time()
        since = self._gap_since or now
        # With more to subscribe to the span goes on until all of it is confirmed.
        self._gap_since = now if self._subscriptions.settling else None
        entries = list(self._registry.connections.values())
        # Who attached before the first link went live has a span to hear of; the pod itself has missed nothing yet.
        if not self._hears or (self._states.now == "connecting" and not entries):
            return
        channel, reason = self._routing.shared, self._lost_because
        self._tell(Gap(channel=channel, cause="reconnect", reason=reason, since=since, until=now), entries)

    def _on_missed(self, channel: str | None, count: int | None, reason: str) -> None:
        now = time.time()
        gap = Gap(
            channel=channel or self._routing.shared,
            cause="sequence",
            reason=reason,
            since=now,
            until=now,
            missed=count,
        )
        self._report_gap(gap)
        self._gaps.tell_hole(gap, lambda: self._listeners(channel))

    def _listeners(self, channel: str | None) -> Iterable[Entry]:
        """Return the connections that a channel's frames may have been for."""
        everybody = list(self._registry.connections.values())
        if channel is None or channel == self._routing.shared:
            return everybody
        target = self._subscriptions.target(channel)
        if target is not None:
            return self._registry.entries(target)
        # A lane: many targets share it.
        return [
            entry
            for entry in everybody
            if any(
                self._routing.channel((target,)) == channel
                for target in (Target.connection(entry.conn_id), *(entry.targets or ()))
            )
        ]

    def _tell(self, gap: Gap, entries: Iterable[Entry]) -> None:
        self._report_gap(gap)
        listening = self._gaps.tell(entries, gap)
        if not listening and self.on_gap is None and gap.cause == "reconnect":
            logger.warning(
                "events of the last %.1f s may be missed on %s, and nobody listens: set on_gap",
                gap.until - gap.since,
                gap.channel,
            )

    def _on_echo(self, payload: bytes) -> None:
        if payload.endswith(self._sender.beat_suffix):
            self._counters.beats += 1
            self._last_beat = time.time()
            self._uplink.pulse.heard()
        else:
            self._counters.echoed += 1

    def _on_beat(self, head: Head) -> None:
        if (head.routing, head.lanes) == (self._routing.name, self._routing.lanes):
            return
        self._counters.mismatch += 1
        if head.origin not in self._mismatched and len(self._mismatched) < MAX_MISMATCHED:
            self._mismatched.add(head.origin)
            reason = (
                f"it has routing={head.routing!r}, lanes={head.lanes}; "
                f"this pod has routing={self._routing.name!r}, lanes={self._routing.lanes}"
            )
            self._report(FleetMismatch(origin=head.origin, reason=reason))
            logger.error("a pod on %s does not hear all of our events: %s", self._routing.shared, reason)

    def _on_rejected(self, channel: str, reason: str) -> None:
        self._counters.decode_errors += 1
        self._report(EnvelopeRejected(channel=channel, reason=reason))

    def _on_copy(self) -> None:
        self._counters.duplicates += 1

    def _on_foreign(self) -> None:
        self._counters.foreign += 1
        self._foreign_at = time.monotonic()

    def _on_behind(self) -> None:
        self._uplink.pulse.behind()
