"""A fleet of real pods over a broker that fails, in virtual time: plays a plan's script and keeps the ledger."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from random import Random
from typing import Any, Final, Literal

from attrs import evolve
from backplane_core import (
    ClosedError,
    DistributedBackplane,
    Frame,
    Gap,
    Lost,
    OutboxFullError,
    SlowConsumerError,
    Target,
    Traits,
    TransportError,
)
from backplane_core._runtime.system import System
from backplane_core.testing import Faults, FaultyTransport, MemoryBroker
from backplane_core.testing._faulty.link import FaultyLink

from tests.product.model.ledger import (
    NEVER,
    Arrival,
    Batch,
    Heard,
    Hold,
    Ledger,
    Life,
    LinkLog,
    Parsed,
    PodLog,
    Published,
    Told,
)
from tests.product.model.plan import CONNECT_TIMEOUT_S, SOCKETS, TARGETS, WEATHERS, Plan
from tests.product.model.virtual_loop import VirtualLoop, on_tick
from tests.support.inside import channel_of, next_number

__all__ = ["World"]

CHANNEL: Final = "c"
OWN_TARGETS: Final = [Target.connection(f"s{socket}") for socket in range(SOCKETS)]
PENDING: Final = 6
"""Events that a connection's queue takes."""


class TickRandom(Random):
    """Chance whose times are whole ticks of the virtual clock, so that sums of them are exact."""

    def uniform(self, a: float, b: float) -> float:
        return on_tick(super().uniform(a, b))


class ModelBroker(MemoryBroker):
    """Writes down each copy of a frame that reaches it."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def publish(self, frame: Frame) -> None:
        world, ledger = self.world, self.world.ledger
        copy: Frame = (frame[0], frame[1])
        arrival = Arrival(frame[0], world.parsed(frame[1]), world.loop.time(), world.order())
        ledger.arrivals.append(arrival)
        ledger.frames.append(copy)
        ledger.by_frame[id(copy)] = arrival
        if arrival.parsed.event is not None:
            ledger.events[arrival.parsed.event].arrivals.append(arrival)
        world.say(lambda: f"broker: {_brief(arrival)}")
        super().publish(copy)


class ModelLink(FaultyLink):
    """Writes down what its pod gets of it, and when it ends."""

    def __init__(self, transport: ModelTransport) -> None:
        super().__init__(transport)
        self.world = transport.world
        self.log = LinkLog(transport.pod, self.world.loop.time())
        transport.pod.links.append(self.log)
        self._lost_now: list[Arrival] = []

    def take(self, frame: Frame) -> None:
        self.world.ledger.by_frame[id(frame)].links.append(self.log)
        super().take(frame)

    def deafen(self) -> None:
        super().deafen()
        self.log.deaf_at = min(self.log.deaf_at, self.world.loop.time())

    def end(self, reason: str) -> None:
        super().end(reason)
        if not self._waiting:
            self._log_end(reason)

    async def aclose(self) -> None:
        self._log_end("given up")
        await super().aclose()

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        by_frame, log, world = self.world.ledger.by_frame, self.log, self.world
        async for items in super().receive():
            got = [item.channel or "" if isinstance(item, Lost) else by_frame[id(item)] for item in items]
            batch = Batch(world.loop.time(), world.order(), got)
            log.batches.append(batch)
            for arrival in [*got, *self._lost_now]:
                if isinstance(arrival, Arrival):
                    log.read.setdefault(arrival, batch)
            self._lost_now = []
            world.say(partial(_brief_batch, log.pod.origin, got))
            yield items
            batch.done = world.loop.time()

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        await super().unsubscribe(channels)
        self.log.batches += channels

    async def send(self, frames: Sequence[Frame]) -> None:
        await super().send(frames)
        log = self.log.pod
        question = f"{CHANNEL}:@{log.origin}"  # no event, no beat: only its answer counts
        log.confirmed_frames += sum([frame[0] != question for frame in frames])
        for frame in frames:
            event = self.world.parsed(frame[1]).event
            if event is not None:
                self.world.ledger.events[event].confirmed = True

    def _spoil(self, batch: list[Frame | Lost]) -> list[Frame | Lost]:
        spoilt = super()._spoil(batch)
        if spoilt is not batch:
            kept = {id(item) for item in spoilt}
            for item in batch:
                if not isinstance(item, Lost) and id(item) not in kept:
                    self._lost_now.append(self.world.ledger.by_frame[id(item)])
        return spoilt

    def _log_end(self, reason: str) -> None:
        if self.log.ended == NEVER:
            self.log.ended = self.world.loop.time()
            self.world.say(lambda: f"{self.log.pod.origin}: its link ends: {reason}")


class ModelTransport(FaultyTransport):
    """Opens links that write down."""

    def __init__(self, world: World, pod: PodLog, random: Random) -> None:
        super().__init__(world.broker, Traits(single_stream=world.plan.single_stream), random=random)
        self.world = world
        self.pod = pod

    def _make_link(self) -> FaultyLink:
        return ModelLink(self)

    @property
    def open_links(self) -> list[FaultyLink]:
        return self._open_links


class ModelBackplane(DistributedBackplane):
    """The real thing, on the run's clocks and chance."""

    def __init__(self, transport: ModelTransport, surroundings: System, **options: Any) -> None:
        self._given = surroundings
        super().__init__(transport, **options)

    def _make_system(self) -> System:
        return self._given


