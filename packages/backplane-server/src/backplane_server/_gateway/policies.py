"""Decides who may do what: `TokenPolicy` by a token, `DevPolicy` allows everything, `ClosedPolicy` nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, cast

import jwt
from attrs import define, field
from backplane_asgi import Grant, Refused, Request
from backplane_asgi.sockets import socket_count
from backplane_core import BaseBackplane, InvalidTargetError, Target

from backplane_server._gateway.keys import Key, Keys
from backplane_server._gateway.rates import Rates

__all__ = ["ADMIN", "OWN_CLAIM", "PUBLISHER", "ClosedPolicy", "DevPolicy", "Everything", "TokenPolicy"]

OWN_CLAIM: Final = "backplane"
"""The claim with this gateway's permissions: `targets`, `subscribe`, `publish`, `roles`, `presence`."""
PUBLISHER: Final = "publisher"
"""The role of a back-end, which may publish to any target."""
ADMIN: Final = "admin"
"""The role that may open `/admin`: it sees every event, publishes to any target, and closes any connection."""
MOST_SHOWN: Final = 1024
"""Most bytes of what others see of a client: core's limit."""
UNAUTHORIZED: Final = 4401
FORBIDDEN: Final = 4403
TRY_LATER: Final = 1013
TOO_OFTEN: Final = 4429
MOST_TARGETS: Final = 128
"""Most targets in one list of a token: a header with more is too large for most proxies."""
LONGEST_NAME: Final = 64
"""Most characters of a name that is shown to others."""
NO_JSON: Final = (ValueError, TypeError, OverflowError, RecursionError)
"""What PyJWT raises for parts of a token that are not JSON, or not the JSON that it expects."""
LEEWAY_S: Final = 10.0
"""Seconds by which the clock of an issuer may differ."""


class Everything(Collection[Target]):
    """The set of all targets."""

    def __contains__(self, target: object) -> bool:
        return isinstance(target, Target)

    def __iter__(self) -> Any:  # noqa: ANN401 -- there is no end of them
        raise TypeError("the targets can't be listed")

    def __len__(self) -> int:
        return 1


@define(kw_only=True)
class TokenPolicy:
    """Grants what a signed token allows.

    The token is in `Authorization: Bearer`, after the WebSocket subprotocol `bearer`, or in a cookie; never in the URL,
    which ends up in logs.

    Args:
        keys: The keys that tokens are signed with.
        audience: What `aud` must contain; None: it is not checked.
        issuer: What `iss` must be; None: it is not checked.
        claims: Which claims name a target, and its kind: `sub` a `user`.
        cookie: The cookie that may contain the token; None: no cookie.
        max_connections: The most clients that may be connected.
        publish_rate: The most publishes of one subject per second.
    """

    keys: Keys
    audience: str | None
    issuer: str | None
    claims: Mapping[str, str]
    cookie: str | None
    max_connections: int
    publish_rate: float
    _rates: Rates = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._rates = Rates(self.publish_rate)

    async def listening(self, request: Request) -> Grant:
        """Return what a client may receive.

        Raises:
            Refused: It has no valid token, or the server is full.
        """
        refuse_if_full(request, self.max_connections)
        return self._grant(self._read(request))

    async def publishing(self, request: Request) -> Grant:
        """Return what a client may publish to.

        Raises:
            Refused: It has no valid token, may publish nothing, or publishes too often.
        """
        claims = self._read(request)
        grant = self._grant(claims)
        if not grant.may_publish:
            raise Refused(FORBIDDEN, f"the token's claim {OWN_CLAIM} has neither publish nor the role {PUBLISHER}")
        if not self._rates.admits(str(claims.get("sub", "")), time.monotonic()):
            raise Refused(TOO_OFTEN, f"at most {self.publish_rate:g} publishes per second")
        return grant

    async def administering(self, request: Request) -> Grant:
        """Return what an administrator may do: anything.

        Raises:
            Refused: It has no good token, or one without the role.
        """
        claims = self._read(request)
        if ADMIN not in _roles(_own(claims)):
            raise Refused(FORBIDDEN, f"the token's claim {OWN_CLAIM} has no role {ADMIN}")
        return Grant(may_subscribe=Everything(), may_publish=Everything(), expires_at=float(claims["exp"]))

    def _read(self, request: Request) -> Mapping[str, Any]:
        token = request.bearer or (request.cookies.get(self.cookie) if self.cookie else None)
        if not token:
            raise Refused(UNAUTHORIZED, "no token: send Authorization: Bearer, or the subprotocol bearer")
        reason = "the token is not signed with a key that this gateway knows"
        try:
            found = self.keys.find(jwt.get_unverified_header(token).get("kid"))
        except (jwt.PyJWTError, *NO_JSON):
            raise Refused(UNAUTHORIZED, "the token is not a JWT") from None
        for key in found:
            try:
                return self._decode(token, key)
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidAlgorithmError:
                reason = "the token's algorithm does not match its key"
            except (jwt.PyJWTError, *NO_JSON) as error:
                reason = _reason(error)
                break
        raise Refused(UNAUTHORIZED, reason)

    def _decode(self, token: str, key: Key) -> Mapping[str, Any]:
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=list(key.algorithms),
            audience=self.audience,
            issuer=self.issuer,
            leeway=LEEWAY_S,
            options={"require": ["exp", *self._required()], "verify_aud": self.audience is not None},
        )
        return claims

    def _required(self) -> list[str]:
        return [name for name, value in (("aud", self.audience), ("iss", self.issuer)) if value is not None]

    def _grant(self, claims: Mapping[str, Any]) -> Grant:
        own = _own(claims)
        named = [
            Target(kind, str(claims[claim]))
            for claim, kind in self.claims.items()
            if isinstance(value := claims.get(claim), (str, int)) and not isinstance(value, bool) and value != ""
        ]
        targets = list(dict.fromkeys([*named, *_targets(own, "targets")]))
        publishes = PUBLISHER in _roles(own)
        shown = _presence(own)
        return Grant(
            targets=targets,
            may_subscribe=frozenset(_targets(own, "subscribe")),
            may_publish=Everything() if publishes else frozenset(_targets(own, "publish")),
            expires_at=float(claims["exp"]),
            presence=shown,
            presence_key=str(claims["sub"]) if shown is not None and claims.get("sub") else None,
        )


