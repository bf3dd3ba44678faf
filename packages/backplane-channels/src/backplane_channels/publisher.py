"""Sending from code without an event loop: `LayerPublisher`."""

from __future__ import annotations

from typing import Any

from backplane_core import EventEncodeError, Stats, SyncPublisher, Target

from backplane_channels._hub.messages import check_message, pack
from backplane_channels._hub.targets import channel_target, group_target

__all__ = ["LayerPublisher"]


class LayerPublisher:
    """Sends messages from views, Celery tasks, signal handlers and shells, without `async_to_sync`.

        layer = get_channel_layer()
        layer.publisher.group_send("chat", {"type": "chat.message", "text": "hi"})

    It may be used from any thread or greenlet. It never waits for the broker; a process has one connection for all of
    them.

    Args:
        publisher: Sends the events.
    """

    def __init__(self, publisher: SyncPublisher) -> None:
        self._publisher = publisher

    def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send a message to one consumer, by the name of its channel.

        Args:
            channel: The consumer's `channel_name`.
            message: A dict with a `type`.

        Raises:
            AssertionError: The message is not a dict.
            TypeError: The name is not valid, or a value in the message can't be sent.
            NormalChannelError: It is the name of a normal channel, one without a `!`.
        """
        check_message(message)
        self._publish(channel_target(channel), message)

    def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send a message to all consumers of a group.

        Args:
            group: The group's name.
            message: A dict with a `type`.

        Raises:
            AssertionError: The message is not a dict.
            TypeError: The name is not valid, or a value in the message can't be sent.
        """
        check_message(message)
        self._publish(group_target(group), message)

    def flush(self, *, timeout_s: float | None = None) -> None:
        """Return once the broker has confirmed everything that this process has sent this way.

        Args:
            timeout_s: Seconds to wait; None: as long as it takes.

        Raises:
            TimeoutError: It did not within `timeout_s`; the text says how many messages are left.
        """
        self._publisher.flush(timeout_s=timeout_s)

    def stats(self) -> Stats | None:
        """Return a snapshot of the counters; None before the first message of this process."""
        return self._publisher.stats()

    def _publish(self, target: Target, message: dict[str, Any]) -> None:
        try:
            self._publisher.publish(target, message)
        except EventEncodeError:
            self._publisher.publish(target, pack(message))
