"""The foreign pod in Node as a process of its own, driven by lines of JSON; see node/pod.mjs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from attrs import define, field
from backplane_core import Target

from tests.support.node import install_node

__all__ = ["NodePod", "install", "node_pod"]

SOURCE = Path(__file__).parent / "node"


def install(folder: Path) -> Path:
    """Install the program and its packages there, and return its path. Skips without Node, saying so."""
    install_node(SOURCE, folder)
    return folder / "pod.mjs"


@define(eq=False)
class NodePod:
    """The pod's process: commands in, answers and events out."""

    process: asyncio.subprocess.Process
    _sinks: dict[str, Callable[[Any], None]] = field(factory=dict[str, Callable[[Any], None]])
    _answers: asyncio.Queue[dict[str, Any]] = field(factory=asyncio.Queue[dict[str, Any]])

    async def attach(self, conn_id: str, sink: Callable[[Any], None], targets: Sequence[Target]) -> None:
        self._sinks[conn_id] = sink
        names = [[target.kind, target.id] for target in targets]
        assert await self.ask(do="attach", conn=conn_id, targets=names) == {"attached": conn_id}

    async def publish(self, events: Sequence[tuple[Target, Any]]) -> None:
        pairs = [[[target.kind, target.id], event] for target, event in events]
        assert await self.ask(do="publish", events=pairs) == {"published": len(pairs)}

    async def beat(self, name: str) -> None:
        assert await self.ask(do="beat", name=name) == {"beat": name}

    async def counts(self) -> dict[str, int]:
        counts: dict[str, int] = (await self.ask(do="counts"))["counts"]
        return counts

    async def ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        await self.process.stdin.drain()
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        async with asyncio.timeout(30):
            answer = await self._answers.get()
        assert answer, "the pod ended"
        return answer

    async def read(self) -> None:
        """Hand on what it says, until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            said = json.loads(line)
            if "conn" in said:
                self._sinks[said["conn"]](said["event"])
            else:
                self._answers.put_nowait(said)
        self._answers.put_nowait({})


@asynccontextmanager
async def node_pod(program: Path, url: str, *keys: bytes) -> AsyncGenerator[NodePod]:
    """A foreign pod in Node that is receiving; one that signs, if it is given keys."""
    process = await asyncio.create_subprocess_exec(
        *("node", str(program), url, *[key.hex() for key in keys]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # it logs each event that it drops
    )
    pod = NodePod(process)
    reading = asyncio.create_task(pod.read())
    try:
        assert (await pod.answer())["state"] == "live"
        yield pod
        assert await pod.ask(do="stop") == {"state": "closed"}
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await reading
