"""python-socketio's own tests of its pub/sub managers pass with ours; they come from its sdist, of the version here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

SUITES = ("tests/async/test_pubsub_manager.py", "tests/common/test_pubsub_manager.py")
"""Of the other suites, `test_redis_manager` and its like test how a broker's client is made, which ours does not do;
`test_manager` tests the base class, on which ours is built, with clients that no server knows; the others test no
manager.
"""

EXCLUDED: dict[str, str] = {}
"""Tests that don't apply, and why: none."""


@pytest.mark.slow
def test_python_socketios_own_tests_pass(tmp_path: Path) -> None:
    wanted = f"python-socketio=={version('python-socketio')}"
    command = ["uv", "run", "--no-project", "--with", "pip", "python", "-m", "pip", "download", "--quiet", "--no-deps"]
    got = subprocess.run(
        [*command, "--no-build-isolation", "--no-binary", ":all:", "--dest", tmp_path, wanted],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    if got.returncode:
        if os.environ.get("BACKPLANE_REQUIRE_BROKERS") == "1":
            pytest.fail(f"no package index: {got.stderr[-500:]}", pytrace=False)
        pytest.skip("no package index")
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = next(path for path in tmp_path.iterdir() if path.is_dir())
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(folder), "-p", "no:valkey"),
            *(
                "-p",
                "no:faker",
                "-p",
                "no:cacheprovider",
                "-p",
                "tests.product.socketio.peers",
                "-o",
                "asyncio_mode=auto",
            ),
            *("-o", "asyncio_default_fixture_loop_scope=function", "--import-mode=importlib"),
            *("-W", "ignore", *[f"--deselect={name}" for name in EXCLUDED], *[str(folder / suite) for suite in SUITES]),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert passed is not None
    assert int(passed[1]) >= 90, "the tests of both managers"
