"""How a pod that begins to hear learns who is there: `Greeting` says hello, and answers the hello of others.

Without it a pod would know another one only from its next beat, up to `probe_interval_s` later, and its first questions
would have to wait for pods that may not exist.

An example with 100 pods. One more goes live and says hello: one frame. Within 0.2 s each of the 100 beats once, at a
moment of its own: 100 frames, as many as its first question would have cost. After 0.5 s it knows all of them. If all
100 go live together, after a restart of the broker, each hears 99 times hello in some two seconds, and beats at most
four times a second all the same. Nothing is said while links live on.
"""

from __future__ import annotations

import asyncio
from typing import Final

from backplane_core._fleet.asker import BusAsker
from backplane_core._outbound.sender import Sender
from backplane_core._protocol.fleet_frame import LEVEL, Saying, encode_saying
from backplane_core._protocol.heartbeat import Heartbeat
from backplane_core._runtime.system import System

__all__ = ["Greeting"]

SPREAD_S: Final = 0.2
"""Within which time pods beat that were greeted, each at a moment of its own."""

BETWEEN_BEATS_S: Final = 0.25
"""The shortest time between two beats that answer a hello: one beat answers all that came until then."""

STEP_S: Final = 0.1
STEPS: Final = 5
"""After so many steps every pod that lives has been heard: the spread, and as much again for the way. They are steps,
since a loop that stands still takes but one of them: it has heard nobody meanwhile."""


class Greeting:
    """Says hello once a link is live, and beats when another pod says so.

    Args:
        sender: Sends both.
        heartbeat: Is notified of the beat.
        asker: Is notified once everybody has answered.
        system: The clock, and chance.
        hears: Whether this pod hears anything; one that does not is no member.
    """

    def __init__(self, sender: Sender, heartbeat: Heartbeat, asker: BusAsker, system: System, *, hears: bool) -> None:
        self._sender = sender
        self._heartbeat = heartbeat
        self._asker = asker
        self._system = system
        self._hears = hears
        self._settling: asyncio.TimerHandle | None = None
        self._beating: asyncio.TimerHandle | None = None
        self._next_beat_at = float("-inf")

    def live(self) -> None:
        """Say hello. Where there is no room for it, questions wait as if nobody had been asked."""
        self.close()
        if self._hears and self._sender.say(encode_saying(Saying(LEVEL, hello=True))):
            self._step(STEPS)

    def greeted(self) -> None:
        """Beat soon, since another pod has said hello, unless that is about to be done."""
        if self._beating is None:
            wait_s = max(0.0, self._next_beat_at - self._system.monotonic())
            wait_s += self._system.random.uniform(0.0, SPREAD_S)
            self._beating = asyncio.get_running_loop().call_later(wait_s, self._beat)

    def close(self) -> None:
        """Forget what was to be done: the link is gone, or is another."""
        for timer in (self._settling, self._beating):
            if timer is not None:
                timer.cancel()
        self._settling = self._beating = None

    def _step(self, left: int) -> None:
        if left:
            self._settling = asyncio.get_running_loop().call_later(STEP_S, self._step, left - 1)
        else:
            self._settling = None
            self._asker.settled()

    def _beat(self) -> None:
        self._beating = None
        now = self._system.monotonic()
        self._next_beat_at = now + BETWEEN_BEATS_S
        if self._sender.beat(now):
            self._heartbeat.beat(self._sender.next_number)
