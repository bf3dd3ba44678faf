"""`backplane doctor`: its argument and flags."""

from __future__ import annotations

from typing import Annotated

import attrs
import typer

from backplane_server._bus_flags import BusFlags
from backplane_server._cli.arguments import AsJson
from backplane_server._cli.flags import takes_bus_flags
from backplane_server._cli.running import run

__all__ = ["doctor"]


@takes_bus_flags
def doctor(
    flags: BusFlags,
    *,
    url: Annotated[str | None, typer.Argument(help="URL of the broker, in place of --bus.", metavar="[URL]")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that each step may take.")] = 5.0,
    wait: Annotated[
        float, typer.Option(help="Seconds to go on listening: pods with other keys show by their beats.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Find out what is wrong with a broker or a fleet.

    It connects, asks the broker for its version and its risky settings, sends events from pod to pod in the fleet's own
    channel to a target that nobody else has, and compares the settings of the other pods with these. It changes
    nothing. An idle pod is heard once in 15 s: --wait 20 also finds those that sign with other keys.

    Exit code 1: something does not work. What is only to be considered is no failure.
    """
    from backplane_server._commands.doctor import Doctor

    run(Doctor(timeout_s=timeout, wait_s=wait, as_json=as_json), attrs.evolve(flags, bus=url or flags.bus))
