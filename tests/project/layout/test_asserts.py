"""No `assert` in what is shipped: under `python -O` it is gone, and the promise that it guarded with it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from scripts.api_report import ROOT

SOURCES = sorted(
    path
    for folder in ("packages", "adapters")
    for path in ROOT.glob(f"{folder}/*/src/**/*.py")
    if "backplane_testservers" not in path.parts  # which no release holds
)


def asserts(path: Path) -> list[int]:
    """Return the lines of a file's `assert` statements."""
    return [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 80


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_shipped_relies_on_an_assert(path: Path) -> None:
    assert asserts(path) == []


def test_an_assert_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("def take(batch):\n    assert not batch, 'one at a time'\n")
    assert asserts(path) == [2]
