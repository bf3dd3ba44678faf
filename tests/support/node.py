"""Programs for Node, with the packages that their lock names."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["install_node"]

OLDEST_NODE = 20


def install_node(source: Path, folder: Path) -> None:
    """Copy the files of a program to a folder, and install its packages there. Skips without Node, saying so.

    Where `BACKPLANE_REQUIRE_NODE=1` it fails instead.
    """
    problem = _missing()
    if problem is not None:
        if os.environ.get("BACKPLANE_REQUIRE_NODE") == "1":
            pytest.fail(f"BACKPLANE_REQUIRE_NODE=1, but {problem}", pytrace=False)
        pytest.skip(problem)
    for path in source.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr


def _missing() -> str | None:
    if not shutil.which("node") or not shutil.which("npm"):
        return f"node and npm are not on PATH: install Node {OLDEST_NODE} or newer"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    if int(version.strip().lstrip("v").split(".")[0]) < OLDEST_NODE:
        return f"Node {OLDEST_NODE} or newer is wanted, not {version.strip()}"
    return None
