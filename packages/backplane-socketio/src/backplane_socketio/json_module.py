"""What encodes an application's values: `JsonModule`."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["JsonModule"]


class JsonModule(Protocol):
    """A JSON module, as python-socketio takes it."""

    def dumps(self, value: Any, /) -> str:  # noqa: ANN401 -- what the application emits
        """Return the JSON text of a value.

        Args:
            value: What the application emits.
        """
        ...

    def loads(self, text: str | bytes, /) -> Any:  # noqa: ANN401 -- what another server's application emitted
        """Return the value of a JSON text.

        Args:
            text: As `dumps` made it, perhaps in another server.
        """
        ...
