"""Faults that this code had once, put back by a patch: what each was, and by which word the model finds it."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import pytest
from attrs import frozen
from backplane_core import EnvelopeError, Target, TransportError
from backplane_core._inbound.admission import Admission
from backplane_core._inbound.channel_subscriber import ChannelSubscriber
from backplane_core._inbound.coverage import Coverage
from backplane_core._inbound.gap_notifier import GapNotifier
from backplane_core._inbound.refusals import Refusals
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._link.patience import Patience
from backplane_core._local.entry import Entry, Span
from backplane_core._local.event_queue import EventQueue
from backplane_core._local.registry import Registry
from backplane_core._outbound.outbox import Outbox
from backplane_core._outbound.sender import Sender
from backplane_core._protocol.frame import Head
from backplane_core._protocol.heard_numbers import HeardNumbers
from backplane_core._protocol.heartbeat import Heartbeat
from backplane_core._protocol.sequence import Tracker
from backplane_core._runtime.reporter import Reporter

from tests.product.model.plan import Plan

__all__ = ["OLD_FAULTS", "OldFault", "who_refuses_everything_is_ready"]

Patch = pytest.MonkeyPatch


@frozen
class OldFault:
    """A fault that is put back.

    Args:
        name: What was wrong, in a sentence.
        apply: Puts it back.
        breaks: Words of the violations by which it is found, any of them.
        weather: Only runs in which a line is of such a kind are looked at; empty: all are.
        first: The run to begin with: one before the first that finds it today, to save time.
    """

    name: str
    apply: Callable[[Patch], None]
    breaks: Sequence[str]
    weather: str = ""
    first: int = 0

    def is_met_by(self, plan: Plan) -> bool:
        """Return whether a run may meet it."""
        return not self.weather or any(step.do == "weather" and self.weather in step.args[1] for step in plan.steps)


def a_frame_proves_all_channels_of_its_call(patch: Patch) -> None:
    heard_at, owes = Coverage.heard_at, Coverage.owes

    def proves_all(self: Coverage, channel: str, now: float) -> float | None:
        for other in list(self._requests):
            self._heard.setdefault(other, now)
        moment = heard_at(self, channel, now)
        if moment is not None:
            self._requests.clear()
        return moment

    def once(self: Coverage, covered: Span | None, heard_at: float, now: float) -> Span | None:
        is_told = covered is not None and covered.since <= (self.since or 0.0)
        return None if is_told else owes(self, covered, heard_at, now)

    patch.setattr(Coverage, "heard_at", proves_all)
    patch.setattr(Coverage, "owes", once)


def only_the_first_frame_of_a_link_waits(patch: Patch) -> None:
    notify_before, lost = GapNotifier.notify_before, GapNotifier.lost
    begun: set[GapNotifier] = set()

    async def first(self: GapNotifier, channel: str, entries: Sequence[Entry]) -> None:
        if self not in begun:
            begun.add(self)
            await notify_before(self, channel, entries)

    def again(self: GapNotifier, *args: Any) -> None:
        begun.discard(self)
        lost(self, *args)

    patch.setattr(GapNotifier, "notify_before", first)
    patch.setattr(GapNotifier, "lost", again)


def who_associates_during_notices_is_owed_nothing(patch: Patch) -> None:
    report, confirm = GapNotifier.report_settled, ChannelSubscriber.confirm
    notifying: list[Any] = []

    async def reports(self: GapNotifier, *args: Any) -> None:
        notifying.append(self)
        try:
            await report(self, *args)
        finally:
            notifying.pop()

    async def confirms(self: ChannelSubscriber, targets: Sequence[Target]) -> bool:
        return False if notifying else await confirm(self, targets)

    patch.setattr(GapNotifier, "report_settled", reports)
    patch.setattr(ChannelSubscriber, "confirm", confirms)


def beats_wait_for_room(patch: Patch) -> None:
    beat = Sender.beat

    def where_there_is_room(self: Sender, now: float) -> bool:
        return self.outbox.has_room(8 * 1024) and beat(self, now)

    patch.setattr(Sender, "beat", where_there_is_room)


def marks_wait_for_room(patch: Patch) -> None:
    beat = Sender.beat

    def one_by_one(self: Sender, now: float) -> bool:
        tails = self._losses.tails
        kept = dict(tails)
        tails.clear()
        passed = beat(self, now)
        tails.update(kept)
        tails.pop(self._shared, None)
        while tails and self.outbox.has_room(300):
            channel = next(iter(tails))
            frame, _ = self.frames.beat(channel)
            self.outbox.offer(frame)
            self.frames.numbering.take(channel)
            del tails[channel]
        return passed and not tails

    patch.setattr(Sender, "beat", one_by_one)


def everything_is_sent_again_whatever_its_age(patch: Patch) -> None:
    def none(_: Outbox) -> list[Any]:
        return []

    patch.setattr(Outbox, "drop_sent", none)


def a_channel_that_is_left_forgets_its_numbers(patch: Patch) -> None:
    def forget(self: Tracker, channel: str, now: float) -> None:
        for last in list(self._channels.get(channel, {}).values()):
            self.numbers._order.remove(last)
            self.numbers._forget(last)

    patch.setattr(Tracker, "leave", forget)


def a_full_memory_forgets_all(patch: Patch) -> None:
    forgot: set[int] = set()
    accept = Tracker.accept

    def forget_all(self: HeardNumbers, size: int) -> None:
        for last in list(self._order):
            self._forget(last)
        self._order.clear()
        forgot.add(id(self))

    def claim(self: Tracker, channel: str, origin: str, seq: int, prev: int | None) -> int:
        known = origin in self._channels.get(channel, {})
        found = accept(self, channel, origin, seq, prev)
        return 1 if not known and not found and prev is not None and id(self.numbers) in forgot else found

    patch.setattr(HeardNumbers, "_make_room", forget_all)
    patch.setattr(Tracker, "accept", claim)


def time_of_reading_counts_against_the_broker(patch: Patch) -> None:
    tick = Heartbeat.tick

    def counts(self: Heartbeat, *args: Any, **options: Any) -> Any:
        return tick(self, *args, **{**options, "is_held_up": False})

    patch.setattr(Heartbeat, "tick", counts)


def what_is_too_large_is_refused_without_a_word(patch: Patch) -> None:
    def refuse(self: Admission, channel: str, head: Head, reason: str) -> None:
        raise EnvelopeError(reason)

    patch.setattr(Admission, "_refuse", refuse)


def channels_stay_while_the_broker_is_away(patch: Patch) -> None:
    touch = Subscriptions.touch

    def keeps(self: Subscriptions, target: Target) -> bool:
        asks = touch(self, target)
        channel = self._routing.interest(target)
        if channel is not None:
            self._targets[channel] = target
            self._touched[channel] = None
        return asks

    patch.setattr(Subscriptions, "touch", keeps)


def a_draining_queue_takes_more(patch: Patch) -> None:
    def end(self: EventQueue) -> None:
        self.is_open = False
        self.waiter.wake()

    patch.setattr(EventQueue, "end", end)


def observers_hear_of_drops_amid_the_publish(patch: Patch) -> None:
    patch.setattr(Reporter, "hold_dropped", Reporter.report_dropped)


def who_refuses_everything_is_ready(patch: Patch) -> None:
    def as_before(*_: object, **__: object) -> str:
        return "as before"

    patch.setattr(Refusals, "judge", as_before)


def who_left_the_target_still_gets_the_event(patch: Patch) -> None:
    def keep(_: Registry, entries: Sequence[Entry], *__: object) -> Sequence[Entry]:
        return entries

    patch.setattr(Registry, "keep", keep)


def an_id_that_is_taken_over_keeps_its_targets(patch: Patch) -> None:
    def attach_queue(self: Registry, queue: Any, now: float, *_: object, **__: object) -> Any:
        return self.attach(queue.conn_id, queue.accept, raw=False, on_gap=queue.mark, now=now, queue=queue)

    patch.setattr(Registry, "attach_queue", attach_queue)


def a_late_loop_is_a_broker_that_confirms_no_subscription(patch: Patch) -> None:
    async def wait(self: Patience, answer: Awaitable[Any], what: str = "") -> Any:
        try:
            async with asyncio.timeout(self.timeout_s):
                return await answer
        except TimeoutError:
            raise TransportError(f"the broker {what}") from None

    patch.setattr(Patience, "wait", wait)


OLD_FAULTS: Final = [
    OldFault(
        "the first frame of a link ends the gap of channels that are not heard yet",
        a_frame_proves_all_channels_of_its_call,
        ["is missing"],
    ),
    OldFault(
        "the first frame of one node ends the gap of channels of the others",
        a_frame_proves_all_channels_of_its_call,
        ["is missing"],
        weather="nodes",
    ),
    OldFault(
        "one outage is two gaps, and the second comes behind newer events",
        only_the_first_frame_of_a_link_waits,
        ["before it was told of the gap"],
        first=110,
    ),
    OldFault(
        "who associates while notices go out is owed nothing",
        who_associates_during_notices_is_owed_nothing,
        ["is missing"],
        first=60,
    ),
    OldFault("a small outbox has no room for a beat", beats_wait_for_room, ["deaf"]),
    OldFault("a small outbox has no room for a mark", marks_wait_for_room, ["no mark", "unmarked"]),
    OldFault(
        "what is older than others remember is sent again",
        everything_is_sent_again_whatever_its_age,
        ["times to"],
        first=95,
    ),
    OldFault(
        "copies are news on a channel that was left and is heard again",
        a_channel_that_is_left_forgets_its_numbers,
        ["times to"],
        first=120,
    ),
    OldFault(
        "frames that are read late on a channel that was left claim a hole",
        a_channel_that_is_left_forgets_its_numbers,
        ["should have told of the holes", "although nothing was lost"],
        first=40,
    ),
    OldFault(
        "a reader that is busy is a broker that confirms nothing",
        time_of_reading_counts_against_the_broker,
        ["although nothing was"],
    ),
    OldFault("a full memory of numbers forgets all", a_full_memory_forgets_all, ["although nothing was lost"]),
    OldFault(
        "an event that is too large for a pod is missed in silence",
        what_is_too_large_is_refused_without_a_word,
        ["is missing", "should have told of the holes"],
        first=75,
    ),
    OldFault(
        "the channels of connections that came and went during an outage are kept",
        channels_stay_while_the_broker_is_away,
        ["keeps channels"],
    ),
    OldFault(
        "traffic keeps connections of a draining pod open", a_draining_queue_takes_more, ["has not ended"], first=125
    ),
    OldFault(
        "an observer that publishes turns the order round", observers_hear_of_drops_amid_the_publish, ["behind event"]
    ),
    OldFault(
        "who leaves a target while notices go out still gets its event",
        who_left_the_target_still_gets_the_event,
        ["is none of"],
        first=960,
    ),
    OldFault(
        "another user's socket gets what the id's last one had",
        an_id_that_is_taken_over_keeps_its_targets,
        ["is none of"],
    ),
    OldFault(
        "a loop that was held is a broker that confirms no subscription",
        a_late_loop_is_a_broker_that_confirms_no_subscription,
        ["although nothing was"],
        first=4_400,
    ),
]
"""Each was shown by a program against a real broker, or found by this model."""
