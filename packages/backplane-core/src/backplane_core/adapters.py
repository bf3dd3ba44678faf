"""Which installed adapter serves a URL, and what it can be given: entry points of the group `backplane.transports`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, cast

from backplane_core._runtime.scheme_hints import nearest_scheme
from backplane_core.errors import AdapterNotInstalledError, ConfigurationError
from backplane_core.options import ADAPTER_NAMES, NAMES, unknown_option
from backplane_core.transport import Transport

__all__ = [
    "MEMORY",
    "TLS_SCHEMES",
    "family_of",
    "installed",
    "make_transport",
    "own_option_names",
    "scheme_of",
    "split_options",
]

GROUP: Final = "backplane.transports"
"""Entry points of this group are named after a URL's scheme and load `(url, *, own_option=...) -> Transport`."""

TLS_SCHEMES: Final = frozenset(
    {"rediss", "valkeys", "rediss-cluster", "valkeys-cluster", "rediss+sentinel", "valkeys+sentinel", "tls"}
    | {"rediss+streams", "valkeys+streams", "tls+jetstream"}
    | {"rediss+sentinel+streams", "valkeys+sentinel+streams", "rediss-cluster+streams", "valkeys-cluster+streams"}
)
"""Schemes that ask for an encrypted line. A kind of this sort never goes with a URL that has none."""

_WEBSOCKET_SCHEMES: Final = ("ws", "wss")

_SENTINEL: Final = ("redis+sentinel", "valkey+sentinel")

MEMORY: Final = ("memory", "inmemory")

# Only a hint for the error: which distribution to install for a scheme that nothing installed serves.
_DISTRIBUTIONS: Final = {
    "redis": "backplane-redis",
    "redis-cluster": "backplane-redis",
    "rediss": "backplane-redis",
    "rediss-cluster": "backplane-redis",
    "unix": "backplane-redis",
    "valkey": "backplane-redis",
    "valkey-cluster": "backplane-redis",
    "valkeys": "backplane-redis",
    "valkeys-cluster": "backplane-redis",
    "nats": "backplane-nats",
    "tls": "backplane-nats",
}


# A search reads a file of each installed distribution: milliseconds in which the loop stands still. What was not found
# is looked for again: it may be installed meanwhile, in a notebook.
_found: Final[dict[str, EntryPoint]] = {}


def make_transport(url: str, options: Mapping[str, object]) -> tuple[Transport, dict[str, Any]]:
    """Return the transport that serves the URL, and the options that are the backplane's.

    Raises:
        AdapterNotInstalledError: No installed adapter serves the scheme; says what to `pip install`.
        ConfigurationError: The URL or an option is wrong.
    """
    factory = _load(scheme_of(url))
    rest, own = split_options(options)
    known = _names_of(factory)
    for name in own:
        if name not in known:
            raise ConfigurationError(
                f"{scheme_of(url)}:// has no option {name!r} of its own; it has {', '.join(known) or 'none'}"
            )
    return factory(url, **own), rest


def own_option_names(url: str) -> list[str]:
    """Return the names of the options that the adapter for a URL has of its own, without `connection_kwargs`.

    Raises:
        AdapterNotInstalledError: No installed adapter serves the scheme; says what to `pip install`.
    """
    return [name for name in _names_of(_load(scheme_of(url))) if name != "connection_kwargs"]


def _load(scheme: str) -> Callable[..., Transport]:
    entry = _found.get(scheme) or installed().get(scheme)
    if entry is None:
        raise _not_installed(scheme)
    _found[scheme] = entry
    try:
        return cast("Callable[..., Transport]", entry.load())
    except (ImportError, AttributeError) as error:
        raise AdapterNotInstalledError(
            f"the adapter for {scheme}:// ({entry.value}) does not load: {type(error).__name__}; reinstall it"
        ) from error


def _names_of(factory: Callable[..., Transport]) -> list[str]:
    parameters = inspect.signature(factory).parameters.values()
    return sorted([parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY])


