"""The options of a backplane: their types, units, defaults, and the errors for wrong ones."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, TypedDict, get_args

from attrs import Attribute, field, fields, frozen, resolve_types
from attrs.validators import ge, gt, in_, le, matches_re, max_len, optional

from backplane_core._protocol.pod_name import is_pod_name
from backplane_core._protocol.routing import CHANNEL, RoutingName
from backplane_core._protocol.signing import SigningKeys
from backplane_core._runtime.callables import check_callback
from backplane_core._runtime.strict_values import strict_converter
from backplane_core.errors import ConfigurationError
from backplane_core.observe import GapCallback, Observer, State

__all__ = ["ConnectOptions", "Options", "OutboxOverflow", "RoutingName", "Settings"]

OutboxOverflow: TypeAlias = Literal["drop_newest", "drop_oldest", "raise"]
"""What a full outbox does. `drop_newest` keeps what waits, in order; `drop_oldest` keeps what is fresh. Both count what
they drop, and receivers detect a hole. `raise`: `publish` raises `OutboxFullError`, and nobody receives anything."""


class Options(TypedDict, total=False):
    """The options of every backplane. Each says its unit, its default, and why that is the default."""

    connect_timeout_s: float
    """Seconds for which `connect` keeps trying before it raises `TransportError`, and for which one attempt may last.
    Default: `5.0`, longer than a broker's restart, shorter than an orchestrator's patience."""

    wait: bool
    """Whether opening waits until this pod is receiving, and raises if the broker can't be reached. False: the pod
    starts `degraded`, accepts connections and publishes, and goes live by itself once the broker is there, whatever it
    said before; `ready()` says what it says. A wrong URL or option is an error either way. Default: `True`, so that a
    mistake shows where it was made."""

    probe_interval_s: float
    """Seconds after which an idle pod checks that it still hears itself; a deaf link is replaced within twice that.
    Default: `15.0`, half of the usual 30 s between a load balancer's health checks. At least 0.5."""

    beat_s: float
    """Seconds from the last frame on the shared channel to the beat that follows it, which shows a receiver that it
    lost that frame. Default: `1.0`."""

    outbox_max_messages: int
    """Frames that may wait for the broker to confirm them. Default: `100_000`. At least 1."""

    outbox_max_bytes: int
    """Bytes of the frames that may wait for the broker to confirm them. Default: `33_554_432` (32 MiB), minutes of
    outage at a usual rate, within any pod's memory. At least 1,024."""

    outbox_overflow: OutboxOverflow
    """What a full outbox does; see `OutboxOverflow`. Default: `"drop_newest"`, with which an outage leaves one hole."""

    resend_s: float
    """Over a log: seconds for which a confirmed frame is kept, to be sent again if the log comes back without it.
    Default: `10.0`: more than a broker that syncs once a second forgets, or a replica that is promoted lacks. 0: none
    is kept. Without a log it has no effect."""

    resend_max_bytes: int
    """Bytes of the frames that are kept so. Default: `33_554_432` (32 MiB), as in the outbox."""

    resume_max_bytes: int
    """Over a log: bytes of its last entries that are kept in memory, for clients that come back with the id of the last
    event that they got. Those that were away for longer are served from the log. Default: `67_108_864` (64 MiB), some
    200,000 small events. Without a log it has no effect."""

    resume_concurrency: int
    """Over a log: how many clients that were away for so long are served at a time. Default: `8`, so that thousands
    that come at once don't take the broker from everyone else. The others wait for their turn, and lose nothing by it.
    At least 1."""

    event_id_window_s: float
    """Seconds for which a pod remembers an `event_id`: what is published again under it until then reaches none of its
    connections a second time. Default: `120.0`, longer than a job queue takes to run a job again whose worker died. At
    most 86,400. The same in the whole fleet, or some pods forget earlier than others."""

    event_ids_max: int
    """Ids of events that are remembered; the oldest are forgotten first, and counted. Default: `65_536`, which
    take some 20 MiB if there are so many: 546 events with an id each second. At least 1."""

    stale_after_s: float
    """Seconds of deafness after which connections get a gap that is still open (`Gap.is_open`), so that a page can say
    that it is not live. It ends no connection. Default: `10.0`, longer than a broker's restart. 0: never."""

    publish_wait_s: float
    """Seconds for which one `publish` may wait for room once the outbox is more than half full. Default: `0.005`, less
    than people notice. 0: it never waits."""

    max_event_bytes: int
    """Bytes of the largest event as JSON. Default: `1_048_576` (1 MiB), what a NATS server accepts by default."""

    origin_ttl_s: float
    """Seconds of silence after which another pod is forgotten. With `signing_keys` also how far a frame's time may be
    from this pod's clock. Default: `300.0`."""

    unnumbered_pods: bool
    """Whether pods without sequence numbers, such as those of another language, receive on this channel. What a lost
    link left unconfirmed is then counted as `dropped["unconfirmed"]` and not sent again, as such a pod would take a
    copy for another event. A pod that hears such a pod knows by itself; a `Publisher` hears nobody, so say it there.
    Default: `False`."""

    member_ttl_s: float | None
    """Seconds of silence after which a pod that stopped without a word is no longer a member of the fleet. Until then
    each answer of `fleet` names it as missing. Default: `None`, three times `probe_interval_s`, so that two lost beats
    make nobody disappear."""

    presence_linger_s: float
    """Seconds after which `fleet.watch` says that someone left whose sockets have ended: a page that is reloaded, or a
    pod that restarts, makes nobody leave and join. Default: `5.0`, what a client takes to be back. 0: at once."""

    remote_control: bool
    """Whether this pod answers what other pods ask by `fleet`, and follows their orders. Without `signing_keys` anyone
    who may publish on the channel may ask and order. Default: `True`."""

    routing: RoutingName
    """`"broadcast"`: every pod receives every event. `"interest"`: a pod receives the events of its own connections'
    targets. Default: `"broadcast"`. The same in the whole fleet."""

    lanes: int
    """Channels over which broadcast routing spreads the targets. Default: `1`; over a log `8`, each of which is trimmed
    for itself. The same in the whole fleet; 1 with `routing="interest"`."""

    channel: str
    """The fleet's name on the bus: words of `[A-Za-z0-9_-]` joined by `:`, at most 200 characters. Pods with the same
    name are one fleet. Default: `"backplane"`."""

    pod_name: str | None
    """What this pod is called in beats, logs and `stats()`, for people: 1 to 128 printable characters. It needs not be
    unique, and nothing depends on it. Default: `None`, host name and process id: `web-3-4711`."""

    signing_keys: Sequence[str | bytes] | None
    """Keys of the fleet, each 32 random bytes. Frames are signed with the first key and accepted if signed with any of
    them. Default: `None`, frames are neither signed nor checked."""

    on_gap: GapCallback | None
    """Called with each `Gap` of this pod, in the event loop; it must not block. Default: `None`."""

    on_state: Callable[[State], None] | None
    """Called with each new state of this pod, in the event loop; it must not block. Default: `None`."""

    observer: Observer | None
    """Called with each record (`Record`) of what happens, in the event loop; it must not block. Default: `None`, a
    `LoggingObserver`."""


