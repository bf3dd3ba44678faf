"""Runs a benchmark as a person would: `bench("throughput.py", "--events", "200")`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

__all__ = ["bench"]

ROOT = Path(__file__).parents[3]


async def bench(script: str, *arguments: str) -> tuple[int | None, str, str]:
    """Run it to its end; return its exit code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        f"bench/{script}",
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(90):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode(), err.decode()
