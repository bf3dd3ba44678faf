"""Runs other programs: `run`, and `ReleaseError` for what stops a release."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

__all__ = ["ReleaseError", "run", "tools", "uv"]


class ReleaseError(Exception):
    """The command can't continue; the message says what to do next."""


def uv() -> str:
    """Return the uv that runs us, or else the one on PATH."""
    return os.environ.get("UV") or "uv"


@cache
def tools(group: str, root: Path) -> Path:
    """Return the folder of a dependency group's programs: as locked, in an environment of their own next to `.venv`."""
    environment = root / f".venv-{group}"
    # Frozen, because half-way through a release `uv.lock` is behind `pyproject.toml`.
    run(
        *(uv(), "sync", "--quiet", "--frozen", "--only-group", group),
        cwd=root,
        env={"UV_PROJECT_ENVIRONMENT": str(environment)},
    )
    return environment / "bin"


def run(*command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it wrote to standard output.

    Args:
        command: The program and its arguments. No secret belongs here: a failure shows them.
        cwd: Where it runs.
        env: What it gets in addition to our own environment.

    Raises:
        ReleaseError: It is not there, or it failed; the message holds all that it wrote.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise ReleaseError(f"{words[0]} is not installed (or {cwd} is not there)") from error
    if done.returncode:
        raise ReleaseError(f"failed with {done.returncode}: {' '.join(words)}\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout
