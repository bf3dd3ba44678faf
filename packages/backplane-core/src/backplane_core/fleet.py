"""What all pods of a fleet know and do together. `backplane.fleet` asks them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

from attrs import frozen

from backplane_core.answers import Answers
from backplane_core.observe import State
from backplane_core.presence import Presence, PresenceChange
from backplane_core.target import Excluded, Target, Targets

__all__ = ["ConnectionInfo", "Fleet", "PodInfo", "Receipt"]


@frozen(kw_only=True)
class Receipt(Answers[int]):
    """How many connections took an event.

    Args:
        local: On the publishing pod.
        by_pod: On each pod that answered, the publishing one included, by its name.
        missing: The members that have not answered.
        total: On all of them.
    """

    local: int


@frozen(kw_only=True)
class PodInfo:
    """One pod.

    Args:
        name: What people call it; see `pod_name`.
        origin: Its id on the bus, a new one each time it starts.
        since: When it started, Unix time in seconds, by its own clock.
        connections: How many are attached.
        targets: How many distinct targets they have, without the one that each connection always has.
        routing: How it routes: "broadcast" or "interest".
        version: Of its backplane-core.
        state: Its state.
    """

    name: str
    origin: str
    since: float
    connections: int
    targets: int
    routing: str
    version: str
    state: State


@frozen(kw_only=True)
class ConnectionInfo:
    """One connection.

    Args:
        conn_id: Its id.
        pod: The name of the pod that holds it.
        since: When it was attached, Unix time in seconds, by the clock of its pod.
        info: What its host said of it when it was attached; None if nothing.
    """

    conn_id: str
    pod: str
    since: float
    info: object


class Fleet(Protocol):
    """Asks every pod that holds connections; `backplane.fleet` is one.

    Each question goes to all pods over the bus, each pod answers for its own connections, and the answers come together
    here. Nothing is kept in a database, so nothing there can be out of date.

    Delivery: a question returns as soon as every member has answered, and after `timeout_s` at the latest, with what
        came until then. A pod that is silent, frozen, cut off or of another version delays and spoils nobody else's
        answer: it is named in `missing`. A pod that leaves says so, and is not waited for. A pod that stops without a
        word is missing until `member_ttl_s` has passed, then it is no longer a member. In the first half second after a
        link went live, while the other pods are answering this one's hello, a question also waits for pods that are
        not known yet. One that had stopped before is not known, and so not missing.
    Cancellation: a question can be cancelled at any time.
    """

    async def pods(self, *, timeout_s: float = 1.0) -> Answers[PodInfo]:
        """Return the pods of the fleet. Processes that only publish are not among them.

        Args:
            timeout_s: Seconds to wait for answers.

        Returns:
            What each pod says of itself; `total` is how many they are.

        Raises:
            ConfigurationError: `timeout_s` is not above 0, or this is a `Publisher`, which hears no answers.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.
        """
        ...

    async def count(self, target: Targets, *, timeout_s: float = 1.0) -> Answers[int]:
        """Return how many connections a target has: whether a user is online, and how often.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once. `a & b` reaches the
                connections that have both.
            timeout_s: Seconds to wait for answers.

        Returns:
            How many each pod holds; `total` is their sum.

        Raises:
            InvalidTargetError: `target` is empty, too long, or has an entry that is not a target.
            ConfigurationError: `timeout_s` is not above 0, or this is a `Publisher`, which hears no answers.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.
        """
        ...

    async def connections(
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
            InvalidTargetError: `target` is empty, too long, or has an entry that is not a target.
            ConfigurationError: `limit` or `timeout_s` is not allowed, or this is a `Publisher`, which hears no answers.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.
        """
        ...

    async def targets(self, conn_id: str, *, timeout_s: float = 1.0) -> Answers[frozenset[Target]]:
        """Return the targets of a connection, wherever it is.

        Args:
            conn_id: The connection's id.
            timeout_s: Seconds to wait for answers.

        Returns:
            The targets that each pod knows of it, without `Target.connection(conn_id)`: an empty set where it is not
            attached. At most 10,000 are listed, and 256 KiB; `total` is how many there are.

        Raises:
            InvalidTargetError: The id is not of the right form.
            ConfigurationError: `timeout_s` is not above 0, or this is a `Publisher`, which hears no answers.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.
        """
        ...

    async def presence(self, target: Target, *, timeout_s: float = 1.0) -> Presence:
        """Return who is present in a target: the connections of it that were given a `presence`, one for each key.

        Args:
            target: The target; `Target.everyone()` for all that are present anywhere.
            timeout_s: Seconds to wait for answers.

        Returns:
            What is shown of each. Where connections of one key show different values, it is one of those.

        Raises:
            InvalidTargetError: `target` is no target, or a connection's own.
            ConfigurationError: `timeout_s` is not above 0; 1,024 targets are watched, or asked for, on this pod
                already; or this is a `Publisher`, which hears no answers.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.
        """
        ...

    def watch(self, target: Target) -> AsyncGenerator[PresenceChange]:
        """Yield who is present in a target, and what changes: a `PresenceSnapshot`, then who joins and leaves.

        Args:
            target: The target; `Target.everyone()` for all that are present anywhere.

        Returns:
            An iterator for `async for`. It ends when the backplane drains or closes. Leaving the loop ends the watch
            soon; `contextlib.aclosing` ends it at once.

        Raises:
            InvalidTargetError: `target` is no target, or a connection's own.
            ConfigurationError: Too much is watched on this pod already: 1,024 targets, or by 4,096 readers; or this is
                a `Publisher`, which hears no answers.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: each change once, in order for each key; someone with several connections joins with the first one and
            leaves with the last. Whose connections ended leaves `presence_linger_s` later, unless they are back by
            then, on any pod; whose connections were dissociated leaves at once. Where changes may have been missed,
            as the link was down, frames are missing, or they were not read in time, a `PresenceSnapshot` says so and
            takes their place. A pod that stopped without a word keeps its part until it is no longer a member.
        Cancellation: ends the watch.
        """
        ...

    async def associate(self, whom: Targets, target: Target, *, timeout_s: float = 1.0) -> Answers[int]:
        """Add a target to every connection of `whom`, on every pod.

        Args:
            whom: Whose connections: one target, an intersection `a & b`, or several of these, at most 2,048.
            target: The target to add.
            timeout_s: Seconds to wait for the pods.

        Returns:
            How many connections got it on each pod; those that had it already do not count.

        Raises:
            InvalidTargetError: `whom` or `target` is not of the right form, or `target` is one that each connection has
                by itself.
            TargetDeniedError: The broker does not let this pod hear the target.
            ConfigurationError: `timeout_s` is not above 0, or this is a `Publisher`, which hears no answers.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: on the pods that answered, events published anywhere from now on arrive. On each pod it is done in its
            place among the events that this pod publishes to `whom`. A pod that is missing may still do it later.
        Cancellation: never undoes it.
        """
        ...

    async def dissociate(self, whom: Targets, target: Target, *, timeout_s: float = 1.0) -> Answers[int]:
        """Remove a target from every connection of `whom`, on every pod.

        Args:
            whom: Whose connections: one target, an intersection `a & b`, or several of these, at most 2,048.
            target: The target to remove.
            timeout_s: Seconds to wait for the pods.

        Returns:
            How many connections lost it on each pod.

        Raises:
            InvalidTargetError: `whom` or `target` is not of the right form, or `target` is one that each connection has
                by itself.
            ConfigurationError: `timeout_s` is not above 0, or this is a `Publisher`, which hears no answers.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: those connections on the pods that answered get no further events of the target, unless another of
            their targets matches them too. On each pod it is done in its place among the events that this pod publishes
            to `whom`. A pod that is missing may still do it later.
        Cancellation: never undoes it.
        """
        ...

    async def close(self, whom: Targets, *, code: int = 4000, reason: str = "", timeout_s: float = 1.0) -> Answers[int]:
        """Close every connection of `whom`, on every pod: to sign a user out, for instance.

        The iteration of a `connection()` ends with `ClosedByFleetError`, after what was queued before. A sink that was
        attached is detached, and its `on_close` called.

        Args:
            whom: Whose connections: one target, an intersection `a & b`, or several of these, at most 2,048.
            code: A WebSocket close code for the hosts: 1000, or 3000 to 4999.
            reason: For people, at most 123 bytes of UTF-8.
            timeout_s: Seconds to wait for the pods.

        Returns:
            How many connections were closed on each pod.

        Raises:
            InvalidTargetError: `whom` is empty, too long, or has an entry that is not a target.
            ConfigurationError: `code`, `reason` or `timeout_s` is not allowed, or this is a `Publisher`, which hears no
                answers.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: once this has returned `complete`, no event that is delivered from then on reaches those connections,
            on any pod. Connections that are attached later are your host's to refuse. A pod that
            drains ends its own, and is not waited for. On each pod it is done in its
            place among the events that this pod publishes to `whom`: what was published before still arrives. A pod
            that is missing may still do it later.
        Cancellation: never undoes it.
        """
        ...

    async def publish(
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
        """Deliver an event as `backplane.publish` does, and return how many connections took it, on every pod.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once. `a & b` reaches the
                connections that have both.
            event: As `backplane.publish` takes it.
            exclude: Who must not get it, on any pod: ids of connections, at most 65,536, and targets, at most 64.
            key: Says which older events it makes outdated: those of the same target and key. A connection with
                `overflow="latest"` that is behind skips them. 1 to 1,024 UTF-8 bytes; None: it makes none so.
            event_id: As `backplane.publish` takes it: connections that have had the event are not in the receipt.
            trace: As `backplane.publish` takes it.
            timeout_s: Seconds to wait for receipts.

        Returns:
            The receipt. A connection took the event if its sink did, or it stands in its queue.

        Raises:
            InvalidTargetError: `target` is empty, too long, or has an entry that is not a target; or `exclude` is too
                long, or has an entry that is neither an id nor a target; or `key` or `event_id` is not text of that
                size.
            EventEncodeError: The event is not JSON, or `trace` is no mapping.
            EventTooLargeError: The event is larger than `max_event_bytes`, or than the broker accepts.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ReentrantPublishError: Called by a sink, while an event is being delivered.
            ConfigurationError: `timeout_s` is not above 0, or this is a `Publisher`, which hears no answers.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: as that of `backplane.publish`, in one order with it, whatever the receipt says: an event without a
            receipt may have arrived, and may still.
        Cancellation: never undoes it.
        """
        ...
