"""Beats, and the end of a link that is deaf or stalled: `LinkWatch` does what `Heartbeat` decides."""

from __future__ import annotations

import asyncio

from attrs import frozen

from backplane_core._link.events import LinkEvents
from backplane_core._link.handover import Handover
from backplane_core._link.proof import LinkProof
from backplane_core._outbound.sender import Sender
from backplane_core._protocol.heartbeat import Heartbeat
from backplane_core._runtime.system import System
from backplane_core.errors import TransportError
from backplane_core.transport import Link, Transport

__all__ = ["LinkWatch"]


@frozen(kw_only=True)
class LinkWatch:
    """Watches one live link after another.

    Args:
        transport: Says what a frame may be at most, and what answers prove.
        sender: Sends the beats and the questions.
        heartbeat: Decides.
        proof: Knows whether this pod is busy reading, which is no fault of the link.
        system: The clock.
        events: Sends a beat, and lets time pass.
    """

    transport: Transport
    sender: Sender
    heartbeat: Heartbeat
    proof: LinkProof
    system: System
    events: LinkEvents

    async def run(self, link: Link) -> None:
        """Watch a link for as long as it lives.

        Raises:
            TransportError: It is deaf or stalled.
        """
        sender, heartbeat = self.sender, self.heartbeat
        while True:
            await asyncio.sleep(heartbeat.tick_s)
            sender.limit(self.transport.traits.max_payload_bytes)
            now = self.system.monotonic()
            self.events.tick(now)
            decision = heartbeat.tick(
                now,
                sender.next_number,
                unmarked_tail=sender.has_unmarked_tails,
                is_held_up=self.proof.is_reading or (isinstance(link, Handover) and link.holds_sends),
            )
            if decision == "beat":
                self.events.beat()
            elif decision == "ask" and self._asks:
                sender.ask()
            elif decision == "deaf":
                raise TransportError(
                    "this pod does not hear itself: the link is half-open, or the broker delivers nothing"
                )
            elif decision == "stalled":
                raise TransportError("the broker confirms nothing: it is frozen, or the line is cut")

    @property
    def _asks(self) -> bool:
        """Whether an answer of the broker proves anything; a log's reader proves all by itself."""
        traits = self.transport.traits
        return not traits.durable and (traits.single_stream or self.proof.needs_sends)
