"""What people see when they hover: the promise itself, and never only where to read it."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
from backplane_core import Backplane, BaseBackplane

from scripts.api_report import MODULES

FEWEST_WORDS = 3
_reference = re.compile(r"[;,(]?\s*\b(?:see|as|like|do as)\s+`[^`]+`(?:\s+(?:does|says|otherwise))?\)?", re.IGNORECASE)
_only_reference = re.compile(
    r"^\s*\w+: (?:as|see) `(?!Options|ConnectOptions)[^`]+`(?: \w+)?\.?$", re.IGNORECASE | re.MULTILINE
)
PUBLIC = {
    member for module in MODULES for member in vars(importlib.import_module(module)).values() if inspect.isclass(member)
}

HALVES = {base for it in PUBLIC for base in it.__mro__ if base.__module__.startswith("backplane_core._pod.")}
"""What a public class is made of, in files of their own: users see their members only there."""


def callables() -> Iterator[tuple[str, Any]]:
    """Yield each public function, and each public method of our public classes, those of their bases included."""
    for module in MODULES:
        public = importlib.import_module(module)
        for name in public.__all__:
            member = getattr(public, name)
            if inspect.isfunction(member):
                yield f"{module}.{name}", member
            elif inspect.isclass(member):
                for attribute, value in inspect.getmembers(member):
                    if not attribute.startswith("_") and is_ours(member, attribute):
                        yield f"{module}.{name}.{attribute}", value.fget if isinstance(value, property) else value


def is_ours(cls: type, attribute: str) -> bool:
    """Whether the attribute is a method or property that classes of ours alone define, and a public one shows."""
    owners = [base for base in cls.__mro__ if attribute in vars(base)]
    defined = vars(owners[0]).get(attribute) if owners else None
    return all(owner in PUBLIC or owner in HALVES for owner in owners) and isinstance(
        defined, (property, classmethod, staticmethod, type(is_ours))
    )


CALLABLES = dict(callables())


def flaws(docstring: str, parameters: list[str]) -> list[str]:
    """Return what a reader would miss in it."""
    summary, *_ = docstring.split("\n\n")
    found: list[str] = []
    if len(re.findall(r"\w+", _reference.sub("", summary))) < FEWEST_WORDS:
        found.append("it only says where to read")
    if _only_reference.search(docstring):
        found.append("a section only says where to read")
    return found + [
        f"Args lacks {name}" for name in parameters if not re.search(rf"^\s+{name}: ", docstring, re.MULTILINE)
    ]


def parameters_of(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in {"self", "cls"}]


@pytest.mark.parametrize("name", CALLABLES)
def test_a_docstring_holds_the_promise_and_names_each_parameter(name: str) -> None:
    found = flaws(inspect.getdoc(CALLABLES[name]) or "", parameters_of(CALLABLES[name]))
    assert not found


@pytest.mark.parametrize("name", ["attach", "detach", "associate", "dissociate", "publish", "publish_json"])
def test_a_backplane_promises_what_the_protocol_does_in_the_same_words(name: str) -> None:
    assert inspect.getdoc(getattr(BaseBackplane, name)) == inspect.getdoc(getattr(Backplane, name))


@pytest.mark.parametrize(
    "docstring",
    [
        "",
        "See `Backplane.publish`.",
        "Publish; see `Backplane.publish`.",
        "As `connect`.",
        "Return the answer to everything.\n\nArgs:\n    url: See `RedisTransport`.",
        "Return the answer to everything.\n\nArgs:\n    url: Where.\n\nRaises:\n    ValueError: As `flush`.",
        "Return the answer to everything.\n\nArgs:\n    uri: Where.",
    ],
)
def test_a_docstring_that_helps_nobody_is_seen(docstring: str) -> None:
    assert flaws(docstring, ["url"])


def test_there_is_something_to_look_at() -> None:
    assert len(CALLABLES) > 60
    assert "backplane_core.Publisher.publish" in CALLABLES
