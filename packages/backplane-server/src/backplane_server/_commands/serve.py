"""`backplane serve`: a gateway."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import typer
from attrs import frozen
from backplane_core import ConnectOptions, connect_from_env

from backplane_server._commands.settings import BusSettings
from backplane_server._failure import MISUSED, Failure
from backplane_server._gateway.app import Policy, make_app, make_metrics_app
from backplane_server._gateway.keys import FileKeys, Keys, SecretKey
from backplane_server._gateway.policies import ClosedPolicy, DevPolicy, TokenPolicy
from backplane_server._gateway.server import address_of, listen_at, serve_both
from backplane_server._gateway.settings import ServeSettings
from backplane_server.pusher import PusherApp

__all__ = ["Serve", "read_pusher_apps", "read_secret"]


@frozen(kw_only=True)
class Serve:
    """A gateway that is to run until a signal ends it.

    Args:
        flags: What flags set, by name.
    """

    flags: dict[str, str]

    async def do(self, settings: BusSettings) -> int:
        """Serve, and return the exit code."""
        serve = settings.serve(self.flags)
        pusher_apps = read_pusher_apps(serve)
        policy = make_policy(serve, has_pusher=bool(pusher_apps))
        with ExitStack() as stack:
            listening = stack.enter_context(listen_at(serve.host, serve.port, "--port"))
            metrics = (
                stack.enter_context(listen_at(serve.host, serve.metrics_port, "--metrics-port"))
                if serve.metrics_port
                else None
            )
            async with connect_from_env(settings.variables, **_tracing(serve)) as backplane:
                app, metrics_app = make_app(backplane, policy, serve, pusher_apps), make_metrics_app(backplane)
                _announce(address_of(listening), None if metrics is None else address_of(metrics), settings, serve)
                await serve_both(app, listening, metrics_app, metrics)
        return 0


def _tracing(serve: ServeSettings) -> ConnectOptions:
    """Return the observer that makes spans, where that is asked for.

    Raises:
        Failure: OpenTelemetry is not installed.
    """
    if not serve.traces:
        return {}
    try:
        from backplane_server._gateway.tracing import make_tracing_observer  # noqa: PLC0415 -- an extra
    except ImportError:
        raise Failure("--traces needs OpenTelemetry", "pip install 'backplane-server[otel]'", MISUSED) from None
    return {"observer": make_tracing_observer()}


def make_policy(serve: ServeSettings, *, has_pusher: bool = False) -> Policy:
    """Return the policy that decides what a client may do.

    Args:
        serve: The settings.
        has_pusher: Whether there are Pusher apps: then others need not be let in.

    Raises:
        Failure: There are no keys, or both a secret and public keys.
        ConfigurationError: A key can't be used.
    """
    if serve.insecure_dev:
        return DevPolicy(max_connections=serve.max_connections)
    if has_pusher and not (serve.jwt_keys or serve.jwt_secret or serve.jwt_secret_file):
        return ClosedPolicy()
    return TokenPolicy(
        keys=_make_keys(serve),
        audience=serve.audience or None,
        issuer=serve.issuer or None,
        claims=serve.claim_kinds(),
        cookie=serve.cookie or None,
        max_connections=serve.max_connections,
        publish_rate=serve.publish_rate,
    )


def _make_keys(serve: ServeSettings) -> Keys:
    if serve.jwt_keys:
        if serve.jwt_secret or serve.jwt_secret_file:
            raise Failure("both a secret and a file of public keys are set", "set one of them", MISUSED)
        return FileKeys(Path(serve.jwt_keys))
    if secret := read_secret(serve):
        return SecretKey(secret)
    raise Failure(
        "no keys are set, so no client can connect",
        "set BACKPLANE_SERVE_JWT_SECRET or --jwt-keys FILE; --insecure-dev lets everyone do anything",
        MISUSED,
    )


def read_secret(serve: ServeSettings) -> str:
    """Return the secret for HS256, or an empty string if none is set.

    Raises:
        Failure: Its file can't be read.
    """
    if not serve.jwt_secret_file:
        return serve.jwt_secret
    return _read_text(serve.jwt_secret_file, "--jwt-secret-file").strip()


def read_pusher_apps(serve: ServeSettings) -> Sequence[PusherApp]:
    """Return the apps that speak Pusher; none if it is not spoken.

    Raises:
        Failure: Their file can't be read.
        ConfigurationError: One of them is not allowed.
    """
    texts = list(serve.pusher_apps)
    if serve.pusher_apps_file:
        lines = _read_text(serve.pusher_apps_file, "--pusher-apps-file").splitlines()
        texts += [text for line in lines if (text := line.strip()) and not text.startswith("#")]
    return [PusherApp.parse(text) for text in texts]


def _read_text(path: str, flag: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "it is not text")
        raise Failure(f"{path} can't be read: {reason}", f"check {flag}", MISUSED) from None


def _announce(address: str, metrics: str | None, settings: BusSettings, serve: ServeSettings) -> None:
    pusher = ", /app, /apps" if serve.pusher_apps or serve.pusher_apps_file else ""
    typer.echo(
        f"listening at http://{address}: /ws, /events, /publish, /healthz, /readyz, /openapi.json{pusher}", err=True
    )
    if metrics is not None:
        typer.echo(f"metrics at http://{metrics}/metrics", err=True)
    if serve.admin:
        typer.echo(f"administrators at http://{address}/admin", err=True)
    if settings.broker_url is None:
        typer.echo("warning: without a broker no other process gets these events; set one with --bus", err=True)
    if serve.insecure_dev:
        typer.echo("warning: everyone may do anything here (--insecure-dev)", err=True)
