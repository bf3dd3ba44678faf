"""One process, nothing to install: `InMemoryBackplane`."""

from __future__ import annotations

from typing import Unpack

from backplane_core._fleet.asker import Asker
from backplane_core._jobs.local_desk import LocalDesk
from backplane_core._presence.driver import Company, PresenceDriver
from backplane_core._presence.pod_presence import PresenceSettings
from backplane_core._runtime.logging import logger
from backplane_core._runtime.workers import find_workers
from backplane_core.base import BaseBackplane
from backplane_core.options import Options

__all__ = ["InMemoryBackplane"]


class InMemoryBackplane(BaseBackplane):
    """A backplane of one pod: delivers to its own connections, exactly once, in order. Live from the start.

    For development, tests, and services that run as one process. It takes the options of every backplane, so that
    switching to a broker is a matter of configuration; those about brokers have no effect.

    Args:
        options: See `Options`.

    Raises:
        ConfigurationError: An option is unknown, or its value is not allowed.
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self._asker = Asker(self._system.new_name(), self._pod_name)
        self._presence = PresenceDriver(
            self._asker.origin,
            self._registry,
            Company(),
            self._system,
            PresenceSettings(linger_s=self._settings.presence_linger_s, lease_s=0.0, remote_control=True),
        )
        self._desk = LocalDesk(self._asker.origin, self._settings, self._reporter)
        workers = find_workers()
        if workers is None:
            logger.info("pod %r: live in memory, reaches no other process", self._pod_name)
        else:
            text = "pod %r: live in memory, reaches no other process, and there seem to be several (%s): set a URL"
            logger.warning(text, self._pod_name, workers)
        self._states.enter("live", "in memory")
