from __future__ import annotations

import os
import shutil

import pytest

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where the browser is; without one the test is skipped, but where `BACKPLANE_REQUIRE_BROWSER=1`."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("BACKPLANE_REQUIRE_BROWSER") == "1":
            pytest.fail("BACKPLANE_REQUIRE_BROWSER=1, but there is no chromium", pytrace=False)
        pytest.skip("no chromium")
    return found
