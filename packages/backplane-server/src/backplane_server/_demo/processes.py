"""The demo's processes: started in the guard's group, with a log of their own: `Child`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from attrs import define, field

from backplane_server._demo.guard import Guard
from backplane_server._failure import FAILED, Failure

__all__ = ["PYTHON", "START_S", "Child", "environment"]

PYTHON: Final = (sys.executable, "-P", "-m")
"""Runs a module of this environment, whatever lies in the current folder."""
START_S: Final = 30.0
"""A start takes half a second; this leaves room for a machine that is starved of processor time."""
STOP_S: Final = 5.0
LOG_LINES: Final = 8


def environment(**variables: str) -> Mapping[str, str]:
    """Return the environment for a process of the demo, without the settings of any other fleet."""
    return {name: text for name, text in os.environ.items() if not name.startswith("BACKPLANE")} | variables


@define(eq=False)
class Child:
    """A process that the demo has started.

    Args:
        name: Its name in messages.
    """

    name: str
    process: asyncio.subprocess.Process
    _log: Path = field(repr=False)

    @classmethod
    async def start(
        cls, name: str, command: Sequence[str], guard: Guard, variables: Mapping[str, str], *, has_pipes: bool = False
    ) -> Self:
        """Start a process.

        Args:
            name: Its name in messages.
            command: Its command line.
            guard: Ends it with the demo.
            variables: Its environment.
            has_pipes: Whether this process writes to it, and reads from it; else its output goes to its log.
        """
        log = guard.directory / f"{name}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE if has_pipes else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if has_pipes else output,
                stderr=output,
                env=variables,
                cwd=guard.directory,  # no file of the current folder is read
                process_group=guard.group,
            )
        return cls(name, process, log)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.returncode is None

    async def kill(self) -> None:
        """Kill it, and return once it is gone."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """Ask it to end, and return once it is gone."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await self.process.wait()
        except TimeoutError:
            await self.kill()

    def failure(self, problem: str) -> Failure:
        """Return a failure with the problem and the end of the process's log."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        said = "".join(f"\n  {line}" for line in lines)
        return Failure(f"{self.name} {problem}{':' if said else ''}{said}", "run the demo again", FAILED)
