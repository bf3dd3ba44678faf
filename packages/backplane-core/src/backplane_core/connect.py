"""From a URL, or the environment, to a backplane: `connect`, `connect_from_env`."""

from __future__ import annotations

import inspect
import logging
import os
import re
from collections.abc import Callable, Generator, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import TracebackType
from typing import Any, Final, Generic, TypeVar, Unpack, cast

from backplane_core.base import BaseBackplane
from backplane_core.distributed import DistributedBackplane
from backplane_core.errors import AdapterNotInstalledError, ConfigurationError
from backplane_core.memory import InMemoryBackplane
from backplane_core.options import ADAPTER_NAMES, NAMES, ConnectOptions, RoutingName, unknown_option
from backplane_core.transport import Transport

__all__ = ["MEMORY", "Connecting", "connect", "connect_from_env", "make_transport", "scheme_of"]

logger: Final = logging.getLogger("backplane")

GROUP: Final = "backplane.transports"
"""Entry points of this group are named after a URL's scheme and load `(url, *, own_option=...) -> Transport`."""

TLS_SCHEMES: Final = frozenset(
    {"rediss", "valkeys", "rediss-cluster", "valkeys-cluster", "rediss+sentinel", "valkeys+sentinel", "tls"}
)
"""Schemes that ask for an encrypted line. A kind of this sort never goes with a URL that has none."""

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
    """A backplane that is not open yet: await it, or enter it, once. Nothing is opened before.

    Args:
        backplane: The backplane to open.
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


def connect(url: str | None = None, **options: Unpack[ConnectOptions]) -> Connecting[BaseBackplane]:
    """Connect to the broker of the URL, or work in memory.

    `backplane = await connect(...)`, or `async with connect(...) as backplane:`, which closes it at the end. Either
    continues once this pod is receiving, or at once with `wait=False`.

    Args:
        url: `redis://`, `rediss://`, `valkey://`, `nats://` and so on, whatever the installed adapters serve. None or
            `memory://`: in memory.
        options: See `ConnectOptions`; `Options` are those that every backplane has.

    Returns:
        A backplane that is not open yet: await or enter it, once.

    Raises:
        AdapterNotInstalledError: No installed adapter serves the scheme; says what to `pip install`.
        ConfigurationError: The URL or an option is wrong. Raised at once, before anything is opened.
        TransportError: When awaited or entered: the broker can't be reached within `connect_timeout_s`; never with
            `wait=False`.
        AuthenticationError: When awaited or entered: the broker refused the credentials; never with `wait=False`.

    Cancellation: leaves nothing behind; the backplane is closed.
    """
    if url is None or scheme_of(url) in MEMORY:
        return Connecting(InMemoryBackplane(**_split(options)[0]))
    transport, rest = make_transport(url, options)
    return Connecting(DistributedBackplane(transport, **rest))


def connect_from_env(
    env: Mapping[str, str] | None = None, *, prefix: str = "BACKPLANE", **options: Unpack[ConnectOptions]
) -> Connecting[BaseBackplane]:
    """Connect as the environment says. A mistake in it is an error, and never means memory.

    - `BACKPLANE`: `memory`, `inmemory`, `redis`, `valkey`, `nats`, or any installed scheme, in upper or lower case.
      Unset or empty: the scheme of `BACKPLANE_URL`; if that is unset or empty too, memory.
    - `BACKPLANE_URL`, or else the kind's own variable: `BACKPLANE_REDIS_URL`, `BACKPLANE_NATS_URL` and so on.
    - `BACKPLANE_CHANNEL` and `BACKPLANE_ROUTING`: the options of these names.
    - `BACKPLANE_SIGNING_KEYS`: keys separated by commas. Set but empty is an error, since nothing would be signed.

    Args:
        env: Read instead of `os.environ`.
        prefix: Stands in place of `BACKPLANE` in all names.
        options: As `connect` takes them; they win over the environment.

    Returns:
        A backplane that is not open yet: await or enter it, once.

    Raises:
        ConfigurationError: The kind is unknown, the kind and the URL disagree, there is no URL, or a value or option is
            wrong; says what is allowed. Raised at once, before anything is opened.
        AdapterNotInstalledError: No installed adapter serves the kind or scheme; says what to `pip install`.
        TransportError: When awaited or entered: the broker can't be reached within `connect_timeout_s`; never with
            `wait=False`.
        AuthenticationError: When awaited or entered: the broker refused the credentials; never with `wait=False`.

    Cancellation: leaves nothing behind; the backplane is closed.
    """
    env = os.environ if env is None else env

    if "channel" not in options and (channel := _read(env, f"{prefix}_CHANNEL")):
        options["channel"] = channel
    if "routing" not in options and (routing := _read(env, f"{prefix}_ROUTING").lower()):
        options["routing"] = cast("RoutingName", routing)  # checked as any other value is
    if "signing_keys" not in options and f"{prefix}_SIGNING_KEYS" in env:
        options["signing_keys"] = _keys_of(f"{prefix}_SIGNING_KEYS", env)
    return connect(_chosen_url(prefix, env), **options)


def _chosen_url(prefix: str, env: Mapping[str, str]) -> str | None:
    """Return the URL that the environment chooses; None: in memory."""
    kind, url = _read(env, prefix).lower(), _read(env, f"{prefix}_URL")
    if not kind and not url:
        ignored = [
            f"{prefix}_{family}_URL" for family in ("REDIS", "VALKEY", "NATS") if _read(env, f"{prefix}_{family}_URL")
        ]
        if ignored:
            logger.warning("%s is set but %s is not: working in memory", " and ".join(ignored), prefix)
        return None
    if not kind:
        return url
    if kind not in MEMORY:
        return _url_for(kind, prefix, env)
    if url and scheme_of(url) not in MEMORY:
        raise ConfigurationError(f"{prefix}={kind} and the {scheme_of(url)}:// URL in {prefix}_URL disagree: drop one")
    return None


def _read(env: Mapping[str, str], name: str) -> str:
    """Return a variable without white space around it; empty if it is not set."""
    return env.get(name, "").strip()


def _keys_of(name: str, env: Mapping[str, str]) -> list[str]:
    keys = [key for part in _read(env, name).split(",") if (key := part.strip())]
    if not keys:
        raise ConfigurationError(f"{name} is set and holds no key: unset it for a fleet that does not sign")
    return keys


def _url_for(kind: str, prefix: str, env: Mapping[str, str]) -> str:
    """Return the URL that the environment has for a kind."""
    family = _family(kind, prefix)
    # No shell sets a variable with a sign in its name.
    words = [re.sub("[^A-Z0-9]", "_", scheme.upper()) for scheme in (kind, *family)]
    names = list(dict.fromkeys([f"{prefix}_URL", *[f"{prefix}_{word}_URL" for word in words]]))
    found = next(((name, value) for name in names if (value := _read(env, name))), None)
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
    if kind in TLS_SCHEMES and scheme_of(url) not in TLS_SCHEMES:
        raise ConfigurationError(
            f"{prefix}={kind} asks for TLS, and the {scheme_of(url)}:// URL in {name} has none: they disagree; take "
            "the scheme that is meant in both"
        )
    return url


def make_transport(url: str, options: Mapping[str, object]) -> tuple[Transport, dict[str, Any]]:
    """Return the transport that serves the URL, and the options that are the backplane's.

    Raises:
        AdapterNotInstalledError: No installed adapter serves the scheme; says what to `pip install`.
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
    rest, own = _split(options)
    known = [
        name
        for name, parameter in inspect.signature(factory).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    for name in own:
        if name not in known:
            raise ConfigurationError(
                f"{scheme}:// has no option {name!r} of its own; it has {', '.join(sorted(known)) or 'none'}"
            )
    return factory(url, **own), rest


def _split(options: Mapping[str, object]) -> tuple[dict[str, Any], dict[str, Any]]:
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
    kwargs = rest.pop("connection_kwargs", None)
    return rest, {**own, **({} if kwargs is None else {"connection_kwargs": kwargs})}


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
    """Return the schemes that the kind's adapter serves; the adapter for `redis` serves `redis+sentinel` too."""
    installed = _installed()
    entry = installed.get(kind)
    if entry is None:
        if kind in _DISTRIBUTIONS:
            raise _not_installed(kind)
        # Nothing of the value is shown: the likeliest slip is a URL, which may hold a password.
        allowed = ", ".join(sorted({*installed, *MEMORY, "redis", "valkey", "nats"}))
        hint = f"; it looks like a URL, which belongs in {prefix}_URL" if ":" in kind or "/" in kind else ""
        raise ConfigurationError(f"{prefix} names no kind of broker that is known here{hint}; allowed are {allowed}")
    plain = {name for name, other in installed.items() if other.value == entry.value}
    return sorted([name for name, other in installed.items() if other.value == entry.value or _base(name) in plain])


def _base(scheme: str) -> str:
    """Return what a scheme with a suffix begins with: `redis` for `redis+sentinel`."""
    return scheme.partition("+")[0]