class ConnectOptions(Options, total=False):
    """The options of `connect`, `connect_from_env` and the publishers: `Options`, and three for the URL's adapter."""

    connection_kwargs: Mapping[str, Any] | None
    """Arguments for the adapter's client library that a URL can't express, such as an `ssl.SSLContext`; the adapter's
    page names them. Default: `None`. In memory it has no effect."""

    address_map: Mapping[str, str] | str | None
    """Where the addresses that a cluster or sentinels announce can be reached, if not there (NAT, port forwards,
    containers): `announced=reachable`, several separated by commas, or a mapping. Default: `None`, they are reached
    where they say. In memory it has no effect; an adapter whose broker announces nothing refuses it."""

    transport_options: Mapping[str, object] | None
    """Options of an adapter that are its own, by name; its author may publish a `TypedDict` for them. Default: `None`.
    In memory it has no effect."""


NAMES: Final = tuple(Options.__annotations__)
"""Of the options that every backplane has."""

CALLBACKS: Final = ("on_gap", "on_state", "observer")
"""Of those, the ones that are called, and no setting."""

ADAPTER_NAMES: Final = tuple(name for name in ConnectOptions.__annotations__ if name not in NAMES)
"""Of the options that are for the adapter."""

_ALLOWED: Final = "allowed"
"""Metadata of a field: which values are allowed, for the error."""

_SECRET: Final = "secret"  # noqa: S105 -- a word, no password
"""Metadata of a field whose values must not stand in the error."""


def _check_pod_name(_: object, __: object, name: str | None) -> None:
    if name is not None and not is_pod_name(name):
        raise ValueError


