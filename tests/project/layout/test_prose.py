"""English stays plain in pages, docstrings, comments, errors and logs: no word here that readers stumble over."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

PAGES = ("*.md", ".changeset/*.md", "docs/*.md", "docs/*/*.md", "packages/*/*.md", "adapters/*/*.md")
SOURCES = ("packages/*/src/**/*.py", "adapters/*/src/**/*.py", "scripts/**/*.py", "examples/**/*.py", "bench/**/*.py")
FILES = sorted([path for pattern in (*PAGES, *SOURCES) for path in ROOT.glob(pattern)])

ADVERB = r"(?=[.,;:)]|$| (?:is|are|was|were|and|or|but|by|in|on|at|as|so|heard|needed|wanted)\b)"

INSTEAD = {
    r"\blikewise\b": "say what it is once more",
    r"\bwho(?:m|so)?ever\b": "anyone who",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bamid(?:st)?\b": "during, among",
    r"\banew\b": "again",
    rf"\bno more\b{ADVERB}": "no longer",
    rf"\bany ?more\b{ADVERB}": "no longer",
    r"\bbeside\b": "besides, next to",
    r"\bdear(?:er|est)?\b": "expensive",
    r"\b(?:is|are|was|were|be|been|being) told\b(?! apart| from)": "is notified, is reported",
    r"\b(?:tell|tells|telling|told) (?:of|the|its|their|a|an|it|them) ": "report, notify",
    r"\btells? copies\b|\bcan(?:'t|not) tell\b": "recognize, distinguish",
    r"\bpods? that (?:do(?:es)? not|don't|doesn't) count\b": "unnumbered pods",
    r"\bfor nothing\b": "at no extra cost, without effect",
    r"\bsurely\b": "certainly",
    r"\blest\b|\bthereof\b|\bhence\b|\bwhilst\b": "a plainer word",
    r"(?:^|[.:;] )(?-i:Who) (?!should|is to)\w+s [^?]*$": "anyone who, a pod that",
}
"""What is not written here, and what to write in its place."""

ALLOWED: dict[str, tuple[str, ...]] = {}
"""Lines in which such a word is right: by file, a part of the line."""


def prose(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Yield what people read in a file, with its line numbers: all of a page; strings and comments of a source."""
    if path.suffix == ".md":
        yield from enumerate(text.splitlines(), 1)
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from enumerate(node.value.splitlines(), node.lineno)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


def stumbles(path: Path, text: str) -> list[str]:
    """Return a sentence for each line in which a reader stumbles."""
    name = str(path.relative_to(ROOT))
    return [
        f"{name}:{number}: {found[0].strip()!r} in {line.strip()!r}: {instead}"
        for number, line in prose(path, text)
        if not any(part in line for part in ALLOWED.get(name, ()))
        for pattern, instead in INSTEAD.items()
        if (found := re.search(pattern, line, re.IGNORECASE))
    ]


def bare_docstrings(path: Path, text: str) -> list[str]:
    """Return a sentence for each docstring of a single word, which says nothing by itself."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {docstring!r} says nothing by itself"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, kinds) and len((docstring := ast.get_docstring(node) or "two words").split()) == 1
    ]


def test_nobody_stumbles() -> None:
    assert not [found for path in FILES for found in stumbles(path, path.read_text())]


def test_every_docstring_says_something() -> None:
    assert not [found for path in FILES if path.suffix == ".py" for found in bare_docstrings(path, path.read_text())]


def test_no_exception_is_left_over() -> None:
    for name, parts in ALLOWED.items():
        for part in parts:
            assert part in (ROOT / name).read_text(), f"{name} no longer has {part!r}"


@pytest.mark.parametrize(
    "sentence",
    [
        "The end of the span, likewise.",
        "Whoever reads this is told of the gap.",
        "The setting mends it.",
        "It hears them no more.",
        "Not heard any more.",
        "A channel that nobody holds any more is heard for a moment.",
        "Its settings beside ours.",
        "The dearest of them takes 20 ms.",
        "Tell the pod of what was dropped.",
        "Pods that do not count are skipped.",
        "The loop is over. Who waits is woken.",
        "The value, decoded anew.",
    ],
)
def test_a_stumbling_block_is_seen(sentence: str) -> None:
    assert stumbles(ROOT / "README.md", sentence)
    assert stumbles(ROOT / "conftest.py", f'def f():\n    """{sentence}"""\n')
    assert stumbles(ROOT / "conftest.py", f"def f():\n    pass  # {sentence}\n")


@pytest.mark.parametrize(
    "sentence",
    [
        "It holds no more targets than one.",
        "Names that differ are told apart.",
        "Who should get the event?",
        "No more than 5 ms, and never any more than 6.",
        "An event that no longer counts.",
    ],
)
def test_plain_english_is_left_alone(sentence: str) -> None:
    assert not stumbles(ROOT / "README.md", sentence)


def test_a_docstring_of_one_word_is_seen() -> None:
    assert bare_docstrings(ROOT / "conftest.py", 'def f():\n    """Likewise."""\n')
    assert not bare_docstrings(ROOT / "conftest.py", 'def f():\n    """Return two."""\n')
