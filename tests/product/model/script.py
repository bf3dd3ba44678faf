"""How a run's script is drawn from its number."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any, Final, Literal

from attrs import evolve

from tests.product.model.plan import SOCKETS, TARGETS, Overflow, Plan, Step
from tests.product.model.scenes import Scenes
from tests.product.model.weather import QUIET, WEATHERS

__all__ = ["draw", "draw_far_apart"]

STEPS: Final = 32
QUIET_SHARE: Final = 0.2
COMBINED_SHARE: Final = 0.25
FAR_S: Final = 900.0
"""Further apart than the clocks of a fleet that signs may be."""
BAD: Final = (*WEATHERS, "cuts", "resets", "stragglers", "losses", "losses", "unconfirmed")
"""Weathers to choose from, those that lose most more often."""


def draw(seed: int) -> Plan:
    """Return the run of that number."""
    chance = Random(seed)
    routing: Literal["broadcast", "interest"] = chance.choice(["broadcast", "interest"])
    pods = chance.choice([2, 2, 2, 3, 3, 4])
    quiet = chance.random() < QUIET_SHARE
    signed = chance.random() < 0.2
    overflows: list[Overflow] = ["drop_newest", "drop_newest", "drop_oldest", "raise"]
    small = chance.randrange(pods) if chance.random() < 0.1 else None
    foreign = not quiet and not signed and chance.random() < 0.2
    script = _Script(chance, pods, foreign=foreign, quiet=quiet, signed=signed, small=small)
    return Plan(
        seed=seed,
        pods=pods,
        routing=routing,
        lanes=chance.choice([1, 1, 3]) if routing == "broadcast" else 1,
        outbox=10_000 if quiet else chance.choice([1, 3, 12, 10_000, 10_000]),
        outbox_bytes=1_000_000 if quiet else chance.choice([1_024, 1_000_000, 1_000_000]),
        overflow=chance.choice(overflows),
        beat_s=chance.choice([0.5, 0.5, 1.0]),
        probe_s=4.0 if quiet else chance.choice([1.0, 2.0, 2.0]),
        ttl_s=300.0 if signed else chance.choice([4.0, 300.0, 300.0]),
        copies=not quiet and chance.random() < 0.05,
        signed=signed,
        skew_s=chance.choice([0.0, 20.0, -70.0]) if signed else 0.0,
        batch=chance.choice([1, 3, 512]),
        small=small,
        memory=chance.choice([4, 12]) if quiet and chance.random() < 0.3 else None,
        alarm=not quiet and chance.random() < 0.2,
        quiet=quiet,
        single_stream=chance.random() < 0.5,
        few=chance.choice([0, 8]),
        steps=tuple(_combined(script.steps(), Random(f"{seed} and, not"))),
    )


def _combined(steps: Iterable[Step], chance: Random) -> Iterator[Step]:
    """Yield the steps, some of the publishes to intersections, and some without those of another target."""
    kinds = range(len(TARGETS) - 1)
    for step in steps:
        if step.do != "publish" or step.args[-1] == "big" or chance.random() > COMBINED_SHARE:
            yield step
            continue
        pod, targets, exclude, count, how = step.args
        if chance.random() < 0.7:
            both = tuple(chance.sample(kinds, chance.choice([2, 2, 3])))
            targets = chance.choice([(both,), (both,), (both, *targets)])
        if chance.random() < 0.4:
            exclude = (*exclude, tuple(chance.sample(kinds, chance.choice([1, 1, 2]))))
        yield evolve(step, args=(pod, targets, exclude, count, how))


def draw_far_apart(count: int) -> Iterator[Plan]:
    """Yield runs in which nothing is wrong but the clocks of two pods: each refuses all that the other one sends."""
    quiet = (plan for plan in map(draw, itertools.count()) if plan.quiet and plan.pods == 2)
    for plan in itertools.islice(quiet, count):
        steps = tuple([step for step in plan.steps if step.do != "step_wall"])
        yield evolve(plan, steps=steps, signed=True, skew_s=FAR_S, ttl_s=300.0, small=None, memory=None, quiet=False)


class _Script:
    """Draws one step after the other."""

    def __init__(
        self, chance: Random, pods: int, *, foreign: bool, quiet: bool, signed: bool, small: int | None
    ) -> None:
        self.chance = chance
        self.pods = pods
        self.quiet = quiet
        self.signed = signed
        self.small = small
        scenes = Scenes(chance, pods)
        makers: list[tuple[Any, int]] = [
            (self.publish, 34),
            (self.publish_big, 0 if small is None else 6),
            (self.associate, 8),
            (self.dissociate, 5),
            (self.attach_any, 6),
            (self.detach, 2),
            (self.weather, 9),
            (self.stop_clocks, 3),
            (self.restart, 3),
            (self.foreign, 6 if foreign else 0),
            (scenes.flood, 2),
            (scenes.leave_and_come_back, 3),
            (scenes.take_over, 2),
            (scenes.drain_in_traffic, 1),
        ]
        if not quiet:
            makers += [
                (self.link, 10),
                (self.broker, 7),
                (scenes.cut_under_way, 5),
                (scenes.cut_while_asked, 5),
                (scenes.cut_while_busy, 4),
                (scenes.heard_one_by_one, 5),
                (scenes.meet_the_notices, 3),
                (scenes.long_away, 2),
                (scenes.come_back_to_a_copy, 3),
                (scenes.come_and_go_while_away, 3),
                (scenes.fill_a_silent_line, 3),
            ]
        self.makers = [maker for maker, _ in makers]
        self.weights = [weight for _, weight in makers]

    def steps(self) -> tuple[Step, ...]:
        steps = [self.attach(socket) for socket in range(SOCKETS)]
        while len(steps) < STEPS:
            (maker,) = self.chance.choices(self.makers, self.weights)
            drawn: Step | list[Step] = maker()
            steps += drawn if isinstance(drawn, list) else [drawn]
        return tuple(steps)

    def wait(self) -> float:
        return self.chance.choice([0.0, 0.0, 0.0, 0.01, 0.05, 0.2, 0.5, 1.0])

    def targets(self) -> tuple[int, ...]:
        """Indices into `TARGETS`; beyond them, connections by number."""
        everything = range(len(TARGETS) + SOCKETS)
        kind = self.chance.random()
        if kind < 0.75:
            return (self.chance.randrange(len(TARGETS) - 1),)
        if kind < 0.85:
            return (len(TARGETS) - 1,)
        return tuple(self.chance.sample(everything, self.chance.choice([1, 2, 3])))

    def pod(self) -> int:
        return self.chance.randrange(self.pods)

    def socket(self) -> int:
        return self.chance.randrange(SOCKETS)

    def publish(self) -> Step:
        exclude = tuple(self.chance.sample(range(SOCKETS), 2)) if self.chance.random() < 0.15 else ()
        count = self.chance.choice([1, 1, 2, 3, 8])
        how = self.chance.choice(["nowait", "nowait", "await"])
        return Step(self.wait(), "publish", (self.pod(), self.targets(), exclude, count, how))

    def publish_big(self) -> Step:
        """More than the pod of small limits takes; it does not publish such events itself."""
        others = [pod for pod in range(self.pods) if pod != self.small]
        return Step(self.wait(), "publish", (self.chance.choice(others), self.targets(), (), 1, "big"))

    def attach(self, socket: int) -> Step:
        kind = self.chance.choice(["bare", "bare", "slow", "meddler", "close", "drop_oldest", "drop_newest"])
        targets = tuple(sorted(self.chance.sample(range(len(TARGETS) - 1), self.chance.choice([0, 1, 2]))))
        return Step(self.wait(), "attach", (socket, self.pod(), kind, targets))

    def attach_any(self) -> Step:
        return self.attach(self.socket())

    def associate(self) -> Step:
        return Step(self.wait(), "associate", (self.socket(), self.chance.randrange(len(TARGETS) - 1)))

    def dissociate(self) -> Step:
        return Step(self.wait(), "dissociate", (self.socket(), self.chance.randrange(len(TARGETS) - 1)))

    def detach(self) -> Step:
        return Step(self.wait(), "detach", (self.socket(),))

    def weather(self) -> Step:
        return Step(self.wait(), "weather", (self.pod(), self.chance.choice(list(QUIET) if self.quiet else BAD)))

    def link(self) -> Step:
        how = self.chance.choice(["cut", "cut", "deafen", "silence", "half_open"])
        return Step(self.wait(), "link", (self.pod(), how))

    def broker(self) -> Step:
        return Step(self.wait(), "broker_", (self.chance.choice(["cut", "restore", "restore", "drop_links"]),))

    def restart(self) -> Step:
        return Step(
            self.wait(), "restart", (self.pod(), 5.0 if self.quiet else self.chance.choice([5.0, 0.2, 0.0, None]))
        )

    def stop_clocks(self) -> Step:
        if self.chance.random() < 0.5:
            return Step(self.wait(), "block", (self.chance.choice([0.05, 0.7, 3.0]),))
        return Step(
            self.wait(), "step_wall", (self.pod(), self.chance.choice([-30, 20] if self.signed else [-3600, 600]))
        )

    def foreign(self) -> Step:
        return Step(self.wait(), "foreign", (self.chance.randrange(len(TARGETS)),))
