"""Sentinels over a master and its replicas, all of them real processes: `SentinelSet`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self
from urllib.parse import quote

import redis
from attrs import define, field

from backplane_testservers.broker import Kind
from backplane_testservers.ports import free_port
from backplane_testservers.process import ProcessBroker, Tls
from backplane_testservers.redis_server import RedisServer, listen_lines
from backplane_testservers.search import binaries

__all__ = ["SERVICE", "SentinelServer", "SentinelSet", "ask"]

SERVICE: Final = "orders"
READY_S: Final = 30.0
_POLL_S: Final = 0.01
# Otherwise a replica waits 5 s for others before it gets its copy.
_AT_ONCE: Final = ("repl-diskless-sync-delay 0",)


@define(kw_only=True, eq=False)
class SentinelServer(ProcessBroker):
    """A sentinel: the same executable as a Redis server, in another mode.

    Args:
        password: Of its default user.
    """

    ready_marker: ClassVar[bytes] = b"Sentinel ID is"
    no_tls_markers: ClassVar[Sequence[bytes]] = RedisServer.no_tls_markers

    password: str | None = field(default=None, repr=False)

    @property
    def kind(self) -> Kind:
        return "redis"

    @property
    def url(self) -> str:
        login = "" if self.password is None else f":{quote(self.password, safe='')}@"
        return f"redis{'s' * (self.tls is not None)}://{login}{self.host}:{self.port}"

    def binaries(self) -> Sequence[Path]:
        return binaries("redis")

    def command(self, binary: Path, config: Path) -> Sequence[str]:
        return [str(binary), str(config), "--sentinel"]

    def config(self, port: int, directory: Path) -> str:
        lines = [f"bind {self.host}", f"dir {directory}", "protected-mode no", *listen_lines(port, self.tls)]
        if self.tls is not None:
            lines.append("tls-replication yes")  # with which it connects to what it watches
        if self.password is not None:
            lines.append(f'requirepass "{self.password}"')
        return "\n".join([*lines, *self.extra, ""])


@define(kw_only=True, eq=False)
class SentinelSet:
    """A master, its replicas and sentinels that watch them. As a context manager it runs on entry and is gone on exit.

    Args:
        replicas: How many.
        sentinels: How many.
        down_after_ms: How long a node may be silent.
        password: Of the Redis servers.
        sentinel_password: Of the sentinels.
        tls: All of them speak TLS, and nothing else.
        sentinel_tls: The sentinels do, and the Redis servers don't.
    """

    replicas: int = 2
    sentinels: int = 3
    down_after_ms: int = 800
    password: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    tls: Tls | None = field(default=None, repr=False)
    sentinel_tls: Tls | None = field(default=None, repr=False)
    nodes: list[RedisServer] = field(factory=list[RedisServer], init=False)
    """The Redis servers; the first master first."""
    watchers: list[SentinelServer] = field(factory=list[SentinelServer], init=False)
    _stack: ExitStack = field(factory=ExitStack, init=False)

    @property
    def url(self) -> str:
        """Where clients connect, with the Redis servers' password if there is one."""
        login = "" if self.password is None else f":{quote(self.password, safe='')}@"
        return f"redis{'s' * (self.tls is not None)}+sentinel://{login}{self.hosts}/{SERVICE}"

    @property
    def hosts(self) -> str:
        """The sentinels' addresses, separated by commas."""
        return ",".join([f"{watcher.host}:{watcher.port}" for watcher in self.watchers])

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        master = self._node()
        for _ in range(self.replicas):
            self._node(f"replicaof {master.host} {master.port}")
        self._until(
            lambda: ask(master, "INFO", "replication")["connected_slaves"] == self.replicas, "the replicas connect"
        )
        # They would find each other by themselves, in seconds.
        names = {free_port(): secrets.token_hex(20) for _ in range(self.sentinels)}
        for port, name in names.items():
            others = [
                f"sentinel known-sentinel {SERVICE} {master.host} {other} {names[other]}"
                for other in names
                if other != port
            ]
            lines = [f"sentinel myid {name}", *self._monitor(master), *others]
            # What it connects to it watches by TLS or not, other sentinels included; the last line counts.
            lines += [] if self.sentinel_tls is None else ["tls-replication no"]
            watcher = SentinelServer(
                password=self.sentinel_password, tls=self.tls or self.sentinel_tls, extra=lines, port=port
            )
            self.watchers.append(self._stack.enter_context(watcher))
        self._until(self._all_known, "the sentinels know each other and the replicas")

    def _node(self, *lines: str) -> RedisServer:
        secret = [] if self.password is None else [f'masterauth "{self.password}"']
        node = RedisServer(password=self.password, tls=self.tls, extra=[*_AT_ONCE, *secret, *lines])
        self.nodes.append(self._stack.enter_context(node))
        return node

    def _monitor(self, master: RedisServer) -> list[str]:
        quorum = self.sentinels // 2 + 1
        lines = [
            f"sentinel monitor {SERVICE} {master.host} {master.port} {quorum}",
            f"sentinel down-after-milliseconds {SERVICE} {self.down_after_ms}",
            # The next attempt, should one fail, waits for twice this.
            f"sentinel failover-timeout {SERVICE} 5000",
        ]
        if self.sentinel_password is not None:
            lines.append(f'sentinel sentinel-pass "{self.sentinel_password}"')
        return lines if self.password is None else [*lines, f'sentinel auth-pass {SERVICE} "{self.password}"']

    def _all_known(self) -> bool:
        return all(self._knows_all(ask(watcher, "SENTINEL", "MASTER", SERVICE)) for watcher in self.watchers)

    def _knows_all(self, state: list[str]) -> bool:
        known = dict(zip(state[::2], state[1::2], strict=True))
        return (int(known["num-slaves"]), int(known["num-other-sentinels"])) == (self.replicas, self.sentinels - 1)

    @property
    def master(self) -> RedisServer:
        """The master that most running sentinels name."""
        ports = [get_master_port(watcher) for watcher in self.watchers if watcher.running]
        most = max(set(ports), key=ports.count)
        return next(node for node in self.nodes if node.port == most)

    def has_failed_over(self, old: RedisServer) -> bool:
        """Return whether each running sentinel names another master."""
        return all(get_master_port(watcher) != old.port for watcher in self.watchers if watcher.running)

    def fail_over(self) -> None:
        """Have a sentinel promote another node, though nothing is wrong."""
        ask(self.watchers[0], "SENTINEL", "FAILOVER", SERVICE)

    def detach(self) -> RedisServer:
        """Promote a replica by hand, point the sentinels to it, and return it.

        The old master is left alone and stays one for ever: no sentinel knows it any longer.
        """
        new = next(node for node in self.nodes if node is not self.master)
        ask(new, "REPLICAOF", "NO", "ONE")
        for watcher in self.watchers:
            ask(watcher, "SENTINEL", "REMOVE", SERVICE)
            for line in self._monitor(new):
                _, option, *rest = line.replace('"', "").split()
                if option == "monitor":
                    ask(watcher, "SENTINEL", "MONITOR", *rest)
                elif option != "sentinel-pass":
                    ask(watcher, "SENTINEL", "SET", rest[0], option, rest[1])
        return new

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + READY_S
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"not within {READY_S:g} s: {what}")
            # Nothing to wait on: nothing reports when they have found each other.
            time.sleep(_POLL_S)


def ask(server: RedisServer | SentinelServer, *words: str) -> Any:
    """Execute a command on a server and return its reply."""
    untyped: Any = redis  # as far as a strict checker sees
    tls = {} if server.tls is None else {"ssl_ca_certs": str(server.tls.ca)}
    with untyped.Redis.from_url(server.url, decode_responses=True, protocol=2, **tls) as client:
        return client.execute_command(*words)


def get_master_port(watcher: SentinelServer) -> int:
    """Return the port of the master that one sentinel names."""
    return int(ask(watcher, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])
