"""`backplane serve`: its flags."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from backplane_server._bus_flags import BusFlags
from backplane_server._cli.flags import takes_bus_flags
from backplane_server._cli.running import run

__all__ = ["serve"]

Text = str | None
PUSHER: Final = "Pusher"
OWN: Final = "(or BACKPLANE_SERVE_{})"


def _flag(help_: str, variable: str, *names: str, panel: str | None = None) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        *names, help=f"{help_} {OWN.format(variable)}.", show_default=False, rich_help_panel=panel
    )
    return option


@takes_bus_flags
def serve(
    flags: BusFlags,
    *,
    host: Annotated[Text, _flag("Address to listen at, 127.0.0.1 by default", "HOST")] = None,
    port: Annotated[Text, _flag("Port, 8001 by default; 0: any free port", "PORT")] = None,
    metrics_port: Annotated[Text, _flag("Port of metrics and probes, 9001 by default; 0: none", "METRICS_PORT")] = None,
    jwt_keys: Annotated[Text, _flag("File with public keys, PEM or JWKS, for RS256 or ES256", "JWT_KEYS")] = None,
    jwt_secret_file: Annotated[Text, _flag("File with the secret for HS256", "JWT_SECRET_FILE")] = None,
    audience: Annotated[Text, _flag("What a token's aud must contain", "AUDIENCE")] = None,
    issuer: Annotated[Text, _flag("What a token's iss must be", "ISSUER")] = None,
    claims: Annotated[Text, _flag("Claims that name targets, sub=user,org=org by default", "CLAIMS")] = None,
    cookie: Annotated[Text, _flag("Cookie that may contain the token, for EventSource", "COOKIE")] = None,
    origins: Annotated[Text, _flag("Origins of pages that may connect, such as https://app.example", "ORIGINS")] = None,
    max_connections: Annotated[
        Text, _flag("Most clients that may be connected, 10000 by default", "MAX_CONNECTIONS")
    ] = None,
    publish_rate: Annotated[
        Text, _flag("Most publishes of one subject per second, 100 by default", "PUBLISH_RATE")
    ] = None,
    max_body_bytes: Annotated[
        Text, _flag("Size of the largest publish in bytes, 1 MiB by default", "MAX_BODY_BYTES")
    ] = None,
    on_gap: Annotated[Text, _flag("What a WebSocket gets at a gap: close (the default) or frame", "ON_GAP")] = None,
    drain_delay: Annotated[
        Text, _flag("Seconds from not ready to the first close, 5 by default", "DRAIN_DELAY_S", "--drain-delay")
    ] = None,
    drain_s: Annotated[
        Text, _flag("Seconds over which clients are closed, 20 by default", "DRAIN_S", "--drain-s")
    ] = None,
    traces: Annotated[
        bool, typer.Option("--traces", help="Make OpenTelemetry spans of traced events (or BACKPLANE_SERVE_TRACES).")
    ] = False,
    admin: Annotated[
        bool,
        typer.Option(
            "--admin", help="Serve a page at /admin to tokens with the role admin (or BACKPLANE_SERVE_ADMIN)."
        ),
    ] = False,
    pusher_apps_file: Annotated[
        Text, _flag("File of Pusher apps, id:key:secret a line", "PUSHER_APPS_FILE", panel=PUSHER)
    ] = None,
    pusher_max_event_bytes: Annotated[
        Text, _flag("Bytes of the data of one event, 10 KiB", "PUSHER_MAX_EVENT_BYTES", panel=PUSHER)
    ] = None,
    insecure_dev: Annotated[
        bool,
        typer.Option("--insecure-dev", help="Let everyone do anything: a client names itself with ?target=user:ann."),
    ] = False,
) -> None:
    """Run a gateway: WebSocket, SSE, and publishing over HTTP.

    \b
      BACKPLANE_SERVE_JWT_SECRET=... backplane serve --bus redis://localhost:6379
      backplane serve --insecure-dev

    \b
      /ws        WebSocket: the events of the token's targets
      /events    the same as server-sent events
      /publish   POST {"target":"user:u1","event":{...}}
      /healthz, /readyz, /openapi.json, /backplane.js
      /admin     with --admin: a page that shows the fleet, publishes, and kicks

    \b
      /app/KEY   Pusher's clients, /apps/ID/... its servers, if there are apps

    A client sends a JWT as `Authorization: Bearer`, as the WebSocket's subprotocols ["bearer", token], or in a cookie.
    The claim sub makes it a connection of that user; `backplane token` creates a token to try it with.

    On SIGTERM it is no longer ready, after --drain-delay seconds it closes its clients, spread over --drain-s seconds,
    and then it exits. A second signal ends it at once.
    """
    from backplane_server._commands.serve import Serve

    given = {
        "host": host,
        "port": port,
        "metrics_port": metrics_port,
        "jwt_keys": jwt_keys,
        "jwt_secret_file": jwt_secret_file,
        "audience": audience,
        "issuer": issuer,
        "claims": claims,
        "cookie": cookie,
        "origins": origins,
        "max_connections": max_connections,
        "publish_rate": publish_rate,
        "max_body_bytes": max_body_bytes,
        "on_gap": on_gap,
        "drain_delay_s": drain_delay,
        "drain_s": drain_s,
        "traces": "true" if traces else None,
        "admin": "true" if admin else None,
        "pusher_apps_file": pusher_apps_file,
        "pusher_max_event_bytes": pusher_max_event_bytes,
        "insecure_dev": "true" if insecure_dev else None,
    }
    run(Serve(flags={name: text for name, text in given.items() if text is not None}), flags)