@frozen(kw_only=True)
class Settings:
    """The options of one backplane, checked; `Options` says what each means."""

    connect_timeout_s: float = field(default=5.0, validator=gt(0), metadata={_ALLOWED: "seconds, above 0"})
    wait: bool = field(default=True, metadata={_ALLOWED: "True or False"})
    probe_interval_s: float = field(default=15.0, validator=ge(0.5), metadata={_ALLOWED: "seconds, at least 0.5"})
    beat_s: float = field(default=1.0, validator=gt(0), metadata={_ALLOWED: "seconds, above 0"})
    outbox_max_messages: int = field(
        default=100_000, validator=ge(1), metadata={_ALLOWED: "a whole number, at least 1"}
    )
    outbox_max_bytes: int = field(
        default=32 * 1024 * 1024, validator=ge(1024), metadata={_ALLOWED: "a whole number of bytes, at least 1024"}
    )
    outbox_overflow: OutboxOverflow = field(
        default="drop_newest",
        validator=in_(get_args(OutboxOverflow)),
        metadata={_ALLOWED: "'drop_newest', 'drop_oldest' or 'raise'"},
    )
    resend_s: float = field(default=10.0, validator=ge(0), metadata={_ALLOWED: "seconds, 0 or more"})
    resend_max_bytes: int = field(
        default=32 * 1024 * 1024, validator=ge(0), metadata={_ALLOWED: "a whole number of bytes, 0 or more"}
    )
    resume_max_bytes: int = field(
        default=64 * 1024 * 1024, validator=ge(0), metadata={_ALLOWED: "a whole number of bytes, 0 or more"}
    )
    resume_concurrency: int = field(default=8, validator=ge(1), metadata={_ALLOWED: "a whole number, at least 1"})
    event_id_window_s: float = field(
        default=120.0, validator=[gt(0), le(86_400)], metadata={_ALLOWED: "seconds, above 0, at most 86400"}
    )
    event_ids_max: int = field(default=65_536, validator=ge(1), metadata={_ALLOWED: "a whole number, at least 1"})
    stale_after_s: float = field(default=10.0, validator=ge(0), metadata={_ALLOWED: "seconds, 0 or more"})
    publish_wait_s: float = field(default=0.005, validator=ge(0), metadata={_ALLOWED: "seconds, 0 or more"})
    max_event_bytes: int = field(
        default=1024 * 1024, validator=ge(1), metadata={_ALLOWED: "a whole number of bytes, at least 1"}
    )
    origin_ttl_s: float = field(default=300.0, validator=gt(0), metadata={_ALLOWED: "seconds, above 0"})
    unnumbered_pods: bool = field(default=False, metadata={_ALLOWED: "True or False"})
    member_ttl_s: float | None = field(
        default=None, validator=optional(gt(0)), metadata={_ALLOWED: "seconds, above 0, or None"}
    )
    presence_linger_s: float = field(default=5.0, validator=ge(0), metadata={_ALLOWED: "seconds, 0 or more"})
    remote_control: bool = field(default=True, metadata={_ALLOWED: "True or False"})
    routing: RoutingName = field(
        default="broadcast",
        validator=in_(get_args(RoutingName)),
        metadata={_ALLOWED: "'broadcast' or 'interest'"},
    )
    lanes: int = field(default=1, validator=ge(1), metadata={_ALLOWED: "a whole number, at least 1"})
    channel: str = field(
        default="backplane",
        validator=[matches_re(CHANNEL), max_len(200)],
        metadata={_ALLOWED: "words of [A-Za-z0-9_-] joined by ':', at most 200 characters"},
    )
    pod_name: str | None = field(
        default=None, validator=_check_pod_name, metadata={_ALLOWED: "1 to 128 printable characters, or None"}
    )
    signing_keys: SigningKeys | None = field(
        default=None,
        repr=False,
        metadata={
            _ALLOWED: "a list of keys, each a non-empty str or bytes; None sends and takes unsigned frames",
            _SECRET: True,
        },
    )

    @classmethod
    def of_options(cls, options: Mapping[str, Any]) -> Settings:
        """Return the settings for these options, which may hold callbacks too.

        Raises:
            ConfigurationError: See `of`; or a callback is not a plain callable.
        """
        for name in CALLBACKS:
            check_callback(name, options.get(name))
        return cls.of({name: value for name, value in options.items() if name not in CALLBACKS})

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Settings:
        """Return the settings for these options.

        Raises:
            ConfigurationError: An option is unknown or has a value that is not allowed; the message says what is.
        """
        known: dict[str, Attribute[Any]] = {attribute.name: attribute for attribute in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in options.items():
            attribute = known.get(name)
            if attribute is None:
                raise unknown_option(name, NAMES)
            try:
                values[name] = _converter.structure(value, attribute.type or object)
                if attribute.validator is not None:
                    attribute.validator(None, attribute, values[name])
            except Exception:  # noqa: BLE001 -- cattrs raises a bare Exception for a Literal
                shown = "***" if _SECRET in attribute.metadata else repr(value)
                problem = f"{name}={shown} is not allowed: {attribute.metadata[_ALLOWED]}"
            else:
                continue
            # Out here, where no `__context__` carries the value.
            raise ConfigurationError(problem)
        settings = cls(**values)
        if settings.routing == "interest" and settings.lanes > 1:
            raise ConfigurationError("lanes are for routing='broadcast'; routing='interest' has a channel per target")
        return settings


resolve_types(Settings)  # the annotations are strings; cattrs wants the types

_converter: Final = strict_converter()
_converter.register_structure_hook(SigningKeys, lambda value, _: SigningKeys(value))


def allowed_values(name: str) -> str:
    """Return which values of an option are allowed, in words."""
    attribute: Attribute[Any] = getattr(fields(Settings), name)
    return str(attribute.metadata[_ALLOWED])


def unknown_option(name: str, allowed: Iterable[str]) -> ConfigurationError:
    """Return the error for an option that does not exist."""
    names = sorted(allowed)
    near = difflib.get_close_matches(name, names, n=1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    return ConfigurationError(f"unknown option {name!r}{meant}; allowed are {', '.join(names)}")
