"""Runs that broke a promise once. Whoever finds another one adds what `python -m tests.product.model SEED` prints.

The whole script stands here, as a seed stands for it only until somebody changes how scripts are drawn.
"""

from __future__ import annotations

from typing import Final

from tests.product.model.plan import Plan, Step

__all__ = ["PLANS"]

PLANS: Final[list[Plan]] = [
    # closing while the link dies (before Python 3.13)
    Plan(
        seed=0,
        pods=3,
        routing="interest",
        lanes=1,
        outbox=10000,
        overflow="raise",
        beat_s=0.5,
        probe_s=2.0,
        copies=False,
        steps=(Step(0.0, "restart", (0, None)),),
    ),
    # a subscription that is never confirmed
    Plan(
        seed=2,
        pods=2,
        routing="broadcast",
        lanes=1,
        outbox=10000,
        overflow="drop_oldest",
        beat_s=1.0,
        probe_s=1.0,
        copies=False,
        steps=(
            Step(0.5, "weather", (0, "late interest")),
            Step(0.5, "publish", (0, (4,), (), 1, "nowait")),
            Step(1.5, "link", (0, "half_open")),
            Step(0.5, "publish", (0, (1,), (), 2, "nowait")),
            Step(1.0, "publish", (0, (1,), (1, 0), 1, "nowait")),
        ),
    ),
    # a beat that a dead link had on its way
    Plan(
        seed=13,
        pods=2,
        routing="interest",
        lanes=1,
        outbox=12,
        overflow="drop_newest",
        beat_s=1.0,
        probe_s=1.0,
        copies=False,
        steps=(
            Step(1.0, "weather", (0, "resets")),
            Step(0.0, "weather", (0, "stragglers")),
            Step(0.5, "broker_", ("restore",)),
        ),
    ),
    # a gap that began when a batch was read late
    Plan(
        seed=288,
        pods=3,
        routing="interest",
        lanes=1,
        outbox=10000,
        overflow="raise",
        beat_s=0.5,
        probe_s=2.0,
        copies=False,
        steps=(
            Step(0.5, "attach", (3, 2, "slow", ())),
            Step(1.0, "attach", (4, 1, "slow", ())),
            Step(1.0, "attach", (3, 0, "bare", ())),
            Step(0.5, "weather", (0, "late interest")),
            Step(0.0, "associate", (3, 1)),
            Step(0.0, "publish", (2, (1,), (), 1, "nowait")),
            Step(0.5, "publish", (0, (4,), (), 1, "nowait")),
            Step(0.5, "link", (0, "cut")),
            Step(0.0, "associate", (3, 2)),
            Step(0.5, "associate", (2, 0)),
            Step(0.05, "publish", (0, (2,), (), 3, "nowait")),
            Step(0.2, "associate", (1, 2)),
            Step(0.0, "weather", (0, "resets")),
            Step(0.02, "publish", (1, (1,), (), 1, "nowait")),
            Step(0.1, "publish", (1, (1,), (), 1, "nowait")),
            Step(0.01, "link", (0, "cut")),
        ),
    ),
    # an association that was under way
    Plan(
        seed=11,
        pods=3,
        routing="interest",
        lanes=1,
        outbox=10000,
        overflow="raise",
        beat_s=1.0,
        probe_s=2.0,
        copies=False,
        steps=(
            Step(0.0, "weather", (1, "closed doors")),
            Step(0.2, "publish", (1, (1,), (), 1, "nowait")),
            Step(0.0, "attach", (3, 1, "bare", ())),
            Step(0.5, "weather", (1, "late interest")),
            Step(0.0, "associate", (3, 1)),
            Step(0.1, "publish", (0, (1,), (), 1, "nowait")),
        ),
    ),
    # an association between a link's first frame and its being live
    Plan(
        seed=5093,
        pods=2,
        routing="interest",
        lanes=1,
        outbox=10000,
        overflow="raise",
        beat_s=1.0,
        probe_s=2.0,
        copies=False,
        steps=(
            Step(1.5, "link", (0, "half_open")),
            Step(0.5, "weather", (1, "late interest")),
            Step(0.1, "publish", (1, (4,), (), 1, "nowait")),
            Step(1.5, "link", (1, "half_open")),
            Step(0.0, "link", (1, "cut")),
            Step(0.5, "publish", (0, (0, 7), (), 3, "await")),
            Step(0.01, "publish", (0, (3,), (), 8, "await")),
            Step(0.0, "attach", (3, 1, "slow", (2, 3))),
        ),
    ),
    # a span that began at an association, later than the link fell deaf
    Plan(
        seed=3079,
        pods=2,
        routing="interest",
        lanes=1,
        outbox=3,
        overflow="drop_oldest",
        beat_s=1.0,
        probe_s=2.0,
        copies=False,
        steps=(
            Step(0.0, "attach", (0, 1, "drop_newest", (2, 3))),
            Step(0.05, "attach", (1, 1, "bare", (0, 3))),
            Step(1.0, "link", (1, "silence")),
            Step(0.5, "weather", (1, "late interest")),
            Step(0.1, "publish", (0, (0,), (), 1, "nowait")),
            Step(0.1, "publish", (1, (4,), (), 1, "nowait")),
            Step(0.5, "link", (1, "half_open")),
            Step(1.0, "publish", (1, (2,), (), 3, "nowait")),
            Step(1.0, "link", (0, "cut")),
            Step(0.2, "publish", (0, (3,), (), 3, "nowait")),
            Step(0.0, "link", (1, "silence")),
            Step(0.01, "publish", (1, (2,), (), 2, "await")),
            Step(0.0, "attach", (1, 0, "bare", ())),
        ),
    ),
    # a mark behind a hole that was dropped itself, unconfirmed
    Plan(
        seed=2038,
        pods=3,
        routing="broadcast",
        lanes=3,
        outbox=3,
        overflow="drop_newest",
        beat_s=0.5,
        probe_s=2.0,
        copies=False,
        steps=(
            Step(0.0, "attach", (0, 0, "bare", (3,))),
            Step(0.2, "attach", (1, 2, "close", (3,))),
            Step(0.0, "associate", (0, 0)),
            Step(0.0, "foreign", (2,)),
            Step(0.05, "broker_", ("cut",)),
            Step(0.05, "publish", (2, (0,), (), 3, "await")),
            Step(0.0, "publish", (2, (0,), (), 1, "await")),
            Step(1.0, "publish", (1, (2,), (), 2, "nowait")),
            Step(1.0, "associate", (3, 1)),
            Step(0.0, "broker_", ("restore",)),
            Step(1.5, "link", (2, "half_open")),
        ),
    ),
]