class Pod:
    """One life of a pod, with its handles."""

    def __init__(self, world: World, index: int, life: int) -> None:
        plan, loop = world.plan, world.loop
        origin = f"pod{index}-{life}"
        chance = TickRandom(f"{plan.seed} {origin}")
        self.world = world
        self.log = PodLog(index, origin, [float(index * 100_000)])
        self.transport = ModelTransport(world, self.log, chance)
        self.blow(world.weather(index))
        self.stopping = False
        self.lives: dict[str, Life] = {}
        self.backplane = ModelBackplane(
            self.transport,
            System(
                monotonic=loop.time,
                wall=lambda: loop.time() + self.log.wall_offsets[-1],
                random=chance,
                new_name=lambda: origin,
            ),
            routing=plan.routing,
            lanes=plan.lanes,
            channel=CHANNEL,
            outbox_max_messages=plan.outbox,
            outbox_overflow=plan.overflow,
            beat_s=plan.beat_s,
            probe_interval_s=plan.probe_s,
            connect_timeout_s=CONNECT_TIMEOUT_S,
            observer=self._on_record,
            on_gap=self._on_gap,
            on_state=self.log.states.append,
        )
        world.ledger.pods.append(self.log)

    def blow(self, faults: Faults) -> None:
        self.transport.faults = faults
        self.log.delays.append((self.world.loop.time(), faults.deliver_s))

    @property
    def up(self) -> bool:
        return not self.stopping and self.backplane.state in {"live", "degraded"}

    def _on_record(self, record: Any) -> None:
        self.log.records.append(record)
        if not isinstance(record, Gap):
            self.world.say(lambda: f"{self.log.origin}: {record}")

    def _on_gap(self, gap: Gap) -> None:
        self.log.gaps.append(Told(gap, self.world.loop.time(), self.world.order()))
        self.world.say(lambda: f"{self.log.origin}: {_brief_gap(gap)}")


