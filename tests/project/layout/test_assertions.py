"""No `assert` guards a promise: `python -O` would take it away."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = sorted([*ROOT.glob("packages/backplane-core/src/**/*.py"), *ROOT.glob("adapters/*/src/**/*.py")])


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 60


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_distribution_asserts_nothing(path: Path) -> None:
    lines = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]
    assert lines == [], "raise what says what is wrong"
