"""The callables that a user gives for credentials, called without holding the loop: `Providers`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from backplane_core.sockets import SlowCall

__all__ = ["Providers"]

_TEXTS: Final = ("user", "password", "token")
_JWT: Final = "user_jwt_cb"


class Providers:
    """Asks each provider before a connection is opened, as nats-py itself would call it in the loop.

    `signature_cb` is left to nats-py: it signs what the server says, and has its key already.

    Args:
        options: nats-py's, from the query and `connection_kwargs`.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        names = [name for name in (*_TEXTS, _JWT) if callable(options.get(name))]
        self._calls = {name: SlowCall[Any](options[name]) for name in names}

    async def answers(self) -> dict[str, Any]:
        """Return nats-py's options with what the providers say.

        Raises:
            Exception: What a provider raises.
        """
        answers: dict[str, Any] = {name: await call.result() for name, call in self._calls.items()}
        if _JWT in answers:
            answers[_JWT] = partial(_return, answers[_JWT])
        return answers


def _return(answer: Any) -> Any:  # noqa: ANN401 -- as nats-py takes it
    return answer
