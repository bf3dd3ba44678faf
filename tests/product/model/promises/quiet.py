"""No false alarm: where nothing was lost nobody hears of a loss, and no link is given up."""

from __future__ import annotations

from collections.abc import Iterator

from tests.product.model.ledger import Ledger

__all__ = ["check_quiet"]


def check_quiet(ledger: Ledger) -> Iterator[str]:
    """Yield each alarm of a run in which nothing was lost."""
    for pod in ledger.pods:
        if not pod.started:
            continue
        # Who takes a target while somebody else leaves it may hear False, and then of a gap until it is heard.
        owed = any(not hold.confirmed for life in ledger.lives if life.pod is pod for hold in life.holds)
        if len(pod.links) != 1:
            yield f"{pod.origin} had {len(pod.links)} links, although nothing was wrong with any"
        for told in pod.gaps:
            excused = told.gap.cause == "overflow" or (told.gap.cause == "reconnect" and owed)
            if not excused and not (pod.is_small and "the limit is" in told.gap.reason):
                yield f"{pod.origin} reported a gap, although nothing was lost: {told.gap.cause}, {told.gap.reason}"
        dropped = {cause: count for cause, count in pod.stats.dropped.items() if cause != "closed" or not pod.restarted}
        if dropped:
            yield f"{pod.origin} dropped {dropped}, although nothing was wrong"
