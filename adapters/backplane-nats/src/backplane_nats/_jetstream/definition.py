"""What the stream of a lane has to be, and how one that is there differs, sans-IO: `StreamDefinition`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, cast

from attrs import frozen
from backplane_core import ConfigurationError, Retention, is_queue

from backplane_nats._subjects import to_subject

__all__ = ["QUEUE_BYTES", "QUEUE_ENTRIES", "Storage", "StreamDefinition", "heard_as", "make_definition", "stream_name"]

Storage = Literal["file", "memory"]

_ADJUSTABLE: Final = ("max_msgs", "max_bytes", "max_age", "num_replicas", "allow_direct", "republish")
_FOREIGN: Final = ("mirror", "sources", "subject_transform", "sealed")
"""What a stream of ours never has: entries would come from elsewhere, or under other names."""

QUEUE_ENTRIES: Final = 200_000
QUEUE_BYTES: Final = 128 * 1024 * 1024
"""What a queue takes, of which half may be done already: unfinished jobs are never deleted for want of room, so what
comes then is refused."""

_MAX_REPLICAS: Final = 5
_MAX_NAME: Final = 255
"""The server's own limits."""


def stream_name(channel: str) -> str:
    """Return the name of a channel's stream: that of a stream has no dot, and a channel no plus."""
    name = channel.replace(":", "+")
    if len(name) <= _MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]  # behind two plus signs, which no other name has
    return f"{name[: _MAX_NAME - len(digest) - 2]}++{digest}"


def heard_as(channel: str) -> str:
    """Return the channel on which the server publishes what it has stored."""
    return f"{channel}:@log"


@frozen(kw_only=True)
class StreamDefinition:
    """The settings of each stream.

    Args:
        retention: How much it keeps.
        storage: Where.
        replicas: On how many nodes of a cluster.
    """

    retention: Retention
    storage: Storage
    replicas: int

    def config(self, channel: str) -> dict[str, Any]:
        """Return the configuration of a channel's stream, as the server takes it."""
        subject, limits = to_subject(channel), self.retention
        if is_queue(channel):
            return {
                "name": stream_name(channel),
                "subjects": [subject],
                "retention": "limits",
                "discard": "new",
                "storage": self.storage,
                "num_replicas": self.replicas,
                "max_msgs": QUEUE_ENTRIES,
                "max_bytes": QUEUE_BYTES,
                "max_age": 0,
                "allow_direct": True,
            }
        return {
            "name": stream_name(channel),
            "subjects": [subject],
            "retention": "limits",
            "discard": "old",
            "storage": self.storage,
            "num_replicas": self.replicas,
            "max_msgs": limits.entries,
            "max_bytes": -1 if limits.max_bytes is None else limits.max_bytes,
            "max_age": 0 if limits.age_s is None else int(limits.age_s * 1_000_000_000),
            "allow_direct": True,
            "republish": {"src": subject, "dest": to_subject(heard_as(channel))},
        }

    def find_weaknesses(self, *, is_clustered: bool) -> Sequence[str]:
        """Return which promises of a log do not hold with these settings, and what to set; one sentence each.

        Args:
            is_clustered: Whether the server is a node of a cluster.
        """
        if self.replicas > 1:
            return ()
        found: list[str] = []
        if is_clustered:
            found.append(
                "each stream is on one node of this cluster, and while that is down events wait in the outbox: set "
                "replicas=3"
            )
        if self.storage == "memory":
            found.append(
                "streams are in the memory of one node: after its restart they have what living pods send again "
                "(resend_s), and nothing older; set storage='file', or replicas=3"
            )
        return found

    def differs(self, channel: str, found: Mapping[str, Any]) -> str | None:
        """Return how a stream that is there differs in what can't be adjusted, for people; None: it does not."""
        wanted = self.config(channel)
        fixed = [name for name in wanted if name not in _ADJUSTABLE]
        differences = [
            f"its {name} is {_shown(found.get(name))}, not {_shown(wanted[name])}"
            for name in fixed
            if found.get(name) != wanted[name]
        ]
        differences += [f"it has {name}" for name in _FOREIGN if found.get(name)]
        return "; ".join(differences) or None

    def adjusted(self, channel: str, found: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the configuration with which a stream that is there becomes what it has to be; None: it is."""
        wanted = self.config(channel)
        names = [name for name in _ADJUSTABLE if name in wanted]
        changes: dict[str, Any] = {name: wanted[name] for name in names if not _is_same(found.get(name), wanted[name])}
        if not changes:
            return None
        changed = {**found, **changes}
        age = changed["max_age"]
        if age and changed.get("duplicate_window", 0) > age:  # the server refuses a longer one
            changed["duplicate_window"] = age
        return changed


def _is_same(found: object, wanted: object) -> bool:
    if isinstance(wanted, dict) and isinstance(found, dict):  # the server adds what it takes for granted
        return cast("dict[str, Any]", wanted).items() <= cast("dict[str, Any]", found).items()
    return found == wanted


def _shown(value: object) -> str:
    return ", ".join(map(str, cast("list[object]", value))) if isinstance(value, list) else str(value)


def make_definition(retention: Retention, storage: str, replicas: int | str) -> StreamDefinition:
    """Return the definition for these options.

    Raises:
        ConfigurationError: One is not allowed; says what is.
    """
    if storage not in {"file", "memory"}:
        raise ConfigurationError("storage is 'file' or 'memory'")
    try:
        number = 0 if isinstance(replicas, bool) else int(replicas)
    except (TypeError, ValueError):
        number = 0
    if not 1 <= number <= _MAX_REPLICAS:
        raise ConfigurationError(f"replicas is a whole number from 1 to {_MAX_REPLICAS}")
    return StreamDefinition(retention=retention, storage="memory" if storage == "memory" else "file", replicas=number)
