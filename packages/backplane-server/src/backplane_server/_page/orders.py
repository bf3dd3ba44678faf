"""What the page's buttons ask for: `Ordered`, `OrderError`."""

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
"""Of what a page asks."""

Order: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, object]]]
"""What a button does: takes what the page says, returns what came of it."""


class OrderError(Exception):
    """What the page asked for can't be done; says why, for the person in front of it."""


@frozen
class Ordered:
    """A button of the page.

    Args:
        order: What it does.
    """

    order: Order

    async def answer(self, request: Request) -> Response:
        """Do it, and return what came of it, or why it can't be done."""
        # Another site's form can't send this type, and its script would have to ask first.
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
    """Return the target that a page names.

    Raises:
        OrderError: It is none.
    """
    try:
        return Target.parse(str(asked.get("target", "")))
    except BackplaneError:
        raise OrderError("a target is a kind and an id, as user:ann or room:1, or everyone") from None
