"""Follows the orders of other pods, and answers what came of them: `RollCalls`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Final

from attrs import frozen

from backplane_core._fleet.orders import Orders
from backplane_core._fleet.tallies import Tallies
from backplane_core._local.registry import Registry
from backplane_core._outbound.sender import Sender
from backplane_core._protocol.fleet_frame import LEVEL, RECEIPT, Answer, Question, Saying, encode_saying, target_of
from backplane_core._protocol.frame import decode_terms
from backplane_core._protocol.routing import Routing
from backplane_core.errors import TargetDeniedError
from backplane_core.target import Intersection, Target

__all__ = ["RollCalls"]

GRACE_S: Final = 0.25
"""How long a roll call waits for the order, or the event, that it overtook on another node: a broker passes on within
milliseconds, and the pod that asks waits a second."""

MAX_WAITING: Final = 1_024
"""Roll calls that wait at once. One that comes on top is answered without waiting."""


@frozen
class Due:
    """An order that is to be followed.

    Args:
        origin: Of the pod that gave it.
        order: It, or the question for a receipt.
        is_called: Whether this is the roll call, which is answered.
    """

    origin: str
    order: Question
    is_called: bool


class RollCalls:
    """Follows orders in their place among the events, and answers the roll call that follows them.

    Args:
        registry: Knows the connections.
        orders: Follows an order.
        routing: Knows which targets have a channel of their own.
        sender: Takes the answers.
    """

    def __init__(self, registry: Registry, orders: Orders, routing: Routing, sender: Sender) -> None:
        self._registry = registry
        self._orders = orders
        self._routing = routing
        self._sender = sender
        self._tallies = Tallies()
        self._due: deque[Due] = deque()
        self._waiting: dict[tuple[str, int], tuple[Due, asyncio.TimerHandle]] = {}
        self._confirming: set[asyncio.Task[None]] = set()

    def ordered(self, origin: str, order: Question) -> None:
        """Take an order on the channel of its targets; `work` follows it."""
        self._due.append(Due(origin, order, is_called=False))

    def called(self, origin: str, question: Question) -> None:
        """Take the roll call of an order or an event.

        Raises:
            EnvelopeError: It is about something that is no target.
        """
        decode_terms(question.targets)
        due = Due(origin, question, is_called=True)
        key = (origin, question.id)
        if self._is_behind(due) and len(self._waiting) < MAX_WAITING and key not in self._waiting:
            timer = asyncio.get_running_loop().call_later(GRACE_S, self._give_up, key)
            self._waiting[key] = (due, timer)
        else:
            self._due.append(due)

    def took(self, origin: str, number: int, count: int) -> None:
        """Record that an event which is to be receipted reached so many connections of this pod."""
        tally = self._tallies.of(origin, number)
        tally.count += count
        tally.is_event_seen = True
        self._look_again(origin, number)

    def work(self) -> Iterator[None]:
        """Follow what is due; it yields where the loop may turn."""
        while self._due:
            due = self._due.popleft()
            yield from self._follow(due)
            if due.is_called:
                self._answer(due)
            else:
                self._look_again(due.origin, due.order.id)

    def _follow(self, due: Due) -> Iterator[None]:
        order = due.order
        if order.what == RECEIPT:
            return
        tally = self._tallies.of(due.origin, order.id)
        undone = [target for target in decode_terms(order.targets) if target.wire not in tally.done]
        tally.done.update([target.wire for target in undone])  # before: a roll call must not do it twice
        tally.count += yield from self._orders.follow(order, undone)

    def _is_behind(self, due: Due) -> bool:
        """Return whether what this is about may still come, on the channel of a target that this pod holds."""
        tally = self._tallies.of(due.origin, due.order.id)
        if due.order.what == RECEIPT:
            targets = decode_terms(due.order.targets)
            return not tally.is_event_seen and self._has_channel(targets) and any(map(self._registry.holds, targets))
        return any(
            target.wire not in tally.done and self._has_channel((target,)) and self._registry.holds(target)
            for target in decode_terms(due.order.targets)
        )

    def _has_channel(self, targets: tuple[Target | Intersection, ...]) -> bool:
        return self._routing.channel(targets) != self._routing.shared

    def _look_again(self, origin: str, number: int) -> None:
        waiting = self._waiting.get((origin, number))
        if waiting is not None and not self._is_behind(waiting[0]):
            waiting[1].cancel()
            del self._waiting[origin, number]
            self._due.append(waiting[0])

    def _give_up(self, key: tuple[str, int]) -> None:
        """Do what a roll call is about although it did not come by itself."""
        self._due.append(self._waiting.pop(key)[0])
        for _ in self.work():
            pass  # few connections of one target: no turn of the loop is needed

    def _answer(self, due: Due) -> None:
        tally = self._tallies.of(due.origin, due.order.id)
        answer = Answer(due.origin, due.order.id, count=tally.count)
        target = target_of(due.order)
        if due.order.what == "associate" and tally.count and target is not None and len(self._confirming) < MAX_WAITING:
            task = asyncio.create_task(self._answer_confirmed(answer, target), name="backplane-order")
            self._confirming.add(task)
            task.add_done_callback(self._confirming.discard)
        else:
            self._say(answer)

    async def _answer_confirmed(self, answer: Answer, target: Target) -> None:
        """Answer once events of the target arrive."""
        try:
            await self._registry.subscriber.confirm((target,))
        except TargetDeniedError:
            answer.no, answer.count = "denied", 0
        self._say(answer)

    def _say(self, answer: Answer) -> None:
        self._sender.say(encode_saying(Saying(LEVEL, answer=answer)))

    def close(self) -> None:
        """Give up what is waited for."""
        for _, timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
        self._due.clear()
        for task in self._confirming:
            task.cancel()

    async def aclose(self) -> None:
        """Close, and return once no task is left."""
        self.close()
        if self._confirming:
            await asyncio.wait(self._confirming)
