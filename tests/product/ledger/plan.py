"""What a run does, from its seed alone: `draw`.

A plan is plain data, so that it can be printed, compared and cut down. What it leaves to chance later on (which target
an actor picks next) comes from `Random`s that are seeded with the plan's seed and the actor's name: an actor that is
left out changes nothing for the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, Final, Literal, TypeAlias, TypeVar

from attrs import evolve, field, frozen
from backplane_core import Target

from tests.product.ledger.buses import DURABLE, SINGLE, BusName
from tests.product.ledger.faults import KINDS, Fault
from tests.product.ledger.faults.line import Narrow
from tests.product.ledger.faults.refusals import Poison

__all__ = ["KEYS", "OFTEN_LEFT", "TARGETS", "Habit", "Plan", "PodPlan", "SenderKind", "SenderPlan", "draw"]

T = TypeVar("T")

SenderKind: TypeAlias = Literal["Publisher", "SyncPublisher"]
Habit: TypeAlias = Literal["sink", "queue", "fickle", "leaver"]
"""A connection stays, as a sink or a queue; or it comes and goes, as either; or it stays, and leaves its target again
and again for a little longer than its pod keeps the channel."""

TARGETS: Final = (
    *[Target.user(f"u{number}") for number in range(5)],
    *[Target("room", f"r{number}") for number in range(3)],
    Target.org("acme"),
)
"""What connections associate with; besides these, their own ids and everyone."""
OFTEN_LEFT: Final = TARGETS[:3]
"""Connections that stay hold none of these, so that whole pods leave them and take them up again."""
STAYING: Final[tuple[Habit, ...]] = ("sink", "queue")
FICKLE: Final[tuple[Habit, ...]] = ("fickle",)
LEAVER: Final[tuple[Habit, ...]] = ("leaver",)
BUSY: Final = (0, 0, 0, 0.02, 0.08)
"""The share of the loop's time that one slow sink of a pod may take: all pods of a run share one loop, and where that
can't keep up nothing ever settles."""
LATE_S: Final = (0, 0, 0.02, 0.05)
"""An answer takes up to 0.15 s, and the least patient pod waits 0.25 s for one: later still, and no link lives. Over a
log, where a beat is heard up to three answers after it was sent, pods are twice as patient then."""
MANY: Final = 700
"""More channels than one batch of subscriptions carries."""
AHEAD_S: Final = (0, 0, 0, -90, 0.3, 60)
"""Any two of these are less apart than the 300 s that signed frames are good for."""
SHORT_TTL_S: Final = (2.0, 6.0)
RESEND_S: Final = 60.0
"""What a log forgets is sent again if it was confirmed within that time, so this is more than any outage takes here."""
KEYS: Final = ("k" * 32, "j" * 32)
COMMON: Final[Mapping[BusName, int]] = {
    "redis": 8,
    "valkey": 2,
    "nats": 9,
    "redis-cluster": 3,
    "nats-cluster": 3,
    "sentinel": 1,
    "redis-resp2": 3,
    "redis-streams": 4,
    "nats-jetstream": 4,
}
"""How often a seed draws each, if nobody says which. Those that are not here are played when they are asked for, by a
test of their own: another name here would change what every seed is."""


@frozen(kw_only=True)
class PodPlan:
    """One pod.

    Args:
        options: Its own.
        habits: Of its connections, one each.
        filler: How many more targets one of its connections holds: so many more channels under `interest`.
        rate_per_s: Of what it publishes.
        slow_s: How long its slower sinks take for an event.
        slow_gap_s: How long its sinks take to be notified of a gap.
        late_s: How late its line is, in each direction, give or take a half.
        ahead_s: By how much its wall clock is wrong.
    """

    options: Mapping[str, Any]
    habits: Sequence[Habit]
    filler: int
    rate_per_s: int
    slow_s: float
    slow_gap_s: float
    late_s: float
    ahead_s: float = 0


@frozen(kw_only=True)
class SenderPlan:
    """One process that only publishes: here a thread, or a task.

    Args:
        kind: Its class.
        line: The pod whose line it shares; None: it has one of its own that nobody hurts.
        options: Its own.
        rate_per_s: Of what it publishes.
    """

    kind: SenderKind
    line: int | None
    options: Mapping[str, Any]
    rate_per_s: int


@frozen(kw_only=True)
class Plan:
    """One run.

    Args:
        seed: What it was drawn from.
        bus: The broker.
        options: Of the whole fleet.
        padding: Bytes that the largest events are padded with.
        pods: Two to four.
        senders: None to three.
        faults: What goes wrong.
        run_s: How long it lasts at least.
        last_round: Whether everyone publishes to every target once more when all is healed.
    """

    seed: int
    bus: BusName
    options: Mapping[str, Any]
    padding: int
    pods: Sequence[PodPlan]
    senders: Sequence[SenderPlan]
    faults: Sequence[Fault] = field()
    run_s: float
    last_round: bool

    def random(self, name: str) -> Random:
        """Return an actor's own source of chance."""
        return Random(f"{self.seed} {name}")

    def smaller(self) -> Iterator[Plan]:
        """Yield plans with one thing less each: a fault, a sender, a connection."""
        for number in range(len(self.faults) if len(self.faults) > 1 else 0):
            yield evolve(self, faults=_without(self.faults, number))
        for number in range(len(self.senders)):
            yield evolve(self, senders=_without(self.senders, number))
        for index, pod in enumerate(self.pods):
            for number in range(len(pod.habits)):
                fewer = evolve(pod, habits=_without(pod.habits, number))
                yield evolve(self, pods=[*self.pods[:index], fewer, *self.pods[index + 1 :]])


