"""Which channels to ask for: churn cancels out, and nothing is forgotten when a link is replaced."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import random

import pytest
from backplane_core import Intersection, Target
from backplane_core._inbound.subscriptions import LINGER_S, LOOKS, MAX_LINGERING, Subscriptions
from backplane_core._local.registry import Registry
from backplane_core._protocol.routing import make_routing

SHARED = "backplane"


class Held(Registry):
    """A registry that holds what it is said to."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: set[Target] = set()
        self.looks = 0

    def holds(self, target: Target | Intersection) -> bool:
        self.looks += 1
        return target in self.targets


class Pod:
    """A registry, a broker, and the subscriptions between them."""

    def __init__(self, routing: str = "interest") -> None:
        self.routing = make_routing("interest" if routing == "interest" else "broadcast", SHARED, 1)
        self.registry = Held()
        self.held = self.registry.targets
        self.broker: set[str] = set()
        self.now = 0.0
        self.subscriptions = Subscriptions(self.routing, self.registry)

    def hold(self, target: Target) -> None:
        self.held.add(target)
        self.subscriptions.touch(target)

    def leave(self, target: Target) -> None:
        self.held.discard(target)
        self.subscriptions.touch(target)

    def plan(self, limit: int = 512) -> tuple[list[str], list[str]]:
        return self.subscriptions.plan(limit, self.now)

    def settle(self, limit: int = 512) -> None:
        """Ask for all that is to be asked for, when nothing has to linger any more."""
        self._ask(limit)
        self.now += LINGER_S
        self._ask(limit)

    def _ask(self, limit: int) -> None:
        subscribe, unsubscribe = self.plan(limit)
        while subscribe or unsubscribe or self.subscriptions.pending:
            assert max(len(subscribe), len(unsubscribe)) <= limit
            assert not self.broker & set(subscribe), "asked for again what is confirmed"
            assert self.broker >= set(unsubscribe), "left what was never asked for"
            assert len(set(subscribe) | set(unsubscribe)) == len(subscribe) + len(unsubscribe)
            self.broker.update(subscribe)
            self.subscriptions.confirm(subscribe)
            self.broker.difference_update(unsubscribe)
            subscribe, unsubscribe = self.plan(limit)

    @property
    def wanted(self) -> set[str]:
        return {SHARED, *[channel for target in self.held if (channel := self.routing.interest(target))]}


def test_the_base_channels_are_asked_for_first() -> None:
    pod = Pod()
    assert pod.plan() == ([SHARED], [])


def test_churn_between_two_batches_cancels_out() -> None:
    pod = Pod()
    pod.settle()
    for _ in range(5):
        pod.hold(Target.user("u1"))
        pod.leave(Target.user("u1"))
    assert pod.plan() == ([], [])
    pod.hold(Target.user("u1"))
    pod.settle()
    pod.leave(Target.user("u1"))
    pod.hold(Target.user("u1"))
    assert pod.plan() == ([], [])


@pytest.mark.parametrize("seed", range(20))
def test_after_any_churn_and_any_loss_of_links_exactly_what_is_held_is_heard(seed: int) -> None:
    chance = random.Random(seed)
    pod = Pod()
    rooms = [Target("room", str(number)) for number in range(12)]
    for _ in range(400):
        step = chance.random()
        if step < 0.4:
            pod.hold(chance.choice(rooms))
        elif step < 0.8:
            pod.leave(chance.choice(rooms))
        elif step < 0.97:
            pod.settle(chance.choice([1, 2, 512]))
            assert pod.broker == pod.wanted
            assert all(map(pod.subscriptions.confirmed, pod.wanted))
            assert pod.subscriptions.count == len(pod.wanted)
        else:
            if chance.random() < 0.5:
                pod.plan(2)  # under way when the link died
            pod.broker.clear()
            pod.subscriptions.lost()
            assert pod.subscriptions.count == 0
    pod.settle()
    assert pod.broker == pod.wanted
    for room in rooms:
        pod.leave(room)
    pod.settle()
    assert pod.broker == {SHARED}
    assert pod.subscriptions._targets == {SHARED: None}


def test_lost_asks_for_everything_again() -> None:
    pod = Pod()
    for number in range(5):
        pod.hold(Target.user(str(number)))
    pod.settle()
    pod.broker.clear()
    pod.subscriptions.lost()
    assert not any(map(pod.subscriptions.confirmed, pod.wanted))
    subscribe, unsubscribe = pod.plan()
    assert (set(subscribe), unsubscribe) == (pod.wanted, [])
    assert subscribe[0] == SHARED


def test_a_change_while_a_batch_is_under_way_is_in_the_next_one() -> None:
    pod = Pod()
    pod.settle()
    user = Target.user("u1")
    pod.hold(user)
    subscribe, _ = pod.plan()
    pod.leave(user)
    pod.subscriptions.confirm(subscribe)
    assert pod.plan() == ([], [])
    pod.now += LINGER_S
    assert pod.plan() == ([], subscribe)
    pod.hold(user)
    assert pod.plan() == (subscribe, [])


