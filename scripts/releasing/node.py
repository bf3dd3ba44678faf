"""Runs changesets on a Node.js that is new enough: the machine's, or the one of the `node` group."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from scripts.releasing.shell import ReleaseError, run, tool

__all__ = ["changeset", "install", "refresh_npm_lock"]

# What @changesets/cli 3 runs on; on an older one it dies with "enableCompileCache is not a function".
OLDEST = 22


@cache
def _prefix(root: Path) -> Sequence[str]:
    """Return the words to put before `npm` and `node`: none where those on PATH will do."""
    try:
        found = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S607 -- PATH is what is asked
        if int(found.strip().removeprefix("v").split(".")[0]) >= OLDEST:
            return []
    except (OSError, subprocess.CalledProcessError, ValueError):
        pass
    return tool("node", root)


def install(root: Path) -> None:
    """Install what `package-lock.json` locks, without install scripts; nothing to do when it is there.

    Raises:
        ReleaseError: npm or its registry can't be reached.
    """
    wanted = json.loads((root / "package.json").read_text())["devDependencies"]["@changesets/cli"]
    installed = root / "node_modules" / "@changesets" / "cli" / "package.json"
    if installed.exists() and json.loads(installed.read_text())["version"] == wanted:
        return
    try:
        run(*_prefix(root), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=root)
    except ReleaseError as error:
        raise ReleaseError(f"changesets can't be installed; is the npm registry within reach?\n{error}") from error


def changeset(root: Path, *arguments: str) -> str:
    """Run `changeset` and return what it said."""
    install(root)
    return run(*_prefix(root), root / "node_modules" / ".bin" / "changeset", *arguments, cwd=root)


def refresh_npm_lock(root: Path) -> None:
    """Take the versions over into `package-lock.json`, offline: npm must never look for our names in its registry."""
    run(
        *_prefix(root),
        *("npm", "install", "--package-lock-only", "--ignore-scripts", "--offline", "--no-audit", "--no-fund"),
        cwd=root,
    )
