"""The public API is what docs/api-report.txt says: a change of it is seen, and meant."""

from __future__ import annotations

import importlib
import shutil
from functools import cache
from pathlib import Path

import pytest

from scripts.api_report import MODULES, REPORT, ROOT, SOURCES, report

# One worker makes the report for all of these.
pytestmark = pytest.mark.xdist_group("api report")


@cache
def ours() -> str:
    """The report of today; it takes a second to make."""
    return report()


def test_the_report_is_up_to_date() -> None:
    assert REPORT.read_text() == ours(), (
        "the public API is another one: look at it, then run `uv run scripts/api_report.py`"
    )


@pytest.mark.parametrize("module", MODULES)
def test_the_report_names_all_that_is_public(module: str) -> None:
    section = ours().split(f"\n\n{module}\n")[1].split("\n\n")[0]
    public = importlib.import_module(module)
    names = sorted([*public.__all__, *(["__version__"] if "__version__" in public.__annotations__ else [])])
    lines = [line for line in section.splitlines() if line[4] != " "]
    assert len(lines) == len(names)
    for name, line in zip(names, lines, strict=True):
        assert f" {name}" in line.replace(":", " ").replace("(", " ") or line.startswith(f"    {name}:")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("async def detach(self, conn_id: str)", "async def detach(self, conn_id: str, now: bool = True)"),
        ("async def detach(self, conn_id: str)", "def detach(self, conn_id: str)"),
        ("exclude: Excluded = ()", "exclude: Excluded"),
    ],
)
def test_a_changed_signature_changes_the_report(tmp_path: Path, old: str, new: str) -> None:
    shutil.copytree(ROOT / "packages/backplane-core/src/backplane_core", tmp_path / "backplane_core")
    path = tmp_path / "backplane_core" / "backplane.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    core = ["backplane_core"]
    assert report([str(tmp_path)], core) != report(SOURCES, core)
