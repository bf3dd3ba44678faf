"""A broker on a bad day, by seeded chance: `FaultyTransport`."""

from __future__ import annotations

import asyncio
from random import Random

from backplane_core.errors import TransportError
from backplane_core.testing._faulty.chance import draw_time, happens
from backplane_core.testing._faulty.link import FaultyLink
from backplane_core.testing.faults import Faults
from backplane_core.testing.memory import MemoryBroker, MemoryTransport
from backplane_core.transport import Link, Traits

__all__ = ["FaultyTransport"]


class FaultyTransport(MemoryTransport):
    """A `MemoryTransport` whose links fail: by chance, as `faults` says, and when a test makes them.

    The same seed and the same calls give the same faults; under an event loop with a clock of its own a whole run
    repeats.

    Args:
        broker: Shared with other transports; None: one of its own.
        traits: In place of the defaults, to act as a broker with limits. With `single_stream` the confirmations of
            sends come behind the frames that are on their way, and a deaf link gets none; without it they come by
            themselves.
        faults: What goes wrong; None: nothing.
        random: Where chance comes from; None: `Random(0)`.
    """

    def __init__(
        self,
        broker: MemoryBroker | None = None,
        traits: Traits | None = None,
        *,
        faults: Faults | None = None,
        random: Random | None = None,
    ) -> None:
        super().__init__(broker, Traits() if traits is None else traits)
        self.faults: Faults = Faults() if faults is None else faults
        """What goes wrong from now on; may be replaced at any time."""
        self.random: Random = Random(0) if random is None else random  # noqa: S311 -- a test's chance, to be repeated
        """Where chance comes from."""
        self._links: list[FaultyLink] = []

    async def open(self) -> Link:
        """Open a link, or fail to.

        Raises:
            TransportError: The broker is cut, or chance says so.
        """
        await asyncio.sleep(draw_time(self.random, self.faults.open_s))
        if happens(self.random, self.faults.hang_open):
            await asyncio.get_running_loop().create_future()
        if happens(self.random, self.faults.refuse_open):
            raise TransportError("the faulty transport refuses to connect")
        link = self._make_link()
        link.enter()
        self._links = [*self._open_links, link]
        return link

    def _make_link(self) -> FaultyLink:
        """Return a link that is not open yet; for subclasses that watch theirs."""
        return FaultyLink(self)

    @property
    def _open_links(self) -> list[FaultyLink]:
        return [link for link in self._links if not link.is_dead]

    def cut(self, reason: str = "the connection was cut") -> None:
        """Kill this transport's links; other transports on its broker keep theirs.

        Args:
            reason: Why, as it appears in logs, records and gaps.
        """
        for link in self._open_links:
            link.die(reason)

    def deafen(self) -> None:
        """Deliver no frames to its links from now on, as a demoted replica does; all else works, and new links hear."""
        for link in self._open_links:
            link.deafen()

    def silence(self) -> None:
        """Deliver nothing to its links from now on, not even confirmations; what they send still arrives."""
        for link in self._open_links:
            link.deafen()
            link.answered = False

    def half_open(self) -> None:
        """Let nothing pass on its links from now on, in either direction, and let nothing say so."""
        self.silence()
        for link in self._open_links:
            link.muted = True
