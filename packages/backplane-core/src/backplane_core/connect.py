"""From a URL, or the environment, to a backplane: `connect`, `connect_from_env`."""

from __future__ import annotations

import inspect
import logging
import os
import re
from collections.abc import Callable, Generator, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import TracebackType
from typing import Any, Final, Generic, TypeVar, cast

from attrs import fields

from backplane_core.base import BaseBackplane
from backplane_core.distributed import DistributedBackplane
from backplane_core.errors import AdapterNotInstalledError, ConfigurationError
from backplane_core.memory import InMemoryBackplane
from backplane_core.options import CALLBACKS, Settings, unknown_option
from backplane_core.transport import Transport

__all__ = ["MEMORY", "Connecting", "connect", "connect_from_env", "make_transport", "scheme_of"]

logger: Final = logging.getLogger("backplane")

GROUP: Final = "backplane.transports"
"""Entry points of this group are named after a URL's scheme and load `(url, **options) -> Transport`."""

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

B = TypeVar("B", bound=BaseBackplane)


class Connecting(Generic[B]):
    """A backplane to be: await it, or enter it, once. Nothing is opened before.

    Args:
        backplane: The one to open.
    """

    def __init__(self, backplane: B) -> None:
        self._backplane = backplane

    def __await__(self) -> Generator[Any, Any, B]:
        return self._backplane.__aenter__().__await__()

    async def __aenter__(self) -> B:
        return await self._backplane.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._backplane.aclose()


def connect(url: str | None = None, **options: Any) -> Connecting[BaseBackplane]:  # noqa: ANN401 -- an adapter's own options
    """Connect to the broker of the URL, or work in memory. Returns when this pod is receiving.

    `backplane = await connect(...)`, or `async with connect(...) as backplane:`, which closes it at the end.

    Args:
        url: `redis://`, `rediss://`, `valkey://`, `nats://` ... whatever adapters are installed; `memory://` or None:
            in memory.
        options: See `Settings` for those of every backplane; the adapter's own beside them, such as
            `connection_kwargs`.

    Raises:
        AdapterNotInstalledError: Nothing installed serves the scheme. Says which `pip install` mends it.
        ConfigurationError: The URL or an option is wrong. Raised here, before anything is opened.
        TransportError: When awaited: the broker can't be reached within `connect_timeout_s`.
        AuthenticationError: When awaited: it refused the credentials.
    """
    if url is None or scheme_of(url) in MEMORY:
        options.pop("connection_kwargs", None)
        return Connecting(InMemoryBackplane(**options))
    transport, rest = make_transport(url, options)
    return Connecting(DistributedBackplane(transport, **rest))


def connect_from_env(
    env: Mapping[str, str] | None = None,
    *,
    prefix: str = "BACKPLANE",
    **options: Any,  # noqa: ANN401 -- an adapter's own options
) -> Connecting[BaseBackplane]:
    """Connect as the environment says. Never falls back to memory because something is wrong.

    `{prefix}`: `memory`, `inmemory`, `redis`, `valkey`, `nats`, or any installed scheme, in any case; unset: the scheme
    of `{prefix}_URL`; both unset or empty: memory. URL: `{prefix}_URL`, else `{prefix}_REDIS_URL`, `{prefix}_NATS_URL`
    and so on, after the kind. Also `{prefix}_CHANNEL`, `{prefix}_ROUTING`, and `{prefix}_SIGNING_KEYS`, separated by
    commas; there and empty is an error, as nothing would be signed.

    Args:
        env: Instead of `os.environ`.
        prefix: For hosts with names of their own.
        options: As `connect`; they win over the environment.

    Raises:
        ConfigurationError: Unknown kind, kind and URL that disagree, or no URL. The message lists what is allowed.
        BackplaneError: As `connect` otherwise.
    """
    env = os.environ if env is None else env

    def read(name: str) -> str:
        return env.get(name, "").strip()

    for option in ("channel", "routing"):
        value = read(f"{prefix}_{option.upper()}")
        if value:
            options.setdefault(option, value if option == "channel" else value.lower())

    if f"{prefix}_SIGNING_KEYS" in env:
        options.setdefault("signing_keys", _keys_of(f"{prefix}_SIGNING_KEYS", read))

    kind, url = read(prefix).lower(), read(f"{prefix}_URL")
    if not kind and not url:
        ignored = [f"{prefix}_{family}_URL" for family in ("REDIS", "VALKEY", "NATS") if read(f"{prefix}_{family}_URL")]
        if ignored:
            logger.warning("%s is set but %s is not: working in memory", " and ".join(ignored), prefix)
        return connect(None, **options)
    if not kind:
        return connect(url, **options)
    if kind not in MEMORY:
        return connect(_url_for(kind, prefix, read), **options)
    if url and scheme_of(url) not in MEMORY:
        raise ConfigurationError(f"{prefix}={kind} and the {scheme_of(url)}:// URL in {prefix}_URL disagree: drop one")
    return connect(None, **options)


