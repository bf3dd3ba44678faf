"""What the sentinels say, and what follows from it: `Sentinel` asks one of them, `Views` weighs all, sans-IO."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import redis.exceptions as redis_errors
from attrs import define, field, frozen
from backplane_core import AuthenticationError, TransportError
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from backplane_redis._connection import LinkConnection
from backplane_redis._url import Address
from backplane_redis.transport import opened

__all__ = ["ANSWER_S", "NEWS_S", "Answer", "Sentinel", "Views"]

ANSWER_S: Final = 1.0
"""How long a sentinel may take: it holds nothing but its own memory, so it answers in a millisecond or not at all."""

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
class Sentinel:
    """One sentinel; it is connected to when it is asked, and stays so.

    Args:
        make: Makes a connection to it.
        where: Its address, for people.
    """

    make: Callable[[], LinkConnection] = field(repr=False)
    where: str
    _connection: LinkConnection | None = field(default=None, init=False, repr=False)

    async def ask(self, service: str) -> Answer:
        """Ask for the master of a service; within `ANSWER_S`.

        Raises:
            TransportError: It can't be reached, does not answer in time, or refuses.
            AuthenticationError: It refuses the credentials, or the user may not ask.

        Cancellation: closes its connection, as the answers would come late.
        """
        answer: Answer | None = None
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await self._ask(service)
        except TimeoutError:
            failure = TransportError(f"the sentinel at {self.where} does not answer within {ANSWER_S:g} s")
        except redis_errors.AuthenticationError:
            failure = AuthenticationError(f"the sentinel at {self.where} refuses: its own password is missing")
        except NoPermissionError:
            failure = AuthenticationError(
                f"the sentinel at {self.where} refuses: the user lacks +sentinel|get-master-addr-by-name or "
                "+sentinel|master"
            )
        except (RedisError, OSError, ValueError, TypeError, AttributeError):  # or it answers what it should not
            failure = TransportError(f"the sentinel at {self.where} broke off")
        else:
            return answer
        finally:
            if answer is None:
                await self.close()
        raise failure  # out here, without `__context__`

    async def _ask(self, service: str) -> Answer:
        if self._connection is None:
            self._connection = await opened(self.make(), self.where, "the sentinel")
        asked_at = time.monotonic()
        # The first also tells of a failover that is under way; only the second tells the epoch.
        master = await _reply(self._connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
        if master is None:
            return Answer(asked_at, None)
        host, port = master
        try:
            details = await _reply(self._connection, "SENTINEL", "MASTER", service)
        except NoPermissionError:
            raise
        except ResponseError:  # the service was removed in between
            return Answer(asked_at, None)
        known = dict(zip(details[::2], details[1::2], strict=True))
        # Another one by now: the epoch is not that of the first answer.
        same = (known.get(b"ip"), known.get(b"port")) == (host, port)
        return Answer(asked_at, (host.decode(), int(port)), int(known.get(b"config-epoch", b"0")) if same else -1)

    async def close(self) -> None:
        """Close the connection, at once; the next question opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(RedisError, OSError):  # closed already, which is what was asked for
                await connection.disconnect()


async def _reply(connection: LinkConnection, *words: str) -> Any:  # noqa: ANN401 -- whatever Redis sends
    await connection.send_command(*words)
    return await connection.read_response()  # pyright: ignore[reportUnknownVariableType] -- likewise


@define
class Views:
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

    def chosen(self, master: Address) -> None:
        """A link goes there now."""
        self.master = master
        for number, answer in self._last.items():
            self._weigh(number, answer)

    def heard(self, number: int, answer: Answer | None) -> None:
        """A sentinel answered; None: it does not any more."""
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
    def moved_to(self) -> Address | None:
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
