"""Attaches a connection that resumes, in the step in which it is decided what it missed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from backplane_core._local.arguments import own_target
from backplane_core._local.connection_host import ConnectionHost
from backplane_core._local.presence import Presence
from backplane_core._local.registry import SinkAttachment
from backplane_core._log.backlog import Backlog
from backplane_core._log.resumer import NoLog
from backplane_core.event_sink import EventSink
from backplane_core.target import Target

__all__ = ["attach_resumed"]

ATTEMPTS: Final = 5
"""How often what a client missed is looked for, if it is forgotten meanwhile."""


async def attach_resumed(  # noqa: PLR0917 -- two callers
    host: ConnectionHost,
    sink: EventSink,
    targets: Sequence[Target],
    info: bytes | None,
    resumer: NoLog,
    resume_from: str,
    *,
    is_direct: bool,
    presence: Presence | None = None,
) -> tuple[SinkAttachment, Backlog]:
    """Attach a connection; return its attachment, and what it gets first.

    Raises:
        ClosedError: The backplane is draining or closed.
    """
    host.check(sink.conn_id)
    attempts = 0
    while True:
        client = await resumer.prepare(resume_from, own_target(sink.conn_id, is_direct=is_direct) + tuple(targets))
        attempts += 1
        if attempts > ATTEMPTS:
            resumer.give_up(client)
        host.release(sink.conn_id)
        attachment = host.attach_queue(sink, targets, info, is_direct=is_direct, presence=presence)
        backlog = resumer.attach(client, attachment.entry)
        if backlog is not None:
            return attachment, backlog
        attachment.drop()  # what it missed was forgotten while it waited for the log
