"""Which lines a log gets about a pod's link: one at the start, one per outage, one at its end: `OutageLog`."""

from __future__ import annotations

from attrs import define, field

from backplane_core._runtime.logging import logger

__all__ = ["OutageLog"]


@define(eq=False)
class OutageLog:
    """Writes to the log what becomes of a pod's links, so that its last line says how things stand now.

    Example: the broker is away from 10.0 to 14.2, and its password was changed meanwhile. At 10.0 a warning says that
    the link is lost, and why. At 10.1 the first attempt is refused: an error says so, once, although there will be
    more. At 14.2 a warning says that the pod is live again after 4.2 s, and how many connections were notified of a
    gap. The end has the level of the beginning: a log that shows warnings alone shows both.

    Args:
        pod_name: What each line begins with: workers of one server write to one log.
        place: Broker, channel and routing, for the line at the start; without secrets.
    """

    pod_name: str
    place: str
    _was_live: bool = field(default=False, init=False)
    # Since when there is no link, on the monotonic clock, and the log says so; None: there is one.
    _lost_at: float | None = field(default=None, init=False)
    _is_refused: bool = field(default=False, init=False)

    def lost(self, now: float, reason: str) -> None:
        """Log that a live link died."""
        self._lost_at, self._is_refused = now, False
        logger.warning("pod %r: the link is lost, local delivery goes on: %s", self.pod_name, reason)

    def failed(self, now: float, reason: str, *, retryable: bool) -> None:
        """Log that an attempt to open a link failed, if the log does not say so already.

        Args:
            now: The monotonic clock.
            reason: Why, for people.
            retryable: Whether trying again can help.
        """
        is_first = self._lost_at is None
        if is_first:
            self._lost_at = now
        if not retryable and not self._is_refused:
            self._is_refused = True
            text = "pod %r: no link to the broker until this is corrected, tried again every few seconds: %s"
            logger.error(text, self.pod_name, reason)
        elif is_first:
            logger.warning("pod %r: no link to the broker yet, local delivery goes on: %s", self.pod_name, reason)

    def live(self, now: float, notified: int) -> None:
        """Log that a link is live.

        Args:
            now: The monotonic clock.
            notified: How many connections were notified of a gap.
        """
        if self._lost_at is None:
            logger.info("pod %r: live on %s", self.pod_name, self.place)
        else:
            again = "live again" if self._was_live else f"live on {self.place},"
            what = f"{notified} connection{' was' if notified == 1 else 's were'} notified of a gap"
            logger.warning("pod %r: %s after %.1f s; %s", self.pod_name, again, now - self._lost_at, what)
        self._was_live, self._lost_at, self._is_refused = True, None, False
