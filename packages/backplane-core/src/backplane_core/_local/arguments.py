"""Checks of the arguments of the public methods, before anything is done with them."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite

from backplane_core._local.presence import Presence
from backplane_core._protocol.exclusion import Exclusion
from backplane_core._protocol.fleet_frame import MAX_INFO_BYTES
from backplane_core._protocol.frame import MAX_EXCLUDED, MAX_TARGETS
from backplane_core._protocol.json import encode_event
from backplane_core._protocol.presence_frame import MAX_PRESENCE_BYTES
from backplane_core._runtime.callables import is_plain_callable
from backplane_core.errors import ConfigurationError, InvalidTargetError
from backplane_core.target import MAX_INTERSECTIONS, Intersection, Target, Targets, check_id

__all__ = [
    "check_sink",
    "check_target",
    "check_timeout",
    "encode_info",
    "encode_presence",
    "normalize_targets",
    "own_target",
    "read_exclusion",
]

# These checks are for callers without a type checker, who may pass anything.
# pyright: reportUnnecessaryIsInstance=false


def check_target(target: object) -> None:
    """Raise unless it is a target.

    Raises:
        InvalidTargetError: It is something else.
    """
    if not isinstance(target, Target):
        raise InvalidTargetError(f"expected a Target, not {type(target).__name__}; for example Target.user('u1')")


def check_sink(sink: object) -> None:
    """Raise unless it is a plain callable: a coroutine that nobody awaits would lose the event silently.

    Raises:
        ConfigurationError: It is something else.
    """
    if not is_plain_callable(sink):
        raise ConfigurationError("a sink is a plain callable: it takes one event and must not be a coroutine function")


def check_timeout(timeout_s: object) -> None:
    """Raise unless it is a time that can be waited for.

    Raises:
        ConfigurationError: It is something else.
    """
    if not isinstance(timeout_s, (int, float)) or not isfinite(timeout_s) or timeout_s <= 0:
        raise ConfigurationError(f"timeout_s={timeout_s!r} is not allowed: seconds, above 0")


def encode_info(info: object) -> bytes | None:
    """Return what a host says of a connection as JSON; None if it says nothing.

    Raises:
        EventEncodeError: It is not JSON.
        ConfigurationError: It is too large.
    """
    if info is None:
        return None
    data = encode_event(info)
    if len(data) > MAX_INFO_BYTES:
        raise ConfigurationError(f"info takes {len(data)} bytes of JSON; at most {MAX_INFO_BYTES} are allowed")
    return data


def encode_presence(conn_id: str, presence: object, key: str | None) -> Presence | None:
    """Return what is shown of a connection in its targets; None if it is not.

    Raises:
        EventEncodeError: It is not JSON.
        InvalidTargetError: The key is not of the form of an id.
        ConfigurationError: It is too large, or there is a key alone.
    """
    if key is not None:
        check_id(key, "presence_key")
    if presence is None:
        if key is not None:
            raise ConfigurationError("presence_key says who is present: give presence as well, {} if nothing is shown")
        return None
    data = encode_event(presence)
    if len(data) > MAX_PRESENCE_BYTES:
        raise ConfigurationError(f"presence takes {len(data)} bytes of JSON; at most {MAX_PRESENCE_BYTES} are allowed")
    return Presence(conn_id if key is None else key, data)


def normalize_targets(targets: Targets) -> tuple[Target | Intersection, ...]:
    """Return the distinct targets of a union; everyone includes every connection, so it stands alone.

    Raises:
        InvalidTargetError: There is no target, there are too many, or an entry is not a target.
    """
    if isinstance(targets, (Target, Intersection)):
        return (targets,)
    if isinstance(targets, (str, bytes)) or not isinstance(targets, Iterable):
        check_target(targets)
    targets = tuple(targets)
    for target in targets:
        if not isinstance(target, Intersection):
            check_target(target)
    distinct = tuple(dict.fromkeys(targets))
    if not distinct:
        raise InvalidTargetError("no target: name at least one")
    everyone = Target.everyone()
    if everyone in distinct:
        return (everyone,)
    if len(distinct) > MAX_TARGETS:
        raise InvalidTargetError(
            f"a union of {len(distinct)} targets, at most {MAX_TARGETS} are allowed: publish to one that they share"
        )
    if sum([isinstance(target, Intersection) for target in distinct]) > MAX_INTERSECTIONS:
        raise InvalidTargetError(f"a union holds at most {MAX_INTERSECTIONS} intersections")
    return distinct


def read_exclusion(exclude: Iterable[str | Target | Intersection]) -> Exclusion | None:
    """Return who must not get an event: distinct connection ids and distinct targets; None: nobody is left out.

    Raises:
        InvalidTargetError: It is a single string or target, an entry is not valid, there are over 65,536 ids or 64
            targets, or `everyone` is one of the targets.
    """
    if isinstance(exclude, str) or not isinstance(exclude, Iterable):
        raise InvalidTargetError("exclude must be a list of connection ids or targets: exclude=[conn_id]")
    checked = [
        one if isinstance(one, (Target, Intersection)) else check_id(one, "an excluded connection id")
        for one in exclude
    ]
    distinct = dict.fromkeys(checked)  # once each can be hashed
    barred = tuple([one for one in distinct if not isinstance(one, str)])
    ids = tuple([one for one in distinct if isinstance(one, str)])
    if len(ids) > MAX_EXCLUDED:
        raise InvalidTargetError(f"exclude holds {len(ids)} connection ids; at most {MAX_EXCLUDED} are allowed")
    if len(barred) > MAX_INTERSECTIONS:
        raise InvalidTargetError(f"exclude holds {len(barred)} targets; at most {MAX_INTERSECTIONS} are allowed")
    if Target.everyone() in barred:
        raise InvalidTargetError("exclude contains everyone, so nobody would get the event")
    return Exclusion(ids, barred) if distinct else None


def own_target(conn_id: str, *, is_direct: bool) -> tuple[Target, ...]:
    """Return the target that a connection has by its id; none, if it is not addressed by that."""
    return (Target.connection(conn_id),) if is_direct else ()
