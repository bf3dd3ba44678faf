"""The brokers of tests: `Broker`, and `OwnBroker` for one that a test may kill or freeze."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Literal, Self, TypeAlias
from urllib.parse import urlsplit

from attrs import field, frozen

__all__ = [
    "Broker",
    "BrokerFailed",
    "BrokerUnavailable",
    "ExternalBroker",
    "Kind",
    "OptionsUnavailable",
    "OwnBroker",
    "TlsUnavailable",
    "is_port_open",
]

Kind: TypeAlias = Literal["redis", "nats"]

_DEFAULT_PORTS: dict[Kind, int] = {"redis": 6379, "nats": 4222}


class BrokerUnavailable(Exception):  # noqa: N818 -- a state of this machine, which a test run may choose to skip over
    """This machine has no broker of that kind. The message says how to get one."""


class TlsUnavailable(BrokerUnavailable):
    """There are servers here, but none was built with TLS."""


class OptionsUnavailable(BrokerUnavailable):
    """There are brokers here, but they are too old, or in containers, which take no options."""


class BrokerFailed(RuntimeError):  # noqa: N818 -- named like its sibling
    """A broker is here, but it did not come up. The message ends with its own last lines."""


class Broker(ABC):
    """A broker that responds at `url`. Others may be using it too, so isolate tests by channel name."""

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """Which broker it is; Valkey counts as Redis."""

    @property
    @abstractmethod
    def source(self) -> str:
        """Where it comes from, for people; no secrets."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect, with credentials if there are any; don't log it."""

    @property
    @abstractmethod
    def host(self) -> str:
        """The host part of `url`."""

    @property
    @abstractmethod
    def port(self) -> int:
        """The port of `url`; the same after every restart."""

    @property
    def can_be_killed(self) -> bool:
        """Whether this is an `OwnBroker`, so that a test may kill, freeze and restart it."""
        return isinstance(self, OwnBroker)

    @abstractmethod
    def close(self) -> None:
        """Give the broker up and leave nothing behind. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class OwnBroker(Broker):
    """A broker that nobody else uses. As a context manager it runs on entry and is gone on exit."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """The server's process id. Raises `RuntimeError` when it is not running."""

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether the server's process lives; true of a frozen one too."""

    @abstractmethod
    def start(self) -> None:
        """Start the server; return once it accepts connections, on the port that it had before, if any.

        Raises:
            BrokerFailed: It did not come up in time; the message ends with the server's own last lines.
            BrokerUnavailable: No server here has what was asked for.
        """

    @abstractmethod
    def stop(self) -> None:
        """Ask the server to exit and return once it is gone. A frozen one is thawed first."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL the server and return once it is gone; a no-op if it is not running."""

    @abstractmethod
    def freeze(self) -> None:
        """SIGSTOP the server and return once it stands still. The kernel still accepts connections for it."""

    @abstractmethod
    def thaw(self) -> None:
        """Let a frozen server go on."""

    def restart(self) -> None:
        """Kill the server if it runs, and start it again on the same port and data directory."""
        self.kill()
        self.start()

    def __enter__(self) -> Self:
        try:
            if not self.running:
                self.start()
        except BaseException:
            self.close()
            raise
        return self


@frozen
class ExternalBroker(Broker):
    """A broker that somebody else runs. It can't be killed, frozen or configured from here."""

    _kind: Kind
    _url: str = field(repr=False)

    @property
    def kind(self) -> Kind:
        return self._kind

    @property
    def source(self) -> str:
        return f"BACKPLANE_TEST_{self.kind.upper()}_URL ({self.host}:{self.port})"

    @property
    def url(self) -> str:
        return self._url

    @property
    def host(self) -> str:
        return urlsplit(self._url).hostname or "localhost"

    @property
    def port(self) -> int:
        return urlsplit(self._url).port or _DEFAULT_PORTS[self.kind]

    def close(self) -> None:
        """Do nothing: it is not ours."""


def is_port_open(host: str, port: int) -> bool:
    """Return whether something accepts TCP connections there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
