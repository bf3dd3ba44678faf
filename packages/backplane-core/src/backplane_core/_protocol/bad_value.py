"""What in an event JSON has no form for, and where: looked for once the event has been refused.

The walk that accepts an event (`encode_event`) keeps no path, since nearly every event is fine. This one does, and
goes the same way again. If it finds nothing, because another thread changed a list meanwhile, the error names no place.

A path shows keys that look like names of fields: `event["items"][3]["price"]`. Other keys may be data, as in a dict of
users by their addresses; these are shown as their place in the dict: `event["users"][<key 2>]`.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# -- an event may be anything

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from types import NoneType
from typing import Any, Final, TypeAlias
from uuid import UUID

__all__ = ["ALLOWED", "describe_bad_value"]

ALLOWED: Final = "an event may hold None, bool, int, finite float, str, UUID, Enum, list, tuple and dict with str keys"

_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,31}", re.ASCII)
"""A key that is shown. Names of fields are short; what is longer may be a token."""

_SHOWN_STEPS: Final = 12
"""So many steps of a path are shown, half of them at its end: enough to find the place, and never a page."""

_Children: TypeAlias = Iterator[tuple[str, Any]]


def describe_bad_value(event: object, max_depth: int) -> str | None:
    """Return what an event holds that it must not, with its type and its path, and never with its value.

    Args:
        event: What was refused.
        max_depth: Levels of nesting that are allowed.

    Returns:
        A sentence that says what is allowed as well; None if this walk finds nothing.
    """
    # One iterator for each level, and the step that it is at. No recursion: the refusal may have been of that.
    levels: list[_Children] = [iter([("event", event)])]
    steps: list[str] = [""]
    while levels:
        for step, value in levels[-1]:
            steps[-1] = step
            meant = _meant(value)
            problem = _problem(meant)
            if problem is not None:
                return f"the event holds {problem}{_place(steps)}; {ALLOWED}"
            children = _children(meant)
            if children is not None:
                if len(levels) > max_depth:
                    return f"the event is nested deeper than {max_depth} levels, or holds itself{_place(steps)}"
                levels.append(children)
                steps.append("")
                break
        else:
            levels.pop()
            steps.pop()
    return None


def _meant(value: object) -> object:
    """Return what travels in place of a member of an Enum that is neither text nor a number."""
    while isinstance(value, Enum) and not isinstance(value, (str, int)):
        value = value._value_
    return value


def _problem(value: object) -> str | None:
    """Return what is wrong with a value by itself; None: nothing."""
    if isinstance(value, str):
        return _problem_of_text(value, "a string")
    if isinstance(value, float):
        return None if value - value == 0 else "NaN or an infinity"
    if isinstance(value, int):
        return _problem_of_int(value)
    if isinstance(value, dict):
        return _problem_of_keys(value)
    return None if isinstance(value, (list, tuple, NoneType, UUID)) else f"a value of type {type(value).__name__}"


def _problem_of_int(number: int) -> str | None:
    try:
        int.__repr__(number)
    except ValueError:
        return "an integer of too many digits"
    return None


def _problem_of_keys(members: dict[Any, Any]) -> str | None:
    for key in list(dict.keys(members)):
        if not isinstance(key, str):
            return f"a dict with a key of type {type(key).__name__}"
        if (problem := _problem_of_text(key, "a dict with a key")) is not None:
            return problem
    return None


def _problem_of_text(text: str, what: str) -> str | None:
    try:
        str.encode(text)
    except UnicodeEncodeError:
        return f"{what} with a lone surrogate (it has no UTF-8 form)"
    return None


def _children(value: object) -> _Children | None:
    """Return what a value holds, each with the step to it; None: it is no container."""
    if isinstance(value, dict):
        return ((_step(key, number), item) for number, (key, item) in enumerate(list(dict.items(value)), start=1))
    # What a subclass really holds, and not what its own methods say.
    if isinstance(value, list):
        return ((f"[{number}]", item) for number, item in enumerate(list.__iter__(value)))
    if isinstance(value, tuple):
        return ((f"[{number}]", item) for number, item in enumerate(tuple.__iter__(value)))
    return None


def _step(key: str, number: int) -> str:
    key = str.__str__(key)
    return f'["{key}"]' if _FIELD.fullmatch(key) else f"[<key {number}>]"


def _place(steps: list[str]) -> str:
    """Return where it is; nothing, if it is the event itself."""
    if len(steps) == 1:
        return ""
    if len(steps) > _SHOWN_STEPS:
        half = _SHOWN_STEPS // 2
        steps = [*steps[:half], "[…]", *steps[-half:]]
    return f" at {''.join(steps)}"
