"""The browser that tests drive: Debian's Chromium, headless."""

from __future__ import annotations

import os
import shutil
from typing import Final

import pytest

__all__ = ["FLAGS", "find_chromium"]

FLAGS: Final = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def find_chromium() -> str:
    """Return where it is; without one the test is skipped, but where `BACKPLANE_REQUIRE_BROWSER=1`."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("BACKPLANE_REQUIRE_BROWSER") == "1":
            pytest.fail("BACKPLANE_REQUIRE_BROWSER=1, but there is no chromium", pytrace=False)
        pytest.skip("no chromium")
    return found
