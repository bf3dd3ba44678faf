"""`backplane publish`: its arguments and flags."""

from __future__ import annotations

from typing import Annotated

import typer

from backplane_server._bus_flags import BusFlags
from backplane_server._cli.arguments import AsJson, Timeout
from backplane_server._cli.flags import takes_bus_flags
from backplane_server._cli.running import run

__all__ = ["publish"]


@takes_bus_flags
def publish(
    flags: BusFlags,
    *,
    target: Annotated[str, typer.Argument(help="A kind and an id, such as user:u1, or everyone.")],
    event: Annotated[str, typer.Argument(help="The event as JSON; - reads one from each line of standard input.")],
    also: Annotated[list[str] | None, typer.Option(help="Another target; each connection gets the event once.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Id of a connection that must not get the event.")] = None,
    key: Annotated[str | None, typer.Option(help="Replaces older events with the same key that still wait.")] = None,
    event_id: Annotated[
        str | None, typer.Option(help="The event's own id: published again under it, nobody gets it a second time.")
    ] = None,
    timeout: Timeout = 1.0,
    as_json: AsJson = False,
) -> None:
    """Publish an event to a target.

    It prints how many connections accepted the event, and on how many pods.

    \b
      backplane publish user:u1 '{"kind":"ready"}'
      generate-events | backplane publish room:42 -

    Pods that have not answered in time are named; the event may have arrived there all the same. Lines of standard
    input are published in order, without receipts, and it waits at the end until the broker has confirmed them.
    """
    from backplane_server._commands.publish import Publish

    asked = Publish(
        targets=[target, *(also or [])],
        event=event,
        exclude=exclude or [],
        key=key,
        event_id=event_id,
        timeout_s=timeout,
        as_json=as_json,
    )
    run(asked, flags)
