"""Who gets what: thousands of random steps against a model that is too simple to be wrong."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from attrs import define, field
from backplane_core import Attachment, InMemoryBackplane, Target
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

T = TypeVar("T")

CONNECTIONS = [f"c{number}" for number in range(5)]
# Connection targets are among them: one connection may listen to another's.
TARGETS = [
    Target.user("u1"),
    Target.user("u2"),
    Target.org("u1"),
    Target("chat_room", "u1"),
    *[Target.connection(conn_id) for conn_id in (*CONNECTIONS[:3], "nobody")],
]
conn_ids = st.sampled_from(CONNECTIONS)
single = st.sampled_from([*TARGETS, Target.everyone()])


def as_it_is(union: list[Target]) -> Any:
    return union


def first(union: list[Target]) -> Any:
    return union[0]


WAYS: list[Callable[[list[Target]], Any]] = [as_it_is, iter, tuple, first]


@define
class Sink:
    """A sink, what it does with events, and what it was handed."""

    mood: str
    got: list[Any] = field(factory=list[Any])

    def __call__(self, event: Any) -> object:
        self.got.append(event)
        if self.mood == "raise":
            raise ValueError("s3cret")
        return {"refuse": False, "falsy": 0, "take": None, "true": True}[self.mood]


@define
class Model:
    """One connection, as the promises have it."""

    sink: Sink
    number: int
    targets: set[Target] = field(factory=set[Target])


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.backplane = InMemoryBackplane()
        self.model: dict[str, Model] = {}
        self.attachments: list[tuple[str, int, Attachment]] = []
        self.events = 0
        self.unknown = 0
        self.delivered = 0

    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    @rule(conn_id=conn_ids, mood=st.sampled_from(["take", "true", "falsy", "refuse", "raise"]), raw=st.booleans())
    def attach(self, conn_id: str, mood: str, raw: bool) -> None:  # noqa: FBT001 -- drawn
        sink = Sink(mood)
        number = len(self.attachments)
        attachment = self.run(self.backplane.attach(conn_id, sink, raw=raw))
        self.attachments.append((conn_id, number, attachment))
        before = self.model.get(conn_id)
        self.model[conn_id] = Model(sink, number, set() if before is None else before.targets)

    @rule(conn_id=conn_ids)
    def detach(self, conn_id: str) -> None:
        self.run(self.backplane.detach(conn_id))
        self.model.pop(conn_id, None)

    @rule(which=st.integers(0, 1_000))
    def detach_by_some_attachment_of_old_or_now(self, which: int) -> None:
        if self.attachments:
            conn_id, number, attachment = self.attachments[which % len(self.attachments)]
            self.run(attachment.detach())
            if conn_id in self.model and self.model[conn_id].number == number:
                del self.model[conn_id]

    @rule(conn_id=conn_ids, to=single)
    def associate(self, conn_id: str, to: Target) -> None:
        assert self.run(self.backplane.associate(conn_id, to)) is (conn_id in self.model)
        if conn_id in self.model:
            self.model[conn_id].targets.add(to)
        else:
            self.unknown += 1

    @rule(conn_id=conn_ids, to=single)
    def dissociate(self, conn_id: str, to: Target) -> None:
        self.run(self.backplane.dissociate(conn_id, to))
        if conn_id in self.model:
            self.model[conn_id].targets.discard(to)

    def members(self, target: Target) -> set[str]:
        return {
            conn_id
            for conn_id, model in self.model.items()
            if target == Target.everyone() or target in model.targets or target == Target.connection(conn_id)
        }

    @rule(
        union=st.lists(single, min_size=1, max_size=4),
        exclude=st.lists(st.sampled_from([*CONNECTIONS, "stranger"]), max_size=2),
        way=st.sampled_from(WAYS),
    )
    def publish(self, union: list[Target], exclude: list[str], way: Callable[[list[Target]], Any]) -> None:
        self.events += 1
        wanted = union[:1] if isinstance(way(union), Target) else union
        expected = set[str]().union(*map(self.members, wanted)) - set(exclude)
        had = {conn_id: len(model.sink.got) for conn_id, model in self.model.items()}
        count = self.run(self.backplane.publish(way(union), {"n": self.events}, exclude=exclude))
        taken = {conn_id for conn_id in expected if self.model[conn_id].sink.mood in {"take", "true", "falsy"}}
        assert count == len(taken)
        self.delivered += count
        for conn_id, model in self.model.items():
            new = model.sink.got[had[conn_id] :]
            assert len(new) == (conn_id in expected)
            assert all(event in ({"n": self.events}, b'{"n":%d}' % self.events) for event in new)

    @rule()
    def nothing(self) -> None:
        """Machines that do something else in each step draw fewer kinds of runs."""

    @invariant()
    def the_books_agree(self) -> None:
        backplane = self.backplane
        assert backplane.connection_count == len(self.model)
        for conn_id in CONNECTIONS:
            implied = {Target.everyone(), Target.connection(conn_id)}
            known = self.model[conn_id].targets if conn_id in self.model else set[Target]()
            assert backplane.targets_of(conn_id) == known - implied
        for target in (*TARGETS, Target.everyone()):
            assert backplane.connections_of(target) == self.members(target)
        stats = backplane.stats()
        assert (stats.published, stats.delivered, stats.unknown_connections) == (
            self.events,
            self.delivered,
            self.unknown,
        )
        distinct = {
            target
            for model in self.model.values()
            for target in model.targets - {Target.everyone(), *map(Target.connection, self.model)}
        }
        assert (stats.connections, stats.targets) == (len(self.model), len(distinct))

    def teardown(self) -> None:
        for conn_id in list(self.model):
            self.run(self.backplane.detach(conn_id))
        registry = self.backplane._registry
        assert registry.connections == {}
        assert registry.holders == {}
        assert self.backplane.stats().targets == 0
        self.run(self.backplane.aclose())
        self.loop.close()


@pytest.mark.thorough
def test_ten_thousand_random_steps_agree_with_the_model() -> None:
    steps = 0

    class Counting(Machine):
        @invariant()
        def count(self) -> None:
            nonlocal steps
            steps += 1

    checked = settings(
        max_examples=250,
        stateful_step_count=50,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    Counting.TestCase.settings = checked
    Counting.TestCase("runTest").debug()
    assert steps >= 10_000
