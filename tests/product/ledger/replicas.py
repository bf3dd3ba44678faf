"""The nodes of a log that take over from each other: `replicas_of`."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from attrs import define
from backplane_testservers import RedisCluster, RedisServer, SentinelSet
from backplane_testservers.redis_cluster import ClusterNode
from backplane_testservers.sentinels import ask
from redis.exceptions import RedisError, ResponseError

from tests.product.ledger.buses import Bus

__all__ = ["Replicas", "replicas_of"]

LOOK_S: Final = 0.02
READY_S: Final = 60.0


class Replicas(ABC):
    """A primary and those that may take its place. Every method blocks, so call them in a thread."""

    @abstractmethod
    def find_primary(self) -> RedisServer:
        """Return the node that the stream is at."""

    @abstractmethod
    def _is_at_another(self, old: RedisServer) -> bool:
        """Return whether a node other than this one is the primary."""

    @abstractmethod
    def _begin(self) -> None:
        """Ask for a failover.

        Raises:
            ResponseError: There can't be one now.
        """

    @abstractmethod
    def _is_whole(self) -> bool:
        """Return whether each node runs, and each replica follows its primary."""

    def hand_over(self) -> None:
        """Have a replica take over, though nothing is wrong; return once it has been asked to."""
        _wait(self._has_begun, "a replica may take over")

    def wait_for_another(self, old: RedisServer) -> None:
        """Return once a node other than this one is the primary."""
        _wait(lambda: self._is_at_another(old), "another node is the primary")

    def wait_until_whole(self) -> None:
        """Return once each node runs, and each replica follows its primary."""
        _wait(self._is_whole, "each replica follows its primary")

    def _has_begun(self) -> bool:
        try:
            self._begin()
        except ResponseError:
            return False  # the last one is not over, or the new primary not known well enough
        return True


@define
class SentinelReplicas(Replicas):
    """The nodes that sentinels watch."""

    sentinels: SentinelSet

    def find_primary(self) -> RedisServer:
        return self.sentinels.master

    def _is_at_another(self, old: RedisServer) -> bool:
        return self.sentinels.has_failed_over(old)

    def _begin(self) -> None:
        self.sentinels.fail_over()

    def _is_whole(self) -> bool:
        master = self.sentinels.master
        roles = {node.port: ask(node, "ROLE") for node in self.sentinels.nodes}
        return roles.pop(master.port)[0] == "master" and all(
            role[0] == "slave" and (int(role[2]), role[3]) == (master.port, "connected") for role in roles.values()
        )


@define
class ClusterReplicas(Replicas):
    """The nodes of a cluster that serve one slot.

    Args:
        cluster: The cluster.
        slot: The slot.
    """

    cluster: RedisCluster
    slot: int

    def find_primary(self) -> ClusterNode:
        return self.cluster.master_of(self.slot)

    def _is_at_another(self, old: RedisServer) -> bool:
        others = [node for node in self.cluster.nodes if node is not old and node.running]
        return any(node.is_master and node.serves(self.slot) for node in others)

    def _begin(self) -> None:
        self.cluster.replica_of(self.find_primary()).execute("CLUSTER FAILOVER")

    def _is_whole(self) -> bool:
        return self.cluster.is_healthy()


def replicas_of(bus: Bus, slot: int) -> Replicas:
    """Return the nodes of a log that take over from each other.

    Args:
        bus: The broker.
        slot: Of the stream, where streams are spread over several primaries.
    """
    if isinstance(bus, SentinelSet):
        return SentinelReplicas(bus)
    if isinstance(bus, RedisCluster):
        return ClusterReplicas(bus, slot)
    raise TypeError(f"{bus!r} has no replicas")


def _wait(holds: Callable[[], bool], what: str) -> None:
    """Return once it holds; a node that is down or just starting is asked again."""
    deadline = time.monotonic() + READY_S
    while True:
        try:
            if holds():
                return
        except (RedisError, StopIteration):
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {READY_S:g} s: {what}")
        time.sleep(LOOK_S)  # nothing reports when nodes agree
