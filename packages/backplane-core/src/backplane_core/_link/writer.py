"""From the outbox to one link, batch by batch: `LinkWriter`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, cast

from attrs import frozen

from backplane_core._link.patience import Patience
from backplane_core._link.proof import LinkProof
from backplane_core._outbound.sender import Sender
from backplane_core._protocol.heartbeat import Heartbeat
from backplane_core._runtime.system import System
from backplane_core.errors import AuthenticationError, RefusedError
from backplane_core.transport import DurableLink, Link, Transport

__all__ = ["BUSY_FRAMES", "BUSY_TURNS", "LinkWriter"]

BUSY_FRAMES: Final = 256
BUSY_TURNS: Final = 2
"""A batch larger than publishers can fill in one turn of the loop shows that they are faster than the link. So the
next one, unless it is full, waits two turns: in batches of some 500, a frame costs a tenth less on either side."""


@frozen(kw_only=True)
class LinkWriter:
    """Writes what was accepted, one batch after the other; each waits for the confirmation of the last.

    Args:
        transport: Says what a confirmation proves.
        sender: Has the frames.
        heartbeat: Decides whether the broker still confirms.
        proof: Records what confirmations prove.
        system: The clock.
        patience: Waits for answers, while no heartbeat watches the link.
    """

    transport: Transport
    sender: Sender
    heartbeat: Heartbeat
    proof: LinkProof
    system: System
    patience: Patience

    async def run(self, link: Link) -> None:
        """Write everything that was accepted since the last write, then wait for its confirmation; repeat for ever."""
        while True:
            frames = await self._write_batch(link)
            if frames > BUSY_FRAMES and not self.sender.has_batch:
                for _ in range(BUSY_TURNS):
                    await asyncio.sleep(0)

    async def prove(self, link: Link) -> None:
        """Return once the broker has answered a frame that no pod hears, which proves that this pod may publish.

        Raises:
            TransportError: The link is dead, or the broker does not answer.
            AuthenticationError: This pod may not publish there.
        """
        try:
            await self.patience.wait(link.send(self.sender.question()))
        except RefusedError as error:
            raise AuthenticationError(str(error)) from None

    async def pass_beat(self, link: Link) -> None:
        """Write what was accepted until now, a beat at its end, and return once the broker has all of it.

        Raises:
            TransportError: The link is dead, or the broker does not answer.
            AuthenticationError: This pod may not publish what every pod does.
        """
        end = self.sender.end()
        while not end.is_passed:
            await self.patience.wait(self._write_batch(link))

    async def _write_batch(self, link: Link) -> int:
        """Write one batch, as soon as there is one, and return how many frames that were, all of them settled."""
        sender, monotonic = self.sender, self.system.monotonic
        frames = await sender.next_batch()
        self.heartbeat.writing()
        written_at = monotonic()
        try:
            await link.send(frames)
        except RefusedError as error:
            answer = sender.refused(error.refusals, ends_link=error.ends_link, cursors=self._cursors(link))
            self.proof.confirmed(answer.taken, monotonic())
            sender.limit(self.transport.traits.max_payload_bytes)  # it may know more now
            if answer.denied is not None:
                raise AuthenticationError(answer.denied) from None
            if error.ends_link:
                raise
        self.heartbeat.confirmed()
        self.proof.confirmed(sender.outbox.in_flight, monotonic())
        if self.transport.traits.single_stream:
            self.proof.answered(written_at)
        sender.confirmed(self._cursors(link))
        return len(frames)

    def _cursors(self, link: Link) -> Mapping[str, str] | None:
        return cast("DurableLink", link).confirmed() if self.transport.traits.durable else None
