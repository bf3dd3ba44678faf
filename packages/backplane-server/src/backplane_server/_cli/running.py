"""Runs a command, and ends with a message and an exit code instead of a traceback: `run`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

import typer

from backplane_server._bus_flags import BusFlags
from backplane_server._failure import FAILED, MISUSED, Failure

if TYPE_CHECKING:
    from backplane_server._commands.settings import BusSettings

__all__ = ["Command", "run", "run_without_fleet"]

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells have it."""


class Command(Protocol):
    """A command with its arguments."""

    async def do(self, settings: BusSettings) -> int:
        """Run it against the fleet of these settings, and return the exit code."""
        ...


def run(command: Command, flags: BusFlags) -> NoReturn:
    """Run a command, and exit with the code that it returns.

    Args:
        command: What to run.
        flags: How to reach the fleet.

    Raises:
        typer.Exit: Always.
    """
    from backplane_server._commands.settings import BusSettings

    try:
        settings = BusSettings.read(flags)
    except Failure as failure:
        raise typer.Exit(fail(failure)) from None
    _finish(command, settings)


def run_without_fleet(command: Command) -> NoReturn:
    """Run a command that needs no fleet of the user, whatever is set; exit with the code that it returns.

    Args:
        command: What to run.

    Raises:
        typer.Exit: Always.
    """
    from backplane_server._commands.settings import BusSettings

    _finish(command, BusSettings({}))


def _finish(command: Command, settings: BusSettings) -> NoReturn:
    # Imported here and not above: `--help` does not need it, and it takes longer to import than all the rest.
    from backplane_core import BackplaneError, ConfigurationError, TransportError

    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        code = asyncio.run(command.do(settings))
    except Failure as failure:
        code = fail(failure)
    except ConfigurationError as error:
        code = fail(Failure(settings.explain(str(error)), code=MISUSED))
    except TransportError as error:
        code = fail(Failure(str(error), "run `backplane doctor` to find out more"))
    except BackplaneError as error:
        code = fail(Failure(settings.explain(str(error))))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader has closed the pipe, as `head` does. The interpreter would flush once more, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    raise typer.Exit(code)


def fail(failure: Failure) -> int:
    """Say what is wrong and what to do next; return the exit code."""
    typer.echo(f"error: {failure.problem}", err=True)
    if failure.advice:
        typer.echo(f"next: {failure.advice}", err=True)
    return failure.code
