"""Jobs of a fleet: `BusDesk` puts them into the outbox, and `BusSource` takes them over one link after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from backplane_core._jobs.current_link import CurrentLink
from backplane_core._jobs.desk import JobDesk
from backplane_core._jobs.source import JobSource, Rejected, Taken
from backplane_core._outbound.sender import Sender
from backplane_core._protocol.frame import FRAME_OVERHEAD_BYTES
from backplane_core._protocol.job_frame import DEAD, decode_job, encode_buried, queue_target
from backplane_core._protocol.signing import SIGNED_HEAD_BYTES, SignatureError, Signer
from backplane_core._runtime.logging import logger
from backplane_core._runtime.reporter import Reporter
from backplane_core.errors import EnvelopeError, EventTooLargeError, OutboxFullError, TransportError
from backplane_core.options import Settings
from backplane_core.queues import Delivery, QueueLink, queue_channel
from backplane_core.transport import Lost

__all__ = ["BusDesk"]

TAKE_S: Final = 0.5
"""How long one question for jobs waits at the broker: a worker that is closed waits as long for its answer, since a job
in it would otherwise be nobody's until its lease is over."""

LOG_EVERY_S: Final = 10.0
"""Seconds between two lines in the log on a queue that can't be used."""

RETRY_S: Final = 0.2
"""How long a worker waits after a link failed it: core takes as long to replace it."""


class BusDesk(JobDesk):
    """Puts jobs into the same outbox as events, and lets workers take them over the link that is live.

    Args:
        sender: Takes what is put.
        links: Knows the link that is live.
        settings: The backplane's.
        signer: Verifies what is taken; None: it is taken as it is.
        reporter: Counts, and notifies the host.
    """

    def __init__(
        self, sender: Sender, links: CurrentLink, settings: Settings, signer: Signer | None, reporter: Reporter
    ) -> None:
        super().__init__()
        self.links = links
        # Queues that workers of this pod have used: if one of them is no longer there, its jobs are lost.
        self._known: set[str] = set()
        self._sender = sender
        self._settings = settings
        self._signer = signer
        self._reporter = reporter

    def put(self, queue: str, data: bytes) -> None:
        self._put(queue, data)

    def _put(self, queue: str, data: bytes, marks: bytes = b"") -> None:
        channel = queue_channel(self._settings.channel, queue)
        self._sender.send_job(channel, (queue_target(queue),), data, marks)

    async def bury(self, queue: str, id_: str, data: bytes, attempts: int) -> None:
        self.links.check_open()
        try:
            self._put(f"{queue}{DEAD}", data, encode_buried(id_, attempts))
        except (OutboxFullError, EventTooLargeError):
            self._reporter.report_dropped("outbox", queue_channel(self._settings.channel, f"{queue}{DEAD}"), 1)
            return
        await self._sender.flush(None)

    def source(self, queue: str, lease_s: float) -> JobSource:
        channel = queue_channel(self._settings.channel, queue)
        reader = JobReader(channel, self._signer, self._settings.max_event_bytes + FRAME_OVERHEAD_BYTES, self._reporter)
        return BusSource(channel, lease_s, self.links, reader, self._known)

    def close(self) -> None:
        super().close()
        self.links.close()


class JobReader:
    """Reads the frames of a queue, as far as some pod of this fleet wrote them.

    Args:
        channel: The queue's.
        signer: Verifies them; None: they are taken as they are.
        max_frame_bytes: Larger frames are none.
        reporter: Counts what is rejected.
    """

    def __init__(self, channel: str, signer: Signer | None, max_frame_bytes: int, reporter: Reporter) -> None:
        self._channel = channel
        self._signer = signer
        self._max_bytes = max_frame_bytes + (0 if signer is None else SIGNED_HEAD_BYTES)
        self._counters = reporter.counters

    def read(self, delivery: Delivery) -> Taken | Rejected:
        """Return the job that was handed out, or why it is none."""
        token, attempt, payload = delivery.token, delivery.attempt, delivery.payload
        try:
            job = decode_job(self._verified(payload))
        except SignatureError as error:
            self._counters.signature_errors += 1
            reason = str(error)
        except EnvelopeError as error:
            self._counters.decode_errors += 1
            reason = str(error)
        else:
            return Taken(token=token, id=job.id, json=job.json, attempt=attempt)
        return Rejected(token=token, reason=reason, attempt=attempt)

    def _verified(self, payload: bytes) -> bytes:
        if len(payload) > self._max_bytes:
            raise EnvelopeError(f"{len(payload)} bytes, the limit is {self._max_bytes}")
        # However old it is: it waited for a worker.
        return payload if self._signer is None else self._signer.verify(self._channel, payload, is_old=True)


class BusSource(JobSource):
    """A queue of the fleet.

    Args:
        channel: The queue's.
        lease_s: For how long a job belongs to its worker.
        links: Knows the link that is live.
        reader: Reads what is handed out.
        known: The channels of queues that this pod has used.
    """

    def __init__(self, channel: str, lease_s: float, links: CurrentLink, reader: JobReader, known: set[str]) -> None:
        self._channel = channel
        self._lease_s = lease_s
        self._links = links
        self._reader = reader
        self._opened_on: QueueLink | None = None
        self._known = known
        self._failed_on: QueueLink | None = None
        self._lost: list[Lost] = []
        self._asking = 0
        self._log_at = 0.0

    @property
    def is_asking(self) -> bool:
        return self._asking > 0

    async def take(self, limit: int) -> Sequence[Taken | Rejected | Lost]:
        link = await self._links.wait()
        self._asking += 1
        try:
            await self._open(link)
            items = await link.take(self._channel, limit, wait_s=TAKE_S)
        except TransportError as error:
            await self._failed(link, error)
            return ()
        finally:
            self._asking -= 1
        lost, self._lost = self._lost, []
        return [*lost, *[item if isinstance(item, Lost) else self._reader.read(item) for item in items]]

    async def extend(self, tokens: Sequence[str]) -> None:
        link = self._links.now
        if link is not None and link is self._opened_on:
            await link.extend(self._channel, tokens)

    async def give_back(self, token: str, delay_s: float) -> None:
        while True:
            link = await self._links.wait()
            try:
                await self._open(link)
                await link.give_back(self._channel, token, delay_s=min(delay_s, self._lease_s))
            except TransportError as error:
                await self._failed(link, error)
            else:
                return

    async def finish(self, token: str) -> None:
        while True:
            link = await self._links.wait()
            try:
                await self._open(link)
                await link.finish(self._channel, [token])
            except TransportError as error:
                await self._failed(link, error)
            else:
                return

    async def _open(self, link: QueueLink) -> None:
        if link is self._opened_on:
            return
        was_there = await link.open_queue(self._channel, lease_s=self._lease_s)
        if self._channel in self._known and not was_there:
            reason = "the queue was deleted, or the server came back without it: what nobody had finished is gone"
            self._lost.append(Lost(self._channel, reason, cause="epoch"))
        self._opened_on = link
        self._known.add(self._channel)

    async def _failed(self, link: QueueLink, error: TransportError) -> None:
        """Return when it can be tried again; raise if that can't help."""
        if not error.retryable:
            raise error
        if self._opened_on is link:
            self._opened_on = None
        now = asyncio.get_running_loop().time()
        if self._failed_on is link and self._links.now is link and now >= self._log_at:  # not of a link that died
            self._log_at = now + LOG_EVERY_S
            logger.warning(
                "jobs on %r can't be had or settled now, tried again until they can: %s", self._channel, error
            )
        self._failed_on = link
        await asyncio.sleep(RETRY_S)
