"""The channel layer: `BackplaneChannelLayer`."""

# pyright: reportUnknownMemberType=false
# -- Channels is not typed

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

from backplane_core import (
    Answers,
    ConfigurationError,
    Fleet,
    Readiness,
    Stats,
    SyncPublisher,
    connect,
)
from channels.exceptions import ChannelFull  # type: ignore[import-untyped]  # it has no py.typed
from channels.layers import BaseChannelLayer  # type: ignore[import-untyped]

from backplane_channels._hub.hub import Hub
from backplane_channels._hub.hubs import Hubs
from backplane_channels._hub.messages import check_message
from backplane_channels._hub.settings import HubSettings
from backplane_channels._hub.targets import channel_target, group_target
from backplane_channels.config import check_bounds, find_url, split_ignored
from backplane_channels.publisher import LayerPublisher

__all__ = ["BackplaneChannelLayer"]

logger: Final = logging.getLogger("backplane.channels")

CAPACITY_BYTES: Final = 16 * 1024 * 1024
"""Bytes that may wait for one consumer: room for the 100 messages of the default `capacity`, at 160 KiB each."""
ANSWER_S: Final = 1.0
"""Seconds for which the other processes may answer when a channel of theirs joins or leaves a group."""


class BackplaneChannelLayer(BaseChannelLayer):  # type: ignore[misc]  # Channels is not typed
    """A channel layer over Redis or NATS.

        CHANNEL_LAYERS = {
            "default": {
                "BACKEND": "backplane_channels.BackplaneChannelLayer",
                "CONFIG": {"url": "redis://localhost:6379"},
            }
        }

    Consumers are connections of a backplane in their own event loop, and groups are its targets. Code in other event
    loops sends over one connection per process: `async_to_sync`, for example, creates a loop for each call. A
    consumer's channel and group memberships end with the consumer.

    Args:
        url: The broker's URL, see `backplane_core.connect`: Redis, Valkey, a Redis Cluster, Sentinel, NATS.
        hosts: A list of one host, in the form of channels_redis, instead of `url`.
        prefix: Layers with the same prefix share their messages. The fleet's `channel` is `backplane:` followed by it.
        capacity: The most messages that may wait for one consumer.
        channel_capacity: The same for channels whose names match: a dict from globs or compiled patterns to numbers.
        capacity_bytes: The most bytes of messages, as JSON, that may wait for one consumer.
        expiry: Seconds that a message may wait to be received.
        on_gap: The type of the message that a consumer gets where it may have missed messages, such as `backplane.gap`;
            its `cause`, `reason`, `since`, `until` and `missed` are those of `backplane_core.Gap`. None: no such
            message.
        options: See `backplane_core.ConnectOptions`; `wait` is always False. `group_expiry`, `serializer_format`,
            `symmetric_encryption_keys` and `random_prefix_length` of channels_redis have no effect.

    Raises:
        ConfigurationError: An option is wrong.
        AdapterNotInstalledError: No installed adapter serves the URL; says what to `pip install`.

    Delivery: while a process lives, each message that a consumer should have received and didn't is covered by a gap
        that it is notified of, or by a counter at the sender. Never twice, and in order per sending process and group.
        A message to a full consumer of another process is dropped there; for one of this event loop `send` raises
        `ChannelFull`.
    """

    extensions: tuple[Literal["groups"]] = ("groups",)
    """What it has of the extensions of Channels. `flush` exists, and clears this process alone."""

    def __init__(
        self,
        url: str | None = None,
        *,
        hosts: object = None,
        prefix: str = "asgi",
        capacity: int = 100,
        channel_capacity: Mapping[Any, int] | None = None,
        capacity_bytes: int = CAPACITY_BYTES,
        expiry: float = 60,
        on_gap: str | None = None,
        **options: Any,  # noqa: ANN401 -- from settings; each is checked
    ) -> None:
        check_bounds(capacity, capacity_bytes, expiry, on_gap)
        super().__init__(capacity=capacity)
        base: Any = self  # its types are narrower than what it takes
        base.expiry = expiry
        base.channel_capacity = base.compile_capacities(dict(channel_capacity or {}))
        self.prefix = prefix
        self._url = find_url(url, hosts)
        kept = split_ignored(options)
        if "wait" in kept:
            raise ConfigurationError("wait is not an option of a channel layer: it never waits for the broker")
        self._options: dict[str, Any] = {"channel": f"backplane:{prefix}", **kept, "wait": False}
        # Reports a wrong URL or option here, and costs nothing until the first message.
        self._sync_publisher = SyncPublisher(self._url, **self._options)
        self._publisher = LayerPublisher(self._sync_publisher)
        settings = HubSettings(
            layer=self, url=self._url, options=self._options, gap_type=on_gap, capacity_bytes=capacity_bytes
        )
        self._hubs = Hubs(settings)

    @property
    def publisher(self) -> LayerPublisher:
        """Sends messages from code without an event loop, without `async_to_sync`."""
        return self._publisher

    # The contract of Channels

    async def new_channel(self, prefix: str = "specific") -> str:
        """Return the name of a new channel for a consumer of this event loop, once messages to it arrive.

        The channel ends when nothing holds a reference to the name any longer: keep the object that this returned.

        Args:
            prefix: What the name begins with.

        Raises:
            TypeError: The prefix can't be part of a name, or is too long.
        """
        return await self._hubs.make().new_channel(prefix.rstrip("."))

    async def receive(self, channel: str) -> dict[str, Any]:
        """Return the next message for a channel of this event loop.

        Args:
            channel: The name that `new_channel` returned.

        Raises:
            StopConsumer: No more messages will come: the layer was closed, or an order to the fleet closed the channel.
            AssertionError: It is a channel of another process or event loop, or its name was not kept.
            TypeError: It is not the name of a channel.
            NormalChannelError: It is the name of a normal channel, one without a `!`.

        Cancellation: loses no message.
        """
        hub = self._hubs.find()
        mailbox = None if hub is None else hub.mailboxes.get(channel)
        if mailbox is None:
            channel_target(channel)
            raise AssertionError(
                f"{channel!r} is not a channel of this event loop: only the consumer that called new_channel() "
                "receives from it, for as long as it keeps the name that this returned"
            )
        return await mailbox.receive()

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send a message to one consumer.

        Args:
            channel: The consumer's `channel_name`.
            message: A dict with a `type`.

        Raises:
            ChannelFull: The consumer is one of this event loop, and its queue is full. For one of another process the
                message is dropped there, and the consumer gets a gap.
            AssertionError: The message is not a dict.
            TypeError: The name is not valid, or a value in the message can't be sent.
            NormalChannelError: It is the name of a normal channel, one without a `!`.
        """
        check_message(message)
        target = channel_target(channel)
        hub = self._hubs.find()
        if hub is None:
            self._publisher.send(target.id, message)
        elif (mailbox := hub.mailboxes.get(target.id)) is not None:
            if not hub.deliver(mailbox, message):
                raise ChannelFull(target.id)
        elif not hub.has(target.id):  # otherwise its consumer is gone
            await hub.publish(target, message)

    async def group_add(self, group: str, channel: str) -> None:
        """Add a consumer of any process to a group, and return once the group's messages reach it.

        While the broker is away this returns at once for a consumer of this event loop, and the consumer gets a gap for
        the time until they do.

        Args:
            group: The group's name.
            channel: The consumer's `channel_name`.

        Raises:
            TypeError: A name is not valid.
            NormalChannelError: `channel` is the name of a normal channel.
            TimeoutError: The channel is in another process, and the broker is away, or a process has not answered.
            TransportError: This event loop has no consumers, and the broker can't be reached.
        """
        target, whom = group_target(group), channel_target(channel)
        hub = self._hubs.find()
        if hub is not None and hub.has(whom.id):
            await hub.backplane.associate(whom.id, target)
            return
        async with self._fleet(hub) as fleet:
            answers = await fleet.associate(whom, target, timeout_s=ANSWER_S)
        if not answers.total and not answers.complete:
            raise TimeoutError(f"{whom.id} may not be in group {group}: {_missing(answers)}")

    async def group_discard(self, group: str, channel: str) -> None:
        """Remove a consumer of any process from a group; a no-op for an unknown name.

        Args:
            group: The group's name.
            channel: The consumer's `channel_name`.

        Raises:
            TypeError: A name is not valid.
            NormalChannelError: `channel` is the name of a normal channel.
            TimeoutError: The channel is in another process, and the broker is away.
            TransportError: This event loop has no consumers, and the broker can't be reached.
        """
        target, whom = group_target(group), channel_target(channel)
        hub = self._hubs.find()
        if hub is not None and hub.has(whom.id):
            await hub.backplane.dissociate(whom.id, target)
            return
        async with self._fleet(hub) as fleet:
            answers = await fleet.dissociate(whom, target, timeout_s=ANSWER_S)
        if not answers.total and not answers.complete:  # perhaps it went with its process
            logger.info("%s may still be in group %s: %s", whom.id, group, _missing(answers))

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send a message to all consumers of a group, whether or not the broker is up.

        It does not raise if a consumer's queue is full: the message is dropped for that consumer, which gets a gap.

        Args:
            group: The group's name.
            message: A dict with a `type`.

        Raises:
            AssertionError: The message is not a dict.
            TypeError: The name is not valid, or a value in the message can't be sent.
        """
        check_message(message)
        hub = self._hubs.find()
        if hub is None:
            self._publisher.group_send(group, message)
        else:
            await hub.publish(group_target(group), message)

    async def flush(self) -> None:
        """Delete the waiting messages and the group memberships of this process's consumers; keep the consumers."""
        await self._hubs.flush()

    async def close(self) -> None:
        """Send what was accepted, and close all connections of this process; consumers that wait for a message stop.

        The layer may be used again: it then opens new connections.
        """
        await self._hubs.aclose()
        publisher = self._sync_publisher
        self._sync_publisher = SyncPublisher(self._url, **self._options)
        self._publisher = LayerPublisher(self._sync_publisher)
        await asyncio.to_thread(publisher.close)

    # For those who run it

    def ready(self) -> Readiness:
        """Return whether the consumers of this event loop receive what other processes send, and if not, why."""
        hub = self._hubs.find()
        if hub is None:
            return Readiness(live=False, reason="this event loop has had no consumer yet")
        return hub.backplane.ready()

    def stats(self) -> Stats | None:
        """Return the counters of the consumers of this event loop; None before the first one."""
        hub = self._hubs.find()
        return None if hub is None else hub.backplane.stats()

    @asynccontextmanager
    async def _fleet(self, hub: Hub | None) -> AsyncGenerator[Fleet]:
        """Yield a fleet for one query to other processes: that of the hub, or of a pod that is opened for this query.

        It is closed at once, since a pod that stayed in a loop without consumers would be queried by others for ever.
        """
        if hub is not None:
            yield await hub.fleet(ANSWER_S)
            return
        options: dict[str, Any] = {**self._options, "wait": True}
        async with connect(self._url, **options) as visitor:
            yield visitor.fleet


def _missing(answers: Answers[int]) -> str:
    return ", ".join([f"{missing.pod} has not answered ({missing.reason})" for missing in answers.missing])
