"""The flags that all commands share that talk to a broker."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from backplane_server._bus_flags import BusFlags

__all__ = ["takes_bus_flags"]

PANEL: Final = "The fleet"


Bus = Annotated[
    str | None,
    typer.Option(help="URL of the broker, such as redis://localhost:6379 (or BACKPLANE_URL).", rich_help_panel=PANEL),
]
Channel = Annotated[
    str | None,
    typer.Option(help="Name of the fleet on the bus (or BACKPLANE_CHANNEL).", rich_help_panel=PANEL),
]
Routing = Annotated[
    str | None,
    typer.Option(
        help="broadcast or interest, the same in the whole fleet (or BACKPLANE_ROUTING).", rich_help_panel=PANEL
    ),
]
Option = Annotated[
    list[str] | None,
    typer.Option(
        "--option", "-o", help="Any other option, such as lanes=8 (or BACKPLANE_LANES).", rich_help_panel=PANEL
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        help="TOML file with the same names (or BACKPLANE_CONFIG); by default ./backplane.toml if there is one.",
        rich_help_panel=PANEL,
    ),
]
FLAGS: Final[dict[str, Any]] = {"bus": Bus, "channel": Channel, "routing": Routing, "option": Option, "config": Config}


def takes_bus_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with these flags added to its own; it receives them as its first argument, a `BusFlags`."""

    @wraps(command)
    def with_flags(**given: Any) -> None:  # noqa: ANN401 -- whatever the command takes
        flags = BusFlags(
            bus=given.pop("bus"),
            channel=given.pop("channel"),
            routing=given.pop("routing"),
            option=tuple(given.pop("option") or ()),
            config=given.pop("config"),
        )
        command(flags, **given)

    # Typer reads a command's flags from its signature; `wraps` would show it that of the command alone.
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in FLAGS.items()
    ]
    parameters = [*own, *added]
    described: Any = with_flags
    del described.__wrapped__
    described.__signature__ = inspect.Signature(
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    described.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_flags
