"""`backplane config`: the settings in effect, and where each comes from."""

from __future__ import annotations

import attrs
import typer
from attrs import frozen
from backplane_core import connect_from_env

from backplane_server._commands.settings import BusSettings
from backplane_server._commands.showing import show_json, show_table

__all__ = ["ShowConfig"]


@frozen(kw_only=True)
class ShowConfig:
    """How the settings are shown.

    Args:
        as_json: Whether it is shown as JSON.
    """

    as_json: bool

    async def do(self, settings: BusSettings) -> int:
        """Check the settings, print them without secrets, and return the exit code.

        Raises:
            ConfigurationError: A setting is wrong.
        """
        connect_from_env(settings.variables)  # which checks all settings and opens nothing
        shown = settings.shown()
        if self.as_json:
            show_json([attrs.asdict(it) for it in shown])
        elif shown:
            show_table([["SETTING", "VALUE", "FROM"], *([it.name, it.text, it.source] for it in shown)])
        else:
            typer.echo("nothing is set: it would run in memory, with the defaults")
        return 0
