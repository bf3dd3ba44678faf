"""`backplane who`, `pods` and `kick`: their arguments and flags."""

from __future__ import annotations

from typing import Annotated

import typer

from backplane_server._bus_flags import BusFlags
from backplane_server._cli.arguments import AsJson, Targets, Timeout
from backplane_server._cli.flags import takes_bus_flags
from backplane_server._cli.running import run

__all__ = ["kick", "pods", "who"]


@takes_bus_flags
def who(
    flags: BusFlags,
    *,
    targets: Targets,
    limit: Annotated[int, typer.Option(help="How many to list, at most 10000.")] = 1_000,
    timeout: Timeout = 1.0,
    as_json: AsJson = False,
) -> None:
    """List the connections of targets, and their pods.

    Each pod answers for its own connections. A pod that has not answered in time is named, and its connections are
    missing from the list.
    """
    from backplane_server._commands.asking import Who

    run(Who(targets=targets, limit=limit, timeout_s=timeout, as_json=as_json), flags)


@takes_bus_flags
def pods(flags: BusFlags, *, timeout: Timeout = 1.0, as_json: AsJson = False) -> None:
    """List the pods of the fleet.

    Each is listed with its state, connections, routing and version. Processes that only publish are not listed, and
    neither is this command.
    """
    from backplane_server._commands.asking import Pods

    run(Pods(timeout_s=timeout, as_json=as_json), flags)


@takes_bus_flags
def kick(
    flags: BusFlags,
    *,
    targets: Targets,
    code: Annotated[int, typer.Option(help="The WebSocket close code: 1000, or 3000 to 4999.")] = 4000,
    reason: Annotated[str, typer.Option(help="The reason that clients are given, at most 123 bytes.")] = "",
    timeout: Timeout = 1.0,
    yes: Annotated[bool, typer.Option("--yes", help="Close them even if the target is everyone.")] = False,
    as_json: AsJson = False,
) -> None:
    """Close the connections of targets, on every pod.

    To sign a user out, for instance:

    \b
      backplane kick user:u1 --code 4001 --reason "signed out"

    It does not keep clients away: your service has to refuse those that reconnect.
    """
    from backplane_server._commands.asking import Kick

    asked = Kick(targets=targets, code=code, reason=reason, timeout_s=timeout, as_json=as_json, sure=yes)
    run(asked, flags)
