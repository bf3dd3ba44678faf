"""One process's pod of one URL: `SharedPod`, which all `SyncConnection`s with the same options share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backplane_core._portal.shared import Shared
from backplane_core.adapters import make_transport
from backplane_core.distributed import DistributedBackplane
from backplane_core.errors import ClosedError

__all__ = ["SharedPod"]


class SharedPod(Shared):
    """A pod whose connections are read in other threads; see `Shared`."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(url, options)
        self._pod: DistributedBackplane | None = None

    def make(self) -> DistributedBackplane:
        """Make the pod."""
        transport, rest = make_transport(self.url, self.options)
        self._pod = pod = DistributedBackplane(transport, **rest)
        return pod

    def served(self) -> DistributedBackplane:
        """Return the pod."""
        if self._pod is None:  # it was handed over before anything else
            raise ClosedError("the pod could not start")
        return self._pod
