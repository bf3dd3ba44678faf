"""What was measured, kept in a file: so that one measurement, or the page, can be made again without the others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attrs import frozen
from cattrs.preconf.json import make_converter

__all__ = ["Measured", "from_json", "load", "save", "to_json"]

_converter: Final = make_converter()
_BUSY: Final = 0.1


@frozen(kw_only=True)
class Measured:
    """One measurement's figures, and how they came about.

    Args:
        figures: As JSON; `from_json` makes the measurement's type of them.
        at: When it ended, as an ISO date and time in UTC.
        commit: Of the code that was measured.
        seconds: How long it took.
        others: The share of all processors that other work took right before or after, the larger one. None: nobody
            looked.
        quick: Whether it was a short run: it shows that all works, and its figures mean little.
        machine: What it ran on, in words, by kind: "processor", "Python", "redis", …
    """

    figures: Any
    at: str
    commit: str
    seconds: float
    others: float | None
    quick: bool
    machine: Mapping[str, str]

    @property
    def busy(self) -> bool:
        """Whether the machine had so much other work that rates are wrong."""
        return self.others is not None and self.others > _BUSY


def to_json(value: object) -> Any:  # noqa: ANN401 -- JSON
    """Return a value as JSON holds it."""
    return json.loads(_dump(value))


def from_json(value: Any, of: type[Any]) -> Any:  # noqa: ANN401 -- JSON, and of that type
    """Return the value of this type that JSON holds."""
    return _converter.structure(value, of)


def load(file: Path) -> dict[str, Measured]:
    """Return what is kept there, by key; nothing where there is no such file."""
    return from_json(json.loads(file.read_text("utf-8")), dict[str, Measured]) if file.exists() else {}


def save(file: Path, measured: Mapping[str, Measured]) -> None:
    """Keep these instead of what is kept there; all or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(_dump(measured), "utf-8")
    new.replace(file)


def _dump(value: object) -> str:
    kept: Any = _converter.unstructure(value)
    return json.dumps(kept, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
