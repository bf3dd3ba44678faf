"""Opens a backplane for one command: `opened`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import uuid4

from backplane_core import BaseBackplane, Target, connect_from_env

from backplane_server._commands.settings import BusSettings
from backplane_server._failure import MISUSED, Failure

__all__ = ["check_seconds", "opened", "pod_name_of", "read_targets"]


def pod_name_of(command: str) -> str:
    """Return a name for the pod of one run of a command: unique, and easy to recognize in a log."""
    return f"backplane-{command}-{uuid4().hex[:8]}"


@asynccontextmanager
async def opened(settings: BusSettings, command: str, *, pod_name: str | None = None) -> AsyncGenerator[BaseBackplane]:
    """Open a backplane, and close it at the end.

    Args:
        settings: How to reach the fleet.
        command: Which command it is for.
        pod_name: The name of its pod; None: a new one for this command.

    Raises:
        Failure: There is no broker.
        TransportError: It can't be reached.
        ConfigurationError: A setting is wrong.
    """
    settings.require_bus()
    async with connect_from_env(settings.variables, pod_name=pod_name or pod_name_of(command)) as backplane:
        yield backplane


def read_targets(texts: list[str]) -> list[Target]:
    """Return targets written as text.

    Raises:
        Failure: One does not have the form `kind:id`.
        InvalidTargetError: A kind or an id is not allowed.
    """
    for text in texts:
        if ":" not in text and text != "everyone":
            raise Failure(
                f"{text!r} is not a target",
                f"write a kind and an id, such as user:{text or 'u1'}, or everyone",
                MISUSED,
            )
    return [Target.parse(text) for text in texts]


def check_seconds(flag: str, value: float) -> None:
    """Raise a `Failure` unless this is more than 0 seconds."""
    if not value > 0:
        raise Failure(f"{flag} {value:g} is not allowed", "write a number of seconds above 0", MISUSED)
