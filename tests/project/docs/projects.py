"""Projects that pages build up, written into a folder, and their programs, run as a reader runs them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from attrs import define, field

from tests.project.docs.pages import OPTIONS, ROOT, files

__all__ = ["Program", "program", "write_project"]

DEADLINE_S = 30


def write_project(page: str, folder: Path) -> Path:
    """Write the files that the page names, and a configuration of their own: the workspace's would be found else."""
    for name, text in files(ROOT / page).items():
        (folder / name).write_text(text)
    (folder / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\naddopts = {OPTIONS} -p no:asyncio\n")
    return folder


@define
class Program:
    """A running program and all that it has said."""

    process: asyncio.subprocess.Process
    said: list[str] = field(factory=list[str])

    async def says(self, part: str) -> str:
        """Read until a line holds this."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            while line := (await self.process.stdout.readline()).decode():
                self.said.append(line)
                if part in line:
                    return line
        raise AssertionError(f"it ended without {part!r}:\n{''.join(self.said)}")

    async def ends(self) -> str:
        """Return all that it said, once it ended well."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            self.said.append((await self.process.stdout.read()).decode())
            code = await self.process.wait()
        assert code == 0, f"{code}:\n{''.join(self.said)}"
        return "".join(self.said)


@asynccontextmanager
async def program(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> AsyncGenerator[Program]:
    """Run `python arguments` in the folder; it is killed at the end of the block if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1", **(env or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
