"""`ClusterTransport`: opens links to a Redis or Valkey cluster, by sharded pub/sub."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final, cast

import redis.exceptions as redis_errors
from backplane_core import AuthenticationError, ConfigurationError, Traits, TransportError

from backplane_redis._cluster.link import ClusterLink
from backplane_redis._cluster.slots import Address, SlotMap, shown
from backplane_redis._connection import LinkConnection
from backplane_redis.transport import (
    MAX_PAYLOAD_BYTES,
    checked_factory,
    node_options,
    opened,
    shown_login,
    split_url,
)

__all__ = ["ClusterTransport"]

_SCHEMES: Final[Mapping[str, str]] = {
    "redis-cluster": "redis",
    "rediss-cluster": "rediss",
    "valkey-cluster": "redis",
    "valkeys-cluster": "rediss",
}
ASK_S: Final = 1.0
"""What one node may take to tell the slots: a frozen one must leave time to ask another within one attempt."""

OLDEST_MAJOR: Final = 7
"""Sharded pub/sub came with Redis 7.0."""


class ClusterTransport:
    """Opens links to the cluster of a URL; constructing it opens nothing.

    Args:
        url: `redis-cluster://user:password@host1:6379,host2:6379`, or with `rediss-cluster` (TLS), `valkey-cluster`,
            `valkeys-cluster` (TLS). Any node will do, several are for when one is away; the others are found.
            Options stand in the query.
        connection_kwargs: Options of redis-py's connection that don't fit a URL; the URL's own win.

    Raises:
        ConfigurationError: URL or options are wrong. The message says what is allowed and shows no secret.
    """

    traits: Traits = Traits(max_payload_bytes=MAX_PAYLOAD_BYTES)

    def __init__(self, url: str, *, connection_kwargs: Mapping[str, Any] | None = None) -> None:
        scheme, separator, rest = url.partition("://")
        authority, path, query = _cut(rest)
        login, at, addresses = authority.rpartition("@")
        parts = [
            split_url(f"{scheme}{separator}{login}{at}{one}{path}{query}", _SCHEMES) for one in addresses.split(",")
        ]
        scheme, first = parts[0]
        if first.path.strip("/"):
            raise ConfigurationError(f"a {scheme}:// URL holds hosts and no database: a cluster has but one")
        self._hosts: list[Address] = [(one.hostname or "", one.port or 6379) for _, one in parts]
        hosts = ",".join([shown(host) for host in self._hosts])
        self._url = f"{scheme}://{shown_login(login) if at else ''}{hosts}"
        given = {*(connection_kwargs or {}), *re.findall(r"[?&]([^=&]*)", query)}
        if "db" in given:
            raise ConfigurationError(f"{self._url} has no option 'db': a cluster has but one database")
        self._connection = checked_factory(node_options(first, connection_kwargs or {}, self._url), self._url)
        # Whom to ask, in turn: the URL's hosts, and the nodes that were found.
        self._askable = list(self._hosts)

    def __repr__(self) -> str:
        return f"ClusterTransport({self._url!r})"

    async def open(self) -> ClusterLink:
        """Ask one node after the other who serves which slots; nodes are connected to when a channel needs them."""
        failures: list[TransportError] = []
        for address in list(self._askable):
            # The next attempt begins with another: one node's view may be out of date.
            self._askable.remove(address)
            self._askable.append(address)
            try:
                connection, slots = await self._ask(address)
            except TransportError as error:
                failures.append(error)
                continue
            owners = slots.owners
            still = {*self._hosts, *owners, address}
            kept = [one for one in self._askable[:-1] if one in still]
            self._askable = list(dict.fromkeys([*kept, *sorted(owners - {address}), address]))
            link = ClusterLink(slots, self._connect)
            if address in owners:
                link.adopt(address, connection)
            else:
                await connection.disconnect(nowait=True)
            return link
        raise next((error for error in failures if not error.retryable), failures[-1])

    async def _connect(self, address: Address) -> LinkConnection:
        host, port = address
        return await opened(self._connection(host=host, port=port), shown(address))

    async def _ask(self, address: Address) -> tuple[LinkConnection, SlotMap]:
        """Return a connection to a node, and that node's view of the cluster.

        Raises:
            TransportError: It has none; or trying again can't help, since it is no node of a cluster, or too old.
            AuthenticationError: It refused the credentials, or the user may not ask.
        """
        where = shown(address)
        connection: LinkConnection | None = None
        problem = f"can't connect to Redis at {where}: no answer in time, check address and firewall"
        try:
            async with asyncio.timeout(ASK_S):
                connection = await self._connect(address)
                about = await _answer(connection, "HELLO")
                slots = _slots(about, await _answer(connection, "CLUSTER", "SLOTS"), address)
        except BaseException as error:
            if connection is not None:
                await connection.disconnect(nowait=True)
            if isinstance(error, redis_errors.RedisError | OSError) and not isinstance(error, TimeoutError):
                problem = f"can't connect to Redis at {where}: it broke off"
            elif not isinstance(error, TimeoutError):
                raise
        else:
            return connection, slots
        raise TransportError(problem)  # out here, without `__context__`


async def _answer(connection: LinkConnection, *words: str) -> Any:  # noqa: ANN401 -- whatever Redis sends
    """Ask and return the reply, or the error reply."""
    await connection.send_command(*words, check_health=False)
    try:
        return await connection.read_response()  # pyright: ignore[reportUnknownVariableType] -- redis-py's gap
    except redis_errors.ResponseError as error:
        return error


def _slots(about: Any, reply: Any, address: Address) -> SlotMap:  # noqa: ANN401 -- whatever Redis sends
    """Return the view that a node told, if it is a node of a cluster that can shard pub/sub."""
    where = shown(address)
    known = cast("dict[bytes, bytes]", about) if isinstance(about, dict) else {}
    version = known.get(b"version", b"0").decode()
    if int(version.partition(".")[0]) < OLDEST_MAJOR:
        raise TransportError(
            f"the server at {where} has version {version}: sharded pub/sub needs Redis or Valkey 7", retryable=False
        )
    if known.get(b"mode") != b"cluster":
        raise TransportError(
            f"the server at {where} is not in cluster mode: connect with redis:// instead", retryable=False
        )
    if isinstance(reply, redis_errors.NoPermissionError):
        raise AuthenticationError(f"can't ask Redis at {where} for the cluster's slots: the user lacks +cluster|slots")
    if isinstance(reply, Exception) or not reply:
        raise TransportError(f"Redis at {where} knows of no node that serves a slot: is the cluster set up?")
    return SlotMap.told(reply, address)


def _cut(rest: str) -> tuple[str, str, str]:
    """Return what stands between `://` and the path, the path, and the query with its mark."""
    before, mark, query = rest.partition("?")
    authority, slash, path = before.partition("/")
    return authority, slash + path, mark + query
