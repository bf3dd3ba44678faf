"""Runs the benchmark as a person would: `bench("throughput", "--events", "200")`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

__all__ = ["Silent", "bench"]

ROOT = Path(__file__).parents[3]


class Silent:
    """Shows no progress."""

    def expect(self, steps: int) -> None:
        self.steps = steps

    def step(self, what: str) -> None:
        self.steps -= 1
        assert self.steps >= 0, f"{what} is one step more than was expected"


async def bench(*words: str) -> tuple[int | None, str, str]:
    """Run it to its end; return its exit code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "bench/run.py", *words),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(180):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode(), err.decode()
