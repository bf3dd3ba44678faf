"""mypy and pyright see the public API as it is meant: both read this folder, and a broken expectation is found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
FILES = [HERE / name for name in ("api.py", "implementations.py", "mistakes.py")]
CHECKERS = {
    # A cache of its own: another mypy may run on this tree at the same time.
    "mypy": ["-m", "mypy", "--cache-dir", ".mypy_cache/typing", "--no-error-summary"],
    "pyright": ["-m", "pyright"],
}
# One line each: a type that is another one, a double that lacks a method, a mistake that is none.
BROKEN = """# pyright: reportUnnecessaryTypeIgnoreComment=true
from typing import assert_type
from backplane_core import Backplane, InMemoryBackplane, Link, Target
async def broken(backplane: InMemoryBackplane, link: Link) -> None:
    assert_type(await backplane.publish(Target.everyone(), 1), str)
    other: Backplane = link
    await other.publish(Target.everyone(), 1)  # type: ignore[arg-type]
    await other.publish("everyone", 1)
"""
BROKEN_LINES = {5, 6, 7, 8}


@pytest.mark.parametrize("checker", CHECKERS)
def test_every_expectation_holds_and_a_broken_one_is_found(checker: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(BROKEN)
    run = subprocess.run(
        [sys.executable, *CHECKERS[checker], *map(str, FILES), str(broken)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    found = re.findall(r"^\s*(\S+\.py):(\d+)(?::\d+)?(?: -|:) error", run.stdout, re.MULTILINE)
    here = [line for line in run.stdout.splitlines() if "tests/product/typing" in line and "error" in line]
    assert here == [], run.stdout
    assert {int(line) for path, line in found if path.endswith("broken.py")} == BROKEN_LINES, run.stdout + run.stderr
    assert run.returncode == 1


def test_each_mistake_is_there_to_be_found() -> None:
    assert len(re.findall(r"# type: ignore\[[a-z-]+\]", FILES[-1].read_text())) >= 30
