"""`backplane token`: a token to try a gateway with."""

from __future__ import annotations

import time
from collections.abc import Sequence

import jwt
import typer
from attrs import frozen

from backplane_server._commands.opening import check_seconds, read_targets
from backplane_server._commands.serve import read_secret
from backplane_server._commands.settings import BusSettings
from backplane_server._failure import MISUSED, Failure
from backplane_server._gateway.keys import SecretKey
from backplane_server._gateway.policies import ADMIN, OWN_CLAIM, PUBLISHER

__all__ = ["Token"]


@frozen(kw_only=True)
class Token:
    """What a token contains.

    Args:
        user: Its `sub`.
        org: Its `org`; None: none.
        targets: Further targets whose events it gets.
        subscribe: Targets that it may subscribe to.
        publish: Targets that it may publish to.
        is_publisher: Whether it may publish to any target.
        is_admin: Whether it may open `/admin`.
        name: The name under which the user is listed as present; None: it is not listed.
        seconds: Seconds for which it is valid.
    """

    user: str
    org: str | None
    targets: Sequence[str]
    subscribe: Sequence[str]
    publish: Sequence[str]
    is_publisher: bool
    is_admin: bool
    name: str | None
    seconds: float

    async def do(self, settings: BusSettings) -> int:
        """Print the token, and return the exit code."""
        check_seconds("--seconds", self.seconds)
        serve = settings.serve({})
        secret = read_secret(serve)
        if not secret:
            raise Failure(
                "no secret is set to sign it with",
                "set BACKPLANE_SERVE_JWT_SECRET, as for `backplane serve`: openssl rand -hex 32 makes one",
                MISUSED,
            )
        SecretKey(secret)  # which says if it is too short
        lists = {"targets": self.targets, "subscribe": self.subscribe, "publish": self.publish}
        for texts in lists.values():
            read_targets(list(texts))
        own: dict[str, object] = {name: list(texts) for name, texts in lists.items() if texts}
        if roles := [role for role, has in ((PUBLISHER, self.is_publisher), (ADMIN, self.is_admin)) if has]:
            own["roles"] = roles
        if self.name is not None:
            own["presence"] = {"name": self.name}
        now = int(time.time())
        claims: dict[str, object] = {"sub": self.user, "iat": now, "exp": now + int(self.seconds)}
        further = {"org": self.org, "aud": serve.audience, "iss": serve.issuer, OWN_CLAIM: own}
        claims |= {name: value for name, value in further.items() if value}
        typer.echo(jwt.encode(claims, secret, algorithm="HS256"))
        return 0