class World:
    """One run of a plan."""

    def __init__(self, plan: Plan, loop: VirtualLoop, trace: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self.loop = loop
        self.ledger = Ledger()
        self.broker = ModelBroker(self)
        self._trace = trace
        self._order = 0
        self._parsed: dict[bytes, Parsed] = {}
        self._weather: dict[int, Faults] = {}
        self._pods: dict[int, Pod] = {}
        self._all_pods: list[Pod] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._readers: list[asyncio.Task[None]] = []

    def order(self) -> int:
        self._order += 1
        return self._order

    def say(self, text: Callable[[], str]) -> None:
        if self._trace is not None:
            self._trace(f"{self.loop.time():9.4f}  {text()}")

    def parsed(self, payload: bytes) -> Parsed:
        parsed = self._parsed.get(payload)
        if parsed is None:
            parsed = self._parsed[payload] = Parsed.of(payload)
        return parsed

    def weather_of(self, name: str) -> Faults:
        return evolve(WEATHERS[name], copy=0.1) if self.plan.copies else WEATHERS[name]

    # The run

    async def play(self) -> Ledger:
        """Start the fleet, play the script, mend everything, let it settle, close it."""
        for index in range(self.plan.pods):
            await self._start(index, 0)
        for step in self.plan.steps:
            if step.wait_s:
                await asyncio.sleep(step.wait_s)
            self.say(partial("-- {} {}".format, step.do, step.args))
            getattr(self, step.do)(*step.args)
        await self._settle()
        await self._close()
        return self.ledger

    async def _start(self, index: int, life: int) -> None:
        """As an orchestrator does: try again until it is up. What did not come up is closed, and must leave nothing."""
        while True:
            pod = Pod(self, index, life)
            self._pods[index] = pod
            self._all_pods.append(pod)
            try:
                await pod.backplane.open()
            except TransportError:
                pod.stopping = True
                life += 1
                await asyncio.sleep(0.5)
            else:
                return

    async def _settle(self) -> None:
        plan = self.plan
        self.say(lambda: "-- all is mended")
        self.broker.restore()
        for index in range(plan.pods):
            self.weather(index, "calm")
        await self._within(60, "steps that never end", *self._tasks)
        pods = list(self._pods.values())
        # A deaf link is found by the beat that it does not hear; one that is not live yet, by its timeout.
        patience_s = 2 * (plan.probe_s + plan.beat_s) + CONNECT_TIMEOUT_S
        await self._until(lambda: not any(_deaf(pod) for pod in pods), "no link is deaf", patience_s)
        # A question whose answer was lost stands in no outbox, and holds up what is published next until it is noticed.
        await self._until(lambda: not any(map(_owes_an_answer, pods)), "no link owes an answer", patience_s)
        # The longest wait between attempts is 5 s.
        await self._until(lambda: all(pod.backplane.state == "live" for pod in pods), "all pods are live", 20)
        await self._within(30, "outboxes that stay full", *[pod.backplane.flush() for pod in pods])
        # What was dropped last has nothing behind it that shows the hole, but a beat.
        patience_s = plan.probe_s + 2 * plan.beat_s
        await self._until(
            lambda: not any(pod.backplane._sender.has_unmarked_tails for pod in pods), "no tail is unmarked", patience_s
        )
        for index in range(plan.pods):
            self.publish(index, (len(TARGETS) - 1,), (), 1, "nowait")
            await asyncio.sleep(0.1)
        # A bare sink hears of the last hole up to a second later.
        await asyncio.sleep(1.5)

    async def _until(self, condition: Callable[[], bool], what: str, patience_s: float) -> None:
        deadline = self.loop.time() + patience_s
        while not condition():
            if self.loop.time() > deadline:
                self._blame(f"not within {patience_s} s: {what}")
                return
            await asyncio.sleep(0.1)

    async def _close(self) -> None:
        self.ledger.closing = self.order()
        for pod in self._pods.values():
            self._end_all(pod)
            pod.stopping = True
        await self._within(10, "pods that do not close", *[pod.backplane.aclose() for pod in self._pods.values()])
        await self._within(10, "readers that do not end", *self._readers)
        for pod in self._all_pods:
            pod.log.stats = pod.backplane.stats()
        # Whoever was cancelled needs a turn to end.
        await asyncio.sleep(0)
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                self._blame(f"a task is left: {task.get_name()}")
        if self.broker.link_count or self.broker.channels:
            self._blame(f"the broker has {self.broker.link_count} links left, and {len(self.broker.channels)} channels")

    async def _within(self, seconds: float, what: str, *awaitables: Any) -> None:
        """Wait for all; whoever needs longer, or raises, breaks a promise."""
        tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
        if not tasks:
            return
        done, late = await asyncio.wait(tasks, timeout=seconds)
        for task in done:
            if (error := task.exception()) is not None:
                self._blame(f"{what}: {type(error).__name__}: {error}")
        for task in late:
            self._blame(f"{what}: not within {seconds} s")
            task.cancel()
        if late:
            await asyncio.wait(late)

    def _blame(self, text: str) -> None:
        self.ledger.violations.append(text)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(coroutine))

    # Steps: publishing

    def publish(self, index: int, targets: tuple[int, ...], exclude: tuple[int, ...], count: int, how: str) -> None:
        pod = self._pods[index]
        chosen = tuple([_target(target) for target in targets])
        excluded = frozenset([f"s{socket}" for socket in exclude])
        if how == "await":
            self._spawn(self._publish_many(pod, chosen, excluded, count))
            return
        for _ in range(count):
            if pod.up:
                self._publish(pod, chosen, excluded)

    async def _publish_many(self, pod: Pod, targets: tuple[Target, ...], excluded: frozenset[str], count: int) -> None:
        for _ in range(count):
            if not pod.up:
                return
            self._publish(pod, targets, excluded)
            # What `publish` does after its section.
            await pod.backplane._end_turn()

    def _publish(self, pod: Pod, targets: tuple[Target, ...], excluded: frozenset[str]) -> None:
        backplane = pod.backplane
        channel = channel_of(backplane, *targets)
        seq = next_number(backplane, channel)
        event = Published(
            len(self.ledger.events), pod.log, targets, channel, seq, excluded, self.loop.time(), self.order()
        )
        self.ledger.events.append(event)
        expected = [life for life in pod.lives.values() if self._should_hear(pod, life, event)]
        before = {life: len(life.stream) for life in expected}
        try:
            delivered = backplane.publish_nowait(
                targets[0] if len(targets) == 1 else targets, event.number, exclude=excluded
            )
        except OutboxFullError:
            if self.plan.overflow != "raise":
                self._blame(f"event {event.number}: refused under {self.plan.overflow}")
            event.refused = True
            if any(len(life.stream) != before[life] for life in expected):
                self._blame(f"event {event.number} was refused, and delivered")
            return
        self.say(lambda: f"{pod.log.origin} publishes {event.number} on {channel} as {seq}: {delivered} here")
        certain = [life for life in expected if not life.queue]
        for life in certain:
            new = [item for item in life.stream[before[life] :] if isinstance(item, Heard)]
            if [item.number for item in new] != [event.number]:
                self._blame(f"event {event.number}: local {life.conn_id} got {[item.number for item in new]}")
        if not len(certain) <= delivered <= len(expected):
            self._blame(f"event {event.number}: publish returned {delivered}, of {len(expected)} here")

    def _should_hear(self, pod: Pod, life: Life, event: Published) -> bool:
        if life.conn_id in event.excluded or life.conn_id not in pod.backplane._registry.connections:
            return False
        return any(life.hold(target) is not None for target in event.targets)

    def foreign(self, target: int) -> None:
        """A pod that does not count, and keeps a link of its own."""
        chosen = _target(target)
        pod = self._pods[0]
        channel = channel_of(pod.backplane, chosen)
        number = len(self.ledger.events)
        self.ledger.events.append(
            Published(
                number, None, (chosen,), channel, None, frozenset(), self.loop.time(), self.order(), confirmed=True
            )
        )
        self.broker.publish((channel, b'{"origin":"rust","target":%b,"event":%d}' % (chosen.wire, number)))

    # Steps: connections

    def attach(self, socket: int, index: int, kind: str, targets: tuple[int, ...]) -> None:
        conn_id, pod = f"s{socket}", self._pods[index]
        for other in self._pods.values():
            if other is not pod and conn_id in other.lives:
                self._spawn(self._detach(other, conn_id))
        if pod.up:
            chosen = [TARGETS[target] for target in targets]
            if kind in {"close", "drop_oldest", "drop_newest"}:
                self._readers.append(asyncio.create_task(self._read(pod, conn_id, kind, chosen)))
            else:
                self._spawn(self._attach(pod, conn_id, kind, chosen))

    async def _attach(self, pod: Pod, conn_id: str, kind: str, targets: Sequence[Target]) -> None:
        if not pod.up:
            return
        life = self._begin(pod, conn_id, kind)
        stream, loop = life.stream, self.loop

        def sink(number: int) -> None:
            stream.append(Heard(number, loop.time(), self.order()))
            if kind == "slow":
                loop.spend(0.02)

        try:
            await pod.backplane.attach(conn_id, sink, on_gap=lambda gap: self._told(life, gap))
            self._promise(life.holds)
            for target in targets:
                await self._associate(pod, life, target)
        except ClosedError:
            life.end(self.order())

    async def _associate(self, pod: Pod, life: Life, target: Target) -> None:
        if life.ended != NEVER or not pod.up:
            return
        hold = life.hold(target)
        fresh = hold is None
        if hold is None:
            hold = Hold(target, self.order())
            life.holds.append(hold)
        confirmed = await pod.backplane.associate(life.conn_id, target)
        if fresh:
            hold.promised, hold.confirmed = (self.order() if confirmed else hold.since), confirmed

    def _promise(self, holds: Sequence[Hold]) -> None:
        order = self.order()
        for hold in holds:
            hold.promised = min(hold.promised, order)

    async def _read(self, pod: Pod, conn_id: str, overflow: Any, targets: Sequence[Target]) -> None:
        """Be the owner of a connection that reads at its own pace."""
        if not pod.up:
            return
        life = self._begin(pod, conn_id, overflow)
        life.holds += [Hold(target, life.since) for target in targets if life.hold(target) is None]
        connection = pod.backplane.connection(
            conn_id, *targets, max_pending=PENDING, overflow=overflow, on_gap=lambda gap: self._told(life, gap)
        )
        try:
            async with connection:
                self._promise(life.holds)
                async for event in connection:
                    life.stream.append(Heard(event.value, self.loop.time(), self.order()))
                    await asyncio.sleep(0.05 if len(life.stream) % 4 else 0.3)
        except ClosedError:
            pass
        except SlowConsumerError:
            life.too_slow = True
        finally:
            self._end(pod, life)

    def _begin(self, pod: Pod, conn_id: str, kind: str) -> Life:
        """A sink takes the connection's place and keeps its targets; a queue that does starts with its own alone."""
        life = Life(conn_id, pod.log, kind, self.order())
        life.holds += [Hold(Target.connection(conn_id), life.since), Hold(Target.everyone(), life.since)]
        old = pod.lives.get(conn_id)
        keeps = kind not in {"close", "drop_oldest", "drop_newest"}
        if keeps and old is not None and conn_id in pod.backplane._registry.connections:
            life.holds += [
                Hold(hold.target, life.since)
                for hold in old.holds
                if hold.ended == NEVER and life.hold(hold.target) is None
            ]
        if old is not None:
            old.end(self.order())
        pod.lives[conn_id] = life
        self.ledger.lives.append(life)
        return life

    def _end(self, pod: Pod, life: Life) -> None:
        life.end(self.order())
        if pod.lives.get(life.conn_id) is life:
            del pod.lives[life.conn_id]

    def _end_all(self, pod: Pod) -> None:
        for life in pod.lives.values():
            life.end(self.order())
            life.closed = True

    def _told(self, life: Life, gap: Gap) -> None:
        life.stream.append(Told(gap, self.loop.time(), self.order()))
        self.say(lambda: f"{life.conn_id} at {life.pod.origin} is told: {_brief_gap(gap)}")

    def associate(self, socket: int, target: int) -> None:
        for pod in self._pods.values():
            life = pod.lives.get(f"s{socket}")
            if life is not None:
                self._spawn(self._associate(pod, life, TARGETS[target]))

    def dissociate(self, socket: int, target: int) -> None:
        for pod in self._pods.values():
            life = pod.lives.get(f"s{socket}")
            if life is not None:
                self._spawn(self._dissociate(pod, life, TARGETS[target]))

    async def _dissociate(self, pod: Pod, life: Life, target: Target) -> None:
        if life.ended != NEVER:
            return
        hold = life.hold(target)
        if hold is not None:
            hold.ended = self.order()
        await pod.backplane.dissociate(life.conn_id, target)

    def detach(self, socket: int) -> None:
        for pod in self._pods.values():
            if f"s{socket}" in pod.lives:
                self._spawn(self._detach(pod, f"s{socket}"))

    async def _detach(self, pod: Pod, conn_id: str) -> None:
        life = pod.lives.get(conn_id)
        if life is not None:
            self._end(pod, life)
            await pod.backplane.detach(conn_id)

    # Steps: what goes wrong

    def weather(self, index: int, name: str | None = None) -> Faults:
        """Set, or return, what a pod's line is like."""
        if name is not None:
            self._weather[index] = self.weather_of(name)
            self._pods[index].blow(self._weather[index])
        return self._weather.get(index) or self.weather_of("calm")

    def link(self, index: int, how: Literal["cut", "deafen", "silence", "half_open"]) -> None:
        getattr(self._pods[index].transport, how)()

    def broker_(self, how: Literal["cut", "restore", "drop_links"]) -> None:
        getattr(self.broker, how)()

    def restart(self, index: int, drain_s: float | None) -> None:
        pod = self._pods[index]
        if not pod.up:
            return
        pod.stopping = True
        self._spawn(self._restart(pod, drain_s))

    async def _restart(self, pod: Pod, drain_s: float | None) -> None:
        """Close and start anew. None: it is killed, nothing of it reaches the broker any more."""
        self._end_all(pod)
        pod.log.restarted = True
        if drain_s is None:
            pod.transport.faults = Faults(refuse_open=1)
            pod.transport.cut("the pod was killed")
        await pod.backplane.aclose(drain_s or 0)
        await self._start(pod.log.index, int(pod.log.origin.partition("-")[2]) + 1)

    def block(self, seconds: float) -> None:
        self.loop.spend(seconds)

    def step_wall(self, index: int, by_s: float) -> None:
        log = self._pods[index].log
        log.wall_offsets.append(log.wall_offsets[-1] + by_s)


def _owes_an_answer(pod: Pod) -> bool:
    """Whether a pod's link was handed something that the broker has not confirmed."""
    heartbeat: Any = pod.backplane._supervisor._heartbeat
    return heartbeat._unconfirmed is not None


def _deaf(pod: Pod) -> bool:
    return any(link.deaf for link in pod.transport.open_links)


def _target(index: int) -> Target:
    return TARGETS[index] if index < len(TARGETS) else OWN_TARGETS[index - len(TARGETS)]


def _brief_batch(origin: str, items: Sequence[Arrival | str]) -> str:
    return f"{origin} gets {', '.join(map(_brief, items))}"


def _brief(arrival: Arrival | str) -> str:
    if isinstance(arrival, str):
        return f"word of a loss on {arrival}"
    parsed = arrival.parsed
    what = "beat" if parsed.event is None else f"event {parsed.event}"
    return f"{what} {parsed.origin}/{arrival.channel}#{parsed.seq}"


def _brief_gap(gap: Gap) -> str:
    return f"gap({gap.channel} {gap.cause} {gap.since}..{gap.until} missed {gap.missed}: {gap.reason})"
