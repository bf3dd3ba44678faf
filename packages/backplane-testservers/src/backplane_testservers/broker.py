"""What every broker for tests looks like: `Broker`, and `OwnBroker` for one that may be hurt."""

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
    "port_answers",
]

Kind: TypeAlias = Literal["redis", "nats"]

_DEFAULT_PORTS: dict[Kind, int] = {"redis": 6379, "nats": 4222}


class BrokerUnavailable(Exception):  # noqa: N818 -- a state of this machine, which a test run may choose to skip over
    """No broker of that kind can be had here. The message says how to get one."""


class TlsUnavailable(BrokerUnavailable):
    """There are servers here, but none was built with TLS."""


class OptionsUnavailable(BrokerUnavailable):
    """There are brokers here, but only in containers, which take no options, or too old ones."""


class BrokerFailed(RuntimeError):  # noqa: N818 -- named like its sibling
    """A broker is here, but it did not come up. The message ends with its own last lines."""


class Broker(ABC):
    """A broker that answers at `url`. Others may be using it too, so isolate tests by channel name."""

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
        """Give the broker up and leave nothing behind. Twice is fine."""

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
        """Whether the server's process lives; true of a frozen one."""

    @abstractmethod
    def start(self) -> None:
        """Return once the server takes connections, on the port it had before, if any.

        Raises:
            BrokerFailed: It did not come up in time; the message ends with the server's own last lines.
            BrokerUnavailable: There is none here that has what was asked for.
        """

    @abstractmethod
    def stop(self) -> None:
        """Ask the server to go and return once it is gone. A frozen one is thawed first."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL the server and return once it is gone. A dead one stays dead."""

    @abstractmethod
    def freeze(self) -> None:
        """SIGSTOP the server and return once it stands still. The kernel still takes connections for it."""

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


def port_answers(host: str, port: int) -> bool:
    """Whether something takes TCP connections there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
