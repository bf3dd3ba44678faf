"""`backplane bench`: its argument and flags."""

from __future__ import annotations

from typing import Annotated

import attrs
import typer

from backplane_server._bus_flags import BusFlags
from backplane_server._cli.arguments import AsJson
from backplane_server._cli.flags import takes_bus_flags
from backplane_server._cli.running import run

__all__ = ["bench"]


@takes_bus_flags
def bench(
    flags: BusFlags,
    *,
    url: Annotated[str | None, typer.Argument(help="URL of the broker, instead of --bus.", metavar="[URL]")] = None,
    seconds: Annotated[float, typer.Option(help="Duration of each of the two parts, in seconds.")] = 3.0,
    event_bytes: Annotated[int, typer.Option("--bytes", help="Size of an event, in bytes.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Measure the latency and throughput of a broker from this machine.

    First it sends one event after the other, for the latency from pod to pod; then as many as it can, for the
    throughput. Both pods run in this process, on one core: a fleet does more. It uses a channel of its own, but it
    does load the broker.
    """
    from backplane_server._commands.bench import Bench

    asked = Bench(seconds=seconds, event_bytes=event_bytes, as_json=as_json)
    run(asked, attrs.evolve(flags, bus=url or flags.bus))
