"""Recognizes callables that are not coroutine functions: `check_callback`, `is_plain_callable`."""

from __future__ import annotations

import inspect

from backplane_core.errors import ConfigurationError

__all__ = ["check_callback", "is_plain_callable"]


def is_plain_callable(value: object) -> bool:
    """Return whether a value is callable and not a coroutine function, whose result nobody would await."""
    return callable(value) and not any(map(inspect.iscoroutinefunction, (value, type(value).__call__)))


def check_callback(name: str, callback: object) -> None:
    """Raise an error unless it is a plain callable or None.

    Raises:
        ConfigurationError: It is something else.
    """
    if callback is not None and not is_plain_callable(callback):
        raise ConfigurationError(f"{name} is a plain callable, which must not be a coroutine function, or None")
