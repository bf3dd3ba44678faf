"""The settings of `backplane serve`: `ServeSettings`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from attrs import Attribute, field, fields, frozen

from backplane_server._commands.masking import MASK
from backplane_server._failure import MISUSED, Failure

__all__ = ["PREFIX", "ServeSettings"]

PREFIX: Final = "BACKPLANE_SERVE_"
SECRET: Final = "secret"  # noqa: S105 -- a word, no password

_SWITCHES: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _switch(text: str) -> bool:
    return _SWITCHES[text.lower()]


def _texts(text: str) -> Sequence[str]:
    return tuple(part for piece in text.split(",") if (part := piece.strip()))


def _count(text: str) -> int:
    if (count := int(text)) < 0:
        raise ValueError
    return count


def _seconds(text: str) -> float:
    if not (seconds := float(text)) >= 0:
        raise ValueError
    return seconds


def _as_text(value: object) -> str:
    return ",".join(map(str, cast("tuple[object, ...]", value))) if isinstance(value, tuple) else str(value)


def _setting(default: Any, parse: Callable[[str], Any], allowed: str, *, is_secret: bool = False) -> Any:  # noqa: ANN401
    return field(default=default, repr=not is_secret, metadata={"parse": parse, "allowed": allowed, SECRET: is_secret})


@frozen(kw_only=True)
class ServeSettings:
    """The settings of one gateway. A flag overrides `BACKPLANE_SERVE_…`, which overrides `[serve]` in the file.

    Args:
        host: The address to listen at. Default: 127.0.0.1, which only this machine reaches.
        port: The port; 0: any free one.
        metrics_port: The port of the metrics and of the probes; 0: none.
        jwt_secret: The secret for HS256.
        jwt_secret_file: A file that contains it.
        jwt_keys: A file with public keys, PEM or JWKS, for RS256 and ES256.
        audience: What a token's `aud` must contain; empty: it is not checked.
        issuer: What a token's `iss` must be; empty: it is not checked.
        claims: Which claims of a token name a target, and of which kind.
        cookie: The cookie that may contain the token; empty: no cookie.
        origins: Origins of web pages that may connect; empty: only those of the gateway's own host.
        max_connections: The most clients that may be connected. Default: 10,000, some 200 MB.
        publish_rate: The most publishes of one subject per second.
        max_body_bytes: The size of the largest publish, in bytes.
        drain_delay_s: Seconds between "not ready" and the first close. Default: 5, so that load balancers notice.
        drain_s: Seconds over which the clients are closed. Default: 20, so that they don't reconnect all at once.
        on_gap: `close` or `frame`: what a WebSocket gets where events may be missing.
        admin: Whether it serves a page for administrators, at `/admin`.
        traces: Whether events of a sampled trace make spans, which go to OpenTelemetry's collector.
        insecure_dev: Whether everyone may do anything, for development.
        pusher_apps: Apps whose Pusher clients may connect, each `id:key:secret`; empty: Pusher's protocol is off.
        pusher_apps_file: A file with one of these per line.
        pusher_max_event_bytes: The most bytes of the data of one Pusher event.
    """

    host: str = _setting("127.0.0.1", str, "an address")
    port: int = _setting(8001, _count, "a port")
    metrics_port: int = _setting(9001, _count, "a port, or 0 for none")
    jwt_secret: str = _setting("", str, "at least 32 bytes", is_secret=True)
    jwt_secret_file: str = _setting("", str, "a path")
    jwt_keys: str = _setting("", str, "a path")
    audience: str = _setting("", str, "a text")
    issuer: str = _setting("", str, "a text")
    claims: Sequence[str] = _setting(("sub=user", "org=org"), _texts, "claim=kind, separated by commas")
    cookie: str = _setting("", str, "the name of a cookie")
    origins: Sequence[str] = _setting((), _texts, "origins, separated by commas")
    max_connections: int = _setting(10_000, _count, "a whole number")
    publish_rate: float = _setting(100.0, _seconds, "a number, 0 or more")
    max_body_bytes: int = _setting(1024 * 1024, _count, "a whole number of bytes")
    drain_delay_s: float = _setting(5.0, _seconds, "seconds, 0 or more")
    drain_s: float = _setting(20.0, _seconds, "seconds, 0 or more")
    on_gap: str = _setting("close", str, "close or frame")
    traces: bool = _setting(False, _switch, "true or false")  # noqa: FBT003 -- a default
    admin: bool = _setting(False, _switch, "true or false")  # noqa: FBT003 -- a default
    insecure_dev: bool = _setting(False, _switch, "true or false")  # noqa: FBT003 -- a default
    pusher_apps: Sequence[str] = _setting((), _texts, "id:key:secret, separated by commas", is_secret=True)
    pusher_apps_file: str = _setting("", str, "a path")
    pusher_max_event_bytes: int = _setting(10 * 1024, _count, "a whole number of bytes")

    @classmethod
    def of(cls, texts: Mapping[str, str], sources: Mapping[str, str]) -> ServeSettings:
        """Return the settings for these texts.

        Args:
            texts: The texts, by name.
            sources: The flag, variable or line that each comes from, by name.

        Raises:
            Failure: There is no such setting, or its text is not allowed; the text says what is.
        """
        known: dict[str, Attribute[Any]] = {it.name: it for it in fields(cls)}
        values: dict[str, Any] = {}
        for name, text in texts.items():
            attribute = known.get(name)
            if attribute is None:
                near = difflib.get_close_matches(name, known, n=1)
                advice = f"did you mean {near[0]}?" if near else f"the settings are {', '.join(sorted(known))}"
                raise Failure(f"{sources[name]} is not a setting of serve", advice, MISUSED)
            try:
                values[name] = attribute.metadata["parse"](text)
            except (KeyError, ValueError):
                problem = f"{sources[name]} is not {attribute.metadata['allowed']}"
            else:
                continue
            raise Failure(problem, "`backplane serve --help` lists all settings", MISUSED)
        settings = cls(**values)
        if settings.on_gap not in {"close", "frame"}:
            raise Failure(f"{sources['on_gap']} is not close or frame", code=MISUSED)
        return settings

    def shown(self) -> Mapping[str, str]:
        """Return all settings by name as text, secrets masked."""
        return {it.name: MASK if it.metadata[SECRET] else _as_text(getattr(self, it.name)) for it in fields(type(self))}

    def claim_kinds(self) -> Mapping[str, str]:
        """Return the kind of target that each claim names.

        Raises:
            Failure: One is not written as `claim=kind`.
        """
        pairs = [text.partition("=") for text in self.claims]
        if any(not claim or not kind for claim, _, kind in pairs):
            raise Failure("claims are written as claim=kind", "write sub=user,org=org", MISUSED)
        return {claim: kind for claim, _, kind in pairs}
