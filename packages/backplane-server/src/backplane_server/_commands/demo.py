"""`backplane demo`: a broker, two gateways and a job worker, with a page to play with them."""

from __future__ import annotations

import logging

import typer
from attrs import frozen

from backplane_server._commands.settings import BusSettings
from backplane_server._demo.check import Check
from backplane_server._demo.servers import find_server
from backplane_server._demo.stage import staged

__all__ = ["Demo"]


@frozen(kw_only=True)
class Demo:
    """How the demo is to run.

    Args:
        broker: Which kind it starts; None: the first that is here.
        checks: Whether it runs without a page, and says whether all went well.
    """

    broker: str | None
    checks: bool

    async def do(self, settings: BusSettings) -> int:  # noqa: ARG002 -- it has a fleet of its own
        """Run, and return the exit code."""
        server = find_server(self.broker)
        typer.echo(f"starting {server.name} ({server.binary}), two gateways and a job worker", err=True)
        # The link is lost whenever somebody kills the broker, which is what it is there for.
        logging.getLogger("backplane").setLevel(logging.ERROR)
        async with staged(server, "http://127.0.0.1") as stage:
            return await Check(stage).run()
