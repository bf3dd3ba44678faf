"""The requests of the page that change something: `Ordered`, `OrderError`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias, cast

from attrs import frozen
from backplane_core import BackplaneError, Target
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

__all__ = ["Order", "OrderError", "Ordered", "read_target"]

MOST_BYTES: Final = 16 * 1024
"""Most bytes of a request's body."""

Order: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, object]]]
"""Carries out a request: takes its JSON object, and returns the answer."""


class OrderError(Exception):
    """Raised if the page's request can't be carried out; the text is shown on the page."""


@frozen
class Ordered:
    """A request of the page that changes something.

    Args:
        order: Carries it out.
    """

    order: Order

    async def answer(self, request: Request) -> Response:
        """Carry it out, and return its result, or why it can't be done."""
        # A form of another site can't send this type, and its script would need a CORS preflight.
        if request.headers.get("content-type") != "application/json":
            return JSONResponse({"error": "Content-Type must be application/json"}, 415)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                return JSONResponse({"error": f"at most {MOST_BYTES} bytes"}, 413)
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict):
            return JSONResponse({"error": "not a JSON object"}, 422)
        try:
            return JSONResponse(await self.order(cast("dict[str, Any]", asked)))
        except (OrderError, BackplaneError) as error:
            return JSONResponse({"error": str(error)}, 409)


def read_target(asked: Mapping[str, Any]) -> Target:
    """Return the target in a request.

    Raises:
        OrderError: It is not a target.
    """
    try:
        return Target.parse(str(asked.get("target", "")))
    except BackplaneError:
        raise OrderError("a target is a kind and an id, such as user:ann or room:1, or everyone") from None
