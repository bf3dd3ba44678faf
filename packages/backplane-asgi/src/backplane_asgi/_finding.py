"""Which backplane an endpoint works for: one that is given, or the one in the lifespan's state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backplane_core import BaseBackplane, ConfigurationError

from backplane_asgi._types import Scope

__all__ = ["find_backplane"]


def find_backplane(backplane: BaseBackplane | str, scope: Scope) -> BaseBackplane:
    """Return the backplane, or the one of that name in the state that the lifespan yielded.

    Starlette's and FastAPI's `app.state` is looked at, too.

    Args:
        backplane: The backplane, or its name.
        scope: Of the connection or the request.

    Raises:
        ConfigurationError: There is none.
    """
    if isinstance(backplane, BaseBackplane):
        return backplane
    state: Mapping[str, Any] = scope.get("state") or {}
    found = state.get(backplane)
    if found is None:
        found = getattr(getattr(scope.get("app"), "state", None), backplane, None)
    if isinstance(found, BaseBackplane):
        return found
    raise ConfigurationError(
        f"no backplane: yield {{{backplane!r}: backplane}} from the app's lifespan, or hand it to the endpoint"
    )
