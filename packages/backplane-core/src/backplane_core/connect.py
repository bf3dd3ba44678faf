"""From a URL, or the environment, to a backplane: `connect`, `connect_from_env`."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack

from backplane_core.adapters import MEMORY, make_transport, own_option_names, scheme_of, split_options
from backplane_core.base import BaseBackplane
from backplane_core.distributed import DistributedBackplane
from backplane_core.environment import Environment
from backplane_core.memory import InMemoryBackplane
from backplane_core.options import ConnectOptions

__all__ = ["Connecting", "connect", "connect_from_env"]

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

    if not TYPE_CHECKING:  # otherwise a type checker would accept any name

        def __getattr__(self, name: str) -> object:
            """Raise `AttributeError`, with the hint to await `connect` first."""
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}: it opens a backplane, so "
                "`backplane = await connect(...)`, or `async with connect(...) as backplane:`"
            )

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
        return Connecting(InMemoryBackplane(**split_options(options)[0]))
    transport, rest = make_transport(url, options)
    return Connecting(DistributedBackplane(transport, **rest))


def connect_from_env(
    env: Mapping[str, str] | None = None, *, prefix: str = "BACKPLANE", **options: Unpack[ConnectOptions]
) -> Connecting[BaseBackplane]:
    """Connect as the environment says. A mistake in it is an error, and never means memory.

    - `BACKPLANE`: `memory`, `inmemory`, `redis`, `valkey`, `nats`, or any installed scheme, in upper or lower case.
      Unset or empty: the scheme of `BACKPLANE_URL`; if that is unset too, memory.
      The kind and the URL must both ask for TLS, or neither.
    - `BACKPLANE_URL`, or else the kind's own variable: `BACKPLANE_REDIS_URL`, `BACKPLANE_NATS_URL` and so on. Without
      `BACKPLANE`, a URL that is set but empty is an error: it would mean memory.
    - `BACKPLANE_CHANNEL`, `BACKPLANE_ROUTING`, `BACKPLANE_WAIT`, `BACKPLANE_POD_NAME` and so on: the options of these
      names, as text; empty counts as unset. So with the adapter's own options.
    - `BACKPLANE_SIGNING_KEYS`: keys separated by commas. Set but empty is an error, since nothing would be signed.

    A variable that begins with the prefix and means nothing is a warning, which says which one may be meant.

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
    environment = Environment(os.environ if env is None else env, prefix)
    url = environment.url()
    own = [] if url is None or scheme_of(url) in MEMORY else own_option_names(url)
    environment.warn_of_unknown(own)
    return connect(url, **environment.options(options, own))
