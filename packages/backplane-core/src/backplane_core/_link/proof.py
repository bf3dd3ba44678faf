"""How far the live link has proven what it received and what it sent: `LinkProof` asks it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from backplane_core._inbound.watermark import Watermark
from backplane_core._outbound.in_doubt import InDoubt, InDoubtSends
from backplane_core._runtime.faults import log_fault
from backplane_core.errors import ConfigurationError
from backplane_core.transport import Frame, Link, Proven, ProvingLink, Traits, find_disagreement

__all__ = ["LinkProof", "check_link"]


def check_link(traits: Traits, link: Link) -> None:
    """Raise unless a link does what its transport declares, and declares what it does.

    Raises:
        ConfigurationError: It does not. To go on would mean to report shorter gaps than there are, in silence.
    """
    if problem := find_disagreement(traits, link):
        raise ConfigurationError(problem)


class LinkProof:
    """Takes what one link after another proves to the watermark, and to the sends that are in doubt.

    Args:
        watermark: Up to when everything was received.
        in_doubt: What was sent that may be lost although it was confirmed.
    """

    def __init__(self, watermark: Watermark, in_doubt: InDoubtSends) -> None:
        self._watermark = watermark
        self._in_doubt = in_doubt
        self._link: ProvingLink | None = None
        self._opened_at = 0.0
        # Whether the link says itself up to when it received everything, as it has several streams.
        self._says_received = False
        self.is_reading = False
        """Whether a list that arrived is being taken."""

    @property
    def needs_sends(self) -> bool:
        """Whether the link proves more when something is sent."""
        return self._says_received

    def opened(self, link: Link, traits: Traits, now: float) -> None:
        """Record that another link is used from now on."""
        self._opened_at = now
        self.is_reading = False
        self._in_doubt.opened()
        self.moved(link, traits)

    def moved(self, link: Link, traits: Traits) -> None:
        """Record that the link was left for this one; what it sent may still be on its way."""
        self._link = cast("ProvingLink", link) if traits.nodes == "several" else None
        proven = None if self._link is None else self._link.proven()
        self._says_received = proven is not None and proven.received_until is not None
        self._watermark.beats_prove = not self._says_received
        self._watermark.ceiling = None if proven is None else proven.replicated_until

    def received(self) -> None:
        """Ask, before a list that arrived is taken."""
        self.is_reading = True
        if self._link is not None and self._says_received:
            self._take(self._link.proven())

    def taken(self) -> None:
        """Record that all that has arrived is taken."""
        self.is_reading = False

    def answered(self, written_at: float) -> None:
        """Record that the broker answered, once the reader has taken what may still be in the link, in this turn."""
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._advance_if_idle, written_at)

    def _advance_if_idle(self, written_at: float) -> None:
        if not self.is_reading:
            self._watermark.advance(written_at)

    def confirmed(self, frames: Sequence[Frame], now: float) -> None:
        """Ask, and record that the broker confirmed these frames."""
        if self._link is not None:
            proven = self._link.proven()
            self._watermark.ceiling = proven.replicated_until
            self._in_doubt.confirmed(frames, proven.replicated_until, now)

    def lost(self) -> InDoubt | None:
        """Return what is in doubt now that the link is dead; a link that fails to say is not trusted at all."""
        link, self._link = self._link, None
        if link is None:
            return None
        try:
            proven = link.proven()
        except Exception as error:  # noqa: BLE001 -- a link's fault must not end the life of links
            log_fault("the link failed", error)
            proven = Proven(received_until=None, replicated_until=self._opened_at, deposed=True)
        else:
            if self._says_received:
                self._take(proven)
        return self._in_doubt.lost(proven)

    def _take(self, proven: Proven) -> None:
        self._watermark.ceiling = proven.replicated_until
        if proven.received_until is not None:
            self._watermark.advance(proven.received_until)