def _own(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    own: object = claims.get(OWN_CLAIM, {})
    if not isinstance(own, Mapping):
        raise Refused(UNAUTHORIZED, f"the token's claim {OWN_CLAIM} is not an object")
    return cast("Mapping[str, Any]", own)


def _roles(own: Mapping[str, Any]) -> Sequence[object]:
    roles: object = own.get("roles", [])
    return cast("list[object]", roles) if isinstance(roles, list) else ()


def _presence(own: Mapping[str, Any]) -> object:
    """Return what others see of a client; None: nothing.

    Raises:
        Refused: It is too large.
    """
    shown: object = own.get("presence")
    if len(json.dumps(shown, ensure_ascii=False).encode(errors="replace")) > MOST_SHOWN:
        raise Refused(UNAUTHORIZED, f"{OWN_CLAIM}.presence of the token has more than {MOST_SHOWN} bytes")
    return shown


def _targets(own: Mapping[str, Any], name: str) -> Sequence[Target]:
    """Return the targets of one list in a token.

    Raises:
        Refused: It is not a list of targets.
    """
    listed: object = own.get(name, [])
    texts = [text for text in cast("list[object]", listed) if isinstance(text, str)] if isinstance(listed, list) else []
    if not isinstance(listed, list) or len(texts) != len(cast("list[object]", listed)) or len(texts) > MOST_TARGETS:
        raise Refused(UNAUTHORIZED, f"the token's {OWN_CLAIM}.{name} is not a list of at most {MOST_TARGETS} strings")
    try:
        return [Target.parse(text) for text in texts]
    except InvalidTargetError:
        raise Refused(UNAUTHORIZED, f"the token's {OWN_CLAIM}.{name} must contain targets such as user:u1") from None


def _reason(error: Exception) -> str:
    """Return what is wrong with a token: it names the claim, and never shows its value."""
    match error:
        case jwt.MissingRequiredClaimError():
            return f"the token has no claim {error.claim}"
        case jwt.ExpiredSignatureError():
            return "the token has expired (claim exp)"
        case jwt.ImmatureSignatureError():
            return "the token is not valid yet (claim nbf or iat)"
        case jwt.InvalidAudienceError():
            return "the token is for another audience (claim aud)"
        case jwt.InvalidIssuerError():
            return "the token is from another issuer (claim iss)"
        case _:
            return "the token's claims are not valid"


def refuse_if_full(request: Request, max_connections: int) -> None:
    """Raise `Refused` if this many clients are connected already and the request opens another connection."""
    backplane: BaseBackplane = request.scope["state"]["backplane"]
    if not request.is_renewal and socket_count(backplane) >= max_connections:
        raise Refused(TRY_LATER, "this server is full")


@define(kw_only=True)
class DevPolicy:
    """Allows everything, for development: a client names itself in its query, `?target=user:ann`.

    With `&name=ann` it is listed as present.

    Args:
        max_connections: The most clients that may be connected.
    """

    max_connections: int

    async def listening(self, request: Request) -> Grant:
        """Return what the client asks for: `target`, several separated by commas, and `name`.

        Raises:
            Refused: The server is full, or the name too long.
        """
        refuse_if_full(request, self.max_connections)
        query = request.query
        name = query.get("name") or None
        if name is not None and len(name) > LONGEST_NAME:
            raise Refused(FORBIDDEN, f"a name has at most {LONGEST_NAME} characters")
        return Grant(
            targets=[Target.parse(text) for text in query.get("target", "").split(",") if text],
            may_subscribe=Everything(),
            may_publish=Everything(),
            presence=None if name is None else {"name": name},
            presence_key=name,
        )

    async def publishing(self, request: Request) -> Grant:  # noqa: ARG002 -- anyone may
        """Allow publishing to any target."""
        return Grant(may_publish=Everything())

    async def administering(self, request: Request) -> Grant:  # noqa: ARG002 -- anyone may
        """Return leave to do anything."""
        return Grant(may_subscribe=Everything(), may_publish=Everything())


class ClosedPolicy:
    """Refuses everyone: a gateway for Pusher's clients alone, without keys for tokens."""

    async def listening(self, request: Request) -> Grant:  # noqa: ARG002 -- of a policy
        """Refuse a client.

        Raises:
            Refused: Always.
        """
        raise Refused(UNAUTHORIZED, "this gateway has no keys for tokens")

    async def publishing(self, request: Request) -> Grant:
        """Refuse a publish.

        Raises:
            Refused: Always.
        """
        return await self.listening(request)

    async def administering(self, request: Request) -> Grant:
        """Refuse an administrator.

        Raises:
            Refused: Always.
        """
        return await self.listening(request)
