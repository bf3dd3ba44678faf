"""The model can fail: with one mechanism of core switched off, a few hundred runs break a promise, and say which."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

import pytest
from attrs import evolve, frozen
from backplane_core import Frame, Gap, Intersection, Lost, Target
from backplane_core._inbound.connection_notifier import ConnectionNotifier
from backplane_core._inbound.coverage import Coverage
from backplane_core._inbound.gap_notifier import GapNotifier
from backplane_core._inbound.outage_notifier import OutageNotifier
from backplane_core._inbound.receiver import Receiver
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._link.subscriber import LinkSubscriber
from backplane_core._local.connection_host import ConnectionHost
from backplane_core._local.entry import Entry
from backplane_core._local.registry import Registry
from backplane_core._outbound.losses import Losses
from backplane_core._outbound.outbox import Outbox
from backplane_core._outbound.sender import Sender
from backplane_core._pod.events import PodEvents
from backplane_core._protocol.exclusion import Exclusion
from backplane_core._protocol.frame import Head, decode_exclusion, decode_targets
from backplane_core._protocol.heartbeat import Heartbeat
from backplane_core._protocol.peers import Peers
from backplane_core._protocol.sequence import DUPLICATE, Tracker

from tests.product.model.old_faults import OLD_FAULTS, OldFault, who_refuses_everything_is_ready
from tests.product.model.run import play, shrink
from tests.product.model.script import draw, draw_far_apart

SEEDS = 600
Patch = pytest.MonkeyPatch


@frozen
class Mutation:
    """A mechanism that is switched off, a word of what then breaks, and the run to begin with, to save time."""

    name: str
    apply: Callable[[Patch], None]
    breaks: str
    first: int = 0


def nothing(*_: object, **__: object) -> None:
    """Takes the place of what is switched off."""


def no_dedupe(patch: Patch) -> None:
    accept = Tracker.accept

    def accept_all(self: Tracker, channel: str, origin: str, seq: int, prev: int | None) -> int:
        return max(0, accept(self, channel, origin, seq, prev))

    assert DUPLICATE < 0
    patch.setattr(Tracker, "accept", accept_all)


def no_resend(patch: Patch) -> None:
    def lost(self: Outbox, *, resend: bool) -> list[Frame]:
        self._land()
        return []

    patch.setattr(Outbox, "lost", lost)


def resend_behind(patch: Patch) -> None:
    def lost(self: Outbox, *, resend: bool) -> list[Frame]:
        self._waiting.extend(self._in_flight)
        self._in_flight = []
        return []

    patch.setattr(Outbox, "lost", lost)


def no_cut(patch: Patch) -> None:
    patch.setattr(Tracker, "cut", nothing)


def gap_told_late(patch: Patch) -> None:
    notify = ConnectionNotifier.notify

    def late(self: ConnectionNotifier, entries: Iterable[Entry], gap: Gap) -> bool:
        asyncio.get_running_loop().call_later(0.2, notify, self, list(entries), gap)
        return True

    patch.setattr(ConnectionNotifier, "notify", late)


def no_gap(patch: Patch) -> None:
    async def nobody(*_: object) -> bool:
        return True

    patch.setattr(OutageNotifier, "_notify", nobody)


def gap_begins_when_noticed(patch: Patch) -> None:
    lost = Receiver.lost

    def noticed(self: Receiver, reason: str, doubted_since: float | None) -> None:
        self._watermark.at = self._watermark.heard_at
        lost(self, reason, doubted_since)

    patch.setattr(Receiver, "lost", noticed)


def gap_forgets_associations(patch: Patch) -> None:
    patch.setattr(Coverage, "ask", nothing)


def dropped_numbers_come_again(patch: Patch) -> None:
    make_room = Sender._make_room

    def give_back(self: Sender, frame: Frame) -> None:
        make_room(self, frame)
        if self._overflow == "drop_newest":
            self.frames.numbering.number(frame[0]).last -= 1

    patch.setattr(Sender, "_make_room", give_back)


def no_beats(patch: Patch) -> None:
    patch.setattr(PodEvents, "beat", nothing)


def no_beats_for_torn_channels(patch: Patch) -> None:
    drop = Losses.dropped

    def forget(self: Losses, frames: Iterable[Frame], cause: str, *, in_publish: bool = False) -> None:
        drop(self, frames, cause, in_publish=in_publish)
        self.tails.clear()

    patch.setattr(Losses, "dropped", forget)


def old_links_speak_late(patch: Patch) -> None:
    """What a dying link's reader had not processed is processed when the next link is live."""
    kept: dict[Receiver, list[Frame | Lost]] = {}
    take, live = Receiver.take, PodEvents.live

    async def keep(self: Receiver, batch: Sequence[Frame | Lost]) -> None:
        kept[self] = list(batch)
        await take(self, batch)

    async def late(self: PodEvents, reason: str) -> None:
        await live(self, reason)
        old = kept.pop(self._receiver, None)
        if old:
            task = asyncio.create_task(take(self._receiver, old))
            running.add(task)
            task.add_done_callback(running.discard)

    running: set[asyncio.Task[None]] = set()
    patch.setattr(Receiver, "take", keep)
    patch.setattr(PodEvents, "live", late)


