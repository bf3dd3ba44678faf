"""`backplane demo`: a broker, two gateways and a job worker, with a page to try them on."""

from __future__ import annotations

import logging
import sys

import typer
from attrs import frozen

from backplane_server._commands.settings import BusSettings
from backplane_server._demo.check import Check
from backplane_server._demo.desk import Desk
from backplane_server._demo.invitation import Invitation
from backplane_server._demo.ports import HOST
from backplane_server._demo.servers import find_server
from backplane_server._demo.site import make_site
from backplane_server._demo.stage import staged
from backplane_server._failure import MISUSED, Failure
from backplane_server._gateway.server import address_of, listen_at, serve_alone

__all__ = ["Demo"]


@frozen(kw_only=True)
class Demo:
    """How the demo is to run.

    Args:
        broker: Which kind it starts; None: the first that is installed.
        has_log: Whether the bus is a log, so that clients can resume.
        port: The page's port; 0: any free one.
        opens: Whether the page is opened in a browser.
        checks: Whether it runs without a page, and reports whether every event arrived.
    """

    broker: str | None
    has_log: bool
    port: int
    opens: bool
    checks: bool

    async def do(self, settings: BusSettings) -> int:  # noqa: ARG002 -- it has a fleet of its own
        """Run, and return the exit code."""
        if sys.platform == "win32":
            raise Failure("the demo needs process groups, which Windows does not have", "run it in WSL", MISUSED)
        server = find_server(self.broker, has_log=self.has_log)
        # The link is lost whenever somebody kills the broker, which is what it is there for.
        logging.getLogger("backplane").setLevel(logging.ERROR)
        # First, since somebody else may have the port.
        with listen_at(HOST, self.port, "--port") as listening:
            origin = f"http://{address_of(listening)}"
            typer.echo(f"starting {server.name} ({server.binary}), two gateways and a job worker", err=True)
            async with staged(server, f"{origin},{origin.replace(HOST, 'localhost')}") as stage:
                if self.checks:
                    return await Check(stage).run()
                await serve_alone(make_site(Desk(stage), Invitation(origin, self.opens)), listening)
        return 0
