"""Who must get what in a fleet of pods that don't all know the same: every publication, every socket, and the balance.

On one shared channel everything keeps its publisher's order, so the balance is exact: what a socket got of a publisher
is the list of what it had to get. Nothing lost, doubled, misrouted, altered or out of order.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, cast

from attrs import define, field, frozen
from backplane_core import Target

from tests.support.waiting import until

__all__ = ["FIVE_KINDS", "Ledger", "LedgerSocket", "Publication"]

FIVE_KINDS = ("connection", "session", "user", "org", "agent")


@frozen
class Publication:
    """One event; its content says which one, so that a socket can tell if it got another or half of it."""

    publisher: str
    number: int
    targets: tuple[Target, ...]
    exclude: tuple[str, ...] = ()

    @property
    def event(self) -> dict[str, Any]:
        return event_of(self.publisher, self.number)


def event_of(publisher: str, number: int) -> dict[str, Any]:
    return {"from": publisher, "n": number, "text": f"„é🙂\u2028\n\"{number}'", "deep": [{"x": [None, True, 0.5]}]}


@define(eq=False)
class LedgerSocket:
    """One connection.

    Args:
        pod: Where it is.
        conn_id: Its id.
        targets: What it is associated with, its own connection among them.
        foreign: Its pod knows five kinds, one target, and no exclusion.
    """

    pod: str
    conn_id: str
    targets: frozenset[Target]
    foreign: bool
    due: dict[str, list[int]] = field(factory=lambda: defaultdict[str, list[int]](list))
    got: dict[str, list[int]] = field(factory=lambda: defaultdict[str, list[int]](list))
    alien: list[Any] = field(factory=list[Any])
    due_count: int = 0
    got_count: int = 0

    def take(self, event: Any) -> None:
        """Its pod delivered this."""
        self.got_count += 1
        known = cast("dict[str, Any]", event) if isinstance(event, dict) else {}
        publisher, number = known.get("from", ""), known.get("n", 0)
        if event == event_of(publisher, number):
            self.got[publisher].append(number)
        else:
            self.alien.append(event)

    def must_get(self, publication: Publication) -> bool:
        if self.foreign:
            target = publication.targets[0]
            return target.kind in FIVE_KINDS and target in self.targets
        if self.conn_id in publication.exclude:
            return False
        return any(target.kind == "everyone" or target in self.targets for target in publication.targets)


@define
class Ledger:
    """All publications of a fleet against all that its sockets got."""

    sockets: list[LedgerSocket] = field(factory=list[LedgerSocket])
    published: dict[str, int] = field(factory=lambda: defaultdict[str, int](int))

    def socket(self, pod: str, conn_id: str, *targets: Target, foreign: bool) -> LedgerSocket:
        socket = LedgerSocket(pod, conn_id, frozenset({Target.connection(conn_id), *targets}), foreign)
        self.sockets.append(socket)
        return socket

    def publication(self, publisher: str, *targets: Target, exclude: tuple[str, ...] = ()) -> tuple[Publication, int]:
        """Note what is about to be published; return it, and how many sockets of its own pod must get it."""
        self.published[publisher] += 1
        publication = Publication(publisher, self.published[publisher], targets, exclude)
        local = 0
        for socket in self.sockets:
            if socket.must_get(publication):
                socket.due[publisher].append(publication.number)
                socket.due_count += 1
                local += socket.pod == publisher
        return publication, local

    def complete(self) -> bool:
        return all(socket.got_count >= socket.due_count for socket in self.sockets)

    async def settled(self) -> None:
        """Return once every socket has as much as it must have."""
        try:
            await until(self.complete, "what is due arrived", 60)
        except AssertionError:
            self.check()  # says what is missing, and where
            raise

    def check(self) -> None:
        """Assert that every socket got what it had to get, of each publisher in its order, and nothing else."""
        for socket in self.sockets:
            where = f"{socket.conn_id} of {socket.pod}"
            assert socket.alien == [], f"{where}: nobody published this"
            for publisher in self.published:
                due, got = socket.due[publisher], socket.got[publisher]
                if due != got:
                    raise AssertionError(f"{where}, from {publisher}: {difference(due, got)}")


def difference(due: list[int], got: list[int]) -> str:
    lost, extra = sorted(set(due) - set(got)), sorted(set(got) - set(due))
    doubled = sorted({number for number in got if got.count(number) > 1}) if len(got) > len(set(got)) else []
    order = "" if lost or extra or doubled else ", out of order"
    return f"lost {lost[:10]}, misrouted {extra[:10]}, doubled {doubled[:10]}{order}"
