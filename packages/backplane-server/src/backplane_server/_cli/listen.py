"""`backplane listen`: its arguments and flags."""

from __future__ import annotations

from typing import Annotated

import typer

from backplane_server._bus_flags import BusFlags
from backplane_server._cli.arguments import Targets
from backplane_server._cli.flags import takes_bus_flags
from backplane_server._cli.running import run

__all__ = ["listen"]


@takes_bus_flags
def listen(
    flags: BusFlags,
    *,
    targets: Targets,
    count: Annotated[int | None, typer.Option(help="End after this many events.")] = None,
    seconds: Annotated[float | None, typer.Option(help="End after this many seconds.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Print only the events; gaps go to standard error.")] = False,
    resume_from: Annotated[
        str | None, typer.Option(help="Id of the last event that you got: continue after it. Needs a bus with a log.")
    ] = None,
) -> None:
    """Print the events of targets as JSON lines.

    These are the events that a connection of your service would receive.

    \b
      backplane listen user:u1 org:acme
      backplane listen everyone --raw | jq .kind

    Each line is {"event":...,"target":"user:u1"}, with the event's key and id if it has them, or {"gap":...} where
    events may be missing.
    """
    from backplane_server._commands.listen import Listen

    run(Listen(targets=targets, count=count, seconds=seconds, raw=raw, resume_from=resume_from), flags)
