"""One process, nothing to install: `InMemoryBackplane`."""

from __future__ import annotations

from typing import Unpack

from backplane_core.base import BaseBackplane
from backplane_core.options import Options

__all__ = ["InMemoryBackplane"]


class InMemoryBackplane(BaseBackplane):
    """A backplane of one pod: delivers to its own connections, exactly once, in order. Live from the start.

    For development, tests, and services that run once. Takes every option of the distributed one, so that switching is
    a matter of configuration; those about brokers have no effect.

    Raises:
        ConfigurationError: An option is unknown or wrong.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self._states.enter("live", "in memory")
