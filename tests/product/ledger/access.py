"""The users of a run's broker, each with rights and credentials that may change: `Access`.

Each pod logs in as a user of its own, so that something can be denied to one of them alone. Who only publishes is
another user, to whom nothing is ever denied.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from secrets import token_hex
from threading import Lock
from typing import Any, Final
from urllib.parse import urlsplit

import redis
from attrs import define, field
from backplane_testservers import NatsCluster, NatsServer, RedisCluster, RedisServer, SentinelSet
from backplane_testservers.nats_keys import Key, user_key

from tests.product.ledger.buses import DURABLE, Bus, BusName, url_of
from tests.product.ledger.tokens import Tokens

__all__ = ["MIB", "Access", "NatsAccess", "RedisAccess", "make_access"]

MIB: Final = 1024 * 1024
"""The least that Redis can be limited to; also the largest event that a pod publishes by default."""
CHANNEL: Final = "&"
KEY: Final = "~"
NATS_LIMIT: Final = 16 * 1024
"""Far more than the largest event of a plan takes."""


class Access(ABC):
    """The users of one broker. Every method but `url` and `options` blocks, so call them in a thread.

    Args:
        bus: The broker.
        pods: How many pods there are.
        shared: The channel that all pods hear.
        known: The channels that may be denied one by one.
    """

    @abstractmethod
    def open(self) -> None:
        """Make the users, who may do everything."""

    @abstractmethod
    def url(self, pod: int | None) -> str:
        """Return where a pod connects; None: who only publishes."""

    def options(self, pod: int) -> dict[str, Any]:
        """Return the options with which a pod logs in, besides its URL."""
        del pod
        return {}

    @abstractmethod
    def deny(self, pod: int, channels: Collection[str] | None) -> None:
        """Change what a pod may not do.

        Args:
            pod: Which, by number.
            channels: Those on which it may neither hear nor publish, and no others; None: all of them.
        """

    @abstractmethod
    def limit(self, *, mute: bool) -> int:
        """Have the broker refuse large frames, and return how much padding makes an event large.

        Args:
            mute: Refuse them without a word, if this broker can.
        """

    @abstractmethod
    def unlimit(self) -> None:
        """Have the broker accept them again."""

    @abstractmethod
    def expire(self, pod: int) -> None:
        """Refuse a pod's credentials from now on, while it has no others."""

    @abstractmethod
    def renew(self, pod: int) -> None:
        """Let the pod and the broker have new credentials of its user."""

    @abstractmethod
    def renewals(self) -> int:
        """Return how many times the broker was shown other credentials on a live link."""


@define
class RedisAccess(Access):
    """The ACL of one or several Redis servers, which is kept over restarts, and providers that announce tokens."""

    where: str
    servers: Sequence[RedisServer]
    pods: int
    shared: str
    known: Sequence[str]
    sigil: str
    """What the right to a channel begins with: the channel of pub/sub is none of the keys, and a stream is one."""
    tokens: list[Tokens] = field(factory=list[Tokens], init=False)
    _secrets: list[str] = field(factory=list[str], init=False)
    """What the servers accept, whatever the pods have by now."""
    _rights: list[str] = field(factory=list[str], init=False)
    _extra: list[Sequence[str]] = field(factory=list[Sequence[str]], init=False)

    def open(self) -> None:
        self._secrets = [token_hex(8) for _ in range(self.pods)]
        self.tokens = [Tokens(f"p{pod}", secret) for pod, secret in enumerate(self._secrets)]
        self._rights = [f"{self.sigil}*"] * self.pods
        for server in self.servers:
            self._extra.append([line for line in server.extra if not line.startswith("user ")])
        for pod in range(self.pods):
            self._apply(pod)

    def url(self, pod: int | None) -> str:
        del pod  # the provider says who it is
        return self.where

    def options(self, pod: int) -> dict[str, Any]:
        return {"connection_kwargs": {"credential_provider": self.tokens[pod]}}

    def deny(self, pod: int, channels: Collection[str] | None) -> None:
        if channels is None:
            self._rights[pod] = ""
        elif not channels:
            self._rights[pod] = f"{self.sigil}*"
        else:
            # A pattern can leave out letters, and no words: so the kinds of the known targets are left out by their
            # first letters, and then each is allowed by its name.
            letters = "".join(sorted({channel.removeprefix(f"{self.shared}:@")[0] for channel in self.known}))
            names = [self.shared, f"{self.shared}:@[^{letters}]*", *[one for one in self.known if one not in channels]]
            self._rights[pod] = " ".join([f"{self.sigil}{name}" for name in names])
        self._apply(pod)

    def limit(self, *, mute: bool) -> int:
        self._execute("CONFIG", "SET", "client-query-buffer-limit" if mute else "proto-max-bulk-len", str(MIB))
        return MIB - 100  # it is the frame around the event that is too large

    def unlimit(self) -> None:
        self._execute("CONFIG", "SET", "proto-max-bulk-len", "512mb")
        self._execute("CONFIG", "SET", "client-query-buffer-limit", "1gb")

    def expire(self, pod: int) -> None:
        self.tokens[pod].announce(f"wrong-{token_hex(8)}")

    def renew(self, pod: int) -> None:
        self._secrets[pod] = token_hex(8)
        self._apply(pod)  # what is logged in stays so
        self.tokens[pod].announce(self._secrets[pod])

    def renewals(self) -> int:
        stats: list[dict[str, Any]] = self._execute("INFO", "commandstats")
        return sum([int(one.get("cmdstat_auth", {}).get("calls", 0)) for one in stats])

    def _apply(self, pod: int) -> None:
        """Give a user its rights and its password, now and after each restart."""
        users = [f"user p{number} {' '.join(self._rules(number))}" for number in range(self.pods)]
        for server, extra in zip(self.servers, self._extra, strict=True):
            server.extra = [*extra, *users]
        self._execute("ACL", "SETUSER", f"p{pod}", "resetpass", "resetkeys", "resetchannels", *self._rules(pod))

    def _rules(self, pod: int) -> list[str]:
        other = "~*" if self.sigil == CHANNEL else "&*"
        return ["on", f">{self._secrets[pod]}", other, "+@all", *self._rights[pod].split()]

    def _execute(self, *command: str) -> list[Any]:
        untyped: Any = redis  # as far as a strict checker sees
        replies: list[Any] = []
        for server in self.servers:
            if server.running:
                with untyped.Redis(server.host, server.port, decode_responses=True) as client:
                    replies.append(client.execute_command(*command))
        return replies


