"""The demo's processes, while they run: `Stage`, `staged`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from attrs import frozen
from backplane_core import BaseBackplane, connect

from backplane_server._demo.broker import Broker
from backplane_server._demo.gateways import Gateway
from backplane_server._demo.guard import guarded
from backplane_server._demo.jobs import Jobs, jobs_of
from backplane_server._demo.servers import Server

__all__ = ["PODS", "Stage", "staged"]

PODS: Final = ("pod-a", "pod-b")
CHANNEL: Final = "demo"


@frozen
class Stage:
    """The demo's processes.

    Args:
        broker: The broker, which can be killed and started again.
        gateways: The gateways, by the names of their pods.
        jobs: The worker.
        desk: A pod in this process without connections, which queries the fleet and gives it orders.
    """

    broker: Broker
    gateways: Mapping[str, Gateway]
    jobs: Jobs
    desk: BaseBackplane


@asynccontextmanager
async def staged(server: Server, origins: str) -> AsyncGenerator[Stage]:
    """Start everything; at the end of the block no process is left, however it ends.

    Args:
        server: The server to start as the broker.
        origins: Pages that may connect, separated by commas.

    Raises:
        Failure: One of the processes does not start.
    """
    async with AsyncExitStack() as stack:
        guard = stack.enter_context(guarded())
        broker = Broker(server, guard)
        stack.push_async_callback(broker.stop)
        await broker.start()
        gateways: dict[str, Gateway] = {}
        for name in PODS:
            gateways[name] = await Gateway.start(name, guard, broker.url, CHANNEL, origins)
            stack.push_async_callback(gateways[name].stop)
        jobs = await stack.enter_async_context(jobs_of(guard, broker.url, CHANNEL))
        desk = await stack.enter_async_context(connect(broker.url, channel=CHANNEL, pod_name="desk"))
        async with asyncio.TaskGroup() as starting:
            for gateway in gateways.values():
                starting.create_task(gateway.until_ready())
        yield Stage(broker, gateways, jobs, desk)
