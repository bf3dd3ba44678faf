"""What one run does: a plan of the fleet and a script of steps, drawn from a seed, plain to read and to cut."""

from __future__ import annotations

from random import Random
from typing import Any, Final, Literal, TypeAlias

from attrs import field, frozen
from backplane_core import Target
from backplane_core.testing import Faults

__all__ = ["CONNECT_TIMEOUT_S", "SOCKETS", "TARGETS", "Overflow", "Plan", "Step", "draw"]

Overflow: TypeAlias = Literal["drop_newest", "drop_oldest", "raise"]

CONNECT_TIMEOUT_S: Final = 2.0
SOCKETS: Final = 5
STEPS: Final = 32
TARGETS: Final = (Target.user("u1"), Target.user("u2"), Target("room", "r1"), Target.org("o1"), Target.everyone())

WEATHERS: Final[dict[str, Faults]] = {
    "calm": Faults(),
    "slow": Faults(send_s=0.3, confirm_s=0.3, subscribe_s=0.2),
    "cuts": Faults(cut_before=0.15, cut_within=0.2, cut_after=0.2, cut_subscribe=0.2),
    "resets": Faults(deliver_s=0.2, cut_before=0.1, cut_after=0.1, reset=0.7),
    "stragglers": Faults(send_s=0.2, cut_before=0.2, cut_within=0.3, straggle_s=2.0),
    "unconfirmed": Faults(hang_confirm=0.2, cut_after=0.3),
    "closed doors": Faults(refuse_open=0.5, hang_open=0.2, open_s=0.5, hang_subscribe=0.2),
    "losses": Faults(lose=0.1, deliver_s=0.1),
    "late interest": Faults(subscribe_s=1.0, hang_subscribe=0.2, deliver_s=0.05),
}
"""What a transport's line is like, by name, until the next change."""


@frozen
class Step:
    """One thing that happens.

    Args:
        wait_s: How long after the step before.
        do: The name of a method of `World`.
        args: Its arguments.
    """

    wait_s: float
    do: str
    args: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"Step({self.wait_s!r}, {self.do!r}, {self.args!r})"


@frozen(kw_only=True)
class Plan:
    """One run.

    Args:
        seed: Of the chance that pods and transports draw from while it runs.
        pods: How many.
        routing: Of all of them.
        lanes: Likewise.
        outbox: Frames that a pod's outbox takes.
        overflow: What a full outbox does.
        beat_s: Of all pods.
        probe_s: Likewise.
        single_stream: Whether confirmations come in the stream in which the broker delivers, and prove what was read.
        copies: Whether the bus may bring a frame twice in a row, which no broker of ours does.
        steps: The script.
    """

    seed: int
    pods: int = 2
    routing: Literal["broadcast", "interest"] = "broadcast"
    lanes: int = 1
    outbox: int = 10_000
    overflow: Overflow = "drop_newest"
    beat_s: float = 0.5
    probe_s: float = 2.0
    copies: bool = False
    single_stream: bool = False
    steps: tuple[Step, ...] = field(default=(), repr=False)


def draw(seed: int) -> Plan:
    """Return the run of that number."""
    chance = Random(seed)
    routing: Literal["broadcast", "interest"] = chance.choice(["broadcast", "interest"])
    pods = chance.choice([2, 2, 2, 3, 3, 4])
    script = _Script(chance, pods, foreign=chance.random() < 0.2)
    overflows: list[Overflow] = ["drop_newest", "drop_newest", "drop_oldest", "raise"]
    return Plan(
        seed=seed,
        pods=pods,
        routing=routing,
        lanes=chance.choice([1, 1, 3]) if routing == "broadcast" else 1,
        outbox=chance.choice([3, 12, 10_000, 10_000]),
        overflow=chance.choice(overflows),
        beat_s=chance.choice([0.5, 0.5, 1.0]),
        probe_s=chance.choice([1.0, 2.0, 2.0]),
        copies=chance.random() < 0.05,
        steps=script.steps(),
        single_stream=chance.random() < 0.5,
    )