@define
class NatsAccess(Access):
    """The users of one or several NATS servers, by nkeys, whose files the pods read at each connection."""

    where: str
    servers: Sequence[NatsServer]
    pods: int
    directory: Path
    keys: list[Key] = field(factory=list[Key], init=False)
    _rights: list[str] = field(factory=list[str], init=False)
    _renewals: int = 0
    _lock: Lock = field(factory=Lock, init=False)

    def open(self) -> None:
        self.keys = [user_key() for _ in range(self.pods)]
        self._rights = [""] * self.pods
        for pod in range(self.pods):
            self._hand_over(pod)
        self._reload()

    def url(self, pod: int | None) -> str:
        parts = urlsplit(self.where)
        if pod is None:
            return parts._replace(netloc=f"s:pw@{parts.netloc}").geturl()
        return parts._replace(query=f"nkey={self._file(pod)}").geturl()

    def deny(self, pod: int, channels: Collection[str] | None) -> None:
        subjects = [">"] if channels is None else [channel.replace(":", ".") for channel in channels]
        listed = ", ".join([f'"{subject}"' for subject in subjects])
        self._rights[pod] = (
            f", permissions: {{publish: {{deny: [{listed}]}}, subscribe: {{deny: [{listed}]}}}}" if subjects else ""
        )
        self._reload()

    def limit(self, *, mute: bool) -> int:
        del mute
        self._limit(NATS_LIMIT)
        return NATS_LIMIT

    def unlimit(self) -> None:
        self._limit(None)

    def expire(self, pod: int) -> None:
        self.keys[pod] = user_key()
        self._reload()

    def renew(self, pod: int) -> None:
        if self._file(pod).read_text() == self.keys[pod].seed:
            self.keys[pod] = user_key()
        self._hand_over(pod)
        self._reload()

    def renewals(self) -> int:
        return 0  # a live link can't be shown any

    def _limit(self, size: int | None) -> None:
        for server in self.servers:
            server.max_payload = size
        self._reload()

    def _file(self, pod: int) -> Path:
        return self.directory / f"p{pod}.nk"

    def _hand_over(self, pod: int) -> None:
        self._file(pod).write_text(self.keys[pod].seed)

    def _reload(self) -> None:
        users = [f"{{nkey: {key.public}{rights}}}" for key, rights in zip(self.keys, self._rights, strict=True)]
        line = f"authorization: {{users: [{{user: s, password: pw}}, {', '.join(users)}]}}"
        with self._lock:
            for server in self.servers:
                server.extra = [*[one for one in server.extra if not one.startswith("authorization:")], line]
                if server.running:
                    server.reload()


def make_access(name: BusName, bus: Bus, *, pods: int, shared: str, known: Sequence[str], directory: Path) -> Access:
    """Return the users of a broker.

    Args:
        name: Which one it is.
        bus: The broker.
        pods: How many pods there are.
        shared: The channel that all pods hear.
        known: The channels that may be denied one by one.
        directory: For files of keys.
    """
    where = url_of(name, bus)
    if isinstance(bus, NatsServer):
        return NatsAccess(where, [bus], pods, directory)
    if isinstance(bus, NatsCluster):
        return NatsAccess(where, bus.nodes, pods, directory)
    sigil = KEY if name in DURABLE else CHANNEL
    if isinstance(bus, RedisServer):
        return RedisAccess(where, [bus], pods, shared, known, sigil)
    if isinstance(bus, RedisCluster | SentinelSet):
        return RedisAccess(where, bus.nodes, pods, shared, known, sigil)
    raise TypeError(f"{bus!r} is no broker with users")
