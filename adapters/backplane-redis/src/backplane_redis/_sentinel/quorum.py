"""What the sentinels say, and what follows from it, sans-IO: `SentinelQuorum`."""

from __future__ import annotations

from typing import Final

from attrs import define, field, frozen

from backplane_redis._url import Address

__all__ = ["NEWS_S", "Answer", "SentinelQuorum"]

NEWS_S: Final = 2.0
"""Sentinels announce a new master to each other at once, and again every 2 s: one of them may lag by so much."""


@frozen
class Answer:
    """What one sentinel knows.

    Args:
        asked_at: `time.monotonic()` when it was asked, in seconds; its answer is at least as new.
        master: Where the service's master is; None: it knows no such service.
        epoch: The number of the failover that made it the master: of two answers that differ, the higher is newer.
    """

    asked_at: float
    master: Address | None
    epoch: int = -1


@define
class SentinelQuorum:
    """What each sentinel answered last, and what follows: who is master, and until when that is certain.

    A sentinel that was cut off may name an old master, so the newest answer counts, no matter which gives it. And a
    majority makes a master: one that a majority named is a fact, also when these sentinels are away by now. While no
    majority answers nothing new is certain: a link stays where it is, and what it hears is not taken for all that there
    is.

    Example, with three sentinels and a link to A: all name A at 10.0, with epoch 4. So A was certain to be the master
    until 8.0 (`NEWS_S` before). At 11.0 A is cut off, and at 12.0 a failover makes B the master, with epoch 5. The
    first sentinel that answers `B, 5` moves the link, though two others may still say `A, 4`. The gap begins at
    `sure_until`.

    Args:
        count: How many sentinels there are.
        sure_until: Until when the link's node was certain to be the master for every pod; `time.monotonic()`, seconds.
        master: The link's node; None before there is one.
    """

    count: int
    sure_until: float
    master: Address | None = None
    _last: dict[int, Answer] = field(factory=dict[int, Answer], init=False)
    # When each sentinel named the link's node last.
    _confirmed: dict[int, float] = field(factory=dict[int, float], init=False)
    _epoch: int = field(default=-1, init=False)

    @property
    def majority(self) -> int:
        """How many are more than half."""
        return self.count // 2 + 1

    @property
    def answers(self) -> int:
        """How many sentinels answered when last asked."""
        return len(self._last)

    @property
    def newest(self) -> Address | None:
        """The master by the newest answer; None if no sentinel that answers knows the service."""
        known = [answer for answer in self._last.values() if answer.master is not None]
        return max(known, key=lambda answer: answer.epoch).master if known else None

    @property
    def replaced_by(self) -> Address | None:
        """The current master's address, once it is certain that this link's node was replaced.

        A lower epoch is old news of a sentinel that was cut off, unless most say so: then an operator set the service
        up again, and epochs count from 0 once more.
        """
        newest = self.newest
        if newest is None or newest == self.master:
            return None
        elsewhere = [answer for answer in self._last.values() if answer.master not in {None, self.master}]
        is_newer = max(answer.epoch for answer in elsewhere) > self._epoch
        return newest if is_newer or len(elsewhere) >= self.majority else None

    def link_to(self, master: Address) -> None:
        """Record which node the link goes to."""
        self.master = master
        for number, answer in self._last.items():
            self._weigh(number, answer)

    def record(self, number: int, answer: Answer | None) -> None:
        """Record what a sentinel answered; None: it no longer answers."""
        if answer is None:
            self._last.pop(number, None)
            return
        self._last[number] = answer
        self._weigh(number, answer)

    def _weigh(self, number: int, answer: Answer) -> None:
        if self.master is None or answer.master != self.master:
            return
        self._epoch = max(self._epoch, answer.epoch)
        self._confirmed[number] = answer.asked_at
        if len(self._confirmed) >= self.majority:
            confirmed_at = sorted(self._confirmed.values(), reverse=True)[self.majority - 1]
            self.sure_until = max(self.sure_until, confirmed_at - NEWS_S)
