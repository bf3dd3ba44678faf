"""`SentinelTransport`: opens links to the master of a service, and leaves it when the sentinels name another."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from random import uniform
from typing import Any, Final, cast
from urllib.parse import unquote, urlencode, urlsplit

from backplane_core import AuthenticationError, ConfigurationError, Traits, TransportError
from redis.asyncio.connection import SSLConnection
from redis.exceptions import NoPermissionError, RedisError

from backplane_redis._connection import LinkConnection, connection_factory
from backplane_redis._link import RedisLink
from backplane_redis._sentinel.quorum import NEWS_S, Answer, Sentinel, Views
from backplane_redis._url import Hosts, shown
from backplane_redis.transport import FIXED, RedisTransport, checked_factory, node_options, opened

__all__ = ["SentinelLink", "SentinelTransport"]

_SCHEMES: Final = {
    "redis+sentinel": "redis",
    "rediss+sentinel": "rediss",
    "valkey+sentinel": "redis",
    "valkeys+sentinel": "rediss",
}
_PORT: Final = 26379
_SENTINEL_OPTIONS: Final = ("credential_provider", "password", "ssl", "username")
_SOCKET_OPTIONS: Final = ("socket_keepalive", "socket_keepalive_options")

CHECK_S: Final = 1.0
"""How often each sentinel is asked: a fleet of 1,000 pods costs it 2,000 small commands a second."""

NODE_S: Final = 2.0
"""How long a master may take to be connected to: one that froze is soon no master any more, so ask again."""

LAST_WORD_S: Final = 0.05
"""How long the others are waited for once most sentinels answered: amid a failover one knows before the rest."""

LONG_S: Final = NEWS_S + 4 * CHECK_S
"""Sentinels that answer leave a master unsure for less than this, so after that a deposed one may have been missed."""

_ROLE: Final = b"*1\r\n$4\r\nROLE\r\n"


class SentinelTransport:
    """Opens links to the master of a service that sentinels watch; constructing it opens nothing.

    Args:
        url: `redis+sentinel://user:password@host1:26379,host2:26379/service/0`, or with `rediss+sentinel` (TLS),
            `valkey+sentinel`, `valkeys+sentinel` (TLS). Name every sentinel: what most of them say counts. User and
            password are those of the Redis servers. Options stand in the query: those of `RedisTransport`, and
            `sentinel_username`, `sentinel_password`.
        connection_kwargs: As `RedisTransport`; and `sentinel_kwargs`, a mapping with what differs towards the
            sentinels: `username`, `password`, `credential_provider`, `ssl` (True or False), `ssl_*`.

    Raises:
        ConfigurationError: URL or options are wrong. The message says what is allowed and shows no secret.
    """

    traits: Traits = RedisTransport.traits

    def __init__(self, url: str, *, connection_kwargs: Mapping[str, Any] | None = None) -> None:
        if url.strip().partition("://")[0].lower() not in _SCHEMES:
            raise ConfigurationError(f"a Sentinel URL starts with {'://, '.join(_SCHEMES)}://")
        hosts = Hosts.of(url, _PORT)
        self._url = hosts.url
        path = re.fullmatch("/([^/]+)((?:/[0-9]+)?)", hosts.path)
        if path is None:
            raise ConfigurationError(
                f"a {hosts.scheme}:// URL holds the name of a service and may hold a database: "
                f"{hosts.scheme}://host1:{_PORT},host2:{_PORT}/service/0"
            )
        self._service = unquote(path[1])
        given = dict(connection_kwargs or {})
        query = hosts.options
        credentials = {
            name: query.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in query
        }
        own = given.pop("sentinel_kwargs", {})
        if not isinstance(own, Mapping):
            raise ConfigurationError(f"{self._url}: sentinel_kwargs is a mapping of options")
        own = {**cast("Mapping[str, Any]", own), **credentials}
        base = _SCHEMES[hosts.scheme]
        # Whichever host it names: each open puts the master's there.
        node = urlsplit(f"{base}://{hosts.login}localhost{path[2]}?{urlencode(query)}")
        self._node = node_options(node, given, self._url)
        checked_factory(dict(self._node), self._url)
        options = _sentinel_options(self._node, own, self._url)
        self._sentinels = [
            (checked_factory({**options, "host": host, "port": port}, self._url), shown((host, port)))
            for host, port in hosts.addresses
        ]

    def __repr__(self) -> str:
        return f"SentinelTransport({self._url!r})"

    async def open(self) -> SentinelLink:
        """Ask the sentinels for the master, connect there, and check that it is one; in one attempt."""
        sentinels = [Sentinel(make, where) for make, where in self._sentinels]
        try:
            views = await self._ask(sentinels)
            connection = await self._connect(views)
            # Nothing is awaited from here on: what is open is the link's.
            return SentinelLink(connection, sentinels, views, self._service)
        except BaseException:
            for sentinel in sentinels:
                await sentinel.close()
            raise

    async def _ask(self, sentinels: Sequence[Sentinel]) -> Views:
        """Ask all at once, so that one that is away holds up nobody; not all need to answer."""
        views = Views(len(sentinels), time.monotonic() - NEWS_S)
        failures: list[TransportError] = []

        async def ask(number: int, sentinel: Sentinel) -> None:
            try:
                views.heard(number, await sentinel.ask(self._service))
            except TransportError as failure:
                failures.append(failure)

        async with asyncio.TaskGroup() as group:
            asking = {group.create_task(ask(*numbered)) for numbered in enumerate(sentinels)}
            while asking and views.answers < views.majority:
                _, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            if asking:
                _, asking = await asyncio.wait(asking, timeout=LAST_WORD_S)
            for late in asking:
                late.cancel()
        if not views.answers:
            raise _no_answer(failures, self._service)
        if views.newest is None:
            # Worth another try: a sentinel that an operator sets up anew knows it in a moment.
            raise TransportError(f"the sentinels know no service {self._service!r}: is the URL's name right?")
        return views

    async def _connect(self, views: Views) -> LinkConnection:
        master = views.newest
        assert master is not None
        views.chosen(master)
        where, peer = shown(master), f"the master of {self._service!r}"
        host, port = master
        make = connection_factory({**self._node, "host": host, "port": port})
        try:
            async with asyncio.timeout(NODE_S):
                connection = await opened(make(), where, peer)
                role = await _role_of(connection)
        except TimeoutError:
            failure = TransportError(f"can't connect to {peer} at {where}: no answer within {NODE_S:g} s")
        except NoPermissionError:
            failure = AuthenticationError(f"can't connect to {peer} at {where}: the user lacks +role")
        except (RedisError, OSError):
            failure = TransportError(f"can't connect to {peer} at {where}: it broke off")
        else:
            if role == b"master":
                return connection
            await connection.disconnect()
            failure = TransportError(f"{peer} at {where} is a replica now; the sentinels have yet to say who follows")
        raise failure


class SentinelLink(RedisLink):
    """A link to a master; it dies when the sentinels name another, or the node says that it is none.

    A deposed master still answers: it takes each PUBLISH, and delivers it to whoever is left there. So a task of this
    link asks each sentinel, and the node, every `CHECK_S`. A sentinel that is away or slow costs the link nothing.
    """

    def __init__(self, connection: LinkConnection, sentinels: Sequence[Sentinel], views: Views, service: str) -> None:
        assert views.master is not None
        super().__init__(connection, shown(views.master))
        self._sentinels = sentinels
        self._views = views
        self._service = service
        self._role: object = b"master"
        self._watching = asyncio.create_task(self._watch(), name="backplane-sentinel")

    async def aclose(self) -> None:
        """Close the socket and those to the sentinels at once; pending calls raise."""
        async with AsyncExitStack() as stack:  # each, even if this is cancelled, or fails, at another one
            self._watching.cancel()
            stack.push_async_callback(asyncio.wait, [self._watching])
            for sentinel in self._sentinels:
                stack.push_async_callback(sentinel.close)
            stack.push_async_callback(super().aclose)

    @property
    def sure_until(self) -> float:
        """Until when this node was surely the master."""
        return self._views.sure_until

    @property
    def in_vain(self) -> bool:
        """Whether it was replaced while it lived on, or nobody could say for long. One that dies is asked about."""
        is_deposed = self._views.moved_to is not None or self._role != b"master"
        return is_deposed or time.monotonic() - self.sure_until > LONG_S

    async def _watch(self) -> None:
        """Ask each sentinel, and the node, again and again; a link that can't is dead."""
        try:
            async with asyncio.TaskGroup() as group:
                for number, sentinel in enumerate(self._sentinels):
                    group.create_task(self._follow(number, sentinel))
                group.create_task(self._check_role())
        except* TransportError:  # the link is dead, and has said why
            pass
        except* Exception as failed:  # noqa: BLE001 -- a link that nobody watches must not pass for a live one
            await self._leave(f"its watch over the sentinels failed: {type(failed.exceptions[0]).__name__}")

    async def _follow(self, number: int, sentinel: Sentinel) -> None:
        while self._dead is None:
            await self._pause()
            answer: Answer | None = None
            with suppress(TransportError):  # away or slow: the others' word counts
                answer = await sentinel.ask(self._service)
            self._views.heard(number, answer)
            if moved := self._views.moved_to:
                await self._leave(f"the sentinels say that the master of {self._service!r} is {shown(moved)} now")

    async def _check_role(self) -> None:
        while self._dead is None:
            await self._pause()
            await self._run("ROLE", ("role",), _ROLE)
            if self._role != b"master":
                await self._leave(f"the master of {self._service!r} has become a replica")

    @staticmethod
    async def _pause() -> None:
        # A failover would set a whole fleet to one beat.
        await asyncio.sleep(uniform(0.75, 1.25) * CHECK_S)  # noqa: S311 -- no secret

    def _answers(self, reply: object) -> bool:
        """Take the answer to ROLE, a list; only where it was asked for, as a torn message may be one too."""
        wait = self._at_hand()
        if wait is None or wait.command != "ROLE" or not isinstance(reply, list) or not reply:
            return False
        self._role = reply[0]
        return True

    async def _leave(self, reason: str) -> None:
        """Die of it, and wake whoever reads."""
        self._die(reason)
        with suppress(RedisError, OSError):
            await self._connection.disconnect()