def _keys_of(name: str, read: Callable[[str], str]) -> list[str]:
    keys = [key for part in read(name).split(",") if (key := part.strip())]
    if not keys:
        raise ConfigurationError(f"{name} is set and holds no key: unset it for a fleet that does not sign")
    return keys


def _url_for(kind: str, prefix: str, read: Callable[[str], str]) -> str:
    """Return the URL that the environment has for a kind."""
    family = _family(kind, prefix)
    # No shell sets a variable with a sign in its name.
    words = [re.sub("[^A-Z0-9]", "_", scheme.upper()) for scheme in (kind, *family)]
    names = list(dict.fromkeys([f"{prefix}_URL", *[f"{prefix}_{word}_URL" for word in words]]))
    found = next(((name, value) for name in names if (value := read(name))), None)
    if found is None:
        raise ConfigurationError(
            f"{prefix}={kind} needs a URL: set {' or '.join(names)}, for example {kind}://localhost"
        )
    name, url = found
    if scheme_of(url) not in family:
        schemes = ", ".join([f"{scheme}://" for scheme in family])
        raise ConfigurationError(
            f"{prefix}={kind} and the {scheme_of(url)}:// URL in {name} disagree: {kind} takes {schemes}"
        )
    return url


def make_transport(url: str, options: Mapping[str, Any]) -> tuple[Transport, dict[str, Any]]:
    """Return the transport that serves the URL, and the options that are the backplane's.

    Raises:
        AdapterNotInstalledError: Nothing installed serves the scheme.
        ConfigurationError: The URL or an option is wrong.
    """
    scheme = scheme_of(url)
    entry = _installed().get(scheme)
    if entry is None:
        raise _not_installed(scheme)
    try:
        factory = cast("Callable[..., Transport]", entry.load())
    except (ImportError, AttributeError) as error:
        raise AdapterNotInstalledError(
            f"the adapter for {scheme}:// ({entry.value}) does not load: {type(error).__name__}; reinstall it"
        ) from error
    own = [
        name
        for name, parameter in inspect.signature(factory).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    known = [*[attribute.name for attribute in fields(Settings)], *CALLBACKS]
    for name in options:
        if name not in known and name not in own:
            raise unknown_option(name, [*known, *own])
    transport = factory(url, **{name: value for name, value in options.items() if name in own})
    return transport, {name: value for name, value in options.items() if name not in own}


def scheme_of(url: object) -> str:
    """Return the scheme; the rest of the URL is the adapter's (several hosts are no URL to the standard library)."""
    if not isinstance(url, str):
        raise ConfigurationError(f"a URL is a string, not {type(url).__name__}")
    scheme, separator, _ = url.strip().partition("://")
    if not separator or not scheme:
        raise ConfigurationError(f"a URL starts with a scheme, such as {_listed()}")
    return scheme.lower()


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _listed() -> str:
    return ", ".join([f"{scheme}://" for scheme in sorted({*_installed(), "memory"})])


def _not_installed(scheme: str) -> ConfigurationError:
    distribution = _DISTRIBUTIONS.get(_base(scheme))
    if distribution is None:
        return AdapterNotInstalledError(f"no installed adapter serves {scheme}://; there are {_listed()}")
    return AdapterNotInstalledError(f"no installed adapter serves {scheme}://: pip install {distribution}")


def _family(kind: str, prefix: str) -> list[str]:
    """Return the schemes that the kind's adapter serves; `redis+sentinel` is served by whoever serves `redis`."""
    installed = _installed()
    entry = installed.get(kind)
    if entry is None:
        if kind in _DISTRIBUTIONS:
            raise _not_installed(kind)
        allowed = ", ".join(sorted({*installed, *MEMORY, "redis", "valkey", "nats"}))
        raise ConfigurationError(f"{prefix}={kind!r} is not known; allowed are {allowed}")
    plain = {name for name, other in installed.items() if other.value == entry.value}
    return sorted([name for name, other in installed.items() if other.value == entry.value or _base(name) in plain])


def _base(scheme: str) -> str:
    """Return what a scheme with a suffix begins with: `redis` for `redis+sentinel`."""
    return scheme.partition("+")[0]
