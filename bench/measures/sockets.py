"""What one event costs the server of thousands of WebSockets and streams, and what an idle one takes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import ClassVar, Final, get_args

from attrs import evolve, frozen

from bench.findings import Findings, Goal
from bench.measure import Measure, Progress, option
from bench.processes import Process, start
from bench.spreads import ratios, shown, spread
from bench.workers.sockets import Crowd, Kind, Way

__all__ = ["Figures", "Sockets", "Taken"]

_BURST: Final = 10
_BARE: Final = 1.3
_STARLETTE: Final = 2.0
_KINDS: Final[Mapping[Kind, str]] = {"websocket": "WebSocket", "sse": "SSE"}
_WAYS: Final[Mapping[Way, str]] = {
    "bare": "a bare loop over the transports",
    "prepared": "backplane-asgi, prepared protocol",
    "plain": "backplane-asgi, plain uvicorn",
    "starlette": "Starlette, plain uvicorn",
}

_METHOD: Final = """\
A uvicorn process holds {members:,} real sockets; another process reads them and does nothing but count. Each event of
200 bytes goes to every socket: one event, the next when all have it; and bursts of {burst}. The bare loop makes one
frame, or chunk, and writes it to each transport. Starlette sends as its documentation teaches: `send_text` in a loop,
`StreamingResponse` over a queue. Processor time is that of the whole serving process per event and socket, the
kernel's part included. All servers are up at once and take turns, {rounds} rounds of them; ratios are taken round by
round. Nothing is compressed. Memory is the process's own share (PSS) per socket that is open and has got nothing yet;
what the kernel keeps, some 4 KiB, comes on top."""


@frozen(kw_only=True)
class Taken:
    """What one server took."""

    one_us: Sequence[float]  # processor time per event and socket, one event at a time, round by round
    burst_us: Sequence[float]  # the same in bursts
    idle_kib: float  # memory per socket


@frozen(kw_only=True)
class Figures:
    """What is measured."""

    members: int  # sockets of each server
    taken: Mapping[Kind, Mapping[Way, Taken]]


@frozen(kw_only=True)
class Sockets(Measure[Figures]):
    """What one event costs the server of thousands of WebSockets and streams, and what an idle one takes."""

    name: ClassVar = "sockets"
    title: ClassVar = "WebSockets and streams of one server"
    figures: ClassVar = Figures
    quick: ClassVar = {"rounds": 2, "members": 200}
    usual_s: ClassVar = 120

    rounds: int = option(9, "in each of which all take turns")
    members: int = option(5_000, "sockets of each server")

    def measure(self, progress: Progress) -> Figures:
        """Let all servers take turns, the WebSockets first."""
        progress.expect(len(_KINDS) * (len(_WAYS) + self.rounds))
        taken: dict[Kind, Mapping[Way, Taken]] = {kind: asyncio.run(self._turns(kind, progress)) for kind in _KINDS}
        return Figures(members=self.members, taken=taken)

    async def _turns(self, kind: Kind, progress: Progress) -> Mapping[Way, Taken]:
        async with AsyncExitStack() as stack:
            pairs: dict[Way, tuple[Process, Process]] = {}
            idle: dict[Way, float] = {}
            for way in get_args(Way):
                progress.step(f"{_KINDS[kind]}s: {_WAYS[way]}")
                crowd = Crowd(kind=kind, way=way, members=self.members)
                server = await stack.enter_async_context(start("sockets", "serve", crowd))
                crowd = evolve(crowd, port=(await server.hear("ready"))["port"])
                clients = await stack.enter_async_context(start("sockets", "read", crowd))
                await clients.hear("ready")
                pairs[way] = server, clients
                server.say("report")
                idle[way] = (await server.hear("report"))["resident"] / self.members / 1024
            took: dict[Way, dict[int, list[float]]] = {way: {1: [], _BURST: []} for way in pairs}
            for number in range(self.rounds + 1):
                if number:
                    progress.step(f"{_KINDS[kind]}s: round {number} of {self.rounds}")
                for way, (server, clients) in pairs.items():
                    for events in (1, _BURST):
                        used = await _turn(server, clients, events)
                        if number:  # the first one is a warm-up
                            took[way][events].append(used / events / self.members * 1e6)
            for pair in pairs.values():
                for process in pair:
                    process.say("stop")
        return {way: Taken(one_us=took[way][1], burst_us=took[way][_BURST], idle_kib=idle[way]) for way in pairs}

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return what the turns come to."""
        rows: list[tuple[str, ...]] = []
        goals: list[Goal] = []
        for kind, ways in figures.taken.items():
            bare = ways["bare"]
            for way, own in ways.items():
                rows.append(
                    (
                        f"{_KINDS[kind]}, {_WAYS[way]}",
                        shown(spread(own.one_us)),
                        shown(ratios(own.one_us, bare.one_us)),
                        shown(spread(own.burst_us)),
                        shown(ratios(own.burst_us, bare.burst_us)),
                        f"{own.idle_kib:.1f}",
                    )
                )
            ours, what = ways["prepared"], f"{_KINDS[kind]}: one event to {figures.members:,}, processor time"
            goals.append(Goal.most(f"{what} against a bare loop", _BARE, ratios(ours.one_us, bare.one_us)))
            goals.append(
                Goal.least(
                    f"{what} of Starlette against ours", _STARLETTE, ratios(ways["starlette"].one_us, ours.one_us)
                )
            )
        rounds = len(next(iter(figures.taken["websocket"].values())).one_us)
        return Findings(
            method=_METHOD.format(members=figures.members, burst=_BURST, rounds=rounds),
            columns=("one event to each", "µs, one", "x bare", f"µs, bursts of {_BURST}", "x bare", "KiB idle"),
            rows=rows,
            goals=goals,
        )


async def _turn(server: Process, clients: Process, events: int) -> float:
    """Return the processor time that the server took for these events, in seconds."""
    clients.say(str(events))
    server.say(str(events))
    await clients.hear("all")
    server.say("report")
    return float((await server.hear("report"))["cpu_s"])
