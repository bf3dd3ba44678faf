"""What the sentinels say, and what follows from it, sans-IO: `SentinelQuorum`."""

from __future__ import annotations

from typing import Final

from attrs import define, field, frozen

from backplane_redis._url import Address

__all__ = ["NEWS_S", "Answer", "SentinelQuorum"]

NEWS_S: Final = 2.0
"""The sentinels tell each other of a new master at once, and once more every 2 s: one of them may lag by so much."""


@frozen
class Answer:
    """What one sentinel knows.

    Args:
        asked_at: When it was asked; its word is at least as new. Of the monotonic clock.
        master: Where the service's master is; None: it knows no such service.
        epoch: The number of the failover that made it the master: of two that differ, the higher is newer.
    """

    asked_at: float
    master: Address | None
    epoch: int = -1


@define
class SentinelQuorum:
    """What each sentinel said last, weighed.

    A sentinel that was cut off may know an old master, so the newest word counts, and not the first. While no majority
    answers nothing is certain: then a link stays, and what it hears is not taken for all that there is.

    Args:
        count: How many sentinels there are.
        sure_until: Until when the link's node was surely the master that everyone uses, of the monotonic clock.
        master: The link's node; None before there is one.
    """

    count: int
    sure_until: float
    master: Address | None = None
    _last: dict[int, Answer] = field(factory=dict[int, Answer], init=False)
    # Since a majority makes a master, one that was heard is a fact, also when that sentinel is away by now.
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
        """The master by the newest word; None if no sentinel that answers knows the service."""
        known = [answer for answer in self._last.values() if answer.master is not None]
        return max(known, key=lambda answer: answer.epoch).master if known else None

    def link_to(self, master: Address) -> None:
        """Record that a link goes to this master from now on."""
        self.master = master
        for number, answer in self._last.items():
            self._weigh(number, answer)

    def record(self, number: int, answer: Answer | None) -> None:
        """Record what a sentinel answered; None: it does not answer any longer."""
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

    @property
    def replaced_by(self) -> Address | None:
        """Where the master is now, if it surely is no more where the link is.

        A lower epoch is old news of a sentinel that was cut off, unless most say so: then an operator made the service
        anew, and epochs count from 0 again.
        """
        newest = self.newest
        if newest is None or newest == self.master:
            return None
        elsewhere = [answer for answer in self._last.values() if answer.master not in {None, self.master}]
        newer = max(answer.epoch for answer in elsewhere) > self._epoch
        return newest if newer or len(elsewhere) >= self.majority else None
