"""`backplane token`: its flags."""

from __future__ import annotations

from typing import Annotated

import typer

from backplane_server._bus_flags import BusFlags
from backplane_server._cli.flags import takes_bus_flags
from backplane_server._cli.running import run

__all__ = ["token"]

Several = list[str] | None


@takes_bus_flags
def token(
    flags: BusFlags,
    *,
    user: Annotated[str, typer.Argument(help="The claim sub: whose token it is.")],
    org: Annotated[str | None, typer.Option(help="The claim org.")] = None,
    target: Annotated[Several, typer.Option(help="Another target whose events it gets, such as room:42.")] = None,
    subscribe: Annotated[Several, typer.Option(help="A target that it may subscribe to by itself.")] = None,
    publish: Annotated[Several, typer.Option(help="A target that it may publish to.")] = None,
    publisher: Annotated[bool, typer.Option("--publisher", help="Let it publish to any target.")] = False,
    admin: Annotated[bool, typer.Option("--admin", help="Let it open /admin of `backplane serve --admin`.")] = False,
    name: Annotated[str | None, typer.Option(help="List the user as present under this name.")] = None,
    seconds: Annotated[float, typer.Option(help="Seconds for which it is valid.")] = 3600.0,
) -> None:
    """Create a token to try a gateway with.

    \b
      export BACKPLANE_SERVE_JWT_SECRET=$(openssl rand -hex 32)
      curl -N -H "Authorization: Bearer $(backplane token ann)" localhost:8001/events

    It is signed with the secret of `backplane serve`, with HS256. In production your own service issues the tokens.
    """
    from backplane_server._commands.token import Token

    asked = Token(
        user=user,
        org=org,
        targets=target or [],
        subscribe=subscribe or [],
        publish=publish or [],
        is_publisher=publisher,
        is_admin=admin,
        name=name,
        seconds=seconds,
    )
    run(asked, flags)
