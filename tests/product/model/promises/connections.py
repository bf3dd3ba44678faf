"""What a connection gets: nothing twice, in order, nothing of others, and gaps at most once a second."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

from tests.product.model.ledger import BUSY_S, Ledger, Life, PodLog
from tests.product.model.plan import Plan
from tests.product.model.virtual_loop import on_tick

__all__ = ["check_connection", "name_of"]


def check_connection(life: Life, ledger: Ledger, plan: Plan) -> Iterator[str]:
    """Yield what does not hold of what a connection got."""
    yield from _copies(life, ledger, plan)
    yield from _order(life, ledger)
    yield from _aliens(life, ledger)
    yield from _pace(life, ledger)


def _copies(life: Life, ledger: Ledger, plan: Plan) -> Iterator[str]:
    for number, times in Counter([heard.number for heard in life.heard]).items():
        # A pod that does not count can't be told from its copy.
        if times > 1 and not (plan.copies and ledger.events[number].seq is None):
            yield f"event {number} came {times} times to {name_of(life)}"


def _order(life: Life, ledger: Ledger) -> Iterator[str]:
    """FIFO per publisher and target; here even per publisher and channel."""
    newest: dict[tuple[PodLog | None, str], int] = {}
    for heard in life.heard:
        event = ledger.events[heard.number]
        key = (event.pod, event.channel)
        if newest.get(key, -1) > heard.number:
            yield f"event {heard.number} came to {name_of(life)} behind event {newest[key]} of the same pod and channel"
        newest[key] = max(newest.get(key, -1), heard.number)


def _aliens(life: Life, ledger: Ledger) -> Iterator[str]:
    for heard in life.heard:
        event = ledger.events[heard.number]
        barred = any(hold.since <= event.order and hold.ended >= heard.order for hold in life.holds_of(event.barred))
        # A queue hands out later what it took in time.
        if (
            life.conn_id in event.excluded
            or barred
            or not any(
                hold.since <= heard.order
                and (
                    (life.closed and hold.ended == life.ended)
                    or ((life.queue or heard.order <= hold.ended) and hold.ended >= event.order)
                )
                for hold in life.holds_of(event.targets)
            )
        ):
            yield f"event {heard.number} is none of {name_of(life)}'s"


def _pace(life: Life, ledger: Ledger) -> Iterator[str]:
    """A bare sink hears of at most one gap a second; the last one may come early, with the end."""
    if life.queue:
        return
    # The second begins when a round of notices does: callbacks that hold the loop make the others wait for their turn.
    busy_s = sum([on_tick(BUSY_S.get(other.kind, 0.0)) for other in ledger.lives])
    told = [gap.at for gap in life.gaps if gap.order < life.ended]
    for one, other in itertools.pairwise(told):
        if other - one < 1 - busy_s:
            yield f"{name_of(life)} was told of gaps at {one} and at {other}"


def name_of(life: Life) -> str:
    """Return a connection for people."""
    return f"{life.conn_id} ({life.kind}, at {life.pod.origin})"
