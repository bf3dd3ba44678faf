"""From the targets that this pod holds to the channels that it hears: `ChannelSubscriber`."""

from __future__ import annotations

from collections.abc import Sequence

from backplane_core._inbound.coverage import Coverage
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._inbound.watermark import Watermark
from backplane_core._local.subscriber import Subscriber
from backplane_core._protocol.routing import Routing
from backplane_core._runtime.system import System
from backplane_core.errors import TargetDeniedError
from backplane_core.target import Target

__all__ = ["ChannelSubscriber"]


class ChannelSubscriber(Subscriber):
    """Has the link subscribe to what the registry holds, and waits for the broker to confirm it.

    Args:
        routing: Maps targets to channels.
        subscriptions: Knows what is wanted and what is confirmed.
        watermark: Knows whether the link is live.
        coverage: Knows since when a channel was asked for, and is not heard.
        system: The clocks.
    """

    def __init__(
        self, routing: Routing, subscriptions: Subscriptions, watermark: Watermark, coverage: Coverage, system: System
    ) -> None:
        self._routing = routing
        self._subscriptions = subscriptions
        self._watermark = watermark
        self._coverage = coverage
        self._system = system

    def touch(self, target: Target) -> None:
        """Record that the pod gained its first or lost its last connection of a target."""
        channel = self._routing.interest(target)
        if channel is None:
            return
        if self._subscriptions.touch(target):
            self._coverage.ask(channel, self._system.monotonic(), owed=self._is_deaf)
        else:
            self._coverage.forget(channel)

    async def confirm(self, targets: Sequence[Target]) -> bool:
        """Wait until the broker confirmed that all of these are heard; False at once while the link is down.

        Raises:
            TargetDeniedError: The broker refused one of them.
        """
        for channel in self._channels(targets):
            if not self._is_deaf:
                await self._subscriptions.wait_confirmed(channel)
            if (reason := self._subscriptions.denial(channel)) is not None:
                raise TargetDeniedError(channel, reason)
        return not self.owe(targets) and not self._is_deaf

    def owe(self, targets: Sequence[Target]) -> bool:
        """Owe a gap for each of these that is not confirmed; return whether there is one."""
        missing = [channel for channel in self._channels(targets) if not self._subscriptions.confirmed(channel)]
        self._coverage.owe(missing)
        return bool(missing)

    def _channels(self, targets: Sequence[Target]) -> list[str]:
        return [channel for target in targets if (channel := self._routing.interest(target)) is not None]

    @property
    def _is_deaf(self) -> bool:
        return self._watermark.deaf_since is not None