def test_under_broadcast_no_target_needs_a_channel() -> None:
    pod = Pod("broadcast")
    assert pod.subscriptions.touch(Target.user("u1")) is False
    pod.settle()
    assert pod.broker == {SHARED}


def test_a_targets_channel_is_for_its_connections_and_the_shared_one_for_all() -> None:
    pod = Pod()
    for conn_id in ("c1", "c2"):
        pod.registry.attach(conn_id, print, raw=True, on_gap=None, now=0.0)
    pod.registry.associate("c1", Target.user("u1"))
    pod.hold(Target.user("u1"))
    (channel,) = pod.wanted - {SHARED}
    assert [entry.conn_id for entry in pod.subscriptions.listeners(channel) or ()] == ["c1"]
    assert pod.subscriptions.listeners(SHARED) is None
    assert [entry.conn_id for entry in pod.subscriptions.everybody()] == ["c1", "c2"]


def test_whoever_is_back_within_a_moment_costs_no_command() -> None:
    pod = Pod()
    pod.hold(Target.user("u1"))
    pod.settle()
    (channel,) = pod.wanted - {SHARED}
    for planned_between in (True, False, True):
        pod.leave(Target.user("u1"))
        assert pod.plan() == ([], [])
        assert pod.subscriptions.next_look == pod.now + LINGER_S
        pod.now += LINGER_S * 0.9
        assert pod.plan() == ([], [])
        assert pod.subscriptions.confirmed(channel)
        pod.hold(Target.user("u1"))
        if planned_between:
            assert pod.plan() == ([], [])
        pod.now += LINGER_S
        assert pod.plan() == ([], [])
    assert pod.subscriptions.next_look is None


def test_who_is_not_back_is_left_when_its_moment_is_over_and_not_before() -> None:
    pod = Pod()
    for number in range(3):
        pod.hold(Target.user(str(number)))
    pod.settle()
    left: list[tuple[float, list[str]]] = []
    for number in range(3):
        pod.leave(Target.user(str(number)))
        assert pod.plan() == ([], [])
        pod.now += LINGER_S / 4
    while (leave_at := pod.subscriptions.next_look) is not None:
        pod.now = leave_at
        left.append((pod.now, pod.plan()[1]))
    began = LINGER_S  # settling took so long
    assert left == [(began + LINGER_S * (1 + number / 4), [f"{SHARED}:@user:{number}"]) for number in range(3)]


def test_only_so_many_channels_linger() -> None:
    pod = Pod()
    rooms = [Target("room", str(number)) for number in range(MAX_LINGERING + 700)]
    for room in rooms:
        pod.hold(room)
    pod.settle()
    for room in rooms:
        pod.leave(room)
    oldest: list[str] = []
    while True:
        subscribe, unsubscribe = pod.plan()
        assert (subscribe, len(unsubscribe) <= 512) == ([], True)
        oldest += unsubscribe
        if not unsubscribe and not pod.subscriptions.pending:
            break
    assert oldest == [f"{SHARED}:@room:{number}" for number in range(700)]


def test_a_lost_link_leaves_nothing_that_lingers() -> None:
    pod = Pod()
    pod.hold(Target.user("u1"))
    pod.settle()
    pod.leave(Target.user("u1"))
    assert pod.plan() == ([], [])
    pod.subscriptions.lost()
    assert pod.subscriptions.next_look is None
    assert pod.plan() == ([SHARED], [])


def test_one_plan_looks_at_a_bounded_number_of_channels() -> None:
    pod = Pod()
    pod.settle()
    for number in range(20 * LOOKS):
        pod.hold(Target("room", str(number)))
    pod.settle()
    for target in list(pod.held):
        pod.leave(target)
    plans = 0
    while pod.subscriptions.pending:
        pod.registry.looks, plans = 0, plans + 1
        assert pod.plan(2) == ([], [])
        assert 0 < pod.registry.looks <= 2 * LOOKS
    assert plans == 10


def test_what_was_never_asked_for_and_is_held_no_longer_leaves_nothing_behind() -> None:
    pod = Pod()
    pod.settle()
    pod.subscriptions.lost()
    for number in range(100):
        pod.hold(Target("room", str(number)))
        pod.leave(Target("room", str(number)))
    pod.plan()
    assert not pod.subscriptions.pending


def test_channels_are_asked_for_again_in_their_order() -> None:
    pod = Pod()
    rooms = [Target("room", str(number)) for number in range(5)]
    for room in rooms:
        pod.hold(room)
    pod.settle()
    pod.subscriptions.lost()
    assert pod.plan(3)[0] + pod.plan(3)[0] == [SHARED, *[f"{SHARED}:@room:{number}" for number in range(5)]]