def holes_are_not_told(patch: Patch) -> None:
    patch.setattr(GapNotifier, "report_hole", nothing)


def deaf_links_are_kept(patch: Patch) -> None:
    def wait(*_: object, **__: object) -> str:
        return "wait"

    patch.setattr(Heartbeat, "tick", wait)


def closing_forgets_what_is_left(patch: Patch) -> None:
    patch.setattr(Sender, "close", nothing)


def excluded_are_served(patch: Patch) -> None:
    def nobody(_: Head) -> None:
        return None

    patch.setattr("backplane_core._inbound.reader.decode_exclusion", nobody)


def unions_are_their_first(patch: Patch) -> None:
    def first(head: Head) -> tuple[Target | Intersection, ...]:
        return decode_targets(head)[:1]

    patch.setattr("backplane_core._inbound.reader.decode_targets", first)


def intersections_are_their_first(patch: Patch) -> None:
    def first(self: Registry, intersection: Intersection) -> Sequence[Entry]:
        return self.entries(intersection.targets[0])

    patch.setattr(Registry, "_common", first)


def excluded_targets_are_served(patch: Patch) -> None:
    def ids_alone(head: Head) -> Exclusion | None:
        found = decode_exclusion(head)
        return None if found is None else Exclusion(found.ids)

    patch.setattr("backplane_core._inbound.reader.decode_exclusion", ids_alone)


def gaps_come_as_they_may(patch: Patch) -> None:
    patch.setattr("backplane_core._inbound.connection_notifier.BETWEEN_GAPS_S", 0.0)


def copies_of_beats_are_another_pod(patch: Patch) -> None:
    patch.setattr(Peers, "link_lost", nothing)


def subscriptions_have_no_deadline(patch: Patch) -> None:
    async def patient(_: LinkSubscriber, asking: Awaitable[None]) -> None:
        await asking

    patch.setattr(LinkSubscriber, "_with_timeout", patient)


def interest_is_forgotten(patch: Patch) -> None:
    """After a loss, only the base channels are asked for again."""

    def lost(self: Subscriptions) -> None:
        self._confirmed.clear()
        self._unconfirmed.clear()
        self._again = [channel for channel, target in self._targets.items() if target is None]

    patch.setattr(Subscriptions, "lost", lost)


def overflow_begins_when_it_is_noticed(patch: Patch) -> None:
    count = ConnectionHost.count_overflow

    def now(self: ConnectionHost, conn_id: str, reason: str, _since: float) -> Gap:
        return count(self, conn_id, reason, self._system.monotonic())

    patch.setattr(ConnectionHost, "count_overflow", now)


