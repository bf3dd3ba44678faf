"""Queries and orders to all pods, for code without an event loop: `SyncFleet`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from backplane_core.answers import Answers
from backplane_core.fleet import ConnectionInfo, PodInfo, Receipt
from backplane_core.presence import Presence
from backplane_core.target import Excluded, Target, Targets

__all__ = ["SyncFleet"]


class SyncFleet(Protocol):
    """Queries every pod that holds connections, as `Fleet` does, and waits for the answers; see `SyncConnection.fleet`.

    Every method raises `ReentrantPublishError` in the thread of the event loop, where it would deadlock.
    """

    def pods(self, *, timeout_s: float = 1.0) -> Answers[PodInfo]:
        """Return the pods of the fleet. Processes that only publish are not among them.

        Args:
            timeout_s: Seconds to wait for answers.

        Returns:
            What each pod reports about itself; `total` is the number of pods.

        Raises:
            ConfigurationError: `timeout_s` is not above 0.
            ClosedError: The connection is closed.
        """
        ...

    def count(self, target: Targets, *, timeout_s: float = 1.0) -> Answers[int]:
        """Return how many connections a target has, on all pods: whether a user is online, for instance.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once. `a & b` reaches the
                connections that have both.
            timeout_s: Seconds to wait for answers.

        Returns:
            The number on each pod; `total` is their sum.

        Raises:
            InvalidTargetError: `target` is empty, too long, or has an entry that is not a target.
            ConfigurationError: `timeout_s` is not above 0.
            ClosedError: The connection is closed.
        """
        ...

    def connections(
        self, target: Targets, *, limit: int = 1_000, timeout_s: float = 1.0
    ) -> Answers[tuple[ConnectionInfo, ...]]:
        """Return the connections of a target, with the `info` that they were given.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once. `a & b` reaches the
                connections that have both.
            limit: The most connections to list in all, at most 10,000. One pod lists at most 256 KiB of them.
            timeout_s: Seconds to wait for answers.

        Returns:
            The connections on each pod; `total` is their number, listed or not.

        Raises:
            InvalidTargetError: `target` is empty, too long, or has an entry that is not a target.
            ConfigurationError: `limit` or `timeout_s` is not allowed.
            ClosedError: The connection is closed.
        """
        ...

    def presence(self, target: Target, *, timeout_s: float = 1.0) -> Presence:
        """Return who is present in a target: the connections of it that were given a `presence`, one for each key.

        Args:
            target: The target; `Target.everyone()` for all that are present anywhere.
            timeout_s: Seconds to wait for answers.

        Returns:
            The value of each key. If connections with the same key have different values, it is one of these.

        Raises:
            InvalidTargetError: `target` is not a target, or is a connection's own.
            ConfigurationError: `timeout_s` is not above 0, or this pod has too many queries already.
            ClosedError: The connection is closed.
        """
        ...

    def close(self, whom: Targets, *, code: int = 4000, reason: str = "", timeout_s: float = 1.0) -> Answers[int]:
        """Close every connection of `whom`, on every pod: to sign a user out, for instance.

        Args:
            whom: Whose connections: one target, an intersection `a & b`, or several of these, at most 2,048.
            code: A WebSocket close code for the hosts: 1000, or 3000 to 4999.
            reason: For people, at most 123 bytes of UTF-8.
            timeout_s: Seconds to wait for the pods.

        Returns:
            How many connections were closed on each pod.

        Raises:
            InvalidTargetError: `whom` is empty, too long, or has an entry that is not a target.
            ConfigurationError: `code`, `reason` or `timeout_s` is not allowed.
            ClosedError: The connection is closed.

        Delivery: as for `Fleet.close`.
        """
        ...

    def publish(
        self,
        target: Targets,
        event: object,
        *,
        exclude: Excluded = (),
        key: str | None = None,
        event_id: str | None = None,
        trace: Mapping[str, str] | None = None,
        timeout_s: float = 1.0,
    ) -> Receipt:
        """Deliver an event to every connection of the target, on every pod, and return how many accepted it.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once. `a & b` reaches the
                connections that have both.
            event: A JSON value, as for `SyncPublisher.publish`.
            exclude: Who must not get it, on any pod: ids of connections, at most 65,536, and targets, at most 64.
            key: Says which older events it makes outdated: those of the same target and key.
            event_id: As `SyncPublisher.publish` takes it: connections that have had the event are not in the receipt.
            trace: As `SyncPublisher.publish` takes it.
            timeout_s: Seconds to wait for receipts.

        Returns:
            The receipt. A connection has accepted the event if its sink did, or if it is in its queue.

        Raises:
            InvalidTargetError: `target`, `exclude`, `key` or `event_id` is not valid.
            EventEncodeError: The event is not JSON, or `trace` is no mapping.
            EventTooLargeError: The event is larger than `max_event_bytes`, or than the broker accepts.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ConfigurationError: `timeout_s` is not above 0.
            ClosedError: The connection is closed.

        Delivery: as for `Fleet.publish`.
        """
        ...
