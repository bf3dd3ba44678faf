"""Events per second and processor time per event, next to the bare clients and other libraries at the same work."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, TypeAlias

from attrs import frozen
from backplane_testservers import open_own_broker

from bench.findings import Findings
from bench.libraries import need_peers
from bench.measure import BUSES, NAMES, Measure, Progress, option
from bench.measures.throughput_findings import Figures, Result, findings
from bench.processes import Process, ProcessFailed, start
from bench.subjects.lineup import ALL, SUBJECTS
from bench.subjects.turn import Turn

__all__ = ["Throughput", "run_turn"]

TURN_S: Final = 120
"""No subject takes so long; one that does is stuck."""
LATE_S: Final = 5
"""How long after the last publish the last event may come before it counts as lost."""
WARMUP: Final = 200, 1_000
"""The least and the most. Caches, the interpreter's code and the connections of 64 publishers are warm after that."""


@frozen(kw_only=True)
class Throughput(Measure[Figures]):
    """Events per second and processor time per event, next to the bare clients and other libraries."""

    name: ClassVar = "throughput"
    title: ClassVar = "Throughput"
    figures: ClassVar = Figures
    quick: ClassVar = {"events": 5_000, "rounds": 1}
    usual_s: ClassVar = 420

    events: int = option(100_000, "per subject and round; a slow one gets a share")
    rounds: int = option(5, "in each of which all take turns")
    bus: str = option("both", "which broker", BUSES)
    subjects: tuple[str, ...] = option(("all",), "which of the rows", ("all", *SUBJECTS))

    def measure(self, progress: Progress) -> Figures:
        """Let all subjects on both brokers take their turns."""
        keys = [key for key in SUBJECTS if "all" in self.subjects or key in self.subjects]
        if any(SUBJECTS[key].part == "peer" for key in keys):
            need_peers()
        chosen = {bus: [key for key in keys if SUBJECTS[key].bus == bus] for bus in NAMES}
        progress.expect(self.rounds * sum([len(chosen[bus]) for bus in BUSES[self.bus]]))
        played: dict[str, list[dict[str, Result]]] = {}
        for bus in BUSES[self.bus]:
            if chosen[bus]:
                with open_own_broker(bus) as broker:
                    played[bus] = asyncio.run(self._play(broker.url, chosen[bus], progress))
        return Figures(events=self.events, rounds=played)

    async def _play(self, url: str, keys: Sequence[str], progress: Progress) -> list[dict[str, Result]]:
        done: list[dict[str, Result]] = []
        for number in range(1, self.rounds + 1):
            done.append({})
            for key in keys:
                progress.step(f"round {number} of {self.rounds}: {SUBJECTS[key].name}")
                done[-1][key] = await run_turn(key, url, self.events)
        return done

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return table, goals and plots."""
        return findings(figures)


Under: TypeAlias = Mapping[str, Sequence[str]]
"""A command that runs a process, by the process's role."""


async def run_turn(key: str, url: str, events: int, under: Under | None = None) -> Result:
    """Let a subject take its turn: two processes, one result.

    Args:
        key: Of the subject.
        url: Of a broker of its kind.
        events: How many; a slow subject gets its share of them.
        under: What the processes run under: a profiler.

    Raises:
        ProcessFailed: A process ended early or got stuck.
    """
    subject = ALL[key]
    share = max(1, round(events * subject.share))
    least, most = WARMUP
    turn = Turn(
        subject=key,
        url=url,
        channel=f"bench-{uuid.uuid4().hex}",
        events=share,
        warmup=min(most, max(least, share // 4)),
        publishers=subject.publishers,
        flat=subject.flat,
        wire=subject.wire,
    )
    loop, under = subject.loop, under or {}
    try:
        async with (
            asyncio.timeout(TURN_S),
            start("throughput", "receive", turn, loop=loop, under=under.get("receive", ())) as receiver,
            start("throughput", "send", turn, loop=loop, under=under.get("send", ())) as sender,
        ):
            await receiver.hear("ready")
            sender.say("begin")
            await sender.hear("warm")
            receiver.say("go")
            await receiver.hear("going")
            sender.say("go")
            sent = await sender.hear("sent")
            received = await _last_word(receiver)
            sender.say("stop")
            receiver.say("stop")
    except TimeoutError:
        raise ProcessFailed(f"{key} got stuck: not done after {TURN_S} s") from None
    return Result(
        events=share,
        seconds=received["ended_at"] - sent["began_at"],
        sender_us=sent["cpu_s"] / share * 1e6,
        receiver_us=received["cpu_s"] / share * 1e6,
        lost=received["lost"],
        late=received["late"],
        copies=received["copies"],
    )


async def _last_word(receiver: Process) -> dict[str, Any]:
    hearing = asyncio.ensure_future(receiver.hear("received"))
    done, _ = await asyncio.wait({hearing}, timeout=LATE_S)
    if not done:
        # The last event is lost, so the receiver would wait for ever.
        receiver.say("stop")
    return await hearing