MUTATIONS = [
    Mutation("no dedupe", no_dedupe, "times to"),
    Mutation("no re-send", no_resend, "did not send"),
    Mutation("re-send behind what waits", resend_behind, "missing|behind"),
    Mutation("no cut of the tracker", no_cut, "should have told of the holes"),
    Mutation("gap told late", gap_told_late, "before it was told"),
    Mutation("no gap after an outage", no_gap, "missing"),
    Mutation("gap begins when the loss is noticed", gap_begins_when_noticed, "missing", first=140),
    Mutation("gap forgets associations under way", gap_forgets_associations, "missing", first=200),
    Mutation("a dropped event's number is used again", dropped_numbers_come_again, "gave the number"),
    Mutation("no beats", no_beats, "no link is deaf|no tail is unmarked"),
    Mutation("no beats behind a hole", no_beats_for_torn_channels, "was not told|no mark"),
    Mutation("an old link speaks late", old_links_speak_late, "times to|behind", first=355),
    Mutation("holes are not told", holes_are_not_told, "should have told of the holes"),
    Mutation("deaf links are kept", deaf_links_are_kept, "no link is deaf|not within"),
    Mutation("what is left at close is not counted", closing_forgets_what_is_left, "did not send"),
    Mutation("excluded connections are served", excluded_are_served, "is none of"),
    Mutation("a union is its first target", unions_are_their_first, "missing"),
    Mutation("an intersection is its first target", intersections_are_their_first, "got|returned|is none of"),
    Mutation("excluded targets are served", excluded_targets_are_served, "is none of"),
    Mutation("gaps come as they may", gaps_come_as_they_may, "was told of gaps at"),
    Mutation("copies of beats are another pod", copies_of_beats_are_another_pod, "collisions"),
    Mutation("subscriptions have no deadline", subscriptions_have_no_deadline, "no link is deaf|not within"),
    Mutation("an overflow's gap begins when it is noticed", overflow_begins_when_it_is_noticed, "outside its gaps"),
    Mutation("interest is forgotten with the link", interest_is_forgotten, "missing"),
]


@pytest.mark.only_full
@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])
def test_the_model_finds_what_is_switched_off(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation.apply(monkeypatch)
    found: list[str] = []
    for seed in range(mutation.first, mutation.first + SEEDS):
        found = play(draw(seed)).violations
        if any(word in text for text in found for word in mutation.breaks.split("|")):
            return
    pytest.fail(f"{SEEDS} runs did not notice; the last violations: {found}")


@pytest.mark.only_full
@pytest.mark.parametrize("fault", OLD_FAULTS, ids=[fault.name for fault in OLD_FAULTS])
def test_the_model_finds_an_old_fault_that_is_put_back(fault: OldFault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.apply(monkeypatch)
    found: list[str] = []
    for plan in map(draw, range(fault.first, fault.first + SEEDS)):
        if not fault.is_met_by(plan):
            continue
        found = play(plan).violations
        if any(word in text for text in found for word in fault.breaks):
            return
    pytest.fail(f"{SEEDS} runs did not notice; the last violations: {found}")


def test_the_model_finds_a_pod_that_refuses_everything_and_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    who_refuses_everything_is_ready(monkeypatch)
    found = [text for plan in draw_far_apart(30) for text in play(plan).violations]
    assert any("says that it is not ready" in text for text in found)
    assert any("is missing" in text for text in found)


def test_a_failing_script_is_cut_down_to_steps_that_are_all_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    no_gap(monkeypatch)
    plan = next(plan for plan in map(draw, range(SEEDS)) if play(plan).violations)
    small = shrink(plan)
    assert play(small).violations
    assert len(small.steps) < len(plan.steps)
    for number in range(len(small.steps)):
        fewer = evolve(small, steps=(*small.steps[:number], *small.steps[number + 1 :]))
        assert not play(fewer).violations
