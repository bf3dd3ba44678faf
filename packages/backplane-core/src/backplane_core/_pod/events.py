"""What the life of links does to a pod: its state, its gaps, its beats."""

from __future__ import annotations

from backplane_core._fleet.greeting import Greeting
from backplane_core._fleet.members import Members
from backplane_core._inbound.receiver import Receiver
from backplane_core._link.events import LinkEvents
from backplane_core._link.outage_log import OutageLog
from backplane_core._local.states import States
from backplane_core._outbound.in_doubt import InDoubt
from backplane_core._outbound.sender import Sender
from backplane_core._pod.ending import Ending
from backplane_core._presence.driver import PresenceDriver
from backplane_core._protocol.heartbeat import Heartbeat
from backplane_core._protocol.peers import Peers
from backplane_core._runtime.reporter import ABANDONED, Reporter
from backplane_core._runtime.system import System
from backplane_core.observe import LinkChanged

__all__ = ["PodEvents"]


class PodEvents(LinkEvents):
    """What a pod does when its link goes live, is lost, or moves; and how it beats."""

    def __init__(
        self,
        *,
        states: States,
        system: System,
        reporter: Reporter,
        sender: Sender,
        receiver: Receiver,
        peers: Peers,
        members: Members,
        presence: PresenceDriver,
        greeting: Greeting,
        heartbeat: Heartbeat,
        log: OutageLog,
        ending: Ending,
    ) -> None:
        self._states = states
        self._system = system
        self._reporter = reporter
        self._counters = reporter.counters
        self._sender = sender
        self._receiver = receiver
        self._peers = peers
        self._members = members
        self._presence = presence
        self._greeting = greeting
        self._heartbeat = heartbeat
        self._log = log
        self._ending = ending

    async def live(self, reason: str) -> None:
        await self._receiver.live()
        self._members.live()
        self._presence.live()
        self._greeting.live()
        self._counters.links += 1  # behind it: closing may end this before anyone is notified
        self._reporter.report(LinkChanged(live=True, reason=reason, links=self._counters.links))
        if self._states.now in {"connecting", "degraded"}:
            self._log.live(self._system.monotonic(), self._receiver.notified_of_outage)
            self._states.enter("live", reason)

    def failed(self, reason: str, *, retryable: bool) -> None:
        if self._states.now == "degraded":
            self._log.failed(self._system.monotonic(), reason, retryable=retryable)

    def lost(self, reason: str, in_doubt: InDoubt | None) -> None:
        self._receiver.lost(reason, None if in_doubt is None else in_doubt.since)
        self._peers.link_lost()
        self._members.lost()
        self._presence.presence.lost()
        self._greeting.close()
        # An unnumbered pod must not get copies: what was in flight is then counted, and a hole for the others.
        self._sender.link_lost(reason, resend=self._peers.can_deduplicate(self._system.monotonic()))
        if in_doubt is not None:
            self._mark_doubt(in_doubt)
        self._reporter.report(LinkChanged(live=False, reason=reason, links=self._counters.links))
        if self._states.now == "live":
            self._log.lost(self._system.monotonic(), reason)
            self._states.enter("degraded", reason)
        else:
            self.failed(reason, retryable=True)  # it never went live

    def _mark_doubt(self, in_doubt: InDoubt) -> None:
        self._sender.doubt(in_doubt.sent)
        if in_doubt.deposed:
            for channel, events in in_doubt.sent.items():
                if events:
                    self._reporter.report_dropped("in_doubt", channel, events)

    def abandoned(self) -> None:
        self._ending.end(ABANDONED)

    def moved(self, reason: str) -> None:
        self._counters.links += 1
        self._peers.link_lost()
        self._reporter.report(LinkChanged(live=True, reason=f"moved: {reason}", links=self._counters.links))

    def tick(self, now: float) -> None:
        # A loop that stood still was deaf: its own lateness must not pass for the silence of others.
        self._members.tick(now, 2 * self._heartbeat.tick_s)

    def beat(self) -> None:
        if self._states.now == "closed":
            return
        now = self._system.monotonic()
        if self._sender.beat(now):
            self._heartbeat.beat(self._sender.next_number)
        self._receiver.expire(now)
