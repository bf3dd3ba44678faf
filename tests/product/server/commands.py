"""Runs the `backplane` command as its users do: a process with arguments, an environment and two streams."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from attrs import define, frozen

from tests.support.waiting import DEADLINE_S

__all__ = ["Ended", "Running", "backplane", "running"]


@frozen
class Ended:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        assert self.code == 0, self
        return json.loads(self.out)


@define
class Running:
    """A command that goes on."""

    process: asyncio.subprocess.Process

    async def says(self, part: str) -> str:
        """Read what it says on its error stream, until a line holds this; return that line."""
        assert self.process.stderr is not None
        said: list[str] = []
        async with asyncio.timeout(DEADLINE_S):
            while line := (await self.process.stderr.readline()).decode():
                said.append(line)
                if part in line:
                    return line
        raise AssertionError(f"it ended without {part!r}: {said}")

    async def line(self) -> Any:
        """Return the next line of what it prints, as JSON."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            return json.loads(await self.process.stdout.readline())

    async def ended(self) -> Ended:
        """Return what is left of what it says, once it has ended."""
        async with asyncio.timeout(DEADLINE_S):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return Ended(self.process.returncode, out.decode(), err.decode())


async def backplane(
    *arguments: str,
    url: str | None = None,
    channel: str | None = None,
    text: str = "",
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Ended:
    """Run a command to its end."""
    process = await _start(arguments, url, channel, env, folder)
    async with asyncio.timeout(DEADLINE_S):
        out, err = await process.communicate(text.encode())
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def running(
    *arguments: str, url: str, channel: str, env: Mapping[str, str] | None = None
) -> AsyncGenerator[Running]:
    """Run a command; it is killed at the end of the block if it still runs."""
    process = await _start(arguments, url, channel, env, None)
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _start(
    arguments: tuple[str, ...],
    url: str | None,
    channel: str | None,
    env: Mapping[str, str] | None,
    folder: Path | None,
) -> asyncio.subprocess.Process:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BACKPLANE")}
    fleet = {"BACKPLANE_URL": url, "BACKPLANE_CHANNEL": channel}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "backplane_server", *arguments),
        env={**clean, **{name: value for name, value in fleet.items() if value is not None}, **(env or {})},
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
