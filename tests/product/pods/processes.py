"""Starts pods as separate processes and speaks with them; `pod_process.py` says what they understand."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from attrs import define

__all__ = ["PodProcess", "pod_process", "start_pod_process", "start_process"]

ROOT = Path(__file__).parents[3]


@define
class PodProcess:
    process: asyncio.subprocess.Process

    async def tell(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        await self.process.stdin.drain()

    async def hear(self, within_s: float = 20) -> dict[str, Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(within_s):
            line = await self.process.stdout.readline()
        assert line, "the pod ended"
        heard: dict[str, Any] = json.loads(line)
        return heard

    async def ask(self, **command: Any) -> dict[str, Any]:
        await self.tell(**command)
        return await self.hear()


async def start_pod_process(url: str, **options: Any) -> PodProcess:
    """Start a pod; its first word is its state."""
    return await start_process("tests.product.pods.pod_process", url, json.dumps(options))


async def start_process(module: str, *arguments: str) -> PodProcess:
    """Start a program that speaks lines of JSON."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    return PodProcess(process)


@asynccontextmanager
async def pod_process(url: str, **options: Any) -> AsyncGenerator[PodProcess]:
    """A pod that is live, and closes at the end."""
    pod = await start_pod_process(url, **options)
    process = pod.process
    try:
        assert await pod.hear() == {"state": "live"}
        yield pod
        assert await pod.ask(do="stop") == {"state": "closed"}
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
