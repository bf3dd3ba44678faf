"""The pods and their connections, what is published, and what must arrive where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final, TypeAlias

from attrs import field, frozen
from backplane_core import Target

__all__ = ["PODS", "PUBLICATIONS", "WORKER", "Held", "Publication", "end_of", "expected"]

Held: TypeAlias = Mapping[str, Sequence[Target]]
"""Connections by id, with their targets."""


@frozen
class Publication:
    """An event that goes in at one process.

    Args:
        by: The process.
        event: The event; its `kind` is different in each.
        to: The target, or the targets of a union.
        reaches: Every connection that must get it, each once.
        exclude: Connections that are left out although they have the target.
    """

    by: str
    event: dict[str, str]
    to: Sequence[Target]
    reaches: Collection[str]
    exclude: Collection[str] = field(default=(), kw_only=True)


u1, acme, room = Target.user("u1"), Target.org("acme"), Target("room", "42")  # a kind of the host's own

PODS: Final[Mapping[str, Held]] = {
    "pod A": {"u1-web": [u1, acme], "u2-web": [Target.user("u2"), acme, room]},
    "pod B": {"u1-ios": [u1, room], "u3-web": [Target.user("u3"), acme], "u4-web": [Target.user("u4")]},
}
WORKER: Final = "worker"

PUBLICATIONS: Final = (
    Publication("pod A", {"kind": "job_status", "state": "done"}, [u1], {"u1-web", "u1-ios"}),
    Publication("pod B", {"kind": "message", "text": "hi"}, [room], {"u2-web", "u1-ios"}),
    Publication(WORKER, {"kind": "report_ready", "id": "r7"}, [u1], {"u1-web", "u1-ios"}),
    Publication("pod A", {"kind": "announcement", "text": "cake"}, [acme], {"u1-web", "u2-web", "u3-web"}),
    # All but the sender.
    Publication("pod B", {"kind": "typing", "user": "u1"}, [room], {"u2-web"}, exclude={"u1-ios"}),
    # Connection u1-ios has both targets of this union, and gets the event once.
    Publication("pod A", {"kind": "call_started"}, [u1, room], {"u1-web", "u2-web", "u1-ios"}),
    # The excluded connection is on another pod than the publisher.
    Publication(WORKER, {"kind": "room_renamed", "name": "43"}, [room], {"u1-ios"}, exclude={"u2-web"}),
    Publication("pod A", {"kind": "signed_out"}, [Target.connection("u3-web")], {"u3-web"}),
    # Nobody has this target.
    Publication(WORKER, {"kind": "invoice"}, [Target.user("u5")], ()),
    Publication(
        "pod B", {"kind": "maintenance"}, [Target.everyone()], {"u1-web", "u2-web", "u1-ios", "u3-web", "u4-web"}
    ),
)


def expected() -> Counter[tuple[str, str]]:
    """Return how often each (kind of event, connection) must be seen: once, or not at all."""
    return Counter(
        (publication.event["kind"], conn_id) for publication in PUBLICATIONS for conn_id in publication.reaches
    )


def end_of(by: str) -> Publication:
    """Return the last event of a process: once it has arrived, everything published before it has too, or is lost.

    This is because the events of one pod arrive in order, and with the default routing an event for everyone keeps its
    place among the others.
    """
    return Publication(by, {"kind": "end", "of": by}, [Target.everyone()], ())
