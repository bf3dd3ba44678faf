"""From the targets that this pod holds to the channels that it hears: `ChannelSubscriber`."""

from __future__ import annotations

from collections.abc import Sequence

from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._inbound.watermark import Watermark
from backplane_core._local.states import States
from backplane_core._local.subscriber import Subscriber
from backplane_core._protocol.routing import Routing
from backplane_core._runtime.system import System
from backplane_core.target import Target

__all__ = ["ChannelSubscriber"]


class ChannelSubscriber(Subscriber):
    """Has the link subscribe to what the registry holds, and waits for the broker to confirm it.

    Args:
        routing: Maps targets to channels.
        subscriptions: Knows what is wanted and what is confirmed.
        states: Whether the link is live.
        watermark: A span of what may be missed begins where something is asked for.
        system: The clocks.
    """

    def __init__(
        self, routing: Routing, subscriptions: Subscriptions, states: States, watermark: Watermark, system: System
    ) -> None:
        self._routing = routing
        self._subscriptions = subscriptions
        self._states = states
        self._watermark = watermark
        self._system = system

    def touch(self, target: Target) -> None:
        """Record that the pod gained its first or lost its last connection of a target."""
        if self._subscriptions.touch(target):
            self._watermark.asked(self._system.monotonic())

    async def confirm(self, targets: Sequence[Target]) -> bool:
        """Wait until the broker confirmed that all of these are heard; False at once while the link is down."""
        subscriptions = self._subscriptions
        channels = [channel for target in targets if (channel := self._routing.interest(target)) is not None]
        for channel in channels:
            if self._states.now != "live":
                return False
            await subscriptions.wait_confirmed(channel)
        return self._states.now == "live" and all(map(subscriptions.confirmed, channels))
