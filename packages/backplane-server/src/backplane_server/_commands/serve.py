"""`backplane serve`: a gateway."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import typer
from attrs import frozen
from backplane_core import connect_from_env

from backplane_server._commands.settings import BusSettings
from backplane_server._failure import MISUSED, Failure
from backplane_server._gateway.app import Policy, make_app, make_metrics_app
from backplane_server._gateway.keys import FileKeys, Keys, SecretKey
from backplane_server._gateway.policies import DevPolicy, TokenPolicy
from backplane_server._gateway.server import address_of, listen_at, serve_both
from backplane_server._gateway.settings import ServeSettings

__all__ = ["Serve", "read_secret"]


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
        policy = make_policy(serve)
        with ExitStack() as stack:
            listening = stack.enter_context(listen_at(serve.host, serve.port, "--port"))
            metrics = (
                stack.enter_context(listen_at(serve.host, serve.metrics_port, "--metrics-port"))
                if serve.metrics_port
                else None
            )
            async with connect_from_env(settings.variables) as backplane:
                app, metrics_app = make_app(backplane, policy, serve), make_metrics_app(backplane)
                _announce(address_of(listening), None if metrics is None else address_of(metrics), settings, serve)
                await serve_both(app, listening, metrics_app, metrics)
        return 0


def make_policy(serve: ServeSettings) -> Policy:
    """Return who decides what a client may do.

    Raises:
        Failure: Nothing does.
        ConfigurationError: A key can't be used.
    """
    if serve.insecure_dev:
        return DevPolicy(max_connections=serve.max_connections)
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
            raise Failure("there are a secret and a file of public keys", "set one of them", MISUSED)
        return FileKeys(Path(serve.jwt_keys))
    if secret := read_secret(serve):
        return SecretKey(secret)
    raise Failure(
        "nothing says who may connect",
        "set BACKPLANE_SERVE_JWT_SECRET or --jwt-keys FILE; --insecure-dev lets everyone do anything",
        MISUSED,
    )


def read_secret(serve: ServeSettings) -> str:
    """Return the secret of HS256; empty: there is none.

    Raises:
        Failure: Its file can't be read.
    """
    if not serve.jwt_secret_file:
        return serve.jwt_secret
    try:
        return Path(serve.jwt_secret_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "it is no text")
        raise Failure(f"{serve.jwt_secret_file} can't be read: {reason}", "check --jwt-secret-file", MISUSED) from None


def _announce(address: str, metrics: str | None, settings: BusSettings, serve: ServeSettings) -> None:
    typer.echo(f"listening at http://{address}: /ws, /events, /publish, /healthz, /readyz, /openapi.json", err=True)
    if metrics is not None:
        typer.echo(f"metrics at http://{metrics}/metrics", err=True)
    if serve.admin:
        typer.echo(f"administrators at http://{address}/admin", err=True)
    if settings.broker_url is None:
        typer.echo("warning: in memory: no other process hears of it; --bus names a broker", err=True)
    if serve.insecure_dev:
        typer.echo("warning: everyone may do anything here (--insecure-dev)", err=True)
