"""The TLS context of a transport's connections, made once: `SharedTls`."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from typing import Any, Final, Self, cast

from backplane_core import ConfigurationError
from backplane_core.sockets import off_loop

from backplane_redis._connection import LinkConnection

__all__ = ["SharedTls"]

_PEM: Final = "-----BEGIN "


class SharedTls:
    """redis-py's TLS context, shared by all connections of a transport.

    redis-py makes one per connection, and each loads the CAs of the system, which takes some 50 ms: at a reconnect the
    event loop would stand still for so long. So it is made once, in a thread, when the first connection needs it. What
    is cheap to check of its files is checked before, so that a wrong path shows where it was given.

    Args:
        context: What redis-py makes a context with.
    """

    def __init__(self, context: Any) -> None:  # noqa: ANN401 -- redis-py has no public name for its type
        self._context = context
        self._lock = threading.Lock()
        self._is_made = False

    @classmethod
    def of(cls, connection: LinkConnection) -> Self | None:
        """Return what a connection's TLS is made with, checked; None if it uses none.

        Raises:
            OSError: A file can't be read.
            ValueError: A file is not what it should be.
        """
        context = getattr(connection, "ssl_context", None)
        if context is None:
            return None
        shared = cls(context)
        shared._check()
        return shared

    def _check(self) -> None:
        certificates = getattr(self._context, "ca_certs", None)
        if certificates and _PEM not in Path(cast("str", certificates)).read_text("utf-8", "replace"):
            raise ValueError("ssl_ca_certs holds no PEM certificate")
        folder = getattr(self._context, "ca_path", None)
        if folder and not Path(cast("str", folder)).is_dir():
            raise ValueError("ssl_ca_path is no folder")
        # Without the system's CAs the rest takes a millisecond.
        bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        own, key = getattr(self._context, "certfile", None), getattr(self._context, "keyfile", None)
        if own or key:
            bare.load_cert_chain(own or "", key, getattr(self._context, "password", None))
        if data := getattr(self._context, "ca_data", None):
            bare.load_verify_locations(cadata=data)
        if (version := getattr(self._context, "min_version", None)) is not None:
            bare.minimum_version = version
        if ciphers := getattr(self._context, "ciphers", None):
            bare.set_ciphers(ciphers)

    async def give(self, connection: LinkConnection) -> None:
        """Let a connection use the context; make it before, if nobody did yet.

        Raises:
            ConfigurationError: It can't be made.
        """
        if not self._is_made:
            problem = await off_loop(self._make)
            if problem is not None:
                raise ConfigurationError(f"the TLS options can't be used: {problem}")
        cast("Any", connection).ssl_context = self._context

    def _make(self) -> str | None:
        """Make the context; return what is wrong with its options, if anything."""
        with self._lock:
            try:
                self._context.get()
            except (OSError, ValueError, TypeError) as error:
                return str(error) or type(error).__name__
            self._is_made = True
            return None
