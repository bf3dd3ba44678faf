"""`publish_endpoint`: publish by HTTP, from what has no Backplane of its own."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from attrs import frozen
from backplane_core import (
    BaseBackplane,
    ClosedError,
    EventEncodeError,
    EventTooLargeError,
    Intersection,
    InvalidTargetError,
    OutboxFullError,
    Target,
)

from backplane_asgi._finding import find_backplane
from backplane_asgi._http.answers import answer_json, read_body, refuses_method
from backplane_asgi._sockets.hub import hub_of
from backplane_asgi._types import ASGIApp, Receive, Scope, Send
from backplane_asgi.access import Authenticate, Grant, Refused, Request, ask_host

__all__ = ["publish_endpoint"]

_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_ESCAPED: Final = re.compile(r"\\(.)")

BEFORE_RETRY_S: Final = b"1"
"""Seconds until a publish that found no room may be tried again: an outbox of a healthy link is emptied sooner."""


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """What a request holds; the event stays as it is."""

    target: str | list[str | list[str]]
    event: msgspec.Raw
    exclude: list[str] = []
    exclude_targets: list[str | list[str]] = []
    key: str | None = None


_decode: Final = msgspec.json.Decoder(Body).decode


def publish_endpoint(
    backplane: BaseBackplane | str = "backplane",
    *,
    authenticate: Authenticate,
    max_body_bytes: int = 1024 * 1024,
    max_body_s: float = 30.0,
) -> ASGIApp:
    """Return an ASGI app that publishes what is posted to it: `{"target": "user:u1", "event": {"kind": "ready"}}`.

    `target` may be a list, whose connections all get the event; a list inside it is an intersection: `[["user:u1",
    "app:web"], "org:acme"]` is for the web connections of u1 and for all of acme. `exclude` is a list of connection
    ids, `exclude_targets` a list in the form of `target`, and `key` says which older events this one outdates. The
    answer is `{"delivered": 3}`: how many connections of *this pod* took the event; what other pods deliver is not
    known. A header `Idempotency-Key` is the event's `event_id`: what is posted again under it reaches no connection a
    second time, see the option `event_id_window_s`. The headers `traceparent` and `tracestate` say which trace the
    event belongs to. Refusals are JSON with an `error`: 401, 403, 429: `authenticate` or `Grant.may_publish` says no.
    408: the body takes too long. 413: too large. 415: not `application/json`, which no form of another site can send.
    422: what is wrong with the body. 503: try again.

    Args:
        backplane: The backplane, or its name in the state that the app's lifespan yields.
        authenticate: Decides what may be published: its grant's `may_publish` has to hold every target, also each of an
            intersection. Whom an event leaves out is not checked.
        max_body_bytes: Bytes of the largest request. By default 1 MiB, as of the largest event.
        max_body_s: Seconds that a request's body may take to come. By default 30: 1 MiB over a slow line.

    Returns:
        The app: route or mount it where you like.

    Delivery: to the connections of this pod before the answer is sent; to those of other pods at most once, in order.
    """
    return PublishEndpoint(
        backplane=backplane, authenticate=authenticate, max_body_bytes=max_body_bytes, max_body_s=max_body_s
    )


@frozen(kw_only=True)
class PublishEndpoint:
    """See `publish_endpoint`."""

    backplane: BaseBackplane | str
    authenticate: Authenticate
    max_body_bytes: int
    max_body_s: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if await refuses_method(scope, receive, send, "POST"):
            return
        request = Request(scope)
        if (request.header("content-type") or "").partition(";")[0].strip().lower() != "application/json":
            await answer_json(send, 415, {"error": "Content-Type must be application/json"})
            return
        backplane = find_backplane(self.backplane, scope)
        try:
            grant = await ask_host(self.authenticate, request)
        except Refused as refused:
            may_retry = refused.status in {429, 503}
            await answer_json(
                send, refused.status, {"error": refused.reason}, [(b"retry-after", BEFORE_RETRY_S)] if may_retry else ()
            )
            return
        try:
            async with asyncio.timeout(self.max_body_s):
                body = await read_body(receive, self.max_body_bytes)
        except TimeoutError:
            await answer_json(send, 408, {"error": f"within {self.max_body_s:g} s"}, [(b"connection", b"close")])
            return
        if body is None:
            await answer_json(send, 413, {"error": f"at most {self.max_body_bytes} bytes"})
            return
        began = time.perf_counter()
        status, value = await _publish(backplane, grant, body, _event_id(request), request.trace)
        hub_of(backplane).published.observe(time.perf_counter() - began)
        await answer_json(send, status, value, [(b"retry-after", BEFORE_RETRY_S)] if status == 503 else ())  # noqa: PLR2004


def _event_id(request: Request) -> str | None:
    """Return what `Idempotency-Key` says, which its specification writes as a string in quotes; None: nothing."""
    text = request.header("idempotency-key")
    if text is None:
        return None
    quoted = _QUOTED.fullmatch(text.strip())
    return text.strip() if quoted is None else _ESCAPED.sub(r"\1", quoted[1])


async def _publish(
    backplane: BaseBackplane, grant: Grant, body: bytes, event_id: str | None, trace: Mapping[str, str] | None
) -> tuple[int, dict[str, object]]:
    """Publish what a body says; return the status and the answer."""
    try:
        asked = _decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        # What msgspec says names members and types, and no value.
        return 422, {
            "error": f"not what is expected: {error}" if isinstance(error, msgspec.DecodeError) else "not JSON"
        }
    try:
        targets = _read_targets([asked.target] if isinstance(asked.target, str) else asked.target)
        if not all(target in grant.may_publish for one in targets for target in _each(one)):
            return 403, {"error": "this target is not allowed"}
        exclude = [*asked.exclude, *_read_targets(asked.exclude_targets)]
        event, key = bytes(asked.event), asked.key
        return 200, {
            "delivered": await backplane.publish_json(
                targets, event, exclude=exclude, key=key, event_id=event_id, trace=trace
            )
        }
    except (InvalidTargetError, EventEncodeError) as error:
        return 422, {"error": str(error)}
    except EventTooLargeError as error:
        return 413, {"error": str(error)}
    except (OutboxFullError, ClosedError) as error:
        return 503, {"error": str(error)}


def _read_targets(listed: Sequence[str | Sequence[str]]) -> list[Target | Intersection]:
    return [
        Target.parse(one) if isinstance(one, str) else Intersection(tuple(map(Target.parse, one))) for one in listed
    ]


def _each(one: Target | Intersection) -> Sequence[Target]:
    return one.targets if isinstance(one, Intersection) else (one,)
