"""Who may do what: a `Request` goes to the host's `authenticate`, which returns a `Grant` or raises `Refused`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl

from attrs import field, frozen
from backplane_core import InvalidTargetError, Target

from backplane_asgi._http.cookies import read_cookies
from backplane_asgi._types import Scope

__all__ = ["Authenticate", "Grant", "Refused", "Request"]

TRACE_HEADERS: Final = ("traceparent", "tracestate")
"""Of W3C Trace Context."""
UNAUTHORIZED: Final = 4401
FORBIDDEN: Final = 4403
TRY_LATER: Final = 1013
TOO_OFTEN: Final = 4429


@frozen(repr=False)
class Request:
    """What a client asked with, for `authenticate`. Its repr shows nothing of it, as tokens are in there.

    Args:
        scope: The ASGI scope of the connection.
    """

    scope: Scope
    _renewed: str | None = field(default=None, kw_only=True, alias="renewed")

    def renewed(self, token: str) -> Request:
        """Return the same request with another token, for the `authenticate` of a client that is connected.

        Args:
            token: What the client shows now.
        """
        return Request(self.scope, renewed=token)

    @property
    def is_renewal(self) -> bool:
        """Whether it is from a client that is connected, and shows a fresh token: `bearer`; all else is as it came."""
        return self._renewed is not None

    @property
    def path_params(self) -> Mapping[str, Any]:
        """What the framework's router took from the path; empty where it passes nothing on."""
        found: Mapping[str, Any] = self.scope.get("path_params") or {}
        return found

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters of the query, the last of each name. Servers log them: a token does not belong there."""
        return dict(parse_qsl(self.scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))

    def header(self, name: str) -> str | None:
        """Return the last header of that name; None if there is none.

        Args:
            name: Its name, in any case.
        """
        found = self._headers(name)
        return found[-1] if found else None

    def _headers(self, name: str) -> list[str]:
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.scope.get("headers", ()) if key.lower() == wanted]

    @property
    def cookies(self) -> Mapping[str, str]:
        """The cookies, the last of each name; those that are malformed are left out."""
        return read_cookies(self._headers("cookie"))

    @property
    def bearer(self) -> str | None:
        """The token of `Authorization: Bearer …`, or of a WebSocket's second subprotocol `bearer`, or None.

        Where the client has renewed it on an open WebSocket, the newest one.

        A browser can set no header on a WebSocket: `new WebSocket(url, ["bearer", token])` is the usual way out.
        """
        if self._renewed is not None:
            return self._renewed or None
        scheme, _, token = (self.header("authorization") or "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return token.strip()
        offered: Sequence[str] = self.scope.get("subprotocols") or ()
        word, token = [*offered, "", ""][:2]
        return token or None if word == "bearer" else None

    @property
    def trace(self) -> Mapping[str, str] | None:
        """What the headers say of the W3C trace that the request belongs to, for `publish(..., trace=...)`."""
        found = {name: text for name in TRACE_HEADERS if (text := self.header(name)) is not None}
        return found or None

    @property
    def last_event_id(self) -> str | None:
        """The id of the last event that a client got; None at its first request.

        An EventSource sends it by itself when it comes back; others can have it in the query, as `last-event-id`.
        """
        return self.header("last-event-id") or self.query.get("last-event-id")

    def __repr__(self) -> str:
        return f"<Request {self.scope.get('type')}>"


def _check_conn_id(_: object, __: object, conn_id: str | None) -> None:
    if conn_id is not None:
        Target.connection(conn_id)


@frozen(kw_only=True)
class Grant:
    """What one client may do.

    Args:
        targets: The targets whose events it gets.
        conn_id: The connection's id, for `exclude` and `Target.connection`; None: a new one. If clients may choose it,
            they may take each other's over: make it from what you have verified.
        may_subscribe: The targets that it may subscribe to by itself; anything with `in`. By default none.
        may_publish: The targets that it may publish to; anything with `in`. By default none.
        expires_at: Unix time in seconds at which the socket is closed with 4401, unless the client has shown a fresh
            token before; None: never.
        presence: What `fleet.presence` and `fleet.watch` show of it in its targets: a small JSON value, at most 1 KiB;
            nothing secret. None: it is not visible.
        presence_key: Who it is: clients with the same key are shown as one. None: each is shown, under its id.
    """

    targets: Sequence[Target] = ()
    conn_id: str | None = field(default=None, validator=_check_conn_id)
    may_subscribe: Collection[Target] = field(factory=frozenset[Target])
    may_publish: Collection[Target] = field(factory=frozenset[Target])
    expires_at: float | None = None
    presence: object = None
    presence_key: str | None = None


class Refused(Exception):  # noqa: N818 -- what a host raises reads as a sentence
    """Raise it in `authenticate`: the client gets the code and the reason, and is not connected.

    Args:
        code: 4401: not authenticated, 4403: not allowed, 4429: too often, 1013: not now, as the server is full. A
            WebSocket is closed with it. Over HTTP that is 401, 403, 429 and 503, and 200 for an `EventSource` that is
            to come back, which it would not do after 503.
        reason: What the client is to know, at most 123 bytes; nothing secret.
    """

    def __init__(self, code: int = UNAUTHORIZED, reason: str = "not authenticated") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason

    @property
    def status(self) -> int:
        """The status of an answer over HTTP."""
        return {UNAUTHORIZED: 401, TOO_OFTEN: 429, TRY_LATER: 503}.get(self.code, 403)


Authenticate: TypeAlias = Callable[[Request], Awaitable[Grant]]
"""The host's decision: an async function that takes a `Request` and returns a `Grant`, or raises `Refused`.

An `InvalidTargetError` in it is a refusal too, 4403: the client named an id that no target can have."""


async def ask_host(authenticate: Authenticate, request: Request) -> Grant:
    """Return what the host grants.

    Raises:
        Refused: It grants nothing, or the client named an id that no target can have: empty, or too long.
    """
    try:
        return await authenticate(request)
    except InvalidTargetError:
        raise Refused(FORBIDDEN, "not an id") from None