class _Script:
    """Draws one step after the other."""

    def __init__(self, chance: Random, pods: int, *, foreign: bool) -> None:
        self.chance = chance
        self.pods = pods
        makers: list[tuple[Any, int]] = [
            (self.publish, 34),
            (self.associate, 8),
            (self.dissociate, 5),
            (self.attach_any, 6),
            (self.detach, 2),
            (self.weather, 9),
            (self.link, 10),
            (self.broker, 7),
            (self.restart, 3),
            (self.stop_clocks, 3),
            (self.foreign, 6 if foreign else 0),
            (self.cut_under_way, 5),
            (self.cut_while_asked, 5),
            (self.cut_while_busy, 4),
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

    def attach(self, socket: int) -> Step:
        kind = self.chance.choice(["bare", "bare", "slow", "close", "drop_oldest", "drop_newest"])
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
        return Step(self.wait(), "weather", (self.pod(), self.chance.choice(list(WEATHERS))))

    def link(self) -> Step:
        how = self.chance.choice(["cut", "cut", "deafen", "silence", "half_open"])
        return Step(self.wait(), "link", (self.pod(), how))

    def cut_under_way(self) -> list[Step]:
        """A link dies with frames on their way to it, just after it got others."""
        pod, other = self.chance.sample(range(self.pods), 2)
        publishes = [
            Step(self.chance.choice([0.0, 0.02, 0.05, 0.1]), "publish", (other, self.targets(), (), 1, "nowait"))
            for _ in range(5)
        ]
        return [
            Step(self.wait(), "weather", (pod, "resets")),
            *publishes,
            Step(self.chance.choice([0.01, 0.1]), "link", (pod, "cut")),
        ]

    def cut_while_asked(self) -> list[Step]:
        """A link dies while the broker has not confirmed yet that a target is heard; others go on."""
        socket, target = self.socket(), self.chance.randrange(len(TARGETS) - 1)
        pod, other = self.chance.sample(range(self.pods), 2)
        return [
            Step(self.wait(), "attach", (socket, pod, "bare", ())),
            Step(0.5, "weather", (pod, "late interest")),
            Step(0.0, "associate", (socket, target)),
            Step(self.chance.choice([0.0, 0.1]), "publish", (other, (target,), (), 1, "nowait")),
            Step(self.chance.choice([0.1, 0.5]), "publish", (pod, (len(TARGETS) - 1,), (), 1, "nowait")),
            Step(self.chance.choice([0.5, 1.5]), "link", (pod, self.chance.choice(["cut", "half_open"]))),
        ]

    def cut_while_busy(self) -> list[Step]:
        """A link dies while its pod is behind with reading; what is published then is lost before anyone notices."""
        pod, other = self.chance.sample(range(self.pods), 2)
        everyone = (len(TARGETS) - 1,)
        return [
            Step(self.wait(), "weather", (pod, "calm")),
            Step(0.0, "attach", (self.socket(), pod, "slow", ())),
            Step(0.1, "publish", (other, everyone, (), 8, "nowait")),
            Step(0.01, "publish", (other, everyone, (), 2, "nowait")),
            Step(0.01, "link", (pod, "cut")),
            Step(0.0, "publish", (other, everyone, (), 1, "nowait")),
        ]

    def broker(self) -> Step:
        return Step(self.wait(), "broker_", (self.chance.choice(["cut", "restore", "restore", "drop_links"]),))

    def restart(self) -> Step:
        return Step(self.wait(), "restart", (self.pod(), self.chance.choice([5.0, 0.2, 0.0, None])))

    def stop_clocks(self) -> Step:
        if self.chance.random() < 0.5:
            return Step(self.wait(), "block", (self.chance.choice([0.05, 0.7, 3.0]),))
        return Step(self.wait(), "step_wall", (self.pod(), self.chance.choice([-3600, 600])))

    def foreign(self) -> Step:
        return Step(self.wait(), "foreign", (self.chance.randrange(len(TARGETS)),))
