"""Which channels to ask for: churn cancels out, and nothing is forgotten when a link is replaced."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import random

import pytest
from backplane_core import Target
from backplane_core._routing import make_routing
from backplane_core._subscriptions import Subscriptions

SHARED = "backplane"


class Pod:
    """A registry, a broker, and the subscriptions between them."""

    def __init__(self, routing: str = "interest") -> None:
        self.routing = make_routing("interest" if routing == "interest" else "broadcast", SHARED, 1)
        self.held: set[Target] = set()
        self.broker: set[str] = set()
        self.subscriptions = Subscriptions(self.routing, self.routing.base, self.held.__contains__)

    def hold(self, target: Target) -> None:
        self.held.add(target)
        self.subscriptions.touch(target)

    def leave(self, target: Target) -> None:
        self.held.discard(target)
        self.subscriptions.touch(target)

    def settle(self, limit: int = 512) -> None:
        while self.subscriptions.pending:
            subscribe, unsubscribe = self.subscriptions.plan(limit)
            assert len(subscribe) + len(unsubscribe) <= limit
            assert not self.broker & set(subscribe), "asked for again what is confirmed"
            assert self.broker >= set(unsubscribe), "left what was never asked for"
            assert len(set(subscribe) | set(unsubscribe)) == len(subscribe) + len(unsubscribe)
            self.broker.update(subscribe)
            self.subscriptions.confirm(subscribe)
            self.broker.difference_update(unsubscribe)

    @property
    def wanted(self) -> set[str]:
        return {SHARED, *[channel for target in self.held if (channel := self.routing.interest(target))]}


def test_the_base_channels_are_asked_for_first() -> None:
    pod = Pod()
    assert pod.subscriptions.plan(512) == ([SHARED], [])


def test_churn_between_two_batches_cancels_out() -> None:
    pod = Pod()
    pod.settle()
    for _ in range(5):
        pod.hold(Target.user("u1"))
        pod.leave(Target.user("u1"))
    assert pod.subscriptions.plan(512) == ([], [])
    pod.hold(Target.user("u1"))
    pod.settle()
    pod.leave(Target.user("u1"))
    pod.hold(Target.user("u1"))
    assert pod.subscriptions.plan(512) == ([], [])


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
                pod.subscriptions.plan(2)  # under way when the link died
            pod.broker.clear()
            pod.subscriptions.lost()
            assert pod.subscriptions.count == 0
    pod.settle()
    assert pod.broker == pod.wanted
    for room in rooms:
        pod.leave(room)
    pod.settle()
    assert pod.broker == {SHARED}
    assert pod.subscriptions._targets == {}


def test_lost_asks_for_everything_again() -> None:
    pod = Pod()
    for number in range(5):
        pod.hold(Target.user(str(number)))
    pod.settle()
    pod.broker.clear()
    pod.subscriptions.lost()
    assert not any(map(pod.subscriptions.confirmed, pod.wanted))
    subscribe, unsubscribe = pod.subscriptions.plan(512)
    assert (set(subscribe), unsubscribe) == (pod.wanted, [])
    assert subscribe[0] == SHARED


def test_a_change_while_a_batch_is_under_way_is_in_the_next_one() -> None:
    pod = Pod()
    pod.settle()
    user = Target.user("u1")
    pod.hold(user)
    subscribe, _ = pod.subscriptions.plan(512)
    pod.leave(user)
    pod.subscriptions.confirm(subscribe)
    assert pod.subscriptions.plan(512) == ([], subscribe)
    pod.hold(user)
    assert pod.subscriptions.plan(512) == (subscribe, [])


def test_under_broadcast_no_target_needs_a_channel() -> None:
    pod = Pod("broadcast")
    assert pod.subscriptions.touch(Target.user("u1")) is False
    pod.settle()
    assert pod.broker == {SHARED}


def test_a_channels_target_is_known_while_it_is_held() -> None:
    pod = Pod()
    pod.hold(Target.user("u1"))
    (channel,) = pod.wanted - {SHARED}
    assert pod.subscriptions.target(channel) == Target.user("u1")
    assert pod.subscriptions.target(SHARED) is None
