"""A fleet over a log in memory, in virtual time, with everything going wrong by chance: `play` returns the account."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from random import Random
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen
from backplane_core import DistributedBackplane, Gap, Intersection, Target
from backplane_core._runtime.system import System
from backplane_core.target import targets_in
from backplane_core.testing import MemoryLog, MemoryLogTransport

from tests.product.model.virtual_loop import VirtualLoop, on_tick, run

__all__ = ["Account", "Plan", "play"]

USERS: Final = [Target.user(f"u{number}") for number in range(6)]
END: Final = Target.everyone()
READERS: Final = 12
Whom: TypeAlias = Target | Intersection
KEYS: Final = ["0123456789abcdef0123456789abcdef"]


@frozen(kw_only=True)
class Plan:
    """What may happen in a run.

    Args:
        seed: Decides everything that is left to chance.
        steps: How many things happen.
        trims: Whether the log is trimmed while pods lag behind.
        forgets: Whether the log restarts with less than it confirmed.
        ring: Whether senders keep what was confirmed lately.
        restarts: Whether pods end, and others start in their stead.
        combines: Whether some events are for intersections, and some exclude targets.
    """

    seed: int
    steps: int = 120
    trims: bool = False
    forgets: bool = True
    ring: bool = True
    restarts: bool = False
    combines: bool = True


@define
class Reader:
    """One connection, and what it got."""

    conn_id: str
    pod: int
    targets: frozenset[Target]
    stream: list[Any] = field(factory=list[Any])

    @property
    def events(self) -> list[tuple[int, int]]:
        return [(item[0], item[1]) for item in self.stream if not isinstance(item, Gap)]

    def has(self, term: Target | Intersection) -> bool:
        return all(target == END or target in self.targets for target in targets_in(term))

    @property
    def missed(self) -> float:
        gaps = [item for item in self.stream if isinstance(item, Gap)]
        return sum([float("inf") if gap.missed is None else gap.missed for gap in gaps])


@define
class Account:
    """What came of a run: of all expected deliveries, how many are missing, twice, out of order, or nobody's.

    Args:
        expected: Deliveries that should have been.
        missing: Those that were not.
        unexplained: Connections that miss more than their gaps say, in words.
        wrong: What must never be, in words.
        gaps: Gaps that connections were notified of.
        copies: Frames that were dropped as copies.
        given_up: Events that their sender counted as refused: two links in a row died of them.
        faults: How often each fault happened.
    """

    expected: int = 0
    missing: int = 0
    unexplained: list[str] = field(factory=list[str])
    wrong: list[str] = field(factory=list[str])
    gaps: int = 0
    copies: int = 0
    given_up: int = 0
    faults: dict[str, int] = field(factory=dict[str, int])


class TickRandom(Random):
    """Chance whose times are whole ticks of the virtual clock."""

    def uniform(self, a: float, b: float) -> float:
        return on_tick(super().uniform(a, b))


class ModelPod(DistributedBackplane):
    """The real thing, on the run's clock and chance."""

    def __init__(self, transport: MemoryLogTransport, system: System, **options: Any) -> None:
        self._given = system
        super().__init__(transport, **options)

    def _make_system(self) -> System:
        return self._given


