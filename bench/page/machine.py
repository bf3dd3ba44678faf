"""What a measurement runs on, and what it measures: `describe`, `commit`, `others_share`."""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]  # it has no py.typed
from backplane_testservers import Kind, open_own_broker

__all__ = ["LOCAL_CHANGES", "commit", "describe", "others_share"]

_LOOK_S: Final = 1.0
LOCAL_CHANGES: Final = " with local changes"

_LIBRARIES: Final = (
    "backplane-core",
    "backplane-redis",
    "backplane-nats",
    "redis",
    "hiredis",
    "nats-py",
    "msgspec",
    "attrs",
    "uvloop",
    "python-socketio",
    "channels-redis",
    "broadcaster",
    "litestar",
)


def describe() -> dict[str, str]:
    """Return the machine and all versions, in words, by kind. Starts both brokers, and so shows that they are there.

    Raises:
        BrokerUnavailable: There is no Redis or no NATS.
    """
    libraries = {name: number for name in _LIBRARIES if (number := _version(name)) is not None}
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Redis": _server("redis"),
        "NATS": _server("nats"),
        "libraries": ", ".join([f"{name} {number}" for name, number in libraries.items()]),
    }


def commit() -> str:
    """Return the commit of this checkout, in words; says so if what is measured differs from it."""
    root = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S607 -- the one on PATH

    try:
        changed = git("status", "--porcelain", "--", "packages", "adapters", "bench")
        return f"commit {git('rev-parse', '--short=10', 'HEAD')}{LOCAL_CHANGES if changed else ''}"
    except (OSError, subprocess.CalledProcessError):
        return "an unknown commit"


def others_share() -> float:
    """Return the share of all processors that is taken while this process does nothing."""
    return float(psutil.cpu_percent(_LOOK_S)) / 100


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _server(kind: Kind) -> str:
    with open_own_broker(kind) as broker, socket.create_connection((broker.host, broker.port), timeout=5) as connection:
        if kind == "nats":
            greeting = connection.makefile("rb").readline()
            return str(json.loads(greeting.partition(b" ")[2])["version"])
        connection.sendall(b"INFO server\r\nQUIT\r\n")
        info = connection.makefile("rb").read().decode()
    # Valkey says under both names what it is; the older one is for those who ask for a Redis.
    versions = dict(re.findall(r"^(valkey|redis)_version:(\S+)", info, re.MULTILINE))
    return f"Valkey {versions['valkey']}" if "valkey" in versions else str(versions.get("redis", "unknown"))
