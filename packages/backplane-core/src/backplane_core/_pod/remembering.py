"""The side of a backplane that says what its bus keeps: `Remembering`."""

from __future__ import annotations

from collections.abc import Iterable

from backplane_core._local.arguments import check_target
from backplane_core._log.history_reader import MAX_LIMIT, HistoryReader
from backplane_core._pod.parts import Parts
from backplane_core.errors import ConfigurationError
from backplane_core.history import History
from backplane_core.target import Target, check_id

__all__ = ["Remembering"]


class Remembering(Parts):
    """Returns what was published before, on a bus that keeps a log."""

    @property
    def last_event_id(self) -> str | None:
        """The id for a client that has got all that this pod has handed out so far, and perhaps nothing of it.

        It is for a connection that is attached and has got no event yet: it may resume from here. None on a bus that
        keeps no log.
        """
        return self._resumer.last_id

    async def history(
        self,
        target: Target,
        limit: int = 100,
        before: str | None = None,
        *,
        conn_id: str | None = None,
        having: Iterable[Target] = (),
    ) -> History:
        """Return the last events that were published to a target, alone or in a union, on a bus that keeps a log.

            history = await backplane.history(Target("room", "r1"), 50)
            older = await backplane.history(Target("room", "r1"), 50, before=history.older)

        Events to everyone are in the history of `Target.everyone()`, and in no other.

        Args:
            target: The target. Your service decides who may read it, as with `connection`.
            limit: The most events, 1 to 10,000. By default 100. There may be fewer even if there are older ones: at
                most 20,000 entries of a log are read.
            before: Only events before this one: an `Event.id` from any pod, or `History.older`. It may come from an
                untrusted client. If the log no longer has it, or never had it, there are none. By default None: the
                last events.
            conn_id: Leave out events that exclude this connection. By default None: nothing is left out.
            having: Other targets of the reader: include events for `target & other`, and leave out those that exclude
                one of these. By default none: only events for the target alone.

        Returns:
            The events, and whether there are older ones.

        Raises:
            InvalidTargetError: `target`, or one of `having`, is not a `Target`, or `conn_id` is not of the right form.
            ConfigurationError: The bus keeps no log, or `limit` is not allowed.
            TransportError: The log could not be read within 5 seconds.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: each event once. Events of one pod to the target alone are in order, and so are its unions. Between
            the two a log keeps no order, so theirs is approximate.
        """
        self._loop_binding.check()
        self._states.check_open()
        others = tuple(having)
        for one in (target, *others):
            check_target(one)
        if conn_id is not None:
            check_id(conn_id, "conn_id")
        if type(limit) is not int or not 1 <= limit <= MAX_LIMIT:
            raise ConfigurationError(f"limit={limit!r} is not allowed: 1 to {MAX_LIMIT} events")
        log = self._pod_log
        if log is None:
            raise ConfigurationError(
                "this bus keeps no log, so there is no history: connect to redis+streams:// or nats+jetstream://"
            )
        return await HistoryReader(log.mirror, log.pages, log.routing).read(target, limit, before, conn_id, others)
