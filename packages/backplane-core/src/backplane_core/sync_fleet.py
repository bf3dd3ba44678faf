"""What all pods of a fleet know and do together, for code without an event loop: `SyncFleet`."""

from __future__ import annotations

from typing import Protocol

from backplane_core.answers import Answers
from backplane_core.fleet import ConnectionInfo, PodInfo, Receipt
from backplane_core.presence import Presence
from backplane_core.target import Excluded, Target, Targets

__all__ = ["SyncFleet"]


class SyncFleet(Protocol):
    """Asks every pod that holds connections, as `Fleet` does, and waits for the answers; `SyncConnection.fleet` is one.

    Every method raises `ReentrantPublishError` in the thread of the event loop, where it would wait for itself.
    """

    def pods(self, *, timeout_s: float = 1.0) -> Answers[PodInfo]:
        """Return the pods of the fleet. Processes that only publish are not among them.

        Args:
            timeout_s: Seconds to wait for answers.

        Returns:
            What each pod says of itself; `total` is how many they are.

        Raises:
            ConfigurationError: `timeout_s` is not above 0.
            ClosedError: The connection is closed.
        """
        ...

    def count(self, target: Targets, *, timeout_s: float = 1.0) -> Answers[int]:
        """Return how many connections a target has: whether a user is online, and how often.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once. `a & b` reaches the
                connections that have both.
            timeout_s: Seconds to wait for answers.

        Returns:
            How many each pod holds; `total` is their sum.

        Raises:
            InvalidTargetError: `target` holds no target, too many, or something else.
            ConfigurationError: `timeout_s` is not above 0.
            ClosedError: The connection is closed.
        """
        ...

    def connections(
        self, target: Targets, *, limit: int = 1_000, timeout_s: float = 1.0
    ) -> Answers[tuple[ConnectionInfo, ...]]:
        """Return the connections of a target, with what their hosts said of them.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once. `a & b` reaches the
                connections that have both.
            limit: How many are listed in all, at most 10,000. One pod lists at most 256 KiB of them.
            timeout_s: Seconds to wait for answers.

        Returns:
            The connections that each pod lists; `total` is how many there are, listed or not.

        Raises:
            InvalidTargetError: `target` holds no target, too many, or something else.
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
            What is shown of each. Where connections of one key show different values, it is one of those.

        Raises:
            InvalidTargetError: `target` is no target, or a connection's own.
            ConfigurationError: `timeout_s` is not above 0, or too much is asked for on this pod already.
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
            InvalidTargetError: `whom` holds no target, too many, or something else.
            ConfigurationError: `code`, `reason` or `timeout_s` is not allowed.
            ClosedError: The connection is closed.

        Delivery: as that of `Fleet.close`.
        """
        ...

    def publish(
        self,
        target: Targets,
        event: object,
        *,
        exclude: Excluded = (),
        key: str | None = None,
        timeout_s: float = 1.0,
    ) -> Receipt:
        """Deliver an event to every connection of the target, and return how many took it, on every pod.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once. `a & b` reaches the
                connections that have both.
            event: As `SyncPublisher.publish` takes it.
            exclude: Who must not get it, on any pod: ids of connections, at most 65,536, and targets, at most 64.
            key: Says which older events it makes outdated: those of the same target and key.
            timeout_s: Seconds to wait for receipts.

        Returns:
            The receipt. A connection took the event if its sink did, or it stands in its queue.

        Raises:
            InvalidTargetError: `target`, `exclude` or `key` is not of the right form.
            EventEncodeError: The event is not JSON.
            EventTooLargeError: The event is larger than `max_event_bytes`, or than the broker takes.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ConfigurationError: `timeout_s` is not above 0.
            ClosedError: The connection is closed.

        Delivery: as that of `Fleet.publish`.
        """
        ...
