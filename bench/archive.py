"""What was measured, kept in a file: so that one measurement, or the page, can be made anew without the others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from cattrs.preconf.json import make_converter

from bench.findings import Findings

__all__ = ["Measured", "load", "save"]

_converter: Final = make_converter()
# Where a point of a plot is along x: a name, of bars.
_converter.register_structure_hook_func(lambda of: of == float | str, lambda x, _: x)


@frozen(kw_only=True)
class Measured:
    """One measurement's findings, and how they came about.

    Args:
        findings: What it came to.
        at: When it ended, as an ISO date and time in UTC.
        seconds: How long it took.
        quick: Whether it was a short one: it shows that all works, and its figures mean little.
        machine: What it ran on, in words, by kind: "processor", "Python", "redis", …
    """

    findings: Findings
    at: str
    seconds: float
    quick: bool
    machine: Mapping[str, str]


def load(file: Path) -> dict[str, Measured]:
    """Return what is kept there, by key; nothing where there is no such file."""
    if not file.exists():
        return {}
    return _converter.structure(json.loads(file.read_text("utf-8")), dict[str, Measured])


def save(file: Path, measured: Mapping[str, Measured]) -> None:
    """Keep these instead of what is kept there; all or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    kept: Any = _converter.unstructure(measured, dict[str, Measured])
    new = file.with_suffix(".new")
    new.write_text(json.dumps(kept, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    new.replace(file)
