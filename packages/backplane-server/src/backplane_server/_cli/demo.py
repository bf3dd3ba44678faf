"""`backplane demo`: its flags."""

from __future__ import annotations

from typing import Annotated

import typer

from backplane_server._cli.running import run_without_fleet

__all__ = ["demo"]


def demo(
    *,
    broker: Annotated[
        str | None, typer.Option(help="nats or redis; by default the first that is installed.", show_default=False)
    ] = None,
    has_log: Annotated[
        bool,
        typer.Option("--log/--no-log", help="Use a log. Without one an outage leaves a Gap, and clients can't resume."),
    ] = True,
    port: Annotated[int, typer.Option(help="Port of the page; 0: any free port.", min=0, max=65535)] = 8000,
    opens: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser, if run in a terminal.")
    ] = True,
    checks: Annotated[
        bool, typer.Option("--check", help="No page: exit with 0 only if every event arrived where it should.")
    ] = False,
) -> None:
    """Start a broker, two gateways and a job worker, with a page to try them on.

    \b
      pip install "backplane-server[demo]"
      backplane demo

    All of it is reachable from this machine only, and Ctrl-C ends and removes it. With --check it publishes from each
    pod and from the worker, kills the broker, and lets a client reconnect to the other pod.

    Events go over a log, JetStream or a Redis stream, so that an outage loses none. --no-log uses pub/sub instead.
    """
    from backplane_server._commands.demo import Demo

    run_without_fleet(Demo(broker=broker, has_log=has_log, port=0 if checks else port, opens=opens, checks=checks))
