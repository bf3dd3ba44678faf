"""The TLS context of a transport's connections, made once: `SharedTls`."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

import nats.errors
from attrs import frozen
from backplane_core import ConfigurationError
from backplane_core.sockets import off_loop

__all__ = ["SharedTls", "TlsContextWanted", "TlsFiles"]


class TlsContextWanted(nats.errors.Error):
    """A server asks for TLS that nobody configured, and no context was made yet."""


@frozen
class TlsFiles:
    """Paths of PEM files; None: the CAs of the system, no certificate of this client.

    Args:
        ca: The CA that servers' certificates must be of.
        cert: This client's certificate.
        key: Its key, if it does not stand in `cert`.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def check(self) -> None:
        """Return if the files are there and look right, as far as that is cheap to see.

        Raises:
            ConfigurationError: One is not. The message names its path.
        """
        if self.ca is not None:
            try:
                text = Path(self.ca).read_text("utf-8", "replace")
            except OSError as error:
                text, problem = None, f"the CA file {self.ca!r} can't be read: {error.strerror}"
            else:
                problem = f"the CA file {self.ca!r} holds no PEM certificate"
            if text is None or "-----BEGIN " not in text:
                raise ConfigurationError(problem)
        if self.key is not None and self.cert is None:
            raise ConfigurationError("the NATS URL's query has a key and no cert: give both")
        if self.cert is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(self.cert, self.key)
            except (OSError, ValueError) as error:
                problem = f"the client certificate {self.cert!r} and its key can't be used: {type(error).__name__}"
            else:
                return
            raise ConfigurationError(problem)

    def make(self) -> ssl.SSLContext:
        """Return a context with these files."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key)
        return context


class SharedTls:
    """The context that all connections of a transport share.

    nats-py makes one per connection, and each loads the CAs of the system, which takes some 50 ms: at a reconnect the
    event loop would stand still for so long. So it is made once, in a thread, when the first connection needs it.

    Args:
        files: What it is made with.
    """

    def __init__(self, files: TlsFiles) -> None:
        self.context: ssl.SSLContext | None = None
        """None until it was made."""
        self._files = files
        self._lock = threading.Lock()

    async def make(self) -> None:
        """Make the context, unless it was.

        Raises:
            ConfigurationError: Its files can't be used.
        """
        if self.context is None and not await off_loop(self._make):
            raise ConfigurationError("the files of the NATS URL's ca, cert and key hold nothing that TLS can use")

    def _make(self) -> bool:
        with self._lock:
            try:
                self.context = self.context or self._files.make()
            except (OSError, ValueError):
                return False
        return True
