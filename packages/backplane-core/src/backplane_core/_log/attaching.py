"""Attaches a connection that resumes, in the step in which it is decided what it missed."""

from __future__ import annotations

from collections.abc import Sequence

from backplane_core._local.arguments import own_target
from backplane_core._local.connection_host import ConnectionHost
from backplane_core._local.presence import Presence
from backplane_core._local.registry import SinkAttachment
from backplane_core._log.backlog import Backlog
from backplane_core._log.resumer import NoLog
from backplane_core.event_sink import EventSink
from backplane_core.target import Target

__all__ = ["attach_resumed"]


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
    client = await resumer.prepare(resume_from, own_target(sink.conn_id, is_direct=is_direct) + tuple(targets))
    # Nothing is awaited from here on: what was prepared holds for this step alone.
    host.release(sink.conn_id)
    attachment = host.attach_queue(sink, targets, info, is_direct=is_direct, presence=presence)
    return attachment, resumer.attach(client, attachment.entry)
