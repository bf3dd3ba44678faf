"""A caller's credential provider, asked without holding the loop, and listened to: `Credentials`."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeAlias, cast
from weakref import WeakKeyDictionary

from attrs import define, field
from backplane_core import TransportError
from backplane_core.sockets import SlowCall
from redis.credentials import CredentialProvider, StreamingCredentialProvider

from backplane_redis._refusals import KNOWN_CODES

__all__ = ["Credentials", "Renewable", "log_refused_renewal"]

logger: Final = logging.getLogger("backplane")

_Login: TypeAlias = "tuple[str] | tuple[str, str]"

_EARLIEST: Final = 0.8
"""Of the interval: pods that started together renew apart, so that a fleet does not log in all at once."""


def log_refused_renewal(where: str, reply: str | None) -> None:
    """Log that a server refused renewed credentials, by the code of its reply: the rest may quote anything.

    Args:
        where: The server's address.
        reply: What it said; None: nothing, as some do.
    """
    code = "without a reply" if reply is None else reply.partition(" ")[0]
    text = "Redis at %s refused renewed credentials (%s); the link goes on with those that it has"
    logger.warning(text, where, code if reply is None or code in KNOWN_CODES else "an error")


class Renewable(Protocol):
    """A live connection that can authenticate again."""

    async def renew(self, login: Sequence[str]) -> None:
        """Authenticate again; raise `TransportError` if the connection is dead."""
        ...


@define(eq=False)
class _News:
    """Where one connection waits for credentials that its provider announces.

    Args:
        loop: The connection's.
    """

    loop: asyncio.AbstractEventLoop
    announced: asyncio.Event = field(factory=asyncio.Event, init=False)
    login: _Login | None = field(default=None, init=False, repr=False)

    def announce(self, login: _Login | None) -> None:
        self.login = login
        self.announced.set()


class _Listener:
    """Passes on what a streaming provider announces. A provider has one listener, and connections of many."""

    def __init__(self) -> None:
        self.news: set[_News] = set()

    def announced(self, token: object) -> None:
        """Take a new token; may be called in any thread."""
        read, value = getattr(token, "try_get", None), getattr(token, "get_value", None)
        login: _Login | None = None
        if callable(read) and callable(value):
            login = (cast("str", read("oid")), cast("str", value()))
        for news in [*self.news]:
            with suppress(RuntimeError):  # its loop is closed
                news.loop.call_soon_threadsafe(news.announce, login)

    def failed(self, error: object) -> None:
        """Log that the provider got no new token. The old one may still do: the broker says when it does not."""
        logger.warning("the credential provider reports %s: no renewed credentials", type(error).__name__)


_listeners: Final[WeakKeyDictionary[StreamingCredentialProvider, _Listener]] = WeakKeyDictionary()


class Credentials(CredentialProvider):
    """What redis-py takes for a provider, around the caller's.

    A provider that asks a service may take a second, and redis-py's own `get_credentials_async` calls it in the loop.
    So it is called in a thread, and in one at a time: one that hangs must not collect threads. A provider with an
    asynchronous method of its own is awaited.

    Tokens expire, and then the broker ends the connection. A streaming provider announces the next token in time, and
    each live connection authenticates with it: no event is missed. For any other provider `every_s` does the same.

    Args:
        provider: The caller's.
        every_s: Seconds after which live connections authenticate again, a fifth less at random; None: only if the
            provider announces it.
    """

    def __init__(self, provider: CredentialProvider, every_s: float | None) -> None:
        self._provider = provider
        self._every_s = every_s
        self._own_method: Callable[[], Any] | None = None
        if type(provider).get_credentials_async is not CredentialProvider.get_credentials_async:
            self._own_method = provider.get_credentials_async
        self._call = SlowCall(self.get_credentials)
        self._listener: _Listener | None = None
        if isinstance(provider, StreamingCredentialProvider) and provider.is_streaming():
            self._listener = _listeners.get(provider)
            if self._listener is None:
                self._listener = _listeners[provider] = _Listener()
                provider.on_next(self._listener.announced)
                provider.on_error(self._listener.failed)

    def get_credentials(self) -> _Login:
        """Return user name and password, or the password alone."""
        return self._provider.get_credentials()

    async def get_credentials_async(self) -> _Login:
        """Return user name and password, or the password alone, without holding the loop."""
        if self._own_method is not None:
            return cast("_Login", await self._own_method())
        return await self._call.result()

    def keep(self, connection: Renewable) -> asyncio.Task[None] | None:
        """Return a task that renews a connection's credentials until it is cancelled; None if nothing ever renews them.

        Args:
            connection: Live.
        """
        if self._listener is None and self._every_s is None:
            return None
        return asyncio.create_task(self._keep(connection), name="backplane-credentials")

    async def _keep(self, connection: Renewable) -> None:
        news = _News(asyncio.get_running_loop())
        listening = set[_News]() if self._listener is None else self._listener.news
        listening.add(news)
        try:
            with suppress(TransportError):  # the link is dead, which it reports itself
                while True:
                    if (login := await self._next(news)) is not None:
                        await connection.renew(login)
        finally:
            listening.discard(news)

    async def _next(self, news: _News) -> _Login | None:
        """Wait for the time to renew, and return the credentials; None if the provider failed."""
        every_s = self._every_s
        with suppress(TimeoutError):
            async with asyncio.timeout(None if every_s is None else random.uniform(_EARLIEST, 1) * every_s):  # noqa: S311 -- no secret
                await news.announced.wait()
        news.announced.clear()
        login, news.login = news.login, None
        if login is not None:
            return login
        try:
            return await self.get_credentials_async()
        except Exception as error:  # noqa: BLE001 -- the caller's; its text may hold a secret
            logger.warning("the credential provider raised %s: no renewed credentials", type(error).__name__)
            return None
