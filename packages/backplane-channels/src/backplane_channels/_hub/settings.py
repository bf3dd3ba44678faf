"""What all hubs of a layer have in common: `HubSettings`."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# -- Channels is not typed

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen
from backplane_core import Gap

from backplane_channels._hub.mailbox import Bounds
from backplane_channels.signals import gap_reported

__all__ = ["HubSettings"]

logger: Final = logging.getLogger("backplane.channels")


@frozen(kw_only=True)
class HubSettings:
    """How a layer's hubs connect, how much they keep, and to whom they report.

    Args:
        layer: The layer.
        url: The broker's.
        options: The backplanes'.
        gap_type: The type of messages that report a gap; None: consumers get none.
        capacity_bytes: Bytes that may wait for one consumer.
    """

    layer: Any
    url: str
    options: Mapping[str, Any]
    gap_type: str | None
    capacity_bytes: int

    def bounds_of(self, channel: str) -> Bounds:
        """Return how much may wait for a channel."""
        layer = self.layer
        return Bounds(messages=layer.get_capacity(channel), size=self.capacity_bytes, expiry_s=layer.expiry)

    def report(self, gap: Gap) -> None:
        """Send the signal of a gap of this process; the log says it if nobody else does."""
        sender = type(self.layer)
        answers: list[tuple[Any, Any]] = gap_reported.send_robust(sender, layer=self.layer, gap=gap)
        for _, error in answers:
            if isinstance(error, Exception):
                logger.warning("a receiver of gap_reported raised %s", type(error).__name__)
        if self.gap_type is None and not gap.is_open and not gap_reported.has_listeners(sender):
            logger.warning(
                'consumers may have missed messages for %.1f s (%s): set "on_gap" to notify them',
                gap.until - gap.since,
                gap.cause,
            )
