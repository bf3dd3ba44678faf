"""A NATS cluster of real processes, each of which a test may kill or freeze alone: `NatsCluster`.

with NatsCluster() as cluster:
    cluster.nodes[0].kill()
    cluster.nodes[0].start()
    cluster.nodes[1].enter_lame_duck()
    cluster.wait_until_meshed()      # all running nodes have routes to each other
"""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final, Self

from attrs import define, field

from backplane_testservers.broker import Broker, BrokerFailed, Kind
from backplane_testservers.nats_server import NatsServer
from backplane_testservers.ports import free_port
from backplane_testservers.process import START_TIMEOUT_S

__all__ = ["NatsCluster", "NatsNode"]

_POLL_S: Final = 0.01
_HOST: Final = "127.0.0.1"


@define(kw_only=True, eq=False)
class NatsNode(NatsServer):
    """A node of a cluster. Its monitoring page shows who is connected.

    Args:
        name: Its name in the cluster.
        route_port: Where the other nodes reach it.
        monitor_port: Where the page is.
    """

    name: str
    route_port: int = field(factory=free_port)
    monitor_port: int = field(factory=free_port)

    def enter_lame_duck(self) -> None:
        """Have it ask its clients to leave: it accepts no new ones, and closes after `lame_duck_grace_period`."""
        self._running().send_signal(signal.SIGUSR2)

    def info(self) -> dict[str, Any]:
        """Return the INFO that it sends to each new client, about itself and the cluster."""
        with socket.create_connection((self.host, self.port), timeout=START_TIMEOUT_S) as client:
            line = client.makefile("rb").readline()
        return dict(json.loads(line.removeprefix(b"INFO ")))


@define(kw_only=True, eq=False)
class NatsCluster(Broker):
    """Nodes with a route between each two. As a context manager it runs on entry and is gone on exit.

    Args:
        size: How many nodes.
        grace_s: How long a node in lame duck mode keeps its clients, in whole seconds.
        options: Of each node, as `NatsServer`'s.
        route: The port at which one node (the first) is to reach another's `route_port`: for a proxy between them.
    """

    size: int = 3
    grace_s: int = 10
    options: dict[str, Any] = field(factory=dict[str, Any], repr=False)
    route: Callable[[NatsNode, NatsNode], int] = field(default=lambda _, to: to.route_port)
    nodes: Sequence[NatsNode] = field(init=False)
    _stack: ExitStack = field(factory=ExitStack, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        names = [f"node-{number}" for number in range(self.size)]
        self.nodes = [NatsNode(name=name, port=free_port(), **self.options) for name in names]

    @property
    def kind(self) -> Kind:
        return "nats"

    @property
    def source(self) -> str:
        return f"{self.size} own processes"

    @property
    def url(self) -> str:
        """The URL with all nodes."""
        first, *others = self.nodes
        return ",".join([first.url, *[f"{node.host}:{node.port}" for node in others]])

    @property
    def host(self) -> str:
        """The first node's."""
        return self.nodes[0].host

    @property
    def port(self) -> int:
        """The first node's."""
        return self.nodes[0].port

    @property
    def running(self) -> Sequence[NatsNode]:
        """The nodes whose processes live."""
        return [node for node in self.nodes if node.running]

    def start(self) -> None:
        """Return once all nodes have routes to each other."""
        for node in self.nodes:
            routes = [f"nats://{_HOST}:{self.route(node, other)}" for other in self.nodes if other is not node]
            node.extra = [
                *self.options.get("extra", ()),
                f"server_name: {node.name}",
                f"http: {_HOST}:{node.monitor_port}",
                f"lame_duck_grace_period: {self.grace_s}s",
                "lame_duck_duration: 30s",
                f'cluster: {{name: tests, listen: "{_HOST}:{node.route_port}", routes: {json.dumps(routes)}}}',
            ]
            self._stack.enter_context(node)
        self.wait_until_meshed()

    def wait_until_meshed(self) -> None:
        """Return once each running node announces every running one, and no other."""
        deadline = time.monotonic() + START_TIMEOUT_S
        addresses = {f"{node.host}:{node.port}" for node in self.running}
        # A node that was just killed is still announced for a moment, and nothing reports when that ends.
        while any(set(node.info().get("connect_urls", ())) != addresses for node in self.running):
            if time.monotonic() > deadline:
                raise BrokerFailed(f"the NATS nodes did not find each other within {START_TIMEOUT_S:g} s")
            time.sleep(_POLL_S)

    def take_out(self, node: NatsNode) -> None:
        """Have a node leave the cluster, as an operator does: its routes end, and it keeps its clients.

        Return once neither it nor the others announce each other.
        """
        others = [one for one in self.running if one is not node]
        for one in (node, *others):
            self._route(one, [other for other in others if one is not node])
        deadline = time.monotonic() + START_TIMEOUT_S
        while len(node.info()["connect_urls"]) > 1 or any(
            len(one.info()["connect_urls"]) > len(others) for one in others
        ):
            if time.monotonic() > deadline:
                raise BrokerFailed(f"the NATS node did not leave its cluster within {START_TIMEOUT_S:g} s")
            time.sleep(_POLL_S)

    def take_back(self, node: NatsNode) -> None:
        """Have a node that was taken out join the cluster again; return once all announce each other."""
        for one in (node, *[one for one in self.running if one is not node]):
            self._route(one, self.nodes)
        self.wait_until_meshed()

    @staticmethod
    def _route(node: NatsNode, others: Sequence[NatsNode]) -> None:
        """Give a running node routes to these, and to no other."""
        routes = [f"nats://{_HOST}:{other.route_port}" for other in others if other is not node]
        listen = f'listen: "{_HOST}:{node.route_port}"'
        node.extra = [line for line in node.extra if not line.startswith("cluster:")]
        node.extra = [*node.extra, f"cluster: {{name: tests, {listen}, routes: {json.dumps(routes)}}}"]
        node.reload()

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self
