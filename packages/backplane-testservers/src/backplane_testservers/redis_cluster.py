"""A Redis or Valkey cluster of real processes: `RedisCluster`.

    with RedisCluster(replicas=1) as cluster:
        cluster.master("some:channel").kill()
        ...

Slot ranges, epochs and replicas are assigned explicitly, so that a cluster is up in two seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import redis
from attrs import define, field
from redis.crc import key_slot
from redis.exceptions import ResponseError

from backplane_testservers.broker import BrokerFailed, Kind, OwnBroker
from backplane_testservers.ports import free_port
from backplane_testservers.process import Tls
from backplane_testservers.redis_server import RedisServer

__all__ = ["ClusterNode", "RedisCluster"]

SLOTS: Final = 16384
NODE_TIMEOUT_MS: Final = 1000
"""How long a node may be silent before the others take it for dead: short, since tests wait for it."""

READY_TIMEOUT_S: Final = 60.0
"""Two seconds, unless the machine is starved of CPU."""


@define(kw_only=True, eq=False)
class ClusterNode(RedisServer):
    """A server in cluster mode.

    Args:
        bus_port: Where the nodes talk to each other.
        announced_port: The port announced to clients, if not its own: a proxy's.
    """

    bus_port: int = field(factory=free_port)
    announced_port: int | None = None
    least_major: int = 7  # the first one with sharded pub/sub

    def config(self, port: int, directory: Path) -> str:
        lines = [
            "cluster-enabled yes",
            f"cluster-port {self.bus_port}",
            f"cluster-node-timeout {NODE_TIMEOUT_MS}",
            # Even a new replica may be promoted, and no replica changes its master by itself.
            "cluster-replica-validity-factor 0",
            "cluster-allow-replica-migration no",
            "repl-diskless-sync-delay 0",
        ]
        if self.tls is not None:
            lines.append("tls-cluster yes")
        if self.announced_port is not None:
            lines.append(f"cluster-announce-port {self.announced_port}")
        return super().config(port, directory) + "\n".join([*lines, ""])

    @property
    def client_port(self) -> int:
        """The port announced to clients."""
        return self.announced_port or self.port

    def execute(self, *command: str) -> Any:
        """Execute a command and return its reply, as redis-py parses it."""
        untyped: Any = redis  # as far as a strict checker sees
        tls = {} if self.tls is None else {"ssl": True, "ssl_ca_certs": str(self.tls.ca)}
        with untyped.Redis(self.host, self.port, password=self.password, decode_responses=True, **tls) as client:
            return client.execute_command(*command)

    @property
    def id(self) -> str:
        """Its name within the cluster."""
        return str(self.execute("CLUSTER MYID"))

    @property
    def is_master(self) -> bool:
        """Whether it is a master, in its own view."""
        return bool(self.execute("ROLE")[0] == "master")

    @property
    def slots(self) -> int:
        """How many slots it serves, in its own view."""
        return sum([last - first + 1 for first, last in self._ranges()])

    def serves(self, slot: int) -> bool:
        """Whether it serves the slot, in its own view."""
        return any(first <= slot <= last for first, last in self._ranges())

    @property
    def master_id(self) -> str:
        """The id of its master, in its own view; `-` if it is one."""
        return str(self._myself()["master_id"])

    def _myself(self) -> dict[str, Any]:
        nodes: dict[str, dict[str, Any]] = self.execute("CLUSTER NODES")
        return next(node for node in nodes.values() if "myself" in node["flags"])

    def _ranges(self) -> list[tuple[int, int]]:
        return [(int(slots[0]), int(slots[-1])) for slots in self._myself()["slots"]]


@define(kw_only=True, eq=False)
class RedisCluster(OwnBroker):
    """A cluster of masters that share the slots evenly. Killing or freezing it kills or freezes every node.

    Args:
        masters: How many.
        replicas: How many each has.
        password: Of the default user of every node.
        ports: Of the masters, by number, where a proxy has to know one in advance; otherwise any free one.
        announced_ports: The ports announced to clients for the masters: proxies'.
        tls: Of every node; one that has several does not speak it among them.
        extra: Further lines for each node's configuration.
    """

    masters: int = 3
    replicas: int = 0
    password: str | None = field(default=None, repr=False)
    ports: Mapping[int, int] = field(factory=dict[int, int])
    announced_ports: Mapping[int, int] = field(factory=dict[int, int])
    tls: Tls | None = field(default=None, repr=False)
    extra: Sequence[str] = field(default=(), repr=False)
    nodes: list[ClusterNode] = field(factory=list[ClusterNode], init=False)

    @property
    def kind(self) -> Kind:
        return "redis"

    @property
    def source(self) -> str:
        return f"cluster of {len(self.nodes)} own processes"

    @property
    def url(self) -> str:
        return self.url_of(*self.nodes)

    def url_of(self, *nodes: ClusterNode) -> str:
        """The URL that names these nodes alone."""
        login = "" if self.password is None else f":{quote(self.password, safe='')}@"
        scheme = "redis-cluster" if self.tls is None else "rediss-cluster"
        return f"{scheme}://{login}{','.join([f'{node.host}:{node.client_port}' for node in nodes])}"

    @property
    def host(self) -> str:
        return self.nodes[0].host

    @property
    def port(self) -> int:
        return self.nodes[0].port

    @property
    def pid(self) -> int:
        return self.nodes[0].pid

    @property
    def running(self) -> bool:
        return any(node.running for node in self.nodes)

    def start(self) -> None:
        fresh = not self.nodes
        if fresh:
            count = self.masters * (1 + self.replicas)
            self.nodes = [
                ClusterNode(
                    password=self.password,
                    tls=self.tls,
                    extra=self.extra,
                    port=self.ports.get(number),
                    announced_port=self.announced_ports.get(number),
                )
                for number in range(count)
            ]
        for node in self.nodes:
            if not node.running:
                node.start()
        if fresh:
            self._join()
        self.wait_until(self.is_healthy, "every node is healthy")

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def freeze(self) -> None:
        for node in self.nodes:
            node.freeze()

    def thaw(self) -> None:
        for node in self.nodes:
            node.thaw()

    def close(self) -> None:
        for node in self.nodes:
            node.close()

    def master(self, channel: str) -> ClusterNode:
        """Return the node that serves a channel's slot, as that node sees it."""
        return self.master_of(key_slot(channel.encode()))

    def master_of(self, slot: int) -> ClusterNode:
        """Return the node that serves a slot, as that node sees it."""
        return next(node for node in self.nodes if node.running and node.is_master and node.serves(slot))

    def replica_of(self, master: ClusterNode) -> ClusterNode:
        """Return a replica of a node."""
        name = master.id
        return next(node for node in self.nodes if node.running and node.master_id == name)

    def move(self, slot: int, target: ClusterNode) -> None:
        """Move a slot and its keys as redis-cli does it: target, then source, then the other masters."""
        source = self.master_of(slot)
        self.begin_move(slot, target)
        self.finish_move(slot, source, target)

    def begin_move(self, slot: int, target: ClusterNode) -> None:
        """Move the keys of a slot, which both nodes know is being moved: the old one sends clients to the new one."""
        source = self.master_of(slot)
        target.execute("CLUSTER SETSLOT", str(slot), "IMPORTING", source.id)
        source.execute("CLUSTER SETSLOT", str(slot), "MIGRATING", target.id)
        login = [] if self.password is None else ["AUTH", self.password]
        while keys := source.execute("CLUSTER GETKEYSINSLOT", str(slot), "100"):
            source.execute("MIGRATE", target.host, str(target.port), "", "0", "10000", *login, "KEYS", *keys)

    def finish_move(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        """Give a slot whose keys have been moved to its new node."""
        name = target.id
        target.execute("CLUSTER SETSLOT", str(slot), "NODE", name)
        source.execute("CLUSTER SETSLOT", str(slot), "NODE", name)
        for node in self.nodes:
            if node not in {source, target} and node.running and node.is_master:
                node.execute("CLUSTER SETSLOT", str(slot), "NODE", name)

    def is_healthy(self) -> bool:
        """Whether every running node sees all slots served, and replicas have caught up."""
        return all(node.running and self._is_healthy(node) for node in self.nodes)

    def _is_healthy(self, node: ClusterNode) -> bool:
        role = node.execute("ROLE")
        if role[0] == "slave" and role[3] != "connected":
            return False
        info = node.execute("CLUSTER INFO")
        known = len(node.execute("CLUSTER NODES"))
        return info["cluster_state"] == "ok" and known == len(self.nodes)

    def _join(self) -> None:
        first, masters = self.nodes[0], self.nodes[: self.masters]
        for number, node in enumerate(self.nodes):
            # Epochs of their own, or the nodes would have to agree on some first.
            node.execute("CLUSTER SET-CONFIG-EPOCH", str(number + 1))
            if node is not first:
                first.execute("CLUSTER MEET", node.host, str(node.port), str(node.bus_port))
        for number, node in enumerate(masters):
            start, end = (SLOTS * share // self.masters for share in (number, number + 1))
            node.execute("CLUSTER ADDSLOTSRANGE", str(start), str(end - 1))
        for number, node in enumerate(self.nodes[self.masters :]):
            name = masters[number % self.masters].id
            self.wait_until(partial(_follows, node, name), "a replica knows its master")

    @staticmethod
    def wait_until(condition: Callable[[], bool], what: str) -> None:
        """Return once the condition holds."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not condition():
            if time.monotonic() > deadline:
                raise BrokerFailed(f"not within {READY_TIMEOUT_S:g} s: {what}")
            # Nodes talk to each other ten times a second, and nothing reports when they agree.
            time.sleep(0.02)


def _follows(node: ClusterNode, master: str) -> bool:
    try:
        node.execute("CLUSTER REPLICATE", master)
    except ResponseError:
        return False  # it does not know that one yet
    return True
