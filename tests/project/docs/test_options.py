"""What the options' docstrings and the pages say of defaults is what the code does."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import fields
from backplane_core import options
from backplane_core.connection import MAX_PENDING, MAX_PENDING_BYTES
from backplane_core.options import ConnectOptions, Options, Settings

from tests.project.docs.pages import ROOT

# The callbacks and what is for the adapter are no settings of a backplane.
DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(ConnectOptions.__annotations__),
    **{attribute.name: attribute.default for attribute in fields(Settings)},
}
OF_CONNECTIONS = {"max_pending": MAX_PENDING, "max_pending_bytes": MAX_PENDING_BYTES}
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "adapters/*/README.md", "packages/*/README.md")
    for path in ROOT.glob(pattern)
)


def documented() -> Iterator[tuple[str, str]]:
    """Yield each option with the text that stands beneath it, where editors look for it."""
    for node in ast.parse(inspect.getsource(options)).body:
        if isinstance(node, ast.ClassDef) and node.name in {"Options", "ConnectOptions"}:
            for key, text in zip(node.body, node.body[1:], strict=False):
                if isinstance(key, ast.AnnAssign) and isinstance(key.target, ast.Name):
                    assert isinstance(text, ast.Expr), f"{key.target.id} has no docstring"
                    yield key.target.id, inspect.cleandoc(str(ast.literal_eval(text.value)))


DOCUMENTED = dict(documented())


def test_every_option_has_a_docstring_and_every_setting_is_an_option() -> None:
    assert DOCUMENTED.keys() == ConnectOptions.__annotations__.keys() == DEFAULTS.keys()
    assert {attribute.name for attribute in fields(Settings)} < Options.__annotations__.keys()


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_docstring_says_the_default(name: str) -> None:
    found = re.findall(r"Default: `+([^`]+)`+", DOCUMENTED[name])
    assert len(found) == 1, DOCUMENTED[name]
    assert ast.literal_eval(found[0]) == DEFAULTS[name]


def number(text: str) -> float:
    """1,000, 0.005 or 32 MiB."""
    amount, _, unit = text.replace(",", "").partition(" ")
    return float(amount) * {"": 1, "s": 1, "MiB": 2**20}[unit]


def test_the_table_of_the_page_on_scaling_says_the_defaults() -> None:
    text = (ROOT / "docs/how-to/scaling.md").read_text()
    _, _, table = text.partition("| Option | Default |")
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", table.partition("\n\n")[0], re.MULTILINE)
    known = {**DEFAULTS, **OF_CONNECTIONS}
    said: dict[str, Any] = {}
    for names, values in rows:
        each = re.findall(r"`(\w+)`", names)
        said |= zip(each, re.split(r",(?!\d{3})\s*", values) if len(each) > 1 else [values], strict=True)
    assert len(said) >= 8
    for name, value in said.items():
        text_value = value.strip().strip("`")
        assert (text_value if isinstance(known[name], str) else number(text_value)) == known[name], name


def test_a_page_that_says_a_number_of_an_option_says_its_default() -> None:
    said = [
        (name, value, page.name)
        for page in PAGES
        for name, value in re.findall(r"`(\w+)` \((\d[\d,.]*(?: s| MiB)?)\)", page.read_text())
        if name in DEFAULTS
    ]
    assert len(said) >= 4
    for name, value, page in said:
        assert number(value) == DEFAULTS[name], f"{page}: {name}"
