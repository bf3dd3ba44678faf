"""The consumers of one event loop, and their backplane: `Hub`."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from contextlib import suppress
from secrets import token_hex
from time import monotonic
from typing import Any, Final, Self

from backplane_core import BaseBackplane, ClosedError, EventEncodeError, Fleet, Target, connect

from backplane_channels._hub.mailbox import Mailbox, Notices
from backplane_channels._hub.messages import Message, pack
from backplane_channels._hub.names import ChannelName
from backplane_channels._hub.settings import HubSettings
from backplane_channels._hub.targets import channel_target

__all__ = ["Hub"]

logger: Final = logging.getLogger("backplane.channels")

PATIENCE_S: Final = 1.0
"""Seconds for which a loop's first consumer waits for the broker: longer than one takes to answer, and shorter than a
WebSocket's handshake may take. After that it starts without it, and gets a gap once it is there."""
BETWEEN_LINES_S: Final = 10.0
"""Seconds between two lines about consumers that are too slow: readable, and soon enough to act on."""


class Watch(weakref.ref[ChannelName]):
    """Notices that a channel's name is gone, and knows what it was."""

    __slots__ = ("channel",)
    channel: str

    def __new__(cls, name: ChannelName, gone: Callable[[weakref.ref[ChannelName]], None]) -> Self:
        """Watch a name."""
        watch = super().__new__(cls, name, gone)
        watch.channel = str.__str__(name)
        return watch


class Hub(Notices):
    """The consumers of one event loop. It opens a backplane in that loop with the first of them.

    Args:
        settings: The layer's.
        loop: The running loop.
    """

    def __init__(self, settings: HubSettings, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._loop = loop
        self._id = token_hex(8)
        self._mark = f".{self._id}!"
        options: dict[str, Any] = {**settings.options, "on_gap": settings.report}
        self._connecting = connect(settings.url, **options)
        self._opening: asyncio.Task[BaseBackplane] | None = None
        self._backplane: BaseBackplane | None = None
        self.mailboxes: dict[str, Mailbox] = {}
        """By the channel's name, as plain text: a key must not keep a name alive."""
        self._watches: dict[str, Watch] = {}
        self.rejected_count = 0
        """Events that were no messages."""
        self._drops = 0
        self._logged_at = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether it has a backplane that takes messages."""
        return self._backplane is not None and self._backplane.state not in {"draining", "closed"}

    @property
    def is_over(self) -> bool:
        """Whether it has ended, with its loop or before."""
        return self._loop.is_closed() or (self._backplane is not None and not self.is_open)

    @property
    def backplane(self) -> BaseBackplane:
        """Its backplane.

        Raises:
            ClosedError: It is not open yet.
        """
        if self._backplane is None:
            raise ClosedError("the backplane of this event loop's consumers is not open yet")
        return self._backplane

    def has(self, channel: str) -> bool:
        """Return whether a channel is here, or was: then it is nowhere else."""
        return channel in self.mailboxes or self._mark in channel

    async def open(self) -> BaseBackplane:
        """Return its backplane, once it is live; after `PATIENCE_S` at the latest, live or not.

        Cancellation: it goes on opening, for the next one that asks.
        """
        if self._backplane is not None:
            return self._backplane
        if self._opening is None:
            self._opening = self._loop.create_task(self._open())
        return await asyncio.shield(self._opening)

    async def new_channel(self, prefix: str) -> ChannelName:
        """Return the name of a new channel, once it hears what is sent to it.

        Raises:
            TypeError: The prefix is no part of a name, or too long.

        Cancellation: leaves no channel behind.
        """
        backplane = await self.open()
        name = ChannelName(f"{prefix}{self._mark}{token_hex(12)}")
        plain = channel_target(name).id
        mailbox = Mailbox(plain, self._settings.bounds_of(plain), self._settings.gap_type, self, self._loop)
        mailbox.attachment = await backplane.attach_events(mailbox)
        self.mailboxes[plain] = mailbox
        self._watches[plain] = Watch(name, self._name_is_gone)
        return name

    async def fleet(self, timeout_s: float) -> Fleet:
        """Return what asks the other processes, once the broker is there: without it nobody would answer.

        Raises:
            TimeoutError: It is away, and was for `timeout_s` seconds.
        """
        try:
            await self.backplane.wait_for_state("live", timeout_s=timeout_s)
        except TimeoutError:
            raise TimeoutError(f"other processes can't be asked now: {self.backplane.ready().reason}") from None
        return self.backplane.fleet

    async def publish(self, target: Target, message: Message) -> None:
        """Send a message to all pods.

        Raises:
            TypeError: It holds something that no message may hold.
        """
        try:
            await self.backplane.publish(target, message)
        except EventEncodeError:
            await self.backplane.publish(target, pack(message))

    def deliver(self, mailbox: Mailbox, message: Message) -> bool:
        """Put a message into a mailbox of this loop, which needs no broker; return whether it had room.

        Raises:
            TypeError: It holds something that no message may hold.
        """
        if not mailbox.has_room():
            return False
        try:
            return self.backplane.publish_local(mailbox.target, message) > 0
        except EventEncodeError:
            return self.backplane.publish_local(mailbox.target, pack(message)) > 0

    def forget(self, channel: str) -> None:
        """Detach a channel, with its groups; a no-op if it is gone."""
        mailbox = self.mailboxes.pop(channel, None)
        self._watches.pop(channel, None)
        if mailbox is not None and mailbox.attachment is not None:
            mailbox.attachment.detach_nowait()

    async def flush(self) -> None:
        """Forget what waits for the consumers, and which groups they are in."""
        for channel, mailbox in list(self.mailboxes.items()):
            if channel not in self.mailboxes:
                continue
            mailbox.clear()
            # A sink that takes over an id has none of its groups, whichever way it came into them.
            with mailbox.kept():
                mailbox.attachment = await self.backplane.attach_events(mailbox)
            if channel not in self.mailboxes:  # its consumer went meanwhile
                mailbox.attachment.detach_nowait()

    async def aclose(self) -> None:
        """Send what was accepted, and end: consumers that still wait stop."""
        if self._opening is not None:
            with suppress(Exception):
                await asyncio.shield(self._opening)
        if self._backplane is not None:
            await self._backplane.aclose()
        self.mailboxes.clear()
        self._watches.clear()

    # As what mailboxes notify

    def dropped(self, mailbox: Mailbox, reason: str) -> None:
        """Log that a consumer is too slow, without flooding the log."""
        self._drops += 1
        now = monotonic()
        if now - self._logged_at >= BETWEEN_LINES_S:
            logger.info(
                "%s: %s (%d messages in this process since the last such line)", mailbox.conn_id, reason, self._drops
            )
            self._drops, self._logged_at = 0, now

    def rejected(self) -> None:
        """Count what was no message, and say so once."""
        if not self.rejected_count:
            logger.warning("an event for a consumer or a group was no message of Channels, a dict: it was dropped")
        self.rejected_count += 1

    # Within

    async def _open(self) -> BaseBackplane:
        backplane = await self._connecting
        with suppress(TimeoutError):
            await backplane.wait_for_state("live", timeout_s=PATIENCE_S)
        self._backplane = backplane
        return backplane

    def _name_is_gone(self, watch: weakref.ref[ChannelName]) -> None:
        """Forget a channel whose consumer is gone. The garbage collector may call this in any thread."""
        if isinstance(watch, Watch):
            with suppress(RuntimeError):  # the loop is closed, and the consumers with it
                self._loop.call_soon_threadsafe(self.forget, watch.channel)
