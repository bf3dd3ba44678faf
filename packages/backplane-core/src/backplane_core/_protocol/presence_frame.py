"""What pods say to each other of who is present: the member `presence` of `fleet`, as structs.

The format is written down in docs/reference/wire-format.md, "Presence".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from backplane_core._protocol.frame import decode_target
from backplane_core.errors import EnvelopeError, InvalidTargetError
from backplane_core.target import check_id

__all__ = [
    "MAX_LEASED",
    "MAX_LISTED_PRESENT",
    "MAX_PRESENCE_BYTES",
    "Ask",
    "Change",
    "Page",
    "PresenceSaying",
    "Present",
    "check_ask",
    "check_change",
    "check_leases",
    "check_page",
]

MAX_PRESENCE_BYTES: Final = 1024
"""The largest `presence` of a connection, as JSON: a name and a state to show, not a place to keep data."""

MAX_LISTED_PRESENT: Final = 1_000
"""Most keys in one frame: some 2 ms of work for the pod that reads it."""

MAX_LEASED: Final = 256
"""Targets in one renewal; a pod that watches more says several."""

MAX_ASK_ID: Final = 2**53 - 1
"""The largest number that every language's JSON reads exactly."""


class Present(msgspec.Struct):
    """One key that is present, and what is said of it."""

    key: str
    value: msgspec.Raw


class Ask(msgspec.Struct, omit_defaults=True):
    """Asks who is present in a target: every pod, or one."""

    id: Annotated[int, Meta(ge=1, le=MAX_ASK_ID)]
    target: msgspec.Raw
    # The origin of the one pod that is asked; absent: all are.
    to: str | None = None
    # Only keys behind this one: for the next page.
    after: str = ""
    # Whether the pod should say from now on what changes.
    watch: bool = False


class Page(msgspec.Struct, omit_defaults=True):
    """A part of who is present on one pod, in the order of the keys."""

    to: str
    id: Annotated[int, Meta(ge=1, le=MAX_ASK_ID)]
    # Why there is none: "refused" or "busy".
    no: Annotated[str, Meta(max_length=32)] | None = None
    # The number of the last change that is in it; 0: changes are not said.
    at: Annotated[int, Meta(ge=0)] = 0
    present: list[Present] = []
    more: bool = False


class Change(msgspec.Struct, omit_defaults=True):
    """What changed on one pod in one target, under a number that follows on the one before."""

    target: msgspec.Raw
    at: Annotated[int, Meta(ge=1)]
    prev: Annotated[int, Meta(ge=0)] = 0
    joined: list[Present] = []
    # Gone for good: it was taken out of the target.
    left: list[str] = []
    # Its sockets ended, and may be back in a moment.
    lost: list[str] = []


class PresenceSaying(msgspec.Struct, omit_defaults=True):
    """The member `presence`: any of these."""

    ask: Ask | None = None
    page: Page | None = None
    change: Change | None = None
    # Targets that the sender goes on watching, and that it stops to watch.
    watch: list[msgspec.Raw] = []
    unwatch: list[msgspec.Raw] = []


def check_leases(saying: PresenceSaying) -> None:
    """Raise unless what is watched is what a pod watches.

    Raises:
        EnvelopeError: It is no target, or there are too many.
    """
    if max(len(saying.watch), len(saying.unwatch)) > MAX_LEASED:
        raise EnvelopeError(f"not an envelope: at most {MAX_LEASED} targets are watched in one frame")
    for raw in (*saying.watch, *saying.unwatch):
        check_watched(raw)


def check_ask(ask: Ask) -> None:
    """Raise unless it is a question that can be answered.

    Raises:
        EnvelopeError: It is about no target, or what comes behind no key.
    """
    check_watched(ask.target)
    if ask.after:
        _check_keys([ask.after])


def check_page(page: Page) -> None:
    """Raise unless a page lists what a pod lists.

    Raises:
        EnvelopeError: A key or a value is none, or there are too many.
    """
    _check_keys([one.key for one in page.present])
    _check_values(page.present)


def check_change(change: Change) -> None:
    """Raise unless a change says what a pod says.

    Raises:
        EnvelopeError: A target, a key or a value is none, or there are too many.
    """
    check_watched(change.target)
    _check_keys([one.key for one in change.joined] + change.left + change.lost)
    _check_values(change.joined)


def check_watched(raw: msgspec.Raw) -> None:
    """Raise unless it is a target in which connections can be present.

    Raises:
        EnvelopeError: It is none, or a connection's own.
    """
    if decode_target(bytes(raw)).kind == "connection":
        raise EnvelopeError("not an envelope: nobody is present in a connection")


def _check_keys(keys: Sequence[str]) -> None:
    if len(keys) > MAX_LISTED_PRESENT:
        raise EnvelopeError(f"not an envelope: a frame lists at most {MAX_LISTED_PRESENT} that are present")
    try:
        for key in keys:
            check_id(key, "a presence key")
    except InvalidTargetError as error:
        raise EnvelopeError(f"not an envelope: {error}") from None


def _check_values(present: Sequence[Present]) -> None:
    for one in present:
        if len(bytes(one.value)) > MAX_PRESENCE_BYTES:
            raise EnvelopeError(f"not an envelope: a presence takes at most {MAX_PRESENCE_BYTES} bytes")
