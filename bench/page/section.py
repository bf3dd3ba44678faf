"""What the page has of one measurement: `Section`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen
from cattrs.errors import BaseValidationError

from bench.findings import Findings
from bench.measure import Measure
from bench.page.archive import Measured, from_json

__all__ = ["Section", "sections"]


@frozen
class Section:
    """A measurement's findings, and how they came about."""

    title: str
    findings: Findings
    measured: Measured


def sections(measures: Iterable[type[Measure[Any]]], measured: Mapping[str, Measured]) -> list[Section]:
    """Return the sections of these, in this order; without those that were not measured yet."""
    found: list[Section] = []
    for measure in measures:
        one = measured.get(measure.name)
        if one is None:
            continue
        try:
            figures = from_json(one.figures, measure.figures)
        except BaseValidationError:
            print(f"left out: the figures of {measure.name} have an older layout; measure it again", file=sys.stderr)
            continue
        found.append(Section(measure.title, measure.findings(figures), one))
    return found
