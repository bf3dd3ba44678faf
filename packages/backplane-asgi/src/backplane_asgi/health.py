"""`health_endpoint`: what an orchestrator and a load balancer ask."""

from __future__ import annotations

import time

from attrs import frozen
from backplane_core import BaseBackplane

from backplane_asgi._finding import find_backplane
from backplane_asgi._http.answers import answer_json, refuses_method
from backplane_asgi._sockets.hub import hub_of
from backplane_asgi._types import ASGIApp, Receive, Scope, Send

__all__ = ["health_endpoint"]


def health_endpoint(backplane: BaseBackplane | str = "backplane", *, patience_s: float = 30.0) -> ASGIApp:
    """Return an ASGI app for probes: a path that ends with `/live` answers 200 while the process does, any other knows.

    Readiness is 200 while this pod hears its broker, or has been deaf for less than `patience_s`; else 503. An outage
    of the broker makes *all* pods deaf: without patience it would take the whole service off the load balancer, though
    local delivery goes on. It is 503 as soon as the process is asked to stop (see `drain_on_signal`). The body says
    `ready`, `state`, and `deaf_since` as Unix time.

    Args:
        backplane: The backplane, or its name in the state that the app's lifespan yields.
        patience_s: Seconds of deafness until the pod is not ready. By default 30: longer than a broker's restart.

    Returns:
        The app: route or mount it where you like, `/health` for `/health/live` and `/health/ready`.
    """
    return HealthEndpoint(backplane=backplane, patience_s=patience_s)


@frozen(kw_only=True)
class HealthEndpoint:
    """See `health_endpoint`."""

    backplane: BaseBackplane | str
    patience_s: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if await refuses_method(scope, receive, send, "GET", "HEAD"):
            return
        if str(scope.get("path", "")).rstrip("/").endswith("/live"):  # frameworks add a slash to what they mount
            await answer_json(send, 200, {"live": True})
        else:
            backplane = find_backplane(self.backplane, scope)
            ready = self._is_ready(backplane)
            state = "draining" if hub_of(backplane).is_stopping else backplane.state
            body = {"ready": ready, "state": state, "deaf_since": backplane.ready().deaf_since}
            await answer_json(send, 200 if ready else 503, body)

    def _is_ready(self, backplane: BaseBackplane) -> bool:
        if hub_of(backplane).is_stopping or backplane.state in {"draining", "closed"}:
            return False
        heard = backplane.ready()
        if heard or heard.deaf_since is None:
            return True
        return time.time() - heard.deaf_since < self.patience_s