class Run:
    """One run of a plan."""

    def __init__(self, plan: Plan, loop: VirtualLoop) -> None:
        self.plan, self.loop = plan, loop
        self.chance = TickRandom(plan.seed)
        self.combining = Random(f"{plan.seed} and, not")
        self.broker = MemoryLog()
        self.pods: list[DistributedBackplane] = []
        self.readers: list[Reader] = []
        self.numbers = [0, 0, 0]
        self.lives = [0, 0, 0]  # a pod that ends and starts again is another one, and order is promised for one
        self.life_of: dict[tuple[int, int], int] = {}
        self.published: dict[tuple[int, int], tuple[frozenset[Whom], frozenset[str | Whom]]] = {}
        self.account = Account()

    async def play(self) -> Account:
        signed = {"signing_keys": KEYS} if self.chance.random() < 0.3 else {}
        self.options = {"lanes": self.chance.choice([1, 2, 8]), **signed}
        async with AsyncExitStack() as self.stack:
            for index in range(3):
                pod = self._pod(str(index), **self.options)
                self.pods.append(await self.stack.enter_async_context(pod))
            for number in range(READERS):
                await self._attach(number)
            for _ in range(self.plan.steps):
                await self._step()
            await self._settle()
            self.account.copies = sum([pod.stats().duplicates for pod in self.pods])
            self.account.given_up += sum([pod.stats().dropped.get("refused", 0) for pod in self.pods])
        self._judge()
        return self.account

    def _pod(self, index: str, **options: Any) -> DistributedBackplane:
        system = System(
            monotonic=self.loop.time,
            wall=lambda: self.loop.time() + 1_800_000_000,
            random=TickRandom(f"{self.plan.seed} {index}"),
            new_name=lambda: f"pod{index}",
        )
        # A lane may be held for the whole run.
        ring = {"resend_s": 100.0} if self.plan.ring else {"resend_max_bytes": 0}
        return ModelPod(MemoryLogTransport(self.broker), system, beat_s=0.5, probe_interval_s=4.0, **ring, **options)

    async def _attach(self, number: int) -> None:
        pod = number % 3
        targets = frozenset(self.chance.sample(USERS, self.chance.randint(1, 3)))
        reader = Reader(f"c{number}", pod, targets)
        self.readers.append(reader)
        slow = self.chance.random() < 0.2

        def sink(event: Any) -> None:
            if slow:
                self.loop.spend(0.003)
            reader.stream.append(event)

        await self.pods[pod].attach(reader.conn_id, sink, on_gap=reader.stream.append)
        for target in targets:
            await self.pods[pod].associate(reader.conn_id, target)

    async def _step(self) -> None:
        faults: list[tuple[str, Callable[[], object]]] = [
            ("cut", self._cut),
            ("drop", self.broker.drop_links),
            ("hold", lambda: self.broker.hold(self.chance.choice(sorted(self.broker.channels) or ["backplane"]))),
            ("release", self.broker.release),
            ("lose confirmations", self._lose_confirmations),
        ]
        if self.plan.forgets:
            faults += [("forget", self._forget), ("erase", self.broker.erase)]
        if self.plan.trims:
            faults.append(("trim", lambda: self.broker.trim(self.chance.randint(0, 20))))
        roll = self.chance.random()
        if roll < 0.7:
            for _ in range(self.chance.randint(1, 12)):
                self._publish()
        elif roll < 0.85:
            name, fault = self.chance.choice(faults)
            self.account.faults[name] = self.account.faults.get(name, 0) + 1
            fault()
        await asyncio.sleep(self.chance.uniform(0, 0.4) if self.chance.random() < 0.5 else 0)

    def _cut(self) -> None:
        self.broker.cut()
        self.loop.call_later(self.chance.uniform(0, 3), self.broker.restore)

    def _forget(self) -> None:
        self.broker.forget(self.chance.randint(1, 40))

    def _lose_confirmations(self) -> None:
        self.broker.loses_confirmations = True
        # Briefly: a frame that each of many links dies of is given up.
        self.loop.call_later(self.chance.uniform(0, 0.05), self._keep_confirmations)

    def _keep_confirmations(self) -> None:
        self.broker.loses_confirmations = False

    def _publish(self, target: Target | None = None) -> None:
        pod = self.chance.randrange(3)
        self.numbers[pod] += 1
        event = (pod, self.numbers[pod])
        targets: list[Whom] = [target] if target else [*self._targets()]
        excluded: list[str | Whom] = []
        if target is None:
            excluded += [reader.conn_id for reader in self.readers if self.chance.random() < 0.1]
            if self.plan.combines:
                self._combine(targets, excluded)
        self.published[event] = (frozenset(targets), frozenset(excluded))
        self.life_of[event] = self.lives[pod]
        padding = "x" * self.chance.choice([0, 0, 0, 3_000])
        self.pods[pod].publish_nowait(targets, [*event, padding], exclude=excluded)

    def _targets(self) -> list[Target]:
        roll = self.chance.random()
        if roll < 0.1:
            return [Target.everyone()]
        return self.chance.sample(USERS, 1 if roll < 0.8 else self.chance.randint(2, 4))

    def _combine(self, targets: list[Whom], excluded: list[str | Whom]) -> None:
        """Put an intersection in the place of one target of some events, and exclude some targets."""
        chance = self.combining
        one, other = chance.sample(USERS, 2)
        if chance.random() < 0.2:
            targets[0] = one & other
        if chance.random() < 0.1:
            excluded.append(chance.choice([one, one & other]))

    async def _settle(self) -> None:
        """Mend everything, and wait until all that was published has come, or been accounted for."""
        self.broker.loses_confirmations = False
        self.broker.restore()
        self.broker.release()
        await asyncio.sleep(30)
        for pod in self.pods:
            await pod.flush(timeout_s=60)
        await asyncio.sleep(30)

    def _judge(self) -> None:
        account = self.account
        for reader in self.readers:
            expected = {
                event
                for event, (targets, excluded) in self.published.items()
                if any(map(reader.has, targets))
                and not any(reader.conn_id == one if isinstance(one, str) else reader.has(one) for one in excluded)
            }
            got = reader.events
            account.expected += len(expected)
            account.gaps += len(reader.stream) - len(got)
            missing = expected - set(got)
            account.missing += len(missing)
            if len(missing) > reader.missed:
                account.unexplained.append(f"{reader.conn_id} misses {len(missing)}, its gaps say {reader.missed}")
            if len(set(got)) != len(got) and not self._may_repeat(reader):
                account.wrong.append(f"{reader.conn_id} got {len(got) - len(set(got))} twice")
            if set(got) - expected:
                account.wrong.append(f"{reader.conn_id} got {len(set(got) - expected)} that are not for it")
            if own := self._own_missing(reader, missing):
                account.wrong.append(f"{reader.conn_id} misses {len(own)} of its own pod")
            if not self._may_repeat(reader):
                self._judge_order(reader)

    def _may_repeat(self, reader: Reader) -> bool:
        """Return whether events may come to a reader again."""
        return False

    def _own_missing(self, reader: Reader, missing: set[tuple[int, int]]) -> set[tuple[int, int]]:
        """Return what a reader misses of its own pod."""
        return {event for event in missing if event[0] == reader.pod}

    def _judge_order(self, reader: Reader) -> None:
        last: dict[tuple[int, int, frozenset[Whom]], int] = {}
        for pod, number in reader.events:
            key = (pod, self.life_of[pod, number], self.published[pod, number][0])
            if number < last.get(key, 0):
                self.account.wrong.append(f"{reader.conn_id} got {number} of pod {pod} behind {last[key]}")
            last[key] = number


def play(plan: Plan) -> Account:
    """Play a plan, and return what came of it."""
    loop = VirtualLoop()
    return run(loop, Run(plan, loop).play())
