"""Every pod of a fleet: `DistributedBackplane` delivers over any `Transport`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, Self, Unpack

from attrs import evolve

from backplane_core._inbound.channel_subscriber import ChannelSubscriber
from backplane_core._inbound.coverage import Coverage
from backplane_core._inbound.cursors import Cursors
from backplane_core._inbound.receiver import Receiver
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._inbound.watermark import Watermark
from backplane_core._jobs.bus_desk import BusDesk
from backplane_core._jobs.current_link import CurrentLink
from backplane_core._link.outage_log import OutageLog
from backplane_core._link.supervisor import LinkSupervisor
from backplane_core._log.mirror import Mirror
from backplane_core._log.pages import LogPages
from backplane_core._log.primer import Primer
from backplane_core._log.repeats import LogRepeats
from backplane_core._log.resumer import Resumer
from backplane_core._outbound.resend_ring import ResendRing
from backplane_core._outbound.sender import Sender
from backplane_core._pod.ending import Ending
from backplane_core._pod.events import PodEvents
from backplane_core._pod.fleet_parts import FleetParts
from backplane_core._pod.pod_log import PodLog
from backplane_core._protocol.frame import FRAME_OVERHEAD_BYTES
from backplane_core._protocol.heartbeat import Heartbeat
from backplane_core._protocol.own_frames import OwnFrames
from backplane_core._protocol.peers import Peers
from backplane_core._protocol.routing import Routing, make_routing
from backplane_core._protocol.signing import SIGNED_HEAD_BYTES, Signer
from backplane_core._runtime.credentials import hide_credentials
from backplane_core._runtime.forks import call_in_child
from backplane_core._runtime.logging import logger
from backplane_core._runtime.system import System
from backplane_core.base import BaseBackplane
from backplane_core.errors import ClosedError, ConfigurationError
from backplane_core.observe import Readiness, Stats
from backplane_core.options import Options, Settings
from backplane_core.transport import Transport

__all__ = ["DistributedBackplane"]

DURABLE_LANES: Final = 8
"""Over how many logs targets are spread unless the host says: a flood to one target trims only its own lane."""


class DistributedBackplane(BaseBackplane):
    """A backplane that reaches the connections of every pod on the same broker and channel.

    It replaces a dead link for as long as it takes, with growing waits; sends again what the broker had not confirmed;
    and reports what may have been missed as a `Gap`. Local delivery depends on none of that.

    Args:
        transport: Opens links to the broker.
        options: See `Options`.

    Raises:
        ConfigurationError: An option is unknown, or its value is not allowed.
    """

    # A process that only publishes subscribes to nothing; see publisher.py.
    _hears: bool = True
    _outlives_loops = False

    def __init__(self, transport: Transport, **options: Unpack[Options]) -> None:
        is_durable = transport.traits.durable
        if is_durable:
            _check_durable(options)
            options.setdefault("lanes", DURABLE_LANES)
        super().__init__(**options)
        settings, system, reporter = self._settings, self._system, self._reporter
        self._transport = transport
        routing = make_routing(settings.routing, settings.channel, settings.lanes)
        own = OwnFrames.of(system.new_name(), routing, self._pod_name, hears=self._hears)
        signer = _make_signer(settings, system)
        peers = Peers(routing, settings.origin_ttl_s, reporter, unnumbered=settings.unnumbered_pods)
        heartbeat = Heartbeat(settings.probe_interval_s, settings.beat_s, self._hears)
        self._host.bus = self._watermark = Watermark(system.monotonic())
        self._coverage = Coverage()
        # Out: publish -> sender -> link
        self._sender = Sender(own, routing, settings, peers, reporter, system, signer)
        self._outbound = self._sender
        self._fleet = FleetParts.of(
            own, self._pod_name, settings, self._own_part, routing, peers, self._sender, heartbeat, system
        )
        self._asker = self._fleet.asker
        self._presence = self._fleet.presence
        if is_durable:
            self._sender.ring = ResendRing(settings.resend_s, settings.resend_max_bytes)
        jobs = CurrentLink() if transport.traits.queues else None
        if jobs is not None:
            self._desk = BusDesk(self._sender, jobs, settings, signer, reporter)
        cursors: Cursors | None = None
        if is_durable:
            cursors = Cursors(own, 0 if signer is None else SIGNED_HEAD_BYTES)
            if self._hears:
                cursors.mirror = self._make_log(own, routing, signer)
        # In: registry -> subscriptions -> link -> receiver -> sinks and gaps
        self._subscriptions = Subscriptions(routing, self._registry, hears=self._hears)
        self._registry.subscriber = ChannelSubscriber(
            routing, self._subscriptions, self._watermark, self._coverage, system
        )
        self._receiver = Receiver(
            own=own,
            settings=settings,
            system=system,
            reporter=reporter,
            registry=self._registry,
            delivery=self._delivery,
            peers=peers,
            post=self._fleet.post,
            subscriptions=self._subscriptions,
            watermark=self._watermark,
            coverage=self._coverage,
            heartbeat=heartbeat,
            signer=signer,
            event_ids=self._event_ids,
            cursors=cursors,
        )
        primer: Primer | None = None
        if self._pod_log is not None:
            log = self._pod_log
            primer = Primer(log.mirror, log.pages, self._receiver.tracker, system, settings.connect_timeout_s)
        # Up and down: one link after the other
        self._ending = Ending(
            states=self._states,
            registry=self._registry,
            sender=self._sender,
            subscriptions=self._subscriptions,
            receiver=self._receiver,
            asker=self._fleet.asker,
            roll_calls=self._fleet.post.roll_calls,
            presence=self._presence,
            greeting=self._fleet.greeting,
            desk=self._desk,
        )
        self._link_events = PodEvents(
            states=self._states,
            system=system,
            reporter=reporter,
            sender=self._sender,
            receiver=self._receiver,
            peers=peers,
            members=self._fleet.members,
            presence=self._presence,
            greeting=self._fleet.greeting,
            heartbeat=heartbeat,
            log=OutageLog(self._pod_name, self._place),
            ending=self._ending,
        )
        self._supervisor = LinkSupervisor(
            transport=transport,
            settings=settings,
            system=system,
            sender=self._sender,
            receiver=self._receiver,
            subscriptions=self._subscriptions,
            watermark=self._watermark,
            heartbeat=heartbeat,
            peers=peers,
            own=own,
            events=self._link_events,
            cursors=cursors,
            primer=primer,
            jobs=jobs,
        )
        self._closing: asyncio.Event | None = None
        call_in_child(self._sender)

    def _make_log(self, own: OwnFrames, routing: Routing, signer: Signer | None) -> Mirror:
        settings = self._settings
        repeats = LogRepeats(self._event_ids, self._system)
        mirror = Mirror(routing.base, own.origin, settings.resume_max_bytes, self._system, repeats)
        max_frame_bytes = settings.max_event_bytes + FRAME_OVERHEAD_BYTES
        pages = LogPages(signer, repeats, max_frame_bytes, settings.resume_concurrency)
        self._pod_log = PodLog(mirror, pages, routing, self._sender.frames)
        self._resumer = Resumer(mirror, pages, routing, self._system, settings.origin_ttl_s, self._sender)
        return mirror

    def _describe(self) -> str:
        outbox = self._sender.outbox
        return (
            f"{self._settings.channel!r} over {hide_credentials(repr(self._transport))}, {super()._describe()}, "
            f"{outbox.messages} frames not confirmed"
        )

    @property
    def _place(self) -> str:
        """Where the pod takes part, for the log; without secrets."""
        settings = self._settings
        lanes = f" over {settings.lanes} lanes" if settings.lanes > 1 else ""
        broker = hide_credentials(repr(self._transport))
        return f"{broker}, channel {settings.channel!r}, {settings.routing}{lanes}"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def open(self) -> None:
        """Connect, and return once this pod is receiving. `async with` does the same, and closes at the end.

        With `wait=False` it returns at once, `degraded`, and raises nothing of what the broker says.

        Raises:
            TransportError: The broker can't be reached within `connect_timeout_s`, or refuses for good.
            AuthenticationError: The broker refused the credentials.
            ClosedError: The backplane was opened or closed before; create a new one.
            WrongLoopError: Called outside of the backplane's event loop.

        Cancellation: leaves nothing behind; the backplane is closed.
        """
        self._loop_binding.check()
        if self._supervisor.running or self._states.now != "connecting":
            raise ClosedError("a backplane can only be opened once: make another")
        now = self._system.monotonic()
        self._watermark.begin(now)
        self._coverage.begin(now)
        if not self._settings.wait:
            self._states.enter("degraded", "opened without waiting for the broker")
            self._receiver.opened_deaf()
            self._supervisor.launch()
            return
        try:
            await self._supervisor.start()
        except BaseException:
            await self._stop("it could not connect")
            raise

    def ready(self) -> Readiness:
        """Return whether this pod receives what others publish, or since when not and why; for a readiness probe."""
        if self._states.now == "live" and self._watermark.refusal is None:
            return Readiness(live=True, last_beat=self._receiver.last_beat_at)
        ending = self._states.now in {"draining", "closed"}
        deaf_since = self._watermark.deaf_since
        return Readiness(
            live=False,
            deaf_since=self._system.wall() if deaf_since is None else self._system.wall_at(deaf_since),
            reason=f"the backplane is {self._states.now}" if ending else self._deaf_reason,
            last_beat=self._receiver.last_beat_at,
        )

    @property
    def _deaf_reason(self) -> str:
        refusal = self._watermark.refusal
        return self._supervisor.reason if refusal is None or self._states.now != "live" else refusal

    def stats(self) -> Stats:
        """Return a snapshot of this pod's counters."""
        outbox, log = self._sender.outbox, self._pod_log
        return evolve(
            super().stats(),
            replayable_events=0 if log is None else log.mirror.events,
            replayable_bytes=0 if log is None else log.mirror.total_bytes,
            sent=outbox.confirmed,
            denied=self._subscriptions.denied_count,
            numbers_evicted=self._receiver.numbers_evicted,
            outbox_messages=outbox.messages,
            outbox_bytes=outbox.bytes,
        )

    async def flush(self, *, timeout_s: float | None = None) -> None:
        """Return once the broker has confirmed everything that was accepted before, or it was dropped and counted.

        Args:
            timeout_s: Seconds to wait; None: as long as it takes.

        Raises:
            TimeoutError: Not everything was confirmed within `timeout_s`; says how many frames are left.
            WrongLoopError: Called outside of the backplane's event loop.
        """
        self._loop_binding.check()
        left = await self._sender.flush(timeout_s)
        if left:
            events = "1 event is" if left == 1 else f"{left} events are"
            raise TimeoutError(f"{events} not confirmed after {timeout_s} s: {self._supervisor.reason}")

    async def drain(self, *, timeout_s: float | None = None) -> None:
        """Refuse publishes and connections from now on, end the connections, flush, and leave the link up.

        Args:
            timeout_s: Seconds to wait for the flush; None: as long as it takes.

        Raises:
            TimeoutError: Not everything was confirmed within `timeout_s`; says how many frames are left.
            WrongLoopError: Called outside of the backplane's event loop.
        """
        self._loop_binding.check()
        if self._states.now == "live":
            self._fleet.post.leave()
            self._link_events.beat()  # marks the end, so that a lost tail is noticed
        await super().drain(timeout_s=timeout_s)

    async def aclose(self, *, drain_s: float = 5.0) -> None:
        """Drain, then close: no task, socket or subscription is left. Closing it again is a no-op.

        Args:
            drain_s: Seconds for which it may go on sending what was accepted; what is left then is counted as
                `dropped["closed"]`.

        Raises:
            WrongLoopError: Called outside of the backplane's event loop.

        Cancellation: gives up draining and closes at once.
        """
        if self._states.now == "closed":
            return
        self._loop_binding.check()
        if self._closing is not None:
            await self._closing.wait()
            return
        self._closing = asyncio.Event()
        try:
            # Never opened: nobody would send what waits.
            await self.drain(timeout_s=drain_s if self._supervisor.running else 0)
        except TimeoutError as error:
            logger.warning("closing: %s", error)
        finally:
            try:
                await self._stop("aclose() was called")
            finally:
                self._closing.set()

    async def _stop(self, reason: str) -> None:
        try:
            await self._supervisor.stop()
            await self._fleet.post.roll_calls.aclose()
        finally:
            self._ending.end(reason)

    def _end_turn(self) -> Awaitable[None]:
        return (
            self._wait_for_room() if self._sender.room.is_short and self._states.now == "live" else super()._end_turn()
        )

    async def _wait_for_room(self) -> None:
        await super()._end_turn()
        await self._sender.room.wait(self._settings.publish_wait_s)


def _check_durable(options: Options) -> None:
    if options.get("routing") == "interest":
        raise ConfigurationError(
            "routing='interest' is not for a log, which every pod reads whole: leave it out; lanes spread the targets"
        )


def _make_signer(settings: Settings, system: System) -> Signer | None:
    if settings.signing_keys is None:
        return None
    if settings.signing_keys.short:
        logger.warning("a signing key is shorter than 16 bytes: a listener on the bus may find it; draw 32 at random")
    return Signer(settings.signing_keys, settings.origin_ttl_s, system)
