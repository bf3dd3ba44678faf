"""The ledger finds faults that once were: with one of them put back into core, a few seeds break a promise."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count
from typing import Any

import pytest
from attrs import evolve, frozen
from backplane_core import EventSink, Frame, Gap, Target
from backplane_core._inbound.connection_notifier import ConnectionNotifier
from backplane_core._inbound.coverage import Coverage
from backplane_core._inbound.cursors import Cursors
from backplane_core._inbound.gap_notifier import GapNotifier
from backplane_core._inbound.outage_notifier import OutageNotifier
from backplane_core._inbound.receiver import Receiver
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._local.delivery import Delivery
from backplane_core._local.entry import Entry
from backplane_core._local.registry import Registry
from backplane_core._outbound.losses import Losses
from backplane_core._outbound.outbox import Outbox
from backplane_core._protocol.frame import Head, decode_target
from backplane_core._protocol.refused_frames import RefusedFrames
from backplane_core._protocol.sequence import Tracker

from tests.product.ledger.buses import BusName, start_bus
from tests.product.ledger.campaign import describe
from tests.product.ledger.faults.clock import ClockSet
from tests.product.ledger.faults.line import Cut, HalfOpen
from tests.product.ledger.faults.refusals import Denied
from tests.product.ledger.plan import KEYS, OFTEN_LEFT, Plan, draw
from tests.product.ledger.verdict import What
from tests.product.ledger.world import play

Patch = pytest.MonkeyPatch


@frozen
class Mistake:
    """A fault of core that is put back, and where it shows.

    Args:
        name: What is wrong with it.
        apply: Puts it back.
        breaks: What the ledger says then.
        bus: Over which broker.
        plan: Draws the plans that it should show in; most are as any other.
    """

    name: str
    apply: Callable[[Patch], None]
    breaks: What
    bus: BusName
    plan: Callable[[int, BusName], Plan] = draw


def nothing(*_: object, **__: object) -> None:
    """Takes the place of what is left out."""


def gap_ends_with_the_first_frame(patch: Patch) -> None:
    """The first frame of a new link counts as proof that all channels are heard."""
    heard_at = Coverage.heard_at

    def all_heard_at(self: Coverage, channel: str, now: float) -> float | None:
        if self._everybody:
            for asked in self._requests:
                self._heard.setdefault(asked, now)
        return heard_at(self, channel, now)

    def heard(self: Coverage, channels: Iterable[str], now: float) -> None:
        for channel in channels:
            request = self._requests.pop(channel, None)
            if self._everybody or (request is not None and request.owed):
                self._heard.setdefault(channel, min(self._heard.values(), default=now))

    patch.setattr(Coverage, "heard_at", all_heard_at)
    patch.setattr(Coverage, "heard", heard)
    patch.setattr("backplane_core._inbound.outage_notifier.SETTLE_S", 0.0)


def numbers_are_forgotten_with_the_channel(patch: Patch) -> None:
    leave = Tracker.leave

    def forget(self: Tracker, channel: str, now: float) -> None:
        leave(self, channel, now)
        for last in list(self._channels.get(channel, {}).values()):
            self.numbers._order.remove(last)
            self.numbers._forget(last)

    patch.setattr(Tracker, "leave", forget)


def copies_are_delivered(patch: Patch) -> None:
    accept = Tracker.accept

    def accept_all(self: Tracker, channel: str, origin: str, seq: int, prev: int | None) -> int:
        return max(0, accept(self, channel, origin, seq, prev))

    patch.setattr(Tracker, "accept", accept_all)


def nothing_is_sent_again(patch: Patch) -> None:
    def lost(self: Outbox, *, resend: bool) -> list[Frame]:
        del resend
        self._land()
        return []

    patch.setattr(Outbox, "lost", lost)


def some_deliveries_are_put_off(patch: Patch) -> None:
    deliver = Delivery.deliver
    turns = count()

    def put_off(self: Delivery, entries: Sequence[Entry], *event: Any) -> int:
        if next(turns) % 50:
            return deliver(self, entries, *event)
        asyncio.get_running_loop().call_later(0.05, partial(deliver, self, entries, *event))
        return len(entries)

    patch.setattr(Delivery, "deliver", put_off)


def nobody_is_notified_of_an_outage(patch: Patch) -> None:
    async def nobody(*_: object) -> bool:
        return True

    patch.setattr(OutageNotifier, "_notify", nobody)


def gaps_begin_when_the_loss_is_noticed(patch: Patch) -> None:
    lost = Receiver.lost

    def noticed(self: Receiver, reason: str, doubted_since: float | None) -> None:
        self._watermark.at = self._watermark.heard_at
        lost(self, reason, doubted_since)

    patch.setattr(Receiver, "lost", noticed)


def gaps_come_late(patch: Patch) -> None:
    notify = ConnectionNotifier.notify

    def late(self: ConnectionNotifier, entries: Iterable[Entry], gap: Gap) -> bool:
        asyncio.get_running_loop().call_later(0.2, notify, self, list(entries), gap)
        return True

    patch.setattr(ConnectionNotifier, "notify", late)


def a_full_outbox_counts_nothing(patch: Patch) -> None:
    def drop(self: Losses, frames: Iterable[Frame], cause: str, *, in_publish: bool = False) -> None:
        del self, cause, in_publish
        list(frames)

    patch.setattr(Losses, "dropped", drop)
    patch.setattr(GapNotifier, "report_hole", nothing)


def only_base_channels_are_asked_for_again(patch: Patch) -> None:
    def lost(self: Subscriptions) -> None:
        self._confirmed.clear()
        self._unconfirmed.clear()
        self._again = [channel for channel, target in self._targets.items() if target is None]

    patch.setattr(Subscriptions, "lost", lost)


def excluded_connections_are_served(patch: Patch) -> None:
    def nobody(_: Head) -> None:
        return None

    patch.setattr("backplane_core._inbound.reader.decode_exclusion", nobody)


def a_union_is_its_first_target(patch: Patch) -> None:
    def first(head: Head) -> tuple[Target, ...]:
        return (decode_target(bytes(head.target)),)

    patch.setattr("backplane_core._inbound.reader.decode_targets", first)


def an_id_that_is_taken_over_keeps_its_targets(patch: Patch) -> None:
    def attach_queue(self: Registry, queue: EventSink, now: float, *_: object, **__: object) -> object:
        return self.attach(queue.conn_id, queue.accept, raw=False, on_gap=queue.mark, now=now, queue=queue)

    patch.setattr(Registry, "attach_queue", attach_queue)


def refused_frames_are_forgotten(patch: Patch) -> None:
    patch.setattr(RefusedFrames, "note", nothing)


def what_was_denied_is_owed_no_gap(patch: Patch) -> None:
    patch.setattr(Receiver, "owe", nothing)


def a_log_is_read_from_its_end(patch: Patch) -> None:
    def from_the_end(self: Cursors, channels: Iterable[str]) -> dict[str, str]:
        del self, channels
        return {}

    patch.setattr(Cursors, "after", from_the_end)


def a_log_is_taken_for_pub_sub(patch: Patch) -> None:
    def no_channel(self: Cursors, channels: Iterable[str]) -> bool:
        del self, channels
        return False

    patch.setattr(Cursors, "cover", no_channel)


def denied_to_a_receiver(seed: int, bus: BusName) -> Plan:
    """One pod may not hear some of its targets for a while."""
    plan = draw(seed, bus)
    options = {name: value for name, value in plan.options.items() if name != "lanes"}
    pods = [evolve(pod, options={}, rate_per_s=60) for pod in plan.pods]
    denied = Denied(at_s=0.4, for_s=1.5, pod=0, whole=False)
    return evolve(plan, options={**options, "routing": "interest"}, pods=pods, senders=[], faults=[denied], run_s=3)


def wrong_clocks_one_after_the_other(seed: int, bus: BusName) -> Plan:
    """A pod is refused by the others; meanwhile the link of one of these is cut."""
    plan = draw(seed, bus)
    options = {name: value for name, value in plan.options.items() if name != "origin_ttl_s"}
    pods = [evolve(pod, options={}, rate_per_s=60) for pod in plan.pods]
    faults = [ClockSet(at_s=0.5, for_s=1.2, pod=0, by_s=2_000), Cut(at_s=1.5, for_s=0.1, pod=1)]
    return evolve(plan, options={**options, "signing_keys": KEYS}, pods=pods, senders=[], faults=faults, run_s=3)


def leavers_of_a_sender_that_loses_confirmations(seed: int, bus: BusName) -> Plan:
    """Whole pods leave a channel for longer than they keep it, while what went there waits to be sent again."""
    plan = draw(seed, bus)
    options = {name: value for name, value in plan.options.items() if name not in {"lanes", "origin_ttl_s"}}
    sender = evolve(plan.pods[0], options={}, habits=["sink"], filler=0, rate_per_s=150)
    leavers = evolve(sender, habits=["leaver"] * len(OFTEN_LEFT), rate_per_s=0)
    return evolve(
        plan,
        options={**options, "routing": "interest"},
        pods=[sender, leavers],
        senders=[],
        faults=[HalfOpen(at_s=0.6, for_s=0.3, pod=0, way="down"), HalfOpen(at_s=3, for_s=0.3, pod=0, way="down")],
        run_s=5,
    )


MISTAKES = [
    Mistake("a gap ends with the first frame", gap_ends_with_the_first_frame, "loss", "nats"),
    Mistake(
        "numbers go with their channel",
        numbers_are_forgotten_with_the_channel,
        "copy",
        "redis",
        leavers_of_a_sender_that_loses_confirmations,
    ),
    Mistake("copies are delivered", copies_are_delivered, "copy", "redis"),
    Mistake("nothing is sent again", nothing_is_sent_again, "loss", "nats"),
    Mistake("some deliveries are put off", some_deliveries_are_put_off, "inversion", "redis"),
    Mistake("nobody is notified", nobody_is_notified_of_an_outage, "loss", "redis"),
    Mistake("a gap begins too late", gaps_begin_when_the_loss_is_noticed, "loss", "redis"),
    Mistake("gaps come late", gaps_come_late, "late gap", "nats"),
    Mistake("nothing is counted", a_full_outbox_counts_nothing, "loss", "redis"),
    Mistake("targets are not asked for again", only_base_channels_are_asked_for_again, "loss", "redis"),
    Mistake("excluded connections are served", excluded_connections_are_served, "alien", "redis"),
    Mistake("a union is its first target", a_union_is_its_first_target, "loss", "nats"),
    Mistake(
        "what was refused is forgotten", refused_frames_are_forgotten, "loss", "redis", wrong_clocks_one_after_the_other
    ),
    Mistake("what was denied is owed no gap", what_was_denied_is_owed_no_gap, "loss", "redis", denied_to_a_receiver),
    Mistake("a taken id keeps its targets", an_id_that_is_taken_over_keeps_its_targets, "alien", "redis"),
    Mistake("a log is read from its end", a_log_is_read_from_its_end, "loss", "redis-streams"),
    Mistake("a log is taken for pub/sub", a_log_is_taken_for_pub_sub, "needless gap", "redis-streams"),
]
SEEDS = 40
BY_DEFAULT = (
    "copies are delivered",
    "nobody is notified",
    "excluded connections are served",
    "a log is taken for pub/sub",
)
"""Those that nearly every seed shows; the others, which take minutes, run with `--long`."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    long = metafunc.config.getoption("--long")
    if "mistake" not in metafunc.fixturenames:
        return
    chosen = [mistake for mistake in MISTAKES if long or mistake.name in BY_DEFAULT]
    metafunc.parametrize("mistake", chosen, ids=[mistake.name for mistake in chosen])


@pytest.mark.only_full
@pytest.mark.timeout(900)
def test_the_ledger_finds_an_old_fault(
    mistake: Mistake, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    mistake.apply(monkeypatch)
    report = ""
    with start_bus(mistake.bus) as bus:
        for seed in range(SEEDS):
            outcome = asyncio.run(play(mistake.plan(seed, mistake.bus), bus))
            if any(problem.startswith(f"{mistake.breaks}: ") for problem in outcome.problems):
                record_property("runs until it showed", seed + 1)
                return
            report = describe(outcome) or report
    pytest.fail(f"{SEEDS} runs did not notice; the last report: {report[-2_000:]}")


def test_what_is_put_back_still_has_its_place() -> None:
    for mistake in MISTAKES:
        with pytest.MonkeyPatch.context() as patch:
            mistake.apply(patch)
