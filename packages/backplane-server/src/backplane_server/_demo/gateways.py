"""The demo's two gateways, each a `backplane serve`: `Gateway`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Self

from attrs import define, field

from backplane_server._demo.guard import Guard
from backplane_server._demo.ports import HOST, free_ports, request
from backplane_server._demo.processes import PYTHON, START_S, Child, environment
from backplane_server._page.samples import Sample

__all__ = ["Gateway"]

POLL_S: Final = 0.05
"""Seconds between two probes."""
STALE_AFTER_S: Final = "1"
"""Seconds without a sign of the broker after which a pod counts as cut off: short, since someone is watching."""


@define(eq=False)
class Gateway:
    """A gateway on a port of this machine.

    Args:
        name: The name of its pod.
        port: The port for clients.
    """

    name: str
    port: int
    _metrics_port: int
    _child: Child = field(repr=False)

    @classmethod
    async def start(cls, name: str, guard: Guard, url: str, channel: str, origins: str) -> Self:
        """Start a gateway; `until_ready` waits until it serves.

        Args:
            name: The name of its pod.
            guard: Ends its process with the demo.
            url: The broker's URL.
            channel: The fleet's channel.
            origins: Pages that may connect.
        """
        port, metrics_port = free_ports(2)
        command = [
            *(*PYTHON, "backplane_server", "serve", "--insecure-dev"),
            *("--host", HOST, "--port", str(port), "--metrics-port", str(metrics_port)),
            *("--origins", origins, "--on-gap", "frame", "--drain-delay", "0", "--drain-s", "0"),
        ]
        variables = environment(
            BACKPLANE_URL=url,
            BACKPLANE_CHANNEL=channel,
            BACKPLANE_POD_NAME=name,
            BACKPLANE_STALE_AFTER_S=STALE_AFTER_S,
        )
        return cls(name, port, metrics_port, await Child.start(name, command, guard, variables))

    async def until_ready(self) -> None:
        """Return once it serves.

        Raises:
            Failure: It does not in time; with the end of its log.
        """
        await self._until(self._is_ready, "is not ready")

    async def until_live(self) -> None:
        """Return once it is connected to the broker and its outbox is empty.

        Raises:
            Failure: It is not in time; with the end of its log.
        """
        await self._until(self._is_live, "does not reach the broker")

    @property
    def address(self) -> str:
        """The URL for clients."""
        return f"http://{HOST}:{self.port}"

    async def publish(self, target: str, event: object) -> tuple[int, bytes]:
        """Publish over HTTP, as a back-end does; return the status and the body.

        Raises:
            OSError: It does not answer.
        """
        return await request(self.port, "POST", "/publish", {"target": target, "event": event})

    async def sample(self) -> Sample | None:
        """Return its current metrics; None: it does not answer."""
        with suppress(OSError):
            status, body = await request(self._metrics_port, "GET", "/metrics")
            if status == 200:  # noqa: PLR2004 -- HTTP's own
                return Sample.of(body.decode())
        return None

    async def stop(self) -> None:
        """End it, as a deploy does."""
        await self._child.stop()

    async def _until(self, condition: Callable[[], Awaitable[bool]], problem: str) -> None:
        try:
            async with asyncio.timeout(START_S):
                while not await condition():
                    if not self._child.is_running:
                        raise self._child.failure("has ended")
                    # Polled, as probes are.
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise self._child.failure(f"{problem} within {START_S:g} s") from None

    async def _is_live(self) -> bool:
        sample = await self.sample()
        return sample is not None and sample.state == "live" and not sample.outbox

    async def _is_ready(self) -> bool:
        with suppress(OSError):
            status, _ = await request(self._metrics_port, "GET", "/readyz")
            return status == 200  # noqa: PLR2004 -- HTTP's own
        return False
