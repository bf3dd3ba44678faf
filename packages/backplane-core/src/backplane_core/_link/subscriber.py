"""Brings what one link hears in line with what this pod holds: `LinkSubscriber`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Final, cast

from attrs import frozen

from backplane_core._inbound.cursors import Cursors
from backplane_core._inbound.receiver import Receiver
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._link.patience import Patience
from backplane_core._runtime.system import System
from backplane_core.errors import AuthenticationError, RefusedError
from backplane_core.transport import DurableLink, Link

__all__ = ["SUBSCRIBE_BATCH", "LinkSubscriber"]

SUBSCRIBE_BATCH: Final = 512
"""Channels in one command: enough to make the round trip negligible, few enough not to block a broker's loop."""


@frozen(kw_only=True)
class LinkSubscriber:
    """Subscribes and unsubscribes, in batches, until the broker has confirmed all that is wanted.

    Args:
        subscriptions: Knows what is wanted.
        receiver: Is notified of what is heard.
        system: The clock.
        patience: Waits for answers.
        cursors: Where to resume in the logs; None: the broker keeps none.
    """

    subscriptions: Subscriptions
    receiver: Receiver
    system: System
    patience: Patience
    cursors: Cursors | None = None

    async def settle(self, link: Link) -> None:
        """Ask in batches until nothing is left to ask for.

        Raises:
            TransportError: The link is dead, or the broker does not answer.
            AuthenticationError: This pod may not hear a channel that every pod hears.
        """
        subscriptions, asked = self.subscriptions, True
        while asked or subscriptions.pending:
            subscribe, unsubscribe = subscriptions.plan(SUBSCRIBE_BATCH, self.system.monotonic())
            if subscribe:
                await self._subscribe(link, subscribe)
            if unsubscribe:
                await self._with_timeout(link.unsubscribe(unsubscribe))
                self.receiver.unsubscribed(unsubscribe)
            asked = bool(subscribe or unsubscribe)
            # A link that answers without a wait, or churn that cancels out, must not hold the loop.
            await asyncio.sleep(0)
            if subscriptions.changed.is_set():
                await self._share_batch()

    async def _subscribe(self, link: Link, channels: Sequence[str]) -> None:
        subscriptions, receiver = self.subscriptions, self.receiver
        # Before the answer: frames of a channel that is heard again may be read before this task goes on.
        receiver.owe(subscriptions.denied_since(channels))
        try:
            await self._with_timeout(self._hear(link, channels))
        except RefusedError as error:
            for refusal in error.refusals:
                if subscriptions.is_base(channels[refusal.index]):
                    raise AuthenticationError(refusal.reason) from None
            now = self.system.monotonic()
            for refusal in error.refusals:
                channel = channels[refusal.index]
                is_news = subscriptions.deny(channel, refusal.reason, now)
                receiver.denied(channel, refusal.reason, is_news=is_news)
            refused = {refusal.index for refusal in error.refusals}
            channels = [channel for place, channel in enumerate(channels) if place not in refused]
        receiver.subscribed(channels)
        subscriptions.confirm(channels)

    async def _hear(self, link: Link, channels: Sequence[str]) -> None:
        cursors = self.cursors
        if cursors is None:
            await link.subscribe(channels)
        else:
            after = cursors.after(channels)
            cursors.began(after, await cast("DurableLink", link).resume(channels, after))

    async def follow(self, link: Link) -> None:
        """Ask for what changes, for ever.

        Raises:
            TransportError: The link is dead, or the broker does not answer.
        """
        while True:
            await self.receiver.settled()
            await self._changed()
            await self.settle(link)

    async def _changed(self) -> None:
        """Return once there may be something to ask for."""
        look_at = self.subscriptions.next_look
        with suppress(TimeoutError):
            async with asyncio.timeout(None if look_at is None else look_at - self.system.monotonic()):
                await self.subscriptions.changed.wait()
        await self._share_batch()

    async def _share_batch(self) -> None:
        """Wait one more turn of the loop, so that what many tasks associate at once shares a batch."""
        await asyncio.sleep(0)
        self.subscriptions.changed.clear()

    async def _with_timeout(self, asking: Awaitable[None]) -> None:
        """Limit the wait for the broker: no heartbeat watches a link that is not live yet."""
        await self.patience.wait(asking, "confirms no subscription")
