"""Samples fit the column of the site: 88 characters, in pages and in what the reference shows of the docstrings."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.project.layout.test_prose import PAGES, ROOT

WIDTH: Final = 88
LISTED: Final = sorted([path for pattern in PAGES for path in ROOT.glob(pattern) if path.name != "CHANGELOG.md"])
SOURCES: Final = sorted([*ROOT.glob("packages/*/src/**/*.py"), *ROOT.glob("adapters/*/src/**/*.py")])
PRINTED: Final = {"text", "json"}
"""Blocks that nobody types: what programs print, and frames, which are one line each."""

FENCE: Final = re.compile(r"\s*```(\w*)")
SECTION: Final = re.compile(r"[A-Z]\w+:$|[A-Z]\w+: ")


def sample_lines(page: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a page's samples, with their numbers."""
    language: str | None = None
    for number, line in enumerate(page.splitlines(), 1):
        if fence := FENCE.match(line):
            language = fence[1] if language is None else None
        elif language is not None and language not in PRINTED:
            yield number, line


def docstring_lines(source: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of the samples in a source's docstrings, with the line of what they describe."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            in_section = False
            for line in (ast.get_docstring(node) or "").splitlines():
                if line and not line.startswith(" "):
                    in_section = SECTION.match(line) is not None
                elif not in_section:
                    yield getattr(node, "lineno", 1), line


def is_public(path: Path) -> bool:
    """Return whether the reference shows it: drawings in private folders may be wider."""
    return not any(part.startswith("_") and part != "__init__.py" for part in path.relative_to(ROOT).parts)


def too_wide(path: Path, lines: Iterator[tuple[int, str]]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {len(line)} columns: {line}" for number, line in lines if len(line) > WIDTH
    ]


def test_samples_of_pages_fit() -> None:
    assert not [found for path in LISTED for found in too_wide(path, sample_lines(path.read_text()))]


def test_samples_of_docstrings_fit() -> None:
    public = [path for path in SOURCES if is_public(path)]
    assert not [found for path in public for found in too_wide(path, docstring_lines(path.read_text()))]


def test_samples_in_python_are_formatted_for_that_width() -> None:
    command = ("ruff", "format", "--diff", "--line-length", str(WIDTH))
    done = subprocess.run(
        [Path(sys.executable).with_name(command[0]), *command[1:], *LISTED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"run: ruff format --line-length {WIDTH} $(git ls-files '*.md')\n{done.stdout}"


@pytest.mark.parametrize("language", ["python", "console", ""])
def test_a_wide_sample_is_seen(language: str) -> None:
    page = f"{'words ' * 30}\n```{language}\n{'x' * 88}\n{'y' * 89}\n```\n{'words ' * 30}\n"
    assert too_wide(ROOT / "README.md", sample_lines(page)) == [f"README.md:4: 89 columns: {'y' * 89}"]


def test_a_wide_docstring_is_seen() -> None:
    source = f'"""A module.\n\n    {"x" * 89}\n\nArgs:\n    one: {"y" * 89}\n"""\n'
    (found,) = too_wide(ROOT / "conftest.py", docstring_lines(source))
    assert "x" in found
