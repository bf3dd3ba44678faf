"""The name by which people know a pod, and which its beats carry."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["MAX_POD_NAME", "decode_pod_name", "is_pod_name"]

MAX_POD_NAME: Final = 128
"""Characters of a pod's name: more than the 63 of a Kubernetes pod, few enough to stand in a line of a log."""


class _Name(msgspec.Struct):
    pod: str | None = None


_decode: Final = msgspec.json.Decoder(_Name).decode


def is_pod_name(name: object) -> bool:
    """Return whether this may be a pod's name: 1 to 128 printable characters, so that it keeps to its line of a log."""
    return isinstance(name, str) and 0 < len(name) <= MAX_POD_NAME and name.isprintable()


def decode_pod_name(beat: bytes) -> str | None:
    """Return the name of the pod that sent a beat, whose head was read already; None if it has none that can be shown.

    For people alone, so nothing is refused for it. It is no member of `Head`: every frame would pay for it.
    """
    try:
        name = _decode(beat).pod
    except msgspec.MsgspecError:
        return None
    return name if is_pod_name(name) else None
