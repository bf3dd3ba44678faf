"""What becomes of a batch that the broker refused something of: `RefusedBatches`."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from backplane_core._outbound.losses import Losses
from backplane_core._outbound.outbox import Outbox
from backplane_core._protocol.routing import Routing
from backplane_core.transport import Frame, Refusal

__all__ = ["Answer", "RefusedBatches"]


@frozen
class Answer:
    """What a broker that refused something did with a batch.

    Args:
        taken: The frames that it took.
        settled: How many frames these are, and those that were given up.
        denied: Why this pod can't send at all, for want of a permission; None: it can.
    """

    taken: Sequence[Frame]
    settled: int
    denied: str | None


class RefusedBatches:
    """Settles what the broker took, and drops, counts and reports what it refused.

    Where a permission is missing for a channel that every pod uses, the fault is not the frames': they stay in flight.

    Args:
        losses: Counts and reports.
        routing: Knows the channels that every pod uses.
    """

    def __init__(self, losses: Losses, routing: Routing) -> None:
        self._losses = losses
        self._base = frozenset(routing.base)

    def settle(self, outbox: Outbox, refusals: Sequence[Refusal], *, ends_link: bool) -> Answer:
        """Settle the batch in flight.

        Args:
            outbox: Has it.
            refusals: What the broker refused, by its place in the batch.
            ends_link: The link died of the last refusal: what stood behind it stays in flight.
        """
        in_flight = outbox.in_flight
        if not in_flight:  # a question alone
            return Answer((), 0, refusals[0].reason)
        refused = {one.index for one in refusals}
        until = refusals[-1].index if ends_link else len(in_flight)
        taken = [place for place in range(until) if place not in refused]
        kept = [one for one in refusals if one.is_denied and in_flight[one.index][0] in self._base]
        dropped = [one for one in refusals if one not in kept]
        for one in dropped:
            self._losses.refused(in_flight[one.index], one.reason, is_denied=one.is_denied)
        frames = [in_flight[place] for place in taken]
        outbox.settle(confirmed=taken, dropped=[one.index for one in dropped])
        return Answer(frames, len(taken) + len(dropped), kept[0].reason if kept else None)
