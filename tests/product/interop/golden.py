"""Golden frames, by hand from docs/reference/wire-format.md: the bytes in golden/, and what each means in golden.json.

Names that begin with `emitted`, `beat` or `says` are frames that our pods write, to the byte; the others only have to
be read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from backplane_core import BackplaneEnvelope, Intersection, Target

__all__ = ["FRAMES", "MEANINGS", "is_for_pods", "meaning"]

HERE = Path(__file__).parent
FRAMES: dict[str, bytes] = {path.stem: path.read_bytes() for path in sorted((HERE / "golden").glob("*.json"))}
MEANINGS: dict[str, dict[str, Any]] = json.loads((HERE / "golden.json").read_bytes())


def is_for_pods(name: str) -> bool:
    """Whether the frame of that name is for pods alone: a beat, also one that says something."""
    return "beat" in name or name.startswith("says")


def meaning(name: str) -> BackplaneEnvelope:
    """What the frame of that name must be read as."""
    members = dict(MEANINGS[name])
    for whom in ("to", "to_exclude"):
        members[whom] = [_term(term) for term in members.get(whom, ())]
    return BackplaneEnvelope(
        members.pop("origin"),
        Target(*members.pop("target")),
        members.pop("event"),
        also=[Target(*target) for target in members.pop("also", ())],
        **members,
    )


def _term(names: list[list[str]]) -> Target | Intersection:
    targets = tuple([Target(*name) for name in names])
    return targets[0] if len(targets) == 1 else Intersection(targets)