def split_options(options: Mapping[str, object]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the backplane's options, and the adapter's own.

    Raises:
        ConfigurationError: One of them does not exist.
    """
    rest = dict(options)
    for name in rest:
        if name not in NAMES and name not in ADAPTER_NAMES:
            raise unknown_option(name, [*NAMES, *ADAPTER_NAMES])
    own: object = rest.pop("transport_options", None)
    if own is None:
        own = dict[str, object]()
    if not isinstance(own, Mapping):
        raise ConfigurationError(f"transport_options is a mapping of names to values, not {type(own).__name__}")
    named = {name: rest.pop(name) for name in ADAPTER_NAMES if name in rest}
    return rest, {**own, **{name: value for name, value in named.items() if value is not None}}


def scheme_of(url: object) -> str:
    """Return the scheme; the rest of the URL is the adapter's (several hosts are no URL to the standard library)."""
    if not isinstance(url, str):
        raise ConfigurationError(f"a URL is a string, not {type(url).__name__}")
    scheme, separator, _ = url.strip().partition("://")
    if not separator or not scheme:
        slashes = "; a path begins with a third slash, unix:///run/redis.sock" if scheme.startswith("unix:") else ""
        raise ConfigurationError(f"a URL starts with a scheme and ://, such as {_listed()}{slashes}")
    return scheme.lower()


def installed() -> dict[str, EntryPoint]:
    """Return the adapters that are installed, by the scheme that they serve."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _listed() -> str:
    return ", ".join([f"{scheme}://" for scheme in sorted({*installed(), "memory"})])


def _not_installed(scheme: str) -> ConfigurationError:
    distribution = _DISTRIBUTIONS.get(_base(scheme))
    if scheme in _WEBSOCKET_SCHEMES:
        return AdapterNotInstalledError(
            f"no installed adapter serves {scheme}://: NATS over WebSocket is not supported; "
            "take its nats:// or tls:// port"
        )
    served = {*installed(), *_DISTRIBUTIONS, *TLS_SCHEMES, *_SENTINEL, MEMORY[0]}
    if scheme not in served and (meant := nearest_scheme(scheme, served)) is not None:
        missing = _DISTRIBUTIONS.get(_base(meant))
        install = "" if missing is None or _base(meant) in installed() else f" (pip install {missing})"
        shown = "unix:///path/to/socket" if meant == "unix" else f"{meant}://"
        return AdapterNotInstalledError(f"no installed adapter serves {scheme}://; did you mean {shown}?{install}")
    if distribution is None or _base(scheme) in installed():
        return AdapterNotInstalledError(f"no installed adapter serves {scheme}://; there are {_listed()}")
    return AdapterNotInstalledError(f"no installed adapter serves {scheme}://: pip install {distribution}")


def family_of(kind: str, prefix: str) -> list[str]:
    """Return the schemes that the kind's adapter serves; the adapter for `redis` serves `redis+sentinel` too.

    Args:
        kind: As the environment has it.
        prefix: The variable that it stands in, for errors.

    Raises:
        ConfigurationError: There is no such kind; says which there are.
        AdapterNotInstalledError: Its adapter is not installed; says what to `pip install`.
    """
    adapters = installed()
    entry = adapters.get(kind)
    if entry is None:
        if kind in _DISTRIBUTIONS:
            raise _not_installed(kind)
        # Nothing of the value is shown: the likeliest slip is a URL, which may hold a password.
        allowed = ", ".join(sorted({*adapters, *MEMORY, "redis", "valkey", "nats"}))
        hint = f"; it looks like a URL, which belongs in {prefix}_URL" if ":" in kind or "/" in kind else ""
        raise ConfigurationError(f"{prefix} names no kind of broker that is known here{hint}; allowed are {allowed}")
    plain = {name for name, other in adapters.items() if other.value == entry.value}
    return sorted([name for name, other in adapters.items() if other.value == entry.value or _base(name) in plain])


def _base(scheme: str) -> str:
    """Return what a scheme with a suffix begins with: `redis` for `redis+sentinel`."""
    return scheme.partition("+")[0]
