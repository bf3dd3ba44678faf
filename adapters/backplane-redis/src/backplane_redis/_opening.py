"""Opens connections, and explains why one could not be opened: `Connector`."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final, Self

import hiredis
import redis.exceptions as redis_errors
from attrs import frozen
from backplane_core import Access, ConfigurationError, TransportError
from backplane_core.sockets import AddressMap, Dialer

from backplane_redis._connection import LinkConnection, make_connection
from backplane_redis._credentials import Credentials
from backplane_redis._greeting import RESP3
from backplane_redis._handshake import Refused, shake_hands
from backplane_redis._options import connection_options
from backplane_redis._reaching import Reaching
from backplane_redis._refusals import describe_foreign, make_refusal
from backplane_redis._strangers import Stranger, Strangers
from backplane_redis._tls import SharedTls
from backplane_redis._url import Address, RedisUrl, format_address

__all__ = ["Connector"]


@frozen
class _Hint:
    """What an exception of this kind means for the person who reads the error, and whether trying again can help."""

    kind: type[Exception]
    text: str
    retryable: bool = True


# redis-py wraps errors differently per kind of socket, so all causes are searched; the most telling kinds stand first.
_HINTS: Final = (
    _Hint(
        ssl.SSLCertVerificationError,
        "its certificate can't be verified, {0.verify_message}; set ssl_ca_certs to the CA's file, and connect by a "
        "name in the certificate",
        retryable=False,
    ),
    _Hint(ssl.SSLError, "the TLS handshake failed: does the port speak TLS, or require a client certificate?"),
    _Hint(socket.gaierror, "the host name has no address"),
    _Hint(ConnectionRefusedError, "nothing listens there: is the server running, and the port right?"),
    _Hint(FileNotFoundError, "there is no such socket: is the server running, and the path right?"),
    _Hint(TimeoutError, "no answer in time: check address and firewall"),
    _Hint(
        redis_errors.RedisError,
        "it closed the connection: does the port want TLS (rediss://), has it reached its maxclients, or is it a proxy "
        "that knows no HELLO (then set protocol=2)?",
    ),
    _Hint(ConnectionError, "it closed the connection: does the port want TLS (rediss://)?"),
)


class Connector:
    """Opens connections with the same options to one server or to several; constructing it opens nothing.

    Args:
        options: redis-py's.
        url: For errors.
        addresses: Where the addresses that servers announce can be reached; None: where they say.
        tls_hostname: The name that each certificate must hold; None: that of the address.
        renew_s: Seconds after which live connections authenticate again; None: if the provider announces it.
        may_speak_resp2: Whether RESP2 will do if a server knows no RESP3.

    Raises:
        ConfigurationError: No connection can be made with these options.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        url: RedisUrl,
        *,
        addresses: AddressMap | None = None,
        tls_hostname: str | None = None,
        renew_s: float | None = None,
        may_speak_resp2: bool = False,
    ) -> None:
        provider = options.get("credential_provider")
        self._credentials = None if provider is None else Credentials(provider, renew_s)
        self._options = {**options, "credential_provider": self._credentials} if self._credentials else options
        self._addresses = addresses or AddressMap()
        self._tls_hostname = tls_hostname
        self._may_speak_resp2 = may_speak_resp2
        self._dialer = Dialer()
        self._hosts = url.hosts
        self._url = url
        try:
            # Otherwise a missing certificate file would show at the first open, as a broken connection.
            self._tls = SharedTls.of(make_connection(options))
        except (redis_errors.RedisError, OSError, ValueError, TypeError, AttributeError) as error:
            problem = str(error) or type(error).__name__
        else:
            self._strangers = Strangers(url, in_tls=self._tls is not None)
            return
        # Out here: inside, even `from None` would keep the library's own as `__context__`.
        raise ConfigurationError(f"the options for {url} can't be used: {problem}")

    @classmethod
    def to_server(cls, url: RedisUrl, reaching: Reaching) -> Self:
        """Return one for the server of a URL, which may speak RESP2 unless the URL asks for a version.

        Args:
            url: For errors.
            reaching: What the URL and the options say.

        Raises:
            ConfigurationError: No connection can be made with these options.
        """
        return cls(
            connection_options(reaching.url, reaching.given, protocol=reaching.protocol or RESP3),
            url,
            tls_hostname=reaching.tls_hostname,
            renew_s=reaching.renew_s,
            may_speak_resp2=reaching.protocol is None,
        )

    async def open(
        self, address: Address | None = None, *, peer: str = "Redis", protocol: int | None = None
    ) -> LinkConnection:
        """Connect, authenticate and greet, in one attempt.

        Args:
            address: Where to; None: to the socket that the options name.
            peer: What is there, for people.
            protocol: 2 or 3, for RESP2 and RESP3; None: what the options say.

        Raises:
            TransportError: It failed; the message suggests a fix and shows no secret.
            AuthenticationError: The server refused the credentials.

        Cancellation: leaves no socket behind.
        """
        reached = None if address is None else self._addresses.reachable(*address)
        place: dict[str, Any] = {} if reached is None else {"host": reached[0], "port": reached[1]}
        if protocol is not None:
            place["protocol"] = protocol
        connection = make_connection({**self._options, **place, "redis_connect_func": shake_hands})
        connection.dialer, connection.tls_hostname = self._dialer, self._tls_hostname
        connection.credentials = self._credentials
        connection.may_speak_resp2 = self._may_speak_resp2
        try:
            await self._connect(connection)
        except BaseException as error:
            # redis-py leaves the socket open when a credential provider raises or is cancelled.
            await connection.disconnect(nowait=True)
            if not isinstance(error, Exception) or isinstance(error, ConfigurationError):
                raise
            where = self._options["path"] if address is None else format_address(address)
            if reached != address and reached is not None:
                where = f"{where} (by address_map {format_address(reached)})"
            hint = "" if address is None or address in self._hosts else _hint_for_announced(error)
            what = f"can't connect to {peer} at {where}"
            failure = _explain(error, what, connection)
            failure = type(failure)(f"{failure}{hint}", retryable=failure.retryable)
            is_open_question = self._may_be_stranger(error)
        else:
            self._strangers.was_reached = True
            return connection
        if is_open_question and (text := await self.describe_stranger(connection)) is not None:
            failure = TransportError(f"{what}: {text}", retryable=False)
        raise failure  # out here, without `__context__`: a server before Redis 6 quotes the password of HELLO

    async def describe_stranger(self, connection: LinkConnection) -> str | None:
        """Return who is there instead, if a server hung up without a word; None: that can't be known."""
        return None if connection.first_bytes else await self._strangers.describe(connection)

    async def _connect(self, connection: LinkConnection) -> None:
        if self._tls is None:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's gap
        else:
            await self._tls.give(connection)
            await self._strangers.connect_in_tls(connection)

    def _may_be_stranger(self, error: Exception) -> bool:
        """Return whether a server may have failed to understand because it speaks TLS, or none.

        Servers that are about to stop, or busy, fail in the same ways, so it is asked only until one was reached.
        """
        if self._strangers.was_reached:
            return False
        causes = _causes(error)
        if self._tls is not None:
            is_trusted = not any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes)
            return is_trusted and any(isinstance(cause, ssl.SSLError) for cause in causes)
        # It hung up without a word.
        return any(isinstance(cause, redis_errors.ConnectionError | ConnectionError) for cause in causes)

    def access(self, address: Address | None) -> Access:
        """Return how the server at an address is reached; None: over its socket."""
        names = ("username", "password", "credential_provider")
        return Access(
            host=None if address is None else address[0],
            has_login=any(self._options.get(name) is not None for name in names),
            uses_tls=self._url.uses_tls,
            tls_scheme=self._url.scheme if self._url.uses_tls else self._url.other_scheme,
        )


