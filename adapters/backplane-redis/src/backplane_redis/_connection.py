"""redis-py's connection with what its public API lacks; all of its private names stand here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any, Final, cast

from redis.asyncio.connection import AbstractConnection, Connection, DefaultParser

__all__ = ["LinkConnection", "make_connection"]


class LinkConnection(AbstractConnection):
    """A connection that shows its byte stream and closes at once."""

    def stream(self) -> asyncio.StreamReader | None:
        """Return what arrives, unparsed; None where this redis-py keeps it under another name."""
        reader = getattr(self, "_reader", None)
        return reader if isinstance(reader, asyncio.StreamReader) else None

    def transport(self) -> asyncio.Transport | None:
        """Return the socket's transport, of which nothing has been read yet that is not parsed; likewise None."""
        writer, stream = getattr(self, "_writer", None), self.stream()
        if not isinstance(writer, asyncio.StreamWriter) or stream is None:
            return None
        early = getattr(stream, "_buffer", None)
        return cast("asyncio.Transport", writer.transport) if early == b"" and not stream.at_eof() else None

    async def disconnect(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 -- redis-py's own
        """Close without waiting for the server; redis-py calls it too, when a write fails or is cancelled.

        A plain close first flushes what a frozen server does not read, and on TLS waits 30 s for a farewell.
        """
        writer = getattr(self, "_writer", None)
        if isinstance(writer, asyncio.StreamWriter):
            with suppress(AttributeError):  # CPython up to 3.11.2, when the TLS transport is closed already
                writer.transport.abort()
        await super().disconnect(*args, **kwargs)


class _QuietParser:
    async def handle_pubsub_push_response(self, response: Any) -> Any:  # noqa: ANN401 -- redis-py's own
        """Hand the push on: redis-py's own logs it, payload included."""
        return response


# With or without hiredis: redis-py chooses `DefaultParser` at import, so no class statement can name it as a base.
_PARSER: Final[Any] = type("QuietParser", (_QuietParser, DefaultParser), {})


def make_connection(options: Mapping[str, Any]) -> LinkConnection:
    """Return a connection, not open yet, from redis-py's options; their `connection_class` says over what."""
    options = dict(options)
    base = options.pop("connection_class", Connection)
    return cast("LinkConnection", _class_over(base)(parser_class=_PARSER, **options))


@cache
def _class_over(base: type[AbstractConnection]) -> type[AbstractConnection]:
    return type("LinkConnection", (LinkConnection, base), {})
