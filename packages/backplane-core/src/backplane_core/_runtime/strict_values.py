"""Values of options, taken strictly: a converter that bends nothing, as cattrs by itself would."""

from __future__ import annotations

from math import isfinite

import cattrs

__all__ = ["strict_converter"]


def strict_converter() -> cattrs.Converter:
    """Return a converter for which 5.5 is no whole number, 1 no flag, and NaN no number; text may hold numbers."""
    converter = cattrs.Converter()
    converter.register_structure_hook(bool, _flag)
    converter.register_structure_hook(int, _whole)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(str, _text)
    return converter


def _whole(value: object, _: object) -> int:
    """Accept 5 and "5", reject True and 5.5: cattrs would silently cut off a fraction."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        return int(value)
    raise TypeError


def _number(value: object, _: object) -> float:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool) and isfinite(number := float(value)):
        return number
    raise TypeError


def _flag(value: object, _: object) -> bool:
    if isinstance(value, bool):
        return value
    raise TypeError


def _text(value: object, _: object) -> str:
    if isinstance(value, str):
        return value
    raise TypeError