def _causes(error: BaseException) -> list[BaseException]:
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    return causes


def _hint_for_announced(error: BaseException) -> str:
    """Return what to set if an address that no URL names can't be reached, or shows another one's certificate."""
    causes = _causes(error)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return "; this address was announced: tls_hostname says which name its certificate must hold instead"
    if any(isinstance(cause, OSError) for cause in causes):
        return "; this address was announced: if it can't be reached from here, address_map says where it can"
    return ""


def _explain(error: Exception, what: str, connection: LinkConnection) -> TransportError:
    """Return the error to raise. It quotes none of redis-py's texts: they may hold secrets."""
    causes = _causes(error)
    if any(isinstance(cause, RuntimeError) and "interpreter shutdown" in str(cause) for cause in causes):
        return TransportError(f"{what}: the interpreter exits, and can no longer look up host names")
    for cause in causes:
        if isinstance(cause, Stranger):
            return TransportError(f"{what}: {cause.text}", retryable=False)
        if isinstance(cause, Refused):
            return make_refusal(what, cause.step, cause.text, database=connection.db)
        if isinstance(cause, hiredis.ProtocolError):
            return TransportError(f"{what}: {describe_foreign(connection.first_bytes)}", retryable=False)
    for hint in _HINTS:
        for cause in causes:
            if isinstance(cause, hint.kind):
                return TransportError(f"{what}: {hint.text.format(cause)}", retryable=hint.retryable)
    return TransportError(f"{what}: {type(error).__name__} in a credential provider?")
