"""The Python blocks of a page: programs, and files of a project that the page builds up."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["OPTIONS", "ROOT", "blocks", "files"]

ROOT = Path(__file__).parents[3]

# What this workspace has installed and a page's project has not takes longer to import than its tests to run.
OPTIONS = "-p no:cacheprovider " + " ".join(
    [f"-p no:{plugin}" for plugin in ("faker", "hypothesispytest", "timeout", "valkey", "xdist", "xdist.looponfail")]
)

_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\w+\.py)\n")


def blocks(page: Path) -> list[str]:
    """Return every Python block."""
    return _BLOCK.findall(page.read_text())


def files(page: Path) -> dict[str, str]:
    """Return the blocks that are files: their first line names the file, `# app.py`."""
    return {named[1]: block for block in blocks(page) if (named := _FILE.match(block))}
