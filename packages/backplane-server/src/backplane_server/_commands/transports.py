"""The transport for a URL and its options, from the entry points of the group `backplane.transports`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any, cast

from backplane_core import Transport

__all__ = ["option_names", "transport_factory"]


def transport_factory(url: str) -> Callable[..., Transport] | None:
    """Return the factory of the transport for a URL; None: no installed adapter has one, or it can't be imported."""
    scheme = url.strip().partition("://")[0].lower()
    found = next(iter(entry_points(group="backplane.transports", name=scheme)), None)
    try:
        return None if found is None else cast("Callable[..., Transport]", found.load())
    except (ImportError, AttributeError):
        return None  # `connect` reports it in better words


def option_names(url: str) -> Sequence[str]:
    """Return the names of the adapter's own options for a URL, as far as text can express them."""
    factory: Any = transport_factory(url)
    parameters = () if factory is None else inspect.signature(factory).parameters.values()
    return sorted(
        parameter.name
        for parameter in parameters
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "connection_kwargs"
    )
