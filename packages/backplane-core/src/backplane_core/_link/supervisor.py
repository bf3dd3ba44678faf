"""The life of links: keeps one live, replaces it for ever, writes the outbox, subscribes, watches the heartbeat.

What decides is sans-IO (`Backoff`, `Heartbeat`, `Outbox`, `Subscriptions`); this file is the tasks around it:

    run ── open ── serve ─┬─ read       link.receive() -> receiver
          (back-off)      ├─ subscribe  registry -> link.subscribe(); the first time round: live
                          ├─ write      outbox -> link.send()
                          ├─ watch      beats; a deaf or stalled link is given up
                          └─ handover   a link that is about to be closed hands over to the next one
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from backplane_core._inbound.cursors import Cursors
from backplane_core._inbound.receiver import Receiver
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._inbound.watermark import Watermark
from backplane_core._jobs.current_link import CurrentLink
from backplane_core._link.backoff import Backoff
from backplane_core._link.ending import most_telling
from backplane_core._link.events import LinkEvents
from backplane_core._link.handover import Handover, move_when_asked
from backplane_core._link.handover_options import HandoverOptions
from backplane_core._link.patience import Patience
from backplane_core._link.proof import LinkProof, check_link
from backplane_core._link.recovery import LinkRecovery
from backplane_core._link.subscriber import LinkSubscriber
from backplane_core._link.watch import LinkWatch
from backplane_core._link.writer import LinkWriter
from backplane_core._log.primer import Primer
from backplane_core._outbound.in_doubt import InDoubtSends
from backplane_core._outbound.sender import Sender
from backplane_core._protocol.heartbeat import Heartbeat
from backplane_core._protocol.own_frames import OwnFrames
from backplane_core._protocol.peers import Peers
from backplane_core._runtime.credentials import hide_credentials
from backplane_core._runtime.faults import log_fault
from backplane_core._runtime.logging import logger
from backplane_core._runtime.system import System
from backplane_core._runtime.tasks import run_bounded
from backplane_core.errors import ConfigurationError, TransportError
from backplane_core.options import Settings
from backplane_core.queues import QueueLink
from backplane_core.transport import DurableLink, Link, Transport

__all__ = ["LinkSupervisor"]

LINK_CLOSE_S: Final = 1.0
"""A frozen broker must not hold up the next link or a shutdown."""


class LinkSupervisor:
    """One backplane's way to the broker.

    Args:
        transport: Opens links.
        settings: The settings of the backplane.
        system: The clock and the randomness.
        sender: Has the frames to be sent.
        receiver: Takes the frames received.
        subscriptions: The channels to subscribe to.
        watermark: Records what the link proves.
        heartbeat: Decides when to beat, and when the link is dead.
        peers: Knows whether frames may be sent twice.
        own: How this pod's own frames are recognized.
        events: Notified of what happens to the link.
        cursors: How far the logs are read; None: the broker keeps none.
        primer: Reads what is in the logs before this pod listens; None: nobody asks for that.
        jobs: Takes jobs over the link; None: the broker keeps none.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        settings: Settings,
        system: System,
        sender: Sender,
        receiver: Receiver,
        subscriptions: Subscriptions,
        watermark: Watermark,
        heartbeat: Heartbeat,
        peers: Peers,
        own: OwnFrames,
        events: LinkEvents,
        cursors: Cursors | None = None,
        primer: Primer | None = None,
        jobs: CurrentLink | None = None,
    ) -> None:
        self._broker = hide_credentials(repr(transport))
        self.reason = f"no answer yet from {self._broker}"
        self._primer = primer
        self._jobs = jobs
        self._cursors = cursors
        self._transport = transport
        self._settings = settings
        self._monotonic = system.monotonic
        self._proof = LinkProof(watermark, InDoubtSends(settings.channel, own.pod_start))
        patience = Patience(settings.connect_timeout_s, self._proof, system)
        self._moving = HandoverOptions(
            transport=transport,
            mark=f"{settings.channel}:@{system.new_name()}",
            system=system,
            peers=peers,
            vital=subscriptions.base,
            patience=patience,
            observer=self,
        )
        self._sender = sender
        self._receiver = receiver
        self._subscriptions = subscriptions
        self._heartbeat = heartbeat
        self._events = events
        self._backoff = Backoff(system.random)
        self._runner: asyncio.Task[None] | None = None
        # Set once a link is live, or none ever will be.
        self._started = asyncio.Event()
        self._start_error: Exception | None = None
        self._stopping = False
        # Whether a link is live only once a beat has passed: the first one, and the next after one that was denied, or
        # died of one frame. Otherwise an answer to a question is enough.
        self._must_prove = True
        self._subscriber = LinkSubscriber(
            subscriptions=subscriptions,
            receiver=receiver,
            system=system,
            patience=patience,
            cursors=cursors,
        )
        self._recovery = LinkRecovery(sender=sender, patience=patience)
        self._writer = LinkWriter(
            transport=transport,
            sender=sender,
            heartbeat=heartbeat,
            proof=self._proof,
            system=system,
            patience=patience,
        )
        self._watch = LinkWatch(
            transport=transport,
            sender=sender,
            heartbeat=heartbeat,
            proof=self._proof,
            system=system,
            events=events,
        )

    @property
    def running(self) -> bool:
        """Whether it was started."""
        return self._runner is not None

    def launch(self) -> None:
        """Start, and leave it to the events to say how it goes: nothing is given up, whatever the broker says."""
        self._started.set()
        self._runner = asyncio.create_task(self._run(), name="backplane")

    async def start(self) -> None:
        """Start, and return once a link is live.

        Raises:
            TransportError: None was within `connect_timeout_s`, or trying again can't help.
            ConfigurationError: The transport's links are not what it declares.
        """
        timeout_s = self._settings.connect_timeout_s
        self._runner = asyncio.create_task(self._run(), name="backplane")
        try:
            async with asyncio.timeout(timeout_s):
                await self._started.wait()
        except TimeoutError:
            raise TransportError(f"no connection within {timeout_s:g} s: {self.reason}") from None
        if self._start_error is not None:
            raise self._start_error

    async def stop(self) -> None:
        """End, and wait for the end: no task and no socket is left."""
        self._stopping = True
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])

    async def _run(self) -> None:
        try:
            await self._use_links()
        except asyncio.CancelledError:
            if not self._stopping:  # `asyncio.run` ends, and cancels whatever is left
                self._events.abandoned()
            raise

    async def _use_links(self) -> None:
        while True:
            failure, retryable, silent = "", True, False
            try:
                await self._use_one_link()
            except TimeoutError:
                failure, silent = f"no answer in time from {self._broker}", True
            except (TransportError, ConfigurationError) as error:
                failure = str(error)
                retryable = isinstance(error, TransportError) and error.retryable
                if not retryable and self._refuse_start(error):
                    return
            except Exception as error:  # noqa: BLE001 -- a transport's fault is a state and a log line, never silent
                failure = log_fault("the transport failed", error)
            # Before Python 3.13 a task group forgets that it was cancelled when one of its tasks failed meanwhile.
            if self._stopping:
                return
            if failure:
                self.reason = failure
                if self._started.is_set():
                    self._events.failed(failure, retryable=retryable)
            await asyncio.sleep(self._backoff.lost(self._monotonic(), retryable=retryable, silent=silent))

    async def _use_one_link(self) -> None:
        """Open a link and use it until it dies; raise if there was none, or if trying again can't help."""
        async with asyncio.timeout(self._settings.connect_timeout_s):
            link = await self._transport.open()
        try:
            check_link(self._transport.traits, link)
            link = move_when_asked(link, self._moving)
            await self._serve(link)
        except ConfigurationError as error:
            logger.error("the transport can't be used: %s", error)
            raise
        except TransportError:
            raise
        except Exception as error:  # noqa: BLE001 -- a fault of ours must not end the life of links, in silence
            self.reason = log_fault("using the link failed", error)
        finally:
            await run_bounded(link.aclose(), LINK_CLOSE_S)

    def _refuse_start(self, error: Exception) -> bool:
        """Let `start` raise what trying again can't change; False if it has returned already."""
        if self._started.is_set():
            return False
        self._start_error = error
        self._started.set()
        return True

    async def _serve(self, link: Link) -> None:
        """Use a link until it dies; raise if the next one will die as well, for want of a permission."""
        opened_at = self._monotonic()
        self._heartbeat.link_opened()
        self._sender.limit(self._transport.traits.max_payload_bytes)
        failure: TransportError | None = None
        is_abandoned = False
        try:
            self._proof.opened(_current(link), self._transport.traits, opened_at)
            failure = await self._run_tasks(link)
        except asyncio.CancelledError:
            is_abandoned = not self._stopping
            raise
        finally:
            if self._primer is not None:
                self._primer.pages.lost()
            if self._jobs is not None:
                self._jobs.lost()
            in_doubt = self._proof.lost()
            self._subscriptions.lost()
            if not is_abandoned:
                self._events.lost(self.reason, in_doubt)
        if failure is not None and not failure.retryable:
            self._must_prove = True
            raise failure

    async def _run_tasks(self, link: Link) -> TransportError | None:
        """Read, write, subscribe and watch, until one of these finds that the link is dead; return why, if it said."""
        failure: TransportError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._read(link), name="backplane-read"),
                    group.create_task(self._subscribe(link, group), name="backplane-subscribe"),
                ]
                if isinstance(link, Handover):
                    tasks.append(group.create_task(link.run(), name="backplane-handover"))
                # In here, and not at the end of the group. To wake this task it cancels it, and before Python 3.13 it
                # takes that back only in here (python/cpython#116720). Otherwise a later `asyncio.timeout`, of an early
                # 3.11 as Debian 12's 3.11.2, let the CancelledError through instead of a TimeoutError: the first broker
                # that did not answer ended the life of links, in silence.
                await asyncio.wait(tasks)
        except* TransportError as errors:
            failure = most_telling(errors)
            self.reason = str(failure)
        except* Exception as errors:  # noqa: BLE001 -- a link's fault must not end the life of links
            self.reason = log_fault("the link failed", errors)
        return failure

    def moved(self, link: Link, reason: str) -> None:
        """Record that another link took over."""
        self._proof.moved(link, self._transport.traits)
        self._events.moved(reason)

    def refused(self, channel: str, reason: str) -> None:
        """Record that a channel is heard no longer, as the link's node refuses it."""
        is_news = self._subscriptions.deny(channel, reason, self._monotonic())
        self._receiver.denied(channel, reason, is_news=is_news)

    async def _read(self, link: Link) -> None:
        async for batch in link.receive():
            self._proof.received()
            await self._receiver.take(batch)
            self._proof.taken()
        raise TransportError("the link ended without saying why")

    async def _subscribe(self, link: Link, group: asyncio.TaskGroup) -> None:
        """Subscribe to all that is wanted, go live once this pod has proven that it may publish, and follow changes."""
        if self._primer is not None and self._cursors is not None:
            self._primer.pages.opened(cast("DurableLink", link))
            await self._primer.run([*self._subscriptions.base], self._cursors.places)
        await self._subscriber.settle(link)
        if self._is_durable:  # a question would be an entry that everybody reads: a beat proves as much
            await self._recovery.run(cast("DurableLink", link))
        else:
            await self._writer.prove(link)
        self._sender.limit(self._transport.traits.max_payload_bytes)
        must_prove = self._must_prove or self._is_durable or self._sender.kills_links
        if must_prove:
            self._events.beat()
            await self._writer.pass_beat(link)
        await self._go_live()
        if self._jobs is not None:
            self._jobs.opened(cast("QueueLink", link))
        if not must_prove:
            self._events.beat()
        group.create_task(self._writer.run(link), name="backplane-write")
        group.create_task(self._watch.run(link), name="backplane-watch")
        await self._subscriber.follow(link)

    async def _go_live(self) -> None:
        self._must_prove = False
        self._backoff.live(self._monotonic())
        self.reason = "connected"
        await self._events.live(self.reason)
        self._started.set()

    @property
    def _is_durable(self) -> bool:
        return self._transport.traits.durable


def _current(link: Link) -> Link:
    return link.current if isinstance(link, Handover) else link