async def _role_of(connection: LinkConnection) -> object:
    try:
        await connection.send_command("ROLE")
        reply = cast("object", await connection.read_response())
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return cast("list[object]", reply)[0] if isinstance(reply, list) and reply else None


def _no_answer(failures: Sequence[TransportError], service: str) -> TransportError:
    said = "; ".join([str(failure) for failure in failures])
    message = f"no sentinel answers for {service!r}: {said}"
    # Credentials that one refuses are wrong for all, most likely; if the others were only away, trying again tells.
    refused = bool(failures) and all(isinstance(failure, AuthenticationError) for failure in failures)
    if refused:
        return AuthenticationError(f"{message}; sentinels have credentials of their own, see sentinel_kwargs")
    return TransportError(message, retryable=any(failure.retryable for failure in failures))


def _sentinel_options(node: Mapping[str, Any], own: Mapping[str, Any], url: str) -> dict[str, Any]:
    """Return redis-py's options towards a sentinel: the node's TLS and sockets, and credentials of its own."""
    tls = own.get("ssl", "connection_class" in node)
    allowed = (*_SENTINEL_OPTIONS, *_SOCKET_OPTIONS)
    unknown = [name for name in sorted(own) if name not in allowed and not (tls and name.startswith("ssl_"))]
    if unknown:
        raise ConfigurationError(
            f"{url}: sentinel_kwargs has no option {unknown[0]!r}; allowed: {', '.join(allowed)}, "
            "with TLS redis-py's ssl_ options"
        )
    shared = {name: value for name, value in node.items() if name in _SOCKET_OPTIONS or (tls and name[:4] == "ssl_")}
    rest = {name: value for name, value in own.items() if name != "ssl"}
    # RESP2, which every sentinel speaks. No name: the users of a sentinel may often do no more than ask.
    options: dict[str, Any] = {**FIXED, "protocol": 2, "client_name": None, **shared, **rest}
    return {**options, "connection_class": SSLConnection} if tls else options
