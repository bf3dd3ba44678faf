"""Runs changesets on a Node.js that is new enough: the machine's, or the one of the `node` group."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from scripts.releasing.shell import ReleaseError, run, tools

__all__ = ["changeset", "install", "refresh_npm_lock", "surroundings"]

# What @changesets/cli 3 runs on; on an older one it dies with "enableCompileCache is not a function".
OLDEST = 22


@cache
def surroundings(root: Path) -> Mapping[str, str]:
    """Return the environment in which `npm` and `node` are fit: ours, where those on PATH will do."""
    try:
        found = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S607 -- PATH is what is asked
        if int(found.strip().removeprefix("v").split(".")[0]) >= OLDEST:
            return {}
    except (OSError, subprocess.CalledProcessError, ValueError):
        pass
    return {"PATH": f"{tools('node', root)}{os.pathsep}{os.environ['PATH']}"}


def install(root: Path) -> None:
    """Install what `package-lock.json` locks, without install scripts; nothing to do when it is there.

    Raises:
        ReleaseError: npm or its registry can't be reached.
    """
    wanted = json.loads((root / "package.json").read_text())["devDependencies"]["@changesets/cli"]
    installed = root / "node_modules" / "@changesets" / "cli" / "package.json"
    if installed.exists() and json.loads(installed.read_text())["version"] == wanted:
        return
    # npm's own waits between tries would keep a machine without the registry for more than a minute.
    patience = ("--fetch-retries=2", "--fetch-retry-mintimeout=500", "--fetch-retry-maxtimeout=5000")
    try:
        run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", *patience, cwd=root, env=surroundings(root))
    except ReleaseError as error:
        raise ReleaseError(f"changesets can't be installed; is the npm registry within reach?\n{error}") from error


def changeset(root: Path, *arguments: str) -> str:
    """Run `changeset` and return what it said."""
    install(root)
    return run(root / "node_modules" / ".bin" / "changeset", *arguments, cwd=root, env=surroundings(root))


def refresh_npm_lock(root: Path) -> None:
    """Take the versions over into `package-lock.json`, offline: npm must never look for our names in its registry."""
    run(
        *("npm", "install", "--package-lock-only", "--ignore-scripts", "--offline", "--no-audit", "--no-fund"),
        cwd=root,
        env=surroundings(root),
    )
