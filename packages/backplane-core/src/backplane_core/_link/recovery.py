"""Sends a log again what it had confirmed and has forgotten: `LinkRecovery`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from attrs import frozen

from backplane_core._link.patience import Patience
from backplane_core._outbound.outbox import BATCH_BYTES
from backplane_core._outbound.sender import Sender
from backplane_core._runtime.logging import logger
from backplane_core.errors import RefusedError
from backplane_core.transport import DurableLink, Frame

__all__ = ["LinkRecovery"]


@frozen(kw_only=True)
class LinkRecovery:
    """Compares each new link's logs with what the links before it had confirmed; see `ResendRing`.

    Args:
        sender: Has what was confirmed lately.
        patience: Waits for answers.
    """

    sender: Sender
    patience: Patience

    async def run(self, link: DurableLink) -> None:
        """Return once the logs have what they forgot, as far as it is kept; nothing else may be sent before.

        Raises:
            TransportError: The link is dead, or the broker does not answer.
        """
        ring = self.sender.ring
        if ring is None or not ring.last:
            return
        forgotten = await self._find_forgotten(link, ring.last)
        if not forgotten:
            return
        frames = self.sender.confirmed_lately(forgotten)
        for batch in _batches(frames):
            await self._send(link, batch)
        ring.sent_again(forgotten, link.confirmed())
        # What can't be sent again shows by its number, also where nothing is published any longer.
        self.sender.doubt(await self._find_forgotten(link, ring.let_go(forgotten)))
        logger.warning(
            "the log came back without what it had confirmed: %d frames on %d channels were sent again",
            len(frames),
            len(forgotten),
        )

    async def _find_forgotten(self, link: DurableLink, cursors: Mapping[str, str]) -> Collection[str]:
        if not cursors:
            return ()
        return await self.patience.wait(link.find_forgotten(cursors))

    async def _send(self, link: DurableLink, batch: Sequence[Frame]) -> None:
        try:
            await self.patience.wait(link.send(self.sender.signed(batch)))
        except RefusedError as error:
            self.sender.refused_again(batch, error.refusals)
            if error.ends_link:
                raise


def _batches(frames: Sequence[Frame]) -> Iterator[Sequence[Frame]]:
    """Yield the frames in order, as many at once as one write carries."""
    batch: list[Frame] = []
    size = 0
    for frame in frames:
        batch.append(frame)
        size += len(frame[1])
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
