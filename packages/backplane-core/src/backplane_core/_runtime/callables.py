"""What may be called from within a turn of the loop: `is_plain_callable`."""

from __future__ import annotations

import inspect

__all__ = ["is_plain_callable"]


def is_plain_callable(value: object) -> bool:
    """Return whether a value can be called and runs at once; what a coroutine function returns, nobody would await."""
    return callable(value) and not any(map(inspect.iscoroutinefunction, (value, type(value).__call__)))
