"""Runs a plan, and cuts a failing one down to what it needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager

from attrs import evolve, field, frozen
from backplane_core import Gap
from backplane_core._inbound import hole_notifier, reader, slices
from backplane_core._link import subscriber
from backplane_core._runtime.logging import logger

from tests.product.model.ledger import Batch, Ledger
from tests.product.model.plan import Plan
from tests.product.model.promises import check
from tests.product.model.virtual_loop import VirtualLoop, run
from tests.product.model.world import World

__all__ = ["Outcome", "play", "shrink"]


@frozen
class Outcome:
    """What came of a run.

    Args:
        violations: Broken promises, for people.
        seen: How often what happened, so that a hunt can tell whether it met what it hunts for.
    """

    violations: list[str]
    seen: Counter[str] = field(factory=Counter[str])


@contextmanager
def fine_grained(plan: Plan) -> Generator[None]:
    """Have few connections and channels meet what otherwise thousands do: turns between sinks, several batches."""
    patches = (
        (slices, "SLICE_ENTRIES", 1),
        (hole_notifier, "FEW", plan.few),
        (reader, "SLICE_SINKS", 1),
        (subscriber, "SUBSCRIBE_BATCH", plan.batch),
    )
    before = [getattr(module, name) for module, name, _ in patches]
    try:
        for module, name, value in patches:
            setattr(module, name, value)
        yield
    finally:
        for (module, name, _), value in zip(patches, before, strict=True):
            setattr(module, name, value)


def play(plan: Plan, trace: Callable[[str], None] | None = None) -> Outcome:
    """Run a plan once."""
    loop = VirtualLoop()
    world = World(plan, loop, trace)
    disabled, logger.disabled = logger.disabled, True
    try:
        with fine_grained(plan):
            run(loop, world.play())
    except Exception as error:  # noqa: BLE001 -- whatever it is, the run did not hold
        return Outcome([*world.ledger.violations, f"the run raised {type(error).__name__}: {error}"])
    finally:
        logger.disabled = disabled
    return Outcome(check(world.ledger, plan), _seen(world.ledger))


def shrink(plan: Plan) -> Plan:
    """Return a failing plan without the steps that it does not need to fail: none of those left can be taken away."""
    steps = plan.steps
    size = len(steps)
    while size:
        start = 0
        while start < len(steps):
            fewer = (*steps[:start], *steps[start + size :])
            if play(evolve(plan, steps=fewer)).violations:
                steps = fewer
            else:
                start += size
        # Taking one away may have made another one idle.
        size = size // 2 if size > 1 or len(steps) == len(plan.steps) else 0
        if not size and len(steps) < len(plan.steps):
            return shrink(evolve(plan, steps=steps))
    return evolve(plan, steps=steps)


def _seen(ledger: Ledger) -> Counter[str]:
    seen: Counter[str] = Counter()
    for pod in ledger.pods:
        seen["pods"] += 1
        seen["links"] += len(pod.links)
        for link in pod.links:
            if link.deaf_at < link.ended:
                seen["deaf links"] += 1
            seen["batches cut short"] += (
                len(link.batches) > 0 and isinstance(link.batches[-1], Batch) and (link.batches[-1].done > link.ended)
            )
        for cause, count in pod.stats.dropped.items():
            seen[f"dropped: {cause}"] += count
        for cause, count in pod.stats.gaps.items():
            seen[f"gaps: {cause}"] += count
        for what in ("published", "delivered", "duplicates", "foreign", "overflowed"):
            seen[what] += getattr(pod.stats, what)
        seen["words of losses"] += len(
            [1 for record in pod.records if isinstance(record, Gap) and "faulty transport lost" in record.reason]
        )
    seen["ended as too slow"] += len([life for life in ledger.lives if life.too_slow])
    seen["refused"] += len([event for event in ledger.events if event.refused])
    return seen
