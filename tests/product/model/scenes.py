"""Steps that belong together, drawn as one: situations that single steps would seldom make."""

from __future__ import annotations

from random import Random
from typing import Final

from tests.product.model.plan import SOCKETS, TARGETS, Step

__all__ = ["Scenes"]

EVERYONE: Final = (len(TARGETS) - 1,)


class Scenes:
    """Draws scenes.

    Args:
        chance: Where they come from.
        pods: How many there are.
    """

    def __init__(self, chance: Random, pods: int) -> None:
        self.chance = chance
        self.pods = pods

    def _wait(self) -> float:
        return self.chance.choice([0.0, 0.0, 0.0, 0.01, 0.05, 0.2, 0.5, 1.0])

    def _two_pods(self) -> list[int]:
        return self.chance.sample(range(self.pods), 2)

    def _socket(self) -> int:
        return self.chance.randrange(SOCKETS)

    def _target(self) -> int:
        return self.chance.randrange(len(TARGETS) - 1)

    # Quiet ones: nothing is lost

    def flood(self) -> list[Step]:
        """A pod is kept busy by its sinks, for longer than a broker may be silent."""
        pod, other = self._two_pods()
        count = self.chance.choice([15, 60])
        return [
            Step(self._wait(), "attach", (self._socket(), pod, "dragging", ())),
            Step(0.1, "publish", (other, EVERYONE, (), count, "nowait")),
            Step(self._wait(), "publish", (pod, EVERYONE, (), 1, "nowait")),
            Step(0.5, "publish", (other, (self._target(),), (), 2, "nowait")),
        ]

    def leave_and_come_back(self) -> list[Step]:
        """A target is left while its frames wait to be read, and taken up again after the channel was left."""
        pod, other = self._two_pods()
        busy, socket = self.chance.sample(range(SOCKETS), 2)
        target = (self._target(),)
        away = [Step(0.0, "publish", (other, target, (), self.chance.choice([1, 3]), "nowait")) for _ in range(2)]
        return [
            Step(self._wait(), "attach", (socket, pod, "bare", target)),
            Step(0.0, "attach", (busy, pod, "dragging", ())),
            Step(1.0, "publish", (other, target, (), 2, "nowait")),
            Step(0.1, "publish", (other, EVERYONE, (), self.chance.choice([1, 25]), "nowait")),
            Step(0.0, "publish", (other, target, (), 2, "nowait")),
            Step(0.2, "dissociate", (socket, *target)),
            Step(self.chance.choice([0.3, 1.3, 2.0]), "publish", (other, target, (), 1, "nowait")),
            *away,
            Step(self.chance.choice([0.0, 0.2]), "associate", (socket, *target)),
            Step(self.chance.choice([0.0, 0.3, 1.2]), "publish", (other, target, (), 2, "nowait")),
        ]

    def take_over(self) -> list[Step]:
        """Another user's socket comes with an id that is in use, and the old one is detached behind it."""
        pod, other = self._two_pods()
        socket = self._socket()
        old, new = self.chance.sample(range(len(TARGETS) - 1), 2)
        kinds = ["bare", "close", "drop_oldest"]
        return [
            Step(self._wait(), "attach", (socket, pod, self.chance.choice(kinds), (old,))),
            Step(0.5, "publish", (other, (old,), (), 1, "nowait")),
            Step(self._wait(), "attach", (socket, pod, self.chance.choice(kinds), (new,))),
            Step(0.0, "publish", (pod, (old,), (), 1, "nowait")),
            Step(0.2, "publish", (other, (old, new), (), 1, "nowait")),
            Step(0.1, "publish", (other, (new,), (), 1, "nowait")),
        ]

    def drain_in_traffic(self) -> list[Step]:
        """A pod drains while others go on to publish to its connections."""
        pod, other = self._two_pods()
        kind = self.chance.choice(["close", "drop_oldest", "drop_newest"])
        return [
            Step(self._wait(), "attach", (self._socket(), pod, kind, ())),
            Step(0.1, "publish", (other, EVERYONE, (), 40, "stream")),
            Step(0.3, "drain", (pod,)),
            Step(1.0, "rest"),
        ]

    # Those that lose

    def cut_under_way(self) -> list[Step]:
        """A link dies with frames on their way to it, just after it got others."""
        pod, other = self._two_pods()
        targets = (self._target(),) if self.chance.random() < 0.8 else EVERYONE
        publishes = [
            Step(self.chance.choice([0.0, 0.02, 0.05, 0.1]), "publish", (other, targets, (), 1, "nowait"))
            for _ in range(5)
        ]
        return [
            Step(self._wait(), "weather", (pod, "resets")),
            *publishes,
            Step(self.chance.choice([0.01, 0.1]), "link", (pod, "cut")),
        ]

    def cut_while_asked(self) -> list[Step]:
        """A link dies while the broker has not confirmed yet that a target is heard; others go on."""
        socket, target = self._socket(), self._target()
        pod, other = self._two_pods()
        return [
            Step(self._wait(), "attach", (socket, pod, "bare", ())),
            Step(0.5, "weather", (pod, self.chance.choice(["late interest", "scattered cuts", "late nodes"]))),
            Step(0.0, "associate", (socket, target)),
            Step(self.chance.choice([0.0, 0.1]), "publish", (other, (target,), (), 1, "nowait")),
            Step(self.chance.choice([0.1, 0.5]), "publish", (pod, EVERYONE, (), 1, "nowait")),
            Step(self.chance.choice([0.5, 1.5]), "link", (pod, self.chance.choice(["cut", "half_open"]))),
        ]

    def cut_while_busy(self) -> list[Step]:
        """A link dies while its pod is behind with reading; what is published then is lost before anyone notices."""
        pod, other = self._two_pods()
        return [
            Step(self._wait(), "weather", (pod, "calm")),
            Step(0.0, "attach", (self._socket(), pod, "slow", ())),
            Step(0.1, "publish", (other, EVERYONE, (), 8, "nowait")),
            Step(0.01, "publish", (other, EVERYONE, (), 2, "nowait")),
            Step(0.01, "link", (pod, "cut")),
            Step(0.0, "publish", (other, EVERYONE, (), 1, "nowait")),
        ]

    def heard_one_by_one(self) -> list[Step]:
        """After a cut the channels are heard again one by one, or node by node, while others publish."""
        pod, other = self._two_pods()
        sockets = self.chance.sample(range(SOCKETS), 2)
        held = [(self._target(),), (self._target(),)]
        kind = self.chance.choice(["bare", "close", "drop_newest"])
        attach = [
            Step(self._wait(), "attach", (socket, pod, kind, target))
            for socket, target in zip(sockets, held, strict=True)
        ]
        publishes = [Step(0.05, "publish", (other, EVERYONE, (), 1, "nowait"))]
        for _ in range(7):
            targets = self.chance.choice([*held, *held, EVERYONE])
            wait_s = self.chance.choice([0.05, 0.1, 0.2])
            publishes.append(Step(wait_s, "publish", (other, targets, (), 1, "nowait")))
            if self.chance.random() < 0.15:  # while its event waits for the notices that come first
                leaver = self.chance.choice([0, 1])
                publishes.append(Step(0.02, "dissociate", (sockets[leaver], *held[leaver])))
        return [
            *attach,
            Step(0.5, "publish", (other, self.chance.choice(held), (), 1, "nowait")),
            Step(0.3, "weather", (pod, self.chance.choice(["scattered", "nodes", "scattered cuts", "late nodes"]))),
            Step(0.0, "link", (pod, "cut")),
            *publishes,
        ]

    def meet_the_notices(self) -> list[Step]:
        """A pod notifies slow listeners of an outage; one of them makes it associate and publish meanwhile."""
        pod, other = self._two_pods()
        meddler, *slow = self.chance.sample(range(SOCKETS), 3)
        targets = [(target,) for target in self.chance.sample(range(len(TARGETS) - 1), 2)]
        publishes = [
            Step(self.chance.choice([0.05, 0.2, 0.3]), "publish", (other, target, (), 1, "nowait"))
            for target in targets * 5
        ]
        return [
            Step(self._wait(), "weather", (pod, "calm")),
            Step(0.0, "attach", (meddler, pod, "meddler", ())),
            *[Step(0.0, "attach", (socket, pod, "slow", ())) for socket in slow],
            Step(1.5, "weather", (pod, self.chance.choice(["calm", "scattered", "late interest"]))),
            Step(0.0, "link", (pod, "cut")),
            *publishes,
        ]

    def long_away(self) -> list[Step]:
        """A pod's line is away for so long that others forget the pod, with unconfirmed events in its outbox."""
        pod, other = self._two_pods()
        target, socket = (self._target(),), self._socket()
        return [
            Step(self._wait(), "attach", (socket, other, "bare", target)),
            Step(0.5, "weather", (pod, "no answers")),
            Step(0.0, "publish", (pod, target, (), 3, "nowait")),
            Step(0.2, "weather", (pod, "no way in")),
            Step(0.0, "link", (pod, "cut")),
            Step(self.chance.choice([1.0, 7.0, 14.0]), "weather", (pod, "calm")),
            Step(self.chance.choice([0.0, 1.0]), "publish", (pod, target, (), 1, "nowait")),
        ]

    def come_back_to_a_copy(self) -> list[Step]:
        """A target is left and taken up again; then what its publisher had sent before comes again."""
        pod, other = self._two_pods()
        target, socket = (self._target(),), self._socket()
        return [
            Step(self._wait(), "attach", (socket, other, "bare", target)),
            Step(0.5, "publish", (pod, target, (), 1, "nowait")),
            Step(0.3, "weather", (pod, "no answers")),
            Step(0.0, "publish", (pod, target, (), 3, "nowait")),
            Step(0.1, "dissociate", (socket, *target)),
            Step(self.chance.choice([0.5, 1.3]), "associate", (socket, *target)),
            Step(self.chance.choice([0.0, 0.2]), "weather", (pod, "calm")),
            Step(0.0, "link", (pod, "cut")),
            Step(0.3, "publish", (pod, target, (), 1, "nowait")),
        ]

    def come_and_go_while_away(self) -> list[Step]:
        """Connections come and go while a pod has no link."""
        pod = self.chance.randrange(self.pods)
        steps = [Step(self._wait(), "weather", (pod, "no way in")), Step(0.0, "link", (pod, "cut"))]
        for _ in range(3):
            socket = self._socket()
            steps += [
                Step(0.1, "attach", (socket, pod, "bare", (self._target(),))),
                Step(0.1, self.chance.choice(["detach", "detach", "rest"]), (socket,)),
            ]
        return [*steps, Step(0.2, "weather", (pod, "calm"))]

    def fill_a_silent_line(self) -> list[Step]:
        """A pod publishes on while its link has fallen silent: its beats and questions must find room."""
        pod, other = self._two_pods()
        how = self.chance.choice(["half_open", "silence", "deafen"])
        return [
            Step(self._wait(), "link", (pod, how)),
            Step(0.0, "publish", (pod, EVERYONE, (), 14, "nowait")),
            Step(0.5, "publish", (other, EVERYONE, (), 1, "nowait")),
            Step(self.chance.choice([3.0, 12.0]), "publish", (pod, (self._target(),), (), 3, "await")),
        ]
