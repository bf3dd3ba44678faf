"""Pods as processes, with a ledger of what they publish and what their sockets get: `PodFleet`."""

from __future__ import annotations

import asyncio
import json
import time
from types import TracebackType
from typing import Any, Self

from attrs import define, field
from backplane_core import Gap
from backplane_testservers import Broker

from tests.product.faults.ledger import Ledger, Witness
from tests.product.pods.processes import PodProcess, start_pod_process
from tests.support.waiting import until

__all__ = ["Member", "PodFleet"]

ANSWER_S = 60.0
LAST_WORDS_S = 0.5


@define(eq=False)
class Member:
    """One pod process, and the task that writes down what it says."""

    name: str
    process: PodProcess
    ledger: Ledger
    witnesses: dict[str, Witness] = field(factory=dict[str, Witness])
    answers: asyncio.Queue[dict[str, Any]] = field(factory=asyncio.Queue[dict[str, Any]])
    listening: asyncio.Task[None] | None = None

    async def ask(self, **command: Any) -> dict[str, Any]:
        """Tell it to do something, and return its answer."""
        await self.process.tell(**command)
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        async with asyncio.timeout(ANSWER_S):
            return await self.answers.get()

    async def socket(self, *targets: str) -> Witness:
        """Attach a socket, associated with these users; each association is confirmed."""
        name = f"{self.name}-c{len(self.witnesses)}"
        witness = self.witnesses[name] = Witness(name, frozenset(targets), self.name)
        answer = await self.ask(do="attach", conn=name, targets=[["user", target] for target in targets])
        assert answer == {"confirmed": True}
        witness.since = time.time()
        self.ledger.witnesses.append(witness)
        return witness

    async def listen(self) -> None:
        """Write down what it says, until it ends."""
        out = self.process.process.stdout
        assert out is not None
        while line := await out.readline():
            if not line.endswith(b"\n"):
                break  # killed amid a word
            said: dict[str, Any] = json.loads(line)
            if "event" in said:
                self.witnesses[said["conn"]].take(said["event"])
            elif "gap" in said:
                cause, since, until = said["gap"]
                self.witnesses[said["conn"]].gaps.append(
                    Gap(channel="", cause=cause, reason="", since=since, until=until)
                )
            elif "published" in said:
                publisher, target, number = said["published"]
                self.ledger.at[publisher, target, number] = said["at"]
            else:
                self.answers.put_nowait(said)

    async def leave(self) -> None:
        """Stop it once its sockets have what was published so far; they answer for nothing newer."""
        self._ends(time.time())
        await until(self._complete, f"what was published before {self.name} leaves", ANSWER_S)
        await self.stop()

    def _complete(self) -> bool:
        return not any(self.ledger.verdict(witness).missing for witness in self.witnesses.values())

    def _ends(self, at: float) -> None:
        for witness in self.witnesses.values():
            witness.until = min(witness.until, at)

    async def stop(self) -> None:
        """Let it close in good order; its sockets hear nothing more."""
        self._ends(time.time())
        assert await self.ask(do="quiet") == {"quiet": True}
        assert await self.ask(do="stop") == {"state": "closed"}
        await self._end()

    async def kill(self) -> None:
        """SIGKILL: it says no more, and what it had only accepted is gone."""
        # Its last words are lost with it, so its sockets bear witness until shortly before.
        self._ends(time.time() - LAST_WORDS_S)
        self.ledger.killed.add(self.name)
        self.process.process.kill()
        await self._end()

    async def _end(self) -> None:
        assert self.listening is not None
        async with asyncio.timeout(ANSWER_S):
            await self.process.process.wait()
            await self.listening


@define
class PodFleet:
    """Pod processes over one broker; whatever still runs at the end is stopped.

    Args:
        broker: Where they connect.
        options: Of every pod.
        ledger: What it writes into.
    """

    broker: Broker
    options: dict[str, Any]
    ledger: Ledger = field(factory=Ledger)
    members: list[Member] = field(factory=list[Member])

    async def pod(self, **options: Any) -> Member:
        """Start a pod, and return once it says that it is live."""
        member = Member(
            f"p{len(self.members)}",
            await start_pod_process(self.broker.url, **{**self.options, **options}),
            self.ledger,
        )
        self.members.append(member)
        member.listening = asyncio.create_task(member.listen())
        assert await member.answer() == {"state": "live"}
        return member

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for member in self.members:
            if member.process.process.returncode is None:
                if kind is None:
                    await member.stop()
                else:
                    await member.kill()
