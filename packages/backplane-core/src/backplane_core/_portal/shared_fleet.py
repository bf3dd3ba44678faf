"""Queries all pods for code without an event loop: `SharedFleet`."""

from __future__ import annotations

from collections.abc import Mapping

from backplane_core._portal.shared_pod import SharedPod
from backplane_core.answers import Answers
from backplane_core.fleet import ConnectionInfo, PodInfo, Receipt
from backplane_core.presence import Presence
from backplane_core.sync_fleet import SyncFleet
from backplane_core.target import Excluded, Target, Targets

__all__ = ["SharedFleet"]


class SharedFleet(SyncFleet):
    """Queries the fleet through the pod of this process's portal.

    Args:
        shared: The pod.
    """

    def __init__(self, shared: SharedPod) -> None:
        self._shared = shared

    def pods(self, *, timeout_s: float = 1.0) -> Answers[PodInfo]:
        return self._shared.call(self._shared.served().fleet.pods(timeout_s=timeout_s))

    def count(self, target: Targets, *, timeout_s: float = 1.0) -> Answers[int]:
        return self._shared.call(self._shared.served().fleet.count(target, timeout_s=timeout_s))

    def connections(
        self, target: Targets, *, limit: int = 1_000, timeout_s: float = 1.0
    ) -> Answers[tuple[ConnectionInfo, ...]]:
        return self._shared.call(self._shared.served().fleet.connections(target, limit=limit, timeout_s=timeout_s))

    def presence(self, target: Target, *, timeout_s: float = 1.0) -> Presence:
        return self._shared.call(self._shared.served().fleet.presence(target, timeout_s=timeout_s))

    def close(self, whom: Targets, *, code: int = 4000, reason: str = "", timeout_s: float = 1.0) -> Answers[int]:
        return self._shared.call(self._shared.served().fleet.close(whom, code=code, reason=reason, timeout_s=timeout_s))

    def publish(
        self,
        target: Targets,
        event: object,
        *,
        exclude: Excluded = (),
        key: str | None = None,
        event_id: str | None = None,
        trace: Mapping[str, str] | None = None,
        timeout_s: float = 1.0,
    ) -> Receipt:
        return self._shared.call(
            self._shared.served().fleet.publish(
                target, event, exclude=exclude, key=key, event_id=event_id, trace=trace, timeout_s=timeout_s
            )
        )
