"""What is wrong with a URL and options is an error where they are written, though a thread will use them later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backplane_core.adapters import MEMORY, make_transport, scheme_of
from backplane_core.errors import ConfigurationError
from backplane_core.options import Settings

__all__ = ["check_options", "keeps_jobs"]


def check_options(who: str, url: str, options: Mapping[str, Any]) -> Settings:
    """Return the settings for a URL and options.

    Args:
        who: The class that takes them, for the error.
        url: The broker's, as `connect` takes it.
        options: See `ConnectOptions`.

    Raises:
        AdapterNotInstalledError: No installed adapter serves the scheme; says what to `pip install`.
        ConfigurationError: The URL or an option is wrong, or no other process can be reached there.
    """
    if scheme_of(url) in MEMORY:
        raise ConfigurationError(f"a {who} needs a broker: memory reaches no other process")
    _, rest = make_transport(url, options)
    return Settings.of_options(rest)


def keeps_jobs(url: str, options: Mapping[str, Any]) -> bool:
    """Return whether the broker of a URL, already checked, keeps jobs."""
    transport, _ = make_transport(url, options)
    return transport.traits.queues