def _without(items: Sequence[T], number: int) -> list[T]:
    return [*items[:number], *items[number + 1 :]]


def draw(seed: int, bus: BusName | None = None) -> Plan:
    """Return the plan of a seed; over a broker of one's choice, the rest stays as like as it can."""
    random = Random(seed)
    names, weights = zip(*COMMON.items(), strict=True)
    drawn: BusName = random.choices(names, weights=weights)[0]
    over = bus or drawn
    routing: dict[str, Any] = random.choice(({"routing": "broadcast"}, {"routing": "interest"}))
    if routing["routing"] == "broadcast" and random.random() < 0.4:
        routing["lanes"] = random.choice((2, 5))
    if over in DURABLE:  # where every pod reads the whole of it
        routing = {"lanes": 8 if routing["routing"] == "interest" else 1, **routing, "routing": "broadcast"}
    fleet: dict[str, Any] = {
        **routing,
        "probe_interval_s": random.choice((0.5, 0.5, 0.8)),
        "beat_s": random.choice((0.2, 0.5, 1.0)),
        "connect_timeout_s": random.choice((1.0, 3.0)),
    }
    if random.random() < 0.3:
        fleet["signing_keys"] = KEYS
    if random.random() < 0.3:
        fleet["stale_after_s"] = random.choice((0, 0.3))
    if random.random() < 0.1:
        fleet["origin_ttl_s"] = random.choice(SHORT_TTL_S)
    if over in DURABLE:
        fleet["resend_s"] = RESEND_S
    padding = random.choice((0, 0, 100, 1_000, 4_000))
    tiny = random.random() < 0.35
    pods = [_pod(random, padding, tiny=tiny, interest=fleet["routing"] == "interest") for _ in range(_pods(random))]
    pods[0] = evolve(pods[0], rate_per_s=max(20, pods[0].rate_per_s))
    senders = [_sender(random, over, len(pods), tiny=tiny) for _ in range(random.choice((0, 1, 1, 2, 3)))]
    rate_per_s = sum([pod.rate_per_s for pod in pods]) + sum([sender.rate_per_s for sender in senders])
    pods = [evolve(pod, slow_s=round(random.choice(BUSY) / rate_per_s, 6)) for pod in pods]
    if "origin_ttl_s" not in fleet:
        pods = [evolve(pod, ahead_s=random.choice(AHEAD_S)) for pod in pods]
    leave = any("leaver" in pod.habits for pod in pods)
    run_s = round(random.uniform(2.0, 3.5) if leave else random.uniform(1.0, 2.0), 2)
    faults = _faults(random, over, pods, run_s)
    roomy = {fault.pod for fault in faults if isinstance(fault, Poison)}
    if over in DURABLE and any(pod.late_s == max(LATE_S) for pod in pods):
        fleet["probe_interval_s"] *= 2
    return Plan(
        seed=seed,
        bus=over,
        options=fleet,
        padding=padding,
        pods=[evolve(pod, options={}) if number in roomy else pod for number, pod in enumerate(pods)],
        senders=senders,
        faults=faults,
        run_s=run_s,
        last_round=random.random() < 0.5,
    )


def _pods(random: Random) -> int:
    return random.choice((2, 2, 3, 4))


def _pod(random: Random, padding: int, *, tiny: bool, interest: bool) -> PodPlan:
    options = _outbox(random) if tiny else {}
    if padding and random.random() < 0.25:
        options["max_event_bytes"] = random.choice((padding // 2, padding + 200))
    return PodPlan(
        options=options,
        habits=_habits(random),
        filler=random.choice((0, 0, 40, MANY)) if interest else 0,
        rate_per_s=random.choice((0, 20, 60, 150)),
        slow_s=0,
        slow_gap_s=random.choice((0, 0, 0.004)),
        late_s=random.choice(LATE_S),
    )


def _habits(random: Random) -> list[Habit]:
    habits: list[Habit] = [random.choice(STAYING) for _ in range(random.randint(1, 4))]
    habits += FICKLE * random.randint(0, 4)
    habits += LEAVER * random.choice((0, 0, len(OFTEN_LEFT)))
    return habits


def _sender(random: Random, bus: BusName, pods: int, *, tiny: bool) -> SenderPlan:
    line = random.randrange(pods) if bus in SINGLE and random.random() < 0.6 else None
    return SenderPlan(
        kind=random.choice(("Publisher", "SyncPublisher")),
        line=line,
        options=_outbox(random) if tiny else {},
        rate_per_s=random.choice((20, 60, 150)),
    )


def _outbox(random: Random) -> dict[str, Any]:
    options: dict[str, Any] = {"outbox_overflow": random.choice(("drop_newest", "drop_oldest", "raise"))}
    if random.random() < 0.5:
        options["outbox_max_messages"] = random.choice((1, 5, 40))
    if random.random() < 0.5:
        options["outbox_max_bytes"] = random.choice((1_024, 4_096, 20_000))
    return options


def _faults(random: Random, bus: BusName, pods: Sequence[PodPlan], run_s: float) -> list[Fault]:
    kinds = [kind for kind in KINDS if bus in kind.buses]
    chosen = [random.choice(kinds) for _ in range(random.choice((1, 2, 2, 3, 4)))]
    faults = [kind.draw(random, at_s=round(random.uniform(0.1, run_s), 2), pods=len(pods)) for kind in chosen]
    # Only where there is much to ask for again does a narrow line show more than any other.
    for number, pod in enumerate(pods):
        if pod.filler == MANY and bus in Narrow.buses:
            faults.append(Narrow(at_s=0.5, for_s=round(random.uniform(0.5, 2), 2), pod=number))
    return faults
