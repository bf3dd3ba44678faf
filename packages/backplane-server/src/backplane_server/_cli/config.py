"""`backplane config`: its flags."""

from __future__ import annotations

from backplane_server._bus_flags import BusFlags
from backplane_server._cli.arguments import AsJson
from backplane_server._cli.flags import takes_bus_flags
from backplane_server._cli.running import run

__all__ = ["config"]


@takes_bus_flags
def config(flags: BusFlags, *, as_json: AsJson = False) -> None:
    """Check the settings, and show where each comes from.

    Passwords and keys are masked. Settings that are not listed have their defaults.
    """
    from backplane_server._commands.config import ShowConfig

    run(ShowConfig(as_json=as_json), flags)
