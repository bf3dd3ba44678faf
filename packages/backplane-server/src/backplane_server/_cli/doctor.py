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
    url: Annotated[str | None, typer.Argument(help="URL of the broker, instead of --bus.", metavar="[URL]")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that each step may take.")] = 5.0,
    wait: Annotated[
        float, typer.Option(help="Seconds to go on listening, to notice pods with other signing keys.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Find out what is wrong with a broker or a fleet.

    It connects, asks the broker for its version and for risky settings, sends events from pod to pod on the fleet's
    channel, to a target that no other pod has, and compares the settings of the other pods with these. It changes
    nothing. An idle pod sends only one sign of life every 15 s: with --wait 20 it also finds pods that sign with other
    keys.

    It exits with 1 if something does not work. Advice alone is no failure.
    """
    from backplane_server._commands.doctor import Doctor

    run(Doctor(timeout_s=timeout, wait_s=wait, as_json=as_json), attrs.evolve(flags, bus=url or flags.bus))
