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
    """Return what the pod of one run of a command is called: nobody else's name, and clear to who meets it in a log."""
    return f"backplane-{command}-{uuid4().hex[:8]}"


@asynccontextmanager
async def opened(settings: BusSettings, command: str, *, pod_name: str | None = None) -> AsyncGenerator[BaseBackplane]:
    """Open a backplane, and close it at the end.

    Args:
        settings: How.
        command: Which command it is for.
        pod_name: What its pod is called; None: a name of its own.

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
        InvalidTargetError: One has not the form `kind:id`.
    """
    for text in texts:
        if ":" not in text and text != "everyone":
            raise Failure(
                f"{text!r} is no target", f"write a kind and an id, as user:{text or 'u1'}, or everyone", MISUSED
            )
    return [Target.parse(text) for text in texts]


def check_seconds(flag: str, value: float) -> None:
    """Raise a `Failure` if so many seconds are none."""
    if not value > 0:
        raise Failure(f"{flag} {value:g} is not allowed", "write seconds above 0", MISUSED)
