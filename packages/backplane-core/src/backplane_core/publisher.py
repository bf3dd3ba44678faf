"""Processes that publish and hold no connection: `Publisher`, for asyncio. Code without a loop has `SyncPublisher`."""

from __future__ import annotations

from typing import NoReturn, Unpack

from backplane_core.adapters import MEMORY, make_transport, scheme_of
from backplane_core.backplane import CloseCallback, Sink
from backplane_core.distributed import DistributedBackplane
from backplane_core.errors import ConfigurationError
from backplane_core.observe import GapCallback
from backplane_core.options import ConnectOptions

__all__ = ["Publisher"]


class Publisher(DistributedBackplane):
    """Publishes to a fleet and holds no connection: subscribes to nothing, so it costs the fleet nothing.

    `async with Publisher("redis://...") as publisher: await publisher.publish(target, event)`. Entering it connects,
    leaving it sends what was accepted, then closes.

    Args:
        url: The broker's, as `connect` takes it. Not `memory://`, which reaches no other process.
        options: See `ConnectOptions`.

    Raises:
        AdapterNotInstalledError: No installed adapter serves the scheme; says what to `pip install`.
        ConfigurationError: The URL or an option is wrong.
    """

    _hears = False

    def __init__(self, url: str, **options: Unpack[ConnectOptions]) -> None:
        if scheme_of(url) in MEMORY:
            raise ConfigurationError("a Publisher needs a broker: memory reaches no other process")
        transport, rest = make_transport(url, options)
        super().__init__(transport, **rest)

    async def attach(
        self,
        conn_id: str,  # noqa: ARG002 -- refused, whatever the arguments are
        sink: Sink,  # noqa: ARG002
        *,
        raw: bool = False,  # noqa: ARG002
        on_gap: GapCallback | None = None,  # noqa: ARG002
        info: object = None,  # noqa: ARG002
        on_close: CloseCallback | None = None,  # noqa: ARG002
        presence: object = None,  # noqa: ARG002
        presence_key: str | None = None,  # noqa: ARG002
    ) -> NoReturn:
        """Raise `ConfigurationError`: a publisher holds no connections. Use `connect` for a pod that does.

        Args:
            conn_id: Ignored.
            sink: Ignored.
            raw: Ignored.
            on_gap: Ignored.
            info: Ignored.
            on_close: Ignored.
            presence: Ignored.
            presence_key: Ignored.

        Raises:
            ConfigurationError: Always.
        """
        _refuse()

    def connection(self, *args: object, **options: object) -> NoReturn:  # noqa: ARG002 -- refused, whatever they are
        """Raise `ConfigurationError`: a publisher holds no connections. Use `connect` for a pod that does.

        Args:
            args: Ignored.
            options: Ignored.

        Raises:
            ConfigurationError: Always.
        """
        _refuse()

    async def history(self, *args: object, **options: object) -> NoReturn:  # noqa: ARG002 -- refused, whatever they are
        """Raise `ConfigurationError`: a publisher does not read. Use `connect` for a pod that does.

        Args:
            args: Ignored.
            options: Ignored.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError("a Publisher only publishes, and reads no log: use connect() for a pod that does both")

    @property
    def fleet(self) -> NoReturn:
        """Raise `ConfigurationError`: a publisher hears no answers. Use `connect` for a pod that does."""
        raise ConfigurationError("a Publisher hears no answers, it only publishes: use connect() for a pod that asks")


def _refuse() -> NoReturn:
    raise ConfigurationError(
        "a Publisher holds no connections, it only publishes: use connect() for a pod that does both"
    )
