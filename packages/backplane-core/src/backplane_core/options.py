"""The options of a backplane: their types, units, defaults, and the errors for wrong ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, Final, Literal, TypeAlias, TypedDict

import cattrs
from attrs import Attribute, field, fields, frozen, resolve_types
from attrs.validators import ge, gt, in_, matches_re, max_len

from backplane_core._protocol.routing import CHANNEL, RoutingName
from backplane_core._protocol.signing import SigningKeys
from backplane_core.errors import ConfigurationError
from backplane_core.observe import GapCallback, Observer, State

__all__ = ["Options", "OutboxOverflow", "Settings"]

OutboxOverflow: TypeAlias = Literal["drop_newest", "drop_oldest", "raise"]
"""What a full outbox does. `drop_newest`: keeps what waits, in order. `drop_oldest`: keeps what is fresh. Both are
counted, and a hole for the receivers. `raise`: `publish` raises `OutboxFullError`, and nobody has got anything."""


class Options(TypedDict, total=False):
    """The keywords of `connect`, `InMemoryBackplane` and `DistributedBackplane`; `Settings` says what each means."""

    connect_timeout_s: float
    probe_interval_s: float
    beat_s: float
    outbox_max_messages: int
    outbox_max_bytes: int
    outbox_overflow: OutboxOverflow
    publish_wait_s: float
    max_event_bytes: int
    origin_ttl_s: float
    routing: RoutingName
    lanes: int
    channel: str
    signing_keys: Sequence[str | bytes] | None
    on_gap: GapCallback | None
    on_state: Callable[[State], None] | None
    observer: Observer | None


CALLBACKS: Final = ("on_gap", "on_state", "observer")


@frozen(kw_only=True)
class Settings:
    """Every number says its unit and why it is what it is.

    Args:
        connect_timeout_s: How long `connect` tries before it raises. 5: longer than a broker's restart, shorter than an
            orchestrator's patience.
        probe_interval_s: How often an idle pod makes sure that it hears itself; a deaf link is replaced within twice
            that. 15: half of the usual 30 s of a load balancer's health check.
        beat_s: A beat follows the shared channel's last frame after so long, so that a lost tail is noticed. 1.
        outbox_max_messages: Frames accepted and not yet confirmed by the broker. 100,000.
        outbox_max_bytes: The same in bytes. 32 MiB: minutes of outage at a usual rate, within any pod's memory.
        outbox_overflow: What a full outbox does; see `OutboxOverflow`. `drop_newest`: an outage leaves one hole.
        publish_wait_s: How long one `publish` waits for room when the outbox is over half full. 0.005: less than people
            notice.
        max_event_bytes: The largest event as JSON. 1 MiB: what NATS takes by default.
        origin_ttl_s: A pod that was silent for so long is forgotten. 300.
        routing: `broadcast`: all pods hear all. `interest`: a pod hears what it holds.
        lanes: Channels that broadcast routing spreads over. 1.
        channel: The fleet's name on the bus: words of `[A-Za-z0-9_-]` joined by `:`.
        signing_keys: Frames are signed with the first, and taken if signed with any. None: neither signed nor
            checked. Each 32 random bytes, the same in the whole fleet.
    """

    connect_timeout_s: float = field(default=5.0, validator=gt(0))
    probe_interval_s: float = field(default=15.0, validator=ge(0.5))
    beat_s: float = field(default=1.0, validator=gt(0))
    outbox_max_messages: int = field(default=100_000, validator=ge(1))
    outbox_max_bytes: int = field(default=32 * 1024 * 1024, validator=ge(1024))
    outbox_overflow: OutboxOverflow = field(
        default="drop_newest", validator=in_(("drop_newest", "drop_oldest", "raise"))
    )
    publish_wait_s: float = field(default=0.005, validator=ge(0))
    max_event_bytes: int = field(default=1024 * 1024, validator=ge(1))
    origin_ttl_s: float = field(default=300.0, validator=gt(0))
    routing: RoutingName = field(default="broadcast", validator=in_(("broadcast", "interest")))
    lanes: int = field(default=1, validator=[ge(1)])
    channel: str = field(default="backplane", validator=[matches_re(CHANNEL), max_len(200)])
    signing_keys: SigningKeys | None = field(default=None, repr=False)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Settings:
        """Return the settings that the options ask for.

        Raises:
            ConfigurationError: An option is unknown or has a value that is not allowed; the message says what is.
        """
        known: dict[str, Attribute[Any]] = {attribute.name: attribute for attribute in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in options.items():
            attribute = known.get(name)
            if attribute is None:
                raise unknown_option(name, [*known, *CALLBACKS])
            try:
                values[name] = _converter.structure(value, attribute.type or object)
                if attribute.validator is not None:
                    attribute.validator(None, attribute, values[name])
            except Exception:  # noqa: BLE001 -- cattrs raises a bare Exception for a Literal
                shown = "***" if name in _SECRET else repr(value)
                problem = f"{name}={shown} is not allowed: {_ALLOWED[name]}"
            else:
                continue
            # Out here, where no `__context__` carries the value.
            raise ConfigurationError(problem)
        settings = cls(**values)
        if settings.routing == "interest" and settings.lanes > 1:
            raise ConfigurationError("lanes are for routing='broadcast'; routing='interest' has a channel per target")
        return settings


resolve_types(Settings)  # the annotations are strings; cattrs wants the types

_ALLOWED: Final = {
    "connect_timeout_s": "seconds, above 0",
    "probe_interval_s": "seconds, at least 0.5",
    "beat_s": "seconds, above 0",
    "outbox_max_messages": "a whole number, at least 1",
    "outbox_max_bytes": "a whole number of bytes, at least 1024",
    "outbox_overflow": "'drop_newest', 'drop_oldest' or 'raise'",
    "publish_wait_s": "seconds, 0 or more",
    "max_event_bytes": "a whole number of bytes, at least 1",
    "origin_ttl_s": "seconds, above 0",
    "routing": "'broadcast' or 'interest'",
    "lanes": "a whole number, at least 1",
    "channel": "words of [A-Za-z0-9_-] joined by ':', at most 200 characters",
    "signing_keys": "a list of keys, each a non-empty str or bytes; None sends and takes unsigned frames",
}

_SECRET: Final = frozenset({"signing_keys"})


def unknown_option(name: str, allowed: list[str]) -> ConfigurationError:
    """Return the error for an option that does not exist."""
    return ConfigurationError(f"unknown option {name!r}; allowed are {', '.join(sorted(allowed))}")


def _whole(value: object, _: object) -> int:
    """Take 5 and "5", refuse True and 5.5: cattrs would cut a fraction off without a word."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        return int(value)
    raise TypeError


def _number(value: object, _: object) -> float:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool) and isfinite(number := float(value)):
        return number
    raise TypeError


def _text(value: object, _: object) -> str:
    if isinstance(value, str):
        return value
    raise TypeError


_converter: Final = cattrs.Converter()
_converter.register_structure_hook(int, _whole)
_converter.register_structure_hook(float, _number)
_converter.register_structure_hook(str, _text)
_converter.register_structure_hook(SigningKeys, lambda value, _: SigningKeys(value))
